"""A decoding process: `python -m ingest.decoding.worker FD`, FD one end of a local socket.

It is told the routes once, says that it is ready, and answers each chunk. It ends when the other side does.
"""

from __future__ import annotations

import gc
import signal
import socket
import sys
import traceback

import pyarrow as pa

from ingest.decoding.fates import PackedFate, decide
from ingest.decoding.shared import SharedEnd
from ingest.freed_memory import keep_freed_memory

RARELY = (100_000, 50, 100)
"""Garbage collection: what is allocated for a chunk holds no cycles, and walking it costs."""


def main(descriptor: int) -> int:
    """Runs until the other side is gone."""
    # Who started it finishes what is in hand first; Ctrl-C reaches the whole group of a terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pa.set_cpu_count(1)
    keep_freed_memory()
    end = SharedEnd(socket.socket(fileno=descriptor))
    try:
        _, routes = end.receive()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*RARELY)
        end.send(0, None)
        while True:
            number, (packed, now) = end.receive()
            try:
                answer: PackedFate | str = PackedFate.of(decide(routes, packed.unpacked(), now, hashed=True))
            except Exception:  # noqa: BLE001 - whoever asked says it
                answer = traceback.format_exc()
            end.send(number, answer)
    except EOFError:
        return 0
    finally:
        end.close()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
