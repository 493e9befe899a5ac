"""A second party that saw each head: what it cosigns, what it remembers, and how a ledger asks it."""
