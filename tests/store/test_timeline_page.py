"""The page of a timeline: what stands on it, that it needs nothing else, and that a click seeks the video."""

import re
import shutil
import subprocess
import time

import numpy as np
import pytest

from vitascope.store.timeline_page import disagreements, linked, render_timeline, write_timeline_page
from vitascope.store.timeline_rows import MOST_POINTS, axis, clock, occurring, thinned
from vitascope.structures import Localized, Segments

CLASSES = ("orbit", "sway", "bounce", "never")


def made(duration=180.0, num_proposals=24, seed=0, **changes):
    rng = np.random.default_rng(seed)
    count = int(duration / 0.64)
    times = np.arange(count)[:, None] * 0.64 + [0.0, 0.64]
    starts = rng.uniform(0, duration - 10, num_proposals)
    segments = Segments(
        np.stack([starts, starts + rng.uniform(0.2, 9, num_proposals)], 1),
        tuple(CLASSES[i] for i in rng.integers(0, 3, num_proposals)),
        np.sort(rng.random(num_proposals))[::-1],
    )
    curves = {name: rng.random((count, 4)).astype(np.float32) for name in ("CBP", "VLP")}
    confident = rng.integers(-1, 2, (count, 4)).astype(np.int8)
    confident[:, 3] = 0
    truth = Segments(np.array([[3.0, 9.0], [20.0, 25.5]]), ("sway", "orbit"))
    given = {"confident": confident, "truth": truth} | changes
    return Localized("/films/my film.mp4", duration, segments, times, CLASSES, curves, **given)


def test_the_page_asks_for_nothing_but_the_video():
    page = render_timeline(made(), "../my%20film.mp4", np.zeros((4, 3, 40, 72), np.uint8))
    sources = re.findall(r'\b(?:src|href|action|data|poster)="([^"]*)"', page)
    assert [source for source in sources if not source.startswith("data:image/")] == ["../my%20film.mp4"]
    assert "url(" not in page and "@import" not in page and "fetch(" not in page and "import(" not in page
    assert "default-src 'none'" in page


def test_each_class_that_occurs_has_its_rows():
    localized = made()
    page = render_timeline(localized, "a.mp4")
    assert re.findall(r'<div class="class"><div class="row curves"><div class="name"><b title="(\w+)">', page) == (
        occurring(localized)
    )
    assert set(occurring(localized)) == {"orbit", "sway", "bounce"}
    assert page.count("<u ") == 24 + 2
    assert page.count('stroke="#2563a8"') == page.count('stroke="#c2571a"') == 3
    assert page.count('class="sure1"') == 3


def test_a_class_that_only_the_truth_knows_has_a_row_without_curves():
    truth = Segments(np.array([[3.0, 9.0]]), ("unheard of",))
    page = render_timeline(made(truth=truth), "a.mp4")
    assert '<div class="row blank"><div class="name"><b title="unheard of">' in page


def test_a_confident_class_without_proposals_has_a_row():
    localized = made(truth=None)
    localized.confident[5, 3] = 1
    assert occurring(localized)[-1] == "never"


def test_bars_stand_where_their_times_are_and_fade_with_the_score():
    found = Segments(np.array([[45.0, 90.0], [0.0, 18.0]]), ("orbit", "orbit"), np.array([0.8, 0.4]))
    page = render_timeline(Localized("v.mp4", 180.0, found, np.zeros((0, 2)), CLASSES, {}), "v.mp4")
    assert 'style="left:25.000%;width:25.000%;top:0px;opacity:1.00" data-at="45.000"' in page
    assert 'style="left:0.000%;width:10.000%;top:0px;opacity:0.60" data-at="0.000"' in page
    assert 'title="orbit, 0:45.0 to 1:30.0, score 0.800"' in page


