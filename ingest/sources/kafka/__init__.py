"""Kafka topics as a source: a process of its own polls, a bounded pipe hands over."""
