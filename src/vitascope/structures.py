"""What travels between rooms.

Axes, always in this order and always in square brackets:

| letter | axis | letter | axis |
| --- | --- | --- | --- |
| `B` | batch | `N` | tokens |
| `V` | views | `D` | width of a vector |
| `T` | frames | `O` | objects |
| `C` | channels | `S` | snippets |
| `H W` | pixels | `K` | classes |

Clips travel as `[B, T, C, H, W]`. Times are presentation times in seconds, 0 being the first frame that the video shows;
intervals are half-open `[start, end)`; frames count from 0; boxes are `xyxy` in pixels; in masks 0 is background.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import torch

VideoReason = Literal[
    "missing",  # no such file, or it cannot be opened for reading
    "empty",  # zero bytes
    "not_a_video",  # no container that FFmpeg knows, or an image
    "no_video_stream",  # audio only
    "unsupported",  # the codec or pixel format cannot be decoded
    "too_large",  # the header declares more pixels or frames than the limits allow
    "damaged",  # the frames asked for cannot be decoded
    "out_of_range",  # a frame or a time outside the video was asked for
]


class VideoError(Exception):
    """The one error that reading a video raises.

    Attributes:
        path: The file, as it was given.
        reason: One of `VideoReason`, for programs.
        detail: One sentence, for people: what came, what is allowed, what to do.

    Example:
        >>> print(VideoError("a.mp4", "empty", "the file has 0 bytes; copy it again from its source"))
        a.mp4: empty: the file has 0 bytes; copy it again from its source
    """

    def __init__(self, path: str, reason: VideoReason, detail: str) -> None:
        super().__init__(str(path), reason, detail)  # args as given: the error crosses process boundaries by pickle
        self.path, self.reason, self.detail = str(path), reason, detail

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of a video that cannot be decoded, `[start_seconds, end_seconds)`."""

    start_seconds: float
    end_seconds: float
    detail: str = ""


NOTHING = "nothing"  # the tag of a video in which none of the actions happens


