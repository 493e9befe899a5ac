"""Chunks to the fate of their messages, in processes of their own where there are cores for them."""
