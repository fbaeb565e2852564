"""Reports as Markdown."""

import pytest

from vitascope.store.markdown import as_markdown
from vitascope.structures import Curve, Report, Table


def test_text_tables_and_facts_stand_in_their_order():
    report = Report("Page", ("Before.", Table("Sums", ("a", "b"), ((1, "x"),), "Of two."), "After."), {"seed": 3})
    told = as_markdown(report).splitlines()
    wanted = [
        "# Page",
        "Before.",
        "## Sums",
        "Of two.",
        "| a | b |",
        "| --- | --- |",
        "| 1 | x |",
        "After.",
        "- seed: 3",
    ]
    assert [line for line in told if line] == wanted


def test_a_bar_in_a_cell_does_not_end_it():
    assert "| a\\|b |" in as_markdown(Report("Page", (Table("", ("a",), (("a|b",),)),)))


def test_a_curve_is_refused():
    with pytest.raises(ValueError, match=r"part \(Curve\) must be text or a table"):
        as_markdown(Report("Page", (Curve("Loss", "step", ()),)))
