"""`vitascope index`: what it asks the api for, what it prints, what it refuses."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vitascope import api
from vitascope.cli import index
from vitascope.structures import CacheSummary

RESULT = CacheSummary(
    library="films.vitascope",
    method="thumbnails",
    cached=2,
    skipped=3,
    num_pairs=40,
    cache_bytes=300_000,
    video_bytes=10_000_000,
    removed=0,
    problems=(("films/a\nb.mp4", "damaged", "1 gaps (0.5 to 1.2 s); the rest is indexed"),),
)


@pytest.fixture
def asked(monkeypatch):
    """The arguments with which the api is called; `asked.result` is what it answers."""

    class Calls(list):
        result = RESULT

    calls = Calls()

    def keep(*arguments, **options):
        calls.append((arguments, options))
        return calls.result

    monkeypatch.setattr(api, "keep", keep, raising=False)
    return calls


def run(*words: str):
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command("index")(index.command)
    return CliRunner().invoke(app, list(words))


def test_shots_are_indexed_and_told_in_lines(asked):
    done = run("shots")
    assert done.exit_code == 0
    assert asked == [(("shots", None), {"num_workers": 2, "progress": True})]
    assert done.stdout.splitlines() == [
        "2 videos indexed (40 cuts), 3 were there already",
        "  damaged: films/a\\nb.mp4: 1 gaps (0.5 to 1.2 s); the rest is indexed",
        "the indices take 0.30 MB",
    ]


def test_options_reach_the_api_and_json_is_one_document(asked):
    done = run("shots", "--library", "lib", "--workers", "0", "--json")
    assert done.exit_code == 0
    assert asked == [(("shots", Path("lib")), {"num_workers": 0, "progress": True})]
    assert json.loads(done.stdout) == asdict(RESULT) | {"problems": [list(RESULT.problems[0])]}


def test_a_signal_is_the_exit_code_and_how_to_go_on_is_told(asked):
    asked.result = replace(RESULT, signal=15, removed=4)
    done = run("shots")
    assert done.exit_code == 143
    assert done.stdout.splitlines()[0].endswith("3 were there already, 4 of gone videos removed")
    assert done.stdout.splitlines()[-1] == "go on:  vitascope index shots --library films.vitascope"


@pytest.mark.parametrize("words", [["motion"], ["shots", "--workers", "-1"], []])
def test_what_cannot_be_indexed_is_a_mistake_of_usage(asked, words):
    done = run(*words)
    assert done.exit_code == 2 and asked == []
