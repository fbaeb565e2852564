"""A report is one file that shows what it was given, and nothing that it was given can act."""

import base64
import io
import json
import math
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from vitascope.store.charts import curve_svg, ticks, timeline_svg
from vitascope.store.reports import film_strip, render, write_report
from vitascope.structures import Curve, Figure, Report, Table, Timeline

EVIL = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>{title}"
FRAMES = np.zeros((3, 3, 20, 30), np.uint8)


def evil_report():
    return Report(
        EVIL,
        (
            EVIL,
            Table(EVIL, (EVIL, "n"), ((EVIL, 1),), EVIL),
            Curve(EVIL, EVIL, ((EVIL, ((0, 1), (1, 2))),), EVIL),
            Timeline(EVIL, ((EVIL, ((0, 1, EVIL),)),), EVIL),
            Figure(EVIL, ((EVIL, FRAMES),), EVIL),
        ),
        {EVIL: EVIL, "nested": {"a": [EVIL]}},
    )


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "img", "i", "path", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("i", "path", "circle"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(report):
    tags = Tags()
    tags.feed(render(report))
    assert tags.open == []
    return tags


def test_names_that_are_markup_are_shown_as_text():
    tags = parsed(evil_report())
    assert "script" not in tags.tags and tags.tags.count("img") == 1
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert "".join(tags.text).count("<script>alert(1)</script>") == 22


def test_the_file_refers_to_nothing_outside_itself():
    text = render(evil_report())
    for name, value in parsed(evil_report()).attributes:
        assert name not in ("href", "action", "data", "srcset")
        assert name != "src" or value.startswith("data:image/")
    assert "url(" not in text and "@import" not in text and "default-src 'none'" in text


def test_the_report_and_its_numbers_are_written_side_by_side(tmp_path):
    report = Report(
        "t", ("words", Curve("c", "x", (("a", ((0, math.nan), (1, 2.0))),)), Figure("f", (("r", FRAMES),))), {"n": 1}
    )
    assert write_report(report, tmp_path / "deep" / "er") == tmp_path / "deep" / "er" / "report.html"
    plain = json.loads((tmp_path / "deep" / "er" / "report.json").read_text())
    assert plain["facts"] == {"n": 1} and plain["parts"][0] == "words"
    assert plain["parts"][1]["lines"] == [["a", [[0, None], [1, 2.0]]]]
    assert plain["parts"][2]["rows"] == [{"name": "r", "shape": [3, 3, 20, 30]}]


def test_names_that_are_no_utf8_are_shown_escaped():
    name = os.fsdecode(b"caf\xe9\n\x1b[31m.mp4")
    text = render(
        Report(
            name,
            (Table("t", (name,), ((name,),)), Curve(name, name, ((name, ((0, 1),)),)), Figure("f", ((name, FRAMES),))),
        )
    )
    assert "caf\\udce9" in text and "\\x1b[31m" in text
    text.encode()


def decoded(frames):
    source, width, is_small = film_strip(frames)
    data = base64.b64decode(source.split(",")[1])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), width, is_small


def test_small_frames_are_exact_side_by_side():
    frames = np.random.default_rng(0).integers(0, 256, (3, 3, 20, 30), dtype=np.uint8)
    strip, width, is_small = decoded(frames)
    assert is_small and strip.shape == (20, 3 * 30 + 2, 3) and width == 4 * strip.shape[1]
    for i, frame in enumerate(frames):
        assert np.array_equal(strip[:, 31 * i : 31 * i + 30], frame.transpose(1, 2, 0))


def test_large_frames_keep_their_colour_and_place():
    frames = np.zeros((2, 3, 120, 160), np.uint8)
    frames[0, 0], frames[1, 2] = 200, 200
    strip, _, is_small = decoded(frames)
    assert not is_small
    assert np.abs(strip[60, 80].astype(int) - [200, 0, 0]).max() < 12
    assert np.abs(strip[60, 240].astype(int) - [0, 0, 200]).max() < 12


def test_grey_frames_are_drawn_grey():
    strip, _, _ = decoded(np.full((1, 1, 8, 8), 77, np.uint8))
    assert (strip == 77).all()


@pytest.mark.parametrize("frames", [FRAMES[0], FRAMES.astype(float), FRAMES[:0], FRAMES[:, :2]])
def test_pictures_of_another_kind_are_refused(frames):
    with pytest.raises(ValueError, match=r"pictures .* must be uint8 \[T, C, H, W\]"):
        render(Report("t", (Figure("f", (("r", frames),)),)))


