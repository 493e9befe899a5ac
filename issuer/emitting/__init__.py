"""How the services tell the ledger: what each step says, and the ways to the ledger's intake."""
