"""A video's timeline as one HTML file: curves, confident stretches, proposals, truth; a click shows the moment.

The file needs nothing but a browser: no network, no library. The video stays where it is; the page holds its path, relative
to itself, so that both can move together.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from vitascope.store.atomic import WriteError, write_bytes
from vitascope.store.charts import escaped
from vitascope.store.timeline_rows import COLOURS, ZOOMS, axis, class_rows, clock, film, occurring
from vitascope.structures import Localized

MOST_ROWS = 200  # of a table of the page

STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #57606b; --faint: #8a939e; --line: #e3e7ec; --panel: #f5f7f9;
  --names: 148px; --found: #5a3db0; --true: #1b1f24; --sure: #7fcf9d; --not: #d3d8de; --head: #d3202f; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1320px; margin: 0 auto; padding: 28px 32px 56px; }
h1 { font-size: 25px; line-height: 1.25; font-weight: 650; letter-spacing: -.012em; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 17px; font-weight: 620; margin: 0 0 2px; }
p { margin: 2px 0 0; color: var(--soft); max-width: 90ch; overflow-wrap: anywhere; }
.top { display: flex; gap: 28px; align-items: flex-start; margin: 8px 0 0; padding: 10px 0; flex-wrap: wrap; }
@media (min-width: 901px) and (min-height: 760px) { .top { position: sticky; top: 0; z-index: 5; background: #fff; } }
video { display: block; height: 264px; max-width: 100%; min-width: 300px; background: #101317; border-radius: 6px; }
#broken { border: 1px solid var(--line); border-radius: 6px; background: var(--panel); padding: 14px 18px;
  max-width: 560px; color: var(--ink); }
.legend { list-style: none; margin: 0; padding: 0; font-size: 14px; color: var(--soft); flex: 1 1 280px; }
.legend li { margin: 0 0 4px; display: flex; gap: 10px; align-items: center; }
.legend i { flex: none; width: 34px; height: 10px; border-radius: 2px; }
.legend i.line { height: 3px; }
.legend i.none { border: 1px solid var(--not); }
.bar { display: flex; gap: 6px; align-items: center; font-size: 13px; color: var(--soft); margin: 6px 0; }
.bar output { font-variant-numeric: tabular-nums; color: var(--ink); font-weight: 600; min-width: 5.5em; }
.bar button { font: inherit; color: var(--soft); background: #fff; border: 1px solid var(--line); border-radius: 5px;
  padding: 1px 9px; cursor: pointer; }
.bar button.on { background: var(--ink); border-color: var(--ink); color: #fff; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
#rows { position: relative; min-width: 100%; }
.row { display: flex; position: relative; }
.name { flex: none; width: var(--names); padding: 0 14px 0 16px; position: sticky; left: 0; z-index: 3; background: #fff;
  line-height: 1.3; }
/* what lies between rows is the names' too, so that nothing shows there of what scrolls below them */
.row .name { box-shadow: 0 -4px 0 #fff; } .class .row:first-child .name { box-shadow: 0 -9px 0 #fff; }
.class .row:last-child .name { box-shadow: 0 -4px 0 #fff, 0 10px 0 #fff; }
.name b { display: block; font-weight: 620; font-size: 14px; overflow: hidden; text-overflow: ellipsis; }
.name small { display: block; font-size: 12px; color: var(--soft); }
.plot { position: relative; flex: 1; cursor: crosshair; min-width: 0; }
.axis { height: 26px; }
.over { position: absolute; left: var(--names); right: 0; top: 0; bottom: 0; pointer-events: none;
  overflow: clip; }
.ticks { display: none; }
.ticks i { position: absolute; top: 20px; bottom: 0; width: 1px; background: var(--line); }
.ticks span { position: absolute; bottom: 100%; left: 0; transform: translateX(-50%); font: 12px system-ui, sans-serif;
  color: var(--soft); font-variant-numeric: tabular-nums; line-height: 20px; }
.ticks i:first-child span { transform: none; }
ZOOM_RULES
.film { display: flex; height: 52px; margin: 2px 0 4px; overflow: hidden; }
.film div { flex: 1 1 0; min-width: 0; display: flex; justify-content: center; }
.film img { height: 52px; width: 100%; object-fit: cover; display: block; }
.class { border-top: 1px solid var(--line); padding: 9px 0 10px; }
.curves .plot, .curves svg { height: 66px; }
.curves .name { padding-top: 2px; }
.blank .plot { height: 34px; }
svg { display: block; width: 100%; position: relative; overflow: visible; }
svg path { fill: none; stroke-width: 1.5; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
svg.dense path { stroke-width: 1; opacity: .8; }
svg path.grid, svg.dense path.grid { stroke: var(--line); stroke-width: 1; }
svg path.sure1 { fill: var(--sure); } svg path.sure0 { fill: var(--not); }
.scale s { position: absolute; left: -13px; top: -7px; font-size: 10px; line-height: 14px; color: var(--faint);
  text-decoration: none; z-index: 4; }
.scale s + s { top: auto; bottom: -7px; }
.bands, .found, .truth { margin-top: 4px; }
.bands .name, .found .name, .truth .name { line-height: 11px; }
.bands .name small, .found .name small, .truth .name small { font-size: 11px; text-align: right; color: var(--faint); }
.bands svg { height: 8px; margin-top: 2px; outline: 1px solid var(--line); }
.found .plot > div, .truth .plot > div { position: relative; }
u { position: absolute; height: 10px; min-width: 2px; border-radius: 2px; background: var(--found); cursor: pointer; }
.truth u { background: var(--true); height: 6px; margin-top: 2px; }
u:hover { outline: 2px solid var(--ink); }
#head, #hover { position: absolute; top: 18px; bottom: 0; width: 2px; margin-left: -1px; background: var(--head); }
#hover { width: 1px; background: var(--faint); }
#hover span { position: absolute; top: -18px; transform: translateX(-50%); background: var(--ink); color: #fff;
  font-size: 11px; line-height: 17px; padding: 0 5px; border-radius: 3px; white-space: nowrap; }
[hidden] { display: none !important; }
.tables { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 36px; margin-top: 30px; }
.list { max-height: 420px; overflow: auto; margin-top: 8px; border-top: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th { position: sticky; top: 0; background: #fff; text-align: left; font-weight: 560; color: var(--soft); }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td:first-child { white-space: normal; overflow-wrap: anywhere; }
td.n, th.n { text-align: right; }
tr[data-at] { cursor: pointer; } tr[data-at]:hover td { background: var(--panel); }
@media (max-width: 900px) { main { padding: 20px 16px; } .tables { grid-template-columns: minmax(0, 1fr); }
  :root { --names: 104px; } video { height: 220px; } }
""".replace(
    "ZOOM_RULES",
    "\n".join(
        f".zoom{z} {{ width: calc(var(--names) + (100% - var(--names)) * {z}); }} .zoom{z} .z{z} {{ display: block; }}"
        for z in ZOOMS
    ),
)

