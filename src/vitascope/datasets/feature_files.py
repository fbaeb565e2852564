"""Features of snippets as other projects publish them, given the true times of their rows.

| layout | files | rows |
| --- | --- | --- |
| `basnet` | `.../{train,test}/{rgb,flow}/<id>.npy`, `[S, 1024]` each | 16 frames at 25 fps, end to end |
| `joint` | `.../{train,test}/<id>.npy`, `[S, 2048]`, or CLIP's `[S, 1024]` | the same |
| `wtalc` | `*JOINTFeatures.npy`, an object array in the order of `videoname.npy` | the same |
| `actionformer` | `<id>.npy`, `[S, 2048]` | every 4th frame at the video's own rate, 16 frames |

RGB comes before flow. Nothing in such a file tells when its rows are. A `manifest.json` in the folder does, `{"fps":
25, "stride": 16, "window": 16, "offset": 8, "backbone": ...}`: row `i` describes `window` frames around `(i * stride
+ offset) / fps`. Where there is none, the table is taken, and compared with the video's duration where that is known.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from vitascope.datasets.annotations import video_id
from vitascope.datasets.unpickle import load_npy
from vitascope.structures import Annotation, Features

Layout = Literal["basnet", "joint", "wtalc", "actionformer"]
MANIFEST = "manifest.json"
MOST_ROWS_APART = 2  # between two streams of a video, and between its features and its duration
_FACTS = ("columns", "backbone", "crop", "dtype")


@dataclass(frozen=True)
class Rows:
    """When rows are: row `i` describes `window` frames around `(i * stride + offset) / fps`, all in frames.

    Example:
        >>> Rows(fps=25, stride=16, window=16, offset=8).times_seconds(2).tolist()
        [[0.0, 0.64], [0.64, 1.28]]
    """

    fps: float
    stride: float
    window: float
    offset: float

    def __post_init__(self) -> None:
        if not (self.fps > 0 and self.stride > 0 and self.window > 0):
            raise ValueError(f"fps ({self.fps}), stride ({self.stride}) and window ({self.window}) must be > 0")

    def times_seconds(self, count: int) -> np.ndarray:
        """The stretches of `count` rows, float64 `[S, 2]`."""
        middles = np.arange(count) * self.stride + self.offset
        half = self.window / 2
        return np.stack([middles - half, middles + half], 1) / self.fps


@dataclass(frozen=True)
class FeatureFile:
    """The features of one video: calling it reads them."""

    id: str
    parts: tuple[Path | _Shared, ...]  # files side by side in columns, or rows of a shared one
    row: int | None
    rows: Rows
    manifest: dict[str, Any] = field(default_factory=dict)
    duration_seconds: float | None = None

    def __call__(self) -> Features:
        """Read the features, float16 or float32 `[S, D]`.

        Warns:
            UserWarning: They span another time than the video lasts, by more than two rows.

        Raises:
            ValueError: A file is damaged, holds no rows of finite numbers, or two differ by more than two rows.
        """
        arrays = [part.of_row(self.row) if isinstance(part, _Shared) else load_npy(part) for part in self.parts]
        arrays = [self._checked(np.asarray(array)) for array in arrays]
        lengths = [len(array) for array in arrays]
        if max(lengths) - min(lengths) > MOST_ROWS_APART:
            raise ValueError(f"{self.id}: its files have {' and '.join(map(str, lengths))} rows; extract them alike")
        values = np.concatenate([array[: min(lengths)] for array in arrays], axis=1)
        self._compare(len(values))
        manifest = {
            **self.manifest,
            "fps": self.rows.fps,
            "num_frames": self.rows.window,
            "stride_frames": 1,
            "hop_seconds": self.rows.stride / self.rows.fps,
            "dtype": str(values.dtype),
        }
        return Features(values, self.rows.times_seconds(len(values)), manifest)

    def _checked(self, array: np.ndarray) -> np.ndarray:
        if array.ndim != 2 or not array.size or array.dtype.kind != "f":
            raise ValueError(
                f"{self.id}: features ({array.dtype} {list(array.shape)}) must be floats [S, D], S and D > 0"
            )
        array = array if array.dtype == np.float16 else array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise ValueError(f"{self.id}: features must be finite; extract them again")
        return array

    def _compare(self, count: int) -> None:
        if not self.duration_seconds:  # lists write 0 where they do not know it
            return
        rows, frames = self.rows, (count - 1) * self.rows.stride + self.rows.window
        if abs(frames / rows.fps - self.duration_seconds) > MOST_ROWS_APART * rows.stride / rows.fps:
            warnings.warn(
                f"{self.id}: {count} rows, one every {rows.stride:g} frames at {rows.fps:g} fps, span "
                f"{frames / rows.fps:.1f} s, but the video lasts {self.duration_seconds:.1f} s; that would be "
                f"{frames / self.duration_seconds:.2f} fps: if times are off, give fps, stride and window",
                stacklevel=3,
            )


@dataclass
class _Shared:
    """A file of all videos, `num_names` in the list beside it; read when the first is asked for."""

    path: Path
    num_names: int

    @cached_property
    def array(self) -> np.ndarray:
        return load_npy(self.path)

    def of_row(self, row: int) -> np.ndarray:
        if len(self.array) != self.num_names:
            raise ValueError(
                f"{self.path} has {len(self.array)} rows, but videoname.npy {self.num_names}; give the names of this file"
            )
        return self.array[row]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "num_names": self.num_names}


def find_features(
    folder: str | os.PathLike[str],
    layout: Layout | None = None,
    *,
    known: Iterable[Annotation] = (),
    fps: float | None = None,
    stride: float | None = None,
    window: float | None = None,
    offset: float | None = None,
    names: str | os.PathLike[str] | None = None,
) -> dict[str, FeatureFile]:
    """Finds the features of a data set's videos; nothing of them is read yet.

    Args:
        folder: See the table of this module.
        layout: None finds it by the names of files, but for `<id>.npy` without a folder for each split.
        known: Their durations are compared with what the rows span; `actionformer` takes their frame rates.
        fps: Rate at which `stride`, `window` and `offset` count. These four go before the folder's manifest.
        stride: Frames from row to row.
        window: Frames that a row describes.
        offset: The middle of the first row, in frames.
        names: `videoname.npy` of `wtalc`, or its folder; by default in `folder` or a folder in it.

    Returns:
        For each id, as `annotations.video_id` has it, what reads its features.

    Raises:
        ValueError: There are no features, of no known layout, or two of one id.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "train").mkdir()
        ...     np.save(folder + "/train/a.npy", np.zeros((3, 2048), np.float32))
        ...     find_features(folder)["a"]().times_seconds[-1].tolist()
        [1.28, 1.92]
    """
    folder = Path(folder)
    layout = _layout_of(folder) if layout is None else layout
    if layout not in get_args(Layout):
        raise ValueError(f"layout ({layout!r}) must be one of {', '.join(get_args(Layout))}")
    written = _written(folder / MANIFEST)
    given = {"fps": fps, "stride": stride, "window": window, "offset": offset}
    fixed = {key: written[key] for key in given if key in written}
    fixed |= {key: value for key, value in given.items() if value is not None}
    facts = {key: written[key] for key in _FACTS if key in written}
    manifest = {"model": str(written.get("backbone", "i3d")), "layout": layout, **facts}
    videos = {video.id: video for video in known}
    found: dict[str, FeatureFile] = {}
    for name, parts, row in _parts(folder, layout, None if names is None else Path(names)):
        if name in found:
            raise ValueError(f"{folder}: features of {name!r} are there twice; keep one")
        video = videos.get(name, Annotation(name))
        rows = _rows(layout, fixed, video.fps)
        found[name] = FeatureFile(name, parts, row, rows, manifest, video.duration_seconds)
    if not found:
        raise ValueError(
            f"{folder} has no features of layout {layout}; see the layouts of vitascope.datasets.feature_files"
        )
    return found


def _rows(layout: Layout, fixed: dict[str, float], video_fps: float | None) -> Rows:
    """What is fixed, and of the layout what is not; an offset of its own goes with each window."""
    if layout == "actionformer":
        of_layout = {"fps": video_fps or 30.0, "stride": 4, "window": 16}
    else:
        of_layout = {"fps": 25.0, "stride": 16, "window": 16}
    values = of_layout | fixed
    values.setdefault("offset", values["window"] / 2)
    return Rows(**values)


def _layout_of(folder: Path) -> Layout:
    if _joint_files(folder):
        return "wtalc"
    if any(True for _ in _stream_folders(folder)):
        return "basnet"
    if any(folder.glob("*/*.npy")):
        return "joint"
    if any(folder.glob("*.npy")) and (folder / MANIFEST).is_file():
        return "joint"
    if any(folder.glob("*.npy")):
        raise ValueError(
            f"{folder} does not tell when its rows are: give layout='actionformer' (every 4th frame) or 'joint' (every "
            f"16th, at 25 fps), or write {MANIFEST} with fps, stride, window"
        )
    raise ValueError(f"{folder} has no .npy files of features in it or in a folder of it")


def _parts(
    folder: Path, layout: Layout, names: Path | None
) -> Iterable[tuple[str, tuple[Path | _Shared, ...], int | None]]:
    """Ids, their files, and the row in a file of all videos."""
    if layout == "wtalc":
        yield from _joint_rows(folder, names)
    elif layout == "basnet":
        for file in (file for rgb in _stream_folders(folder) for file in sorted(rgb.glob("*.npy"))):
            flow = file.parent.with_name("flow")
            if flow.is_dir() and not (flow / file.name).is_file():
                raise ValueError(f"{flow / file.name} is missing; give every video its flow, or leave out all flow")
            yield video_id(file.stem), (file, flow / file.name) if flow.is_dir() else (file,), None
    else:
        for file in sorted({*folder.glob("*.npy"), *folder.glob("*/*.npy")}):
            yield video_id(file.stem), (file,), None


def _stream_folders(folder: Path) -> Iterable[Path]:
    for pattern in ("rgb", "*/rgb", "*/*/rgb"):
        yield from (found for found in sorted(folder.glob(pattern)) if found.is_dir())


def _joint_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*JOINTFeatures.npy"))


def _joint_rows(folder: Path, names: Path | None) -> Iterable[tuple[str, tuple[_Shared, ...], int]]:
    files = _joint_files(folder)
    if len(files) != 1:
        raise ValueError(f"{folder} has {len(files)} files *JOINTFeatures.npy, must have 1")
    candidates = [folder / "videoname.npy", *sorted(folder.glob("*/videoname.npy"))]
    if names is not None:
        candidates = [names / "videoname.npy" if names.is_dir() else names]
    listed = [file for file in candidates if file.is_file()]
    if len(listed) != 1:
        raise ValueError(f"{folder} has {len(listed)} files videoname.npy, needs 1: give names, its path")
    listing = load_npy(listed[0])
    shared = _Shared(files[0], len(listing))
    for row, name in enumerate(listing):
        yield video_id(name), (shared,), row


def _written(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        written = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from None
    allowed = ("fps", "stride", "window", "offset", *_FACTS)
    unknown = [key for key in written if key not in allowed] if isinstance(written, dict) else ["not an object"]
    if unknown:
        raise ValueError(f"{path}: unknown key {unknown[0]!r}; the keys are {', '.join(allowed)}")
    for key in ("fps", "stride", "window", "offset"):
        if not isinstance(written.get(key, 1), (int, float)):
            raise ValueError(f"{path}: {key} ({written[key]!r}) must be a number")
    return written
