"""From hits to alerts: buckets, steps, what is sealed, and what people make of it."""
