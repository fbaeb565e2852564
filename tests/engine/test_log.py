"""Metrics that can be cut back to a step, and progress that people can read."""

import io
import json
import sys

import pytest

from vitascope.engine.log import Log, Progress, Status, describe, keep_lines, read_metrics


def lines_up_to(step):
    return "".join(json.dumps({"step": s, "stage": "only", "loss": s / 3}) + "\n" for s in range(1, step + 1))


@pytest.mark.parametrize("step", [0, 1, 3, 5])
def test_lines_after_the_resumed_step_are_dropped(tmp_path, step):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines_up_to(5))
    keep_lines(path, step)
    assert path.read_text() == lines_up_to(step)


@pytest.mark.parametrize("tail", ['{"step": 4', '{"step": 4, "loss": 1}', "\x00\x00\n", "[1]\n"])
def test_a_line_that_was_cut_short_is_dropped(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines_up_to(3) + tail)
    keep_lines(path, 9)
    assert path.read_text() == lines_up_to(3)


def test_metrics_come_back_bit_for_bit_and_hold_no_time(tmp_path):
    log = Log(tmp_path, 0)
    log.write({"step": 1, "stage": "only", "loss": 0.1 + 0.2}, {"seconds": 3.0})
    log.close()
    assert read_metrics(tmp_path) == [{"step": 1, "stage": "only", "loss": 0.1 + 0.2}]
    assert json.loads((tmp_path / "timing.jsonl").read_text()) == {"step": 1, "seconds": 3.0}


def test_a_missing_tensorboard_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'vitascope\[tensorboard\]'"):
        Log(tmp_path, 0, tensorboard=True)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_one_line_that_renews_itself():
    stream = Terminal()
    progress = Progress(stream)
    for step in (1, 2, 3, 100):
        progress(Status("only", step, 100, 0.5, None))
    assert stream.getvalue().count("\r") == 2  # the first, and the last; the others came within 0.2 s
    assert stream.getvalue().endswith("100/100 (100%), loss 0.5\n")


def test_the_time_left_is_told_in_hours_minutes_seconds():
    assert describe(Status("only", 1, 3, None, 7384.6)) == "only: 1/3 (33%), 2:03:05 left"
