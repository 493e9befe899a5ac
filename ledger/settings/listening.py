"""Where a server listens, and the tokens that callers show it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ledger.errors import UsageError

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
MIN_TOKEN_LETTERS: Final = 16


def address(listen: str) -> tuple[str, int]:
    """The parts of HOST:PORT; port 0 is any that is free. Raises UsageError."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise UsageError(f"{listen!r} is no place to listen at.", "Write HOST:PORT, such as 127.0.0.1:8088.")
    return host, int(port)


def read_tokens(path: Path | None) -> list[str]:
    """The tokens in a file, one a line; none without one. Raises UsageError."""
    if path is None:
        return []
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"The tokens in {path} cannot be read.", "Correct --token-file.") from None
    tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not tokens or min(map(len, tokens)) < MIN_TOKEN_LETTERS:
        raise UsageError(
            f"{path} holds no token, or one of less than {MIN_TOKEN_LETTERS} letters.",
            "Write one a line, such as `openssl rand -hex 32` gives.",
        )
    return tokens
