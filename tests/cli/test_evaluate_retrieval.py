"""`vitascope evaluate retrieval`: what it asks the api for, what it prints and refuses."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vitascope import api
from vitascope.cli import evaluate
from vitascope.evaluation.retrieval import Query, Retrieval

RESULT = Retrieval(
    protocol="Retrieval by cosine.",
    num_queries=4,
    num_gallery=9,
    recall={1: 0.75, 5: 1.0},
    chance={1: 0.25, 5: 0.9},
    interval=(0.3, 0.95),
    mean_ap=0.5,
    chance_ap=0.375,
    num_absent=1,
    classes=(("calm", 2, 0.5, 0.25), ("fight", 2, 1.0, 0.75)),
    queries=(Query("a.mp4", "calm", 2, (("b.mp4", "fight", 0.9),)),),
    unreadable={"bad.mp4": "empty: 0 bytes"},
)


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def evaluate_run(_task, *arguments, **options):
        calls.append((arguments, options))
        return RESULT

    monkeypatch.setattr(api, "evaluate_run", evaluate_run, raising=False)
    return calls


def run(*words):
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command("evaluate")(evaluate.command)
    return CliRunner().invoke(app, ["retrieval", *words])


def test_a_run_is_measured_on_data(asked):
    words = ["--run", "2026", "--data", "d", "--gallery", "g", "--library", "l", "--centre", "each", "--json"]
    done = run(*words, "--leave-out", "self", "--clips", "3", "--device", "cpu", "--out", "o")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["recall"] == {"1": 0.75, "5": 1.0} and told["protocol"] == "Retrieval by cosine."
    ((arguments, options),) = asked
    assert arguments == ("2026", Path("d"), Path("g"), Path("l"))
    how = {"centre": "each", "leave_out": "self", "num_clips": 3, "device": "cpu", "embedded": False}
    assert options == how | {"out": Path("o"), "progress": True}


def test_people_get_the_figures_the_classes_and_the_protocol(asked):
    text = run("--run", "r", "--data", "d", "--out", "o", "--embedded").stdout.splitlines()
    assert text[:3] == [
        "4 queries, 9 records in the gallery",
        "R@1   75.0%, by chance  25.0% (95% interval 30.0% to 95.0%)",
        "R@5  100.0%, by chance  90.0%",
    ]
    assert text[3:6] == [
        "mAP   50.0%, by chance  37.5%",
        "  calm  R@1  50.0% of 2, mAP 25.0%",
        "  fight R@1 100.0% of 2, mAP 75.0%",
    ]
    assert text[6] == "queries of a class that the gallery lacks, which count as not found: 1"
    assert "  bad.mp4: empty: 0 bytes" in text and text[-2:] == ["report: o/report.html", "Retrieval by cosine."]
    assert asked[0][1]["num_clips"] == 10 and asked[0][1]["embedded"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--data", "d"], "retrieval needs --run"),
        (["--run", "r"], "retrieval needs --run"),
        (["--run", "r", "--data", "d", "--folds", "3"], "--folds goes with recognition, not with retrieval"),
        (["--run", "r", "--data", "d", "--embedded", "--clips", "3"], "--embedded and --clips exclude each other"),
        (["--run", "r", "--data", "d", "--centre", "median"], "'median' is not one of"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(asked, words, told):
    done = run(*words)
    assert done.exit_code == 2 and not asked
    assert told in " ".join(done.output.replace("│", " ").split())
