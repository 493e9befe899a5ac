"""Which versions of which objects a ledger has, and how many records of each.

Names are kept as 128-bit digests: about 200 bytes of memory for each version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import orjson

from ledger.format.manifest import ObjectRange, OffsetKey

DIGEST_BYTES: Final = 16
_ENDED: Final = -1


class SealedObjects:
    """What was handed over of each version; starts with what a log says."""

    def __init__(self) -> None:
        self._versions: dict[bytes, int] = {}
        self._keys: set[bytes] = set()

    @classmethod
    def of_log(cls, entries: Iterable[bytes], key: OffsetKey) -> SealedObjects:
        """What the entries of a log say of the stream `key`."""
        made = cls()
        mark = orjson.dumps(key.topic)
        for entry in entries:
            if mark not in entry:
                continue
            # Judged when the log was read; here it is only looked through.
            for row in orjson.loads(entry).get("offsets", ()):
                if row["topic"] == key.topic and row["partition"] == key.partition:
                    for part in row.get("objects", ()):
                        made._note(part["key"], part["etag"], part["to"] - part["from"], end=part["end"])
        return made

    def take(self, objects: Iterable[ObjectRange]) -> None:
        """Remember these records, which follow on those before them."""
        for part in objects:
            self._note(part.key, part.etag, part.to - part.from_, end=part.end)

    def _note(self, key: str, etag: str, records: int, *, end: bool) -> None:
        version = _digest(key, etag)
        known = self._versions.get(version, 0)
        if known != _ENDED:
            self._versions[version] = _ENDED if end else known + records
        self._keys.add(_digest(key))

    def records(self, key: str, etag: str) -> int | None:
        """How many records of this version are known; None where that is all of them."""
        known = self._versions.get(_digest(key, etag), 0)
        return None if known == _ENDED else known

    def is_known(self, key: str) -> bool:
        """Whether any version of it is known."""
        return _digest(key) in self._keys

    def is_rewritten(self, key: str, etag: str) -> bool:
        """Whether the object is known, and this version of it is not."""
        return self.is_known(key) and _digest(key, etag) not in self._versions


def _digest(*names: str) -> bytes:
    return hashlib.blake2b(orjson.dumps(names), digest_size=DIGEST_BYTES).digest()
