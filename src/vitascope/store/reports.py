"""A report as one HTML file that needs nothing else: no network, no script, no file beside it."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vitascope.store.atomic import WriteError, write_bytes, write_json
from vitascope.store.charts import curve_svg, escaped, labels_of, timeline_svg
from vitascope.structures import Curve, Figure, Report, Table, Timeline

JPEG_QUALITY = 88
LONG_CELL = 16  # characters from which on a cell may break its line
MOST_EVEN = 2  # decimals that all fractions of a column are given where one has them
PNG_BELOW_PIXELS = 64 * 64  # small pictures (patches, masks) stay exact

STYLE = """
:root { color-scheme: light dark; --ink: #1d2127; --soft: #5b6470; --faint: #8b95a1; --line: #e1e5ea; --page: #fff;
  --panel: #f6f7f9; --s0: #2563a8; --s1: #c2571a; --s2: #2e7d4f; --s3: #8a4fa3; --s4: #a8842c; --s5: #2b8a9a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --soft: #a3acb8; --faint: #747e8b; --line: #2d333b;
  --page: #14171b; --panel: #1b1f25; --s0: #6ea8e6; --s1: #ee9a63; --s2: #6fc492; --s3: #c493dc; --s4: #dcbc6a;
  --s5: #6cc5d4; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1080px; margin: 0 auto; padding: 48px 32px 64px; }
h1 { font-size: 30px; line-height: 1.2; font-weight: 650; letter-spacing: -.015em; margin: 0 0 20px;
  overflow-wrap: anywhere; }
h2 { font-size: 19px; line-height: 1.3; font-weight: 620; letter-spacing: -.005em; margin: 0 0 4px;
  overflow-wrap: anywhere; }
section { margin-top: 44px; }
p { margin: 0 0 12px; max-width: 72ch; overflow-wrap: anywhere; }
.caption { color: var(--soft); font-size: 14px; margin: 0 0 14px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 560; color: var(--soft); border-bottom: 1px solid var(--faint);
  padding: 6px 18px 6px 0; white-space: nowrap; }
td { border-bottom: 1px solid var(--line); padding: 6px 18px 6px 0; vertical-align: top; white-space: nowrap; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 13em; }
td.number, th.number { text-align: right; white-space: nowrap; }
tr > :last-child { padding-right: 0; }
.none { color: var(--faint); font-style: italic; }
svg { display: block; width: 100%; height: auto; max-width: 860px; font: 12px system-ui, -apple-system, "Segoe UI",
  Roboto, Arial, sans-serif; }
svg text { fill: var(--soft); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 14px; color: var(--soft); margin: 6px 0 0;
  padding: 0; list-style: none; }
.legend i { display: inline-block; width: 18px; height: 3px; border-radius: 2px; vertical-align: middle;
  margin-right: 8px; }
.strip { display: grid; grid-template-columns: 172px minmax(0, 1fr); gap: 4px 18px; align-items: center;
  padding: 8px 0; border-top: 1px solid var(--line); }
.strip:last-child { border-bottom: 1px solid var(--line); }
.strip .name { font-size: 14px; overflow-wrap: anywhere; color: var(--soft); font-variant-numeric: tabular-nums;
  line-height: 1.4; }
.strip:first-of-type .name { color: var(--ink); }
.strip img { display: block; height: auto; max-width: 100%; max-height: 132px; border-radius: 3px;
  background: var(--panel); }
.strip img.small { image-rendering: pixelated; }
.facts { background: var(--panel); border-radius: 8px; padding: 14px 20px; font-size: 13px; }
.facts dl { margin: 0; display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 3px 20px; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere;
  white-space: pre-wrap; }
@media (max-width: 640px) { main { padding: 28px 16px 40px; } h1 { font-size: 24px; } section { margin-top: 34px; }
  .strip { grid-template-columns: minmax(0, 1fr); } .facts dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  .facts dd { margin-bottom: 8px; } svg { font-size: 19px; } }
@media print { main { max-width: none; padding: 0; } section { break-inside: avoid; } }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{parts}
{facts}
</main>
</body>
</html>
"""


def write_report(report: Report, folder: str | Path) -> Path:
    """Write `report.html`, and its words and numbers as `report.json` beside it; returns the HTML file.

    Raises:
        WriteError: The system refuses.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(error.errno, f"cannot make {folder}: {error.strerror}", str(folder)) from error
    write_bytes(folder / "report.html", render(report).encode())
    write_json(folder / "report.json", as_plain(report))
    return folder / "report.html"


def render(report: Report) -> str:
    """Return a report as one HTML document; whatever stands in it is shown as text.

    Raises:
        TypeError: A part is no text, `Table`, `Curve`, `Timeline` or `Figure`.
        ValueError: A figure's pictures are not uint8 `[T, C, H, W]`.

    Example:
        >>> "<h1>a &lt;b&gt;</h1>" in render(Report("a <b>", ()))
        True
    """
    parts = "\n".join(f"<section>\n{_part(part)}\n</section>" for part in report.parts)
    return PAGE.format(title=escaped(report.title), style=STYLE, parts=parts, facts=_facts(report.facts))


def as_plain(report: Report) -> dict[str, Any]:
    """Return a report as plain JSON values; of the pictures only their names and shapes."""
    parts: list[Any] = []
    for part in report.parts:
        if isinstance(part, Figure):
            rows = [{"name": name, "shape": list(np.shape(frames))} for name, frames in part.rows]
            part = {"kind": "figure", "title": part.title, "caption": part.caption, "rows": rows}
        elif isinstance(part, (Table, Curve, Timeline)):
            part = {"kind": type(part).__name__.lower()} | asdict(part)
        parts.append(part)
    return _json_values({"title": report.title, "parts": parts, "facts": report.facts})


def _part(part: str | Table | Curve | Timeline | Figure) -> str:
    if isinstance(part, str):
        return "\n".join(f"<p>{escaped(piece)}</p>" for piece in re.split(r"\n\s*\n", part.strip()))
    if isinstance(part, Table):
        return _head(part.title, part.caption) + _table(part)
    if isinstance(part, Curve):
        return _head(part.title, part.caption) + _drawn(curve_svg(part), [name for name, _ in part.lines])
    if isinstance(part, Timeline):
        return _head(part.title, part.caption) + _drawn(timeline_svg(part), labels_of(part))
    if isinstance(part, Figure):
        return _head(part.title, part.caption) + "".join(_strip(name, frames) for name, frames in part.rows)
    raise TypeError(
        f"a part of a report ({type(part).__name__}) must be text, a Table, a Curve, a Timeline or a Figure"
    )


def _head(title: str, caption: str) -> str:
    below = f'<p class="caption">{escaped(caption)}</p>' if caption else '<p class="caption"></p>'
    return f"<h2>{escaped(title)}</h2>\n{below}\n"


def _table(table: Table) -> str:
    columns = list(zip(*table.rows)) if table.rows else [()] * len(table.columns)
    kinds = [_kind(column) for column in columns]
    head = "".join(f'<th scope="col"{kind}>{escaped(name)}</th>' for name, kind in zip(table.columns, kinds))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds)) + "</tr>"
        for row in zip(*map(_cells, columns))
    )
    if not table.rows:
        body = f'<tr><td class="none" colspan="{max(1, len(table.columns))}">nothing</td></tr>'
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _drawn(svg: str, labels: list[str]) -> str:
    """A drawing with the names of its colours below."""
    if not svg:
        return '<p class="none">no points</p>'
    names = "".join(
        f'<li><i style="background: var(--s{i % 6})"></i>{escaped(name)}</li>' for i, name in enumerate(labels)
    )
    return f'{svg}\n<ul class="legend">{names}</ul>'


