"""What is claimed of CBP+VLP, on vectors of snippets where classification finds too little, and image and text too much.

Specification of CBP+VLP, sections 1.7, 1.9 (regime c) and 1.11. The image-text side is the package's tiny CLIP: its text
encoder is real, learned vectors and gradients and all; frames are drawn around its texts.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vitascope.datasets.worlds.snippets import CONTEXT, CORE, SnippetVideo, SnippetWorld
from vitascope.engine.log import Status
from vitascope.engine.settings import TrainSettings
from vitascope.engine.train import train
from vitascope.evaluation.claims import Claim, Page, Scores, Tools, above
from vitascope.evaluation.localization import evaluate
from vitascope.evaluation.trials import Arm, TrialFailed, run_trials
from vitascope.methods.base import Method
from vitascope.metrics.localization import FrameIoU
from vitascope.store import atomic
from vitascope.store.feature_files import write_features
from vitascope.structures import Annotation, Features, Localized, Record

BOTH, TAGS, ONLY_B, ONLY_F = "alternation", "tags only", "only B", "only F"
NO_KD, NO_FB, TRUE_TIMES = "without distillation", "without contrast", "true times"
CATEGORICAL, OWN_SIDE, GLOBAL = "one distribution over classes", "each side alone", "global attention"
BASNET, CO2NET, LOCAL = "BaS-Net", "CO2-Net", "transformer, local attention"
CBP, VLP, MEAN, WEIGHTED = "mAP of CBP", "mAP of VLP", "mAP of the mean", "mAP of the weighted mean"
BEFORE = "mAP of CBP after the warm-up"
CBP_FG, CBP_BG, VLP_FG, VLP_BG = (
    f"IoU of {kind}, {of}" for of in ("CBP", "VLP") for kind in ("foreground", "background")
)
OUTPUTS = {"cbp": CBP, "vlp": VLP, "mean": MEAN, "weighted": WEIGHTED}


class Budget(NamedTuple):
    """How much is spent; all arms train their CBP branch for as many steps."""

    num_train: int  # videos
    num_test: int
    warmup: int  # steps
    rounds: int
    steps: int  # of each stage of a round
    seeds: int


FULL = Budget(num_train=120, num_test=60, warmup=250, rounds=3, steps=60, seeds=3)
SMALL = Budget(num_train=24, num_test=12, warmup=4, rounds=1, steps=2, seeds=2)


def _arms(b: Budget) -> dict[str, list[str]]:
    """Of each arm what it changes; `only F` has no B, `tags only` spends all on the warm-up."""
    all_steps = b.warmup + b.rounds * b.steps
    return {
        BOTH: [],
        TAGS: ["rounds=0", f"warmup_steps={all_steps}"],
        ONLY_B: ["f_steps=0"],
        ONLY_F: ["b_steps=0"],
        NO_KD: ["kd_weight=0"],
        NO_FB: ["fb_weight=0"],
        TRUE_TIMES: ["supervised=true", f"warmup_steps={all_steps}"],
        CATEGORICAL: ["divergence=categorical"],
        OWN_SIDE: ["trust=own"],
        GLOBAL: ["cbp=transformer", "window=null", "vlp_window=null"],
        LOCAL: ["cbp=transformer"],
        BASNET: ["cbp=basnet"],
        CO2NET: ["cbp=co2net"],
    }


CLAIMS = (
    above("Alternation lifts CBP over tags only, at as many steps", BOTH, TAGS, CBP, least=10.0),
    Claim("Alternation is above VLP as it comes", ((1, BOTH, CBP), (-1, TAGS, VLP))),
    Claim("Alternation is above the mean of both branches without it", ((1, BOTH, CBP), (-1, TAGS, MEAN))),
    Claim("Alternation is above the weighted mean of both branches without it", ((1, BOTH, CBP), (-1, TAGS, WEIGHTED))),
    Claim("Alternation is above only B, both branches averaged", ((1, BOTH, CBP), (-1, ONLY_B, MEAN))),
    above("Alternation is above only F", BOTH, ONLY_F, CBP),
    above("Only B is above tags only, both averaged", ONLY_B, TAGS, MEAN),
    above("Distillation helps", BOTH, NO_KD, CBP),
    above("The contrast of foreground and background helps", BOTH, NO_FB, CBP),
    above("Alternation raises CBP's IoU of foreground over tags only", BOTH, TAGS, CBP_FG),
    above("Only B raises VLP's IoU of background", ONLY_B, TAGS, VLP_BG),
    Claim("Alternation lifts BaS-Net over its warm-up", ((1, BASNET, CBP), (-1, BASNET, BEFORE))),
    Claim("Alternation lifts CO2-Net over its warm-up", ((1, CO2NET, CBP), (-1, CO2NET, BEFORE))),
    Claim(
        "Alternation lifts a transformer of local attention over its warm-up", ((1, LOCAL, CBP), (-1, LOCAL, BEFORE))
    ),
    above("A divergence of each class keeps VLP's background, one over classes does not", BOTH, CATEGORICAL, VLP_BG),
    above("Both sides taught are above each side alone", BOTH, OWN_SIDE, CBP),
    above("Local attention is above global attention", LOCAL, GLOBAL, CBP),
    above("The true times are above tags", TRUE_TIMES, BOTH, CBP),
)
TITLE = "CBP and VLP teach each other when actions happen"
INTRO = """\
Videos are vectors of snippets (`datasets/worlds/snippets.py`), 12 actions, one or two a video. The core of an action is plain to \
a network of video features; its beginning and end leave a weaker trace; some of the background shows the scene of the action, \
which an image-text network takes for it. So classification learned from tags finds too little, and the likeness of frames and \
names too much: the case that the method is made for. The image-text side is the package's tiny CLIP, frames drawn around its \
texts. CBP is one convolution with a background class (regime c of the specification), where an arm says nothing else; its \
branch learns for {warmup} + {rounds} x {steps} steps of 16 videos in every arm, from {num_train} videos, and {num_test} others \
are judged: mAP over tIoU 0.1 to 0.7. IoU is of snippets in the videos learned from, of each tag, at a probability of 0.2. \
{seeds} seeds, each with a world, weights and draws of its own. Nothing here says what the method reaches on real video. The \
settings of the world were chosen so that both branches lack what they are said to lack, with single runs on seed 0 in view; \
those of the method are the specification's for this case."""


@dataclass(frozen=True)
class LocalTrial:
    """An arm with one seed."""

    arm: Arm
    seed: int
    budget: Budget
    folder: Path

    @property
    def own_folder(self) -> Path:
        """Where this trial works; another configuration or budget has another folder."""
        told = [self.arm.config.model_dump(mode="json"), self.budget]
        name = "-".join(re.findall(r"\w+", self.arm.name))
        return self.folder / f"{name}-{self.seed}-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:10]}"


def run_local_trial(trial: LocalTrial) -> dict[str, float]:
    """Train, and judge after the warm-up and at the end; called again it gives what it found.

    Raises:
        TrialFailed: A signal ended it.
    """
    folder, began, b = trial.own_folder, time.process_time(), trial.budget
    if (folder / "result.json").is_file():
        return json.loads((folder / "result.json").read_text())
    torch.set_num_threads(1)  # trials run side by side
    torch.manual_seed(trial.seed)
    method = trial.arm.cls(trial.arm.config)
    world = SnippetWorld(b.num_train + b.num_test, seed=trial.seed)
    records = write_world(world, method, trial.folder / f"world-{trial.seed}-{len(world)}")
    learned, asked = records[: b.num_train], [(records[i], world[i]) for i in range(b.num_train, len(world))]
    warmup = min(trial.arm.config.warmup_steps, method.stages()[0].length)
    told = {}
    for until, name in ((warmup, BEFORE), (None, CBP)):
        settings = TrainSettings(seed=trial.seed, device="cpu", save_every_steps=1000, keep_last=1, max_steps=until)
        result = train(method, {"train": learned}, folder / "run", settings)
        if result.interrupted:
            raise TrialFailed(f"training in {folder} was ended at step {result.step}; run it again to go on")
        told[name] = judged(method, asked)["cbp"]
    told |= {OUTPUTS[output]: value for output, value in judged(method, asked).items()}
    told |= overlaps([(method.localize(records[i]), world[i]) for i in range(b.num_train)])
    told["cpu_seconds"] = round(time.process_time() - began, 1)
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_json(folder / "result.json", told)
    return told


def write_world(world: SnippetWorld, method: Method, folder: Path) -> list[Record]:
    """Vectors of a world as files: for CBP, for VLP around the texts of the method's classes, and what is true."""
    with torch.no_grad():
        text = torch.nn.functional.normalize(method.text(learned=False), dim=-1).numpy()  # the same for every seed
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for i in range(len(world)):
        video = world[i]
        true = np.stack([is_foreground(video, name, world.classes) for name in world.classes], 1)
        values = {"cbp": video.cbp, "vlp": world.frames(i, text), "true": true.astype(np.float32)}
        files = [folder / f"{video.id}.{kind}.safetensors" for kind in values]
        for file, value in zip(files, values.values(), strict=True):
            if not file.is_file():
                write_features(file, Features(value, video.times_seconds))
        records.append(Record(video.id, video.id, video.labels, features=tuple(map(str, files))))
    return records