def test_a_part_of_another_kind_is_refused():
    with pytest.raises(
        TypeError, match=r"a part of a report \(int\) must be text, a Table, a Curve, a Timeline or a Figure"
    ):
        render(Report("t", (3,)))


def test_numbers_are_set_right_and_nothing_is_a_dash():
    text = render(Report("t", (Table("t", ("a", "b"), ((1.23456, "x"), (None, True))), Table("none", ("a",), ()))))
    assert '<td class="number">1.235</td>' in text and '<td class="number">–</td>' in text
    assert "<td>yes</td>" in text and ">nothing<" in text


def test_fractions_of_a_column_have_the_same_number_of_decimals():
    rows = ((66.0, 1e-5, 3), (0.0, 0.5, 0.25), (43.6, 1.0, math.nan), (None, 2.0, 12345.6))
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", render(Report("t", (Table("t", ("a", "b", "c"), rows),))))
    assert cells[::3] == ["66.0", "0.0", "43.6", "–"]
    assert cells[1::3] == ["1e-05", "0.5", "1", "2"]  # as they are, since two decimals do not tell them
    assert cells[2::3] == ["3", "0.25", "nan", "12,346"]


def path_points(svg):
    path = re.findall(r'd="(M[^"]*)" fill="none" stroke="var\(--s0\)"', svg)[0]
    return [tuple(float(x) for x in point.split()) for point in re.split("[ML]", path)[1:]], path


def test_a_curve_goes_down_where_its_values_do_and_stays_inside():
    svg = curve_svg(Curve("c", "step", (("a", tuple((i, 1 / (i + 1)) for i in range(50))),)))
    points, _ = path_points(svg)
    assert len(points) == 50 and all(0 < x < 860 and 0 < y < 340 for x, y in points)
    assert points == sorted(points) and [y for _, y in points] == sorted(y for _, y in points)


def test_a_value_that_is_not_finite_breaks_the_line():
    _, path = path_points(curve_svg(Curve("c", "x", (("a", ((0, 1.0), (1, math.nan), (2, 1.0), (3, 2.0))),))))
    assert path.count("M") == 2 and "nan" not in path


@pytest.mark.parametrize("line", [((0, 0.0),), ((5, 3.0), (5, 3.0)), ((0, -1e9), (1, 1e9)), ((0, 1e-9), (1, 10.0))])
def test_odd_curves_are_drawn_inside_the_picture(line):
    svg = curve_svg(Curve("c", "x", (("a", line),)))
    points, _ = path_points(svg)
    assert len(points) == len(line) and all(0 <= x <= 860 and 0 <= y <= 340 for x, y in points)


def test_a_curve_without_points_says_so():
    assert curve_svg(Curve("c", "x", (("a", ((0, math.inf),)),))) == ""
    assert "no points" in render(Report("t", (Curve("c", "x", ()),)))


def test_a_timeline_has_a_bar_for_each_stretch_in_the_colour_of_its_label():
    lanes = (("one", ((0.0, 2.0, "here"), (2.0, 3.0, "away"))), ("two", ((1.0, 4.0, "away"),)))
    svg = timeline_svg(Timeline("t", lanes))
    bars = re.findall(r'<rect x="([\d.]+)" y="(\d+)" width="([\d.]+)" height="\d+" fill="var\(--s(\d)\)"', svg)
    (x0, y0, w0, c0), (x1, _, w1, c1), (x2, y2, w2, c2) = bars
    assert (c0, c1, c2) == ("0", "1", "1") and int(y2) > int(y0)
    assert float(x1) == pytest.approx(float(x0) + float(w0), abs=0.2)
    assert float(w0) == pytest.approx(2 * float(w1), abs=0.2) and float(x2) + float(w2) <= 860
    assert "no points" in render(Report("t", (Timeline("t", (("one", ()),)),)))
    assert "here" in render(Report("t", (Timeline("t", lanes),)))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.31, 1.09), (-3, 1234), (7, 7), (0, 0), (1e-7, 2e-7)])
def test_ticks_enclose_and_are_few(low, high):
    marks = ticks(low, high, 5)
    assert marks[0] <= low and marks[-1] >= high and 2 <= len(marks) <= 8
    assert marks == sorted(set(marks))
