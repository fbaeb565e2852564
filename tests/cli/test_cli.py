"""The command line as a user meets it: exit codes, messages, JSON, and the whole path on a few files with faults among them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vitascope.video.writer import VideoWriter

TINY = ("--set", "length=4", "--set", "batch_size=2", "--set", "depth=1", "--set", "decoder_depth=1")


def call(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "vitascope.cli.main", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def write_video(path: Path, seed: int, seconds: float = 3.0) -> None:
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 255, (3, 32, 40), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    with VideoWriter(path, 25) as writer:
        writer.write(np.stack([np.roll(texture, 2 * t, axis=2) for t in range(int(25 * seconds))]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cli")
    (root / "films" / "deep er").mkdir(parents=True)
    (root / "bare").mkdir()
    for seed, name in enumerate(("a.mp4", "deep er/b.mp4", "deep er/c.mp4")):
        write_video(root / "films" / name, seed)
    (root / "films" / "empty.mp4").touch()
    (root / "films" / "two\nlines.mp4").write_text("this is text, not video\n" * 100)
    return root


@pytest.fixture(scope="module")
def trained(folder) -> Path:
    """The folder after scan, train and embed."""
    for words in (("scan", "films"), ("train", "videomae-tiny", "--data", "films", *TINY), ("embed",)):
        done = call(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_every_file_ends_in_one_state_and_a_second_scan_opens_nothing(folder):
    first = json.loads(call("scan", "films", "--json", cwd=folder).stdout)
    assert (first["num_files"], first["done"], first["damaged"], first["refused"]) == (5, 3, 0, 2)
    assert {Path(row["path"]).name: row["reason"] for row in first["problems"]} == {
        "empty.mp4": "empty",
        "two\nlines.mp4": "not_a_video",
    }
    second = call("scan", "films", cwd=folder)
    assert "0 opened, 5 unchanged" in second.stdout
    assert "two\\nlines.mp4" in second.stdout, "a name with a line break is shown escaped"


def test_the_whole_path_finds_a_moment_with_its_times(trained):
    found = json.loads(call("search", "--like", "films/a.mp4@1.0", "--json", cwd=trained).stdout)
    first = found["hits"][0]
    assert Path(first["path"]).name == "a.mp4"
    assert first["start_seconds"] <= 1.0 < first["end_seconds"]
    assert first["score"] == pytest.approx(1.0, abs=1e-2)
    assert found["num_vectors"] == 3 * 5  # 3 s at 25 frames/s, snippets of 8 frames, 2 apart, end to end


def test_moments_of_other_videos_are_found_elsewhere(trained):
    found = json.loads(call("search", "--like", "films/a.mp4@1.0", "--elsewhere", "--json", cwd=trained).stdout)
    assert found["hits"] and "a.mp4" not in {Path(hit["path"]).name for hit in found["hits"]}


def test_embedding_again_does_no_work(trained):
    again = json.loads(call("embed", "--json", cwd=trained).stdout)
    assert (again["embedded"], again["skipped"]) == (0, 3)
    assert len(again["problems"]) == 2, "the two refused files are still told"


def test_a_video_outside_the_library_can_be_searched_for(trained):
    write_video(trained / "other.mp4", seed=0)  # the same content as films/a.mp4
    found = json.loads(call("search", "--like", "other.mp4@0.5", "--json", cwd=trained).stdout)
    assert Path(found["hits"][0]["path"]).name == "a.mp4"


def test_runs_are_listed(trained):
    assert "videomae-tiny" in call("runs", cwd=trained).stdout
    runs = json.loads(call("runs", "--json", cwd=trained).stdout)
    assert runs[0]["state"] == "done" and runs[0]["config"]["length"] == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "videomea-tiny", "--data", "films"), "'videomae-tiny'"),
        (("train", "videomae-tiny", "--data", "films", "--set", "mask_ration=0.5"), "mask_ratio"),
        (("train", "videomae-tiny", "--data", "films", "--set", "mask_ratio=2"), "mask_ratio"),
        (("search", "--like", "films/a.mp4"), "VIDEO@SECONDS"),
        (("search", "--like", "films/a.mp4@-1"), "SECONDS >= 0"),
        (("scna",), "scna"),
    ],
)
def test_wrong_usage_ends_with_2_and_names_the_remedy(trained, words, message):
    done = call(*words, cwd=trained)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("scan", "nowhere"), "nowhere"),
        (("scan", "bare"), "no video found in bare; files that end in"),
        (("train", "videomae-tiny", "--data", "films", "--precision", "fp17"), "precision ('fp17') must be 'fp32'"),
        (("train", "videomae-tiny", "--data", "nowhere"), "nowhere"),
        (("search", "--like", "films/a.mp4@99"), "99"),
        (("search", "--like", "films/empty.mp4@0"), "empty"),
        (("search", "--like", "films/a.mp4@1", "--library", "nothing"), "vitascope scan"),
        (("embed", "--run", "zzz"), "zzz"),
    ],
)
def test_a_failure_ends_with_1_and_one_line(trained, words, message):
    done = call(*words, cwd=trained)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert "Traceback" not in done.stderr
    for name in ("nowhere", "bare"):
        assert not (trained / f"{name}.vitascope").exists(), "a failure leaves no library behind"


def test_the_demo_reports_and_trains_anew_only_when_the_videos_changed(tmp_path):
    (tmp_path / "films").mkdir()
    write_video(tmp_path / "films" / "a.mp4", 0)
    write_video(tmp_path / "films" / "b.mp4", 1)
    (tmp_path / "films" / "empty.mp4").touch()

    def demo() -> dict:
        done = call("demo", "--data", "films", "--out", "out", "--steps", "2", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    first, again = demo(), demo()
    assert first["train"]["steps"] == 2 and first["embed"]["embedded"] == 2
    assert (again["train"]["run"], again["embed"]["embedded"]) == (first["train"]["run"], 0)
    page = (tmp_path / "out" / "report.html").read_text()
    for text in ("a.mp4", "empty", "Training loss", "tracks of masked tokens", "Most like", "data:image/"):
        assert text in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page), "the page needs no other file"
    write_video(tmp_path / "films" / "c.mp4", 2)
    grown = demo()
    assert grown["train"]["run"] != first["train"]["run"] and grown["embed"]["embedded"] == 3


def test_every_verb_has_help_with_an_example(folder):
    for verb in ("scan", "train", "embed", "search", "runs", "demo"):
        done = call(verb, "--help", cwd=folder)
        assert done.returncode == 0 and f"Example: vitascope {verb}" in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_run_goes_on(trained, number, code):
    command = [sys.executable, "-m", "vitascope.cli.main", "train", "videomae-tiny", "--data", "films", "--json"]
    command += ["--set", "length=500", "--set", "batch_size=2", "--set", "depth=1"]
    before = {run["id"] for run in json.loads(call("runs", "--json", cwd=trained).stdout)}
    process = subprocess.Popen(command, cwd=trained, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    metrics = wait_for_metrics(trained / "films.vitascope" / "runs", before)
    os.kill(process.pid, number)
    began = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 10  # 5 s on an idle machine
    assert process.returncode == code
    summary = json.loads(output)
    assert summary["state"] == "interrupted" and 0 < summary["steps"] < 500
    assert metrics.parent.name == summary["run"]
    assert list(metrics.parent.glob("checkpoints/step-*/model.safetensors"))


def wait_for_metrics(runs: Path, before: set[str]) -> Path:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for path in runs.glob("*/metrics.jsonl"):
            if path.parent.name not in before and path.stat().st_size:
                return path
        time.sleep(0.1)
    raise AssertionError("training wrote no metrics")
