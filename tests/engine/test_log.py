"""Metrics that can be cut back to a step, and progress that people can read."""

import io
import json
import sys

import pytest

from vitascope.engine.log import Log, Progress, Status, describe, keep_lines, read_metrics, read_timing, share_waited


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
    log.took(1.0, 3.0)
    log.write({"step": 1, "stage": "only", "loss": 0.1 + 0.2})
    log.close()
    assert read_metrics(tmp_path) == [{"step": 1, "stage": "only", "loss": 0.1 + 0.2}]
    assert read_timing(tmp_path) == [{"step": 1, "wait_seconds": 1.0, "seconds": 3.0}]


def test_timing_is_the_mean_of_all_steps_since_the_line_before(tmp_path):
    log = Log(tmp_path, 0)
    for step, waited in enumerate((4.0, 0.0, 2.0, 0.0), 1):  # two workers: every other batch is there already
        log.took(waited, 5.0)
        if step % 2 == 0:
            log.write({"step": step, "stage": "only"})
    assert [(line["step"], line["wait_seconds"], line["seconds"]) for line in read_timing(tmp_path)] == [
        (2, 2.0, 5.0),
        (4, 1.0, 5.0),
    ]


def test_the_share_that_steps_waited_leaves_out_the_first_third_and_needs_enough_steps():
    lines = [{"step": step, "wait_seconds": 4.0 if step <= 10 else 1.0, "seconds": 4.0} for step in range(1, 32)]
    assert share_waited(lines) == 0.25
    assert share_waited(lines[:20]) is None and share_waited(lines[:21]) is not None
    assert share_waited([]) is None


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