def test_bars_beyond_the_video_end_with_it_and_say_so():
    truth = Segments(np.array([[700.0, 714.0], [170.0, 190.0], [0.0, 176.0]]), ("orbit",) * 3)
    none = Segments(np.zeros((0, 2)), (), np.zeros(0))
    page = render_timeline(Localized("v.mp4", 176.0, none, np.zeros((0, 2)), CLASSES, {}, truth=truth), "v.mp4")
    bars = re.findall(r'<u style="left:([\d.]+)%;width:([\d.]+)%[^"]*" data-at="[\d.]+" title="([^"]*)"', page)
    assert bars == [
        ("100.000", "0.000", "orbit, 11:40.0 to 11:54.0, beyond the video of 2:56.0"),
        ("96.591", "3.409", "orbit, 2:50.0 to 3:10.0, beyond the video of 2:56.0"),
        ("0.000", "100.000", "orbit, 0:00.0 to 2:56.0"),
    ]


@pytest.mark.parametrize("step", [1.0, 0.0005])  # one band a snippet, and many snippets a band
def test_no_band_goes_on_where_nothing_was_seen(step):
    starts = np.concatenate([np.arange(0, 2, step), np.arange(60, 62, step)])
    times, ones = starts[:, None] + [0.0, step], np.ones((len(starts), 1))
    none = Segments(np.zeros((0, 2)), (), np.zeros(0))
    seen = Localized("v.mp4", 100.0, none, times, ("run",), {"CBP": ones}, ones.astype(np.int8))
    assert re.findall(r'class="sure1" d="([^"]*)"', render_timeline(seen, "v.mp4")) == [
        "M0 0H200V1000H0ZM6000 0H6200V1000H6000Z"
    ]


def test_proposals_that_overlap_lie_below_one_another():
    found = Segments(np.array([[0.0, 9.0], [1.0, 5.0], [6.0, 8.0]]), ("orbit",) * 3, np.array([0.9, 0.8, 0.7]))
    page = render_timeline(Localized("v.mp4", 10.0, found, np.zeros((0, 2)), CLASSES, {}), "v.mp4")
    assert re.findall(r"top:(\d+)px", page) == ["0", "11", "11"]


def test_names_are_shown_as_text():
    found = Segments(np.array([[1.0, 2.0]]), ("<script>alert(1)</script>",), np.array([0.5]))
    localized = Localized('/x/"><img onerror=a>.mp4', 9.0, found, np.zeros((0, 2)), (), {}, truth=found)
    page = render_timeline(localized, linked(localized.path, "/x"))
    assert page.count("<script>") == 1 and "<img" not in page and "alert(1)&lt;/script&gt;" in page


def test_the_video_is_linked_relative_to_the_page(tmp_path):
    video = tmp_path / "films" / "a #1 ü?.mp4"
    localized = Localized(str(video), 180.0, made().segments, np.zeros((0, 2)), CLASSES, {})
    page = write_timeline_page(tmp_path / "out" / "deep" / "a.html", localized).read_text()
    assert '<video id="video" src="../../films/a%20%231%20%C3%BC%3F.mp4"' in page


def test_the_review_list_is_sorted_by_disagreement():
    localized = made()
    found = disagreements(localized)
    assert sorted(each.place for each in found) == list(range(24))
    assert (np.diff([each.size for each in found]) <= 0).all()
    for each in found:
        k = CLASSES.index(localized.segments.labels[each.place])
        start, end = localized.segments.times_seconds[each.place]
        inside = [i for i, (a, b) in enumerate(localized.times_seconds) if start <= (a + b) / 2 < end]
        if inside:  # a short proposal takes the snippet it lies in
            means = [np.mean([float(curve[i, k]) for i in inside]) for curve in localized.curves.values()]
            assert [each.first, each.second] == pytest.approx(means)
    page = render_timeline(localized, "a.mp4")
    rows = re.findall(r'<tr data-at="([\d.]+)"><td>(\w+)</td>', page[page.index("<h2>To review</h2>") :])
    segments = localized.segments
    assert rows == [(f"{segments.times_seconds[e.place][0]:.3f}", segments.labels[e.place]) for e in found]


def test_one_branch_alone_leaves_nothing_to_review():
    localized = made()
    del localized.curves["VLP"]
    page = render_timeline(localized, "a.mp4")
    assert disagreements(localized) == [] and "Only one branch was asked" in page


