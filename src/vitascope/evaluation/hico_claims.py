"""What is claimed of HiCo, on a world of untrimmed videos, and on the actions cut out of the same videos.

All arms see the same unlabelled videos for the same number of steps of as many clips with the same network; then actions and
topics are told in other videos of the world. Spec of HiCo, sections 1.2, 3 and 9.1; the paper's ablations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vitascope.datasets.worlds.truth import WorldVideo
from vitascope.datasets.worlds.untrimmed import UntrimmedWorld
from vitascope.engine.log import Status
from vitascope.evaluation.claims import Claim, Page, Scores, Tools, above
from vitascope.evaluation.trials import Arm, Task, Trial, make_worlds, run_trials
from vitascope.store.atomic import writing
from vitascope.structures import Record

CLIPS_PER_STEP = 48
LEAST_SECONDS = 1.5  # of an action that is asked for or learned from
HICO, SIMCLR, CVRL, RANDOM = "HiCo", "SimCLR sampling", "CVRL sampling", "random weights"
NO_TOPICS, CONSTANT, NEAR = "without topics", "constant distance", "distance of the paper (1 s)"
CUTS, CONTENT = "clips without cuts", "content-guided"
TRIMMED = ", trimmed"
PLACE, PLACE_NEAREST = "place, linear probe", "place, R@1"
MOMENT_NEAREST = "place within its group, R@1"
TOPIC, TOPIC_NEAREST = "topic, linear probe", "topic, R@1"
ACTION, ACTION_NEAREST = "action, linear probe", "action, R@1"


class Budget(NamedTuple):
    """How much is spent; all arms spend the same."""

    num_train: int  # videos
    num_test: int
    seconds: int  # of each
    steps: int
    seeds: int


FULL = Budget(num_train=64, num_test=32, seconds=60, steps=600, seeds=3)
SMALL = Budget(num_train=12, num_test=12, seconds=12, steps=4, seeds=2)

ARMS = {  # arm -> recipe and its changes
    HICO: ("hico-tiny", {}),
    SIMCLR: ("simclr-tiny", {}),
    CVRL: ("cvrl-tiny", {}),
    NO_TOPICS: ("hico-tiny", {"topical": False}),
    CONSTANT: ("hico-tiny", {"sampling": "fixed"}),
    NEAR: ("hico-tiny", {"delta_seconds": 1.0}),
    CUTS: ("hico-tiny", {"content": "cuts"}),
    CONTENT: ("hico-tiny", {"content": "content"}),
    HICO + TRIMMED: ("hico-tiny", {}),
    SIMCLR + TRIMMED: ("simclr-tiny", {}),
    RANDOM: ("hico-tiny", {}),
}


def _lead(arm: str, other: str, measure: str, sign: int = 1) -> tuple[tuple[int, str, str], ...]:
    return (sign, arm, measure), (-sign, other, measure)


CLAIMS = (
    above(
        "HiCo is above SimCLR sampling for places of one topic, by retrieval", HICO, SIMCLR, MOMENT_NEAREST, least=5.0
    ),
    above("HiCo is above SimCLR sampling for places, by linear probe", HICO, SIMCLR, PLACE, least=5.0),
    above("HiCo is above SimCLR sampling for places, by retrieval", HICO, SIMCLR, PLACE_NEAREST, least=5.0),
    above("HiCo is above SimCLR sampling for topics, by linear probe", HICO, SIMCLR, TOPIC, least=5.0),
    above("HiCo is above SimCLR sampling for topics, by retrieval", HICO, SIMCLR, TOPIC_NEAREST, least=5.0),
    above("HiCo is above SimCLR sampling for actions, by linear probe", HICO, SIMCLR, ACTION, least=5.0),
    above("HiCo is above CVRL sampling for places of one topic, by retrieval", HICO, CVRL, MOMENT_NEAREST),
    above("HiCo is above CVRL sampling for places, by retrieval", HICO, CVRL, PLACE_NEAREST),
    above("HiCo is above CVRL sampling for topics, by retrieval", HICO, CVRL, TOPIC_NEAREST),
    above("HiCo is above random weights for places of one topic, by retrieval", HICO, RANDOM, MOMENT_NEAREST),
    above("HiCo is above random weights for places, by retrieval", HICO, RANDOM, PLACE_NEAREST),
    above("HiCo is above random weights for topics, by retrieval", HICO, RANDOM, TOPIC_NEAREST),
    above("HiCo is above random weights for actions, by linear probe", HICO, RANDOM, ACTION),
    above("The topical term helps, for topics, by linear probe", HICO, NO_TOPICS, TOPIC),
    above("The topical term helps, for topics, by retrieval", HICO, NO_TOPICS, TOPIC_NEAREST),
    above("The topical term helps, for places, by retrieval", HICO, NO_TOPICS, PLACE_NEAREST),
    above("A distance that grows is above a constant one, for places of one topic", HICO, CONSTANT, MOMENT_NEAREST),
    above("A distance that grows is above a constant one, for places, by retrieval", HICO, CONSTANT, PLACE_NEAREST),
    above("A distance that grows is above a constant one, for topics, by retrieval", HICO, CONSTANT, TOPIC_NEAREST),
    above("A distance of 4 s is above the paper's, for topics, by retrieval", HICO, NEAR, TOPIC_NEAREST),
    above("Clips without cuts are above clips drawn by time, for places, by linear probe", CUTS, HICO, PLACE),
    above("Clips without cuts are above clips drawn by time, for places, by retrieval", CUTS, HICO, PLACE_NEAREST),
    above("Content-guided is above drawn by time, for places, by retrieval", CONTENT, HICO, PLACE_NEAREST),
    above("Content-guided is above drawn by time, for topics, by retrieval", CONTENT, HICO, TOPIC_NEAREST),
    Claim(
        "HiCo's lead over SimCLR sampling is larger on untrimmed video than on trimmed, for places of one topic",
        _lead(HICO, SIMCLR, MOMENT_NEAREST) + _lead(HICO + TRIMMED, SIMCLR + TRIMMED, MOMENT_NEAREST, -1),
    ),
    above("HiCo gains by untrimmed video, for places, by retrieval", HICO, HICO + TRIMMED, PLACE_NEAREST),
    above(
        "SimCLR sampling gains by untrimmed video, for places, by retrieval", SIMCLR, SIMCLR + TRIMMED, PLACE_NEAREST
    ),
)
TITLE = "HiCo learns from untrimmed video"
INTRO = f"""\
Each arm pre-trains the same network without labels, on {{num_train}} videos of {{seconds}} s, for {{steps}} steps of \
{CLIPS_PER_STEP} clips: 16 videos a step with three clips of each, 24 where there are two. A video is about one of 12 topics, \
which gives it three or four of its six places, its cast and three of 12 actions, and is cut into shots of 2.5 to 12 s; \
actions come now and then. In the trimmed control the same steps see only the actions, cut out of the same videos. Then the \
network is frozen, and clips of {{num_test}} other videos of the same topics are told, each by 2 s in its middle: the place \
that a shot shows (one of 72), the topic that its video is about (one of 12, by chance 8.3 %), and the action of an action's \
clip (one of 12). They are told by a linear probe (logistic regression, its strength chosen inside the training part), and by \
the class of the nearest clip of the training videos, by cosine, not centred. To find a place takes both levels at once: the \
topic, and the moment within it; "within its group" looks for it among the clips of videos of its own topic only, which \
leaves the moment. (This measure was added when single runs had shown that the others mix the two.) All of it is done with {{seeds}} seeds of \
weights and draws; the videos stay the same, and are of a world that no setting was chosen on: that was another. Means are over seeds, intervals by Student's t; a claim is about differences of \
the same seed, in points of accuracy, and is held if the mean is as large as it says and the interval lies above 0."""


def arms(configure: Callable[[str, Sequence[str]], Any], budget: Budget) -> list[Arm]:
    """The arms.

    Args:
        configure: `(recipe, assignments)` -> its method and configuration.
        budget: Of each.
    """
    made = []
    for arm, (recipe, changes) in ARMS.items():
        clips = 3 if recipe == "hico-tiny" else 2
        fields = {"batch_size": CLIPS_PER_STEP // clips, "length": budget.steps, "memory_mb": 2048} | changes
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
    """Run all trials.

    Args:
        name: Told as progress.
        tools: Of other rooms.
        folder: Of videos and trials; kept, so that a broken run goes on.
        budget: Of each trial.
        num_workers: Trials at once.
        progress: Called after each trial.

    Returns:
        The scores, and the CPU time of all trials in seconds.
    """
    count = budget.num_train + budget.num_test
    world = UntrimmedWorld(count, seed=2, size=96, seconds=float(budget.seconds), num_topics=12)
    ((_, records),) = make_worlds({"untrimmed": world}, folder / "worlds", num_workers)
    videos = [replace(record, shots=_shots(record, folder / "shots", tools)) for record in records[: budget.num_train]]
    tasks = tuple(_task(by, world, records, budget.num_train) for by in ("place", "topic", "action"))
    trials = []
    for seed in range(budget.seeds):
        for arm in arms(tools.configure, budget):
            seen = tasks[-1].train if arm.name.endswith(TRIMMED) else videos
            read = partial(tools.spread_clips, **arm.cls(arm.config).snippet.model_dump(), num_clips=1)
            trials.append(Trial(arm, seed, seen, tasks, read, folder, retrieval=True))
    return run_trials(trials, num_workers, name, progress)


def _shots(record: Record, folder: Path, tools: Tools) -> str:
    """The index of a video's shots, which is made if it is not there."""
    path = folder / f"{Path(record.path).stem}.npz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with writing(path) as temp:
            tools.index_shots(record.path, temp)
    return str(path)


