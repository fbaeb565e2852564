"""The part of the demo that cuts an object out: of the objects world, whose truth is known, or of a clip of the user's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vitascope.cli.output import clock, printable, say
from vitascope.store.cutouts import CutoutError
from vitascope.structures import Curve, Figure, SegmentSummary, Table, Timeline

# it is hidden in part, leaves before a cut and returns after the next one; meanwhile a double of it is there
VIDEO, OBJECT = "objects_00001", 1
FRAMES_SHOWN = 8
ROWS_SHOWN = 3


class Task(NamedTuple):
    """A clip, the mask of its first frame, and which object of it; `truth` uint8 `[T, H, W]` where it is known."""

    video: Path
    mask: Path
    object_id: int | None = None
    truth: np.ndarray | None = None
    shots: tuple[tuple[float, float, str], ...] = ()  # start and end in seconds, place


def synthetic_task(data: Path, out: Path) -> Task:
    """An object of the objects world below `data`; the first of its true masks is written to `out`."""
    folder = data / "objects"
    with np.load(folder / f"{VIDEO}.masks.npz") as file:
        truth = file["masks"]
    shots = json.loads((folder / "truth.json").read_text())["videos"][VIDEO]["shots"]
    mask = out / f"{VIDEO}.png"
    mask.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(truth[0]).save(mask)
    places = tuple((shot["start_seconds"], shot["end_seconds"], shot["setup"]) for shot in shots)
    return Task(folder / f"{VIDEO}.mp4", mask, OBJECT, truth, places)


def task_of(mask: Path, entries: list) -> Task:
    """The clip that a mask belongs to: the one of its name (`monday.png` and `monday.mp4`), else the only one of its size.

    Raises:
        ValueError: There is no such clip, or more than one, or no such mask.
    """
    clips = [entry for entry in entries if entry.state != "refused"]
    found = [entry for entry in clips if Path(entry.path).stem == mask.stem]
    if not found:
        try:
            with Image.open(mask) as image:
                size = image.size
        except OSError as error:
            raise ValueError(f"{mask}: no such image; name the PNG that holds the mask") from error
        found = [entry for entry in clips if (entry.metadata["width"], entry.metadata["height"]) == size]
        if not found:
            raise ValueError(f"no clip has the size of {mask}, {size[0]}x{size[1]}; draw the mask at its clip's size")
    if len(found) > 1:
        names = [printable(Path(entry.path).name) for entry in found]
        rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
        example = f"{Path(names[0]).stem}.png"
        told = f"{', '.join(names[:3])}{rest}; name it like its clip, for example {example}"
        raise ValueError(f"{mask} may belong to {told}")
    return Task(Path(found[0].path), mask)


def cut_out(task: Task, out: Path) -> SegmentSummary:
    """Follow the object into `out`; a result of another mask, or of other weights, makes way."""
    from vitascope import api

    say(f"cutting out an object of {printable(task.video.name)}")
    try:
        return api.segment(task.video, task.mask, out, object_id=task.object_id, progress=True)
    except CutoutError:
        shutil.rmtree(out)
        return api.segment(task.video, task.mask, out, object_id=task.object_id, progress=True)


def parts(task: Task, done: SegmentSummary) -> list[Figure | Timeline | Curve | Table]:
    """What the report shows of a cut-out."""
    told = json.loads((Path(done.out) / "events.json").read_text())
    shown = [film(task, done, told["duration_seconds"]), timeline(task, told)]
    areas = [(f"object {o}, as found", [e for e in told["events"] if e["object"] == o]) for o in ids(told)]
    lines = [(name, tuple((e["seconds"], e["area"]) for e in events)) for name, events in areas]
    if task.truth is not None:
        share = (task.truth == task.object_id).mean((1, 2))
        times = [event["seconds"] for event in told["events"]]
        lines.append(("in truth", tuple(zip(times, share.tolist(), strict=True))))
        shown.append(score(task, done, told))
    return [*shown, Curve("Area of the object", "seconds", tuple(lines), "Share of the frame.")]


def film(task: Task, done: SegmentSummary, seconds: float) -> Figure:
    """Stretches of the film with the object painted on."""
    from vitascope import api

    edges = np.linspace(0, seconds, ROWS_SHOWN + 1)
    overlay, size = Path(done.out) / "overlay.mp4", 112
    rows = tuple(
        (f"{clock(start)} to {clock(end)}", api.film_strip(overlay, start, end, FRAMES_SHOWN, size))
        for start, end in zip(edges[:-1], edges[1:], strict=True)
    )
    caption = f"One mask was given, of the first frame of {printable(task.video.name)}; the rest was followed."
    return Figure("An object cut out", rows, caption)


def timeline(task: Task, told: dict[str, Any]) -> Timeline:
    """States in time, with what is true of them where it is known."""
    lanes = []
    for o in ids(told):
        own = [stretch for stretch in told["stretches"] if stretch["object"] == o]
        lanes.append((f"object {o}", tuple((s["start_seconds"], s["end_seconds"], s["state"]) for s in own)))
    if task.truth is not None:
        lanes += [("in truth", there(task, told["duration_seconds"])), ("shots", task.shots)]
    caption = (
        "Only frames in which it is visible are remembered; while it is absent or searched for nothing is painted."
    )
    return Timeline("Where it is, and where it is not", tuple(lanes), caption)


def there(task: Task, end: float) -> tuple[tuple[float, float, str], ...]:
    """The stretches in which the object is truly visible, or absent."""
    is_there = (task.truth == task.object_id).any((1, 2))
    turns = [0, *(np.flatnonzero(np.diff(is_there)) + 1).tolist(), len(is_there)]
    step = end / len(is_there)
    return tuple((a * step, b * step, "visible" if is_there[a] else "absent") for a, b in zip(turns[:-1], turns[1:]))


def score(task: Task, done: SegmentSummary, told: dict[str, Any]) -> Table:
    """How the masks compare with the truth; the first frame, which was given, does not count."""
    paths = sorted((Path(done.out) / "masks").glob("*.png"))[1:]
    found = np.stack([np.asarray(Image.open(path)) for path in paths]) == task.object_id
    truth = task.truth[1:] == task.object_id
    overlap, union = (found & truth).sum((1, 2)), (found | truth).sum((1, 2))
    is_there = truth.any((1, 2))
    rows = (
        ("J, mean over the frames in which it is there", float((overlap[is_there] / union[is_there]).mean())),
        ("frames without it", int((~is_there).sum())),
        ("of these, share without a mask", float((union[~is_there] == 0).mean())),
        ("mean confidence", told["objects"][0]["confidence"]),
    )
    caption = (
        f"Object {task.object_id} of {VIDEO}, {told['frames']} frames; J is the overlap of two masks over their union."
    )
    return Table("Against the truth", ("what", "figure"), rows, caption)


def ids(told: dict[str, Any]) -> list[int]:
    return [known["object"] for known in told["objects"]]