def test_a_video_in_which_nothing_was_found_says_so():
    none = Segments(np.zeros((0, 2)), (), np.zeros(0))
    page = render_timeline(Localized("v.mp4", 10.0, none, np.zeros((0, 2)), CLASSES, {}), "v.mp4")
    assert "nothing of what was asked for was found" in page and "<u " not in page


def test_two_hours_are_drawn_thin_and_soon():
    localized = made(7200.0, 1000)
    begin = time.thread_time()
    page = render_timeline(localized, "a.mp4")
    assert time.thread_time() - begin < 3
    assert len(page) < 1_500_000
    assert all(path.count("L") + path.count("M") <= MOST_POINTS + 3 for path in re.findall(r'd="([^"]*)" stroke', page))
    assert page.count("<tr data-at") == 400 and "The first 200 of 1000." in page
    assert "1:50:00" in page


def test_a_thinned_curve_keeps_its_spikes():
    values = np.zeros(100_000)
    values[77_777], values[5] = 9.0, -3.0
    places = thinned(values)
    assert len(places) <= MOST_POINTS and (np.diff(places) > 0).all()
    assert {77_777, 5} <= set(places.tolist())


def test_a_curve_is_broken_where_nothing_was_seen():
    times = np.array([[0.0, 1.0], [1.0, 2.0], [60.0, 61.0], [61.0, 62.0]])
    found = Segments(np.array([[0.0, 1.0]]), ("orbit",), np.array([0.9]))
    localized = Localized("v.mp4", 100.0, found, times, CLASSES, {"CBP": np.ones((4, 4))})
    lines = re.findall(r'd="([^"]*)" stroke', render_timeline(localized, "v.mp4"))
    assert lines == ["M0 0L50 0L150 0M6050 0L6150 0L6200 0"]


@pytest.mark.parametrize("duration", [0.5, 3.0, 180.0, 7200.0, 100_000.0])
def test_an_axis_has_some_marks_and_not_too_many(duration):
    first = axis(duration).split('<div class="ticks')[1]
    assert 3 <= first.count("<i ") <= 13 and first.count("<span>") >= 3


def test_times_are_minutes_and_seconds():
    assert [clock(t) for t in (0, 59.6, 600, 3600, 36_125)] == ["0:00", "1:00", "10:00", "1:00:00", "10:02:05"]


def test_what_cannot_be_drawn_is_refused():
    none = Segments(np.zeros((0, 2)), ())
    with pytest.raises(ValueError, match=r"duration_seconds \(0.0\) of v.mp4 must be > 0"):
        render_timeline(Localized("v.mp4", 0.0, none, np.zeros((0, 2)), CLASSES, {}), "v.mp4")
    with pytest.raises(ValueError, match="must be uint8"):
        render_timeline(made(), "a.mp4", np.zeros((4, 3, 40, 72)))


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PROBE = """
setTimeout(() => document.querySelectorAll('.found u')[0].click(), 700);
setTimeout(() => { document.title = 'probe ' + video.currentTime.toFixed(2) + ' ' + get('now').value + ' '
  + video.hidden + ' ' + get('broken').hidden; }, 2500);
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")
@pytest.mark.parametrize("name", ["a film.mp4", "no film.avi"])
def test_a_click_in_a_browser_seeks_the_video_or_says_that_it_cannot(tmp_path, name):
    from vitascope.video.writer import VideoWriter

    with VideoWriter(tmp_path / "a film.mp4", 5) as writer:
        writer.write(np.random.default_rng(0).integers(0, 255, (50, 3, 48, 64)).astype(np.uint8))
    found = Segments(np.array([[6.5, 8.0]]), ("orbit",), np.array([0.9]))
    localized = Localized(str(tmp_path / name), 10.0, found, np.zeros((0, 2)), CLASSES, {})
    page = write_timeline_page(tmp_path / "out" / "page.html", localized)
    page.write_text(page.read_text().replace("</script>", PROBE))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=6000", "--dump-dom", page.as_uri()]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    expected = "probe 0.00 0:06.5 true false" if name == "no film.avi" else "probe 6.50 0:06.5 false true"
    assert f"<title>{expected}</title>" in told
