"""From tags to timelines, end to end on small videos: what is written, what is refused, and how it goes on."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from localize_toy import FPS, TINY, WHEN, Colours, learn, tools, write_data, write_list, write_video

from vitascope.datasets import annotations
from vitascope.engine.describe import listed
from vitascope.engine.localize import localize, named
from vitascope.engine.run import OtherRun
from vitascope.engine.start import add_run
from vitascope.engine.timelines import advice_on_coverage, advice_on_learning, advice_on_tags, known_of
from vitascope.methods.classifier.method import Classifier
from vitascope.store.atomic import WriteError
from vitascope.store.library import Library
from vitascope.store.schema import LibraryError
from vitascope.store.timelines import read_timelines
from vitascope.structures import Annotation, Record

TOY = Path(__file__).parent / "localize_toy.py"
ONCE = (*TINY, "warmup_steps=1")


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A folder with `rec/`, its library and `out/`, and the summary of the call that wrote them."""
    home = tmp_path_factory.mktemp("learned")
    tags = write_data(home / "rec")
    return home, learn(tags, home / "out", settings={"save_every_steps": 5, "log_every": 1})


@pytest.fixture
def copy(learned, tmp_path):
    """The same before anything was learned, with its features; to be changed."""
    home, summary = learned
    for name in ("rec", "rec.vitascope"):
        shutil.copytree(home / name, tmp_path / name)
    shutil.rmtree(tmp_path / "rec.vitascope" / "runs" / summary.run)
    return tmp_path


def weights_of(library, run):
    folders = sorted((Path(library) / "runs" / run / "checkpoints").iterdir())
    return (folders[-1] / "model.safetensors").read_bytes()


def same(found, expected, within):
    """Whether events are the same; of one score in any order."""
    assert found.labels == expected.labels
    assert np.abs(found.times_seconds - expected.times_seconds).max(initial=0) <= within
    assert np.abs(found.scores - expected.scores).max(initial=0) <= 1e-9


def test_actions_are_found_where_they_are_in_tagged_and_untagged_videos(learned):
    home, summary = learned
    found = read_timelines(home / "out" / "timelines.json")
    for name, labels in (("a.mp4", ["red"]), ("b.mp4", ["blue"]), ("c.mp4", ["blue", "red"]), ("sub/e.mp4", ["red"])):
        assert sorted(found[name].labels) == labels
        for label, times in zip(found[name].labels, found[name].times_seconds):
            assert np.abs(times - WHEN[label]).max() < 0.15
    assert (summary.num_videos, summary.num_tagged, summary.num_segments) == (5, 4, 6)
    assert summary.classes == (("blue", 3, 3), ("red", 2, 3)) and summary.problems == () and summary.signal is None
    assert summary.advice[0].startswith("1 video without a tag to learn from: localized")


def test_every_format_gives_the_same_events_back(learned):
    home, _ = learned
    exact = read_timelines(home / "out" / "timelines.json")
    assert len(exact) == 5
    for name, kind, within in (("timelines.csv", None, 0.0), ("timelines.boris", None, 5e-4), ("vtt", "vtt", 5e-4)):
        again = read_timelines(home / "out" / name, kind)
        assert again.keys() == exact.keys()
        for video, segments in exact.items():
            same(again[video], segments, within)
    again = read_timelines(home / "out" / "eaf", "eaf")
    for video, segments in exact.items():
        same(again[video], segments, 5e-4)


def test_each_video_has_a_page_and_the_index_leads_to_it(learned):
    home, summary = learned
    index = (home / "out" / "index.html").read_text()
    assert summary.files[0] == str(home / "out" / "index.html")
    for name in ("a.mp4", "sub/e.mp4"):
        page = (home / "out" / "pages" / f"{name}.html").read_text()
        assert f'href="pages/{name}.html"' in index
        assert 'class="found"' in page or 'class="row found"' in page
        assert page.count("data:image/") == 18 and f'/rec/{name}"' in page


def test_what_is_there_is_not_made_again_and_the_same_tags_give_the_same_weights(learned, copy):
    encoder = Colours()
    again = learn(copy / "rec" / "tags.csv", copy / "out", seen_by=encoder, pages=False)
    assert encoder.calls == 0 and not (copy / "out" / "pages").exists()
    assert weights_of(again.library, again.run) == weights_of(learned[1].library, learned[1].run)


