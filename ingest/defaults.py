"""Words and limits that options and the code behind them share; nothing is loaded to know them."""

from __future__ import annotations

from typing import Final

FORMATS: Final = (
    "native", "opa", "cerbos", "kubernetes", "cloudtrail", "openfga", "envoy", "vault", "teleport",
    "authzen", "ssf", "cloudevents",
)  # fmt: skip
"""What `--format` takes."""
BATCH_ROWS: Final = 125_000
"""A batch is sealed at so many messages: as many as a file has that is never merged with others,"""
BATCH_SECONDS: Final = 1.0
"""or so many seconds after its first one."""
SECURITY_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
