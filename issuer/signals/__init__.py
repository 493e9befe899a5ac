"""Signals: what must reach every enforcement point, as signed security events (RFC 8417, CAEP)."""
