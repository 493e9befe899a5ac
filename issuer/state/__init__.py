"""What the services remember, in one SQLite file: a restart forgets nothing that was issued or revoked."""
