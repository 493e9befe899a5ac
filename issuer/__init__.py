"""The reference identity stack: what issues, decides, enforces and revokes, and tells the ledger of it."""
