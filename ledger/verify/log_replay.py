"""The entries of a log that may be damaged, judged one after the other from what is left of them."""

from __future__ import annotations

from typing import Final

from ledger.errors import LedgerError
from ledger.format.manifest import Append, Config, Entry, Expire, parse_entry
from ledger.format.merkle import HASH_BYTES, Tree, leaf_hash
from ledger.format.note import VerifierKey
from ledger.format.tiles import BUNDLE_WIDTH
from ledger.log.protocol import CHECKPOINT
from ledger.log.retention_classes import CLASSES
from ledger.log.witness_policy import WITNESSES
from ledger.verify.copies import Leaves
from ledger.verify.findings import damage, listed
from ledger.verify.keys import is_signed, key_of
from ledger.verify.lenient_state import REFUSALS, LenientState
from ledger.verify.log_view import Expiry, LogView

_NO_LEAF: Final = bytes(HASH_BYTES)


class LogReplay:
    """Replays the bundles in `view`, whose leaf hashes to believe are in `leaves`.

    `pinned` is the user's key, `init` what another file says that entry 0 is; the signatures of the
    first `known` entries were checked before.
    """

    def __init__(self, pinned: VerifierKey | None, init: bytes | None, known: int) -> None:
        self.pinned = pinned
        self.init = init
        self.known = known
        self.state = LenientState()
        self.view = LogView(self.state, Tree())
        self.found = self.view.findings
        self.key_lost = False
        """True where the key was rotated in a stretch of the log that is lost."""
        self.after_gap = False
        self.leaves: list[Leaves] = []
        self.refused: set[str] = set()
        """Paths whose entries beyond the log were reported."""
        self.proven = False
        """Whether the leaf hashes lead to the root of the checkpoint."""

    def replay(self) -> None:
        """Judge every entry that is there, and settle how far the log reaches."""
        view = self.view
        entries = [entry for bundle in view.bundles for entry in bundle.entries]
        leaves = [leaf for view_leaves in self.leaves for leaf in view_leaves]
        size = view.size = min(view.head.size, len(entries)) if view.head is not None else len(entries)
        view.reach = size
        view.leaves = leaves
        tree = view.tree
        broken = False
        explained = False
        for index, (data, leaf) in enumerate(zip(entries, leaves, strict=True)):
            intact = data is not None and (leaf is None or leaf_hash(data) == leaf)
            if index == 0 and not intact and self.init is not None and leaf_hash(self.init) == leaf:
                # The log's own copy was found damaged before; this one is what the checkpoint covers.
                self._take(0, self.init, broken=False, covered=True)
                explained = True
            elif data is None:
                if index >= size:
                    break
                view.complete = False
                explained = True
                broken = broken or not self.proven
                self.state.skip()
                self.after_gap = True
            elif not intact and index == 0:
                self.state.skip()
                explained = True
            else:
                problem = self._take(index, data, broken=broken, covered=index < size)
                if problem is None and not intact:
                    problem = "It is not the entry that the checkpoint covers."
                if problem is not None:
                    if index >= size:
                        self._refuse_next(index, problem)
                        break
                    explained = True
                    if intact:
                        self.found.append(damage("entry", view.path_of(index), problem, index=index))
                    broken = broken or not self.proven
            tree.append(leaf or _NO_LEAF)
            view.reach = index + 1
        if view.head is not None and not self.proven and not explained:
            message = f"Its root is not that of the log's first {view.head.size} entries."
            self.found.append(damage("checkpoint", CHECKPOINT, message))
        self._list_next()

    def _take(self, index: int, data: bytes, *, broken: bool, covered: bool) -> str | None:
        """Judge one entry and take it in; the problem with it, if any."""
        if index and not self.state.keys:
            self._assume_key()
        if self.after_gap:
            self.after_gap = False
            self.key_lost = self._is_key_lost(index)
        signed = index >= self.known and not self.key_lost and bool(self.state.keys or index == 0)
        try:
            prev = bytes.fromhex(parse_entry(data).prev) if broken else self.view.tree.root()
            today, classes = self.state.clock.date(), self.state.configs.get(CLASSES)
            entry = self.state.read(index, prev, data, signed=signed)
        except REFUSALS as error:
            if covered:
                self._take_leniently(index, data)
            return error.message if isinstance(error, LedgerError) else f"It is not valid: {error}."
        self._note(index, entry)
        if isinstance(entry, Expire) and classes is not None:
            self.view.expiries.append(Expiry(index, entry, classes, today))
        return None

    def _take_leniently(self, index: int, data: bytes) -> None:
        """Take in what an invalid entry says, so that its neighbours are not blamed for it."""
        try:
            entry = parse_entry(data)
        except REFUSALS:
            self.state.skip()
            self.view.complete = False
            return
        self.state.take_leniently(entry)
        if not isinstance(entry, Append):
            self._note(index, entry)

    def _is_key_lost(self, index: int) -> bool:
        """Whether nothing from `index` on is signed by the key that is known."""
        entries = [entry for bundle in self.view.bundles for entry in bundle.entries][index:]
        keys = [self.state.key] if self.state.keys else []
        return not any(
            is_signed(entry, at, keys) for at, entry in enumerate(entries, start=index) if entry is not None
        )

    def _assume_key(self) -> None:
        """Where entry 0 is lost, go on with the key that is known from elsewhere."""
        key = self.pinned or key_of(self.init)
        if key is not None:
            self.state.keys.append(key)
            self.state.origin = key.name

    def _note(self, index: int, entry: Entry) -> None:
        keys = self.view.keys
        if self.state.keys and (not keys or keys[-1][1] != self.state.key):
            keys.append((index + 1, self.state.key))
        if isinstance(entry, Append):
            self.view.appends[index] = entry
        elif isinstance(entry, Config):
            self.view.configs.setdefault(entry.sha256, index)
            if entry.name == WITNESSES:
                self.view.policies.append((index, entry.sha256))

    def _refuse_next(self, index: int, problem: str) -> None:
        number = index // BUNDLE_WIDTH
        for bundle in self.view.bundles[number:]:
            for width, path in bundle.paths.items():
                if bundle.first + width > index:
                    self.refused.add(path)
                    self.found.append(damage("entry", path, problem, index=index))

    def _list_next(self) -> None:
        view = self.view
        for index in range(view.size, view.reach):
            self.found.append(
                listed(
                    "uncovered",
                    view.path_of(index),
                    "A valid next entry; the next writer completes its commit.",
                    index=index,
                )
            )
        if view.reach > view.size + 1:
            # A writer appends only to a log whose head it signed: the checkpoint was put back.
            message = f"It covers {view.size} entries, but {view.reach} were committed one after the other."
            self.found.append(damage("rollback", CHECKPOINT, message, index=view.size))
