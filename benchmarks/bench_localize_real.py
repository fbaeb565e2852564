"""How well actions are found in real recordings from tags alone: beside chance, and beside learning from the true times.

    python benchmarks/bench_localize_real.py [--videos FOLDER --truth annotations.json] [--encoder lite0:FILE] [--clip FOLDER]
        [--set cbp=transformer]

One recording is left out at a time. Without `--encoder` they are described by `mme-tiny`, pre-trained on them without tags.
All arms see the same features of snippets:

- `tags`: `cbp-only-small`;
- `times`: the same network as `tags` and as many steps, but each snippet's true actions are given;
- `chance`: what `tags` found, each video's turned by a random stretch of time: actions and lengths stay, their places do not;
- with `--clip` also `names`, what the image-text encoder says as it comes, `tags and names`, `cbp-vlp-small`, and `alternation`,
  the same with B steps.

mAP over tIoU 0.1 to 0.5, pooled over all videos that were left out, once when nothing is said of them, and once when their tags
are known, so that no more than the times are looked for; the mean over seeds. Figures go to `results/`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vitascope import api
from vitascope.datasets import annotations, feature_files, folder
from vitascope.engine.describe import Asked, Tools, describe, listed, sources
from vitascope.engine.settings import TrainSettings
from vitascope.engine.train import train
from vitascope.evaluation.localization import evaluate
from vitascope.methods.base import Frozen
from vitascope.methods.cbp_vlp import encoders
from vitascope.methods.cbp_vlp.data import read_vectors
from vitascope.methods.cbp_vlp.method import CbpVlp
from vitascope.store.atomic import write_json
from vitascope.store.facts import commit, machine
from vitascope.store.feature_files import write_features
from vitascope.store.library import Library
from vitascope.structures import Annotation, Features, Record, Segments
from vitascope.video import check, snippets

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[2] / "shared" / "data" / "fir-untrimmed"
RANGE = "0.1:0.5"
UNTAGGED, TAGGED = "", ", their tags known"  # of the videos that are judged
OWN = "mme-tiny"


def with_times(record: Record, known: Annotation, classes: tuple[str, ...], work: Path) -> Record:
    """The record with a file of which actions each snippet shows, by its middle."""
    times = read_vectors(record, 0)[1]
    middles, shown = times.mean(1), np.zeros((len(times), len(classes)), np.float32)
    for (start, end), label in zip(known.segments.times_seconds, known.segments.labels, strict=True):
        shown[(middles >= start) & (middles < end), classes.index(label)] = 1
    path = work / "true" / f"{Path(record.id).stem}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_features(path, Features(shown, times))
    return replace(record, features=(*record.features, *([""] * (2 - len(record.features))), str(path)))


def turned(found: Segments, seconds: float, by: float) -> Segments:
    """The same segments, later by a stretch of time; what would end after the video begins it."""
    starts = (found.times_seconds[:, 0] + by) % seconds
    lengths = found.times_seconds[:, 1] - found.times_seconds[:, 0]
    return Segments(np.stack([starts, starts + lengths], 1), found.labels, found.scores)


def found_in(config: Frozen, seed: int, learned: list[Record], asked: list[Record], work: Path) -> dict[str, dict]:
    """Segments of the videos asked for by id, without and with their tags."""
    shutil.rmtree(work / "run", ignore_errors=True)
    torch.manual_seed(seed)
    method = CbpVlp(config)
    train(method, {"train": learned}, work / "run", TrainSettings(seed=seed, device="cpu"), name="cbp_vlp")
    return {
        UNTAGGED: {record.id: method.localize(replace(record, labels=())).segments for record in asked},
        TAGGED: {record.id: method.localize(record).segments for record in asked},
    }


def measure(
    records: list[Record],
    truth: dict[str, Annotation],
    arms: dict[str, Frozen],
    seeds: int,
    work: Path,
) -> dict[str, list[dict[str, float]]]:
    """mAP by tIoU of every arm, a dict a seed."""
    figures: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        found: dict[str, dict[str, Segments]] = {}
        rng = np.random.default_rng(seed)
        for i, one in enumerate(records):
            learned, asked = records[:i] + records[i + 1 :], [one]
            for arm, config in arms.items():
                for how, told in found_in(config, seed, learned, asked, work).items():
                    found.setdefault(arm + how, {}).update(told)
            print(f"seed {seed}: {one.id}", file=sys.stderr, flush=True)
        lengths = {record.id: float(read_vectors(record, 0)[1][-1, 1]) for record in records}
        for how in (UNTAGGED, TAGGED):
            found["chance" + how] = {
                name: turned(segments, lengths[name], rng.uniform(0, lengths[name]))
                for name, segments in found["tags" + how].items()
            }
        for arm, predictions in found.items():
            judged = evaluate([truth[name] for name in predictions], predictions, "plain", unknown="drop")
            row = {f"{limit:g}": round(judged.map[limit], 4) for limit in judged.map if limit < 0.55}
            figures.setdefault(arm, []).append(row | {RANGE: round(judged.average[RANGE], 4)})
    return figures


def own_encoder(root: Path, library: Path, steps: int) -> str:
    """An encoder that is pre-trained on the recordings, unless the library has one."""
    if not library.is_dir() or not list((library / "runs").iterdir()):
        api.train(OWN, root, library, config=api.configure(OWN, [f"length={steps}"]), progress=True)
    with Library(library) as lib:
        return f"run:{lib.finished_run()}"


def with_names(clip: str, steps: int, same: dict) -> dict[str, Frozen]:
    """Arms with an image-text encoder, whose CBP branches learn for `steps` in all."""
    split = [f"clip={clip}", f"warmup_steps={steps // 2}"]
    arms = {
        "names": [f"clip={clip}", "warmup_steps=1", "rounds=0", "output=vlp"],
        "tags and names": [*split, f"f_steps={steps // 2}"],
        "alternation": [*split, "rounds=3", f"f_steps={steps // 6}", f"b_steps={steps // 6}"],
    }
    return {arm: api.configure("cbp-vlp-small", fields).model_copy(update=same) for arm, fields in arms.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=DATA)
    parser.add_argument("--truth", type=Path, help="else annotations.json beside the videos")
    parser.add_argument("--encoder", default="", help="as of `vitascope localize`")
    parser.add_argument("--clip", default="")
    parser.add_argument("--library", type=Path, help="else one in the work folder")
    parser.add_argument("--work", type=Path, default=Path("vitascope-bench/localize"))
    parser.add_argument("--pretraining", type=int, default=800, help="steps of the own encoder")
    parser.add_argument("--steps", type=int, default=200, help="of the CBP branch, in every arm")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="in `tags` and `times`")
    options = parser.parse_args()
    if not options.videos.is_dir():
        print(f"skipped: {options.videos} is no folder; name one of recordings with --videos", file=sys.stderr)
        raise SystemExit(0)  # so that the others run
    work, root, library = options.work, options.videos, options.library or options.work / "library"
    work.mkdir(parents=True, exist_ok=True)
    truth = annotations.read_annotations(options.truth or root / "annotations.json")
    spec = options.encoder or own_encoder(root, library, options.pretraining)
    tools = Tools(folder, annotations, feature_files, check, snippets, api.load_method, encoders, CbpVlp)
    asked = Asked(work / "out", {"device": "cpu"}, {}, progress=True)
    with Library(library, data_root=root, create=True) as lib:
        recipe, fields = ("cbp-vlp-small", [f"clip={options.clip}"]) if options.clip else ("cbp-only-small", [])
        config = api.configure(recipe, [f"encoder={spec}", *fields])
        found = describe(
            lib,
            listed(truth, root.absolute(), tools),
            sources(lib, config, tools),
            config.hop_seconds,
            tools,
            asked,
        )
    classes = tuple(sorted({label for one in truth for label in one.segments.labels}))
    known = {record.id: one for one in truth for record in found.records if record.id == one.id}
    records = [with_times(record, known[record.id], classes, work) for record in found.records]
    same = {"classes": classes, "dim": found.width, "encoder": spec}
    alone = api.configure("cbp-only-small", [f"warmup_steps={options.steps}", *options.set]).model_copy(update=same)
    arms = {"tags": alone, "times": alone.model_copy(update={"supervised": True})}
    if options.clip:
        arms |= with_names(options.clip, options.steps, same)
    count = len(records)
    figures = measure(records, known, arms, options.seeds, work)
    for arm, rows in figures.items():
        print(f"{arm:32}", " ".join(f"{limit} {100 * np.mean([row[limit] for row in rows]):5.1f}" for limit in rows[0]))
    told = {
        "steps": options.steps,
        "set": options.set,
        "encoder": spec.split(":")[0],
        "videos": count,
        "classes": len(classes),
        "map": figures,
    }
    name = OWN if not options.encoder else told["encoder"]
    name = "_".join([name, *(change.replace("=", "-") for change in options.set)])
    write_json(RESULTS / f"bench_localize_real_{name}.json", {"commit": commit(), **machine(), **told})
    return 0


if __name__ == "__main__":
    sys.exit(main())
