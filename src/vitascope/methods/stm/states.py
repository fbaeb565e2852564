"""Is the object there? A state for each object, moved by numbers from frame to frame (spec 7.4).

| from | to | when |
| --- | --- | --- |
| visible | searching | a cut; the same frame is looked at as any other while searching |
| visible | occluded | no mask, or one that jumped or is hardly believed |
| occluded | visible | a mask was accepted in `frames_to_return` frames in a row |
| occluded, searching | absent | nothing to show for `frames_to_absent` frames in which it was looked for |
| absent, searching | occluded | a mask was accepted; it is shown |

A mask is accepted when the belief in it is at least `enter`: the probability that it shows the object, from how certain
its pixels are and how like its colours and its features are to those of the given masks. Only masks of visible objects
that are well believed are remembered: those that are not mislead all frames to come.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from vitascope.structures import ObjectState


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where the lines are drawn."""

    cut_distance: float = (
        8.0  # of two thumbnails; this and the next two as in `video/cuts.py`, where they were measured
    )
    cut_contrast: float = 2.7  # of that distance to the motion before it, plus 2
    cut_likeness: float = 0.7  # correlation of luma over a cut is less
    # these four: logistic regression on masks of running sessions, right (J >= .5) and wrong (J < .25, drift among them), of
    # the objects world and of DAVIS train with foreign shots cut in; area under the curve .995 with the weights that ship.
    # A fit to these weights alone, with hardly any likeness (colours 13, likeness 1), lost objects that were half hidden
    certainty_weight: float = 10.0
    colours_weight: float = 12.0
    likeness_weight: float = 4.0
    belief_bias: float = -18.7
    min_area: float = 2e-4  # share of the frame below which a mask is none
    enter: float = 0.6  # belief from which an object that is away is back: 96 % of right masks, 4 % of wrong ones
    keep: float = 0.35  # belief from which a visible object stays so: 98 % and 6 %
    remember: float = (
        0.9  # belief from which the mask of a visible object is remembered; of 0.3 to 0.95 the best on new
    )
    # episodes (J&F .757, .735 at 0.8) and near the best on DAVIS train at 240p (J .629, .613 at 0.3), with earlier weights
    moved: float = 0.4  # from the place of the latest frame that was kept, in radii, from which another is kept
    show: float = 0.03  # belief from which what is left of an object, where it was, is still shown
    jump: float = 3.0  # way of the centre from one frame to the next, in radii of a disc of the object's area
    margin: float = (
        -0.1
    )  # from which an object that is away is looked for, in usual matches: 95 % of frames that show it,
    # a third of those that do not (see `signals.match`)
    calm: float = 1.0  # way between segmented frames, in radii, up to which the frames between are filled in
    frames_to_return: int = 2
    frames_to_absent: int = 4
    probe_frames: int = 3  # an object that is away is looked for at least so often
    match_floor: float = 0.5  # added to the standard deviation of the match, in units of the logits of attention


@dataclass(frozen=True, slots=True)
class Signals:
    """What is measured of one object in one frame."""

    cut: float = 0.0  # above 1 there was a cut
    area: float = 0.0  # of its mask, after the objects competed; 0 too when nothing was decoded
    centre: tuple[float, float] = (0.5, 0.5)  # y, x in shares of height and width
    certainty: float = 0.0  # mean probability of the mask's pixels
    colours: float = 0.0  # likeness of the mask's colours to those of the given mask, in [0, 1]
    likeness: float = 0.0  # of its features, in [-1, 1]
    match: float = 0.0  # similarity of the given tokens to the frame's


@dataclass(frozen=True, slots=True)
class Track:
    """What the machine remembers of one object; means run over the frames in which it was visible."""

    state: ObjectState = "visible"
    run: int = 0  # frames in a row that speak for a return, or below 0 for an absence
    is_shown: bool = True
    belief: float = 1.0  # in the latest mask that was decoded
    area: float = 0.0
    centre: tuple[float, float] = (0.5, 0.5)
    kept_area: float = 0.0  # this and the next one are those of the latest frame that was kept
    kept_centre: tuple[float, float] = (0.5, 0.5)
    accepted: int = 0  # frames in the means
    match_mean: float = 0.0
    match_variance: float = 0.0

    @property
    def is_away(self) -> bool:
        return self.state in ("absent", "searching")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Track:
        return cls(**{**plain, "centre": tuple(plain["centre"]), "kept_centre": tuple(plain["kept_centre"])})


MEMORY_FRAMES = 50  # over which the running means forget


