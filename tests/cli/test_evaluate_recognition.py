"""`vitascope evaluate recognition` and `vitascope train --init`: what they ask the api for, what they print and refuse."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vitascope import api
from vitascope.cli import evaluate, train
from vitascope.evaluation.probe import Fold, Recognition
from vitascope.structures import TrainSummary

RESULT = Recognition(
    protocol="Linear probe.",
    classes=("fight", "calm"),
    num_samples=8,
    top1=0.75,
    interval=(0.4, 0.93),
    top5=None,
    mean_class=0.75,
    majority=0.5,
    confusion=((4, 0), (2, 2)),
    folds=(Fold("1", 4, 0.5), Fold("2", 4, 1.0)),
    predictions=(("a.mp4", "fight", "fight", 0.9),),
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


def run(*words, verb=evaluate):
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command("verb")(verb.command)
    return CliRunner().invoke(app, list(words))


def test_a_run_is_measured_on_data(asked):
    words = ["recognition", "--run", "2026", "--data", "d", "--train", "t", "--library", "l", "--clips", "2", "--json"]
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["confusion"] == [[4, 0], [2, 2]]
    ((arguments, options),) = asked
    assert arguments == ("2026", Path("d"), Path("t"), Path("l"))
    assert options == {"num_folds": None, "num_clips": 2, "device": "auto", "out": None, "progress": True}


def test_people_get_the_figures_the_classes_and_the_protocol(asked):
    text = run("recognition", "--run", "r", "--data", "d", "--folds", "2", "--out", "o").stdout.splitlines()
    assert text[0] == "top-1 75.0% of 8 (95% interval 40.0% to 93.0%); always the largest class: 50.0%"
    assert text[1] == "mean over 2 classes 75.0%"
    assert text[2:4] == ["  calm   50.0% of 4, 2 taken for fight", "  fight 100.0% of 4"]
    assert text[4:6] == ["fold 1: 50.0% of 4", "fold 2: 100.0% of 4"]
    assert "  bad.mp4: empty: 0 bytes" in text and text[-2:] == ["Linear probe.", "report: o/report.html"]
    assert asked[0][1]["num_folds"] == 2 and asked[0][1]["out"] == Path("o")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["recognition", "--data", "d"], "recognition needs --run"),
        (["recognition", "--run", "r"], "recognition needs --run"),
        (["recognition", "--run", "r", "--data", "d", "--train", "t", "--folds", "3"], "exclude each other"),
        (
            ["recognition", "--run", "r", "--data", "d", "--year", "2017"],
            "--year goes with davis, not with recognition",
        ),
        (["davis", "--data", "d", "--run", "r"], "--run goes with recognition and retrieval, not with davis"),
        (["tracking", "--data", "d"], "TASK (tracking) must be one of: davis, recognition, retrieval"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(asked, words, told):
    done = run(*words)
    assert done.exit_code == 2 and not asked
    assert told in " ".join(done.output.replace("│", " ").split())


def test_training_may_start_from_the_encoder_of_a_run(monkeypatch):
    calls = []

    def fake(*arguments, **options):
        calls.append(options)
        return TrainSummary("r", "finetune-tiny", "d", "l", "f", "done", 1, {}, {}, ())

    monkeypatch.setattr(api, "train", fake)
    assert run("finetune-tiny", "--data", "d", "--init", "2026", verb=train).exit_code == 0
    assert run("finetune-tiny", "--data", "d", verb=train).exit_code == 0
    assert calls[0]["init"] == "2026" and "init" not in calls[1]
