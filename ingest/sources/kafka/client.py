"""The only place that reaches below kafka-python's public names (version 3.0, pinned below 4).

What is used: the fetcher's `PartitionRecords` class (replaced on the instance); the connection
manager with its event loop, to ask a chosen broker for topic ids; the coordinator's request to join
again. A test fails when these move.
"""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.roundrobin import (
    RoundRobinPartitionAssignor,
)

from ingest.sources.kafka import settings as limits
from ingest.sources.kafka.records import GroupedRecords
from ingest.sources.kafka.settings import KafkaSettings


def open_consumer(settings: KafkaSettings) -> KafkaConsumer:
    """A connected consumer that reads groups of batches and no offset but those it is told.

    Raises kafka.errors.KafkaError when no broker answers within the connect time-out.
    """
    consumer = KafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers.split(","),
        group_id=settings.group_id,
        bootstrap_timeout_ms=int(settings.connect_timeout_seconds * 1000),
        auto_offset_reset="none",
        enable_auto_commit=False,
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        session_timeout_ms=limits.SESSION_TIMEOUT_MILLISECONDS,
        heartbeat_interval_ms=limits.HEARTBEAT_MILLISECONDS,
        max_poll_interval_ms=limits.MAX_POLL_INTERVAL_MILLISECONDS,
        metadata_max_age_ms=limits.METADATA_AGE_MILLISECONDS,
        request_timeout_ms=limits.REQUEST_TIMEOUT_MILLISECONDS,
        reconnect_backoff_max_ms=2_000,
        partition_assignment_strategy=[RoundRobinPartitionAssignor],
        max_poll_records=1,  # one group of batches
        fetch_max_bytes=limits.FETCH_MAX_BYTES,
        max_partition_fetch_bytes=limits.PARTITION_FETCH_BYTES,
        fetch_min_bytes=limits.FETCH_MIN_BYTES,
        fetch_max_wait_ms=limits.FETCH_WAIT_MILLISECONDS,
        metrics_enabled=False,
        **settings.client,
    )
    wanted = {"wanted_headers": settings.headers}
    consumer._fetcher.PartitionRecords = type("GroupedRecords", (GroupedRecords,), wanted)
    return consumer


def topic_ids(consumer: KafkaConsumer, partition: TopicPartition | None) -> tuple[str, dict[str, Any]]:
    """The cluster id, and the id (UUID) of every subscribed topic that exists now.

    Asks the leader of `partition`: a broker that serves a topic's log knows its id. Raises KafkaError.
    """
    manager, cluster = consumer._client._manager, consumer._client._manager.cluster
    node = cluster.leader_for_partition(partition) if partition is not None else None
    if node in (None, -1):
        node = manager.least_loaded_node()

    async def ask() -> Any:
        sent = manager.send(cluster.metadata_request(), node_id=node)
        return await manager.wait_for(sent, limits.REQUEST_TIMEOUT_MILLISECONDS)

    answer = consumer._client._manager.run(ask)
    known = {one.name: one.topic_id for one in answer.topics if one.error_code == 0}
    return answer.cluster_id, known


def refresh_metadata(consumer: KafkaConsumer) -> None:
    """Let the client learn soon of topics and partitions that have changed."""
    consumer._client._manager.cluster.request_update()


async def sleep(consumer: KafkaConsumer, seconds: float) -> None:
    """Within a rebalance listener: wait without stopping the heartbeat."""
    await consumer._client._manager._net.sleep(seconds)


def keep_joining(consumer: KafkaConsumer) -> None:
    """Within a rebalance listener: see the rebalance through, however often `poll` runs out of time.

    A group leader that rejoins because partitions changed compares two snapshots of the metadata, and
    they are equal again before the group has answered. A `poll` that times out in between would never
    take its assignment, nor send another heartbeat (kafka-python 3.0.12).
    """
    consumer._coordinator.request_rejoin()