SCRIPT = """
const get = id => document.getElementById(id);
const rows = get('rows'), scroll = get('scroll'), video = get('video'), head = get('head'), hover = get('hover');
const duration = Number(rows.dataset.duration);
let wanted = null;
const clock = s => {
  const t = Math.round(s * 10), h = Math.floor(t / 36000), m = Math.floor(t / 600) % 60, r = Math.floor(t / 10) % 60;
  return (h ? h + ':' + String(m).padStart(2, '0') : m) + ':' + String(r).padStart(2, '0') + '.' + t % 10;
};
const point = s => { head.style.left = 100 * s / duration + '%'; head.hidden = false; get('now').value = clock(s); };
const seek = s => {
  s = Math.min(Math.max(s, 0), duration);
  point(s);
  const names = rows.querySelector('.name').offsetWidth, x = s / duration * (rows.offsetWidth - names);
  if (x < scroll.scrollLeft || x > scroll.scrollLeft + scroll.clientWidth - names)
    scroll.scrollLeft = x - (scroll.clientWidth - names) / 2;
  if (video.readyState) video.currentTime = s; else wanted = s;
};
const unplayable = () => { video.hidden = true; get('broken').hidden = false; };
const timeAt = event => {
  const plot = event.target.closest('.plot');
  if (!plot) return null;
  const box = plot.getBoundingClientRect();
  return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * duration;
};
video.addEventListener('error', unplayable);
video.addEventListener('loadedmetadata', () => {
  if (!video.videoWidth) unplayable();
  if (wanted !== null) video.currentTime = wanted;
});
video.addEventListener('timeupdate', () => { if (video.currentTime || !video.paused) point(video.currentTime); });
if (video.error) unplayable();
document.addEventListener('click', event => {
  const mark = event.target.closest('[data-at]'), button = event.target.closest('[data-zoom]'), time = timeAt(event);
  if (button) zoom(Number(button.dataset.zoom));
  else if (mark) seek(Number(mark.dataset.at));
  else if (time !== null) seek(time);
});
rows.addEventListener('mousemove', event => {
  const time = timeAt(event);
  hover.hidden = time === null;
  if (time === null) return;
  hover.style.left = 100 * time / duration + '%';
  hover.firstChild.textContent = clock(time);
});
rows.addEventListener('mouseleave', () => { hover.hidden = true; });
const zoom = times => {
  const names = rows.querySelector('.name').offsetWidth, half = (scroll.clientWidth - names) / 2;
  const at = head.hidden ? (scroll.scrollLeft + half) / (rows.offsetWidth - names) : parseFloat(head.style.left) / 100;
  rows.className = 'zoom' + times;
  for (const each of document.querySelectorAll('[data-zoom]'))
    each.classList.toggle('on', each.dataset.zoom === String(times));
  scroll.scrollLeft = at * (rows.offsetWidth - names) - half;
};
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; media-src 'self' file:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{facts}</p>
<div class="top">
<video id="video" src="{source}" controls preload="metadata" playsinline></video>
<div id="broken" hidden><b>This browser cannot play the video.</b><br>{shown} is not there any more, or in a format that
browsers do not know (H.264 in MP4 plays in all of them). Clicks then show the time alone.</div>
<ul class="legend">{legend}</ul>
</div>
<div class="bar">at <output id="now">0:00.0</output> zoom {buttons}</div>
<div class="scroll" id="scroll"><div id="rows" class="zoom1" data-duration="{duration}">
<div class="over">{axis}</div>
<div class="row axis"><div class="name"></div><div class="plot"></div></div>
{rows}
<div class="over"><div id="hover" hidden><span></span></div><div id="head" hidden></div></div>
</div></div>
<div class="tables">
<section><h2>Found</h2>{found}</section>
<section><h2>To review</h2>{review}</section>
</div>
</main>
<script>{script}</script>
</body>
</html>
"""


