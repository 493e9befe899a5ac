"""The reading process: `python -m ingest.sources.kafka.child FD`, FD one end of a local socket.

It polls, joins messages into buffers and ships them; what it may start from, and how far it may read
ahead, the parent says. It ends when it is told to, or at once when the parent is gone.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading

from kafka.errors import KafkaError

from ingest.freed_memory import keep_freed_memory
from ingest.sources.kafka import settings as limits
from ingest.sources.kafka.orders import Orders
from ingest.sources.kafka.poller import Poller, Remedied, explain
from ingest.sources.kafka.settings import KafkaSettings
from ingest.sources.kafka.wire import Kind, Wire

PR_SET_PDEATHSIG = 1


def main(descriptor: int) -> int:
    """Runs until told to close. What fails is said to the parent, in words."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.getLogger("kafka").addHandler(logging.NullHandler())
    logging.getLogger("kafka").propagate = False
    wire = Wire(socket.socket(fileno=descriptor))
    kind, said, _ = wire.receive()
    assert kind is Kind.START
    if said["die_with_parent"]:
        _die_with_parent(said["parent"])
    orders = Orders(wire)
    threading.Thread(target=orders.listen, name="orders", daemon=True).start()
    settings = KafkaSettings.from_wire(said["settings"])
    try:
        poller = Poller(settings, orders)
        keep_freed_memory()
        gc.collect()
        gc.freeze()
        gc.disable()  # what is allocated per poll holds no cycles; a collection walks it all the same
        poller.run()
    except (KafkaError, Remedied) as error:
        said = explain(error, settings)
    except Exception as error:  # noqa: BLE001 - the parent turns it into words; nothing is skipped
        said = {"message": f"The Kafka reader failed: {type(error).__name__}: {error}.", "remedy": ""}
    else:
        return 0
    wire.send(Kind.ERROR, said)
    orders.closing.wait(limits.CLOSE_TIMEOUT_SECONDS)  # so that the frame is read before the end is seen
    return 1


def _die_with_parent(parent: int) -> None:
    """The kernel's own word, for when the socket is held open by somebody else (Linux only)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    code = main(int(sys.argv[1]))
    # Threads of the client library must not hold up the end.
    os._exit(code)
