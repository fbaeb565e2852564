"""`vitascope segment` as a user meets it, with a network whose weights are random: what is written, and what is told."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitascope.cli.main import main
from vitascope.video.writer import VideoWriter, write_mask_png, write_png_sequence

SIZE = (48, 64)
WORDS = ("--weights", "random.safetensors", "--short-side", "96")  # enlarged to 480, as by default, it takes minutes
LONG = ("long.mp4", "--mask", "mask.png", "--at", "1", "--out")


def call(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "vitascope.cli.main", "segment", *map(str, words), *WORDS]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def moving(count: int) -> np.ndarray:
    texture = np.random.default_rng(0).integers(0, 255, (3, 12, 16), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    return np.stack([np.roll(texture, t, axis=2) for t in range(count)])


@pytest.fixture(autouse=True)
def handlers():
    """`main` takes over the handling of signals, as a process's own start does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    import torch
    from safetensors.torch import save_file

    from vitascope.methods.stm.light import LightSTM

    root = tmp_path_factory.mktemp("segment")
    torch.manual_seed(0)
    save_file({name: tensor.contiguous() for name, tensor in LightSTM().state_dict().items()}, root / WORDS[1])
    for name, count in (("film.mp4", 12), ("long.mp4", 150)):
        with VideoWriter(root / name, 25) as writer:
            writer.write(moving(count))
    write_png_sequence(root / "frames", moving(5), "shot_{:d}.png")
    mask = np.zeros(SIZE, np.uint8)
    mask[8:24, 8:24], mask[24:44, 40:60] = 2, 5
    write_mask_png(root / "mask.png", mask)
    Image.fromarray(np.where(mask == 2, 255, 0).astype(np.uint8)).save(root / "white.png")
    Image.fromarray(mask * 0).save(root / "empty.png")
    Image.fromarray(np.pad(mask, 8)).save(root / "large.png")
    Image.fromarray(mask.astype(np.uint16) * 300).save(root / "deep.png")
    Image.fromarray(np.stack([mask] * 4, 2)).save(root / "colour.png")
    Image.fromarray(np.where(mask == 5, 255, mask)).save(root / "high.png")
    Image.fromarray(np.arange(48 * 64).reshape(SIZE).astype(np.uint8) // 4).save(root / "smooth.png")
    (root / "text.mp4").write_text("no video " * 100)
    return root


def test_a_mask_in_the_middle_is_followed_both_ways(folder):
    done = call("film.mp4", "--mask", "mask.png", "--at", "0.2", "--out", "both", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (folder / "both").iterdir()) == [
        "contact_sheet.png",
        "events.json",
        "masks",
        "overlay.mp4",
    ]
    assert len(list((folder / "both" / "masks").iterdir())) == 12
    image = Image.open(folder / "both" / "masks" / "00005.png")
    assert image.mode == "P" and np.array_equal(image, Image.open(folder / "mask.png")), (
        "0.2 s is frame 5 of 25 a second"
    )
    assert "12 frames" in done.stdout and "object 5:" in done.stdout and "worth checking" in done.stdout
    assert "12/12 (100%)" in done.stderr
    told = json.loads((folder / "both" / "events.json").read_text())
    assert [(e["frame"], e["object"]) for e in told["events"]] == [(i, o) for i in range(12) for o in (2, 5)]


def test_a_finished_result_is_told_at_once_and_another_question_is_refused(folder):
    words = ("film.mp4", "--mask", "mask.png", "--object", "5", "--out", "one")
    assert call(*words, cwd=folder).returncode == 0
    again = call(*words, "--json", cwd=folder)
    told = json.loads(again.stdout)
    assert told["was_done"] and [known["object"] for known in told["objects"]] == [5] and again.stderr == ""
    other = call("film.mp4", "--mask", "white.png", "--out", "one", cwd=folder)
    assert other.returncode == 1
    assert "mask was mask.png" in other.stderr and "objects was [5], not [1]" in other.stderr


def test_a_folder_of_frames_gives_masks_of_its_own_names_and_codes_if_asked_for(folder):
    done = call("frames", "--mask", "white.png", "--fps", "10", "--out", "stills", cwd=folder)
    assert done.returncode == 0, done.stderr
    names = [f"shot_{i}.png" for i in range(5)]
    assert sorted(path.name for path in (folder / "stills" / "masks").iterdir()) == names
    told = json.loads((folder / "stills" / "events.json").read_text())
    assert [event["seconds"] for event in told["events"]] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert call("frames", "--mask", "white.png", "--format", "rle", "--out", "codes", cwd=folder).returncode == 0
    (one,) = json.loads((folder / "codes" / "masks.json").read_text())["annotations"]
    assert one["id"] == 1 and len(one["segmentations"]) == 5 and one["segmentations"][0]["size"] == list(SIZE)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("film.mp4", "--mask", "large.png"), "the mask is 80x64 pixels, but the frames are 64x48"),
        (("film.mp4", "--mask", "empty.png"), "the mask is empty"),
        (("film.mp4", "--mask", "deep.png"), "16 bits"),
        (("film.mp4", "--mask", "colour.png"), "RGBA"),
        (("film.mp4", "--mask", "high.png"), "id 255 beside others; ids are 1 to 254: paint that object"),
        (("film.mp4", "--mask", "smooth.png"), "ids, at most 32 are allowed"),
        (("film.mp4", "--mask", "none.png"), "none.png: no such file"),
        (("film.mp4", "--mask", "film.mp4"), "not a PNG"),
        (("film.mp4", "--mask", "mask.png", "--object", "3"), "object 3 is not in the mask; it holds 2, 5"),
        (("film.mp4", "--mask", "mask.png", "--at", "0.6"), "0.6 s was asked for; the video is shown from 0 to 0.48 s"),
        (("none.mp4", "--mask", "mask.png"), "none.mp4: missing"),
        (("text.mp4", "--mask", "mask.png"), "not_a_video"),
        (("film.mp4", "--mask", "mask.png", "--out", "film.mp4"), "cannot write into film.mp4"),
    ],
)
def test_wrong_input_gets_one_sentence_and_leaves_nothing(folder, words, message, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    words = words if "--out" in words else (*words, "--out", "wrong")
    assert main(["segment", *words, *WORDS]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and message in told and told.count("\n") == 1
    assert not (folder / "wrong").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("film.mp4", "--out", "wrong"), "--mask"),
        (("film.mp4", "--mask", "mask.png"), "--out"),
        (("film.mp4", "--mask", "mask.png", "--out", "wrong", "--policy", "all"), "first_previous"),
        (("film.mp4", "--mask", "mask.png", "--out", "wrong", "--frame-stride", "0"), "--frame-stride"),
    ],
)
def test_wrong_usage_ends_with_2_and_names_the_remedy(folder, words, message, capsys):
    assert main(["segment", *words]) == 2 and message in " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def whole(folder) -> dict[str, bytes]:
    assert call(*LONG, "whole", cwd=folder).returncode == 0
    return files_of(folder / "whole")


def files_of(out: Path) -> dict[str, bytes]:
    """All but the film, whose encoder's look-ahead does not repeat itself."""
    return {path.name: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file() and path.suffix != ".mp4"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_signal_ends_it_and_the_same_command_goes_on_to_the_same_result(folder, whole, number, code):
    out = folder / f"ended{code}"
    words = [*LONG, out.name, *WORDS]
    command = [sys.executable, "-m", "vitascope.cli.main", "segment", *words]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(list(out.glob("unfinished/masks/000*.png"))) < 20:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, number)
    began = time.monotonic()
    told, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 10  # 5 s on an idle machine
    assert process.returncode == code
    if code > 0:
        assert told.startswith("stopped; go on:  vitascope segment long.mp4 --mask mask.png")
    assert [path.name for path in out.iterdir()] == ["unfinished"]
    assert call(*LONG, out.name, cwd=folder).returncode == 0
    assert files_of(out) == whole


def test_help_has_an_example(folder):
    done = call("--help", cwd=folder)
    assert done.returncode == 0 and "Example: vitascope segment" in done.stdout