def test_a_run_finds_the_same_in_a_video_that_it_found_when_it_had_learned(learned, tmp_path):
    home, summary = learned
    one = home / "rec" / "c.mp4"
    found = localize(None, [one], tools(), run=summary.run[:15], out=tmp_path, library=summary.library)
    assert (found.num_videos, found.num_tagged, found.run) == (1, 0, summary.run)
    same(
        read_timelines(tmp_path / "timelines.json")["c.mp4"],
        read_timelines(home / "out" / "timelines.json")["c.mp4"],
        0,
    )


def test_a_run_is_used_on_a_video_with_a_variable_rate_and_a_short_one(learned, tmp_path):
    times = np.cumsum([0.0, *np.random.default_rng(0).choice([0.03, 0.1, 0.2], 60)])
    write_video(tmp_path / "variable.mp4", ("red",), times_seconds=times)
    write_video(tmp_path / "short.mp4", ("red",), seconds=3.0)
    write_video(tmp_path / "one.mp4", ("red",), seconds=1 / FPS)
    videos = sorted(tmp_path.glob("*.mp4"))
    summary = localize(None, videos, tools(), run=learned[1].run, out=tmp_path / "out", library=learned[1].library)
    assert summary.num_videos == 3 and summary.problems == ()
    found = read_timelines(tmp_path / "out" / "timelines.json")
    for name in ("variable.mp4", "short.mp4"):
        assert found[name].labels == ("red",)
        assert np.abs(found[name].times_seconds[0] - WHEN["red"]).max() < 0.35
    assert len(found["one.mp4"].labels) <= 1


