"""C2SP signed notes (c2sp.org/signed-note): keys in their text forms, signing, strict opening.

A note is text that ends in a line feed, an empty line, and signature lines
`— <name> <base64(key id || signature)>`. Bytes from outside that are not a well-formed note, or
whose signatures do not check, raise DamageError; key text that cannot be used raises UsageError.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import DamageError, UsageError

ED25519 = 0x01
"""Signature type: Ed25519 over the note's text."""
COSIGNATURE = 0x04
"""Signature type: a witness's timestamped Ed25519 cosignature (c2sp.org/tlog-cosignature)."""

KEY_ID_BYTES = 4
ED25519_KEY_BYTES = 32
ED25519_SIGNATURE_BYTES = 64
TIMESTAMP_BYTES = 8
MAX_TIMESTAMP_SECONDS = 2**63 - 1
MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100
"""The format asks for at least 16; a hundred post-quantum ones still fit MAX_NOTE_BYTES."""
MAX_KEY_TEXT_CHARACTERS = 10_000

PRIVATE_KEY_START = "PRIVATE+KEY+"
"""What the text of a private key begins with."""
_SIGNATURE_START = "— "
_HEX_ID = re.compile(r"[0-9a-f]{8}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_KEY_REMEDY = "Copy the whole key text again from where the key was made."
_NOTE_REMEDY = "Fetch the file again; if it stays like this, treat it as tampered with."


def is_key_name(name: str) -> bool:
    """Whether this may name a key: non-empty UTF-8 without spaces, `+` and control characters."""
    return bool(name) and "+" not in name and not any(map(str.isspace, name)) and _is_note_text(name)


def key_id(name: str, signature_type: int, public_key: bytes) -> bytes:
    """The first 4 bytes of SHA-256(name || LF || type || public key)."""
    return hashlib.sha256(b"%s\n%c%s" % (name.encode(), signature_type, public_key)).digest()[:KEY_ID_BYTES]


def cosignature_message(timestamp: int, text: str) -> bytes:
    """What an Ed25519 cosignature signs: header, POSIX seconds, the checkpoint's whole note text."""
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def decode_base64(text: str) -> bytes | None:
    """Standard base64 (RFC 4648 section 4) in its one canonical spelling, else None."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    # Python ignores stray bits in the last character; two spellings of one hash must not both pass.
    return data if base64.b64encode(data).decode() == text else None


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name: Ed25519 signatures (type 0x01) or cosignatures (type 0x04)."""

    name: str
    public_key: bytes
    signature_type: int = ED25519

    def __post_init__(self) -> None:
        if not is_key_name(self.name):
            raise UsageError(f"{self.name!r} cannot name a key.", "Use a name without spaces and '+'.")
        if self.signature_type not in (ED25519, COSIGNATURE):
            raise UsageError(
                f"Signature type 0x{self.signature_type:02x} is not supported.",
                "Use an Ed25519 key (type 0x01) or an Ed25519 cosigner key (type 0x04).",
            )
        if len(self.public_key) != ED25519_KEY_BYTES:
            raise UsageError(f"An Ed25519 public key has {ED25519_KEY_BYTES} bytes.", _KEY_REMEDY)

    @classmethod
    def from_text(cls, text: str) -> VerifierKey:
        """Read `<name>+<hex key id>+<base64(type || public key)>`; UsageError when it does not hold."""
        name, stated, material = _split_key_text(text, "verifier key")
        key = cls(name, material[1:], material[0])
        if key.key_id.hex() != stated:
            raise UsageError("The verifier key's id does not belong to its name and key.", _KEY_REMEDY)
        return key

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that name this key beside its name in a signature line."""
        return key_id(self.name, self.signature_type, self.public_key)

    @property
    def text(self) -> str:
        """The vkey text form."""
        material = base64.b64encode(bytes([self.signature_type]) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` (64 bytes; a cosignature has 8 of timestamp before) is ours over `message`.

        `message` is the note's text, or anything else that the key signed directly.
        """
        if self.signature_type == COSIGNATURE:
            timestamp = int.from_bytes(signature[:TIMESTAMP_BYTES], "big")
            if len(signature) <= TIMESTAMP_BYTES or timestamp > MAX_TIMESTAMP_SECONDS:
                return False
            signature = signature[TIMESTAMP_BYTES:]
            message = b"cosignature/v1\ntime %d\n%s" % (timestamp, message)
        if len(signature) != ED25519_SIGNATURE_BYTES:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer(ABC):
    """Whoever can sign as one Ed25519 key: the key itself, or a program that keeps it."""

    name: str

    @property
    @abstractmethod
    def verifier(self) -> VerifierKey:
        """The public half."""

    @abstractmethod
    def sign(self, message: bytes) -> bytes:
        """The raw 64-byte Ed25519 signature (RFC 8032) over `message`."""

    @property
    def vkey(self) -> str:
        """The public half in its text form."""
        return self.verifier.text

    def sign_note(self, text: str) -> bytes:
        """A note over `text` with this key's signature line. UsageError when `text` cannot be a note's."""
        if not text.endswith("\n") or not _is_note_text(text):
            raise UsageError(
                "A note's text is UTF-8 without control characters and ends in a line feed.",
                "Remove control characters and end the text with a line feed.",
            )
        signature = Signature(self.name, self.verifier.key_id, self.sign(text.encode()))
        note = f"{text}\n{signature.line}".encode()
        if len(note) > MAX_NOTE_BYTES:
            raise UsageError(f"A note has at most {MAX_NOTE_BYTES} bytes.", "Sign a shorter text.")
        return note


@dataclass(frozen=True, slots=True)
class SignerKey(Signer):
    """A private Ed25519 key with its name. Its seed never shows in `repr`."""

    name: str
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not is_key_name(self.name):
            raise UsageError(f"{self.name!r} cannot name a key.", "Use a name without spaces and '+'.")
        if len(self.seed) != ED25519_KEY_BYTES:
            raise UsageError(f"An Ed25519 seed has {ED25519_KEY_BYTES} bytes.", _KEY_REMEDY)

    @classmethod
    def generate(cls, name: str) -> SignerKey:
        """A new random key. UsageError when `name` cannot name a key."""
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def from_text(cls, text: str) -> SignerKey:
        """Read `PRIVATE+KEY+<name>+<hex key id>+<base64(0x01 || seed)>`, the form of Go's sumdb/note.

        UsageError when it does not hold; its message never repeats the text.
        """
        if not text.startswith(PRIVATE_KEY_START):
            raise UsageError(f"A private key's text starts with {PRIVATE_KEY_START!r}.", _KEY_REMEDY)
        name, stated, material = _split_key_text(text.removeprefix(PRIVATE_KEY_START), "private key")
        if material[0] != ED25519:
            raise UsageError("Only Ed25519 keys (type 0x01) can sign.", "Generate an Ed25519 key.")
        key = cls(name, material[1:])
        if key.verifier.key_id.hex() != stated:
            raise UsageError("The private key's id does not belong to its name and key.", _KEY_REMEDY)
        return key

    def to_text(self) -> str:
        """The private text form: a secret."""
        material = base64.b64encode(bytes([ED25519]) + self.seed).decode()
        return f"{PRIVATE_KEY_START}{self.name}+{self.verifier.key_id.hex()}+{material}"

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        return VerifierKey(self.name, private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """See `Signer.sign`."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: the key's name, its 4-byte id, and the bytes that the key made."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        """The line as it stands in a note, line feed included."""
        return f"{_SIGNATURE_START}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A well-formed note. Its text is nobody's word before `verified_by` names a key."""

    text: str
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: bytes) -> SignedNote:
        """Split a note into text and signatures, checking none. DamageError when it is malformed."""
        if len(data) > MAX_NOTE_BYTES:
            raise _malformed(f"it has more than {MAX_NOTE_BYTES} bytes")
        try:
            note = data.decode()
        except UnicodeDecodeError:
            raise _malformed("it is not UTF-8") from None
        if not _is_note_text(note):
            raise _malformed("it holds a control character")
        split = note.rfind("\n\n")
        lines = note[split + 2 :].split("\n")
        if split < 0 or lines == [""] or lines.pop() != "":
            raise _malformed("no signature lines that end in a line feed follow an empty line")
        if len(lines) > MAX_SIGNATURES:
            raise _malformed(f"it has more than {MAX_SIGNATURES} signatures")
        return cls(note[: split + 1], tuple(map(_parse_signature, lines)))

    def verified_by(self, keys: Sequence[VerifierKey]) -> tuple[VerifierKey, ...]:
        """Those of `keys` whose signature the note carries, in the order of its lines; maybe none.

        Signatures by other keys are ignored. DamageError when a signature by one of `keys` is bad;
        UsageError when two different keys share name and id.
        """
        known: dict[tuple[str, bytes], VerifierKey] = {}
        for key in keys:
            if known.setdefault((key.name, key.key_id), key) != key:
                raise UsageError(f"Two keys named {key.name!r} share an id.", "Remove one of the two keys.")
        good: dict[VerifierKey, None] = {}
        message = self.text.encode()
        for signature in self.signatures:
            signer = known.get((signature.name, signature.key_id))
            if signer is None:
                continue
            if not signer.verify(message, signature.signature):
                raise DamageError(f"The note's signature by {signer.name!r} is wrong.", _NOTE_REMEDY)
            good[signer] = None
        return tuple(good)


def open_note(data: bytes, keys: Sequence[VerifierKey]) -> str:
    """The text of a note that at least one of `keys` signed.

    DamageError when the note is malformed, has a bad signature by one of `keys`, or a good one by none.
    """
    note = SignedNote.parse(data)
    if not note.verified_by(keys):
        names = ", ".join(repr(key.name) for key in keys) or "no key at all"
        raise DamageError(f"The note has no signature by {names}.", "Check that this is the key you expect.")
    return note.text


def _split_key_text(text: str, what: str) -> tuple[str, str, bytes]:
    """Name, hex key id, and type byte with key material. The base64 part may itself hold a `+`."""
    parts = text.split("+", 2)
    if len(text) > MAX_KEY_TEXT_CHARACTERS or len(parts) != 3 or not _HEX_ID.fullmatch(parts[1]):
        raise UsageError(f"This {what} does not have the form name+id+key.", _KEY_REMEDY)
    material = decode_base64(parts[2])
    if not material:
        raise UsageError(f"This {what} is not valid base64.", _KEY_REMEDY)
    return parts[0], parts[1], material


def _parse_signature(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_SIGNATURE_START).partition(" ")
    data = decode_base64(encoded)
    if not line.startswith(_SIGNATURE_START) or not space or not is_key_name(name):
        raise _malformed("a signature line does not have the form '— name signature'")
    if data is None or len(data) <= KEY_ID_BYTES:
        raise _malformed("a signature line does not hold base64 of a key id and a signature")
    return Signature(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


def _is_note_text(text: str) -> bool:
    """Encodable as UTF-8 and without ASCII control characters but the line feed."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return _CONTROL.search(text) is None


def _malformed(why: str) -> DamageError:
    return DamageError(f"This is not a signed note: {why}.", _NOTE_REMEDY)
