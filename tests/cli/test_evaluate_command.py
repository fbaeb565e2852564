"""`vitascope evaluate`: what it asks the api for, what it prints, what it refuses."""

import json

import pytest
import typer
from typer.testing import CliRunner

from vitascope import api
from vitascope.cli import evaluate

ROW = {"j_mean": 0.5, "j_recall": 1.0, "j_decay": None, "f_mean": 0.25, "f_recall": 0.0, "f_decay": -0.125}
RESULT = {"j_and_f_mean": 0.375} | ROW | {"per_object": [{"sequence": "bear", "object": 1} | ROW]}


@pytest.fixture
def asked(monkeypatch):
    """The arguments with which the api is called."""
    calls = []

    def evaluate_davis(*arguments, **options):
        calls.append((arguments, options))
        return RESULT

    monkeypatch.setattr(api, "evaluate_davis", evaluate_davis, raising=False)
    return calls


def run(*words: str):
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command("evaluate")(evaluate.command)
    return CliRunner().invoke(app, list(words))


def test_results_are_scored(asked):
    done = run("davis", "--ground-truth", "gt", "--predictions", "res", "--year", "2016", "--davis-compat", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout) == RESULT
    ((truth, predictions), options) = asked[0]
    assert (str(truth), str(predictions)) == ("gt", "res")
    assert (options["year"], options["davis_compat"], options["weights"]) == ("2016", True, None)


def test_data_are_segmented_and_scored(asked):
    words = [
        "davis",
        "--data",
        "d",
        "--weights",
        "w.safetensors",
        "--out",
        "o",
        "--policy",
        "paper",
        "--short-side",
        "96",
    ]
    assert run(*words).exit_code == 0
    assert asked[0][1]["settings"] == {"policy": "paper", "short_side": 96}
    ((data, predictions), options) = asked[0]
    assert (str(data), predictions, str(options["weights"]), str(options["out"])) == ("d", None, "w.safetensors", "o")


def test_people_get_a_table(asked):
    lines = run("davis", "--data", "d").stdout.splitlines()
    assert lines[0].split() == ["J", "J", "recall", "J", "decay", "F", "F", "recall", "F", "decay"]
    assert lines[1].split() == ["bear", "#1", "50.0", "100.0", "-", "25.0", "0.0", "-12.5"]
    assert lines[2].startswith("mean over objects") and lines[3].startswith("J&F 37.5")


@pytest.mark.parametrize(
    "words, told",
    [
        (["tracking", "--data", "d"], "TASK (tracking) must be one of: davis"),
        (["davis"], "give either --ground-truth and --predictions, to score, or --data"),
        (["davis", "--ground-truth", "a", "--predictions", "b", "--data", "d"], "give either --ground-truth"),
        (["davis", "--ground-truth", "a"], "--ground-truth needs --predictions as well"),
        (["davis", "--predictions", "a"], "--predictions needs --ground-truth as well"),
        (
            ["davis", "--ground-truth", "a", "--predictions", "b", "--out", "o"],
            "--policy, --short-side and --out go with --data",
        ),
        (["davis", "--data", "d", "--year", "2018"], "--year (2018) must be 2016 or 2017"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(asked, words, told):
    done = run(*words)
    assert done.exit_code == 2 and not asked
    assert told in " ".join(done.output.replace("│", " ").split())


def test_the_help_tells_what_a_list_of_clips_is():
    from vitascope.cli.main import app

    told = " ".join(CliRunner().invoke(app, ["evaluate", "--help"]).output.split())
    assert "header video,labels,start,end,split" in told and "Only video and labels are needed" in told
