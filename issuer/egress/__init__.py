"""The way out: to named destinations alone, with credentials that no agent ever holds."""
