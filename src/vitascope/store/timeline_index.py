"""All timelines of one call on one HTML page: the videos with what was found in them, the classes, and what to doubt."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from vitascope.store.atomic import WriteError, write_bytes
from vitascope.store.charts import escaped
from vitascope.store.timeline_rows import clock, shades
from vitascope.structures import Localized, LocalizeSummary

MOST_MARKS = 200  # of a video's strip
MOST_DOUBTS = 200  # of the table
HUES = (258, 22, 145, 205, 330, 48, 175, 290, 0, 95)  # of classes, in their order, and again

STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #57606b; --line: #e3e7ec; --panel: #f5f7f9; --link: #2d4fa3; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 28px 32px 56px; }
h1 { font-size: 25px; line-height: 1.25; font-weight: 650; letter-spacing: -.012em; margin: 0; }
h2 { font-size: 17px; font-weight: 620; margin: 34px 0 6px; }
p { margin: 2px 0 0; color: var(--soft); max-width: 90ch; overflow-wrap: anywhere; }
ul { margin: 0; padding: 0 0 0 20px; max-width: 90ch; } li { margin: 0 0 5px; overflow-wrap: anywhere; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
section.small table { width: auto; }
th { text-align: left; font-weight: 560; color: var(--soft); white-space: nowrap; }
th, td { padding: 7px 18px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.name { overflow-wrap: anywhere; min-width: 180px; max-width: 340px; }
tr:hover td { background: var(--panel); }
.strip { position: relative; height: 12px; background: var(--panel); border-radius: 3px; margin: 5px 0; min-width: 220px;
  overflow: hidden; }
.strip u { position: absolute; top: 0; bottom: 0; min-width: 2px; }
.counts span { white-space: nowrap; margin-right: 12px; } .counts { line-height: 1.6; min-width: 220px; }
i { display: inline-block; width: 9px; height: 9px; border-radius: 2px; margin-right: 5px; }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Timelines</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>Timelines</h1>
<p>{facts}</p>
{parts}
</main>
</body>
</html>
"""


