"""Who is calling: workloads by signed assertions, holders of tokens by proofs of possession."""
