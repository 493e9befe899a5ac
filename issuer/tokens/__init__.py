"""Tokens: signed text in, checked claims out. Nothing here reads a file, a clock or a socket."""
