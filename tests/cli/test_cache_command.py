"""`vitascope cache`: what it asks the api for, what it prints, what it refuses."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from vitascope import api
from vitascope.cli import cache
from vitascope.structures import CacheSummary
from vitascope.video.flow import FlowMethod

RESULT = CacheSummary(
    library="films.vitascope",
    method="dis-medium",
    cached=2,
    skipped=3,
    num_pairs=500,
    cache_bytes=300_000,
    video_bytes=10_000_000,
    removed=0,
    problems=(("films/a\nb.mp4", "damaged", "1 gaps (0.5 to 1.2 s); the rest is cached"),),
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
    app.command("cache")(cache.command)
    return CliRunner().invoke(app, list(words))


def test_flow_is_cached_and_told_in_lines(asked):
    done = run("motion")
    assert done.exit_code == 0
    assert asked == [(("motion", None), {"method": "dis-medium", "num_workers": 2, "progress": True})]
    assert done.stdout.splitlines() == [
        "2 videos cached (500 pairs of frames), 3 were there already",
        "  damaged: films/a\\nb.mp4: 1 gaps (0.5 to 1.2 s); the rest is cached",
        "flow takes 0.3 MB, 3.0 % of the videos' bytes",
    ]


def test_options_reach_the_api_and_json_is_one_document(asked):
    done = run("motion", "--library", "lib", "--method", "tvl1", "--workers", "0", "--json")
    assert done.exit_code == 0
    assert asked == [(("motion", Path("lib")), {"method": "tvl1", "num_workers": 0, "progress": True})]
    told = json.loads(done.stdout)
    assert told == asdict(RESULT) | {"problems": [list(RESULT.problems[0])]}


def test_a_signal_is_the_exit_code_and_how_to_go_on_is_told(asked):
    asked.result = replace(RESULT, signal=15, removed=4)
    done = run("motion")
    assert done.exit_code == 143
    assert done.stdout.splitlines()[0].endswith("3 were there already, 4 of gone videos removed")
    assert (
        done.stdout.splitlines()[-1] == "go on:  vitascope cache motion --library films.vitascope --method dis-medium"
    )


def test_an_empty_library_divides_by_nothing(asked):
    asked.result = replace(RESULT, cached=0, skipped=0, num_pairs=0, cache_bytes=0, video_bytes=0, problems=())
    assert run("motion").stdout == "0 videos cached (0 pairs of frames), 0 were there already\n"


def test_every_method_of_flow_can_be_asked_for():
    assert set(cache.FLOWS) == set(get_args(FlowMethod)) and len(cache.FLOWS) == len(set(cache.FLOWS))


def test_a_method_that_is_none_is_named_with_those_that_are(asked):
    done = run("motion", "--method", "foo")
    assert done.exit_code == 2 and asked == []
    told = (
        "--method (foo) must be one of: dis-medium, dis-fine, dis-fast, dis-ultrafast, farneback, farneback-light, tvl1"
    )
    assert done.stderr.splitlines()[-1] == f"Error: Invalid value: {told}"


@pytest.mark.parametrize("words", [["shapes"], ["motion", "--workers", "-1"], ["motion", "--method", "dis"], []])
def test_what_cannot_be_cached_is_a_mistake_of_usage(asked, words):
    done = run(*words)
    assert done.exit_code == 2 and asked == []
