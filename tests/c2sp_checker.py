"""A second opinion on our logs, written from the C2SP texts and RFC 6962 section 2.1 alone.

It imports nothing of the product, computes roots by the recursive definition, and says in a plain
AssertionError what does not hold. A log has full bundles and tiles of 256.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def check_log(root: Path, vkey: str) -> list[bytes]:
    """Check the checkpoint, every tile and every bundle below `root`; the entries under the checkpoint.

    Partial tiles of earlier sizes, where they still exist, must hold the start of the same tree.
    Files beyond the checkpoint's size are not looked at: no signature covers them.
    """
    _, size, signed_root = _checkpoint((root / "checkpoint").read_bytes(), vkey)

    entries: list[bytes] = []
    for number, width in _pieces(size):
        content = _piece(root, "entries", number, width)
        held = _unpack(content, f"bundle {number}")
        # A full bundle may stand in for a partial one that it has replaced; nothing else may be longer.
        assert len(held) == width or (
            len(held) == 256 and not _file(root, "entries", number, width).exists()
        ), f"bundle {number} should hold {width} entries and holds {len(held)}"
        entries += held[:width]
    assert len(entries) == size, f"{len(entries)} entries under a checkpoint of size {size}"

    hashes = [_leaf(entry) for entry in entries]
    assert _mth(hashes) == signed_root, "the entries do not hash to the signed root"

    level, row = 0, hashes
    rows = [row]
    while row:
        for number, width in _pieces(len(row)):
            content = _piece(root, str(level), number, width)
            wanted = b"".join(row[number * 256 : number * 256 + width])
            assert content[: len(wanted)] == wanted, f"tile {level}/{number} holds a wrong hash"
            full_instead = len(content) == 8192 and not _file(root, str(level), number, width).exists()
            assert len(content) == len(wanted) or full_instead, f"tile {level}/{number} has a wrong length"
        row = [_mth(row[at : at + 256]) for at in range(0, len(row) // 256 * 256, 256)]
        rows.append(row)
        level += 1

    _check_other_partials(root, entries, rows)
    return entries


def check_tlog_proof(text: str | bytes, leaf: bytes, vkey: str) -> int:
    """Check a c2sp.org/tlog-proof@v1 for the entry `leaf`; the index that it proves."""
    data = text.encode() if isinstance(text, str) else text
    lines = data.split(b"\n")
    assert lines[0] == b"c2sp.org/tlog-proof@v1", "the proof's first line is wrong"
    at = 1
    if lines[at].startswith(b"extra "):
        _unbase64(lines[at][6:], "the extra line")
        at += 1
    stated = re.fullmatch(rb"index (0|[1-9][0-9]*)", lines[at])
    assert stated, "the proof has no index line"
    index = int(stated[1])
    path: list[bytes] = []
    at += 1
    while lines[at] != b"":
        path.append(_unbase64(lines[at], "a path line"))
        assert len(path[-1]) == 32, "a path line is not a SHA-256 hash"
        at += 1
    _, size, root = _checkpoint(b"\n".join(lines[at + 1 :]), vkey)
    assert index < size, f"index {index} lies outside a tree of {size}"
    assert _root_from_path(_leaf(leaf), index, size, path) == root, (
        "the path does not lead to the signed root"
    )
    return index


def _checkpoint(note: bytes, vkey: str) -> tuple[str, int, bytes]:
    body, _, signatures = note.decode("utf-8").rpartition("\n\n")
    body += "\n"
    assert signatures.endswith("\n"), "the note does not end in a signature line"
    for character in note:
        assert character >= 32 or character == 10, "the note holds a control character"

    key_name, key_hash, key_data = vkey.split("+", 2)
    key = base64.b64decode(key_data)
    assert (key[:1], len(key)) == (b"\x01", 33), "the key is not an Ed25519 note key"
    key_hash_bytes = hashlib.sha256(key_name.encode() + b"\n" + key).digest()[:4]
    assert key_hash_bytes.hex() == key_hash, "the key's hash does not fit its name and bytes"

    seen = 0
    for line in signatures[:-1].split("\n"):
        found = re.fullmatch(r"\N{EM DASH} ([^\s+]+) (\S+)", line)
        assert found, f"not a signature line: {line!r}"
        blob = _unbase64(found[2].encode(), "a signature")
        assert len(blob) > 4, "a signature is too short"
        if found[1] == key_name and blob[:4] == key_hash_bytes:
            try:
                Ed25519PublicKey.from_public_bytes(key[1:]).verify(blob[4:], body.encode())
            except InvalidSignature:
                raise AssertionError("the log's signature on the checkpoint is wrong") from None
            seen += 1
    assert seen, "the log's key did not sign the checkpoint"

    fields = body[:-1].split("\n")
    assert len(fields) >= 3, "the checkpoint lacks a line"
    assert all(fields), "the checkpoint has an empty line"
    assert fields[0] == key_name, "the checkpoint's origin is not the key's name"
    assert re.fullmatch("0|[1-9][0-9]*", fields[1]), "the checkpoint's size is no plain decimal"
    root = _unbase64(fields[2].encode(), "the root")
    assert len(root) == 32, "the root is not a SHA-256 hash"
    return fields[0], int(fields[1]), root


def _pieces(count: int) -> list[tuple[int, int]]:
    return [(start // 256, min(256, count - start)) for start in range(0, count, 256)]


def _file(root: Path, place: str, number: int, width: int) -> Path:
    digits = str(number).zfill((len(str(number)) + 2) // 3 * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join(["x" + group for group in groups[:-1]] + groups[-1:])
    return root / "tile" / place / (name if width == 256 else f"{name}.p/{width}")


def _piece(root: Path, place: str, number: int, width: int) -> bytes:
    for candidate in (_file(root, place, number, width), _file(root, place, number, 256)):
        if candidate.is_file():
            return candidate.read_bytes()
    raise AssertionError(f"{place}/{number} of width {width} is missing")


def _unpack(bundle: bytes, what: str) -> list[bytes]:
    entries = []
    while bundle:
        assert len(bundle) >= 2, f"{what} ends in half a length"
        length = bundle[0] << 8 | bundle[1]
        assert len(bundle) >= 2 + length, f"{what} ends inside an entry"
        entries.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    return entries


def _check_other_partials(root: Path, entries: list[bytes], rows: list[list[bytes]]) -> None:
    for file in sorted((root / "tile").rglob("*.p/*")):
        place = file.relative_to(root / "tile").parts[0]
        number = int("".join(file.relative_to(root / "tile").parts[1:-1]).replace("x", "").removesuffix(".p"))
        width = int(file.name) if re.fullmatch("[1-9][0-9]{0,2}", file.name) else 0
        if not width or file != _file(root, place, number, width):
            continue
        first = number * 256
        if place == "entries":
            if first + width <= len(entries):
                held = _unpack(file.read_bytes(), f"partial bundle {number} of width {width}")
                assert held == entries[first : first + width], f"partial bundle {number}/{width} is wrong"
        else:
            row = rows[int(place)] if int(place) < len(rows) else []
            if first + width <= len(row):
                wanted = b"".join(row[first : first + width])
                assert file.read_bytes() == wanted, f"partial tile {place}/{number}/{width} is wrong"


def _unbase64(text: bytes, what: str) -> bytes:
    data = base64.b64decode(text, validate=True)
    assert base64.b64encode(data) == text, f"{what} is not plain base64"
    return data


def _leaf(data: bytes) -> bytes:
    return hashlib.sha256(bytes([0]) + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(bytes([1]) + left + right).digest()


def _split(count: int) -> int:
    half = 1
    while half * 2 < count:
        half *= 2
    return half


def _mth(hashes: list[bytes]) -> bytes:
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    half = _split(len(hashes))
    return _node(_mth(hashes[:half]), _mth(hashes[half:]))


def _root_from_path(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """Undo RFC 6962 section 2.1.1 PATH(m, D[n]): its last hash is the other half under the root."""
    if size == 1:
        assert not path, "the path is too long"
        return leaf
    assert path, "the path is too short"
    half = _split(size)
    if index < half:
        return _node(_root_from_path(leaf, index, half, path[:-1]), path[-1])
    return _node(path[-1], _root_from_path(leaf, index - half, size - half, path[:-1]))