@dataclass(frozen=True, slots=True)
class Record:
    """One sample of a data set: a video, or one stretch of it, and what its owner says about it."""

    path: str
    id: str = ""  # unique within its data set; by default the path relative to the data set's root
    labels: tuple[str, ...] = ()
    start_seconds: float | None = None
    end_seconds: float | None = None
    split: str = ""
    masks: str = (
        ""  # a still's mask (PNG), a frame folder's masks (folder of PNG), or a video's (NPZ with `masks` [T, H, W])
    )
    motion: str = ""  # file with the video's flow, where a library keeps it
    shots: str = ""  # file with its shot boundaries and what it looks like, likewise
    features: tuple[str, ...] = ()  # files of vectors of its snippets, as `store.feature_files` writes them


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames of one video: `frames` uint8 RGB `[T, C, H, W]`, `times_seconds` float64 `[T]` (true presentation times)."""

    frames: torch.Tensor
    times_seconds: np.ndarray
    gaps: tuple[Gap, ...] = ()  # what was asked for and could not be decoded


@dataclass(frozen=True, slots=True)
class Labels:
    """Class names and their scores, best first."""

    names: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Segments:
    """Labelled stretches of one video: `times_seconds` float64 `[S, 2]`, `labels` `S` names, `scores` float64 `[S]` or None."""

    times_seconds: np.ndarray
    labels: tuple[str, ...]
    scores: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """What is known of one video of a localization data set; everything but the id may be missing.

    `labels` are of the whole video (official ones where the data set gives them, else those of its segments), `segments` is
    None where only tags are known, `ambiguous_seconds` float64 `[A, 2]` are stretches that are not to be judged.
    """

    id: str
    labels: tuple[str, ...] = ()
    segments: Segments | None = None
    split: str = ""
    duration_seconds: float | None = None
    fps: float | None = None
    ambiguous_seconds: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Localized:
    """What was found in one video: `segments` with scores, best first, and what they were read from.

    `times_seconds` float64 `[S, 2]` are the snippets; `curves` by name (`CBP`, `VLP`) probabilities float32 `[S, K]` of
    `classes`; `confident` int8 `[S, K]` is 1 for confident foreground, 0 for background, -1 for neither.
    """

    path: str
    duration_seconds: float
    segments: Segments
    times_seconds: np.ndarray
    classes: tuple[str, ...]
    curves: dict[str, np.ndarray]
    confident: np.ndarray | None = None
    truth: Segments | None = None


@dataclass(frozen=True, slots=True)
class Masks:
    """Objects of one video: `masks` uint8 `[T, H, W]` of object ids (0 background), `times_seconds` float64 `[T]`."""

    masks: np.ndarray
    times_seconds: np.ndarray


ObjectState = Literal[
    "visible",  # seen
    "occluded",  # seen in part, or not for certain; nothing is remembered
    "absent",  # not in the frame, as far as can be told
    "searching",  # just after a cut, not found again yet
]


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """What is known of one object in one frame; `confidence` in [0, 1], `area` is its share of the frame."""

    frame: int
    seconds: float
    object_id: int
    state: ObjectState
    confidence: float
    area: float
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Features:
    """Vectors of one video: `values` `[S, D]`, `times_seconds` float64 `[S, 2]`, the stretch that each row describes.

    `manifest` tells how they were made: model, dtype, fps, num_frames, stride_frames, hop_seconds, size.
    """

    values: np.ndarray
    times_seconds: np.ndarray
    manifest: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figure:
    """Pictures with a caption: `rows` of uint8 `[T, C, H, W]`, each row a film strip, each with its name."""

    title: str
    rows: tuple[tuple[str, np.ndarray], ...]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a report: column names and rows of plain values."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """Lines of a report: for each name its points `(x, y)`."""

    title: str
    x_label: str
    lines: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """What was when: for each lane its name and stretches `(start_seconds, end_seconds, label)`; a label is a colour."""

    title: str
    lanes: tuple[tuple[str, tuple[tuple[float, float, str], ...]], ...]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a run says of itself: parts in reading order, and the facts (command, commit, seed, machine's shape)."""

    title: str
    parts: tuple[str | Table | Curve | Timeline | Figure, ...]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """What a scan did; `problems` holds a row for every file that is not done: path, state, reason, detail, gaps."""

    data: str
    library: str
    num_files: int
    duration_seconds: float
    done: int
    damaged: int
    refused: int
    opened: int
    unchanged: int
    moved: int
    gone: int
    variable_rate: int
    problems: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """What a training run did; `curve` are `(step, loss)`, `unreadable` maps a path to the reason, `signal` ended it.

    `advice` are sentences on how to train faster.
    """

    run: str
    recipe: str
    data: str
    library: str
    folder: str
    state: str
    steps: int
    metrics: dict[str, float]
    unreadable: dict[str, str]
    curve: tuple[tuple[float, float], ...]
    signal: int | None = None
    advice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbedSummary:
    """What an extraction did; `problems` are `(path, state, detail)`."""

    library: str
    run: str
    embedded: int
    skipped: int
    snippets: int
    width: int
    problems: tuple[tuple[str, str, str], ...]
    signal: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A stretch of a video that is like the query; `score` is the cosine, 1 for the same."""

    path: str
    start_seconds: float
    end_seconds: float
    score: float


@dataclass(frozen=True, slots=True)
class SearchSummary:
    """The moments most like `[seconds]` of `path`, best first, among `num_vectors` snippets of a run."""

    path: str
    seconds: float
    run: str
    num_vectors: int
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """What came of following objects through a video; details are in `events.json` of the folder `out`.

    `objects` tell of each object its number of frames in each state and its mean confidence, `stretches` are its states in
    order of time, `checks` the frames most worth checking, `gaps` the `(start, end)` that cannot be decoded. `was_done`
    tells that there was nothing left to do; after a `signal` only `num_frames` is known.
    """

    out: str
    was_done: bool
    num_frames: int
    objects: tuple[dict[str, Any], ...]
    gaps: tuple[tuple[float, float], ...]
    stretches: tuple[dict[str, Any], ...]
    checks: tuple[dict[str, Any], ...]
    signal: int | None = None


@dataclass(frozen=True, slots=True)
class CacheSummary:
    """What a call of `cache_motion` or `index_shots` did: videos done now and those `skipped`, having been there.

    `num_pairs` are the pairs of frames cached now, or the shot boundaries found; `cache_bytes` and `video_bytes` are of all videos that have their flow;
    `removed` files belonged to no video any more; `problems` are `(path, state, detail)`; `signal` ended it.
    """

    library: str
    method: str
    cached: int
    skipped: int
    num_pairs: int
    cache_bytes: int
    video_bytes: int
    removed: int
    problems: tuple[tuple[str, str, str], ...]
    signal: int | None = None


@dataclass(frozen=True, slots=True)
class ClaimsSummary:
    """What became of claims, told on the `page`: of each its text, whether it is held, and its points: mean, low, high."""

    name: str
    page: str
    claims: tuple[tuple[str, bool, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class LocalizeSummary:
    """What came of finding actions in videos; after a `signal` only `run` and `problems` are known.

    `num_likely` of the `num_segments` have a score of 0.3 or more. `classes` are `(name, videos tagged with it, videos it was
    found in)`, `problems` `(path, what is wrong)`, `doubts` tags
    to look at again: `(video, label, "suspicious" or "missing", seconds, score)`, `files` those of all videos together.
    """

    out: str
    library: str
    run: str
    num_videos: int = 0
    num_tagged: int = 0
    num_segments: int = 0
    num_likely: int = 0
    classes: tuple[tuple[str, int, int], ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    doubts: tuple[tuple[str, str, str, float, float], ...] = ()
    advice: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    signal: int | None = None
