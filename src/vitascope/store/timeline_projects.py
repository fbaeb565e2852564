"""Timelines as projects of annotation programs: ELAN and BORIS. Bytes in, bytes out; times in whole milliseconds."""

from __future__ import annotations

import json
import mimetypes
import os
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from vitascope.store.timeline_text import SCORE, Row, milliseconds, rows_of, score_of, segments_of
from vitascope.structures import Segments

SCHEMA = "http://www.w3.org/2001/XMLSchema-instance"
VIDEO_PROPERTY = "vitascope:video"
CONSTRAINTS = {  # of tiers that depend on others; ELAN expects all four to be named
    "Time_Subdivision": "Time subdivision of the parent annotation, without gaps",
    "Symbolic_Subdivision": "Symbolic subdivision of the parent annotation, in order",
    "Symbolic_Association": "One to one with the parent annotation",
    "Included_In": "Annotations within the parent annotation, gaps allowed",
}
KEYS = "abcdefghijklmnopqrstuvwxyz0123456789"  # a behaviour's key in BORIS
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # characters that XML 1.0 has no way to write
BORIS_FORMAT = "7.0"  # what versions 7 to 9 read and write

Event = tuple[int, int, str, "float | None"]  # start and end in milliseconds, label, score


class Media(NamedTuple):
    """The file of a video, for programs that play it."""

    path: str
    duration_seconds: float | None = None
    fps: float | None = None


def lanes(events: Iterable[Event], gap: int = 0) -> list[list[Event]]:
    """Spread events over as few lanes as need be, so that in none two overlap or lie nearer than `gap` milliseconds.

    Example:
        >>> [[event[:2] for event in lane] for lane in lanes([(0, 4, "a", None), (2, 6, "a", None), (4, 5, "a", None)])]
        [[(0, 4), (4, 5)], [(2, 6)]]
    """
    spread: list[list[Event]] = []
    for event in sorted(events, key=lambda event: event[:2]):
        free = next((lane for lane in spread if lane[-1][1] + gap <= event[0]), None)
        if free is None:
            spread.append([event])
        else:
            free.append(event)
    return spread


def events_by_label(segments: Segments) -> dict[str, list[Event]]:
    """Return the events of each label in whole milliseconds, labels in order of appearance."""
    events: dict[str, list[Event]] = {}
    for start, end, label, score in rows_of(segments):
        events.setdefault(label, []).append((*milliseconds(start, end), label, score))
    return events


def to_eaf(video: str, segments: Segments, media: Media | None, folder: Path) -> bytes:
    """Return an ELAN document (EAF 3.0): a tier a label, more where its events overlap, and its scores in a tier below.

    Args:
        video: Its id, kept as a property of the document.
        segments: Its events.
        media: Its file, which ELAN opens.
        folder: Where the document will lie, for the relative path of the file.
    """
    ElementTree.register_namespace("xsi", SCHEMA)
    root = ElementTree.Element("ANNOTATION_DOCUMENT", AUTHOR="", DATE=_now(), FORMAT="3.0", VERSION="3.0")
    root.set(f"{{{SCHEMA}}}noNamespaceSchemaLocation", "http://www.mpi.nl/tools/elan/EAFv3.0.xsd")
    header = ElementTree.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    if media is not None:
        kind = mimetypes.guess_type(media.path)[0] or "unknown"
        where = Path(os.path.abspath(media.path)).as_posix()
        relative = Path(os.path.relpath(media.path, folder)).as_posix()
        # as ELAN writes them: spaces and letters of any language as they are
        urls = {"MEDIA_URL": f"file://{'' if where[:1] == '/' else '/'}{where}", "RELATIVE_MEDIA_URL": f"./{relative}"}
        ElementTree.SubElement(
            header, "MEDIA_DESCRIPTOR", {name: _text(url) for name, url in urls.items()}, MIME_TYPE=kind
        )
    ElementTree.SubElement(header, "PROPERTY", NAME=VIDEO_PROPERTY).text = json.dumps(video)
    tiers = [lane for events in events_by_label(segments).values() for lane in lanes(events)]
    order = ElementTree.SubElement(root, "TIME_ORDER")
    places = [(i, j, side) for i, tier in enumerate(tiers) for j in range(len(tier)) for side in (0, 1)]
    marks = sorted((tiers[i][j][side], (i, j, side)) for i, j, side in places)
    slots = {place: f"ts{n}" for n, (_, place) in enumerate(marks, 1)}
    for value, place in marks:
        ElementTree.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slots[place], TIME_VALUE=str(value))
    count = _tiers(root, tiers, slots)
    ElementTree.SubElement(header, "PROPERTY", NAME="lastUsedAnnotationId").text = str(count)
    kind = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "action", "TIME_ALIGNABLE": "true"}
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", kind)
    kind |= {"LINGUISTIC_TYPE_ID": "score", "TIME_ALIGNABLE": "false", "CONSTRAINTS": "Symbolic_Association"}
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", kind)
    for name, sentence in CONSTRAINTS.items():
        ElementTree.SubElement(root, "CONSTRAINT", DESCRIPTION=sentence, STEREOTYPE=name)
    ElementTree.indent(root)
    return ElementTree.tostring(root, "UTF-8", xml_declaration=True) + b"\n"


