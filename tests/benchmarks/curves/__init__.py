"""How a cost grows: with the events sealed, with the commits of a log, with the workers of a group."""
