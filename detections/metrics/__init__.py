"""The eight metrics: one SQL file each, and what sums their answers up by period."""
