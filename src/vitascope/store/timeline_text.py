"""Timelines as plain text: ActivityNet JSON, CSV, WebVTT. Bytes in, bytes out."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re

import numpy as np

from vitascope.structures import Segments

CSV_COLUMNS = ("video", "start_seconds", "end_seconds", "label", "score")
CUE_TIME = re.compile(r"(?:(\d+):)?(\d\d):(\d\d)\.(\d{3})")
SCORE = re.compile(r"score (\S+)")  # how a program's free text holds a score

Row = tuple[float, float, str, float | None]


def segments_of(rows: list[Row]) -> Segments:
    """Return rows `(start, end, label, score)` as segments, best first; in their order if any has no score.

    Example:
        >>> segments_of([(0.0, 1.0, "run", 0.2), (2.0, 3.0, "jump", 0.9)]).labels
        ('jump', 'run')
    """
    has_scores = bool(rows) and all(row[3] is not None for row in rows)
    rows = sorted(rows, key=lambda row: -row[3]) if has_scores else rows
    times = np.array([row[:2] for row in rows], np.float64).reshape(-1, 2)
    scores = np.array([row[3] for row in rows], np.float64) if has_scores else None
    return Segments(times, tuple(row[2] for row in rows), scores)


def rows_of(segments: Segments) -> list[Row]:
    """Return segments as rows `(start, end, label, score)`."""
    scores = [None] * len(segments.labels) if segments.scores is None else segments.scores.tolist()
    times = np.asarray(segments.times_seconds, np.float64).reshape(-1, 2).tolist()
    return [(start, end, label, score) for (start, end), label, score in zip(times, segments.labels, scores)]


def milliseconds(start: float, end: float) -> tuple[int, int]:
    """Return a stretch in whole milliseconds; what rounds to nothing gets one, as no program takes a stretch without length.

    Example:
        >>> milliseconds(1.2344, 2.0), milliseconds(1.0, 1.0)
        ((1234, 2000), (1000, 1001))
    """
    first = round(start * 1000)
    return first, max(round(end * 1000), first + 1)


def score_of(text: str | None) -> float | None:
    """Return the score that a person may have edited in a program; None where there is none, or no number.

    Example:
        >>> score_of("0.5"), score_of(""), score_of("high")
        (0.5, None, None)
    """
    try:
        score = float(text or "nan")
    except ValueError:
        return None
    return score if math.isfinite(score) else None


def to_activitynet(timelines: dict[str, Segments]) -> bytes:
    """Return the JSON that ActivityNet's evaluation takes as a submission; times in full precision."""
    results = {
        video: [
            {"label": label, "segment": [start, end]} | ({} if score is None else {"score": score})
            for start, end, label, score in rows_of(segments)
        ]
        for video, segments in timelines.items()
    }
    used = {"used": False, "details": ""}
    return json.dumps({"version": "VERSION 1.3", "results": results, "external_data": used}, indent=1).encode()


def from_activitynet(data: bytes) -> dict[str, Segments]:
    """Read `to_activitynet`, and the submissions of others; raises `KeyError`, `TypeError` or `ValueError` on other JSON."""
    return {
        video: segments_of(
            [
                (float(row["segment"][0]), float(row["segment"][1]), str(row["label"]), _number(row.get("score")))
                for row in rows
            ]
        )
        for video, rows in json.loads(data)["results"].items()
    }


def to_csv(timelines: dict[str, Segments]) -> bytes:
    """Return a table with a row an event; times and scores in full precision. A video without events has no row."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for video, segments in timelines.items():
        for start, end, label, score in rows_of(segments):
            table.writerow([video, repr(start), repr(end), label, "" if score is None else repr(score)])
    return file.getvalue().encode(errors="surrogateescape")


def from_csv(data: bytes) -> dict[str, Segments]:
    """Read a table with the columns of `to_csv` in any order, `score` and others being optional."""
    text = data.decode("utf-8-sig", errors="surrogateescape")
    table = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in CSV_COLUMNS[:-1] if name not in (table.fieldnames or ())]
    if missing:
        raise ValueError(f"it has no column {', '.join(missing)}")
    rows: dict[str, list[Row]] = {}
    for row in table:
        event = (float(row["start_seconds"]), float(row["end_seconds"]), row["label"], _number(row.get("score")))
        rows.setdefault(row["video"], []).append(event)
    return {video: segments_of(events) for video, events in rows.items()}


def to_vtt(video: str, segments: Segments) -> bytes:
    """Return subtitles: a cue an event, in order of time, its text the label and, below it, the score."""
    lines = ["WEBVTT", "", f"NOTE video {json.dumps(video)}", ""]
    cues = [(*milliseconds(start, end), label, score) for start, end, label, score in rows_of(segments)]
    for start, end, label, score in sorted(cues, key=lambda cue: cue[:3]):
        lines += [f"{_cue_time(start)} --> {_cue_time(end)}", html.escape(label, quote=False)]
        lines += ([] if score is None else [f"score {score!r}"]) + [""]
    return "\n".join(lines).encode()


def from_vtt(data: bytes, name: str) -> dict[str, Segments]:
    """Read subtitles: each cue's first line is a label; `name` is the video where no note tells it."""
    text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    if not text.startswith("WEBVTT"):
        raise ValueError("it does not begin with WEBVTT")
    rows: list[Row] = []
    for block in re.split(r"\n\n+", text):
        if block.startswith("NOTE video "):
            noted = _noted(block.removeprefix("NOTE video "))
            name = name if noted is None else noted
            continue
        lines = block.strip("\n").split("\n")
        at = next((i for i, line in enumerate(lines) if "-->" in line), None)
        if at is None or block.startswith(("NOTE", "STYLE", "REGION")):
            continue
        start, end = (_cue_seconds(mark) for mark in lines[at].split("-->"))
        told = SCORE.fullmatch(lines[at + 2]) if len(lines) > at + 2 else None
        label = html.unescape(lines[at + 1]) if len(lines) > at + 1 else ""
        rows.append((start, end, label, score_of(told[1]) if told else None))
    return {name: segments_of(rows)}


def _noted(text: str) -> str | None:
    """The video that a note of ours names; None for notes of others."""
    try:
        video = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return video if isinstance(video, str) else None


def _cue_time(value: int) -> str:
    hours, rest = divmod(value, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _cue_seconds(text: str) -> float:
    found = CUE_TIME.match(text.strip())
    if found is None:
        raise ValueError(f"{text.strip()!r} is no time of a cue, such as 00:01:02.500")
    hours, minutes, seconds, fraction = (int(part or 0) for part in found.groups())
    return (hours * 3_600_000 + minutes * 60_000 + seconds * 1000 + fraction) / 1000


def _number(value) -> float | None:
    return None if value is None or value == "" else float(value)
