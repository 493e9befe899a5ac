"""Rules: what one says, how it is read and checked, how the tests inside it run."""