class Disagreement(NamedTuple):
    """Mean probabilities that two branches give a proposal's class within it; `place` is its place among the segments."""

    place: int
    first: float
    second: float

    @property
    def size(self) -> float:
        return abs(self.first - self.second)


def disagreements(localized: Localized) -> list[Disagreement]:
    """Return the proposals on which the first two curves differ, most first: where a look is worth most.

    Example:
        >>> from vitascope.structures import Segments
        >>> times = np.array([[0.0, 1.0], [1.0, 2.0]])
        >>> curves = {"CBP": np.array([[0.9], [0.2]]), "VLP": np.array([[0.8], [0.9]])}
        >>> found = Segments(times, ("run", "run"), np.array([0.9, 0.3]))
        >>> [each.place for each in disagreements(Localized("v.mp4", 2.0, found, times, ("run",), curves))]
        [1, 0]
    """
    if len(localized.curves) < 2 or not len(localized.times_seconds):
        return []
    curves = [np.asarray(curve, np.float64) for curve in list(localized.curves.values())[:2]]
    centres = np.asarray(localized.times_seconds, np.float64).mean(1)
    found = []
    for place, label in enumerate(localized.segments.labels):
        if label not in localized.classes:
            continue
        k, (start, end) = localized.classes.index(label), localized.segments.times_seconds[place]
        inside = np.flatnonzero((centres >= start) & (centres < end))
        inside = inside if len(inside) else np.array([np.abs(centres - (start + end) / 2).argmin()])
        found.append(Disagreement(place, *(float(curve[inside, k].mean()) for curve in curves)))
    return sorted(found, key=lambda each: -each.size)


