"""Tags that the curves speak against: an action that is tagged and never seen, or seen and not tagged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from vitascope.methods.base import Frozen
from vitascope.structures import NOTHING, Localized

NEARLY = 0.85  # of what is said of the surest class: less is what any other class gets


class NoisyTag(NamedTuple):
    """A tag to look at again; `kind` is `suspicious` (tagged, never seen) or `missing` (seen, not tagged)."""

    video: str
    label: str
    kind: str
    seconds: float  # where the curves say most of it
    score: float  # what they say there, the mean of the branches


def noisy_tags(tags: Mapping[str, tuple[str, ...]], found: Mapping[str, Localized], config: Frozen) -> list[NoisyTag]:
    """Tags to look at again, the clearest first; videos without tags are left out.

    A tag is suspicious where no branch is ever as sure as `high`; one is missing where all branches are, in the same
    snippets, and nearly as sure as of the surest class.

    Args:
        tags: Of each video.
        found: What was found in it.
        config: Has `high`.
    """
    doubts = []
    for video, labels in tags.items():
        if not labels or video not in found:
            continue
        one = found[video]
        middles = one.times_seconds.mean(1)
        curves = np.stack(list(one.curves.values()))  # [branches, S, K]
        mean = curves.mean(0)
        for k, name in enumerate(one.classes):
            best = int(mean[:, k].argmax())
            told = (float(middles[best]), float(mean[best, k]))
            if name in labels and curves[..., k].max() < config.high:
                doubts.append(NoisyTag(video, name, "suspicious", *told))
            is_high = mean[best, k] >= NEARLY * mean.max()
            if name not in labels and is_high and (curves[..., k] > config.high).all(0).any():
                doubts.append(NoisyTag(video, name, "missing", *told))
    return sorted(doubts, key=lambda doubt: (doubt.kind, doubt.score if doubt.kind == "suspicious" else -doubt.score))


def silent_classes(tags: Mapping[str, tuple[str, ...]], found: Mapping[str, Localized]) -> list[str]:
    """Classes that have no confident snippet in any of the videos tagged with them."""
    tagged = {name for video, labels in tags.items() if video in found for name in labels} - {NOTHING}
    heard = set()
    for video, labels in tags.items():
        one = found.get(video)
        if one is None or one.confident is None:
            continue
        heard |= {name for k, name in enumerate(one.classes) if name in labels and (one.confident[:, k] == 1).any()}
    return sorted(tagged - heard)