def write_timeline_index(
    path: str | os.PathLike[str],
    summary: LocalizeSummary,
    found: Mapping[str, Localized],
    pages: Mapping[str, str | os.PathLike[str]],
) -> Path:
    """Write the page that lists all videos, and return the file.

    Args:
        path: The file to write; pages are linked relative to it.
        summary: Of the call: classes, problems, doubts, advice.
        found: What was found in each video, by its id.
        pages: Of the videos that have one, by the same ids.

    Raises:
        WriteError: The system refuses.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(error.errno, f"cannot make {path.parent}: {error.strerror}", str(path.parent)) from error
    links = {name: _address(page, path.parent) for name, page in pages.items()}
    write_bytes(path, render_index(summary, found, links).encode(errors="replace"))
    return path


def render_index(summary: LocalizeSummary, found: Mapping[str, Localized], links: Mapping[str, str]) -> str:
    """Return the page; `links` are the addresses of the videos' own pages, by id.

    Example:
        >>> page = render_index(LocalizeSummary("out", "lib", "r1", advice=("tag more",)), {}, {})
        >>> "by run r1" in page, "<li>tag more</li>" in page
        (True, True)
    """
    names = [name for name, _, _ in summary.classes]
    hues = {name: HUES[i % len(HUES)] for i, name in enumerate(names)}
    total = sum(one.duration_seconds for one in found.values())
    facts = [
        _plural(summary.num_videos, "video"),
        _length(total),
        _plural(summary.num_segments, "action"),
        f"by run {summary.run}",
    ]
    parts = [
        _part("Advice", _list(summary.advice)),
        _part("Videos", _videos(found, links, hues)),
        _part("Classes", _classes(summary, hues), "small"),
        _part("Tags to look at again", _doubts(summary, links)),
        _part("Left out, or not whole, or in doubt", _list([f"{path}: {detail}" for path, detail in summary.problems])),
    ]
    return PAGE.format(style=STYLE, facts=escaped(" · ".join(facts)), parts="\n".join(filter(None, parts)))


def _videos(found: Mapping[str, Localized], links: Mapping[str, str], hues: Mapping[str, int]) -> str:
    rows = []
    for name, one in found.items():
        counts = Counter(one.segments.labels)
        told = "".join(
            f"<span>{_dot(hues, label)}{escaped(label)} {counts[label]}</span>" for label in hues if counts[label]
        )
        told = told or "nothing found"
        strip = f'<div class="strip">{_marks(one, hues)}</div>'
        rows.append(
            f'<td class="name">{_linked(name, links)}</td><td class="n">{_length(one.duration_seconds)}</td>'
            f'<td>{strip}</td><td class="counts">{told}</td>'
        )
    return _table('<th>video</th><th class="n">length</th><th>when</th><th>found</th>', rows)


def _marks(one: Localized, hues: Mapping[str, int]) -> str:
    """The best proposals of a video along its length, the better ones over the others."""
    opacity, marks = shades(one.segments.scores), []
    for i, label in list(enumerate(one.segments.labels))[:MOST_MARKS]:
        start, end = (100 * float(t) / (one.duration_seconds or 1.0) for t in one.segments.times_seconds[i])
        look = f"left:{start:.2f}%;width:{end - start:.2f}%;background:{_colour(hues, label)}"
        look += "" if opacity is None else f";opacity:{opacity[i]:.2f}"
        told = " to ".join(clock(float(t), 1) for t in one.segments.times_seconds[i])
        marks.append(f'<u style="{look}" title="{escaped(label)}, {told}"></u>')
    return "".join(reversed(marks))


def _classes(summary: LocalizeSummary, hues: Mapping[str, int]) -> str:
    rows = []
    for name, tagged, found in summary.classes:
        cells = f'<td class="n">{tagged}</td>' if summary.num_tagged else ""
        rows.append(f'<td class="name">{_dot(hues, name)}{escaped(name)}</td>{cells}<td class="n">{found}</td>')
    head = '<th class="n">videos tagged with it</th>' if summary.num_tagged else ""
    return _table(f'<th>class</th>{head}<th class="n">videos it was found in</th>', rows)


def _doubts(summary: LocalizeSummary, links: Mapping[str, str]) -> str:
    rows = []
    for video, label, kind, seconds, score in summary.doubts[:MOST_DOUBTS]:
        told = "tagged, but never seen for certain" if kind == "suspicious" else "not tagged, but seen"
        rows.append(
            f'<td class="name">{_linked(video, links)}</td><td>{escaped(label)}</td><td>{told}</td>'
            f'<td class="n">{clock(seconds, 1)}</td><td class="n">{score:.2f}</td>'
        )
    more = len(summary.doubts) - len(rows)
    told = f"<p>The first {len(rows)} of {len(summary.doubts)}.</p>" if more else ""
    head = '<th>video</th><th>tag</th><th>doubt</th><th class="n">most of it at</th><th class="n">how sure there</th>'
    return told + _table(head, rows) if rows else ""


def _table(head: str, rows: list[str]) -> str:
    if not rows:
        return ""
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _list(sentences: tuple[str, ...] | list[str]) -> str:
    return "<ul>" + "".join(f"<li>{escaped(each)}</li>" for each in sentences) + "</ul>" if sentences else ""


def _part(title: str, inside: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{title}</h2>{inside}</section>' if inside else ""


def _linked(name: str, links: Mapping[str, str]) -> str:
    return f'<a href="{escaped(links[name])}">{escaped(name)}</a>' if name in links else escaped(name)


def _address(page: str | os.PathLike[str], folder: Path) -> str:
    return quote(os.fsencode(Path(os.path.relpath(page, folder)).as_posix()))


def _length(seconds: float) -> str:
    return clock(seconds, 0 if seconds >= 10 else 1)


def _colour(hues: Mapping[str, int], label: str) -> str:
    return f"hsl({hues.get(label, 210)} 55% 45%)"


def _dot(hues: Mapping[str, int], label: str) -> str:
    return f'<i style="background:{_colour(hues, label)}"></i>'


def _plural(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"
