"""A cut-out on disk: all of it is made in `DIR/unfinished`, and moved up into `DIR` when it is complete.

| in `DIR` | holds |
| --- | --- |
| `masks/NAME.png` | palette PNG of object ids, at the video's size, one a frame; or instead: |
| `masks.json` | for each object its compressed COCO RLE in every frame, null where it is not |
| `overlay.mp4` | the video with the objects painted on |
| `contact_sheet.png` | the frames most worth checking |
| `events.json` | what was asked, what came of it, and for every frame and object its state; moved up last |
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitascope.store import atomic
from vitascope.store.catalogue import content_hash

if TYPE_CHECKING:
    from torch import Tensor

UNFINISHED = "unfinished"
EVENTS = "events.json"
OUTPUTS = ("masks", "masks.json", "overlay.mp4", "contact_sheet.png", EVENTS)
BLOCK_BYTES = 1 << 16

Row = list[dict[str, Any]]  # one frame: for each object its frame, seconds, object, state, confidence, area, scores


class CutoutError(ValueError):
    """The folder holds something else, or is damaged, or another process writes to it."""


class Saved(NamedTuple):
    """Where a pass over the video stood."""

    tensors: dict[str, Tensor]
    plain: dict[str, Any]


class Cutout:
    """The folder of one cut-out.

    Args:
        folder: Where the result goes; it is made.
        asked: What the result follows from, as plain JSON values. A folder goes on with the same only.

    Raises:
        CutoutError: The folder holds something else.
        WriteError: The folder cannot be made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Cutout(folder, {"video": "a.mp4"})
        ...     Cutout(folder, {"video": "b.mp4"})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        vitascope.store.cutouts.CutoutError: ...: video was a.mp4, not b.mp4; name another folder, or delete this one
    """

    def __init__(self, folder: str | os.PathLike[str], asked: dict[str, Any]) -> None:
        self.folder, self.asked = Path(folder), asked
        self.work = self.folder / UNFINISHED
        before = asked_before(folder)
        if before is None:
            self._begin()
            return
        self._compare(before)
        if self.is_done or (self.work / EVENTS).exists():
            self.publish()

    @property
    def is_done(self) -> bool:
        """Whether the result is complete."""
        return (self.folder / EVENTS).exists()

    @property
    def head(self) -> dict[str, Any]:
        """What `events.json` says before its events."""
        return read_head(self.folder / EVENTS)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out; raises `CutoutError` if one is at work here."""
        import fcntl

        with open(self.work / "lock", "wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CutoutError(
                    f"{self.folder} is being written by another process; wait for it, or stop it"
                ) from None
            for folder in (self.work, self.work / "masks"):
                atomic.remove_stray(folder)
            for part in self.work.glob("**/.*.part"):  # a film or a mask of a process that was killed
                part.unlink(missing_ok=True)
            yield

    def part(self, name: str) -> Part:
        """One pass over the video, by its name."""
        return Part(self.work, name)

    def mask_path(self, name: str) -> Path:
        """Where the mask of a frame lies as long as the cut-out is unfinished."""
        return self.work / "masks" / f"{name}.png"

    def write_events(self, head: dict[str, Any], rows: Iterator[Row]) -> None:
        """Write `events.json`: `asked`, the fields of `head`, and every event on a line of its own."""
        with atomic.writing(self.work / EVENTS) as temp, open(temp, "w", encoding="utf-8") as file:
            file.write("{\n")
            for name, value in ({"asked": self.asked} | head).items():
                file.write(f"{json.dumps(name)}: {json.dumps(value)},\n")
            file.write('"events": [')
            before = "\n"
            for event in (event for row in rows for event in row):
                file.write(before + json.dumps(event))
                before = ",\n"
            file.write("\n]\n}\n")

    def publish(self) -> None:
        """Move what is complete up into the folder, `events.json` last; may be called again after a kill."""
        if (self.work / "masks.json").exists():
            shutil.rmtree(self.work / "masks", ignore_errors=True)
        for name in OUTPUTS:
            if (self.work / name).exists():
                os.replace(self.work / name, self.folder / name)
        atomic.sync(self.folder)
        shutil.rmtree(self.work, ignore_errors=True)

    def _begin(self) -> None:
        there = [name for name in OUTPUTS if (self.folder / name).exists()]
        if there:
            raise CutoutError(f"{self.folder} holds {there[0]} of something else; name another folder")
        try:
            (self.work / "masks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise atomic.WriteError(
                error.errno, f"cannot write into {self.folder}: {error.strerror}; name a folder that you may write to"
            ) from error
        atomic.write_json(self.work / "job.json", self.asked)

    def _compare(self, before: dict[str, Any]) -> None:
        names = [name for name in self.asked | before if before.get(name) != self.asked.get(name)]
        if names:
            told = ", ".join(
                f"{name} was {_said(before.get(name))}, not {_said(self.asked.get(name))}" for name in names
            )
            raise CutoutError(f"{self.folder}: {told}; name another folder, or delete this one")


