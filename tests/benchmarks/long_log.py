"""A ledger of many commits, its log written directly: entries, tiles and checkpoint, and no segments.

What a log costs to open does not depend on the segments that it names. Nothing else than the log can be read
of such a ledger.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from ledger.format.checkpoint import Checkpoint
from ledger.format.manifest import (
    Append,
    Entry,
    Init,
    OffsetsRow,
    SegmentRef,
    entry_bytes,
    event_path,
    instant,
    sign_entry,
)
from ledger.format.merkle import Tree, leaf_hash
from ledger.format.note import SignerKey
from ledger.format.tiles import (
    BUNDLE_WIDTH,
    TILE_BITS,
    encode_bundle,
    entries_path,
    hash_tile_path,
    tile_bytes,
    tiles_added,
)
from ledger.log.catalogue_due import catalogue_path, signed_catalogue_path
from ledger.log.retention_classes import DEFAULT_CLASSES
from ledger.log.signing import create_key
from ledger.writer import SOFTWARE, ledger_json

ORIGIN = "bench.example/long"
START = datetime(2026, 1, 1, tzinfo=UTC)
OPEN: Final = """
import json, sys, time
from pathlib import Path
folder, key = Path(sys.argv[1]), Path(sys.argv[2])
if sys.argv[3] == "reader":
    from ledger.reader import Ledger
    start = time.perf_counter()
    Ledger.open(str(folder))
else:
    from ledger.log.signing import SigningKey
    from ledger.storage.local_store import LocalStore
    from ledger.writer import Writer
    start = time.perf_counter()
    Writer(LocalStore(folder), SigningKey(key), remember=False)
seconds = time.perf_counter() - start
# Not what getrusage says: that counts what the process was before it began this program.
with open("/proc/self/status") as status:
    highest = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(json.dumps([seconds, highest / 1024]))
"""


def make_long_log(folder: Path, commits: int) -> SignerKey:
    """`commits` entries of one segment of 10 rows each, a second apart. The key lies beside `folder`."""
    signer = create_key(folder.with_name(folder.name + ".key"), ORIGIN)
    tree, bundle, first = Tree(), [], b""
    for index in range(commits):
        data = entry_bytes(sign_entry(_entry(index, tree.root(), signer), ORIGIN, signer))
        first = first or data
        tree.append(leaf_hash(data))
        bundle.append(data)
        if len(bundle) == BUNDLE_WIDTH or index == commits - 1:
            width = None if len(bundle) == BUNDLE_WIDTH else len(bundle)
            _write(folder, entries_path(index // BUNDLE_WIDTH, width), encode_bundle(bundle))
            bundle = []
    for tile in tiles_added(0, commits):
        width = None if tile.width == 1 << TILE_BITS else tile.width
        _write(
            folder,
            hash_tile_path(tile.level, tile.index, width),
            tile_bytes(tree, tile.level, tile.index, tile.width),
        )
    _write(folder, "checkpoint", Checkpoint(ORIGIN, commits, tree.root()).sign(signer))
    _write(folder, "ledger.json", ledger_json(first, signer.vkey))
    return signer


def _entry(index: int, root: bytes, signer: SignerKey) -> Entry:
    when = START + timedelta(seconds=index)
    head: dict[str, Any] = {
        "index": index,
        "prev": root.hex(),
        "time": instant(when),
        "writer": "bench",
        "software": SOFTWARE,
    }
    if index == 0:
        return Init(**head, origin=ORIGIN, vkey=signer.vkey, retention=DEFAULT_CLASSES)
    day = when.date().isoformat()
    name = sha256(b"%d" % index).hexdigest()
    segment = SegmentRef(
        path=event_path("standard", day, name[:32]), retention="standard", date=day, rows=10, bytes=2_600,
        sha256=name, root=name, min_time=instant(when), max_time=instant(when), kinds={"decision": 10},
    )  # fmt: skip
    offsets = OffsetsRow(
        topic="decisions", topic_id="A" * 22, cluster="bench", partition=0, from_=(index - 1) * 10,
        to=index * 10,
        accepted=10, duplicate=0, ignored=0, rejected=0,
    )  # fmt: skip
    return Append(**head, segments=[segment], offsets=[offsets])


def _write(folder: Path, path: str, data: bytes) -> None:
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)


def opened(folder: Path, who: str) -> tuple[float, float]:
    """Seconds that a `reader` or `writer` of its own takes to open the log, and MiB that it takes at most."""
    key = folder.with_name(folder.name + ".key")
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(folder), str(key), who], check=True, capture_output=True
    )
    seconds, size = orjson.loads(done.stdout)
    return seconds, size


def forget_catalogues(folder: Path) -> None:
    """The next opening is that of a user who has no catalogue of the log yet."""
    for path in (catalogue_path(str(folder)), signed_catalogue_path(str(folder))):
        path.unlink(missing_ok=True)
