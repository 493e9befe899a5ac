"""From decoded messages to sealed files: what is new, what is written, what the entry will say."""
