"""What the HTTP services share: limits, request ids, and how a refusal is answered and recorded."""
