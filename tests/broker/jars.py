"""Apache Kafka's jars, fetched once by Maven from the pinned pom into a cache inside the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "kafka"
FETCH_TIMEOUT_SECONDS = 300
LEAST_JAVA = 17


class BrokerUnavailable(Exception):
    """No real broker can be had this way; the text says why."""


def kafka_version() -> str:
    """The version that the pom pins."""
    found = re.search(r"<kafka\.version>([^<]+)</kafka\.version>", POM.read_text())
    if found is None:
        raise BrokerUnavailable("pom.xml names no Kafka version")
    return found.group(1)


def java_command() -> str:
    """The `java` to use. Raises `BrokerUnavailable` when there is none of version 17 or later."""
    java = shutil.which("java")
    if java is None:
        raise BrokerUnavailable("there is no Java")
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r'version "(\d+)', answer.stderr)
    if found is None or int(found.group(1)) < LEAST_JAVA:
        raise BrokerUnavailable(f"Java is older than {LEAST_JAVA}")
    return java


def fetch(pom: Path = POM, holds: str = "kafka_*.jar") -> Path:
    """The folder of a pom's jars, filled on first use; one process fetches, the others wait for it.

    `holds` matches the jar that must be among them.

    Raises `BrokerUnavailable` when Maven is missing or cannot reach its repository.
    """
    wanted = CACHE / hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if wanted.is_dir():
            return wanted
        maven = shutil.which("mvn")
        if maven is None:
            raise BrokerUnavailable("there is no Maven")
        partial = CACHE / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        command.append(f"-DoutputDirectory={partial}")
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise BrokerUnavailable("Maven did not answer in time") from None
        if done.returncode or not any(partial.glob(holds)):
            lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
            raise BrokerUnavailable(f"Maven failed: {lines[0]}")
        partial.rename(wanted)
    return wanted
