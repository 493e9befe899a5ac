"""What a service counts about itself, for Prometheus: a small HTTP server at an address of choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ledger.errors import OutsideError, UsageError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


def serve_meters(listen: str, registry: CollectorRegistry) -> tuple[int, Callable[[], None]]:
    """Answer `GET /metrics` at HOST:PORT (port 0: any free one): the port, and what ends it.

    Raises:
        UsageError: that is no address.
        OutsideError: the port is taken.
    """
    from prometheus_client import start_http_server  # noqa: PLC0415 - most runs serve none

    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65_535:
        raise UsageError(f"{listen!r} is no HOST:PORT.", "Write it as 127.0.0.1:9464.")
    try:
        server, thread = start_http_server(int(port), host.strip("[]") or "127.0.0.1", registry)
    except OSError as error:
        raise OutsideError(
            f"Nothing can listen at {listen}: {error.strerror}.", "Choose another port, or end who has it."
        ) from None

    def stop() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    return server.server_port, stop
