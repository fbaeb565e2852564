"""`vitascope show`: what it asks the api for, what it writes and prints, what it refuses."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from vitascope import api
from vitascope.cli import show
from vitascope.structures import Figure, VideoError

ROWS = (("input", np.zeros((4, 3, 8, 8), np.uint8)), ("true tracks", np.zeros((2, 3, 16, 16), np.uint8)))
FIGURE = Figure(title="Motion", rows=ROWS, caption="Tracks of 4 steps.")
SHEET = np.random.default_rng(0).integers(0, 255, (3, 20, 30), dtype=np.uint8)


@pytest.fixture
def asked(monkeypatch, tmp_path) -> list:
    """The arguments with which the api is called, in a folder with a video."""
    calls = []

    def show_motion(*arguments, **options):
        calls.append((arguments, options))
        return FIGURE, SHEET

    monkeypatch.setattr(api, "show_motion", show_motion, raising=False)
    monkeypatch.chdir(tmp_path)
    Path("a.mp4").write_bytes(b"video")
    Path("folder").mkdir()
    return calls


def run(*words: str):
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command("show")(show.command)
    return CliRunner().invoke(app, list(words))


def test_the_picture_is_written_and_told(asked):
    done = run("motion", "a.mp4", "--at", "2.5")
    assert done.exit_code == 0, done.output
    assert asked == [((Path("a.mp4"), 2.5), {"recipe": "mme"})]
    assert np.array_equal(np.asarray(Image.open("motion.png")).transpose(2, 0, 1), SHEET)
    assert done.stdout.splitlines() == [
        "Motion: a.mp4 at 0:02.50",
        "Tracks of 4 steps.",
        "  row 1: input (4)",
        "  row 2: true tracks (2)",
        "picture: motion.png",
    ]


def test_a_run_is_asked_for_with_its_library_and_a_recipe_without(asked):
    assert run("motion", "a.mp4", "--at", "0", "--run", "abc", "--library", "lib").exit_code == 0
    assert run("motion", "a.mp4", "--at", "0", "--run", "abc").exit_code == 0
    assert run("motion", "a.mp4", "--at", "0", "--recipe", "mme-paper").exit_code == 0
    assert [options for _, options in asked] == [
        {"run": "abc", "library": Path("lib")},
        {"run": "abc", "library": None},
        {"recipe": "mme-paper"},
    ]


def test_scripts_get_json(asked):
    told = json.loads(run("motion", "a.mp4", "--at", "1", "--out", "folder/b.PNG", "--json").stdout)
    assert told["out"] == "folder/b.PNG" and Path("folder/b.PNG").is_file()
    assert told["rows"] == [{"name": "input", "pictures": 4}, {"name": "true tracks", "pictures": 2}]


def test_a_picture_of_before_is_replaced_and_nothing_else_is_left(asked):
    Path("motion.png").write_text("before")
    assert run("motion", "a.mp4", "--at", "1").exit_code == 0
    assert Image.open("motion.png").size == (30, 20)
    assert sorted(os.listdir()) == ["a.mp4", "folder", "motion.png"]


@pytest.mark.parametrize("fails", ["show_motion"])
def test_a_failure_leaves_the_picture_of_before(asked, monkeypatch, fails):
    def fail(*_, **__):
        raise VideoError("a.mp4", "damaged", "no frame can be decoded")

    monkeypatch.setattr(api, fails, fail)
    Path("motion.png").write_text("before")
    done = run("motion", "a.mp4", "--at", "1")
    assert done.exit_code == 1 and isinstance(done.exception, VideoError)
    assert Path("motion.png").read_text() == "before" and sorted(os.listdir()) == ["a.mp4", "folder", "motion.png"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["flow", "a.mp4", "--at", "1"], "WHAT (flow) must be one of: motion"),
        (["motion", "none.mp4", "--at", "1"], "VIDEO (none.mp4) does not exist"),
        (["motion", "folder", "--at", "1"], "VIDEO (folder) is a folder, not a file"),
        (["motion", "--at", "1"], "VIDEO"),
        (["motion", "a.mp4"], "--at"),
        (["motion", "a.mp4", "--at", "-1"], "--at (-1.0) must be a time in the video, in seconds >= 0"),
        (["motion", "a.mp4", "--at", "nan"], "--at (nan) must be a time"),
        (["motion", "a.mp4", "--at", "soon"], "--at"),
        (["motion", "a.mp4", "--at", "1", "--run", "r", "--recipe", "mme"], "--run (r) has its recipe already"),
        (
            ["motion", "a.mp4", "--at", "1", "--recipe", "stm-small"],
            "--recipe (stm-small) predicts no motion; take one of: mme,",
        ),
        (["motion", "a.mp4", "--at", "1", "--library", "lib"], "name the run with --run"),
        (["motion", "a.mp4", "--at", "1", "--out", "a.mp4"], "--out (a.mp4) is the video itself"),
        (["motion", "a.mp4", "--at", "1", "--out", "b.jpg"], "--out (b.jpg) must end in .png"),
        (["motion", "a.mp4", "--at", "1", "--out", "none/b.png"], "must be a file in a folder that is there"),
    ],
)
def test_wrong_usage_is_told_before_any_work(asked, words, told):
    done = run(*words)
    assert done.exit_code == 2 and not asked
    assert told in " ".join(done.output.replace("│", " ").split())
    assert sorted(os.listdir()) == ["a.mp4", "folder"]


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_the_video_is_not_overwritten_by_another_name_of_it(asked, link):
    link("a.mp4", "b.png")
    done = run("motion", "a.mp4", "--at", "1", "--out", "b.png")
    assert done.exit_code == 2 and "is the video itself" in " ".join(done.output.split())
    assert Path("a.mp4").read_bytes() == b"video" and not asked