def write_timeline_page(path: str | os.PathLike[str], localized: Localized, pictures: np.ndarray | None = None) -> Path:
    """Write the timeline of a video as one HTML file, and return the file.

    Args:
        path: The file to write; the video is linked relative to it.
        localized: What was found.
        pictures: Of the video for the film strip, uint8 `[T, C, H, W]`, picture `i` at `(i + 0.5) / T` of the duration; 12
            to 24 of them, 60 to 120 pixels high, will do.

    Raises:
        ValueError: The duration is not > 0, or the pictures are not as said.
        WriteError: The system refuses.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(error.errno, f"cannot make {path.parent}: {error.strerror}", str(path.parent)) from error
    write_bytes(path, render_timeline(localized, linked(localized.path, path.parent), pictures).encode())
    return path


def linked(video: str, folder: Path) -> str:
    """Return the address of a video for a page in `folder`.

    Example:
        >>> linked("/films/my film.mp4", Path("/films/out"))
        '../my%20film.mp4'
    """
    try:
        return quote(os.fsencode(Path(os.path.relpath(video, folder)).as_posix()))
    except ValueError:  # on another drive
        return Path(os.path.abspath(video)).as_uri()


def render_timeline(localized: Localized, source: str, pictures: np.ndarray | None = None) -> str:
    """Return the page; `source` is the address of the video. Arguments and errors as of `write_timeline_page`.

    Example:
        >>> from vitascope.structures import Segments
        >>> found = Segments(np.array([[61.0, 75.5]]), ("jump",), np.array([0.9]))
        >>> page = render_timeline(Localized("a.mp4", 120.0, found, np.zeros((0, 2)), ("jump",), {}), "a.mp4")
        >>> "1:01.0" in page, 'data-at="61.000"' in page
        (True, True)
    """
    duration = float(localized.duration_seconds)
    if not duration > 0:
        raise ValueError(f"duration_seconds ({duration}) of {localized.path} must be > 0")
    names = occurring(localized)
    rows = film(pictures) if pictures is not None and len(pictures) else ""
    rows += "".join(class_rows(localized, name) for name in names)
    count = len(localized.segments.labels)
    facts = [clock(duration), _plural(count, "proposal"), _plural(len(set(localized.segments.labels)), "action")]
    if not names:
        facts.append("nothing of what was asked for was found")
    return PAGE.format(
        title=escaped(os.path.basename(localized.path)),
        facts=escaped(" · ".join(facts)),
        style=STYLE,
        script=SCRIPT,
        source=escaped(source),
        shown=escaped(localized.path),
        legend=_legend(localized, bool(count)),
        buttons="".join(f'<button data-zoom="{z}"{_on(z)}>{z}×</button>' for z in ZOOMS),
        duration=repr(duration),
        axis=axis(duration),
        rows=rows,
        found=_found_table(localized),
        review=_review_table(localized),
    )


def _legend(localized: Localized, has_found: bool) -> str:
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(localized.curves)}
    items = [(f'class="line" style="background:{colour}"', f"{name}: probability") for name, colour in colours.items()]
    if localized.confident is not None:
        items += [('style="background:var(--sure)"', "confident: it happens")]
        items += [('style="background:var(--not)"', "confident: it does not")]
        items += [('class="none"', "neither")]
    if has_found:
        fade = 'style="background:linear-gradient(90deg,#5a3db033,var(--found))"'
        scores = localized.segments.scores
        told = "" if scores is None else f", the darker the higher the score (best {np.max(scores):.2f})"
        items.append((fade, f"found{told}"))
    if localized.truth is not None:
        items.append(('style="background:var(--true);height:6px"', "truth"))
    told = "".join(f"<li><i {look}></i>{escaped(text)}</li>" for look, text in items)
    return told + "<li>A click on a row, a bar or a line of the tables shows that moment of the video.</li>"


def _found_table(localized: Localized) -> str:
    segments = localized.segments
    rows = []
    for place, label in enumerate(segments.labels[:MOST_ROWS]):
        start, end = (float(t) for t in segments.times_seconds[place])
        score = "–" if segments.scores is None else f"{segments.scores[place]:.3f}"
        rows.append((start, label, clock(start, 1), clock(end, 1), f"{end - start:.1f} s", score))
    told = "Best first." if segments.scores is not None else ""
    return _table(("action", "from", "to", "length", "score"), rows, told, len(segments.labels))


def _review_table(localized: Localized) -> str:
    if len(localized.curves) < 2:
        return "<p>Only one branch was asked, so there is no disagreement to review.</p>"
    first, second = list(localized.curves)[:2]
    segments, found = localized.segments, disagreements(localized)
    rows = []
    for each in found[:MOST_ROWS]:
        start, end = (float(t) for t in segments.times_seconds[each.place])
        told = (f"{each.first:.2f}", f"{each.second:.2f}", f"{each.size:.2f}")
        rows.append((start, segments.labels[each.place], clock(start, 1), clock(end, 1), *told))
    told = "Where the branches disagree most: mean probability of each within a proposal."
    return _table(("action", "from", "to", first, second, "apart"), rows, told, len(found))


def _table(columns: tuple[str, ...], rows: list[tuple], told: str, count: int) -> str:
    """A table whose rows `(seconds, cell, ...)` show that moment; all cells but the first are numbers."""
    if not rows:
        return "<p>Nothing.</p>"
    told += f" The first {len(rows)} of {count}." if count > len(rows) else ""
    kinds = ["", *[' class="n"'] * (len(columns) - 1)]
    head = "".join(f"<th{kind}>{escaped(name)}</th>" for name, kind in zip(columns, kinds))
    body = "\n".join(
        f'<tr data-at="{seconds:.3f}">'
        + "".join(f"<td{kind}>{escaped(cell)}</td>" for cell, kind in zip(cells, kinds))
        + "</tr>"
        for seconds, *cells in rows
    )
    return f'<p>{escaped(told)}</p><div class="list"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _plural(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def _on(zoom: int) -> str:
    return ' class="on"' if zoom == 1 else ""
