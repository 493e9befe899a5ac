"""A queue hop: work that waits goes with a signed context, and is judged again when its turn comes."""
