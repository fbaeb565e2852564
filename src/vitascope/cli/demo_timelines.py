"""The part of the demo that dates actions from tags: of the untrimmed world, whose truth is known, or of the user's videos."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import NamedTuple

from vitascope.cli.output import printable, say
from vitascope.store.library import Library
from vitascope.store.timelines import read_timelines
from vitascope.structures import LocalizeSummary, Segments, Table, Timeline

WORLD = "untrimmed"
VIDEOS_SHOWN = 3
LEAST = 0.3  # score of what is shown
STEPS = ("warmup_steps=60", "f_steps=60")
TINY = "tiny"  # the CLIP that knows the synthetic worlds


class Tagged(NamedTuple):
    """A list of tags, the folder that its paths start from, true times where they are known, and a CLIP that knows the names."""

    tags: Path
    data: Path
    truth: Path | None = None
    clip: str | None = None


def synthetic_tags(data: Path, out: Path) -> Tagged:
    """The tags of the untrimmed world below `data`; its true times are written to `out`, as a list."""
    folder = data / WORLD
    videos = json.loads((folder / "truth.json").read_text())["videos"]
    truth = out / f"{WORLD}.csv"
    truth.parent.mkdir(parents=True, exist_ok=True)
    with truth.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("video", "labels", "start", "end"))
        for name, known in videos.items():
            rows.writerows(
                (f"{name}.mp4", one["label"], one["start_seconds"], one["end_seconds"]) for one in known["segments"]
            )
    return Tagged(folder / "manifest.csv", folder, truth, TINY)


def date_actions(tagged: Tagged, library: Path, encoder: str, out: Path) -> LocalizeSummary:
    """Learn from the tags by the features of a run, and write timelines; what an earlier demo learned so is not learned anew."""
    from vitascope import api

    say(f"learning from {printable(str(tagged.tags))} when actions happen")
    encoder = f"run:{encoder}"
    how = {"data": tagged.data, "truth": tagged.truth, "library": library, "out": out, "progress": True}
    how |= {"changes": STEPS, "clip": tagged.clip, "encoder": encoder}
    return api.localize(tagged.tags, run=earlier_run(library, encoder, tagged), **how)


def earlier_run(library: Path, encoder: str, tagged: Tagged) -> str | None:
    """The run that learned from the same tags, as they still are, by the same features."""
    tags = os.path.abspath(tagged.tags)
    with Library(library) as lib:
        for run in lib.runs.list():
            same = run.method == "cbp_vlp" and run.config["encoder"] == encoder and run.data["data"] == tags
            if same and run.started_at > os.stat(tags).st_mtime:
                return run.id
    return None


def parts(tagged: Tagged, done: LocalizeSummary) -> list[Timeline | Table]:
    """What the report shows of timelines."""
    found = read_timelines(Path(done.out) / "timelines.json")
    truth = true_stretches(tagged.truth) if tagged.truth else {}
    lanes = []
    for name in list(found)[:: max(1, len(found) // VIDEOS_SHOWN)][:VIDEOS_SHOWN]:
        lanes.append((Path(name).stem, stretches(found[name], LEAST)))
        lanes += [("in truth", tuple(truth[name]))] if name in truth else []
    helped = ", with the help of a tiny CLIP that was trained on films like these" if tagged.clip == TINY else ""
    caption = (
        f"Learned from tags of whole videos{helped}. Shown is what scores {LEAST:g} or more; the rest, the curves "
        f"and the videos are in {done.out}/index.html."
    )
    return [Timeline("When actions happen", tuple(lanes), caption), *(score(tagged, done) if tagged.truth else ())]


def score(tagged: Tagged, done: LocalizeSummary) -> list[Table]:
    """How well the times agree with the true ones, of the videos whose tags were learned from."""
    from vitascope import api

    judged = api.evaluate_localization(tagged.truth, Path(done.out) / "timelines.json")
    rows = tuple((f"{limit:g}", round(100 * judged.map[limit], 1)) for limit in (0.1, 0.3, 0.5, 0.7))
    caption = f"{judged.num_segments} true actions in {judged.num_videos} videos, of which the tags alone were told."
    return [Table("Found times against the true ones", ("overlap from", "mean average precision, %"), rows, caption)]


def true_stretches(path: Path) -> dict[str, list[tuple[float, float, str]]]:
    """What `synthetic_tags` wrote, by video."""
    found: dict[str, list[tuple[float, float, str]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["video"], []).append((float(row["start"]), float(row["end"]), row["labels"]))
    return found


def stretches(segments: Segments, least: float) -> tuple[tuple[float, float, str], ...]:
    """Segments that score enough, in order of time; of those that begin together the longer comes first, and lies below."""
    rows = zip(segments.times_seconds.tolist(), segments.labels, segments.scores, strict=True)
    shown = [(start, end, label) for (start, end), label, score in rows if score >= least]
    return tuple(sorted(shown, key=lambda row: (row[0], -row[1])))
