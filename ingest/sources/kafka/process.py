"""Starting and ending the reading process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress

from ingest.child_environment import child_environment
from ingest.sources.kafka import settings as limits
from ingest.sources.kafka.settings import KEY_PASSWORD_VARIABLE, PASSWORD_VARIABLE, KafkaSettings
from ingest.sources.kafka.wire import Kind, Wire

STDERR_BYTES = 4096  # of what it wrote last, for a process that ended without a word


class ReadingProcess:
    """The child and this side's end of the socket. Settings, which may hold secrets, go through that."""

    def __init__(self, settings: KafkaSettings) -> None:
        ours, theirs = socket.socketpair()
        # It outlives this call: `forget` closes it.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - see above
        secret = {PASSWORD_VARIABLE, KEY_PASSWORD_VARIABLE}
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "ingest.sources.kafka.child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=child_environment(secret.__contains__),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
            )
        self.wire = Wire(ours)
        # The kernel's signal follows the thread that started the child, so only the main one will do.
        lasting = threading.current_thread() is threading.main_thread()
        said = {"settings": settings.to_wire(), "parent": os.getpid(), "die_with_parent": lasting}
        with suppress(OSError):  # it ended already; whoever receives from it says so
            self.wire.send(Kind.START, said)

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._child.pid

    def epitaph(self) -> str:
        """Why it ended without saying so: its code and the last line it wrote."""
        try:
            code: int | None = self._child.wait(limits.CLOSE_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - STDERR_BYTES))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f"exit code {code}" + (f", {lines[-1]}" if lines else "")

    def end(self) -> None:
        """Ask it to leave the group and end; make it, if it does not within the time-out."""
        try:
            self.wire.send(Kind.CLOSE, {})
            self._child.wait(limits.CLOSE_TIMEOUT_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            self._child.kill()
        self._child.wait()
        self.wire.close()

    def forget(self) -> None:
        """Free what is left, after the thread that receives has ended."""
        self._stderr.close()
