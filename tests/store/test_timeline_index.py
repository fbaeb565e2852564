"""The page that lists all timelines: what stands on it, where its links lead, and that names cannot break it."""

import re
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pytest

from vitascope.store.atomic import WriteError
from vitascope.store.timeline_index import MOST_MARKS, render_index, write_timeline_index
from vitascope.structures import Localized, LocalizeSummary, Segments

SUMMARY = LocalizeSummary(
    out="out",
    library="lib",
    run="run-1",
    num_videos=2,
    num_tagged=1,
    num_segments=3,
    classes=(("jump", 1, 1), ("run", 0, 1)),
    problems=(("/films/gone.mp4", "there is no such file"),),
    doubts=(("a.mp4", "jump", "missing", 61.25, 0.87), ("a.mp4", "run", "suspicious", 3.0, 0.1)),
    advice=("tag more videos",),
)


def video(name, times, labels, duration=120.0):
    segments = Segments(np.array(times, float).reshape(-1, 2), labels, np.linspace(1, 0.5, len(labels)))
    return Localized(f"/films/{name}", duration, segments, np.zeros((0, 2)), ("jump", "run"), {})


FOUND = {
    "a.mp4": video("a.mp4", [[30, 60], [0, 6], [90, 120]], ("jump", "run", "jump")),
    "sub/b & c.mp4": video("b & c.mp4", [], (), duration=65.0),
}


def test_each_video_stands_with_its_link_length_and_counts(tmp_path):
    pages = {name: tmp_path / "pages" / f"{name}.html" for name in FOUND}
    file = write_timeline_index(tmp_path / "index.html", SUMMARY, FOUND, pages)
    text = file.read_text()
    links = [unquote(link) for link in re.findall(r'<td class="name"><a href="([^"]*)"', text)]
    assert links[:2] == ["pages/a.mp4.html", "pages/sub/b & c.mp4.html"] and set(links) == set(links[:2])
    assert ">2:00<" in text and ">1:05<" in text and "3:05" in text
    assert re.findall(r"</i>(\w+ \d)</span>", text) == ["jump 2", "run 1"] and "nothing found" in text
    assert "left:25.00%;width:25.00%" in text and text.count("<u ") == 3


def test_classes_doubts_problems_and_advice_are_told():
    text = render_index(SUMMARY, FOUND, {})
    assert "<a " not in text
    assert re.search(r'jump</td><td class="n">1</td><td class="n">1</td>', text)
    assert 'not tagged, but seen</td><td class="n">1:01.2</td><td class="n">0.87' in text
    assert "tagged, but never seen for certain" in text
    assert "<li>tag more videos</li>" in text and "<li>/films/gone.mp4: there is no such file</li>" in text


def test_what_there_is_nothing_to_tell_of_has_no_heading():
    bare = replace(SUMMARY, num_tagged=0, problems=(), doubts=(), advice=())
    text = render_index(bare, FOUND, {})
    assert re.findall(r"<h2>([^<]*)", text) == ["Videos", "Classes"] and "tagged with" not in text


def test_the_page_asks_for_nothing_and_names_cannot_break_it(tmp_path):
    name = '<script>alert("x")</script>\udcff.mp4'
    odd = replace(SUMMARY, classes=(("<b>", 1, 1),), doubts=((name, "<b>", "missing", 0.0, 1.0),))
    found = {name: video(name, [[0, 1]], ("<b>",))}
    write_timeline_index(tmp_path / "index.html", odd, found, {name: tmp_path / f"{name}.html"})
    text = (tmp_path / "index.html").read_text()
    assert "<script" not in text and "<b>" not in text and "default-src 'none'" in text
    assert not re.findall(r"\b(?:src|data|action)=", text)


def test_many_proposals_are_drawn_up_to_a_number():
    count = 3 * MOST_MARKS
    many = {"a.mp4": video("a.mp4", [[i / 10, i / 10 + 1] for i in range(count)], ("run",) * count)}
    assert render_index(SUMMARY, many, {}).count("<u ") == MOST_MARKS


def test_a_folder_that_cannot_be_made_is_a_write_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot make"):
        write_timeline_index(tmp_path / "file" / "index.html", SUMMARY, FOUND, {})
