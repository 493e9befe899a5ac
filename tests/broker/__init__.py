"""A real Kafka broker for tests and benchmarks: found, borrowed or started, and stopped again."""
