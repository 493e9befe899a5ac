"""Answers to alerts: what an alert names is taken back, by a signal to the point of revocation."""
