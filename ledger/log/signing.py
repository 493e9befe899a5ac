"""The signing key on disk, and beside it the last head that it signed.

A key signs only extensions of its last head, so a ledger folder that was rolled back or forked
behind a writer's back is noticed before anything is signed over it.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from ledger.errors import DamageError, OutsideError, UsageError
from ledger.format.checkpoint import Checkpoint, open_checkpoint
from ledger.format.note import PRIVATE_KEY_START, SignedNote, Signer, SignerKey, VerifierKey
from ledger.log.protected_key import is_protected, open_protected, protect
from ledger.log.signing_program import is_program, signing_program
from ledger.storage.local_store import LocalStore
from ledger.storage.user_folders import config_folder

KEY_VARIABLE = "DECISION_LEDGER_KEY"
TEXT_VARIABLE = "DECISION_LEDGER_KEY_TEXT"
"""The key itself, as its file would hold it, where there is no file."""
PASSPHRASE_VARIABLE = "DECISION_LEDGER_KEY_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable
"""Names a file with the passphrase of the signing key."""
MAX_KEY_BYTES = 4_096


class SigningKey:
    """A signer with its memory. `path` is the key file; `<path>.head` keeps the last signed head."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.signer: Signer = _signer(path)
        self._store = LocalStore(path.parent)

    @property
    def _head_name(self) -> str:
        return self.path.name + ".head"

    def kept_note(self) -> bytes | None:
        """The last head that this key signed here, as the note that it signed, or None."""
        return self._store.read(self._head_name)

    def kept_head(self, verifiers: list[VerifierKey] | None = None) -> Checkpoint | None:
        """The last head that this key signed here, or None."""
        note = self.kept_note()
        return None if note is None else self._opened(note, verifiers)

    def _opened(self, note: bytes, verifiers: list[VerifierKey] | None) -> Checkpoint | None:
        """The head in a kept note; None where it is a left-over of another key that had this place."""
        keys = verifiers or [self.verifier]
        ids = {(key.name, key.key_id) for key in keys}
        try:
            signatures = SignedNote.parse(note).signatures
        except DamageError as error:
            raise DamageError(
                f"{self.path}.head, the last head that this key signed, is damaged. {error.message}",
                "Restore it from a copy; without one, verify the ledger against another copy and remove it.",
            ) from None
        if ids.isdisjoint((one.name, one.key_id) for one in signatures):
            return None
        return open_by_any(note, keys)

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        return self.signer.verifier

    @property
    def own(self) -> SignerKey:
        """The private key itself, where a file of ours keeps it. Raises UsageError."""
        if not isinstance(self.signer, SignerKey) or not self.path.is_file():
            raise UsageError(
                "This signing key is not kept in a file of ours.",
                "Change it where it is kept; `key rotate --new-key FILE` seals that another one signs.",
            )
        return self.signer

    def sign_head(
        self, head: Checkpoint, root_at: Callable[[int], bytes], verifiers: list[VerifierKey] | None = None
    ) -> bytes | None:
        """Sign `head` and remember it durably; None where this key already signed a larger one.

        `root_at(size)` is the root of the log's first `size` entries, as its entries give it.
        Raises DamageError where `head` is no extension of the kept one.
        """
        note = head.sign(self.signer)
        larger = False

        def extend(kept_note: bytes | None) -> bytes | None:
            nonlocal larger
            larger = False
            if kept_note is None:
                return note
            kept = self._opened(kept_note, verifiers)
            if kept is None:
                return note
            if kept.size > head.size and kept.origin == head.origin:
                # Another writer with this key was faster.
                larger = True
                return None
            self.check_extends(kept_note, head, root_at, verifiers)
            return None if kept.size == head.size else note

        self._store.replace(self._head_name, extend)
        return None if larger else note

    def check_extends(
        self,
        kept_note: bytes,
        head: Checkpoint,
        root_at: Callable[[int], bytes],
        verifiers: list[VerifierKey] | None = None,
    ) -> None:
        """Raises DamageError where `head` does not extend the head in `kept_note` (see `sign_head`)."""
        kept = self._opened(kept_note, verifiers)
        if kept is None:
            return
        if kept.origin != head.origin:
            raise DamageError(
                f"This key last signed for {kept.origin}, not for {head.origin}.",
                "Name the right one with --key.",
            )
        if kept.size > head.size:
            raise DamageError(
                f"The log holds {head.size} entries, but this key signed a head of {kept.size}.",
                "The ledger was rolled back; restore it from a newer copy before writing on.",
            )
        if root_at(kept.size) != kept.root:
            raise DamageError(
                f"The log is not an extension of the head of {kept.size} entries that this key signed.",
                "The ledger was forked or rewritten; stop writing and compare it with a copy.",
            )


def next_key_path(path: Path) -> Path:
    """Where the key waits that a rotation is to bring, until the log names it."""
    return path.with_name(f"{path.name}.next")


def put_in_place(path: Path, old: SigningKey) -> Path:
    """The next key in the place of the old one, which is kept beside it; where that is.

    May be repeated: a rotation that was cut short is finished by it.
    """
    retired = path.with_name(f"{path.name}.retired-{old.verifier.key_id.hex()}")
    if not retired.exists():
        os.link(path, retired)
    next_path = next_key_path(path)
    kept = next_path.with_name(f"{next_path.name}.head")
    if kept.exists():
        kept.rename(path.with_name(f"{path.name}.head"))
    next_path.rename(path)
    sync_folder(path.parent)
    return retired


