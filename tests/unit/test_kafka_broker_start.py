"""The broker that the tests start: what it is given can be told from an option."""

from __future__ import annotations

from tests.broker.broker import cluster_id


def test_no_cluster_is_named_like_an_option() -> None:
    names = {cluster_id(bytes([first, *range(15)])) for first in range(256)}
    assert not [name for name in names if name.startswith("-")]
    assert {len(name) for name in names} == {22}
