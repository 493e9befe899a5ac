"""What pages show, as plain data: each function checks the right to it, asks a reading, draws nothing."""
