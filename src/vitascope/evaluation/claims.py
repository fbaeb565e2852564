"""Claims and whether they hold: means and intervals over seeds, differences paired by seed, and the page that tells them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitascope.store import atomic
from vitascope.store.markdown import as_markdown
from vitascope.structures import Report, Table

if TYPE_CHECKING:
    import torch

    from vitascope.methods.base import Frozen, Method

Scores = dict[str, dict[str, list[float]]]  # arm -> measure -> a share for each seed, in the order of the seeds
STUDENT_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)  # by degrees of freedom, from 1


class Interval(NamedTuple):
    """A mean over seeds and its 95 % interval."""

    mean: float
    low: float
    high: float


class Claim(NamedTuple):
    """A sentence, and the sum that says whether it is so: of `(sign, arm, measure)`, seed by seed.

    It holds if the mean of the sum is at least `least` points and its interval lies above 0.
    """

    text: str
    terms: tuple[tuple[int, str, str], ...]
    least: float = 0.0


def above(text: str, arm: str, other: str, measure: str, least: float = 0.0) -> Claim:
    """The claim that one arm is above another by at least `least` points.

    Example:
        >>> above("ours is better", "ours", "theirs", "probe").terms
        ((1, 'ours', 'probe'), (-1, 'theirs', 'probe'))
    """
    return Claim(text, ((1, arm, measure), (-1, other, measure)), least)


class Page(NamedTuple):
    """Claims that are measured together.

    Attributes:
        title: Of the page.
        intro: What is done; fields of the budget in braces.
        claims: What is judged.
        full: How much is spent, as `measure` takes it.
        small: The same, only to try the command.
        measure: `(name, tools, folder, budget, num_workers=, progress=)` -> the scores, and the CPU time in seconds.
    """

    title: str
    intro: str
    claims: tuple[Claim, ...]
    full: Any
    small: Any
    measure: Callable[..., tuple[Scores, float]]


class Tools(NamedTuple):
    """What measuring needs of other rooms.

    Attributes:
        configure: `(recipe, assignments)` -> its method and configuration.
        spread_clips: `(record, num_frames=, stride_frames=, fps=, size=, num_clips=)` -> its clips uint8 `[V, T, C, H, W]`.
        index_shots: `(video, path)` writes the index of a video's shots.
        snippets: `(record, hop_seconds=, num_frames=, stride_frames=, fps=, size=)` -> its snippets, each with its times.
    """

    configure: Callable[[str, Sequence[str]], tuple[type[Method], Frozen]]
    spread_clips: Callable[..., torch.Tensor]
    index_shots: Callable[..., Any]
    snippets: Callable[..., Any]


class Verdict(NamedTuple):
    """What became of a claim: the difference in points."""

    claim: Claim
    points: Interval
    is_held: bool


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval by Student's t, which with few seeds is wide, as it should be.

    Args:
        values: One a seed, 2 to 11 of them.

    Raises:
        ValueError: There are too few or too many.

    Example:
        >>> tuple(round(value, 2) for value in interval([1.0, 2.0, 3.0]))
        (2.0, -0.48, 4.48)
    """
    count = len(values)
    if not 2 <= count <= len(STUDENT_975) + 1:
        raise ValueError(f"values ({count}) must be 2 to {len(STUDENT_975) + 1}, one a seed")
    mean = statistics.fmean(values)
    half = STUDENT_975[count - 2] * statistics.stdev(values) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def judge(claim: Claim, scores: Scores) -> Verdict:
    """Whether a claim holds.

    Example:
        >>> scores = {"ours": {"probe": [0.52, 0.5, 0.51]}, "theirs": {"probe": [0.4, 0.4, 0.4]}}
        >>> verdict = judge(Claim("ours is better", ((1, "ours", "probe"), (-1, "theirs", "probe")), least=5), scores)
        >>> verdict.is_held, round(verdict.points.mean, 1)
        (True, 11.0)
    """
    by_seed = zip(
        *([sign * value for value in scores[arm][measure]] for sign, arm, measure in claim.terms), strict=True
    )
    points = interval([100 * sum(values) for values in by_seed])
    return Verdict(claim, points, points.mean >= claim.least and points.low > 0)


def report(title: str, intro: str, scores: Scores, verdicts: Sequence[Verdict], facts: dict[str, Any]) -> Report:
    """The page of claims: each with its verdict, then what every arm reached, seed by seed."""
    rows = [
        (
            verdict.claim.text + (f", by at least {verdict.claim.least:g} points" if verdict.claim.least else ""),
            "**held**" if verdict.is_held else "**not held**",
            f"{verdict.points.mean:+.1f}",
            f"{verdict.points.low:+.1f} to {verdict.points.high:+.1f}",
        )
        for verdict in verdicts
    ]
    parts: list[str | Table] = [intro, Table("Claims", ("claim", "verdict", "points", "95 % interval"), tuple(rows))]
    for measure in next(iter(scores.values())):
        parts.append(Table(measure.capitalize(), ("arm", "mean", "95 % interval", "seeds"), _rows(scores, measure)))
    return Report(title, tuple(parts), facts)


def _rows(scores: Scores, measure: str) -> tuple[tuple[Any, ...], ...]:
    rows = []
    for arm, measures in scores.items():
        percents = [100 * value for value in measures[measure]]
        mean, low, high = interval(percents)
        rows.append((arm, f"{mean:.1f}", f"{low:.1f} to {high:.1f}", ", ".join(f"{value:.1f}" for value in percents)))
    return tuple(rows)


def write(report: Report, scores: Scores, verdicts: Sequence[Verdict], folder: Path, name: str) -> Path:
    """Write `<name>.md` for people and `<name>.json` for machines, and return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    told = [
        {"claim": v.claim.text, "least": v.claim.least, "held": v.is_held, "points": v.points._asdict()}
        for v in verdicts
    ]
    atomic.write_json(folder / f"{name}.json", {"facts": report.facts, "claims": told, "scores": scores})
    atomic.write_bytes(folder / f"{name}.md", as_markdown(report).encode())
    return folder / f"{name}.md"
