"""What holds for every test: its own home and settings, no network but loopback, repeatable examples.

Environment variables that a run may set:

- `DECISION_LEDGER_REQUIRE_KAFKA=1`: a run of the whole suite in which no real broker answered fails.
- `DECISION_LEDGER_TEST_SCALE=full`: the long form (`make faults-tests`): more examples and not the same ones
  each time; tests marked `long` run, others take their larger sizes (`full_scale`).
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.broker.plugin"]

SCALE_VARIABLE = "DECISION_LEDGER_TEST_SCALE"
OF_THE_RUN = ("DECISION_LEDGER_BROKER_RUN", "DECISION_LEDGER_REQUIRE_KAFKA", SCALE_VARIABLE)
"""Variables that steer the run itself; every other `DECISION_LEDGER_*` is hidden from tests."""
OUTSIDE_THE_SUITE = ("tests/benchmarks",)

# No deadline: two cores are shared with a broker. No database: nothing of an earlier run decides this one.
_BOTH = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", _BOTH, max_examples=50, derandomize=True)
settings.register_profile("full", _BOTH, max_examples=1_000, print_blob=True)


def _is_full() -> bool:
    return os.environ.get(SCALE_VARIABLE) == "full"


settings.load_profile("full" if _is_full() else "repeatable")


@pytest.fixture(scope="session")
def full_scale() -> bool:
    """Whether this is the long form of the suite."""
    return _is_full()


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example company as `issuer init` writes it; tests read it, and copy it to change it."""
    from issuer.example.founding import write_example

    folder = tmp_path_factory.mktemp("company") / "state"
    write_example(folder, now=1_764_064_800.0)
    return folder


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """The endpoint of an S3 API on this machine; every `Bucket` in it has a name of its own."""
    from tests.buckets import s3_service

    with s3_service() as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def own_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A home folder and settings of the test's own, also for the processes that it starts."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith("DECISION_LEDGER_") and name not in OF_THE_RUN:
            monkeypatch.delenv(name)
    # Nothing on the machine may lend its credentials to a test, nor answer for one.
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("TZ", "UTC")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_LoopbackOnly(), "loopback-only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skip_long = pytest.mark.skip(reason="long form: make faults-tests")
    for item in items:
        if "kafka_bootstrap" in getattr(item, "fixturenames", ()):
            item.add_marker("kafka")
        if item.get_closest_marker("long") and not _is_full():
            item.add_marker(skip_long)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails a whole run that needed a real broker and asked for none."""
    config = session.config
    whole_suite = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.markexpr
    if (
        hasattr(config, "workerinput")
        or not whole_suite
        or os.environ.get("DECISION_LEDGER_REQUIRE_KAFKA") != "1"
    ):
        return
    folder = os.environ.get("DECISION_LEDGER_BROKER_RUN", "").rpartition(":")[0]
    if not folder or not Path(folder, "broker.json").exists():
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("\nDECISION_LEDGER_REQUIRE_KAFKA=1 and no test asked for a broker.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


class _LoopbackOnly:
    """Refuses every connection of this process that would leave the machine.

    An audit hook sees all sockets of Python's own `socket` module. It does not see those that a
    compiled library (obstore, DuckDB) opens by itself, nor other processes.
    """

    NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "", socket.gethostname()})

    def __init__(self) -> None:
        self._active = False
        # A broker that the user named may be anywhere.
        named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
        self._named = {part.strip().rpartition(":")[0] for part in named.split(",") if part.strip()}
        sys.addaudithook(self._judge)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        self._active = True
        try:
            return (yield)
        finally:
            self._active = False

    def _judge(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active or not event.startswith("socket."):
            return
        if event in {"socket.connect", "socket.sendto"} and isinstance(arguments[1], tuple):
            host = arguments[1][0]
        elif event == "socket.getaddrinfo":
            host = arguments[0]
        else:
            return
        if not self._is_near(host):
            raise RuntimeError(f"A test may only speak to this machine, and this one tried {host!r}.")

    def _is_near(self, host: object) -> bool:
        if host is None:
            return True
        text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
        # `*.localhost` is loopback by RFC 6761; moto's virtual-host buckets use it.
        if text in self.NAMES or text in self._named or text.endswith(".localhost"):
            return True
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            return False
        return address.is_loopback or address.is_unspecified
