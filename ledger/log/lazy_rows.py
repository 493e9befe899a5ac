"""A mapping whose rows lie in columns until somebody asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Columns = dict[str, Sequence[Any]]


class LazyRows(MutableMapping[str, T], Generic[T]):
    """As a dict that was filled in the order of `keys`; `make(columns, i)` gives the value of key i.

    Keys and columns are turned into Python objects when they are first needed, a value when it is asked for;
    from then on it is the same object.
    """

    def __init__(
        self,
        size: int,
        keys: Callable[[], Sequence[str]],
        columns: Callable[[], Columns],
        make: Callable[[Columns, int], T],
    ) -> None:
        self._size = size
        self._load_keys = keys
        self._load_columns = columns
        self._make = make
        self._places: dict[str, int] | None = None
        self._columns: Columns | None = None
        self._made: dict[int, T] = {}
        self._gone: set[int] = set()
        self._added: dict[str, T] = {}

    def __getitem__(self, key: str) -> T:
        """The value of a key."""
        if key in self._added:
            return self._added[key]
        return self._value(self._place(key))

    def __setitem__(self, key: str, value: T) -> None:
        """Puts a value at its key's place, or at the end."""
        at = self._index().get(key, -1)
        if at >= 0 and at not in self._gone:
            self._made[at] = value
        else:
            self._added[key] = value

    def __delitem__(self, key: str) -> None:
        """Takes a key out."""
        if key in self._added:
            del self._added[key]
            return
        at = self._place(key)
        self._gone.add(at)
        self._made.pop(at, None)

    def __contains__(self, key: object) -> bool:
        """Whether the key is there."""
        if key in self._added:
            return True
        at = self._index().get(key, -1) if isinstance(key, str) else -1
        return at >= 0 and at not in self._gone

    def __iter__(self) -> Iterator[str]:
        """The keys, in the order in which they came."""
        for key, at in self._index().items():
            if at not in self._gone:
                yield key
        yield from self._added

    def __len__(self) -> int:
        """How many keys there are."""
        return self._size - len(self._gone) + len(self._added)

    def _index(self) -> dict[str, int]:
        if self._places is None:
            self._places = {key: at for at, key in enumerate(self._load_keys())}
        return self._places

    def _place(self, key: str) -> int:
        at = self._index()[key]
        if at in self._gone:
            raise KeyError(key)
        return at

    def _value(self, at: int) -> T:
        if at not in self._made:
            if self._columns is None:
                self._columns = self._load_columns()
            self._made[at] = self._make(self._columns, at)
        return self._made[at]
