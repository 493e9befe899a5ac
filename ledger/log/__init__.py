"""The commit log on storage: who may append, under which key, and what a reader keeps of it."""
