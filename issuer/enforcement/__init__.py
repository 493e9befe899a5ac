"""Enforcement: the library of all enforcement points. Deny by default; nothing passes without an event."""
