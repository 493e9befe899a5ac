"""The dashboard as a process: streamlit with our settings, on an address that may be served."""

from __future__ import annotations

import ipaddress
import os
import socket
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Final

from dashboard.settings import VARIABLE, DashboardSettings
from ledger.errors import OutsideError, UsageError

LOOPBACK: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8_501


def address(text: str) -> tuple[str, int]:
    """HOST:PORT. Raises UsageError where it is none."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise UsageError(f"{text!r} is no address.", "Write it as HOST:PORT, such as 127.0.0.1:8501.")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def options(host: str, port: int, name: str | None = None) -> dict[str, Any]:
    """Streamlit's options: those of our file, and the address; `name` is by what people reach it."""
    text = (resources.files("dashboard") / ".streamlit" / "config.toml").read_text(encoding="utf-8")
    names = [host, "localhost", "127.0.0.1"] if is_loopback(host) else [host]
    names += [] if name is None else [name]
    return {
        **_flat(tomllib.loads(text)),
        "server.address": host, "server.port": port, "server.allowedHosts": list(dict.fromkeys(names)),
        "browser.serverAddress": host, "logger.level": "warning", "logger.hideWelcomeMessage": True,
    }  # fmt: skip


def a_free_port(wanted: int) -> int:
    """The wanted port on this machine alone, or another where it is taken."""
    try:
        return free_port(LOOPBACK, wanted)
    except OutsideError:
        return free_port(LOOPBACK, 0)


def free_port(host: str, port: int) -> int:
    """The port, or a free one for 0. Raises OutsideError where it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OutsideError(
                f"{host}:{port} cannot be had: {error}.", "Choose another with --listen."
            ) from None
        taken: int = probe.getsockname()[1]
        return taken


def serve(settings: DashboardSettings, host: str, port: int, name: str | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from streamlit.web import bootstrap  # noqa: PLC0415  # only here is the whole of streamlit needed

    os.environ[VARIABLE] = settings.to_environment()
    flags = options(host, port, name)
    # Never a file of secrets that happens to lie in the current folder.
    flags["secrets.files"] = [] if settings.sign_in is None else [settings.sign_in]
    bootstrap.load_config_options(flag_options=flags)
    bootstrap.run(str(Path(__file__).with_name("app.py")), False, [], flags)


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, one in value.items():
        if isinstance(one, dict):
            found |= _flat(one, f"{prefix}{name}.")
        else:
            found[prefix + name] = one
    return found
