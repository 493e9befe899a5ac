"""What is wrong, and whether things get better: rules, alerts and metrics over a pinned checkpoint."""
