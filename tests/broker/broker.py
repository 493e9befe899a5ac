"""Three ways to a broker, tried in order: one that is named, a container, Maven's artifacts."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.broker.jars import BrokerUnavailable, fetch, java_command, kafka_version

BOOTSTRAP_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 15
HEAP_MEGABYTES = 512

# One node, nothing replicated, no wait before a group's first rebalance, topics only on request;
# the log cleaner is eager, so that compaction can be seen within a test.
COMMON = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT",
    "inter.broker.listener.name": "INTERNAL",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "2",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "log.cleaner.backoff.ms": "200",
    "log.initial.task.delay.ms": "1000",
}


@dataclass(frozen=True)
class Broker:
    """A broker that answers. `label` is what the test report says; `stop` frees what was started."""

    bootstrap: str
    label: str
    stop: Callable[[], None]


def open_broker(folder: Path) -> Broker:
    """The first broker that can be had; `folder` takes its data and logs.

    Raises `BrokerUnavailable` with the reason of every way that failed.
    """
    named = os.environ.get(BOOTSTRAP_VARIABLE)
    if named:
        return Broker(named, f"the Kafka that {BOOTSTRAP_VARIABLE} names", lambda: None)
    reasons = []
    for way in (_container, _from_artifacts):
        try:
            return way(folder)
        except BrokerUnavailable as reason:
            reasons.append(str(reason))
    raise BrokerUnavailable("; ".join(reasons))


def _container(_folder: Path) -> Broker:
    try:
        import docker
        from testcontainers.core.container import DockerContainer

        docker.from_env(timeout=5).ping()
    except Exception as reason:  # noqa: BLE001 - whatever is missing, the next way is tried
        raise BrokerUnavailable(f"no Docker engine answers ({type(reason).__name__})") from None
    port = _free_ports(1)[0]
    # Inside the container: every interface of it, and a folder that goes with it.
    settings = COMMON | _listeners("", port, 19092, 19093) | {"log.dirs": "/var/lib/kafka/data"}
    image = f"apache/kafka:{kafka_version()}"
    container = DockerContainer(image).with_bind_ports(port, port)
    for name, value in settings.items():
        container = container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    try:
        container.start()
        _wait_for(port, lambda: True)
    except Exception as reason:  # noqa: BLE001 - an image that cannot be had is not a failed test
        container.stop()
        raise BrokerUnavailable(f"the container did not start ({type(reason).__name__})") from None
    label = f"Apache Kafka {kafka_version()}, KRaft, in a container ({image})"
    return Broker(f"127.0.0.1:{port}", label, container.stop)


def cluster_id(drawn: bytes) -> str:
    """A cluster's name from 16 random bytes.

    The first bit is cleared: base64 would begin one name in 64 with a dash, and the storage tool
    takes that for an option.
    """
    return base64.urlsafe_b64encode(bytes([drawn[0] & 0x7F]) + drawn[1:]).decode()[:22]


class Restartable:
    """A broker of our own that can be killed and started again over the same data and port.

    Raises `BrokerUnavailable` where Java, Maven's artifacts or the start fail.
    """

    def __init__(self, folder: Path) -> None:
        java, jars = java_command(), fetch()
        self._folder = folder
        self._client, internal, controller = _free_ports(3)
        self.bootstrap = f"127.0.0.1:{self._client}"
        settings = COMMON | _listeners("127.0.0.1", self._client, internal, controller)
        settings["log.dirs"] = str(folder / "data")
        self._properties = folder / "server.properties"
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        self._base = [java, f"-Xmx{HEAP_MEGABYTES}m", "-Xms128m", "-XX:+UseSerialGC"]
        self._base += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{jars}/*"]
        cluster = cluster_id(uuid.uuid4().bytes)
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties)]
        with (folder / "broker.log").open("ab") as log:
            formatted = subprocess.run(
                [*self._base, *tool], stdout=log, stderr=log, timeout=START_TIMEOUT_SECONDS, check=False
            )
        if formatted.returncode:
            raise BrokerUnavailable(f"the storage tool failed: {_last_line(folder)}")
        self.start()

    def start(self) -> None:
        """Until it answers."""
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._base, "kafka.Kafka", str(self._properties)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            _wait_for(self._client, lambda: self._process.poll() is None)
        except BrokerUnavailable as reason:
            self.kill()
            raise BrokerUnavailable(f"{reason}: {_last_line(self._folder)}") from None

    def kill(self) -> None:
        """At once; what it had not written is for its own recovery."""
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_SECONDS)

    def stop(self) -> None:
        """For good. Nothing in it is worth a clean shutdown, which takes seconds."""
        self.kill()
        shutil.rmtree(self._folder / "data", ignore_errors=True)


def _from_artifacts(folder: Path) -> Broker:
    broker = Restartable(folder)
    label = f"Apache Kafka {kafka_version()}, KRaft, started from its Maven artifacts"
    return Broker(broker.bootstrap, label, broker.stop)


def _listeners(host: str, client: int, internal: int, controller: int) -> dict[str, str]:
    return {
        "listeners": f"PLAINTEXT://{host}:{client},INTERNAL://127.0.0.1:{internal},"
        f"CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{client},INTERNAL://127.0.0.1:{internal}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
    }


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _wait_for(port: int, alive: Callable[[], bool]) -> None:
    """Until the broker can be asked for its metadata, not only until its port is open."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if not alive():
            raise BrokerUnavailable("the broker ended while it started")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            client = KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}", bootstrap_timeout_ms=5000)
        except (OSError, KafkaError):
            time.sleep(0.1)
            continue
        client.close()
        return
    raise BrokerUnavailable(f"the broker did not answer within {START_TIMEOUT_SECONDS} s")


def _last_line(folder: Path) -> str:
    lines = (folder / "broker.log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
