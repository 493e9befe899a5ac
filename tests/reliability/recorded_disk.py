"""What a process did to a folder, call by call, and what a disk may hold of it after the power went.

Strict POSIX: what was written to a file is there for certain only after an fsync of the file, and a name
only after an fsync of the folder that it was made in. The rest may be there or not, piece by piece.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Name = tuple[str, str]
"""A folder, relative to the root, and a name in it."""
WATCHED = ("open", "write", "fsync", "link", "rename", "unlink", "mkdir")


@dataclass(frozen=True, slots=True)
class Call:
    """One call that changed something. `file` is the number of a file, `source` a rename's old name."""

    op: str
    place: Name = ("", "")
    file: int = 0
    data: bytes = b""
    source: Name = ("", "")


@dataclass
class Left:
    """What is on a disk: names of files, folders, and what the files hold."""

    names: dict[Name, int]
    folders: set[Name]
    contents: dict[int, bytes]

    def copy(self) -> Left:
        return Left(dict(self.names), set(self.folders), dict(self.contents))

    def apply(self, call: Call) -> None:
        """Take in one call that changes names."""
        match call.op:
            case "create" | "link":
                self.names[call.place] = call.file
            case "rename":
                self.names[call.place] = call.file
                if self.names.get(call.source) == call.file:
                    del self.names[call.source]
            case "unlink":
                self.names.pop(call.place, None)
            case "mkdir":
                self.folders.add(call.place)

    def put(self, root: Path) -> None:
        """Write it to a folder; what lies in a folder that is not there is lost with it."""
        root.mkdir(parents=True)
        there = {"."}
        for folder, name in sorted(self.folders, key=_depth):
            if folder in there:
                path = name if folder == "." else f"{folder}/{name}"
                there.add(path)
                (root / path).mkdir()
        for (folder, name), file in self.names.items():
            if folder in there:
                (root / folder / name).write_bytes(self.contents[file])
                (root / folder / name).chmod(0o600)


class RecordedDisk:
    """The calls on everything below `root`, and what was there when the recording began."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[Call] = []
        self._files = 0
        self._by_descriptor: dict[int, int] = {}
        self.before = Left({}, set(), {})
        for path in sorted(root.rglob("*")):
            place = self._place(path, None)
            assert place is not None
            if path.is_dir():
                self.before.folders.add(place)
            else:
                self.before.names[place] = self._new()
                self.before.contents[self._files] = path.read_bytes()
        self._now = self.before.copy()

    def mark(self, what: str) -> None:
        """Remember that the caller was told something at this point."""
        self.calls.append(Call("told", ("", what)))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what this process does, from one thread."""
        real = {name: getattr(os, name) for name in WATCHED}
        for name, call in real.items():
            setattr(os, name, self._watched(getattr(self, f"_after_{name}"), call))
        try:
            yield
        finally:
            for name, call in real.items():
                setattr(os, name, call)

    def after(self, cut: int, chance: random.Random, share: float) -> Left:
        """What a disk may hold where the power went after `cut` calls.

        Of what was not synced each piece is kept with the chance `share`; of a file's bytes a part.
        """
        left = self.before.copy()
        waiting: list[Call] = []
        written: dict[int, bytes] = {}
        for call in self.calls[:cut]:
            match call.op:
                case "write":
                    written[call.file] = written.get(call.file, b"") + call.data
                case "fsync":
                    left.contents[call.file] = written[call.file] = call.data
                case "fsync folder":
                    folder = call.place[0]
                    for one in waiting:
                        if one.place[0] == folder:
                            left.apply(one)
                    waiting = [one for one in waiting if one.place[0] != folder]
                case "create" | "link" | "rename" | "unlink" | "mkdir":
                    waiting.append(call)
        for call in waiting:
            if chance.random() < share:
                left.apply(call)
        for file in left.names.values():
            synced, all_of_it = left.contents.get(file, b""), written.get(file, b"")
            if len(all_of_it) > len(synced):
                kept = (
                    all_of_it if chance.random() < share else all_of_it[: chance.randint(0, len(all_of_it))]
                )
                # A block that was given to the file and never written reads as zeros.
                torn = bytes(len(kept)) if chance.random() < 0.2 else kept
                left.contents[file] = kept if share == 1.0 else torn
            left.contents.setdefault(file, b"")
        return left

    def _new(self) -> int:
        self._files += 1
        return self._files

    def _watched(self, note: Callable[..., None], real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            note(result, *arguments, **options)
            return result

        return call

    def _place(self, given: Any, folder: int | None) -> Name | None:
        base = Path.cwd() if folder is None else _folder_of(folder)
        path = base / os.fspath(given)
        if path == self.root or not path.is_relative_to(self.root):
            return None
        return str(path.parent.relative_to(self.root)), path.name

    def _add(self, call: Call) -> None:
        self.calls.append(call)
        self._now.apply(call)

    def _after_open(
        self, result: int, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> None:
        self._by_descriptor.pop(result, None)
        place = self._place(path, dir_fd)
        if place is None or not flags & (os.O_WRONLY | os.O_RDWR):
            return
        if place not in self._now.names:
            self._add(Call("create", place, self._new()))
        self._by_descriptor[result] = self._now.names[place]

    def _after_write(self, result: int, descriptor: int, data: Any) -> None:
        file = self._by_descriptor.get(descriptor)
        if file is not None:
            self.calls.append(Call("write", file=file, data=bytes(data[:result])))

    def _after_fsync(self, _: None, descriptor: int) -> None:
        file = self._by_descriptor.get(descriptor)
        if file is not None:
            # Read back: what went through a buffer of Python's was not seen as it was written.
            data = Path(f"/proc/self/fd/{descriptor}").read_bytes()
            self.calls.append(Call("fsync", file=file, data=data))
            return
        path = _folder_of(descriptor)
        if path.is_relative_to(self.root):
            self.calls.append(Call("fsync folder", (str(path.relative_to(self.root)), "")))

    def _after_link(self, _: None, source: Any, target: Any, **folders: int | None) -> None:
        old, new = self._pair(source, target, **folders)
        self._add(Call("link", new, self._now.names[old]))

    def _after_rename(self, _: None, source: Any, target: Any, **folders: int | None) -> None:
        old, new = self._pair(source, target, **folders)
        self._add(Call("rename", new, self._now.names[old], source=old))

    def _pair(
        self, source: Any, target: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> tuple[Name, Name]:
        old, new = self._place(source, src_dir_fd), self._place(target, dst_dir_fd)
        assert old is not None
        assert new is not None
        return old, new

    def _after_unlink(self, _: None, path: Any, *, dir_fd: int | None = None) -> None:
        place = self._place(path, dir_fd)
        if place is not None:
            self._add(Call("unlink", place))

    def _after_mkdir(self, _: None, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        place = self._place(path, dir_fd)
        if place is not None:
            self._add(Call("mkdir", place))


def _depth(folder: Name) -> int:
    return 0 if folder[0] == "." else folder[0].count("/") + 1


def _folder_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()