def open_by_any(note: bytes, verifiers: list[VerifierKey]) -> Checkpoint:
    """A checkpoint that one of the ledger's successive keys signed. Raises DamageError."""
    for older in verifiers[:-1]:
        try:
            return open_checkpoint(note, older)
        except DamageError:
            continue
    return open_checkpoint(note, verifiers[-1])


def create_key(path: Path, origin: str) -> SignerKey:
    """A new key, written with mode 0600 and never over an existing file."""
    signer = SignerKey.generate(origin)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(path, signer.to_text())
        # A log that names a key which the power took away could never be written to again.
        sync_folder(path.parent)
    except FileExistsError:
        raise UsageError(
            f"There is a key at {path} already.", "Choose another place with --key, or keep using it."
        ) from None
    except OSError as error:
        raise OutsideError(f"The key cannot be written to {path}: {error.strerror}.") from None
    return signer


def adopt_key(given: Path, path: Path, origin: str) -> None:
    """A key that somebody made elsewhere, in its place here. Raises UsageError where it is another log's."""
    if SigningKey(given).signer.name != origin:
        raise UsageError(f"The key at {given} is not named {origin}.", "A ledger's keys bear its name.")
    _write_new(path, given.read_text("utf-8").rstrip("\n"))
    sync_folder(path.parent)


def find_key(ledger: Path | None, given: Path | None, key_id: str | None = None) -> Path | None:
    """Where the signing key is, or None where there is none.

    As given, else as the environment names or holds it, else beside a local ledger, else in the user's
    configuration folder under the key's id.
    """
    if given is not None:
        return given
    if os.environ.get(KEY_VARIABLE):
        return Path(os.environ[KEY_VARIABLE])
    if (kept := environment_key_path()) is not None:
        return kept
    if ledger is not None and (beside := default_key_path(ledger)).exists():
        return beside
    if key_id is not None and (kept := config_folder() / f"{key_id}.key").exists():
        return kept
    return None


def environment_key_path() -> Path | None:
    """Where the head of the key in the environment is kept; None where it holds none."""
    text = os.environ.get(TEXT_VARIABLE)
    if not text:
        return None
    key_id = SignerKey.from_text(text.strip()).verifier.key_id.hex()
    return config_folder() / f"{key_id}.environment-key"


def is_there(path: Path) -> bool:
    """Whether there is a key at a path, or in the environment for it."""
    return (path.exists() and path.stat().st_size > 0) or path == environment_key_path()


def default_key_path(ledger: Path) -> Path:
    """Beside the ledger folder, never inside."""
    return ledger.resolve().with_name(ledger.resolve().name + ".key")


def _keep_private(path: Path, descriptor: int) -> None:
    """Take away from others what they may do with a key file; who could read it may have."""
    status = os.fstat(descriptor)
    if not status.st_mode & 0o077:
        return
    try:
        os.fchmod(descriptor, 0o600)
    except OSError:
        raise UsageError(
            f"Others may read the signing key at {path}.",
            f"Run `chmod 600 {path}` as its owner, and `key rotate` where somebody did read it.",
        ) from None
    print(  # noqa: T201  # for people; this layer has no console
        f"Others could read the signing key at {path}; that is over now. Rotate it where somebody did.",
        file=sys.stderr,
    )


def _signer(path: Path) -> Signer:
    told = os.environ[TEXT_VARIABLE].strip() if path == environment_key_path() else _read_key(path)
    if is_protected(told):
        return open_protected(told, passphrase(path))
    if is_program(told):
        return signing_program(told)
    try:
        return SignerKey.from_text(told)
    except UsageError as error:
        raise UsageError(f"{path} holds no signing key. {error.message}", error.remedy) from None


def _read_key(path: Path) -> str:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            text = file.read(MAX_KEY_BYTES)
            # What is no key may be anybody's file.
            told = text.decode("utf-8", "replace").strip()
            if told.startswith(PRIVATE_KEY_START) or is_protected(told) or is_program(told):
                _keep_private(path, file.fileno())
    except FileNotFoundError:
        raise UsageError(
            f"There is no signing key at {path}.",
            "Name it with --key or DECISION_LEDGER_KEY; only `init` makes a new one.",
        ) from None
    except OSError as error:
        raise UsageError(
            f"The signing key at {path} cannot be read: {error.strerror}.", "Name the key's file with --key."
        ) from None
    try:
        return text.decode().strip()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a signing key.", "It holds one line, PRIVATE+KEY+….") from None


def passphrase(path: Path, given: Path | None = None) -> str:
    """The passphrase of a key: the first line of a file, else as somebody types it. Raises UsageError."""
    named = given or (Path(os.environ[PASSPHRASE_VARIABLE]) if os.environ.get(PASSPHRASE_VARIABLE) else None)
    if named is not None:
        try:
            return named.read_text("utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError):
            raise UsageError(f"The passphrase in {named} cannot be read.", "Correct its file.") from None
    if not sys.stdin.isatty():
        raise UsageError(
            f"The signing key at {path} is under a passphrase.",
            f"Name a file with it in {PASSPHRASE_VARIABLE}.",
        )
    return getpass.getpass(f"Passphrase of {path}: ")


def put_under(path: Path, key: SigningKey, words: str) -> None:
    """Write a key anew under a passphrase, in the place of its file. Raises UsageError."""
    text = protect(key.own, words)
    made = path.with_name(f"{path.name}.{secrets.token_hex(16)}.tmp")
    _write_new(made, text)
    made.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in the folder is durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
