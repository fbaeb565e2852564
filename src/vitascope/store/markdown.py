"""A report as Markdown, for pages that are read where the source is: its text, tables and facts."""

from __future__ import annotations

from typing import Any

from vitascope.structures import Report, Table


def as_markdown(report: Report) -> str:
    """The text and the tables of a report; pictures and curves have no place in it.

    Raises:
        ValueError: The report has a part of another kind.

    Example:
        >>> print(as_markdown(Report("Sums", ("Of two.", Table("", ("a", "b"), ((1, "x|y"),))), {"seed": 0})))
        # Sums
        <BLANKLINE>
        Of two.
        <BLANKLINE>
        | a | b |
        | --- | --- |
        | 1 | x\\|y |
        <BLANKLINE>
        - seed: 0
        <BLANKLINE>
    """
    parts = [f"# {report.title}", *(_part(part) for part in report.parts)]
    parts.append("\n".join(f"- {name}: {value}" for name, value in report.facts.items()))
    return "\n\n".join(parts) + "\n"


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Table):
        raise ValueError(f"part ({type(part).__name__}) must be text or a table; write this report as HTML")
    rows = [part.columns, ("---",) * len(part.columns), *part.rows]
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    above = ([f"## {part.title}", ""] if part.title else []) + ([part.caption, ""] if part.caption else [])
    return "\n".join([*above, *lines])
