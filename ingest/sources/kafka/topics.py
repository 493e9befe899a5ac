"""Topic names and ids as Kafka shows them."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Sequence
from typing import Any

from ingest.sources.kafka import settings as limits
from ingest.sources.kafka.faults import Remedied

CHECK_SECONDS = 0.2


def short_id(topic_id: uuid.UUID | None) -> str | None:
    """The 22-character form (URL-safe base64); None from brokers that have no topic ids (before 2.8)."""
    if topic_id is None or topic_id.int == 0:
        return None
    return base64.urlsafe_b64encode(topic_id.bytes).decode().rstrip("=")


def wait_for_topics(consumer: Any, wanted: Sequence[str]) -> None:
    """Returns once all exist. Raises Remedied, with what there is, when they do not within seconds."""
    deadline = time.monotonic() + limits.UNKNOWN_TOPIC_SECONDS
    while True:
        known = set(consumer.topics())
        missing = [one for one in wanted if one not in known]
        if not missing:
            return
        if time.monotonic() > deadline:
            break
        time.sleep(CHECK_SECONDS)
    shown = sorted(known)[: limits.NAMED_TOPICS]
    there = f"It has {', '.join(shown)}" if shown else "It has none that this client may see"
    more = f" and {len(known) - len(shown)} more" if len(known) > len(shown) else ""
    names = ", ".join(missing)
    remedy = f"{there}{more}; create the topic or correct its name."
    raise Remedied(f"The broker has no topic {names}.", remedy)
