"""What is claimed of CBP+VLP from video on: rendered films, an encoder pre-trained on them, the package's tiny CLIP."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vitascope.datasets.worlds.untrimmed import UntrimmedWorld
from vitascope.datasets.worlds.write import write_world
from vitascope.engine.log import Status
from vitascope.engine.settings import TrainSettings
from vitascope.engine.train import train
from vitascope.evaluation.claims import Claim, Page, Scores, Tools, above
from vitascope.evaluation.localization import evaluate
from vitascope.evaluation.trials import Arm, TrialFailed, run_trials
from vitascope.evaluation.wtal_claims import CBP, OUTPUTS, VLP, WEIGHTED, LocalTrial
from vitascope.methods.base import Method
from vitascope.store import atomic
from vitascope.store.feature_files import read_features, write_features
from vitascope.structures import Annotation, Features, Localized, Record, Segments

TAGS, TIMES, CHANCE = "tags only", "true times", "tags only, turned in time"
ONLY_F, ONLY_B, BOTH = "only F", "only B", "alternation"
KNOWN = ", tags known"
HOP_SECONDS = 0.64
ENCODER, MAKER, RECIPE = "mme-tiny", "an encoder of motion", "cbp-vlp-small"


class Budget(NamedTuple):
    """How much is spent; all arms but `only B` train their CBP branch for as many steps."""

    num_train: int  # videos
    num_test: int
    seconds: float  # of each
    pretraining: int  # steps
    steps: int  # of the CBP branch
    rounds: int
    seeds: int


FULL = Budget(num_train=32, num_test=16, seconds=60.0, pretraining=600, steps=200, rounds=3, seeds=3)
SMALL = Budget(num_train=4, num_test=2, seconds=12.0, pretraining=1, steps=4, rounds=1, seeds=2)


def _arms(b: Budget) -> dict[str, list[str]]:
    """Of each arm what it changes; half of the steps are the warm-up's where a second half follows."""
    half = f"warmup_steps={b.steps // 2}"
    stage = b.steps // 2 // b.rounds
    return {
        TAGS: ["rounds=0", f"warmup_steps={b.steps}"],
        CHANCE: ["rounds=0", f"warmup_steps={b.steps}"],
        TIMES: ["supervised=true", f"warmup_steps={b.steps}"],
        ONLY_F: [half, "rounds=1", f"f_steps={b.steps // 2}", "b_steps=0"],
        ONLY_B: [half, f"rounds={b.rounds}", "f_steps=0", f"b_steps={stage}"],
        BOTH: [half, f"rounds={b.rounds}", f"f_steps={stage}", f"b_steps={stage}"],
    }


CLAIMS = (
    above("Tags alone tell times above chance", TAGS, CHANCE, CBP),
    above("Tags alone tell times above chance, where a video's tags are known", TAGS, CHANCE, CBP + KNOWN),
    above("The true times are above tags", TIMES, TAGS, CBP),
    above("F steps lift CBP over tags only, at as many steps", ONLY_F, TAGS, CBP),
    Claim("Both branches after F steps are above CBP by tags only", ((1, ONLY_F, WEIGHTED), (-1, TAGS, CBP))),
    Claim("Both branches after F steps are above VLP as it comes", ((1, ONLY_F, WEIGHTED), (-1, TAGS, VLP))),
    Claim(
        "Both branches after F steps are above VLP as it comes, where tags are known",
        ((1, ONLY_F, WEIGHTED + KNOWN), (-1, TAGS, VLP + KNOWN)),
    ),
    above("Alternation is above only F", BOTH, ONLY_F, CBP),
    above("Only B raises VLP", ONLY_B, TAGS, VLP),
)
TITLE = "When actions happen, from films and their tags"
INTRO = """\
Rendered films (`datasets/worlds/untrimmed.py`, with props): 4 topics of three actions each, cuts, cutaways, rests; a \
thing that can be named comes before its action, stays after it, and comes without it, too. {num_train} films of \
{seconds} s are learned from by their tags, {num_test} others are judged: mAP over tIoU 0.1 to 0.7, once when nothing \
is said of them, and once with their tags known, so that no more than the times are looked for. CBP sees vectors of \
`mme-tiny`, pre-trained on all the films for {pretraining} steps without tags; VLP sees the package's tiny CLIP, \
which was trained on other films of this kind and knows the names of the actions by their props: a better eye than \
any CLIP will be on real film. CBP is that of `cbp-vlp-small`, and learns for {steps} steps, with B steps in {rounds} \
rounds. Films of one topic have nearly the same tags, so tags tell their actions apart badly; this is as hard as it \
is with real tags. Chance is what tags found, turned in time by a random stretch of each film. {seeds} seeds, each \
with films, weights and draws of its own."""


