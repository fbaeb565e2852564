"""`vitascope evaluate localization`: what it asks the api for, what it prints and refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from vitascope import api
from vitascope.cli import evaluate
from vitascope.evaluation.localization import evaluate as judge
from vitascope.evaluation.localization_protocols import PROTOCOLS
from vitascope.structures import Annotation, Segments

TRUTH = [
    Annotation("a", segments=Segments(np.array([[0.0, 10.0], [5.0, 5.0]]), ("run", "run"))),
    Annotation("b", segments=Segments(np.array([[0.0, 10.0]]), ("jump",))),
]
FOUND = {"a": Segments(np.array([[0.0, 5.5]]), ("run",), np.array([0.9]))}
RESULT = judge(TRUTH, FOUND, "plain")


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def evaluate_localization(*arguments, **options):
        calls.append((arguments, options))
        return RESULT

    monkeypatch.setattr(api, "evaluate_localization", evaluate_localization, raising=False)
    return calls


def run(*words):
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command("evaluate")(evaluate.command)
    return CliRunner().invoke(app, ["localization", *words])


def test_predictions_are_judged_and_told_as_json(asked):
    words = ["--protocol", "co2_grid_212", "--split", "test", "--ambiguous", "x.txt", "--blocked", "b.txt"]
    words += ["--classes", "c.txt", "--unknown", "drop", "--missing", "skip", "--out", "o", "--json"]
    done = run("--ground-truth", "g", "--predictions", "p", *words)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["map"] == {str(k / 10): 0.5 if k < 6 else 0.0 for k in range(1, 8)}
    assert told["average"] == pytest.approx(0.5 * 5 / 7) and told["num_videos"] == 2
    ((arguments, options),) = asked
    assert arguments == (Path("g"), Path("p"), "co2_grid_212")
    how = {"split": "test", "ambiguous": Path("x.txt"), "blocked": Path("b.txt"), "unknown": "drop", "missing": "skip"}
    assert options == how | {"classes": Path("c.txt"), "out": Path("o")}


def test_people_get_a_table_what_was_left_out_and_the_protocol(asked):
    text = run("--ground-truth", "g", "--predictions", "p", "--out", "o").stdout.splitlines()
    assert text[0] == "2 videos, 2 true segments, 1 predictions; protocol plain"
    assert text[1].split()[:3] == ["tIoU", "0.1", "0.2"] and text[1].split()[-1] == "0.3:0.7"
    assert text[2].split() == ["mAP", *["50.00"] * 5, "0.00", "0.00", "35.71", "50.00", "30.00"]
    assert text[4].split() == ["jump", *["0.00"] * 7, "0.00", "of", "1"]
    assert text[5].split() == ["run", *["100.00"] * 5, "0.00", "0.00", "71.43", "of", "1"]
    assert text[6].startswith("AR@1 ") and text[7] == "mAP of telling videos 75.00"
    assert text[8] == "left out: 1 true segments of no length"
    assert "report: o/report.html" in text and "Protocol plain" in text[-2]
    assert asked[0][1]["unknown"] is None and asked[0][1]["missing"] == "count"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--ground-truth", "g"], "localization needs --ground-truth, what is there, and --predictions"),
        (["--predictions", "p"], "localization needs --ground-truth"),
        (["--ground-truth", "g", "--predictions", "p", "--data", "d"], "and takes no --data"),
        (["--ground-truth", "g", "--predictions", "p", "--run", "r"], "--run goes with recognition and retrieval"),
        (["--ground-truth", "g", "--predictions", "p", "--unknown", "keep"], "'keep' is not one of"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(asked, words, told):
    done = run(*words)
    assert done.exit_code == 2 and not asked
    assert told in " ".join(done.output.replace("│", " ").split())


def test_other_tasks_refuse_a_protocol():
    app = typer.Typer(rich_markup_mode=None)
    app.command("evaluate")(evaluate.command)
    done = CliRunner().invoke(app, ["davis", "--data", "d", "--protocol", "plain"])
    assert done.exit_code == 2 and "--protocol goes with localization, not with davis" in " ".join(done.output.split())


def test_the_help_names_every_protocol():
    told = " ".join(run("--help").output.split())
    assert all(name in told for name in PROTOCOLS)
