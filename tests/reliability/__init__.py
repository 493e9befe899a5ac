"""Campaigns: the same kind of fault over and over, with counts that docs/reliability.md shows."""