@dataclass(frozen=True)
class WorldTrial(LocalTrial):
    """An arm with one seed; `clip` knows the names of actions, `snippets` gives those of a film (`claims.Tools`)."""

    clip: Arm
    snippets: Callable[..., Any]


def films(trial: WorldTrial) -> tuple[UntrimmedWorld, Path]:
    """The films of a trial's seed and budget, and the folder of all that is made of them."""
    b = trial.budget
    world = UntrimmedWorld(b.num_train + b.num_test, trial.seed, size=96, seconds=b.seconds, props=True)
    return world, trial.folder / f"films-{trial.seed}-{hashlib.sha256(json.dumps(b).encode()).hexdigest()[:10]}"


def make_features(trial: WorldTrial) -> dict[str, float]:
    """Render the films, pre-train the encoder, and write the vectors of both; called again it has nothing to do.

    Raises:
        TrialFailed: A signal ended it.
    """
    began, (world, folder) = time.process_time(), films(trial)
    if (trial.own_folder / "result.json").is_file():
        return json.loads((trial.own_folder / "result.json").read_text())
    torch.set_num_threads(1)  # trials run side by side
    torch.manual_seed(trial.seed)
    records = write_world(world, folder)
    encoder = trial.arm.cls(trial.arm.config)
    clip = trial.clip.cls(trial.clip.config.model_copy(update={"classes": world.classes})).eval()
    settings = TrainSettings(seed=trial.seed, device="cpu", keep_last=1, save_every_steps=100)
    result = train(encoder, {"train": records}, folder / "encoder", settings)
    if result.interrupted:
        raise TrialFailed(f"training in {folder} was ended at step {result.step}; run it again to go on")
    for i, record in enumerate(records):
        write_vectors(record, encoder.eval(), clip, trial.snippets)
        write_truth(record, world[i].segments, world.classes)
    told = {"cpu_seconds": round(time.process_time() - began, 1)}
    trial.own_folder.mkdir(parents=True, exist_ok=True)
    atomic.write_json(trial.own_folder / "result.json", told)
    return told


def write_vectors(record: Record, encoder: Method, clip: Method, snippets: Callable[..., Any]) -> None:
    """Vectors of a film's snippets by both, as files beside it."""
    times, vectors = [], {"cbp": [], "vlp": []}
    with torch.no_grad():
        for stretch, frames in snippets(record, hop_seconds=HOP_SECONDS, **encoder.snippet.model_dump()):
            times.append(stretch)
            vectors["cbp"].append(encoder.features(frames[None]))
            vectors["vlp"].append(clip.features(frames[None]))
    for kind, rows in vectors.items():
        write_features(vectors_of(record, kind), Features(torch.cat(rows).float().numpy(), np.array(times)))


def write_truth(record: Record, segments: Segments, classes: tuple[str, ...]) -> None:
    """Which actions each snippet of a film truly shows, by its middle, as a file beside it."""
    times = read_features(vectors_of(record, "cbp")).times_seconds
    shown = np.zeros((len(times), len(classes)), np.float32)
    for (start, end), label in zip(segments.times_seconds, segments.labels, strict=True):
        shown[(times.mean(1) >= start) & (times.mean(1) < end), classes.index(label)] = 1
    write_features(vectors_of(record, "true"), Features(shown, times))


def with_vectors(record: Record) -> Record:
    """A film with the files of all its vectors."""
    return replace(record, features=tuple(str(vectors_of(record, kind)) for kind in ("cbp", "vlp", "true")))


