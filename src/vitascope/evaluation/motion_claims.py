"""What is claimed of MME, on two twin worlds of short clips: in one the class is the motion, in the other the texture.

All arms see the same unlabelled videos of both worlds for the same number of steps with the same encoder; then each encoder
is measured in both. Spec of MME, sections 1.9 and 2.4; the paper's ablations and its experiment with shuffled frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vitascope.datasets.worlds.motion import MotionWorld
from vitascope.engine.log import Status
from vitascope.evaluation.claims import Claim, Page, Scores, Tools, above
from vitascope.evaluation.trials import Arm, Task, Trial, make_worlds, run_trials
from vitascope.methods.base import Frozen, Method

CLIPS = {"num_frames": 8, "stride_frames": 4, "size": 48, "short_side": 60, "memory_mb": 2048}
MME, PIXELS, RANDOM = "MME", "pixel masking", "random weights"
HOG, POSITION = "shape only (HOG)", "position only"
NO_BETWEEN, NO_VISIBILITY = "no interpolation", "no visibility term"
SHUFFLED = ", frames shuffled"
PROBE, TUNED, TEXTURE_PROBE = "motion, linear probe", "motion, fine-tuned", "texture, linear probe"


class Budget(NamedTuple):
    """How much is spent; all arms spend the same."""

    num_train: int  # videos of each world
    num_test: int
    steps: int  # of pre-training, of 16 clips
    tune_steps: int  # of fine-tuning, of 16 clips
    seeds: int


FULL = Budget(num_train=240, num_test=240, steps=600, tune_steps=120, seeds=3)
SMALL = Budget(num_train=24, num_test=24, steps=4, tune_steps=2, seeds=2)

Configure = Callable[[str, Sequence[str]], tuple[type[Method], Frozen]]
RECIPES = {  # arm -> recipe and its changes
    MME: ("mme-tiny", {}),
    PIXELS: ("videomae-tiny", {}),
    HOG: ("mme-tiny", {"predicts": '["shape"]'}),
    POSITION: ("mme-tiny", {"predicts": '["position"]'}),
    NO_BETWEEN: ("mme-tiny", {"interpolate": False}),
    NO_VISIBILITY: ("mme-tiny", {"predicts": '["position", "shape"]'}),
    RANDOM: ("mme-tiny", {}),
}
ARMS = {
    "mme-motion": tuple(RECIPES),
    "mme-shuffle": tuple(name + how for name in (MME, PIXELS, HOG, POSITION) for how in ("", SHUFFLED)),
}


def _gap(arm: str, measure: str, sign: int = 1) -> tuple[tuple[int, str, str], ...]:
    return (sign, arm, measure), (-sign, arm + SHUFFLED, measure)


CLAIMS = {
    "mme-motion": (
        above(
            "MME is above pixel masking where the class is the motion, by linear probe", MME, PIXELS, PROBE, least=5.0
        ),
        above("MME is above pixel masking where the class is the motion, fine-tuned", MME, PIXELS, TUNED),
        above("MME is above random weights where the class is the motion, by linear probe", MME, RANDOM, PROBE),
        above("MME is above random weights where the class is the motion, fine-tuned", MME, RANDOM, TUNED),
        Claim(
            "MME's lead over pixel masking is larger for motion than for texture, by linear probe",
            ((1, MME, PROBE), (-1, PIXELS, PROBE), (-1, MME, TEXTURE_PROBE), (1, PIXELS, TEXTURE_PROBE)),
        ),
        above("Position and shape are above shape alone (HOG), for motion", MME, HOG, PROBE),
        above("Position and shape are above position alone, for motion", MME, POSITION, PROBE),
        above(
            "Tracks through the frames between are above tracks from frame to frame, for motion", MME, NO_BETWEEN, PROBE
        ),
        above("The visibility term helps, for motion", MME, NO_VISIBILITY, PROBE),
        above("MME is above random weights where the class is the texture", MME, RANDOM, TEXTURE_PROBE),
    ),
    "mme-shuffle": (
        Claim("MME needs the order of the frames, for motion, by linear probe", _gap(MME, PROBE)),
        Claim("Pixel masking needs the order of the frames, for motion, by linear probe", _gap(PIXELS, PROBE)),
        Claim(
            "Shuffling costs MME more than pixel masking, for motion, by linear probe",
            _gap(MME, PROBE) + _gap(PIXELS, PROBE, -1),
        ),
        Claim(
            "Shuffling costs MME more than pixel masking, for motion, fine-tuned",
            _gap(MME, TUNED) + _gap(PIXELS, TUNED, -1),
        ),
        Claim(
            "Shuffling costs position alone more than shape alone, for motion, by linear probe",
            _gap(POSITION, PROBE) + _gap(HOG, PROBE, -1),
        ),
        Claim(
            "Shuffling costs MME more for motion than for texture, by linear probe",
            _gap(MME, PROBE) + _gap(MME, TEXTURE_PROBE, -1),
        ),
    ),
}
TITLES = {"mme-motion": "MME learns motion", "mme-shuffle": "MME needs the order of the frames"}
INTRO = f"""\
Each arm pre-trains the same encoder without labels, on the {{num_train}} + {{num_train}} training videos of two twin worlds, \
for {{steps}} steps of 16 clips of {CLIPS["num_frames"]} frames (one in {CLIPS["stride_frames"]} of the video) of {CLIPS["size"]} pixels. In the motion \
world the class is one of 12 motions, and textures are noise; in the texture world the reverse. Then the encoder is measured \
in each world, with its {{num_train}} labels and on {{num_test}} other videos: by a linear probe on frozen features of the middle \
clip (logistic regression, its strength chosen inside the training part), and fine-tuned whole for {{tune_steps}} steps of 16. \
One in 12 is right by chance, 8.3 %. All of it is done with {{seeds}} seeds of weights and draws; the videos stay the same. \
Means are over seeds, intervals by Student's t; a claim is about differences of the same seed, in points of accuracy, and is \
held if the mean is as large as it says and the interval lies above 0."""