def _strip(name: str, frames: np.ndarray) -> str:
    source, width, is_small = film_strip(np.asarray(frames))
    kind = ' class="small"' if is_small else ""
    picture = f'<img src="{source}" alt="{escaped(name)}" style="width: {width}px"{kind}>'
    return f'<div class="strip"><div class="name">{escaped(name)}</div>{picture}</div>\n'


def film_strip(frames: np.ndarray) -> tuple[str, int, bool]:
    """Return frames uint8 `[T, C, H, W]` side by side as a data URI, its width on the page, and whether they are small.

    Raises:
        ValueError: The frames have another shape or dtype.
    """
    from PIL import Image

    if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[1] not in (1, 3) or 0 in frames.shape:
        raise ValueError(
            f"pictures ({frames.dtype} {list(frames.shape)}) must be uint8 [T, C, H, W] with C 1 or 3, none of them 0"
        )
    count, _, height, width = frames.shape
    gap = max(1, round(height / 48))
    strip = np.full((height, count * (width + gap) - gap, 4), 0, np.uint8)
    for i, frame in enumerate(frames):
        left = i * (width + gap)
        strip[:, left : left + width, :3] = np.broadcast_to(frame, (3, height, width)).transpose(1, 2, 0)
        strip[:, left : left + width, 3] = 255
    is_small = height * width <= PNG_BELOW_PIXELS
    data = io.BytesIO()
    if is_small:
        Image.fromarray(strip).save(data, "PNG", optimize=True)
    else:
        # JPEG has no transparency: the gaps become a grey that is quiet on light pages and on dark ones
        strip[strip[..., 3] == 0, :3] = 128
        Image.fromarray(np.ascontiguousarray(strip[..., :3])).save(data, "JPEG", quality=JPEG_QUALITY)
    kind = "png" if is_small else "jpeg"
    source = f"data:image/{kind};base64," + base64.b64encode(data.getvalue()).decode()
    shown = min(max(height, 80), 132) / height
    return source, math.ceil(strip.shape[1] * shown), is_small