class Part:
    """One pass over the video: its rows so far, and the state from which it goes on.

    The state remembers how long the file of rows was. What a killed process wrote after it is cut off.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.rows_path, self.state_path = folder / f"{name}.jsonl", folder / f"{name}.safetensors"

    def load(self) -> Saved | None:
        """The saved state, with the rows cut back to it; None at the very beginning.

        Raises:
            CutoutError: A file is damaged.
        """
        if not self.state_path.exists():
            self.rows_path.write_bytes(b"")
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.state_path, "pt") as file:
                plain = json.loads(file.metadata()["plain"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            if self.rows_path.stat().st_size < plain["num_bytes"]:
                raise ValueError(f"{self.rows_path.name} is shorter than it was")
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            folder = self.state_path.parent
            raise CutoutError(f"{self.state_path} is damaged ({error}); delete {folder} to begin again") from error
        os.truncate(self.rows_path, plain["num_bytes"])
        return Saved(tensors, plain)

    def append(self, row: Row) -> None:
        """Add the row of one frame."""
        with open(self.rows_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def save(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Save a state, whole or not at all, after the rows that it follows from."""
        from safetensors.torch import save

        atomic.sync(self.rows_path)
        plain = plain | {"num_bytes": self.rows_path.stat().st_size}
        own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        atomic.write_bytes(self.state_path, save(own, {"plain": json.dumps(plain)}))

    def rows(self, backwards: bool = False) -> Iterator[Row]:
        """The rows in the order in which they were added, or the last one first."""
        if not self.rows_path.exists():
            return
        lines = _lines_backwards(self.rows_path) if backwards else _lines(self.rows_path)
        for line in lines:
            yield json.loads(line)


class MasksFile:
    """Writes `masks.json` in the layout of YouTube-VIS, frame by frame; a context manager.

    Args:
        path: The file, which is there when the block ends without an error.
        objects: Ids.
        facts: Of the video: `name`, `width`, `height`, `length`.
        encode: Turns a mask bool `[H, W]` into compressed COCO RLE.
    """

    def __init__(
        self, path: Path, objects: list[int], facts: dict[str, Any], encode: Callable[[Any], dict[str, Any]]
    ) -> None:
        self._path, self._facts, self._encode = path, facts, encode
        self._parts = {o: path.with_name(f"object_{o}.jsonl") for o in objects}

    def __enter__(self) -> MasksFile:
        self._files = {o: open(part, "w", encoding="utf-8") for o, part in self._parts.items()}  # noqa: SIM115
        return self

    def append(self, mask: Any) -> None:
        """Add a frame: its mask uint8 `[H, W]`, or None where there is no frame."""
        for o, file in self._files.items():
            is_there = mask is not None and (mask == o).any()
            file.write(json.dumps(self._encode(mask == o) if is_there else None) + "\n")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for file in self._files.values():
            file.close()
        if kind is None:
            with atomic.writing(self._path) as temp, open(temp, "w", encoding="utf-8") as file:
                self._join(file)
        for part in self._parts.values():
            part.unlink(missing_ok=True)

    def _join(self, file: Any) -> None:
        videos, categories = [{"id": 1} | self._facts], [{"id": 1, "name": "object"}]
        file.write(f'{{\n"videos": {json.dumps(videos)},\n"categories": {json.dumps(categories)},\n"annotations": [')
        for k, (o, part) in enumerate(self._parts.items()):
            file.write(f'{"," if k else ""}\n{{"id": {o}, "video_id": 1, "category_id": 1, "segmentations": [')
            for i, line in enumerate(_lines(part)):
                file.write(("," if i else "") + "\n" + line)
            file.write("\n]}")
        file.write("\n]\n}\n")


def identity(path: str | os.PathLike[str]) -> str:
    """Tells a file, or a folder of files, from another: its name and a hash; of a folder's files names and sizes count.

    Raises:
        OSError: It cannot be read.
    """
    path = Path(os.path.abspath(path))
    if path.is_dir():
        files = sorted((entry.name, entry.stat().st_size) for entry in os.scandir(path) if entry.is_file())
        digest = hashlib.blake2b(repr(files).encode(), digest_size=16).hexdigest()
    else:
        digest = content_hash(path)
    return f"{path.name} ({digest[:12]})"


def asked_for(
    video: str | os.PathLike[str],
    mask: str | os.PathLike[str],
    objects: Iterable[int],
    as_rle: bool,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """What tells one cut-out from another, as `Cutout` takes it."""
    asked = {"video": identity(video), "mask": identity(mask), "objects": list(objects)}
    return asked | {"format": "rle" if as_rle else "png"} | facts


def asked_before(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the cut-out in a folder was asked for, finished or not; None if there is none.

    Raises:
        CutoutError: The folder has an `events.json` of another kind.
    """
    for path in (Path(folder, EVENTS), Path(folder, UNFINISHED, EVENTS)):
        if path.exists():
            return read_head(path).get("asked", {})
    job = Path(folder, UNFINISHED, "job.json")
    return json.loads(job.read_text()) if job.exists() else None


def read_head(path: Path) -> dict[str, Any]:
    """What an `events.json` says before its events, without reading those.

    Raises:
        CutoutError: It is another kind of file.
    """
    head = ""
    try:
        for line in _lines(path):
            if line.startswith('"events": ['):
                return json.loads(head.rstrip(",\n") + "}")
            head += line + "\n"
    except (OSError, ValueError):
        pass
    raise CutoutError(f"{path} is not an events.json of a cut-out; name another folder")


def _lines(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n")


def _lines_backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file, the last one first, in bounded memory."""
    with open(path, "rb") as file:
        end, rest = file.seek(0, os.SEEK_END), b""
        while end:
            start = max(0, end - BLOCK_BYTES)
            file.seek(start)
            rest, *lines = (file.read(end - start) + rest).split(b"\n")
            yield from (line for line in reversed(lines) if line)
            end = start
    if rest:
        yield rest


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
