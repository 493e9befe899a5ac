"""Reviews as they are kept: `reviews/<digest>.jws`, one signed review a line."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ledger.errors import UsageError

MAX_BYTES: Final = 256 * 1024


def add_review(folder: Path, digest: str, review: str) -> Path:
    """Keep one more review of the bundle with this digest; the file that holds it."""
    path = _path(folder, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(review + "\n")
    return path


def reviews_of(folder: Path, digest: str) -> list[str]:
    """The reviews that are kept of the bundle with this digest.

    Raises:
        UsageError: there are more than anybody writes.
    """
    path = _path(folder, digest)
    if not path.exists():
        return []
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BYTES:,} bytes.", "Keep the reviews that count.")
    return [line for line in data.decode("ascii", "replace").splitlines() if line.strip()]


def _path(folder: Path, digest: str) -> Path:
    assert len(digest) == 64
    assert digest.isalnum()
    return folder / "reviews" / f"{digest}.jws"
