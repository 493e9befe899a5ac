from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import settings


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("10.1.2.3", 9092)])
def test_a_connection_that_leaves_the_machine_is_refused(address: tuple[str, int]) -> None:
    with socket.socket() as outside, pytest.raises(RuntimeError, match="only speak to this machine"):
        outside.connect(address)


def test_a_foreign_name_is_not_even_looked_up() -> None:
    with pytest.raises(RuntimeError, match="only speak to this machine"):
        socket.getaddrinfo("example.com", 443)


def test_loopback_is_open() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as near,
    ):
        assert near.getpeername() == server.getsockname()


def test_the_home_is_empty_and_no_setting_leaks_in() -> None:
    assert list(Path.home().iterdir()) == []
    assert "DECISION_LEDGER_URL" not in os.environ
    assert "DECISION_LEDGER_KEY" not in os.environ
    assert Path(os.environ["XDG_CONFIG_HOME"]).is_relative_to(Path.home())


def test_examples_are_the_same_each_time(full_scale: bool) -> None:
    assert settings().derandomize is not full_scale
