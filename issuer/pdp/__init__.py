"""The policy decision point: AuthZEN in, a verdict out; every attribute from our own state."""