def _task(by: str, world: UntrimmedWorld, records: list[Record], num_train: int) -> Task:
    """Clips to be told by `action`, or shots by `place` or by the `topic` of their video; none of a class not seen before."""
    parts: tuple[list[Record], list[Record]] = [], []
    for number, record in enumerate(records):
        for start, end, label in _told(by, world[number]):
            name = f"{record.id}@{start:.3f}"
            stretch = replace(record, id=name, labels=(label,), start_seconds=start, end_seconds=end)
            parts[number >= num_train].append(stretch)
    known = {record.labels for record in parts[0]}
    groups = {label: label.split()[0] for (label,) in known} if by == "place" else None
    return Task(by, parts[0], [record for record in parts[1] if record.labels in known], groups)


def _told(by: str, video: WorldVideo) -> list[tuple[float, float, str]]:
    """Stretches of a video, in seconds, and the class of each."""
    if by == "action":
        rows = zip(video.segments.times_seconds.tolist(), video.segments.labels, strict=True)
        return [(start, end, label) for (start, end), label in rows if end - start >= LEAST_SECONDS]
    shots = [shot for shot in video.shots if shot.setup.startswith("place")]  # a cutaway shows no place of a topic
    return [
        (s.start_seconds, s.end_seconds, f"{video.topic} {s.setup}" if by == "place" else video.topic) for s in shots
    ]


PAGES = {"hico": Page(TITLE, INTRO, CLAIMS, FULL, SMALL, measure)}
