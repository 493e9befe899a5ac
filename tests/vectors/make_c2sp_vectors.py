"""Writes c2sp_v1.json: notes, checkpoints, tiles and proofs from fixed keys.

Run from the project's folder: python -m tests.vectors.make_c2sp_vectors

Like tests/c2sp_checker.py it imports nothing of the product, so the vectors pin the formats and
not the code. Ed25519 is deterministic: the same keys give the same file.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

VECTORS = Path(__file__).with_name("c2sp_v1.json")
ORIGIN = "ledger.example/decisions"
WITNESS = "witness.example/w1"
TIMESTAMP = 1_795_428_000
SIZES = (0, 1, 2, 5, 8, 257)


def entry(index: int) -> bytes:
    return b"entry %d" % index


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def half_of(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


def tree_root(hashes: list[bytes]) -> bytes:
    if len(hashes) < 2:
        return hashes[0] if hashes else hashlib.sha256(b"").digest()
    half = half_of(len(hashes))
    return node(tree_root(hashes[:half]), tree_root(hashes[half:]))


def path(index: int, hashes: list[bytes]) -> list[bytes]:
    if len(hashes) == 1:
        return []
    half = half_of(len(hashes))
    if index < half:
        return [*path(index, hashes[:half]), tree_root(hashes[half:])]
    return [*path(index - half, hashes[half:]), tree_root(hashes[:half])]


def subproof(old: int, hashes: list[bytes], whole: bool) -> list[bytes]:
    if old == len(hashes):
        return [] if whole else [tree_root(hashes)]
    half = half_of(len(hashes))
    if old <= half:
        return [*subproof(old, hashes[:half], whole), tree_root(hashes[half:])]
    return [*subproof(old - half, hashes[half:], False), tree_root(hashes[:half])]


class Key:
    def __init__(self, name: str, seed: bytes, signature_type: int) -> None:
        self.name, self.seed = name, seed
        self.private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = bytes([signature_type]) + self.private.public_key().public_bytes_raw()
        self.id = hashlib.sha256(name.encode() + b"\n" + self.public).digest()[:4]

    def line(self, signature: bytes) -> str:
        return f"\u2014 {self.name} {b64(self.id + signature)}\n"

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64(self.public)}"


def make() -> dict[str, object]:
    log = Key(ORIGIN, bytes(range(32)), 0x01)
    witness = Key(WITNESS, bytes(range(32, 64)), 0x04)
    seed_text = b64(b"\x01" + log.seed)
    leaves = [leaf(entry(index)) for index in range(max(SIZES))]

    checkpoints, proofs = [], []
    for size in SIZES:
        root = tree_root(leaves[:size])
        text = f"{ORIGIN}\n{size}\n{b64(root)}\n"
        note = f"{text}\n{log.line(log.private.sign(text.encode()))}"
        message = f"cosignature/v1\ntime {TIMESTAMP}\n{text}"
        stamped = TIMESTAMP.to_bytes(8, "big") + witness.private.sign(message.encode())
        checkpoints.append(
            {
                "size": size,
                "root": root.hex(),
                "text": text,
                "note": note,
                "cosigned": note + witness.line(stamped),
            }
        )
        for index in sorted({0, size // 2, size - 1} & set(range(size))):
            hashes = "".join(b64(digest) + "\n" for digest in path(index, leaves[:size]))
            extra = f"extra {b64(b'where to look')}\n" if size == 5 else ""
            proofs.append(
                {
                    "index": index,
                    "size": size,
                    "leaf": entry(index).decode(),
                    "proof": f"c2sp.org/tlog-proof@v1\n{extra}index {index}\n{hashes}\n{note}",
                }
            )
    return {
        "about": "C2SP formats from fixed keys; see make_c2sp_vectors.py; entry i is the text 'entry <i>'",
        "log": {
            "name": ORIGIN,
            "seed": log.seed.hex(),
            "vkey": log.vkey,
            "private": f"PRIVATE+KEY+{ORIGIN}+{log.id.hex()}+{seed_text}",
        },
        "witness": {"name": WITNESS, "vkey": witness.vkey, "timestamp": TIMESTAMP},
        "checkpoints": checkpoints,
        "proofs": proofs,
        "consistency": [
            {"old": old, "new": new, "proof": [digest.hex() for digest in subproof(old, leaves[:new], True)]}
            for new in SIZES
            for old in SIZES
            if 0 < old <= new
        ],
        "tile_paths": [
            {"level": 0, "index": 0, "width": None, "path": "tile/0/000"},
            {"level": 0, "index": 273, "width": 112, "path": "tile/0/273.p/112"},
            {"level": 1, "index": 1234067, "width": None, "path": "tile/1/x001/x234/067"},
            {"level": 63, "index": 1000, "width": 255, "path": "tile/63/x001/000.p/255"},
            {"level": None, "index": 999, "width": 1, "path": "tile/entries/999.p/1"},
            {"level": None, "index": 1000000, "width": None, "path": "tile/entries/x001/x000/000"},
        ],
        "bundle": {
            "entries": [b"".hex(), b"a".hex(), entry(2).hex()],
            "data": (b"\x00\x00" + b"\x00\x01a" + b"\x00\x07" + entry(2)).hex(),
        },
    }


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(make(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