def is_foreground(video: SnippetVideo, name: str, classes: tuple[str, ...]) -> np.ndarray:
    """Which snippets show an action, bool `[S]`."""
    return (video.numbers == classes.index(name)) & np.isin(video.kinds, (CORE, CONTEXT))


def judged(method: Method, asked: list[tuple[Record, SnippetVideo]]) -> dict[str, float]:
    """The mean average precision of each branch and of both, over tIoU 0.1 to 0.7."""
    truth = [Annotation(video.id, video.labels, video.segments) for _, video in asked]
    kept, scores = method.config, {}
    for output in OUTPUTS:
        method.config = kept.model_copy(update={"output": output})
        found = {record.id: method.localize(replace(record, labels=())).segments for record, _ in asked}
        result = evaluate(truth, found, "plain")
        scores[output] = float(np.mean(list(result.map.values())))
    method.config = kept
    return scores


def overlaps(found: list[tuple[Localized, SnippetVideo]], level: float = 0.2) -> dict[str, float]:
    """IoU of foreground and of background of each branch, over the tags of all videos."""
    told = {}
    for branch, names in (("CBP", (CBP_FG, CBP_BG)), ("VLP", (VLP_FG, VLP_BG))):
        overlap = FrameIoU()
        for one, video in found:
            for name in video.labels:
                k = one.classes.index(name)
                overlap.add(one.curves[branch][:, k] > level, is_foreground(video, name, one.classes))
        told |= dict(zip(names, (overlap.foreground, overlap.background), strict=True))
    return told


