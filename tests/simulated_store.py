"""A store in memory that keeps the contract of `ledger.storage.store.Store` and fails where it is told to.

    store = SimulatedStore(faults=[Fault(nth=2, when=When.AFTER, how=How.UNKNOWN)])
    ... run the writer: the third durable step takes effect, but its answer is lost ...
    after = store.another()            # a fresh process over the same objects
    assert after.objects == ...

A durable step is a create, replace, delete or sync. `steps` holds them as they were begun, and
`nth` counts them from 0. A run without faults therefore gives the length of a fault table:

    for nth in range(len(clean.steps)):
        for fault in every_fault(nth): ...

Writers race when they share objects: `another()` gives each its own handle, faults and record,
and `on_step` lets a test act as the other writer right before a step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path

from ledger.errors import OutcomeUnknown, OutsideError
from ledger.storage.limits import check_write_size, checked_path, checked_prefix
from ledger.storage.store import StoredFile

DURABLE_STEPS = frozenset({"create", "replace", "delete", "sync"})
REPLACE_ATTEMPTS = 64


class Crash(BaseException):
    """The process died here: no `except Exception` sees it, and its handle does nothing any more."""


class When(Enum):
    """Whether the failing step took effect."""

    BEFORE = "before"
    AFTER = "after"


class How(Enum):
    """What the caller sees of a failing step."""

    OUTSIDE = OutsideError
    UNKNOWN = OutcomeUnknown
    CRASH = Crash


@dataclass(frozen=True, slots=True)
class Step:
    """One call: `op` is the name of the store's method."""

    op: str
    path: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Fails the steps that match everything that is given.

    Args:
        nth: position among all durable steps of the handle, from 0.
        op: name of the method; the only way to make a `read` or `list` fail.
        path: shell pattern of the path (`*` also spans `/`).
        skip: how many matching steps pass first.
        times: how many matching steps fail after that.
        litter: a step that fails before its effect leaves a half-written temporary file.
    """

    when: When = When.BEFORE
    how: How = How.OUTSIDE
    nth: int | None = None
    op: str | None = None
    path: str = "*"
    skip: int = 0
    times: int = 1
    litter: bool = False

    def matches(self, step: Step, position: int | None) -> bool:
        """Whether the step, at `position` among the durable ones, is meant."""
        if step.op not in DURABLE_STEPS and self.op is None:
            return False
        return (
            self.nth in (None, position) and self.op in (None, step.op) and fnmatchcase(step.path, self.path)
        )


def every_fault(nth: int) -> tuple[Fault, ...]:
    """Each way in which the nth durable step can fail; an `OutsideError` after the effect included."""
    plain = (Fault(nth=nth, when=when, how=how) for when in When for how in How)
    return (*plain, Fault(nth=nth, when=When.BEFORE, how=How.CRASH, litter=True))


@dataclass(slots=True)
class _Plan:
    """A fault and how often it still passes and still strikes."""

    fault: Fault
    skip: int
    times: int


@dataclass(slots=True)
class _Shared:
    """What all handles see. `clock` counts writes and serves as modification time."""

    objects: dict[str, bytes] = field(default_factory=dict)
    modified: dict[str, float] = field(default_factory=dict)
    clock: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def put(self, path: str, data: bytes) -> None:
        self.clock += 1
        self.objects[path] = bytes(data)
        self.modified[path] = self.clock

    def drop(self, path: str) -> None:
        self.objects.pop(path, None)
        self.modified.pop(path, None)


class SimulatedStore:
    """One process's handle on objects in memory; see the module's text."""

    def __init__(
        self,
        faults: Sequence[Fault] = (),
        *,
        on_step: Callable[[Step], object] | None = None,
        url: str = "simulated://",
    ) -> None:
        self.url = url
        self.on_step = on_step
        self.calls: list[Step] = []
        self.crashed = False
        self._plans = [_Plan(fault, fault.skip, fault.times) for fault in faults]
        self._shared = _Shared()
        self._durable_count = 0
        self._acting = False

    @property
    def steps(self) -> tuple[Step, ...]:
        """The durable steps of this handle, begun or done, in order."""
        return tuple(step for step in self.calls if step.op in DURABLE_STEPS)

    @property
    def objects(self) -> Mapping[str, bytes]:
        """A copy of what is stored now."""
        return self.snapshot()

    def snapshot(self) -> dict[str, bytes]:
        """Every object, to compare or to `restore`."""
        with self._shared.lock:
            return dict(self._shared.objects)

    def restore(self, snapshot: Mapping[str, bytes]) -> None:
        """Make the stored objects exactly `snapshot`, for every handle."""
        with self._shared.lock:
            for path in tuple(self._shared.objects):
                if path not in snapshot:
                    self._shared.drop(path)
            for path, data in snapshot.items():
                if self._shared.objects.get(path) != data:
                    self._shared.put(path, data)

    def tamper(self, path: str, data: bytes | None) -> None:
        """Set or remove (None) an object behind everybody's back: no step, no fault."""
        with self._shared.lock:
            if data is None:
                self._shared.drop(path)
            else:
                self._shared.put(path, data)

    def another(
        self, faults: Sequence[Fault] = (), *, on_step: Callable[[Step], object] | None = None
    ) -> SimulatedStore:
        """A second handle on the same objects: another process, or this one started again."""
        other = SimulatedStore(faults, on_step=on_step, url=self.url)
        other._shared = self._shared
        return other

    def fork(
        self, faults: Sequence[Fault] = (), *, on_step: Callable[[Step], object] | None = None
    ) -> SimulatedStore:
        """A handle on a copy of the objects that goes its own way."""
        other = SimulatedStore(faults, on_step=on_step, url=self.url)
        with self._shared.lock:
            other._shared.objects = dict(self._shared.objects)
            other._shared.modified = dict(self._shared.modified)
            other._shared.clock = self._shared.clock
        return other

    def read(self, path: str) -> bytes | None:
        """See `Store.read`."""
        checked_path(path)
        fault = self._begin("read", path)
        self._fail(fault)
        with self._shared.lock:
            return self._shared.objects.get(path)

    def read_range(self, path: str, start: int, end: int) -> bytes | None:
        """See `Store.read_range`."""
        data = self.read(path)
        return None if data is None else data[start:end]

    def create(self, path: str, data: bytes) -> bool:
        """See `Store.create`."""
        checked_path(path)
        check_write_size(path, data)
        fault = self._begin("create", path)
        self._fail(fault, When.BEFORE, litter=(path, data))
        with self._shared.lock:
            created = path not in self._shared.objects
            if created:
                self._shared.put(path, data)
        self._fail(fault, When.AFTER)
        return created

    def replace(self, path: str, decide: Callable[[bytes | None], bytes | None]) -> bool:
        """See `Store.replace`. A change between reading and writing makes it decide again."""
        checked_path(path)
        fault = self._begin("replace", path)
        for _ in range(REPLACE_ATTEMPTS):
            with self._shared.lock:
                present = self._shared.objects.get(path)
                version = self._shared.modified.get(path)
            content = decide(present)
            if content is None:
                self._fail(fault)
                return False
            check_write_size(path, content)
            self._fail(fault, When.BEFORE, litter=(path, content))
            with self._shared.lock:
                if self._shared.modified.get(path) != version:
                    continue
                self._shared.put(path, content)
            self._fail(fault, When.AFTER)
            return True
        raise OutsideError(f"Other writers replaced {path} in every attempt.", "Run fewer writers.")

    def sync(self, path: str) -> None:
        """See `Store.sync`: whatever is visible here is durable already."""
        checked_path(path)
        self._fail(self._begin("sync", path))

    def delete(self, path: str) -> None:
        """See `Store.delete`."""
        checked_path(path)
        fault = self._begin("delete", path)
        self._fail(fault, When.BEFORE)
        with self._shared.lock:
            self._shared.drop(path)
        self._fail(fault, When.AFTER)

    def list(self, prefix: str = "") -> Iterator[StoredFile]:
        """See `Store.list`."""
        checked_prefix(prefix)
        self._fail(self._begin("list", prefix))
        folder = f"{prefix}/" if prefix else ""
        with self._shared.lock:
            found = [
                StoredFile(path, len(data), self._shared.modified[path])
                for path, data in self._shared.objects.items()
                if path.startswith(folder)
            ]
        return iter(found)

    def local_path(self, path: str) -> Path | None:
        """None: nothing lies on a disk."""
        checked_path(path)
        return None

    def _begin(self, op: str, path: str) -> Fault | None:
        """Record the step, let the test act first, and say whether the step is to fail."""
        if self.crashed:
            raise Crash(f"{op} {path}: this process is dead already")
        step = Step(op, path)
        self.calls.append(step)
        position = None
        if op in DURABLE_STEPS:
            position = self._durable_count
            self._durable_count += 1
        if self.on_step is not None and not self._acting:
            # What the test does through this very handle must not call it again.
            self._acting = True
            try:
                self.on_step(step)
            finally:
                self._acting = False
        chosen = None
        for plan in self._plans:
            if not plan.fault.matches(step, position):
                continue
            if plan.skip:
                plan.skip -= 1
            elif plan.times and chosen is None:
                plan.times -= 1
                chosen = plan.fault
        return chosen

    def _fail(
        self, fault: Fault | None, when: When | None = None, *, litter: tuple[str, bytes] | None = None
    ) -> None:
        """Raise what `fault` says, if it says so at this moment (None: at either)."""
        if fault is None or (when is not None and fault.when is not when):
            return
        if fault.litter and litter is not None and when is When.BEFORE:
            path, data = litter
            with self._shared.lock:
                folder = path.rpartition("/")[0]
                name = f"{int(self._shared.clock):032x}.tmp"
                self._shared.put(f"{folder}/{name}" if folder else name, data[: len(data) // 2])
        message = f"Simulated fault {fault.when.value} the effect."
        if fault.how is How.CRASH:
            self.crashed = True
            raise Crash(message)
        if fault.how is How.UNKNOWN:
            raise OutcomeUnknown(message, "Read back.")
        raise OutsideError(message, "None: this is a test.")
