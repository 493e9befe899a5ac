"""Heads of a log where its owner cannot take them back: published, time-stamped, and held against the log."""