def arms(name: str, configure: Configure, budget: Budget) -> list[Arm]:
    """The arms of one page.

    Args:
        name: `mme-motion` or `mme-shuffle`.
        configure: `(recipe, assignments)` -> its method and configuration.
        budget: Of each.
    """
    made = []
    for arm in ARMS[name]:
        recipe, changes = RECIPES[arm.removesuffix(SHUFFLED)]
        fields = CLIPS | {"batch_size": 16, "length": budget.steps, "optim.lr": 5e-4} | changes
        fields |= {"shuffle": "frames"} if arm.endswith(SHUFFLED) else {}
        cls, config = configure(recipe, [f"{key}={value}" for key, value in fields.items()])
        made.append(Arm(arm, cls, config, is_trained=arm != RANDOM))
    return made


def measure(
    name: str,
    tools: Tools,
    folder: Path,
    budget: Budget,
    *,
    num_workers: int,
    progress: Callable[[Status], Any] | None = None,
) -> tuple[Scores, float]:
    """Run all trials of one page; those of the other page that are in the folder and the same are not run again.

    Args:
        name: `mme-motion` or `mme-shuffle`.
        tools: Of other rooms.
        folder: Of worlds and trials; kept, so that a broken run goes on.
        budget: Of each trial.
        num_workers: Trials at once.
        progress: Called after each trial.

    Returns:
        The scores, and the CPU time of all trials in seconds.
    """
    sizes = {"train": (1, budget.num_train), "test": (2, budget.num_test)}
    worlds = {
        f"{by}-{split}": MotionWorld(num_videos=count, seed=seed, size=96, num_frames=40, by=by)
        for by in ("motion", "texture")
        for split, (seed, count) in sizes.items()
    }
    records = dict(make_worlds(worlds, folder / "worlds", num_workers))
    tasks = tuple(Task(by, records[f"{by}-train"], records[f"{by}-test"]) for by in ("motion", "texture"))
    videos = [record for task in tasks for record in task.train]
    tuning = CLIPS | {"batch_size": 16, "length": budget.tune_steps, "test_clips": 1, "test_crops": 1}
    classifier = tools.configure("finetune-tiny", [f"{key}={value}" for key, value in tuning.items()])
    read = partial(tools.spread_clips, **{key: CLIPS[key] for key in ("num_frames", "stride_frames", "size")})
    trials = [
        Trial(arm, seed, videos, tasks, read, folder, classifier)
        for seed in range(budget.seeds)
        for arm in arms(name, tools.configure, budget)
    ]
    return run_trials(trials, num_workers, name, progress)


PAGES = {name: Page(TITLES[name], INTRO, CLAIMS[name], FULL, SMALL, measure) for name in CLAIMS}
