"""The state of an issuer's folder, for a command that changes it beside the services or without them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from issuer.emitting.recorder import Recorder
from issuer.state.database import FILE, Database
from ledger.errors import UsageError


@contextlib.contextmanager
def open_state(folder: Path) -> Iterator[Recorder]:
    """A recorder over the folder's state. Events wait there until the services send them.

    Raises:
        UsageError: the folder holds no state.
    """
    path = folder / FILE
    if not path.exists():
        raise UsageError(
            f"There is no issuer's state in {folder}.",
            "Name its folder with --state.",
        )
    db = Database(path)
    try:
        yield Recorder(db)
    finally:
        db.close()