def vectors_of(record: Record, kind: str) -> Path:
    """The file of one kind of vectors of a film."""
    return Path(record.path).with_suffix(f".{kind}.safetensors")


def run_world_trial(trial: WorldTrial) -> dict[str, float]:
    """Train an arm, and judge it; called again it gives what it found.

    Raises:
        TrialFailed: A signal ended it.
    """
    own, began = trial.own_folder, time.process_time()
    if (own / "result.json").is_file():
        return json.loads((own / "result.json").read_text())
    torch.set_num_threads(1)
    torch.manual_seed(trial.seed)
    (world, folder), count = films(trial), trial.budget.num_train
    records = [with_vectors(record) for record in write_world(world, folder)]
    width = read_features(records[0].features[0]).values.shape[1]
    method = trial.arm.cls(trial.arm.config.model_copy(update={"classes": world.classes, "dim": width}))
    settings = TrainSettings(seed=trial.seed, device="cpu", keep_last=1, save_every_steps=1000)
    result = train(method, {"train": records[:count]}, own / "run", settings)
    if result.interrupted:
        raise TrialFailed(f"training in {own} was ended at step {result.step}; run it again to go on")
    truth = [Annotation(record.id, record.labels, world[i].segments) for i, record in enumerate(records)]
    turns = np.random.default_rng(trial.seed).uniform(0, trial.budget.seconds, len(records))
    told, kept = {}, method.config
    for output, name in OUTPUTS.items():
        method.config = kept.model_copy(update={"output": output})
        for known in ("", KNOWN):
            found = {}
            for i, record in list(enumerate(records))[count:]:
                one = method.localize(record if known else replace(record, labels=()))
                found[record.id] = turned(one, turns[i]) if trial.arm.name == CHANCE else one.segments
            told[name + known] = float(
                np.mean(list(evaluate(truth[count:], found, "plain", unknown="drop").map.values()))
            )
    told["cpu_seconds"] = round(time.process_time() - began, 1)
    atomic.write_json(own / "result.json", told)
    return told


def turned(found: Localized, by: float) -> Segments:
    """The same segments, later by a stretch of time; what would begin after the film is over begins it."""
    times = found.segments.times_seconds
    starts = (times[:, 0] + by) % found.duration_seconds
    return replace(found.segments, times_seconds=np.stack([starts, starts + times[:, 1] - times[:, 0]], 1))


def measure(
    name: str,
    tools: Tools,
    folder: Path,
    budget: Budget,
    *,
    num_workers: int,
    progress: Callable[[Status], Any] | None = None,
) -> tuple[Scores, float]:
    """Make the films and their vectors, then run all trials; as `hico_claims.measure`."""
    how = {"num_workers": num_workers, "progress": progress}
    _, of_films = run_trials(makers_of(tools, folder, budget), title=f"{name}: films", run=make_features, **how)
    scores, cpu_seconds = run_trials(trials_of(tools, folder, budget), title=name, run=run_world_trial, **how)
    return scores, of_films + cpu_seconds


def makers_of(tools: Tools, folder: Path, budget: Budget) -> list[WorldTrial]:
    """For each seed what makes films and their vectors."""
    arm = Arm(MAKER, *tools.configure(ENCODER, [f"length={budget.pretraining}"]))
    clip = Arm("names", *tools.configure(RECIPE, []))
    return [WorldTrial(arm, seed, budget, folder, clip, tools.snippets) for seed in range(budget.seeds)]


def trials_of(tools: Tools, folder: Path, budget: Budget) -> list[WorldTrial]:
    """Every arm with every seed."""
    clip = Arm("names", *tools.configure(RECIPE, []))
    return [
        WorldTrial(Arm(name, *tools.configure(RECIPE, fields)), seed, budget, folder, clip, tools.snippets)
        for seed in range(budget.seeds)
        for name, fields in _arms(budget).items()
    ]


PAGES = {"wtal-world": Page(TITLE, INTRO, CLAIMS, FULL, SMALL, measure)}
