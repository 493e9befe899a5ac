"""A process that is run to its end, and what it and those that it started took."""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.benchmarks.comparisons.processes import TIMEOUT_SECONDS, environment

EVERY_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Taken:
    """`memory_mib` is the highest sum of proportional set sizes: shared pages count once."""

    seconds: float
    memory_mib: float
    said: str


def run_measured(arguments: list[str], folder: Path) -> Taken:
    """Run it. Raises CalledProcessError where it fails."""
    begun = time.perf_counter()
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(folder), cwd=folder
    ) as started:
        watch = _Watch(psutil.Process(started.pid))
        watch.start()
        try:
            said, _ = started.communicate(timeout=TIMEOUT_SECONDS)
            seconds = time.perf_counter() - begun
        finally:
            started.kill()
            watch.done.set()
            watch.join()
    if started.returncode:
        raise subprocess.CalledProcessError(started.returncode, arguments, said)
    return Taken(seconds, watch.highest / 2**20, said.decode())


class _Watch(threading.Thread):
    def __init__(self, of: psutil.Process) -> None:
        super().__init__()
        self.of = of
        self.highest = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(EVERY_SECONDS):
            with suppress(psutil.Error):
                every = [self.of, *self.of.children(recursive=True)]
                self.highest = max(self.highest, sum(one.memory_full_info().pss for one in every))
