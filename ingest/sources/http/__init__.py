"""Events over HTTP: a listener, a durable spool, and the source that reads it."""
