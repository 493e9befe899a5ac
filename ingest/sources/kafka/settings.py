"""How to reach Kafka, and every limit of the Kafka source in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ledger.errors import UsageError

CREDIT_BYTES = 64 << 20  # read ahead of the pipeline, all partitions together
HANDOVER_BYTES = 32 << 20  # given to the pipeline in one poll
FRAME_OVERHEAD_BYTES = 512  # what a message-less chunk is counted as
FETCH_MAX_BYTES = 32 << 20
PARTITION_FETCH_BYTES = 4 << 20
FETCH_MIN_BYTES = 64 << 10  # wait for this much ...
FETCH_WAIT_MILLISECONDS = 200  # ... but not longer
POLL_MILLISECONDS = 200
HELD_POLL_MILLISECONDS = 20
SESSION_TIMEOUT_MILLISECONDS = 6_000
HEARTBEAT_MILLISECONDS = 2_000
MAX_POLL_INTERVAL_MILLISECONDS = 900_000
METADATA_AGE_MILLISECONDS = 5_000
REQUEST_TIMEOUT_MILLISECONDS = 10_000
FLUSH_TIMEOUT_SECONDS = 5.0  # for the pipeline to seal before partitions are given up
FLUSH_STEP_SECONDS = 0.02
IDLE_CHECK_SECONDS = 2.0
UNKNOWN_TOPIC_SECONDS = 3.0
BEYOND_END_SECONDS = 10.0  # a new leader may lag behind for a moment
OUTAGE_SECONDS = 60.0  # no answer at all from a broker that answered before
CLOSE_TIMEOUT_SECONDS = 5.0
NAMED_TOPICS = 10  # in an error message

PASSWORD_VARIABLE = "DECISION_LEDGER_INGEST_KAFKA_SASL_PASSWORD"  # noqa: S105 - a variable's name
KEY_PASSWORD_VARIABLE = "DECISION_LEDGER_INGEST_KAFKA_SSL_KEY_PASSWORD"  # noqa: S105 - a variable's name

_CLIENT_PREFIXES = ("security_", "sasl_", "ssl_", "client_")
_NOT_BY_VALUE = {"ssl_context", "sasl_oauth_token_provider", "client_dns_lookup"}


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """`client` holds security settings under kafka-python's names, for example `sasl_mechanism`.

    They may hold secrets: they are kept out of `repr`, arguments and environment.
    """

    bootstrap_servers: str
    topics: tuple[str, ...]
    group_id: str = "decision-ledger"
    until_end: bool = False
    connect_timeout_seconds: float = 15.0
    headers: tuple[str, ...] = ()
    """Names of the headers that are handed on with the messages (`HeaderAdapter.headers`)."""
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.topics or not all(self.topics):
            raise UsageError("No Kafka topic is named.", "Name at least one topic.")
        for name, value in self.client.items():
            known = name.startswith(_CLIENT_PREFIXES) and name not in _NOT_BY_VALUE
            if not known or not isinstance(value, (str, int, float, bool, type(None))):
                raise UsageError(
                    f"The Kafka client setting {name!r} is not one that can be passed on.",
                    "Use kafka-python's security_, sasl_, ssl_ and client_ settings with plain values.",
                )

    def to_wire(self) -> dict[str, Any]:
        """For the reading process."""
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> KafkaSettings:
        """What `to_wire` said, after JSON."""
        return cls(**{**wire, "topics": tuple(wire["topics"]), "headers": tuple(wire["headers"])})