def _tiers(root: ElementTree.Element, tiers: list[list[Event]], slots: dict[tuple[int, int, int], str]) -> int:
    """Add the tiers and, below each, that of its scores; returns how many annotations there are."""
    names: set[str] = set()
    count = 0
    for i, events in enumerate(tiers):
        name = _free_name(events[0][2], names)
        tier = ElementTree.SubElement(root, "TIER", LINGUISTIC_TYPE_REF="action", TIER_ID=name)
        scored = []
        for j, (_, _, label, score) in enumerate(events):
            count += 1
            marks = {"TIME_SLOT_REF1": slots[i, j, 0], "TIME_SLOT_REF2": slots[i, j, 1]}
            _annotation(tier, "ALIGNABLE_ANNOTATION", label, {"ANNOTATION_ID": f"a{count}"} | marks)
            scored += [] if score is None else [(f"a{count}", score)]
        if not scored:
            continue
        below = _free_name(f"{name} score", names)
        tier = ElementTree.SubElement(root, "TIER", LINGUISTIC_TYPE_REF="score", PARENT_REF=name, TIER_ID=below)
        for parent, score in scored:
            count += 1
            ids = {"ANNOTATION_ID": f"a{count}", "ANNOTATION_REF": parent}
            _annotation(tier, "REF_ANNOTATION", repr(score), ids)
    return count


def _annotation(tier: ElementTree.Element, kind: str, value: str, attributes: dict[str, str]) -> None:
    annotation = ElementTree.SubElement(ElementTree.SubElement(tier, "ANNOTATION"), kind, attributes)
    ElementTree.SubElement(annotation, "ANNOTATION_VALUE").text = value


def _free_name(name: str, taken: set[str]) -> str:
    wanted, count = name, 1
    while name in taken:
        count += 1
        name = f"{wanted} ({count})"
    taken.add(name)
    return name


def from_eaf(data: bytes, name: str) -> dict[str, Segments]:
    """Read an ELAN document: every annotation of a tier that depends on no other is an event.

    Its label is what stands in it or, where that is nothing, the name of its tier. `name` is the video where the document
    does not tell it.
    """
    if b"<!DOCTYPE" in data:  # none is needed, and one may swell without end
        raise ValueError("it holds a DOCTYPE; save it with ELAN again")
    root = ElementTree.fromstring(data)
    if root.tag != "ANNOTATION_DOCUMENT":
        raise ValueError(f"its outermost element is {root.tag}, not ANNOTATION_DOCUMENT")
    told = next((p.text for p in root.iter("PROPERTY") if p.get("NAME") == VIDEO_PROPERTY and p.text), None)
    name = name if told is None else str(json.loads(told))
    slots = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    scores: dict[str | None, float | None] = {}
    for tier in root.iter("TIER"):
        if tier.get("LINGUISTIC_TYPE_REF") == "score":
            found = tier.iter("REF_ANNOTATION")
            scores |= {each.get("ANNOTATION_REF"): score_of(each.findtext("ANNOTATION_VALUE")) for each in found}
    rows: list[Row] = []
    for tier in root.iter("TIER"):
        for each in tier.iter("ALIGNABLE_ANNOTATION") if tier.get("PARENT_REF") is None else ():
            marks = [slots.get(each.get(f"TIME_SLOT_REF{side}")) for side in (1, 2)]
            if None in marks:
                raise ValueError(f"annotation {each.get('ANNOTATION_ID')} has no time; align it in ELAN")
            label = each.findtext("ANNOTATION_VALUE") or tier.get("TIER_ID", "")
            score = scores.get(each.get("ANNOTATION_ID"))
            rows.append((int(marks[0]) / 1000, int(marks[1]) / 1000, label, score))
    return {name: segments_of(rows)}


