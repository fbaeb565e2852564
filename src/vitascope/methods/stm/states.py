"""Is the object there? A state for each object, moved by numbers from frame to frame (spec 7.4).

| from | to | when |
| --- | --- | --- |
| visible | searching | a cut; the same frame is looked at as any other while searching |
| visible | occluded | no mask, or hardly any of what it was, or one that jumped or is unlike the object |
| occluded | visible | the mask was accepted in `FRAMES_TO_RETURN` frames in a row |
| occluded | absent | no accepted mask for `frames_to_absent` frames |
| absent, searching | occluded | a mask was accepted; it is shown |

Accepted means verified: the frame with its new mask, taken as the only memory, finds the object in the frame in which a
person outlined it (`agreement`), and the object's tokens match about as well as in the frames accepted before (`match`).
Only the masks of visible objects are remembered.
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
    min_area: float = 2e-4  # share of the frame below which a mask is none
    shrunk: float = 0.25  # share of the usual area below which an object is hidden in part
    jump: float = 3.0  # way of the centre from one frame to the next, in radii of a disc of the object's area
    weak_match: float = -4.0  # z-score of the match below which a mask is not believed
    agreement: float = 0.4  # overlap with the given mask, coming back from this frame, from which a mask is accepted
    attention: float = 0.3  # of the best token of a frame, from which an object that is away is looked for
    frames_to_return: int = 2
    frames_to_absent: int = 4
    probe_frames: int = 4  # an object that is away is looked for at least so often
    match_floor: float = 0.02  # standard deviation of the match is at least this share of its mean


@dataclass(frozen=True, slots=True)
class Signals:
    """What is measured of one object in one frame."""

    cut: float = 0.0  # above 1 there was a cut
    area: float = 0.0  # of its mask, after the objects competed; 0 too when nothing was decoded
    centre: tuple[float, float] = (0.5, 0.5)  # y, x in shares of height and width
    certainty: float = 0.0  # mean probability of the mask's pixels
    match: float = 0.0  # similarity of the given tokens to the frame's
    evidence: float = 0.0  # the largest probability of a pixel or, where nothing was decoded, attention of a token
    agreement: float | None = None  # with the given mask; None where it was not verified

    def verified(self, agreement: float) -> Signals:
        return replace(self, agreement=agreement)


@dataclass(frozen=True, slots=True)
class Track:
    """What the machine remembers of one object; means run over accepted frames."""

    state: ObjectState = "visible"
    run: int = 0  # frames in a row that speak for a change
    is_shown: bool = True
    area: float = 0.0
    centre: tuple[float, float] = (0.5, 0.5)
    accepted: int = 0  # frames in the means
    match_mean: float = 0.0
    match_variance: float = 0.0

    @property
    def is_remembered(self) -> bool:
        return self.state == "visible"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Track:
        return cls(**{**plain, "centre": tuple(plain["centre"])})


CALM = 1.0  # way between segmented frames, in radii of a disc of the object's area, up to which frames are filled in
MEMORY_FRAMES = 50  # over which the running means forget


def z_score(track: Track, match: float, t: Thresholds) -> float:
    """How unusual a match is; 0 while too few frames are known."""
    if track.accepted < 3:
        return 0.0
    spread = math.sqrt(track.match_variance) + t.match_floor * abs(track.match_mean) + 1e-6
    return (match - track.match_mean) / spread


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


def is_doubtful(track: Track, signals: Signals, t: Thresholds) -> bool:
    """Whether a mask of an object that was visible is to be verified before it is believed."""
    if track.accepted == 0:
        return False
    radius = math.sqrt(max(track.area, signals.area) / math.pi)
    jumped = math.dist(track.centre, signals.centre) > t.jump * radius
    return jumped or signals.area < t.shrunk * track.area or z_score(track, signals.match, t) < t.weak_match


def must_verify(track: Track, signals: Signals, t: Thresholds) -> bool:
    """Whether the mask of this frame counts only once it is verified."""
    if signals.area < t.min_area:
        return False
    return track.state != "visible" or signals.cut > 1 or is_doubtful(track, signals, t)


def advance(track: Track, signals: Signals, t: Thresholds) -> Track:
    """The state after a frame; pure.

    Example:
        >>> seen, gone = Signals(area=0.1, certainty=0.9), Signals()
        >>> track = accept(Track(), seen)
        >>> states = []
        >>> for signals in (seen, gone, gone, gone, gone, gone):
        ...     track = advance(track, signals, Thresholds())
        ...     states.append(track.state)
        >>> states
        ['visible', 'occluded', 'occluded', 'occluded', 'absent', 'absent']
    """
    is_seen = signals.area >= t.min_area
    is_accepted = is_seen and (signals.agreement or 0.0) >= t.agreement
    is_accepted = is_accepted and z_score(track, signals.match, t) >= t.weak_match
    if signals.cut > 1 and track.state != "absent":
        track = replace(track, state="searching", run=0)
    if track.state == "visible":
        if is_seen and (signals.agreement is None or is_accepted):
            return replace(accept(track, signals), run=0, is_shown=True)
        # hidden in part at the place where it was: shown, not remembered
        stays = is_seen and math.dist(track.centre, signals.centre) <= t.jump * math.sqrt(track.area / math.pi)
        return replace(
            track, state="occluded", run=-1, is_shown=stays, centre=signals.centre if stays else track.centre
        )
    if is_accepted:
        run = max(track.run, 0) + 1
        state: ObjectState = "visible" if run >= t.frames_to_return else "occluded"
        return replace(accept(track, signals), state=state, run=0 if state == "visible" else run, is_shown=True)
    if track.state != "occluded":
        return replace(track, run=0, is_shown=False)
    run = min(track.run, 0) - 1
    state = "absent" if -run >= t.frames_to_absent else "occluded"
    stays = is_seen and track.is_shown and state == "occluded"
    return replace(track, state=state, run=0 if state == "absent" else run, is_shown=stays)


def is_steady(before: Track, after: Track) -> bool:
    """Whether masks of the frames between can be told from those of the two: same state, and a way of less than half a radius."""
    if before.state != after.state or after.state == "occluded":
        return False
    if after.state != "visible":
        return True
    return math.dist(before.centre, after.centre) <= CALM * math.sqrt(before.area / math.pi)


def confidence(track: Track, signals: Signals, t: Thresholds) -> float:
    """How far what is shown can be believed, in [0, 1].

    Of a mask: the mean probability of its pixels, less when the object's tokens match worse than they use to, and at
    most its agreement where it was verified. Of an absence: one minus what speaks most for the object.
    """
    if not track.is_shown or signals.area < t.min_area:
        return min(max(1 - signals.evidence, 0.0), 1.0)
    usual = 1 / (1 + math.exp(-(z_score(track, signals.match, t) - t.weak_match)))
    sure = signals.certainty * usual
    return min(max(sure if signals.agreement is None else min(sure, signals.agreement), 0.0), 1.0)