def test_a_bad_video_is_told_each_time_and_the_others_go_on(copy):
    root = copy / "rec"
    (root / "notes.mp4").write_text("no video\n" * 40)
    whole = (root / "a.mp4").read_bytes()
    (root / "half.mp4").write_bytes(whole[: len(whole) // 2])
    rows = {"a.mp4": ("red",), "b.mp4": ("blue",), "half.mp4": ("red",), "gone.mp4": ("red",), "notes.mp4": ("jump",)}
    tags = write_list(root / "some.csv", rows)
    for _ in range(2):
        summary = learn(tags, copy / "out", changes=ONCE)
        told = dict(summary.problems)
        assert told.keys() == {str(root / name) for name in ("gone.mp4", "notes.mp4", "half.mp4")}
        assert told[str(root / "gone.mp4")] == "there is no such file"
        assert told[str(root / "notes.mp4")].startswith("refused: not_a_video: ")
        assert told[str(root / "half.mp4")].startswith("damaged: ")
        assert summary.num_videos == 3
        assert any(sentence.startswith("'jump': tagged in no video that can be used") for sentence in summary.advice)


def test_one_class_is_learned_and_told_of(copy):
    tags = write_list(copy / "rec" / "one.csv", {"a.mp4": ("red",), "c.mp4": ("red",), "b.mp4": ()})
    summary = learn(tags, copy / "out", changes=ONCE)
    assert summary.classes[0][:2] == ("red", 2) and summary.num_videos == 3
    assert any(sentence.startswith("all videos have the one tag 'red'") for sentence in summary.advice)


def test_a_video_of_nothing_is_learned_from_and_has_no_timeline(copy):
    tags = write_list(copy / "rec" / "one.csv", {"a.mp4": ("red",), "c.mp4": ("red",), "b.mp4": ("nothing",)})
    summary = learn(tags, copy / "out", changes=ONCE)
    assert [name for name, *_ in summary.classes] == ["red"] and summary.num_tagged == 3
    assert not any("one tag" in sentence or "nothing" in sentence for sentence in summary.advice)
    assert "b.mp4" not in (copy / "out" / "timelines.csv").read_text()


def test_times_in_the_list_are_shown_on_the_pages_and_not_learned_from(copy):
    path = copy / "rec" / "timed.csv"
    path.write_text("video,labels,start,end\na.mp4,red,0.5,2\na.mp4,red,,\nb.mp4,blue,,\n")
    learn(path, copy / "out", changes=ONCE)
    assert "truth" in (copy / "out" / "pages" / "a.mp4.html").read_text().split("legend")[-1]
    assert 'class="row truth"' not in (copy / "out" / "pages" / "b.mp4.html").read_text()


REFUSED = [
    ("video,labels\n", {}, "lists no video"),
    ("file,labels\na.mp4,red\n", {}, "unknown column 'file'"),
    ("video,labels\na.mp4,\n", {}, "no video that is to be learned from has a tag"),
    (
        "video,labels\nx.mp4,red\n",
        {},
        r"none of the tagged videos of .* can be used, .*--data names another folder.*; .*x.mp4: there is no such file",
    ),
    ("video,labels\n../a.mp4,red\n", {}, r"'../a.mp4'\) is no file below"),
    ("video,labels\n/etc/a.mp4,red\n", {}, "is no file below"),
    ("video,labels\na.mp4,red\n./a.mp4,blue\n", {}, r"'./a.mp4'\) is listed twice"),
    ('video,labels\na.mp4,"re\nd"\n', {}, r"tag \('re\\nd'\) of a.mp4 must be one line"),
    (
        "video,labels\na.mp4,red|jump\n",
        {"changes": (*ONCE, "classes=red,blue")},
        "tag 'jump' of a.mp4 is none of the 2",
    ),
    ("video,labels\na.mp4,red\n", {"encoder": "nonsense"}, r"encoder \('nonsense'\) must be run:ID, KIND:WEIGHTS"),
    ("video,labels\na.mp4,red\n", {"encoder": ""}, "has no run whose encoder could describe the videos; train one"),
    ("video,labels\na.mp4,red\n", {"encoder": "run:x"}, "no run whose id begins with 'x'"),
    ("video,labels\na.mp4,red\n", {"recipe": "cbp-vpl"}, "unknown recipe 'cbp-vpl'"),
    ("video,labels\na.mp4,red\n", {"recipe": "cbp-only", "clip": "tiny"}, "has no branch for --clip"),
    ("video,labels\na.mp4,zebra\n", {"clip": "tiny", "changes": ()}, "'zebra'.* has words that this CLIP never saw"),
    ("video,labels\na.mp4,red\n", {"clip": "nowhere", "changes": ()}, "CLIP .*nowhere.* does not exist"),
    ("video,labels\na.mp4,red\n", {"changes": ("supervised=true",)}, "supervised .* learns from times"),
    ("video,labels\na.mp4,nothing\n", {}, "all tags are 'nothing'"),
    ("video,labels\na.mp4,Nothing\n", {}, r"tag \('Nothing'\) of a.mp4 must be 'nothing', in small letters"),
    ("video,labels\na.mp4,red\nb.mp4,RED\n", {}, "tags 'RED' and 'red' differ in capitals alone"),
    ("video,labels\na.mp4,red\n", {"data": "nowhere"}, "nowhere.* is no folder"),
    ("video,labels\na.mp4,red\n", {"settings": {"device": "tpu"}}, r"device \('tpu'\) must be"),
    ("video,labels\na.mp4,red\n", {"run": "x"}, "no run whose id begins with 'x'"),
]


@pytest.mark.parametrize(("text", "how", "says"), REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence_before_anything_is_described(tmp_path, text, how, says):
    root, encoder = tmp_path / "rec", Colours()
    root.mkdir()
    (root / "a.mp4").write_text("is not looked at")
    (root / "tags.csv").write_text(text)
    with pytest.raises((ValueError, LibraryError, FileNotFoundError), match=says):
        learn(root / "tags.csv", tmp_path / "out", seen_by=encoder, **({"changes": ONCE} | how))
    assert encoder.calls == 0 and not (tmp_path / "out" / "timelines.json").exists()


def test_neither_or_both_of_tags_and_videos_are_refused(tmp_path):
    for tags, videos, run in ((None, [], "r"), (tmp_path / "t.csv", ["a.mp4"], "r"), (None, ["a.mp4"], None)):
        with pytest.raises(ValueError, match="give --tags to learn from, or videos and --run"):
            localize(tags, videos, tools(), run=run)


def test_a_folder_that_cannot_be_made_is_told_before_the_work(copy):
    (copy / "out").write_text("a file")
    with pytest.raises(WriteError, match="cannot make the folder"):
        learn(copy / "rec" / "tags.csv", copy / "out")


def test_videos_of_which_none_can_be_read_are_refused(learned, tmp_path):
    how = {"out": tmp_path / "out", "library": learned[1].library}
    with pytest.raises(ValueError, match="gone.mp4: there is no such file$"):
        localize(None, [tmp_path / "gone.mp4"], tools(), run=learned[1].run, **how)
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(ValueError, match="gone.mp4: there is no such file, and so it is with all 2 videos"):
        localize(None, [tmp_path / "notes.mp4", tmp_path / "gone.mp4"], tools(), run=learned[1].run, **how)
    with pytest.raises(ValueError, match="notes.mp4: refused: not_a_video: "):
        localize(None, [tmp_path / "notes.mp4"], tools(), run=learned[1].run, **how)


def test_a_run_with_an_encoder_is_the_default_and_finds_no_actions_itself(learned, copy):
    config = Classifier.recipes["probe-tiny"]().model_copy(update={"classes": ("x", "y")})
    with Library(copy / "rec.vitascope") as library:
        library.runs.new_run("mme-tiny", "mme")  # not finished
        run = add_run(library, Classifier(config), name="classifier", recipe="probe-tiny", source="a test").id
    done = learn(copy / "rec" / "tags.csv", copy / "out", encoder="", changes=ONCE, pages=False)
    with Library(copy / "rec.vitascope") as library:
        assert library.runs.find(done.run).config["encoder"] == f"run:{run}"
        assert library.features.models()[f"{run}.hop0.2"] > 0
    with pytest.raises(LibraryError, match=f"run {run} is of classifier, which finds no actions"):
        localize(None, [copy / "rec" / "a.mp4"], tools(), run=run, out=copy / "out")
    with pytest.raises(LibraryError, match="is of cbp_vlp, which describes no clips"):
        learn(copy / "rec" / "tags.csv", copy / "out", encoder=f"run:{done.run}", changes=ONCE)


def test_a_run_goes_on_by_its_id_alone_and_refuses_other_tags(learned, copy):
    rec = copy / "rec"
    first = learn(rec / "tags.csv", copy / "out", settings={"max_steps": 20})
    assert first.num_videos == 0 and first.signal is None
    done = learn(rec / "tags.csv", copy / "out", run=first.run, changes=())
    assert done.run == first.run and done.num_videos == 5
    assert weights_of(done.library, done.run) == weights_of(learned[1].library, learned[1].run)
    with pytest.raises(ValueError, match="tag 'jump' of a.mp4 is none of the 2 classes"):
        learn(write_list(rec / "jump.csv", {"a.mp4": ("jump",)}), copy / "out", run=first.run, changes=())
    with pytest.raises(OtherRun, match=r"has changed since it began.*what goes on with it: vitascope localize --tags"):
        learn(write_list(rec / "less.csv", {"a.mp4": ("red",)}), copy / "out", run=first.run, changes=())


def test_the_command_that_is_kept_goes_on_with_the_run_from_any_folder(learned):
    home, summary = learned
    with Library(summary.library) as library:
        words = shlex.split(library.runs.find(summary.run).go_on)
    assert words[:2] == ["vitascope", "localize"]
    told = dict(zip(words[2::2], words[3::2]))
    assert told["--tags"] == str(home / "rec" / "tags.csv") and told["--data"] == str(home / "rec")
    assert told["--run"] == summary.run and told["--recipe"] == "cbp-only-small"
    assert "--seed" not in words and "warmup_steps=60" in words and 'classes=["blue","red"]' in words


def start(tags, what):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(TOY), str(tags), str(tags.parents[1] / "out"), what]
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(process, is_so, seconds=60):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.005)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_in_training_and_gone_on_with_gives_the_same_weights(learned, copy, how):
    process = start(copy / "rec" / "tags.csv", "training")
    lines = lambda: [len(f.read_bytes().splitlines()) for f in copy.glob("rec.vitascope/runs/*cbp*/metrics.jsonl")]  # noqa: E731
    wait_for(process, lambda: max(lines(), default=0) >= 12)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode == (128 + how if how == signal.SIGTERM else -how)
    with Library(copy / "rec.vitascope") as library:
        (run,) = [each for each in library.runs.list(state="interrupted") if each.method == "cbp_vlp"]
    assert 12 <= max(lines()) < 60
    encoder = Colours()
    done = learn(copy / "rec" / "tags.csv", copy / "out", run=run.id, changes=(), seen_by=encoder)
    assert encoder.calls == 0 and done.num_videos == 5
    assert weights_of(done.library, done.run) == weights_of(learned[1].library, learned[1].run)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_while_features_are_made_the_next_call_makes_the_rest(copy, how):
    process = start(copy / "rec" / "tags.csv", "embedding")
    made = lambda: {f: f.stat().st_mtime_ns for f in copy.glob("rec.vitascope/features/*hop0.1/*.safetensors")}  # noqa: E731
    wait_for(process, lambda: len(made()) >= 3)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode == (128 + how if how == signal.SIGTERM else -how)
    before, encoder = made(), Colours()
    assert 3 <= len(before) < 5 and not list(copy.glob("rec.vitascope/runs/*cbp*"))
    how = {"seen_by": encoder, "changes": (*ONCE, "hop_seconds=0.1")}
    summary = learn(copy / "rec" / "tags.csv", copy / "out", **how)
    assert summary.num_videos == 5 and summary.problems == () and encoder.calls > 0
    kept = before.items() & made().items()
    assert len(kept) >= len(before) - 1 and len(made()) == 5  # the last one may have lacked its row


def test_a_data_sets_ids_are_found_as_the_names_of_files(tmp_path):
    for name in ("train/v_abc.mp4", "test/x_1.mp4", "test/twice.mp4", "train/twice.mp4", "plain.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = listed([Annotation(name) for name in ("abc", "x_1", "twice", "plain.mp4", "none")], tmp_path, tools())
    paths = [os.path.relpath(record.path, tmp_path) for record in found]
    assert paths == ["train/v_abc.mp4", "test/x_1.mp4", "twice", "plain.mp4", "none"]
    assert [record.id for record in found] == ["abc", "x_1", "twice", "plain.mp4", "none"]


def test_whole_paths_below_the_folder_are_ids_below_it(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert listed([Annotation(str(tmp_path / "a.mp4"))], tmp_path, tools())[0].id == "a.mp4"


def test_a_video_that_is_named_twice_is_looked_at_once():
    assert named([Path("/films/a.mp4"), Path("/films/../films/a.mp4")]) == [Record("/films/a.mp4", "a.mp4")]


def test_advice_tells_of_collapse_of_drift_and_of_doubted_learning(tmp_path):
    steady = {"foreground": 0.3, "background": 0.4}
    assert advice_on_coverage({"B1": steady, "F1": steady, "B2": steady}) == ()
    (told,) = advice_on_coverage({"B1": steady, "F1": steady | {"background": 0.001}})
    assert told.startswith("in stage F1 less than 1 % of the snippets were confident background")
    (told,) = advice_on_coverage({"F1": steady, "B2": steady, "F2": steady | {"foreground": 0.7}})
    assert told.startswith("confident foreground went from 30 to 70 % of the snippets between F1 and F2")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "stage": "B1", "foreground": 0.0, "background": 0.5}\n')
    tagged = [Record("a", labels=("x",)), Record("b", labels=("y",))]
    (told,) = advice_on_learning(tmp_path, tagged, tagged)
    assert "stage B1" in told
    assert advice_on_tags({"a": ("x",), "b": ("x",)}, [], ["x"])[0].startswith("'x': no confident moment")


def test_annotations_without_folder_and_suffix_are_of_the_one_video_of_that_name():
    def told(ids, names):
        known = {name: Annotation(name, duration_seconds=float(i + 1)) for i, name in enumerate(names)}
        found = known_of([Record(f"/{name}", name) for name in ids], known, annotations.video_id)
        return [found[name].duration_seconds for name in ids]

    assert told(["v_abcdefghijk.mp4", "b.mp4"], ["abcdefghijk", "b"]) == [1, 2]
    assert told(["abcdefghijk.mp4"], ["v_abcdefghijk"]) == [1]
    assert told(["a/1.mp4", "b/1.mp4", "c/2.mp4"], ["1", "2"]) == [None, None, 2]
    assert told(["a/1.mp4", "b/1.mp4"], ["a/1.mp4", "1"]) == [1, None]


def test_a_video_whose_page_cannot_be_written_is_told_and_found_all_the_same(learned, tmp_path):
    home, summary = learned
    (tmp_path / "pages" / "c.mp4.html").mkdir(parents=True)
    found = localize(None, [home / "rec" / "c.mp4"], tools(), run=summary.run, out=tmp_path, library=summary.library)
    assert [detail.startswith("it has no page: ") for _, detail in found.problems] == [True]
    assert read_timelines(tmp_path / "timelines.json").keys() == {"c.mp4"}


def test_a_folder_in_the_place_of_a_video_is_called_one(learned, tmp_path):
    home, summary = learned
    with pytest.raises(ValueError, match="rec: this is a folder; name the videos in it"):
        localize(None, [home / "rec"], tools(), run=summary.run, out=tmp_path, library=summary.library)


def test_true_times_of_other_videos_and_files_of_an_earlier_call_are_told(learned, tmp_path):
    home, summary = learned
    how = {"run": summary.run, "library": summary.library, "out": tmp_path / "out"}
    first = localize(None, [home / "rec" / "a.mp4"], tools(), **how)
    assert first.advice == () and first.num_likely == first.num_segments == 1
    (tmp_path / "truth.csv").write_text("video,labels,start,end\nrec/a.mp4,red,1,2\n")
    second = localize(None, [home / "rec" / "b.mp4"], tools(), truth=tmp_path / "truth.csv", **how)
    times, files = second.advice
    assert times.endswith("truth.csv has times of none of these videos, so no page shows them; name each as 'b.mp4'")
    assert files.startswith("3 files in ") and files.endswith("of videos of an earlier call, such as pages/a.mp4.html")
