"""What the engine remembers of a ledger: recent rows, and views of what came before. Rebuilt at will."""
