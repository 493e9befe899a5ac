"""One version of one object, from its first record to its end."""

from __future__ import annotations

from collections.abc import Callable

from ingest.sources.files.decompress import Blocks, Bounds, DamagedStream
from ingest.sources.objects.places import Version
from ingest.sources.objects.records import Broken, Record, Records


class ObjectReader:
    """Gives the records behind the first `skip`, about a block of text at a time."""

    def __init__(
        self, version: Version, read: Callable[[int], bytes], *, skip: int, record_bytes: int, bounds: Bounds
    ) -> None:
        self.version = version
        self.done = False
        self.fault: str | None = None
        """Why the object could not be read to its end; what stands before that was given."""
        self._skip = skip
        self._records = Records(record_bytes)
        self._blocks = Blocks(read, lambda: True, bounds)

    def step(self) -> list[Record]:
        """The next records; possibly none. Raises what `read` raises."""
        try:
            block = self._blocks.read()
            self.done = not block
            found = self._records.feed(block) if block else self._records.finish()
        except (DamagedStream, Broken) as error:
            self.done = True
            self.fault = error.reason
            return []
        skipped = min(self._skip, len(found))
        self._skip -= skipped
        return found[skipped:]
