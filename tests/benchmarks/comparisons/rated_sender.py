"""Events at a steady rate: `python -m …rated_sender BOOTSTRAP TOPIC COUNT RATE TIMES`.

RATE is in events a second, 0 for as fast as it goes. TIMES is written at the end: when each event was handed
to the producer, as float64 seconds of the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

import numpy as np
from kafka import KafkaProducer

from tests.benchmarks import workload
from tests.benchmarks.comparisons.processes import SEED

TICK_SECONDS: Final = 0.02
DISTINCT: Final = 20_000
BURST: Final = 2_000
ID_BYTES: Final = len(b'{"event_id":"') + 32 + len(b'"')


def send(bootstrap: str, topic: str, count: int, rate: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Send them round the partitions; the times."""
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, compression_type="lz4", linger_ms=5, batch_size=1 << 17, acks=1
    )
    lines = workload.json_lines(min(count, DISTINCT), SEED)
    times = np.zeros(count)
    sent, begun = 0, time.monotonic()
    while sent < count:
        due = int((time.monotonic() - begun) * rate) if rate else sent + BURST
        for number in range(sent, min(due, count)):
            # The id is what a line begins with, and every event has its own.
            line = b'{"event_id":"%032x"' % number + lines[number % len(lines)][ID_BYTES:]
            producer.send(topic, line, partition=number % workload.PARTITIONS)
            times[number] = time.monotonic()
        sent = max(sent, min(due, count))
        if rate:
            time.sleep(TICK_SECONDS)
    producer.flush(timeout=120)
    producer.close(timeout=30)
    return times


if __name__ == "__main__":
    _, bootstrap, topic, count, rate, place = sys.argv
    taken = send(bootstrap, topic, int(count), float(rate))
    Path(place).write_bytes(taken.tobytes())
