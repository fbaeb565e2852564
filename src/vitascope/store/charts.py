"""Curves and timelines as inline SVG: axes, a grid, lines, bars; colours come from the page's style."""

from __future__ import annotations

import html
import math

from vitascope.structures import Curve, Timeline

WIDTH, HEIGHT = 860, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 46
LANE, LANE_LEFT = 30, 150  # height of a lane of a timeline, and room for its name
MOST_POINTS = 600  # of a drawn line; more cannot be told apart at this width


def curve_svg(curve: Curve) -> str:
    """Return a curve as an `<svg>` element, or nothing if it has no finite point.

    A point that is not finite breaks its line. Where values span more than three decades, all positive, the axis is
    logarithmic and says so.

    Example:
        >>> svg = curve_svg(Curve("loss", "step", (("train", ((0, 1.0), (1, 0.5))),)))
        >>> svg.startswith("<svg"), svg.count("<path")
        (True, 2)
    """
    points = [(x, y) for _, line in curve.lines for x, y in line if math.isfinite(x) and math.isfinite(y)]
    if not points:
        return ""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    is_log = min(ys) > 0 and max(ys) / min(ys) > 1000
    level = math.log10 if is_log else float
    x_ticks, y_ticks = ticks(min(xs), max(xs), 8), ticks(level(min(ys)), level(max(ys)), 5, is_log)
    x_low, x_high = (min(xs), max(xs)) if min(xs) < max(xs) else (x_ticks[0], x_ticks[-1])
    y_low, y_high = min(y_ticks[0], level(min(ys))), max(y_ticks[-1], level(max(ys)))

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x_low) / (x_high - x_low), (y - y_low) / (y_high - y_low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    grid, marks = [], []
    for tick in y_ticks:
        _, y = place(x_low, tick)
        grid.append(f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}")
        label = number(10**tick if is_log else tick)
        marks.append(f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for tick in x_ticks:
        x, _ = place(tick, y_low)
        if LEFT - 1 <= x <= WIDTH - RIGHT + 1:
            marks.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{number(tick)}</text>')
    label = escaped(curve.x_label) + (" (values on a logarithmic scale)" if is_log else "")
    marks.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{label}</text>')
    lines = [_line(line, i, level, place) for i, (_, line) in enumerate(curve.lines)]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(curve.title)}">'
        f'<path d="{"".join(grid)}" fill="none" stroke="var(--line)"/>{"".join(marks)}{"".join(lines)}</svg>'
    )


def timeline_svg(timeline: Timeline) -> str:
    """Return a timeline as an `<svg>` element, a bar for each stretch, or nothing if it has none.

    Example:
        >>> svg = timeline_svg(Timeline("states", (("object 1", ((0.0, 2.5, "visible"), (2.5, 4.0, "absent"))),)))
        >>> svg.count("<rect"), "visible" in svg
        (2, True)
    """
    stretches = [stretch for _, lane in timeline.lanes for stretch in lane]
    if not stretches:
        return ""
    end, colours = max(stretch[1] for stretch in stretches), labels_of(timeline)
    bottom = TOP + LANE * len(timeline.lanes)
    scale = (WIDTH - LANE_LEFT - RIGHT) / (end or 1.0)
    drawn = []
    for i, (name, lane) in enumerate(timeline.lanes):
        y = TOP + LANE * i
        drawn.append(f'<text x="{LANE_LEFT - 10}" y="{y + 18}" text-anchor="end">{escaped(name)}</text>')
        for start, stop, label in lane:
            x, width = LANE_LEFT + start * scale, max(1.0, (stop - start) * scale)
            title = escaped(f"{label}, {start:.2f} to {stop:.2f} s")
            drawn.append(
                f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="{LANE - 8}" '
                f'fill="var(--s{colours.index(label) % 6})"><title>{title}</title></rect>'
            )
    for tick in ticks(0.0, end, 8):
        if tick <= end:
            x = LANE_LEFT + tick * scale
            drawn.append(f'<path d="M{x:.1f} {bottom}v5" stroke="var(--faint)"/>')
            drawn.append(f'<text x="{x:.1f}" y="{bottom + 19}" text-anchor="middle">{number(tick)}</text>')
    drawn.append(f'<text x="{(LANE_LEFT + WIDTH - RIGHT) / 2}" y="{bottom + 38}" text-anchor="middle">seconds</text>')
    label = escaped(timeline.title)
    return f'<svg viewBox="0 0 {WIDTH} {bottom + 46}" role="img" aria-label="{label}">{"".join(drawn)}</svg>'


def labels_of(timeline: Timeline) -> list[str]:
    """The labels of a timeline in order of appearance; their places are their colours."""
    return list(dict.fromkeys(label for _, lane in timeline.lanes for *_, label in lane))


def ticks(low: float, high: float, count: int, whole: bool = False) -> list[float]:
    """Return about `count` round numbers that enclose `[low, high]`, at least two.

    Args:
        low: Least value.
        high: Greatest value.
        count: How many are wanted.
        whole: Only whole numbers, for decades.

    Example:
        >>> ticks(0.13, 0.92, 5)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high <= low:
        low, high = low - (abs(low) * 0.05 or 0.5), high + (abs(high) * 0.05 or 0.5)
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if power * factor * count >= (high - low) * 0.999)
    step = max(1.0, round(step)) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, max(last, first + 1) + 1)]


def number(value: float) -> str:
    """Return a short label: `1,500`, `0.25`, `3e-05`.

    Example:
        >>> number(1500.0), number(0.25), number(0.00003), number(0.0)
        ('1,500', '0.25', '3e-05', '0')
    """
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return f"{value:,.4f}".rstrip("0").rstrip(".") if value % 1 else f"{value:,.0f}"
    return f"{value:.3g}"


def _line(line, index: int, level, place) -> str:
    pieces, is_broken = [], True
    for x, y in thinned(line):
        if not (math.isfinite(x) and math.isfinite(y)):
            is_broken = True
            continue
        across, down = place(x, level(y))
        pieces.append(f"{'M' if is_broken else 'L'}{across:.1f} {down:.1f}")
        is_broken = False
    dots = ""
    if len(pieces) == 1:
        across, down = pieces[0][1:].split()
        dots = f'<circle cx="{across}" cy="{down}" r="3" fill="var(--s{index % 6})"/>'
    return (
        f'<path d="{"".join(pieces)}" fill="none" stroke="var(--s{index % 6})" stroke-width="1.8" '
        f'stroke-linejoin="round"/>{dots}'
    )


def thinned(line) -> list[tuple[float, float]]:
    """Return at most about `MOST_POINTS` points of a line: of each stretch its least and its greatest, so spikes stay.

    Example:
        >>> len(thinned([(i, i % 7) for i in range(10_000)])) <= MOST_POINTS
        True
    """
    line = list(line)
    if len(line) <= MOST_POINTS:
        return line
    stretch = math.ceil(2 * len(line) / MOST_POINTS)
    kept = []
    for i in range(0, len(line), stretch):
        part = range(i, min(i + stretch, len(line)))
        least, greatest = min(part, key=lambda j: line[j][1]), max(part, key=lambda j: line[j][1])
        kept += [line[j] for j in sorted({least, greatest})]
    return kept


def escaped(text: str) -> str:
    """Escape text for HTML; undecodable bytes of a file name and control characters become visible escapes.

    Example:
        >>> escaped("<b>" + chr(27))
        '&lt;b&gt;\\\\x1b'
    """
    text = text.encode(errors="backslashreplace").decode()
    text = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
    return html.escape(text)
