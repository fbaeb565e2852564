"""`vitascope localize`: what it asks the api for, what it prints, what it refuses, and one call from files to timelines."""

import json
import re
import shlex
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from vitascope.cli.main import app, main
from vitascope.engine.start import add_run
from vitascope.methods.classifier.method import Classifier
from vitascope.store.library import Library
from vitascope.store.timelines import read_timelines
from vitascope.structures import LocalizeSummary
from vitascope.video.writer import VideoWriter

SUMMARY = LocalizeSummary(
    out="t",
    library="rec.vitascope",
    run="20260101-run",
    num_videos=2,
    num_tagged=1,
    num_segments=1,
    classes=(("jump", 1, 1),),
    problems=(("rec/x\n.mp4", "there is no such file"),),
    doubts=tuple((f"v{i}.mp4", "jump", "missing" if i else "suspicious", 61.5, 0.5) for i in range(20)),
    advice=("tag more",),
    files=("t/index.html",),
)


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def localize(*arguments, **options):
        calls.append((arguments, options))
        return SUMMARY

    monkeypatch.setattr("vitascope.api.localize", localize)
    return calls


def run(*words):
    return CliRunner().invoke(app, ["localize", *map(str, words)])


def test_tags_are_learned_from_with_what_was_asked(asked):
    words = ["--tags", "rec/tags.csv", "--out", "t", "--encoder", "lite0:w.pth", "--clip", "CLIP", "--set", "rounds=1"]
    done = run(*words, "--no-pages", "--seed", "3", "--truth", "true.json")
    assert done.exit_code == 0, done.output
    ((tags, videos), options) = asked[0]
    assert (str(tags), videos) == ("rec/tags.csv", ())
    assert options["settings"] == {"seed": 3, "device": "auto"} and options["changes"] == ["rounds=1"]
    assert (options["encoder"], options["clip"], options["recipe"]) == ("lite0:w.pth", "CLIP", None)
    assert not options["pages"] and str(options["truth"]) == "true.json"


def test_the_result_is_told_in_lines(asked):
    text = run("--tags", "tags.csv").stdout
    assert "1 video was left out, or not whole, or in doubt:\n  rec/x\\n.mp4: there is no such file\n" in text
    assert (
        "1 action found in 2 videos, 0 with a score of 0.3 or more, by run 20260101-run\n  jump: found in 1 video, tagged in 1\n"
        in text
    )
    assert "v0.mp4: jump: tagged, but never seen for certain; most of it at 1:01.5 (0.50)" in text
    assert "v1.mp4: jump: not tagged, but seen at 1:01.5 (0.50)" in text and "and 8 more, in index.html" in text
    assert "advice: tag more" in text and "index.html, timelines.json" in text
    assert "next: vitascope localize VIDEO --library rec.vitascope --run 20260101-run" in text


def test_the_result_as_json_is_whole(asked):
    told = json.loads(run("--tags", "tags.csv", "--json").stdout)
    assert told["num_videos"] == 2 and len(told["doubts"]) == 20 and told["classes"] == [["jump", 1, 1]]


def test_a_stop_tells_the_command_that_goes_on(monkeypatch):
    stopped = LocalizeSummary("t", "", "20260101-run", signal=15)
    monkeypatch.setattr("vitascope.api.localize", lambda *_, **__: stopped)
    monkeypatch.setattr(sys, "argv", ["vitascope", "localize", "--tags", "my tags.csv"])
    done = run("--tags", "my tags.csv")
    assert done.exit_code == 143
    words = shlex.split(done.stdout.splitlines()[-1].partition("go on:")[2])
    assert words == ["vitascope", "localize", "--tags", "my tags.csv", "--run", "20260101-run"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "give either --tags LIST, to learn, or videos and --run"),
        (["a.mp4", "--tags", "t.csv"], "give either --tags LIST, to learn, or videos and --run"),
        (["a.mp4"], "videos need --run"),
        (
            ["a.mp4", "--run", "r", "--clip", "tiny", "--set", "a=b"],
            "--clip, --set: with videos these are as --run has",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(asked, words, says):
    done = run(*words)
    assert done.exit_code == 2 and not asked
    assert says in " ".join(done.output.split())


def test_the_tiny_clip_is_told_of_where_a_recipe_takes_it_unasked(asked):
    assert "knows the synthetic world alone" in run("--tags", "t.csv", "--recipe", "cbp-vlp-small").stderr
    for words in (["--recipe", "cbp-only"], ["--recipe", "cbp-vlp-small", "--clip", "tiny"], []):
        assert "clip:" not in run("--tags", "t.csv", *words).stderr


def test_from_files_to_timelines_and_on_to_another_video(tmp_path, monkeypatch, capsys):
    rng, root = np.random.default_rng(0), tmp_path / "rec"
    root.mkdir()
    for name in ("a", "b", "new"):
        frames = rng.integers(0, 255, (30, 3, 32, 48), dtype=np.uint8)
        with VideoWriter(root / f"{name}.mp4", 10) as writer:
            writer.write(frames)
    (root / "tags.csv").write_text("video,labels\na.mp4,jump\nb.mp4,run|jump\n")
    monkeypatch.chdir(tmp_path)
    assert main(["localize", "--tags", "rec/tags.csv"]) == 1
    assert "error: " in (told := capsys.readouterr().err) and "vitascope train hico-tiny" in told
    config = Classifier.recipes["probe-tiny"]().model_copy(update={"classes": ("x", "y")})
    with Library("rec.vitascope") as library:
        add_run(library, Classifier(config), name="classifier", recipe="probe-tiny", source="a test")
    words = ["--set", "warmup_steps=2", "--set", "batch_size=2", "--out", "found"]
    assert main(["localize", "--tags", "rec/tags.csv", "--json", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["num_videos"] == 2 and set(read_timelines("found/timelines.csv")) <= {"a.mp4", "b.mp4"}
    assert main(["localize", "rec/new.mp4", "--run", told["run"], "--out", "more"]) == 0
    assert re.search(r" in 1 video, \d+ with a score of 0.3 or more, by run ", capsys.readouterr().out)
    assert (
        list(read_timelines("more/timelines.json")) == ["new.mp4"] and (tmp_path / "more/pages/new.mp4.html").is_file()
    )
