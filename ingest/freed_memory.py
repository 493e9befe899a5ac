"""Memory that is freed and wanted again: kept by the process, since fresh pages have to be cleared."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

SCRATCH_BYTES: Final = 32 * 1024 * 1024 - 65_536
"""What glibc should keep at hand; it takes no hint of 32 MiB or more."""


def keep_freed_memory() -> None:
    """Keeps the memory of one block for the next one, instead of giving it back to the system.

    Each block would fault its pages in anew otherwise, at up to the cost of all reading. The thresholds of
    glibc follow the largest mapped piece that was freed (malloc_trim(3), mallopt(3), M_MMAP_THRESHOLD); the
    piece is never touched, so it takes no memory. Arrow's own allocator gives memory back after some
    milliseconds, so Arrow takes it from glibc too. Other systems' allocators are not affected.
    """
    np.empty(SCRATCH_BYTES, np.uint8)
    pa.set_memory_pool(pa.system_memory_pool())
