"""Questions to what is sealed: SQL, traces, proofs."""
