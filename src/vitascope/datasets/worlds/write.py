"""Synthetic worlds -> a folder of real mp4 files with their truth beside them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vitascope.datasets.worlds.motion import MotionWorld
from vitascope.datasets.worlds.objects import ObjectsWorld
from vitascope.datasets.worlds.truth import WorldVideo
from vitascope.datasets.worlds.untrimmed import UntrimmedWorld
from vitascope.structures import Record
from vitascope.video.writer import VideoWriter, move_into_place, temporary_beside

VERSION = 1  # counted up when the same parameters come to mean other videos
SAVE_SECONDS = 1.0  # the truth of finished videos is saved no more often than this

World = MotionWorld | UntrimmedWorld | ObjectsWorld


def write_world(world: World, folder: str | os.PathLike[str]) -> list[Record]:
    """Writes a world as mp4 files, and skips what is there already; each file appears whole or not at all.

    | file | holds |
    | --- | --- |
    | `<id>.mp4` | the video, H.264 |
    | `<id>.masks.npz` | `masks` uint8 `[T, H, W]`, where the world has them |
    | `truth.json` | `world` (parameters), `hash`, and for each id its segments, shots, cuts, topic, labels, objects |
    | `manifest.csv` | `video,labels`, as `datasets.manifest` reads it |

    Args:
        world: What to write.
        folder: Where to; it is made. It may hold an earlier part of the same world, with fewer or more videos.

    Returns:
        One record for each video of the world, with its labels.

    Raises:
        ValueError: The folder holds another world.

    Example:
        >>> import tempfile
        >>> world = MotionWorld(num_videos=1, size=32, num_frames=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     records = write_world(world, folder)
        ...     sorted(os.listdir(folder))
        ['manifest.csv', 'motion_00000.masks.npz', 'motion_00000.mp4', 'truth.json']
        >>> records[0].id
        'motion_00000.mp4'
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    truth = _read_truth(world, folder)
    records, saved = [], time.monotonic()
    for index in range(len(world)):
        name = f"{world.name}_{index:05d}"
        if not _is_there(folder, name, truth["videos"].get(name)):
            truth["videos"][name] = _write_video(world, index, folder)
            if time.monotonic() - saved > SAVE_SECONDS:
                _save_truth(truth, folder)
                saved = time.monotonic()
        labels = tuple(truth["videos"][name]["labels"])
        records.append(Record(path=str(folder / f"{name}.mp4"), id=f"{name}.mp4", labels=labels))
    _save_truth(truth, folder)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerows([("video", "labels"), *((record.id, "|".join(record.labels)) for record in records)])
    manifest, content = folder / "manifest.csv", text.getvalue().encode()
    if not manifest.is_file() or manifest.read_bytes() != content:  # a list that stays has the time that it was made
        _save(manifest, lambda file: file.write(content))
    return records


def write_demo_worlds(folder: str | os.PathLike[str]) -> Path:
    """Writes the worlds of the demo, about 40 videos and 6 minutes in all, each into a folder of its own below `folder`."""
    worlds = (
        MotionWorld(num_videos=24),
        UntrimmedWorld(num_videos=12, seconds=20, props=True),
        ObjectsWorld(num_videos=4),
    )
    for world in worlds:
        write_world(world, Path(folder) / world.name)
    return Path(folder)


def hash_of(world: World) -> str:
    """Names a world by its parameters, 16 hex digits; the number of videos does not count, as no video depends on it.

    Example:
        >>> hash_of(MotionWorld(num_videos=3)) == hash_of(MotionWorld(num_videos=9))
        True
        >>> hash_of(MotionWorld(seed=1)) == hash_of(MotionWorld(seed=2))
        False
    """
    parameters = {key: value for key, value in _parameters(world).items() if key != "num_videos"}
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:16]


def _parameters(world: World) -> dict[str, Any]:
    fields = {key: float(value) if key in ("fps", "seconds") else value for key, value in asdict(world).items()}
    if not fields.get("props", True):
        del fields["props"]  # what is left out does not change the names of worlds without it
    return {"name": world.name, "version": VERSION, **fields}


def _read_truth(world: World, folder: Path) -> dict[str, Any]:
    path, name = folder / "truth.json", hash_of(world)
    if not path.exists():
        return {"world": _parameters(world), "hash": name, "videos": {}}
    truth = json.loads(path.read_text(encoding="utf-8"))
    if truth.get("hash") != name:
        raise ValueError(f"{folder} holds another world (hash {truth.get('hash')}, not {name}); choose an empty folder")
    return truth | {"world": _parameters(world)}


def _is_there(folder: Path, name: str, truth: dict[str, Any] | None) -> bool:
    if truth is None:
        return False
    files = [folder / f"{name}.mp4"] + ([folder / f"{name}.masks.npz"] if truth["has_masks"] else [])
    return all(file.is_file() and file.stat().st_size > 0 for file in files)


def _write_video(world: World, index: int, folder: Path) -> dict[str, Any]:
    video: WorldVideo = world[index]
    chunks = world.render(index) if video.frames is None else [video.frames]
    with VideoWriter(folder / f"{video.id}.mp4", video.fps) as writer:
        for frames in chunks:
            writer.write(frames)
    if video.masks is not None:
        _save(folder / f"{video.id}.masks.npz", lambda file: np.savez_compressed(file, masks=video.masks))
    return video.to_json() | {"has_masks": video.masks is not None}


def _save_truth(truth: dict[str, Any], folder: Path) -> None:
    text = json.dumps(truth | {"videos": dict(sorted(truth["videos"].items()))}, indent=1)
    _save(folder / "truth.json", lambda file: file.write(text.encode()))


def _save(path: Path, write: Callable[[Any], Any]) -> None:
    temporary = temporary_beside(path)
    try:
        with open(temporary, "wb") as file:
            write(file)
        move_into_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