def measure(
    name: str,
    tools: Tools,
    folder: Path,
    budget: Budget,
    *,
    num_workers: int,
    progress: Callable[[Status], Any] | None = None,
) -> tuple[Scores, float]:
    """Run all trials; arguments and what is given as of `hico_claims.measure`."""
    return run_trials(trials_of(tools, folder, budget), num_workers, name, progress, run_local_trial)


def trials_of(tools: Tools, folder: Path, budget: Budget) -> list[LocalTrial]:
    """Every arm with every seed."""
    classes, width = SnippetWorld().classes, SnippetWorld().width
    same = [f"dim={width}", "cbp=mil", "background=class", "window=4", "vlp_window=4", "vlp_heads=4"]
    same += ["num_prefix=4", "num_postfix=4", f"warmup_steps={budget.warmup}", f"rounds={budget.rounds}"]
    same += [f"b_steps={budget.steps}", f"f_steps={budget.steps}", "max_snippets=200"]
    same += ["video_score=logits", "class_gate=0.85"]  # the paper's gate
    trials = []
    for seed in range(budget.seeds):
        for arm, changes in _arms(budget).items():
            cls, config = tools.configure("cbp-vlp-small", [*same, *changes])
            config = config.model_copy(update={"classes": classes})
            trials.append(LocalTrial(Arm(arm, cls, config), seed, budget, folder))
    return trials


PAGES = {"wtal": Page(TITLE, INTRO, CLAIMS, FULL, SMALL, measure)}
