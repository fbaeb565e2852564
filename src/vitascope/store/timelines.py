"""Timelines as files that other programs open, and back: `write_timelines` and `read_timelines`.

| format | suffix | opens in | videos | times |
| --- | --- | --- | --- | --- |
| `activitynet` | `.json` | evaluation kits | all in one file | exact |
| `csv` | `.csv` | spreadsheets, pandas | all in one file; one without events is not in it | exact |
| `vtt` | `.vtt` | players and browsers, as subtitles | a file each | 1 ms |
| `eaf` | `.eaf` | ELAN | a file each | 1 ms |
| `boris` | `.boris` | BORIS | all in one file | 1 ms |

Whatever is written is read back with the same events, at the same times (to half a millisecond where the format counts in
milliseconds; a stretch without length gets one), with the same labels and scores.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Literal, get_args
from xml.etree.ElementTree import ParseError

import numpy as np

from vitascope.store.atomic import write_bytes
from vitascope.store.timeline_projects import Media, from_boris, from_eaf, to_boris, to_eaf
from vitascope.store.timeline_text import from_activitynet, from_csv, from_vtt, to_activitynet, to_csv, to_vtt
from vitascope.structures import Segments

TimelineFormat = Literal["activitynet", "csv", "vtt", "eaf", "boris"]
SUFFIXES = {"activitynet": ".json", "csv": ".csv", "vtt": ".vtt", "eaf": ".eaf", "boris": ".boris"}
ONE_VIDEO = ("vtt", "eaf")  # formats with a file for each video


def write_timelines(
    path: str | os.PathLike[str],
    timelines: dict[str, Segments] | Segments,
    format: TimelineFormat | None = None,
    *,
    media: dict[str, Media] | None = None,
) -> list[Path]:
    """Write the events of videos, and return the files.

    Args:
        path: The file; for a format with a file for each video, a folder, or a file name with its suffix for one video.
        timelines: Events by the id of their video; or those of one video, whose id is then the file's name.
        format: One of the table above; None goes by the suffix of `path`.
        media: Files of the videos by the same ids, for ELAN and BORIS to open.

    Raises:
        ValueError: The format is not known, an event is none, or several videos are to go into a file for one.
        WriteError: The system refuses.

    Example:
        >>> import tempfile
        >>> events = Segments(np.array([[1.5, 4.25]]), ("jump",), np.array([0.9]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write_timelines(f"{folder}/found.csv", {"a.mp4": events})
        ...     read_timelines(f"{folder}/found.csv")["a.mp4"].times_seconds.tolist()
        [[1.5, 4.25]]
    """
    path, media = Path(path), media or {}
    format = format_of(path, format)
    timelines = {path.stem: timelines} if isinstance(timelines, Segments) else timelines
    for video, segments in timelines.items():
        _check(video, segments)
    files = _files(path, list(timelines), format)
    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
    if format in ONE_VIDEO:
        for video, file in files.items():
            told = (timelines[video], media.get(video), file.parent)
            write_bytes(file, to_eaf(video, *told) if format == "eaf" else to_vtt(video, timelines[video]))
        return list(files.values())
    if format == "boris":
        data = to_boris(timelines, media)
    else:
        data = to_csv(timelines) if format == "csv" else to_activitynet(timelines)
    write_bytes(path, data)
    return [path]


def read_timelines(path: str | os.PathLike[str], format: TimelineFormat | None = None) -> dict[str, Segments]:
    """Read the events of videos by their ids; where all events of a video have scores, best first.

    Args:
        path: A file; or a folder, whose files of `format` are all read, at any depth.
        format: As of `write_timelines`.

    Raises:
        ValueError: A file is not of the format, or holds what none is written with, such as a time that is no number;
            two files hold the same video, or the format is not known.
        OSError: It cannot be read.
    """
    path = Path(path)
    format = format_of(path, format)
    if not path.is_dir():
        return _read(path, path.stem, format)
    found: dict[str, Segments] = {}
    for file in sorted(path.rglob(f"*{SUFFIXES[format]}")):
        read = _read(file, file.relative_to(path).with_suffix("").as_posix(), format)
        if repeated := found.keys() & read.keys():
            raise ValueError(f"{file} holds {min(repeated)!r}, as another file of {path} does; keep one of them there")
        found |= read
    return found


def format_of(path: Path, format: str | None) -> TimelineFormat:
    """Return the format as named, or that of the suffix; raises `ValueError` if there is none.

    Example:
        >>> format_of(Path("a.eaf"), None)
        'eaf'
    """
    allowed = get_args(TimelineFormat)
    if format is None:
        format = next((name for name in allowed if SUFFIXES[name] == path.suffix.lower()), None)
        if format is None:
            raise ValueError(f"{path} has no suffix of a timeline; name one of the formats {', '.join(allowed)}")
    if format not in allowed:
        raise ValueError(f"format ({format!r}) must be one of {', '.join(allowed)}")
    return format


def _read(file: Path, name: str, format: TimelineFormat) -> dict[str, Segments]:
    data = file.read_bytes()
    try:
        if format in ONE_VIDEO:
            found = from_eaf(data, name) if format == "eaf" else from_vtt(data, name)
        else:
            found = {"activitynet": from_activitynet, "csv": from_csv, "boris": from_boris}[format](data)
        for video, segments in found.items():
            _check(video, segments)
        return found
    except KeyError as error:
        raise ValueError(f"{file} is no {format} timeline: it has no {error}") from error
    except (ValueError, TypeError, AttributeError, IndexError, RecursionError, ParseError) as error:
        raise ValueError(f"{file} is no {format} timeline: {error}") from error


def _files(path: Path, videos: list[str], format: TimelineFormat) -> dict[str, Path]:
    """Return which file each video goes into."""
    suffix = SUFFIXES[format]
    if format not in ONE_VIDEO:
        return dict.fromkeys(videos, path)
    if path.suffix.lower() == suffix:
        if len(videos) != 1:
            raise ValueError(f"{path} holds one video, not {len(videos)}; name a folder")
        return {videos[0]: path}
    for video in videos:
        parts = PurePosixPath(video).parts
        if not parts or ".." in parts or PurePosixPath(video).is_absolute() or "\0" in video:
            raise ValueError(f"{video!r} cannot name a file in {path}; give videos ids without .. that are relative")
    return {video: path / f"{video}{suffix}" for video in videos}


def _check(video: str, segments: Segments) -> None:
    times = np.asarray(segments.times_seconds, np.float64)
    count = len(segments.labels)
    if times.size != 2 * count or (segments.scores is not None and len(segments.scores) != count):
        raise ValueError(f"segments of {video} must have as many times and scores as labels ({count})")
    times = times.reshape(-1, 2)
    if not np.isfinite(times).all() or (times < 0).any() or (times[:, 1] < times[:, 0]).any():
        raise ValueError(f"segments of {video} must have finite times >= 0, none ending before it starts")
    if segments.scores is not None and not np.isfinite(segments.scores).all():
        raise ValueError(f"segments of {video} must have finite scores, or none at all")
    for label in set(segments.labels):
        if not label.strip() or not label.isprintable():
            raise ValueError(f"label ({label!r}) of {video} must be one line of visible text")