def to_boris(timelines: dict[str, Segments], media: dict[str, Media]) -> bytes:
    """Return a BORIS project: an observation a video, a state event a segment, scores as comments where it starts.

    BORIS pairs the starts and stops of a behaviour and a subject, so a behaviour's events that overlap or touch get
    subjects of their own, `overlap 2` and on.
    """
    events = {video: _boris_events(segments) for video, segments in timelines.items()}
    labels = dict.fromkeys(label for segments in timelines.values() for label in segments.labels)
    subjects = sorted({event[1] for found in events.values() for event in found} - {""})
    project = {
        "time_format": "hh:mm:ss",
        "project_date": _now()[:19],
        "project_name": "timelines",
        "project_description": "",
        "project_format_version": BORIS_FORMAT,
        "subjects_conf": {str(i): {"key": "", "name": name, "description": ""} for i, name in enumerate(subjects)},
        "behaviors_conf": {str(i): _behaviour(label, KEYS[i % len(KEYS)]) for i, label in enumerate(labels)},
        "observations": {video: _observation(found, media.get(video)) for video, found in events.items()},
        "behavioral_categories": [],
        "independent_variables": {},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
    }
    return json.dumps(project, indent=1).encode()


def _boris_events(segments: Segments) -> list[list[Any]]:
    """Return starts and stops in order of time: seconds, subject, behaviour, modifier, comment."""
    events = []
    for label, found in events_by_label(segments).items():
        for i, lane in enumerate(lanes(found, gap=1)):
            subject = f"overlap {i + 1}" if i else ""
            for start, end, _, score in lane:
                comment = "" if score is None else f"score {score!r}"
                events += [[start / 1000, subject, label, "", comment], [end / 1000, subject, label, "", ""]]
    return sorted(events, key=lambda event: event[0])


def _behaviour(label: str, key: str) -> dict[str, Any]:
    empty = dict.fromkeys(("description", "category", "excluded", "coding map", "color"), "")
    return {"type": "State event", "key": key, "code": label, "modifiers": {}} | empty


def _observation(events: list[list[Any]], media: Media | None) -> dict[str, Any]:
    info: dict[str, dict[str, Any]] = {"length": {}, "fps": {}, "hasVideo": {}, "hasAudio": {}, "offset": {"1": 0.0}}
    path = "" if media is None else os.path.abspath(media.path)
    if media is not None:
        info["hasVideo"][path], info["hasAudio"][path] = True, False
        info["length"] |= {} if media.duration_seconds is None else {path: media.duration_seconds}
        info["fps"] |= {} if media.fps is None else {path: media.fps}
    return {
        "file": {str(i): [path] if path and i == 1 else [] for i in range(1, 9)},
        "type": "MEDIA",
        "date": _now()[:19],
        "description": "",
        "time offset": 0.0,
        "events": events,
        "observation time interval": [0, 0],
        "independent_variables": {},
        "visualize_spectrogram": False,
        "visualize_waveform": False,
        "close_behaviors_between_videos": False,
        "media_info": info,
    }


def from_boris(data: bytes) -> dict[str, Segments]:
    """Read a BORIS project: state events by pairs of start and stop, point events as stretches without length."""
    project = json.loads(data)
    kinds = {row["code"]: row["type"] for row in project["behaviors_conf"].values()}
    return {
        video: segments_of(_boris_rows(video, observation["events"], kinds))
        for video, observation in project["observations"].items()
    }


def _boris_rows(video: str, events: list[list[Any]], kinds: dict[str, str]) -> list[Row]:
    begun: dict[tuple[str, str, str], tuple[float, float | None]] = {}
    rows: list[Row] = []
    for seconds, subject, code, modifier, comment, *_ in sorted(events, key=lambda event: float(event[0])):
        told = SCORE.fullmatch(comment)
        score, key = score_of(told[1]) if told else None, (subject, code, str(modifier))
        if kinds.get(code, "").lower().startswith("point"):
            rows.append((float(seconds), float(seconds), code, score))
        elif key in begun:
            start, score = begun.pop(key)
            rows.append((start, float(seconds), code, score))
        else:
            begun[key] = (float(seconds), score)
    if begun:
        (_, code, _), (start, _) = next(iter(begun.items()))
        raise ValueError(f"{code} of {video} starts at {start:g} s and never stops; give it a stop in BORIS")
    return rows


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _text(path: str) -> str:
    """A path as text that XML may hold; bytes and characters of a name that it may not become question marks."""
    return NOT_XML.sub("\ufffd", os.fsencode(path).decode(errors="replace"))
