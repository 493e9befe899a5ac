"""The broker: exchanges a session for credentials, and a credential for a narrower one (RFC 8693)."""
