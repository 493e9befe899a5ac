"""Verifier keys by the names that this user gave them, and every form in which one is given to `--vkey`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

from ledger.errors import LedgerError, OutsideError, UsageError
from ledger.format.note import VerifierKey
from ledger.storage.local_store import LocalStore
from ledger.storage.user_folders import config_folder

MAX_KEY_FILE_BYTES = 4_096
FETCH_TIMEOUT_SECONDS = 10.0
MAX_NAMES = 10_000
"""Names that are listed."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SUFFIX = ".vkey"


def read_vkey(given: str) -> VerifierKey:
    """A verifier key: its text, the name it has here, a URL that serves it, its file, or `@` and a file.

    A name goes before a file of that name: whoever can write into the working folder cannot put another key
    in its place.

    Raises:
        UsageError: it is none of these, or what stands there is no key.
        OutsideError: the URL gives nothing.
    """
    if given.startswith("@"):
        return _of_file(Path(given.removeprefix("@")))
    if given.startswith(("https://", "http://")):
        return VerifierKey.from_text(_fetched(given))
    if (named := NamedKeys().get(given)) is not None:
        return named
    try:
        return VerifierKey.from_text(given)
    except UsageError:
        with contextlib.suppress(OSError):  # too long a text for a path
            if Path(given).is_file():
                return _of_file(Path(given))
        if is_name(given):
            raise UsageError(
                f"{given!r} is no verifier key, no file with one and no name that was given to one.",
                "`pin list` shows the names; `pin add NAME VKEY` gives one.",
            ) from None
        raise


def is_name(text: str) -> bool:
    """Whether a key can have this name: 1 to 64 of a-z, 0-9, `.`, `_` and `-`, first a letter or digit."""
    return _NAME.fullmatch(text) is not None


class NamedKeys:
    """The names that this user gave to verifier keys: one small file each."""

    def __init__(self) -> None:
        self._folder = config_folder() / "pins" / "names"

    def get(self, name: str) -> VerifierKey | None:
        """The key of this name, or None. Raises UsageError where its file is spoiled."""
        path = self._path(name)
        if not is_name(name) or not path.is_file():
            return None
        return _of_file(path)

    def add(self, name: str, key: VerifierKey) -> bool:
        """Give `key` this name; False where it has it already. Raises UsageError where another key has it."""
        if not is_name(name):
            raise UsageError(
                f"{name!r} cannot name a key.",
                "Use 1 to 64 of a-z, 0-9, '.', '_' and '-', first a letter or digit.",
            )
        present = self.get(name)
        if present is not None and present.text != key.text:
            raise UsageError(
                f"{name!r} names {present.text} already.", f"First `pin remove {name}`, or use another name."
            )
        if present is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            LocalStore(self._folder).replace(f"{name}{_SUFFIX}", lambda _: key.text.encode() + b"\n")
        return present is None

    def remove(self, name: str) -> VerifierKey:
        """Forget a name; the key it had. Raises UsageError where there is none."""
        key = self.get(name)
        if key is None:
            raise UsageError(f"No key is called {name!r} here.", "`pin list` shows the names.")
        self._path(name).unlink()
        return key

    def all(self) -> dict[str, VerifierKey]:
        """Every name and its key, in order; MAX_NAMES at most. A spoiled file raises UsageError."""
        if not self._folder.is_dir():
            return {}
        names = sorted(
            path.name.removesuffix(_SUFFIX)
            for path in self._folder.iterdir()
            if path.name.endswith(_SUFFIX) and is_name(path.name.removesuffix(_SUFFIX))
        )
        found = ((name, self.get(name)) for name in names[:MAX_NAMES])
        return {name: key for name, key in found if key is not None}

    def name_of(self, keys: Iterable[VerifierKey]) -> str | None:
        """The first name that one of a ledger's successive keys has here, or None. It never raises."""
        try:
            known = {key.text: name for name, key in reversed(self.all().items())}
        except (LedgerError, OSError):
            return None
        return next((known[key.text] for key in keys if key.text in known), None)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"


def _of_file(path: Path) -> VerifierKey:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_KEY_FILE_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"No verifier key can be read from {path}.", "Correct --vkey.") from None
    return VerifierKey.from_text(text)


def _fetched(url: str) -> str:
    """What a URL serves: https, or http on this machine; no redirects, a bounded body."""
    import httpx  # noqa: PLC0415 - loading it takes longer than a command runs

    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        raise UsageError(
            "This is no address of a verifier key.", "Write https://keys.example/prod."
        ) from None
    if parts.userinfo:
        raise UsageError("A password has no place in the address of a verifier key.", "Give it without.")
    if parts.scheme == "http" and parts.host not in _LOOPBACK:
        raise UsageError(
            f"{url} is not protected on its way.", "Give an https:// address, or the key's text."
        )
    held = bytearray()
    try:
        with (
            httpx.Client(timeout=FETCH_TIMEOUT_SECONDS, follow_redirects=False, trust_env=False) as client,
            client.stream("GET", url) as answer,
        ):
            for part in answer.iter_bytes():
                held += part
                if len(held) > MAX_KEY_FILE_BYTES:
                    raise UsageError(
                        f"What {url} serves is too long for a verifier key.", "Correct the address."
                    )
    except httpx.HTTPError as error:
        raise OutsideError(
            f"{url} gives no verifier key: {type(error).__name__}.",
            "Check the address, or give the key's text.",
        ) from None
    if answer.status_code != 200:
        raise OutsideError(
            f"{url} gives no verifier key: HTTP {answer.status_code}.",
            "Check the address, or give the key's text.",
        )
    return bytes(held).decode("utf-8", "replace").strip()