def belief(signals: Signals, t: Thresholds) -> float:
    """Probability that the mask shows the object; 0 when there is none.

    Example:
        >>> round(belief(Signals(area=0.1, certainty=0.95, colours=0.8, likeness=0.8), Thresholds()), 2)
        0.97
    """
    if signals.area < t.min_area:
        return 0.0
    logit = t.belief_bias + t.certainty_weight * signals.certainty
    logit += t.colours_weight * signals.colours + t.likeness_weight * signals.likeness
    return 1 / (1 + math.exp(-logit))


def z_score(track: Track, match: float, t: Thresholds) -> float:
    """How unusual a match is; 0 while no frame was accepted."""
    if track.accepted == 0:
        return 0.0
    return (match - track.match_mean) / (math.sqrt(track.match_variance) + t.match_floor)


def accept(track: Track, signals: Signals) -> Track:
    """Takes a frame into the running means."""
    count = min(track.accepted + 1, MEMORY_FRAMES)
    share = 1 / count
    off = signals.match - track.match_mean
    return replace(
        track,
        accepted=count,
        area=track.area + (signals.area - track.area) * max(share, 0.1),
        centre=signals.centre,
        match_mean=track.match_mean + share * off,
        match_variance=(1 - share) * (track.match_variance + share * off * off),
    )


def is_near(track: Track, signals: Signals, t: Thresholds) -> bool:
    """Whether there is a mask close to where the object was last."""
    if signals.area < t.min_area:
        return False
    radius = math.sqrt(max(track.area, signals.area) / math.pi)
    return math.dist(track.centre, signals.centre) <= t.jump * radius


def advance(track: Track, signals: Signals, t: Thresholds) -> Track:
    """The state after a frame in which the object's mask was decoded; pure.

    Example:
        >>> seen, gone = Signals(area=0.1, certainty=0.95, colours=0.8, likeness=0.8), Signals()
        >>> track, states = Track(), []
        >>> for signals in (seen, gone, gone, gone, gone, gone, seen, seen):
        ...     track = advance(track, signals, Thresholds())
        ...     states.append(track.state)
        >>> states
        ['visible', 'occluded', 'occluded', 'occluded', 'absent', 'absent', 'occluded', 'visible']
    """
    sure = belief(signals, t)
    track = replace(track, belief=sure)
    if signals.cut > 1 and track.state != "absent":
        track = replace(track, state="searching", run=0, is_shown=False)
    stays = is_near(track, signals, t) or track.accepted == 0
    if track.state == "visible" and sure >= t.keep and stays:
        return replace(accept(track, signals), run=0, is_shown=True)
    if sure >= t.enter:
        run = max(track.run, 0) + 1
        if run >= t.frames_to_return:
            return replace(accept(track, signals), state="visible", run=0, is_shown=True)
        return replace(track, state="occluded", run=run, is_shown=True, centre=signals.centre)
    if track.is_away:
        run = min(track.run, 0) - 1
        state = "absent" if -run >= t.frames_to_absent else track.state
        return replace(track, state=state, run=run, is_shown=False)
    if stays and sure >= (t.show if track.is_shown else t.keep):  # in part, where it was: shown, not remembered
        return replace(track, state="occluded", run=0, is_shown=True, centre=signals.centre)
    run = min(track.run, 0) - 1
    return replace(track, state="absent" if -run >= t.frames_to_absent else "occluded", run=run, is_shown=False)


def is_remembered(track: Track, t: Thresholds) -> bool:
    """Whether the mask of the latest frame is fit to be learned from."""
    return track.state == "visible" and track.belief >= t.remember


def has_moved(track: Track, t: Thresholds) -> bool:
    """Whether an object is elsewhere, or of another size, than in the latest frame that was kept.

    How often memory is renewed matters: each time adds the errors of a mask, and each time left out leaves the object to
    move on. What counts is how far it moved, not how many frames, which depends on their rate.
    """
    if track.kept_area == 0:
        return True
    area = max(track.area, t.min_area)
    way = math.dist(track.centre, track.kept_centre) / math.sqrt(area / math.pi)
    return way + abs(math.log(area / max(track.kept_area, t.min_area))) > t.moved


def is_steady(before: Track, after: Track, t: Thresholds) -> bool:
    """Whether masks of the frames between can be told from the two: well believed, and close; or away in both."""
    if before.is_away and after.is_away:
        return True
    if not (is_remembered(before, t) and is_remembered(after, t)):
        return False
    return math.dist(before.centre, after.centre) <= t.calm * math.sqrt(before.area / math.pi)


def shown_state(track: Track) -> ObjectState:
    """The state as people see it: an object that is just coming back is seen, though nothing is learned from it yet."""
    return "visible" if track.state == "occluded" and track.run > 0 else track.state


def confidence(track: Track) -> float:
    """How far what is shown can be believed, in [0, 1]: the belief in the mask, or one minus it where it is not shown."""
    return track.belief if track.is_shown else 1 - track.belief
