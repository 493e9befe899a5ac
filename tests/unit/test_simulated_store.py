"""The simulator itself: a fault strikes where it was put, with or without its effect, and once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledger.errors import OutcomeUnknown, OutsideError
from ledger.storage.store import Store
from tests.simulated_store import Crash, Fault, How, SimulatedStore, Step, When, every_fault

STEPS: dict[str, Callable[[Store], object]] = {
    "create": lambda store: store.create("a/new", b"1234"),
    "replace": lambda store: store.replace("a/head", lambda present: b"2345"),
    "delete": lambda store: store.delete("a/head"),
    "sync": lambda store: store.sync("a/head"),
}


def test_it_is_a_store() -> None:
    store: Store = SimulatedStore()
    assert store.list() is not None


@pytest.mark.parametrize("op", STEPS)
@pytest.mark.parametrize("fault", every_fault(1), ids=lambda fault: f"{fault.when.value}-{fault.how.name}")
def test_a_fault_strikes_its_step_before_or_after_the_effect(op: str, fault: Fault) -> None:
    store = SimulatedStore([fault])
    store.create("a/head", b"1")
    before = store.snapshot()
    clean = store.fork()
    STEPS[op](clean)
    with pytest.raises(fault.how.value):
        STEPS[op](store)
    expected = dict(clean.objects if fault.when is When.AFTER else before)
    found = {path: data for path, data in store.objects.items() if not path.endswith(".tmp")}
    assert found == expected
    left = [data for path, data in store.objects.items() if path.endswith(".tmp")]
    assert len(left) == (fault.litter and op in ("create", "replace"))
    assert all(len(data) == 2 for data in left)
    assert [step.op for step in store.steps] == ["create", op]


@pytest.mark.parametrize("how", [How.OUTSIDE, How.UNKNOWN])
def test_a_fault_strikes_once(how: How) -> None:
    store = SimulatedStore([Fault(nth=0, how=how)])
    with pytest.raises(OutsideError):
        store.create("a", b"1")
    assert store.create("a", b"1")


def test_faults_are_aimed_by_operation_and_path() -> None:
    store = SimulatedStore(
        [
            Fault(op="create", path="tile/entries/*", skip=1, times=2, how=How.UNKNOWN),
            Fault(op="read", path="checkpoint"),
        ]
    )
    assert store.create("tile/0/000", b"")
    assert store.create("tile/entries/000.p/1", b"")
    for width in (2, 3):
        with pytest.raises(OutcomeUnknown):
            store.create(f"tile/entries/000.p/{width}", b"")
    assert store.create("tile/entries/000.p/2", b"")
    with pytest.raises(OutsideError):
        store.read("checkpoint")
    assert store.read("checkpoint") is None


def test_reads_and_listings_do_not_count_as_durable_steps() -> None:
    store = SimulatedStore([Fault(nth=1)])
    store.read("a")
    store.create("a", b"")
    list(store.list())
    store.read("a")
    with pytest.raises(OutsideError):
        store.delete("a")
    assert store.steps == (Step("create", "a"), Step("delete", "a"))
    assert [step.op for step in store.calls] == ["read", "create", "list", "read", "delete"]


def test_a_crashed_process_does_nothing_more_and_the_next_one_sees_what_it_left() -> None:
    store = SimulatedStore([Fault(nth=0, when=When.AFTER, how=How.CRASH)])
    with pytest.raises(Crash):
        store.create("a", b"1")
    with pytest.raises(Crash):
        store.delete("a")
    with pytest.raises(Crash):
        store.read("a")
    assert store.another().read("a") == b"1"


def test_a_crash_is_not_caught_as_an_exception() -> None:
    assert not issubclass(Crash, Exception)


def test_handles_share_objects_and_forks_do_not() -> None:
    store = SimulatedStore()
    store.create("a", b"1")
    sibling, copy = store.another(), store.fork()
    store.create("b", b"2")
    assert sibling.read("b") == b"2"
    assert copy.read("b") is None
    assert sibling.steps == ()


def test_a_snapshot_is_restored_exactly_for_every_handle() -> None:
    store = SimulatedStore()
    store.create("a", b"1")
    kept = store.snapshot()
    store.create("b", b"2")
    store.replace("a", lambda present: b"3")
    sibling = store.another()
    store.restore(kept)
    assert sibling.objects == {"a": b"1"}


def test_another_writer_can_act_right_before_a_step() -> None:
    other = SimulatedStore()
    store = other.another(on_step=lambda step: other.create(step.path, b"theirs"))
    assert not store.create("a", b"ours")
    assert store.read("a") == b"theirs"


def test_replace_decides_again_when_the_content_changed_in_between() -> None:
    store = SimulatedStore()
    other = store.another()
    seen: list[bytes | None] = []

    def decide(present: bytes | None) -> bytes:
        seen.append(present)
        if len(seen) == 1:
            other.replace("head", lambda present: b"theirs")
        return b"ours"

    assert store.replace("head", decide)
    assert seen == [None, b"theirs"]
    assert store.read("head") == b"ours"


def test_tampering_is_no_step() -> None:
    store = SimulatedStore([Fault(nth=0)])
    store.tamper("a", b"1")
    assert store.read("a") == b"1"
    store.tamper("a", None)
    assert store.objects == {}
    assert store.steps == ()
