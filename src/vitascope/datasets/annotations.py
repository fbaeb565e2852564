"""Annotations and predictions of temporal localization, in the layouts that data sets and published models come in.

| layout | what is given | recognised by |
| --- | --- | --- |
| ActivityNet, BaS-Net (`gt.json`), ActionFormer, DETAD | a JSON file | the key `database` |
| BMN, T3AL | a JSON file, `video_info_new.csv` beside it or as `info` | `annotations` of each video |
| W-TALC, CO2-Net, P-MIL, ProCL | a folder of parallel arrays | `videoname.npy` |
| THUMOS evaluation kit | a folder of texts, one a class | `<Class>_test.txt`, `<Class>_val.txt` |
| the owner's own | CSV or JSONL | see `datasets.tags` |

Ids are as in the file, but for the `v_` that some lists put before ActivityNet's. So are splits: "validation" of
THUMOS is what its models train on. Times are kept as they are, past the end or of no length too: protocols judge
those differently.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vitascope.datasets.manifest import read_text
from vitascope.datasets.tags import read_tags
from vitascope.datasets.unpickle import load_npy, load_pickle
from vitascope.structures import Annotation, Segments

Rows = list[tuple[str, float, float]]  # label, start, end

INFO = "video_info_new.csv"
_KIT = re.compile(r"(?P<label>.+)_(?P<split>test|val|validation|train)\.txt")
_LAYOUTS = (
    "JSON with `database`, JSON by video as BMN's, a folder with `videoname.npy`, a folder of `<Class>_test.txt`, or "
    "CSV or JSONL with `video` and `labels`"
)


def read_annotations(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    labels: Literal["official", "segments"] = "official",
    ambiguous: str | os.PathLike[str] | None = None,
    only: str | os.PathLike[str] | None = None,
    info: str | os.PathLike[str] | None = None,
) -> list[Annotation]:
    """Reads what is known of the videos of a data set, in any layout of this module's table.

    Args:
        path: The file or folder.
        split: Only the videos of this split, as the file names it.
        labels: `official` takes a video's own labels where the layout has them (W-TALC's `labels_all`, a few of which
            differ from the segments') and they are not empty; `segments` always those of its segments.
        ambiguous: File of stretches that are not to be judged, `video start end` a line; by default the
            `Ambiguous_*.txt` of a folder.
        only: File of ids, one a line; other videos are left out.
        info: BMN's CSV with the columns `video`, `subset` and perhaps `fps`.

    Raises:
        ValueError: The layout is not known, a value is wrong, or no video is left.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "gt.json")
        ...     one = {"subset": "test", "annotations": [{"segment": ["1.5", "4"], "label": "Jump"}]}
        ...     _ = file.write_text(json.dumps({"database": {"a": one}}))
        ...     known = read_annotations(file)[0]
        >>> known.id, known.labels, known.segments.times_seconds.tolist()
        ('a', ('Jump',), [[1.5, 4.0]])
    """
    path = Path(path)
    if labels not in ("official", "segments"):
        raise ValueError(f"labels ({labels!r}) must be 'official' or 'segments'")
    if path.is_dir():
        found, notes = _from_folder(path, labels, info)
    else:
        found, notes = _from_file(path, info), []
    notes = [Path(ambiguous)] if ambiguous is not None else notes
    stretches = _ambiguous(notes)
    found = [replace(known, ambiguous_seconds=stretches.get(video_id(known.id))) for known in found]
    return _chosen(found, path, split, only)


def read_predictions(path: str | os.PathLike[str], classes: tuple[str, ...] | None = None) -> dict[str, Segments]:
    """Reads detections: ActivityNet's JSON (`results`), leniently, or the pickle that ActionFormer writes.

    `version` and `external_data` may be missing, and `results` itself; times may be texts, names bytes. The order of
    the file is kept, since it decides between equal scores.

    Args:
        path: The file.
        classes: Names of classes by number, for files that have `label_id` in place of `label`.

    Returns:
        For each video its segments; `scores` is None where the file has none.

    Raises:
        ValueError: It is neither, or a value is wrong.

    Example:
        >>> import tempfile
        >>> one = {"label": "Jump", "score": 0.5, "segment": ["1.5", 4]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.json").write_text(json.dumps({"results": {"v_-_abcdefghi": [one]}}))
        ...     read_predictions(folder + "/a.json")
        {'-_abcdefghi': Segments(times_seconds=array([[1.5, 4. ]]), labels=('Jump',), scores=array([0.5]))}
    """
    path = Path(path)
    if _begins(path, b"\x80"):
        return _from_pickle(load_pickle(path), classes, path)
    content = _json(read_text(path), path)
    results = content.get("results", content) if isinstance(content, dict) else None
    if not isinstance(results, dict) or not all(isinstance(rows, list) for rows in results.values()):
        raise ValueError(
            f"{path} holds no predictions: it must be JSON with 'results', a list of segments for each video"
        )
    found: dict[str, Segments] = {}
    for name, rows in results.items():
        name = video_id(name)
        if name in found:
            raise ValueError(f"{path}: video ({name!r}) is there twice; keep one")
        found[name] = _predicted(rows, classes, f"{path}, {name}")
    return found


def video_id(name: Any) -> str:
    """The id that a list means: text, without the `v_` that some put before an ActivityNet (YouTube) id.

    Example:
        >>> video_id("v_---9CpRcKoU"), video_id(b"video_test_0000004"), video_id("v_Biking_g01_c01")
        ('---9CpRcKoU', 'video_test_0000004', 'v_Biking_g01_c01')
    """
    name = _text(name)
    return name[2:] if re.fullmatch(r"v_[\w-]{11}", name, re.ASCII) else name


def _from_file(path: Path, info: str | os.PathLike[str] | None) -> list[Annotation]:
    if path.suffix.lower() in (".csv", ".jsonl"):
        return read_tags(path)
    content = _json(read_text(path), path)
    videos = content.get("database", content) if isinstance(content, dict) else {}
    if not isinstance(videos, dict) or not all(isinstance(v, dict) for v in videos.values()):
        raise ValueError(f"{path} is of no layout that is known; give {_LAYOUTS}")
    if "database" not in content and not any("annotations" in video for video in videos.values()):
        raise ValueError(f"{path} is of no layout that is known; give {_LAYOUTS}")
    beside = path.parent / INFO
    if info is None and "database" not in content and beside.is_file():
        info = beside
    facts = {} if info is None else _info(Path(info))
    return _unique((_of_video(name, video, facts, path) for name, video in videos.items()), path)


def _of_video(name: str, video: dict[str, Any], facts: dict[str, dict[str, str]], path: Path) -> Annotation:
    """One entry of a JSON file, with what the CSV beside it says."""
    where, name = f"{path}, {name}", video_id(name)
    fact = facts.get(name, {})
    rows = video.get("annotations", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "label" in row for row in rows):
        raise ValueError(f"{where}: annotations must be a list of objects with 'label' and 'segment'")
    timed: Rows = [(_text(row["label"]), *_times(row["segment"], where)) for row in rows if "segment" in row]
    tags = tuple(dict.fromkeys(_text(row["label"]) for row in rows))
    is_tagged_only = "annotations" not in video or (bool(rows) and not timed)
    duration = video.get("duration", video.get("duration_second"))
    fps = video.get("fps", fact.get("fps"))
    return Annotation(
        name,
        tags,
        None if is_tagged_only else _segments(timed),
        _text(video.get("subset") or fact.get("subset") or ""),
        None if duration is None else _number(duration, "duration", where),
        None if fps is None else _number(fps, "fps", where),
    )


def _info(path: Path) -> dict[str, dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    if not rows or not {"video", "subset"} <= rows[0].keys():
        raise ValueError(f"{path} must be CSV with the columns video and subset")
    return {video_id(row["video"]): row for row in rows}


def _from_folder(path: Path, labels: str, info: str | os.PathLike[str] | None) -> tuple[list[Annotation], list[Path]]:
    notes = sorted(path.glob("Ambiguous_*.txt"))
    if (path / "videoname.npy").is_file():
        return _from_arrays(path, labels), notes
    kit = [file for file in sorted(path.glob("*.txt")) if _KIT.fullmatch(file.name) and file not in notes]
    kit = [file for file in kit if not file.name.startswith("split_")]
    if kit:
        return _from_kit(kit), notes
    files = [file for file in sorted(path.glob("*.json")) if (path / INFO).is_file()]
    if len(files) == 1:
        return _from_file(files[0], info), notes
    raise ValueError(f"{path} is of no layout that is known; give {_LAYOUTS}")


def _from_arrays(path: Path, labels: str) -> list[Annotation]:
    """W-TALC's folder. What is missing there (frame rates of ActivityNet) is not known; names may be bytes."""
    present = {file.stem: load_npy(file) for file in path.glob("*.npy") if file.stem in _ARRAYS}
    count = len(present["videoname"])
    for name, array in present.items():
        if len(array) != count:
            raise ValueError(f"{path}: {name}.npy has {len(array)} entries, must have {count} as videoname.npy")
    if "segments" in present and "labels" not in present:
        raise ValueError(f"{path}: segments.npy needs labels.npy beside it")
    return _unique((_of_row(present, i, labels, path) for i in range(count)), path)


_ARRAYS = ("videoname", "subset", "labels", "labels_all", "segments", "duration", "original_fps")


def _of_row(arrays: dict[str, np.ndarray], i: int, labels: str, path: Path) -> Annotation:
    name = video_id(arrays["videoname"][i])
    where = f"{path}, {name}"
    row = {key: array[i] for key, array in arrays.items()}
    timed, names = None, [_text(label) for label in row.get("labels", ())]
    if "segments" in row:
        if len(names) != len(row["segments"]):
            raise ValueError(f"{where}: {len(names)} labels, but {len(row['segments'])} segments")
        timed = [(label, *_times(times, where)) for label, times in zip(names, row["segments"])]
    official = [_text(label) for label in row.get("labels_all", ())]
    tags = official if official and (labels == "official" or not names) else names
    numbers = {key: _number(np.ravel(row[key])[0], key, where) for key in ("duration", "original_fps") if key in row}
    return Annotation(
        name,
        tuple(dict.fromkeys(tags)),
        None if timed is None else _segments(timed),
        _text(row.get("subset", "")),
        numbers.get("duration"),
        numbers.get("original_fps"),
    )


def _from_kit(files: list[Path]) -> list[Annotation]:
    """THUMOS's texts; a video that no class names is not known here."""
    found: dict[str, tuple[str, Rows]] = {}
    for file in files:
        match = _KIT.fullmatch(file.name)
        for name, start, end in _stretches(file):
            split, rows = found.setdefault(name, (match["split"], []))
            if split != match["split"]:
                raise ValueError(f"{file}: video ({name!r}) is in {split} already; each is in one split")
            rows.append((match["label"], start, end))
    annotations = []
    for name, (split, rows) in sorted(found.items()):
        rows.sort(key=lambda row: row[1:])
        annotations.append(Annotation(name, tuple(dict.fromkeys(row[0] for row in rows)), _segments(rows), split))
    return annotations


def _stretches(file: Path) -> list[tuple[str, float, float]]:
    """Lines `video start end`, with any white space between."""
    found = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip():
            continue
        parts, where = line.split(), f"{file}, line {number}"
        if len(parts) != 3:
            raise ValueError(f"{where}: {line.strip()[:60]!r} must be a video, a start and an end")
        found.append((video_id(parts[0]), *_times(parts[1:], where)))
    return found


def _ambiguous(files: list[Path]) -> dict[str, np.ndarray]:
    found: dict[str, list[tuple[float, float]]] = {}
    for file in files:
        for name, start, end in _stretches(file):
            found.setdefault(name, []).append((start, end))
    return {name: np.array(times, np.float64) for name, times in found.items()}


def _chosen(
    found: list[Annotation], path: Path, split: str | None, only: str | os.PathLike[str] | None
) -> list[Annotation]:
    splits = sorted({known.split for known in found})
    if split is not None:
        found = [known for known in found if known.split == split]
    if only is not None:
        ids = {video_id(line.strip()) for line in read_text(Path(only)).splitlines() if line.strip()}
        found = [known for known in found if video_id(known.id) in ids]
    if not found:
        raise ValueError(
            f"{path} has no video of split ({split}) and list ({only}); its splits are {', '.join(splits)}"
        )
    return found


def _unique(annotations: Iterable[Annotation], path: Path) -> list[Annotation]:
    found: dict[str, Annotation] = {}
    for known in annotations:
        if known.id in found:
            raise ValueError(f"{path}: video ({known.id!r}) is there twice; keep one")
        found[known.id] = known
    return list(found.values())


def _predicted(rows: list[Any], classes: tuple[str, ...] | None, where: str) -> Segments:
    if not all(isinstance(row, dict) and "segment" in row for row in rows):
        raise ValueError(f"{where}: predictions must be objects with 'label', 'score' and 'segment'")
    labels = tuple(_class(row.get("label", row.get("label_id")), classes, where) for row in rows)
    num_scored = sum("score" in row for row in rows)
    if num_scored not in (0, len(rows)):
        raise ValueError(f"{where}: {num_scored} of {len(rows)} predictions have a score; give it for all or for none")
    scores = [row["score"] for row in rows] if num_scored else ([] if not rows else None)
    return _checked([row["segment"] for row in rows], labels, scores, where)


def _from_pickle(content: Any, classes: tuple[str, ...] | None, path: Path) -> dict[str, Segments]:
    """ActionFormer's results: parallel lists or arrays over all detections."""
    keys = ("video-id", "t-start", "t-end", "label", "score")
    if not isinstance(content, dict) or not set(keys) <= {_text(key) for key in content}:
        raise ValueError(f"{path} holds no predictions: a pickle must have {', '.join(keys)}")
    content = {_text(key): value for key, value in content.items()}
    columns = [content[key] for key in keys]
    if len({len(column) for column in columns}) != 1:
        raise ValueError(f"{path}: {', '.join(keys)} must be of one length")
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, start, end, label, score in zip(*columns):
        row = {"segment": (start, end), "label": label, "score": score}
        rows.setdefault(video_id(name), []).append(row)
    return {name: _predicted(found, classes, f"{path}, {name}") for name, found in rows.items()}


def _checked(times: list[Any], labels: tuple[str, ...], scores: list[Any] | None, where: str) -> Segments:
    try:
        seconds = np.array(times, np.float64).reshape(len(times), 2)
        values = None if scores is None else np.array(scores, np.float64).reshape(len(times))
    except (TypeError, ValueError):
        raise ValueError(f"{where}: segments must be two numbers each, and scores one number each") from None
    if not np.isfinite(seconds).all() or (values is not None and not np.isfinite(values).all()):
        raise ValueError(f"{where}: times and scores must be finite numbers")
    return Segments(seconds, labels, values)


def _class(label: Any, classes: tuple[str, ...] | None, where: str) -> str:
    if isinstance(label, (str, bytes)):
        return _text(label)
    if classes is None or not isinstance(label, (int, np.integer)) or not 0 <= label < len(classes):
        allowed = (
            "give the names of the classes (a file of them, one a line)"
            if classes is None
            else f"it must be 0 to {len(classes) - 1}"
        )
        raise ValueError(f"{where}: label ({label!r}) is no name; {allowed}")
    return classes[label]


def _segments(rows: Rows) -> Segments:
    return Segments(np.array([row[1:] for row in rows], np.float64).reshape(-1, 2), tuple(row[0] for row in rows))


def _times(times: Any, where: str) -> tuple[float, float]:
    if not isinstance(times, (list, tuple, np.ndarray)) or len(times) != 2:
        raise ValueError(f"{where}: segment ({times!r}) must be a start and an end in seconds")
    start, end = (_number(value, "segment", where) for value in times)
    if end < start:
        raise ValueError(f"{where}: segment ({start}, {end}) ends before it starts")
    return start, end


def _number(value: Any, key: str, where: str) -> float:
    try:
        number = float(_text(value) if isinstance(value, bytes) else value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: {key} ({value!r}) must be a number")
    return number


def _text(value: Any) -> str:
    """Text of text or bytes; also of the `b'...'` that Python 3 makes of bytes that were not decoded."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    match = re.fullmatch(r"b'(.*)'", str(value))
    return match[1] if match else str(value)


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); give {_LAYOUTS}") from None


def _begins(path: Path, magic: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(magic)) == magic
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; give a file of predictions") from error
