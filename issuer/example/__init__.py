"""A small company, registered: what `issuer init` writes, and what scenarios play in."""
