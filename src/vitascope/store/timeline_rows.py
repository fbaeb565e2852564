"""The rows of a timeline's page: an axis in minutes and seconds, a film strip, and what is known of each class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from vitascope.store.charts import escaped
from vitascope.store.reports import film_strip
from vitascope.structures import Localized, Segments

WIDTH, HEIGHT = 10_000, 1_000  # units of a drawing, which is stretched to its place
MOST_POINTS = 2_400  # of a drawn curve or band: two a pixel, and enough to look closer
DENSE = 800  # snippets from which on curves are drawn thin
MOST_LANES = 8  # of proposals that overlap; those below lie on one another
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18_000, 36_000)  # seconds apart
ZOOMS = (1, 2, 4, 8, 16)
TICKS_A_VIEW = 12
COLOURS = ("#2563a8", "#c2571a", "#2e7d4f", "#8a4fa3")  # of curves, in their order


def clock(seconds: float, decimals: int = 0) -> str:
    """Return a time as people say it.

    Example:
        >>> clock(62), clock(3723.25, 1), clock(59.96, 1)
        ('1:02', '1:02:03.2', '1:00.0')
    """
    ticks = round(seconds * 10**decimals)
    whole, part = divmod(ticks, 10**decimals)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    text = f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
    return f"{text}.{part:0{decimals}d}" if decimals else text


def axis(duration_seconds: float) -> str:
    """Return the times along the top, and lines below them, for each of `ZOOMS`."""
    levels = []
    for zoom in ZOOMS:
        step = next((s for s in TICKS if duration_seconds / zoom / s <= TICKS_A_VIEW), TICKS[-1])
        times = np.arange(0, duration_seconds, step).tolist()
        decimals = 1 if step < 1 else 0
        # a label near the end would stand half outside
        marks = "".join(
            f'<i style="left:{100 * t / duration_seconds:.3f}%">'
            + (f"<span>{clock(t, decimals)}</span></i>" if t + 0.4 * step <= duration_seconds else "</i>")
            for t in times
        )
        levels.append(f'<div class="ticks z{zoom}">{marks}</div>')
    return "".join(levels)


def film(pictures: np.ndarray) -> str:
    """Return pictures uint8 `[T, C, H, W]` side by side, each in the middle of its part of the time.

    Raises:
        ValueError: They have another shape or dtype.
    """
    height, width = pictures.shape[-2:]
    images = "".join(
        f'<div><img src="{film_strip(picture[None])[0]}" alt="" style="max-width:{64 * width / height:.0f}px"></div>'
        for picture in pictures
    )
    return _row("film", "", f'<div class="film">{images}</div>')


def occurring(localized: Localized) -> list[str]:
    """Return the classes that were found, best first, then those of the truth, then those that a branch is sure of.

    Example:
        >>> found = Segments(np.array([[0.0, 1.0], [2.0, 3.0]]), ("b", "a"), np.array([0.9, 0.8]))
        >>> occurring(Localized("v.mp4", 4.0, found, np.zeros((0, 2)), ("a", "b", "c"), {}))
        ['b', 'a']
    """
    names = list(localized.segments.labels) + list(localized.truth.labels if localized.truth else ())
    if localized.confident is not None and len(localized.confident):
        is_sure = (np.asarray(localized.confident) == 1).any(axis=0)
        names += [name for name, is_one in zip(localized.classes, is_sure) if is_one]
    return list(dict.fromkeys(names))


def class_rows(localized: Localized, label: str) -> str:
    """Return the rows of one class: curves, confident stretches, proposals, truth; as many of them as there are."""
    duration, segments = localized.duration_seconds, localized.segments
    found = [i for i, name in enumerate(segments.labels) if name == label]
    scores = None if segments.scores is None else np.asarray(segments.scores, np.float64)
    told = f"{len(found)} found" + (f", best {scores[found].max():.2f}" if found and scores is not None else "")
    rows = []
    if label in localized.classes and localized.curves and len(localized.times_seconds):
        k = localized.classes.index(label)
        rows.append(_row(label, told, _curves(localized, k), "curves"))
        if localized.confident is not None:
            state = np.asarray(localized.confident)[:, k]
            rows.append(_row("", "confident", _bands(localized.times_seconds, state, duration), "bands"))
    else:
        rows.append(_row(label, told, "", "blank"))
    if found:
        rows.append(_bars("found", segments, found, duration))
    if localized.truth is not None:
        true = [i for i, name in enumerate(localized.truth.labels) if name == label]
        rows.append(_bars("truth", localized.truth, true, duration))
    return f'<div class="class">{"".join(rows)}</div>'


def shades(scores: np.ndarray | None) -> np.ndarray | None:
    """Return how opaque proposals are drawn: 1 for the best of the video, 0.2 for a score of 0.

    Example:
        >>> shades(np.array([2.0, 1.0, 0.0])).round(2).tolist()
        [1.0, 0.6, 0.2]
    """
    if scores is None or not len(scores):
        return None
    scores = np.clip(np.asarray(scores, np.float64), 0, None)
    return 0.2 + 0.8 * scores / (scores.max() or 1.0)


def thinned(values: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Return places of at most `most` values, in order: of each stretch its least and its greatest, so that spikes stay.

    Example:
        >>> thinned(np.array([0, 9, 0, 0, 5, 1, 2, 3]), 4).tolist()
        [0, 1, 4, 5]
    """
    if len(values) <= most:
        return np.arange(len(values))
    cuts = np.linspace(0, len(values), max(1, most // 2) + 1).astype(np.int64)
    parts = [(a, np.asarray(values[a:b])) for a, b in zip(cuts, cuts[1:])]
    return np.unique([place for a, part in parts for place in (a + part.argmin(), a + part.argmax())])


def _row(name: str, told: str, plot: str, kind: str = "") -> str:
    small = f"<small>{escaped(told)}</small>" if told else ""
    title = f'<b title="{escaped(name)}">{escaped(name)}</b>' if name else ""
    return f'<div class="row {kind}"><div class="name">{title}{small}</div><div class="plot">{plot}</div></div>\n'


def _drawing(inside: str, is_dense: bool = False) -> str:
    kind = ' class="dense"' if is_dense else ""
    return f'<svg{kind} viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">{inside}</svg>'


def _torn(times: np.ndarray) -> np.ndarray:
    """Bool `[S]`: before which snippets nothing was seen for longer than a snippet."""
    return np.concatenate([[True], times[1:, 0] - times[:-1, 1] > np.median(times[:, 1] - times[:, 0])])


def _curves(localized: Localized, k: int) -> str:
    """The curves of a class; each ends where nothing was seen for longer than a snippet."""
    times, duration = np.asarray(localized.times_seconds, np.float64), localized.duration_seconds
    is_torn = _torn(times)
    lines = []
    for i, curve in enumerate(localized.curves.values()):
        values = np.nan_to_num(np.asarray(curve, np.float64)[:, k])
        places = thinned(values)
        # a break is told to the first place at or after it
        breaks = np.diff(np.concatenate([[0], np.cumsum(is_torn)[places]])) > 0
        across = np.rint(times.mean(1)[places] / duration * WIDTH).astype(np.int64)
        down = np.rint((1 - np.clip(values[places], 0, 1)) * HEIGHT).astype(np.int64)
        points = [f"{'M' if cut else 'L'}{x} {y}" for x, y, cut in zip(across, down, breaks)]
        points[0] = f"M{round(times[0, 0] / duration * WIDTH)} {down[0]}L{across[0]} {down[0]}"
        points.append(f"L{round(times[-1, 1] / duration * WIDTH)} {down[-1]}")
        lines.append(f'<path d="{"".join(points)}" stroke="{COLOURS[i % len(COLOURS)]}"/>')
    grid = f'<path class="grid" d="M0 0H{WIDTH}M0 {HEIGHT // 2}H{WIDTH}M0 {HEIGHT}H{WIDTH}"/>'
    return '<span class="scale"><s>1</s><s>0</s></span>' + _drawing(grid + "".join(lines), len(times) > DENSE)


def _bands(times: np.ndarray, state: np.ndarray, duration: float) -> str:
    """The stretches of which a class is sure, either way; like curves, none goes on where nothing was seen."""
    times, state = np.asarray(times, np.float64), np.asarray(state)
    ends = np.minimum(times[:, 1], np.append(times[1:, 0], np.inf))
    is_torn = _torn(times)
    cuts = np.linspace(0, len(state), min(len(state), MOST_POINTS) + 1).astype(np.int64)
    cuts = np.union1d(cuts, np.flatnonzero(is_torn))
    parts = [state[a:b] for a, b in zip(cuts, cuts[1:])]
    shown = np.array([max((1, 0, -1), key=lambda value: (part == value).sum()) for part in parts])
    paths = {1: [], 0: []}
    starts = np.flatnonzero((np.diff(shown, prepend=-9) != 0) | is_torn[cuts[:-1]])
    for a, b in zip(starts, np.append(starts[1:], len(shown))):
        first, stop = cuts[a], cuts[b]
        left, right = (round(t / duration * WIDTH) for t in (times[first, 0], ends[stop - 1]))
        if shown[a] >= 0:
            paths[int(shown[a])].append(f"M{left} 0H{right}V{HEIGHT}H{left}Z")
    drawn = "".join(f'<path class="sure{value}" d="{"".join(pieces)}"/>' for value, pieces in paths.items() if pieces)
    return _drawing(drawn)


def _bars(kind: str, segments: Segments, places: Sequence[int], duration: float) -> str:
    opacity = shades(segments.scores) if kind == "found" else None
    lanes = _lanes(segments.times_seconds, places)
    bars = []
    for i in places:
        start, end = (float(t) for t in segments.times_seconds[i])
        score = "" if segments.scores is None else f", score {segments.scores[i]:.3f}"
        left, right = (min(max(100 * t / duration, 0.0), 100.0) for t in (start, end))
        beyond = "" if start >= 0 and end <= duration else f", beyond the video of {clock(duration, 1)}"
        title = escaped(f"{segments.labels[i]}, {clock(start, 1)} to {clock(end, 1)}{score}{beyond}")
        look = "" if opacity is None else f";opacity:{opacity[i]:.2f}"
        where = f"left:{left:.3f}%;width:{right - left:.3f}%;top:{11 * lanes[i]}px"
        bars.append(f'<u style="{where}{look}" data-at="{start:.3f}" title="{title}"></u>')
    height = 11 * (max(lanes.values(), default=0) + 1) - 1
    return _row("", kind, f'<div style="height:{height}px">{"".join(bars)}</div>', kind)


def _lanes(times: np.ndarray, places: Iterable[int]) -> dict[int, int]:
    """Return a lane of each, the better ones higher up, so that those of a lane do not overlap, but for the lowest."""
    lanes: list[list[tuple[float, float]]] = [[] for _ in range(MOST_LANES)]
    found = {}
    for i in places:
        start, end = (float(t) for t in times[i])
        free = (j for j, lane in enumerate(lanes) if all(end <= a or b <= start for a, b in lane))
        found[i] = next(free, MOST_LANES - 1)
        lanes[found[i]].append((start, end))
    return found
