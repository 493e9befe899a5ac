"""Scenarios: a company's traffic with what goes wrong in it, and the truth about what was planted."""