def _facts(facts: dict[str, Any]) -> str:
    if not facts:
        return ""
    rows = "".join(f"<dt>{escaped(name)}</dt><dd>{_value(value)}</dd>" for name, value in facts.items())
    return f'<section class="facts"><dl>{rows}</dl></section>'


def _kind(column: Sequence[Any]) -> str:
    if _is_numeric(column):
        return ' class="number"'
    return ' class="long"' if any(len(str(cell)) > LONG_CELL for cell in column) else ""


def _is_numeric(column: Sequence[Any]) -> bool:
    cells = [cell for cell in column if cell is not None and cell != ""]
    kinds = (int, float, np.integer, np.floating)
    return bool(cells) and all(isinstance(cell, kinds) and not isinstance(cell, bool) for cell in cells)


def _cells(column: Sequence[Any]) -> list[str]:
    """Return a column as escaped text, its fractions with the same number of decimals if few will do."""
    texts = [_value(cell) for cell in column]
    fractions = [isinstance(cell, (float, np.floating)) and abs(cell) < 1e4 for cell in column]
    told = [text for text, is_fraction in zip(texts, fractions) if is_fraction]
    decimals = max((len(text.partition(".")[2]) for text in told), default=0)
    if decimals > MOST_EVEN or any("e" in text for text in told):  # 1e-05
        return texts
    return [f"{cell:.{decimals}f}" if is_one else text for cell, text, is_one in zip(column, texts, fractions)]


def _value(value: Any) -> str:
    """Return a cell as escaped text: four significant digits, `yes` and `no`, a dash for nothing."""
    if value is None or value == "":
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return escaped(f"{value:.4g}" if abs(value) < 1e4 or not math.isfinite(value) else f"{value:,.0f}")
    if isinstance(value, (dict, list, tuple)):
        return escaped(json.dumps(_json_values(value), ensure_ascii=False))
    return escaped(str(value))


def _json_values(value: Any) -> Any:
    """Return plain JSON values; what is not finite becomes null, what JSON does not know becomes text."""
    if isinstance(value, dict):
        return {str(key): _json_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_values(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return _json_values(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
