"""Timelines: what is written for other programs comes back the same, and is what those programs expect."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from vitascope.store.timelines import Media, read_timelines, write_timelines
from vitascope.structures import Segments

FORMATS = ["activitynet", "csv", "vtt", "eaf", "boris"]
NAMES = {"activitynet": "t.json", "csv": "t.csv", "vtt": "subtitles", "eaf": "elan", "boris": "t.boris"}
LABELS = ["jump", "Clean & Jerk", "<b>", "naïve 跳", "score 0.5", 'a, "b"', "jump (2)", "x --> y", "&amp;"]


HEAD = "video,start_seconds,end_seconds,label,score\n"
BORIS = '{"behaviors_conf": {}, "observations": {"o": {"events": [[START, "", "s", "", ""], [1, "", "s", "", ""]]}}}'


def made(seed=0, count=200):
    """Segments that overlap, touch, are equal and lie 3 hours into the video."""
    rng = np.random.default_rng(seed)
    starts = rng.uniform(0, 60, count)
    times = np.stack([starts, starts + rng.exponential(4, count)], 1)
    times[::10] += 3 * 3600
    times[::7] = times[::7].round()  # these touch, and some are equal
    times[-1:] = times[:1]
    labels = tuple(LABELS[i] for i in rng.integers(0, len(LABELS), count))
    return Segments(times, labels, rng.random(count))


def events(segments):
    scores = segments.scores.tolist() if segments.scores is not None else [None] * len(segments.labels)
    return sorted(zip(segments.labels, scores, segments.times_seconds.tolist()), key=lambda e: (e[0], e[1] or 0, e[2]))


def assert_same(before, after, to_seconds):
    assert len(before.labels) == len(after.labels)
    for (label, score, times), (label2, score2, times2) in zip(events(before), events(after)):
        assert (label, score) == (label2, score2)
        assert abs(times[0] - times2[0]) <= to_seconds and abs(times[1] - times2[1]) <= to_seconds


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_back_the_same_events_within_a_millisecond(tmp_path, format):
    timelines = {"a.mp4": made(0), "sub folder/b ü.mp4": made(1, 30), "c": made(2, 1)}
    write_timelines(tmp_path / NAMES[format], timelines, format)
    back = read_timelines(tmp_path / NAMES[format], format)
    assert set(back) == set(timelines)
    for video, segments in timelines.items():
        assert_same(segments, back[video], 0 if format in ("activitynet", "csv") else 0.001 + 1e-9)
        assert (np.diff(back[video].scores) <= 0).all()  # best first


@pytest.mark.parametrize("format", FORMATS)
def test_events_without_scores_have_none_afterwards(tmp_path, format):
    # one label at a time: without scores, equal labels would be told apart by rounded times alone
    before = Segments(np.array([[0.25, 2.5], [1.0, 3.0], [3.0, 4.0]]), ("a", "b", "a"))
    write_timelines(tmp_path / NAMES[format], {"v": before}, format)
    after = read_timelines(tmp_path / NAMES[format], format)["v"]
    assert after.scores is None
    assert_same(before, after, 0)


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "csv"])
def test_a_video_without_events_is_kept(tmp_path, format):
    write_timelines(tmp_path / NAMES[format], {"v": Segments(np.zeros((0, 2)), (), np.zeros(0))}, format)
    back = read_timelines(tmp_path / NAMES[format], format)
    assert back["v"].labels == () and back["v"].times_seconds.shape == (0, 2)


@pytest.mark.parametrize("format", ["vtt", "eaf", "boris"])
def test_a_stretch_without_length_gets_a_millisecond(tmp_path, format):
    write_timelines(
        tmp_path / NAMES[format], {"v": Segments(np.array([[1.0, 1.0], [2.0, 2.0001]]), ("a", "a"))}, format
    )
    back = read_timelines(tmp_path / NAMES[format], format)["v"]
    assert sorted(back.times_seconds.tolist()) == [[1.0, 1.001], [2.0, 2.001]]


def test_the_format_goes_by_the_suffix_and_one_video_needs_no_id(tmp_path):
    assert write_timelines(tmp_path / "a.vtt", made(count=3)) == [tmp_path / "a.vtt"]
    assert list(read_timelines(tmp_path / "a.vtt")) == ["a"]


def test_a_file_of_one_video_is_beside_its_name(tmp_path):
    files = write_timelines(tmp_path / "out", {"a.mp4": made(count=2), "b/a.mp4": made(count=2)}, "eaf")
    assert files == [tmp_path / "out" / "a.mp4.eaf", tmp_path / "out" / "b" / "a.mp4.eaf"]


def test_activitynet_json_has_the_keys_of_a_submission(tmp_path):
    write_timelines(tmp_path / "t.json", {"v": Segments(np.array([[1.0, 2.5]]), ("jump",), np.array([0.5]))})
    told = json.loads((tmp_path / "t.json").read_text())
    assert set(told) == {"version", "results", "external_data"}
    assert told["results"] == {"v": [{"label": "jump", "score": 0.5, "segment": [1.0, 2.5]}]}


def test_cues_are_in_order_of_time_and_none_is_empty(tmp_path):
    write_timelines(tmp_path / "a.vtt", made())
    text = (tmp_path / "a.vtt").read_text()
    assert text.startswith("WEBVTT\n\n")
    cues = re.findall(r"^(\d\d:\d\d:\d\d\.\d{3}) --> (\d\d:\d\d:\d\d\.\d{3})$", text, re.M)
    assert len(cues) == 200
    assert [start for start, _ in cues] == sorted(start for start, _ in cues)
    assert all(start < end for start, end in cues)


def test_subtitles_of_others_are_read(tmp_path):
    (tmp_path / "a.vtt").write_bytes(
        b"\xef\xbb\xbfWEBVTT - made elsewhere\r\n\r\nNOTE\r\nnothing\r\n\r\n1\r\n00:01.500 --> 01:02:03.000 align:start\r\n"
        b"Tom &amp; Jerry\r\nsecond line\r\n"
    )
    found = read_timelines(tmp_path / "a.vtt")["a"]
    assert found.labels == ("Tom & Jerry",) and found.times_seconds.tolist() == [[1.5, 3723.0]] and found.scores is None


@pytest.mark.parametrize("score", ["", "unknown", "nan"])
@pytest.mark.parametrize("format", ["vtt", "eaf", "boris"])
def test_a_score_that_a_person_made_no_number_is_none(tmp_path, format, score):
    (file,) = write_timelines(
        tmp_path / f"v.{format}", {"v": Segments(np.array([[1.0, 2.0]]), ("a",), np.array([0.5]))}
    )
    text = file.read_text()
    assert text.count("0.5") == 1
    file.write_text(text.replace("0.5", score))
    found = read_timelines(file)["v"]
    assert found.labels == ("a",) and found.scores is None


@pytest.mark.parametrize("note", ["made in 2020", "2020", "[" * 100_000])
def test_a_note_of_others_is_a_comment(tmp_path, note):
    (tmp_path / "v.vtt").write_text(f"WEBVTT\n\nNOTE video {note}\n\n00:01.000 --> 00:02.000\na\n")
    assert read_timelines(tmp_path / "v.vtt")["v"].labels == ("a",)


def test_a_video_in_two_files_of_a_folder_is_refused(tmp_path):
    write_timelines(tmp_path, {"v": Segments(np.array([[1.0, 2.0]]), ("a",))}, "vtt")
    (tmp_path / "copy.vtt").write_text((tmp_path / "v.vtt").read_text().replace("\na\n", "\nb\n"))
    with pytest.raises(ValueError, match=r"v.vtt holds 'v', as another file of .* does; keep one"):
        read_timelines(tmp_path, "vtt")


def test_no_two_annotations_of_an_elan_tier_overlap(tmp_path):
    write_timelines(tmp_path / "a.eaf", made())
    root = ElementTree.parse(tmp_path / "a.eaf").getroot()
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")}
    assert list(slots.values()) == sorted(slots.values())
    ids = [each.get("ANNOTATION_ID") for kind in ("ALIGNABLE_ANNOTATION", "REF_ANNOTATION") for each in root.iter(kind)]
    assert len(set(ids)) == len(ids) == 400
    tiers = [tier.get("TIER_ID") for tier in root.iter("TIER")]
    assert len(set(tiers)) == len(tiers)
    for tier in root.iter("TIER"):
        spans = [
            (slots[a.get("TIME_SLOT_REF1")], slots[a.get("TIME_SLOT_REF2")]) for a in tier.iter("ALIGNABLE_ANNOTATION")
        ]
        assert all(start < end for start, end in spans)
        assert all(before[1] <= after[0] for before, after in zip(spans, spans[1:]))
        assert len({a.findtext("ANNOTATION_VALUE") for a in tier.iter("ALIGNABLE_ANNOTATION")}) <= 1
    order = [child.tag for child in root]
    assert order == sorted(order, key=["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "CONSTRAINT"].index)


def test_elan_and_boris_are_told_where_the_video_lies(tmp_path):
    video = tmp_path / "my videos" / "a b.mp4"
    media = {"v": Media(str(video), 180.5, 25.0)}
    write_timelines(tmp_path / "out" / "v.eaf", {"v": made(count=2)}, media=media)
    told = ElementTree.parse(tmp_path / "out" / "v.eaf").getroot().find("HEADER/MEDIA_DESCRIPTOR").attrib
    assert told["MEDIA_URL"] == f"file://{video}" and told["RELATIVE_MEDIA_URL"] == "./../my videos/a b.mp4"
    assert told["MIME_TYPE"] == "video/mp4"
    write_timelines(tmp_path / "v.boris", {"v": made(count=2)}, media=media)
    observation = json.loads((tmp_path / "v.boris").read_text())["observations"]["v"]
    assert observation["file"]["1"] == [str(video)]
    assert observation["media_info"]["length"] == {str(video): 180.5}
    assert observation["media_info"]["fps"] == {str(video): 25.0}


def test_a_path_that_xml_cannot_hold_leaves_a_readable_elan_file(tmp_path):
    media = {"v": Media(str(tmp_path / "a\x01\x1b\ufffe b.mp4"))}
    write_timelines(tmp_path / "v.eaf", {"v": made(count=2)}, media=media)
    assert len(read_timelines(tmp_path / "v.eaf")["v"].labels) == 2
    told = ElementTree.parse(tmp_path / "v.eaf").getroot().find("HEADER/MEDIA_DESCRIPTOR").attrib
    assert told["RELATIVE_MEDIA_URL"] == "./a\ufffd\ufffd\ufffd b.mp4"


def test_starts_and_stops_of_a_boris_behaviour_alternate(tmp_path):
    write_timelines(tmp_path / "v.boris", {"v": made()})
    project = json.loads((tmp_path / "v.boris").read_text())
    codes = {row["code"] for row in project["behaviors_conf"].values()}
    subjects = {row["name"] for row in project["subjects_conf"].values()} | {""}
    times = {}
    for seconds, subject, code, _, comment in project["observations"]["v"]["events"]:
        assert code in codes and subject in subjects
        seen = times.setdefault((subject, code), [])
        assert bool(comment) == (len(seen) % 2 == 0)  # the score stands at the start
        assert not seen or seconds > seen[-1]
        seen.append(seconds)
    assert all(len(seen) % 2 == 0 for seen in times.values())


def test_point_events_of_boris_have_no_length(tmp_path):
    project = {
        "behaviors_conf": {"0": {"code": "p", "type": "Point event"}, "1": {"code": "s", "type": "State event"}},
        "observations": {
            "o": {"events": [[1.5, "", "p", "", ""], [2, "x", "s", "", "hi"], [4, "x", "s", "", "", 100]]}
        },
    }
    (tmp_path / "a.boris").write_text(json.dumps(project))
    found = read_timelines(tmp_path / "a.boris")["o"]
    assert found.labels == ("p", "s") and found.times_seconds.tolist() == [[1.5, 1.5], [2.0, 4.0]]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.json", "{}", "is no activitynet timeline: it has no 'results'"),
        ("a.json", "[", "is no activitynet timeline"),
        ("a.csv", "video,label\nv,a\n", "it has no column start_seconds, end_seconds"),
        ("a.csv", f"{HEAD}v,nan,1,a,\n", "a.csv is no csv timeline: segments of v must have finite times >= 0"),
        ("a.csv", f"{HEAD}v,5,1,a,\n", "a.csv is .* none ending before it starts"),
        ("a.csv", f"{HEAD}v,0,1,a,nan\n", "a.csv is .* must have finite scores"),
        ("a.json", '{"results": {"v": [{"label": "a", "segment": [-1, 1]}]}}', "a.json is .* finite times >= 0"),
        ("a.vtt", "WEBVTT\n\n00:02.000 --> 00:01.000\na\n", "a.vtt is .* none ending before it starts"),
        ("a.boris", BORIS.replace("START", "-1"), "a.boris is .* finite times >= 0"),
        ("a.json", "[" * 100_000, "is no activitynet timeline"),
        ("a.vtt", "hello", "it does not begin with WEBVTT"),
        ("a.vtt", "WEBVTT\n\n1 --> 2\na\n", "'1' is no time of a cue"),
        ("a.eaf", "<html/>", "its outermost element is html"),
        ("a.eaf", "<!DOCTYPE a><a/>", "it holds a DOCTYPE"),
        ("a.eaf", "no xml", "is no eaf timeline"),
        (
            "a.boris",
            '{"behaviors_conf": {}, "observations": {"o": {"events": [[1, "", "s", "", ""]]}}}',
            "s of o starts at 1 s and never stops",
        ),
    ],
)
def test_what_is_no_timeline_is_refused_in_a_sentence(tmp_path, name, data, says):
    (tmp_path / name).write_text(data)
    with pytest.raises(ValueError, match=says):
        read_timelines(tmp_path / name)


@pytest.mark.parametrize(
    ("segments", "says"),
    [
        (Segments(np.array([[1.0, 2.0]]), ("a\nb",)), "must be one line of visible text"),
        (Segments(np.array([[1.0, 2.0]]), (" ",)), "must be one line of visible text"),
        (Segments(np.array([[2.0, 1.0]]), ("a",)), "none ending before it starts"),
        (Segments(np.array([[0.0, np.nan]]), ("a",)), "finite times"),
        (Segments(np.array([[0.0, 1.0]]), ("a", "b")), "as many times and scores as labels"),
        (Segments(np.array([[0.0, 1.0]]), ("a",), np.array([np.nan])), "finite scores"),
    ],
)
def test_what_no_format_could_hold_is_refused_and_nothing_is_written(tmp_path, segments, says):
    with pytest.raises(ValueError, match=says):
        write_timelines(tmp_path / "t.csv", {"v": segments})
    assert list(tmp_path.iterdir()) == []


def test_an_id_cannot_lead_out_of_the_folder(tmp_path):
    with pytest.raises(ValueError, match="cannot name a file in"):
        write_timelines(tmp_path / "out", {"../a": made(count=1)}, "vtt")
    with pytest.raises(ValueError, match="holds one video, not 2"):
        write_timelines(tmp_path / "a.vtt", {"a": made(count=1), "b": made(count=1)})
    with pytest.raises(ValueError, match="has no suffix of a timeline; name one of the formats activitynet"):
        write_timelines(tmp_path / "a.txt", made(count=1))
