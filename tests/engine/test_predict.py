"""The prediction loop: what is written, in which order frames are read, and that a kill at any moment changes nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from predict_toy import SIZE, ToySession, ToySource, files_of, objects, run_toy

from vitascope.engine import predict
from vitascope.engine.overlap import Ahead, Behind
from vitascope.engine.predict import frames_of
from vitascope.store.cutouts import CutoutError
from vitascope.video.masks import decode_rle
from vitascope.video.reader import VideoReader

SCRIPT = Path(__file__).with_name("predict_toy.py")


def read_masks(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.asarray(Image.open(path)) for path in sorted((folder / "masks").iterdir())}


def test_all_results_are_there_and_nothing_else(tmp_path):
    done = run_toy(tmp_path / "out", ToySource(25))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "contact_sheet.png",
        "events.json",
        "masks",
        "overlay.mp4",
    ]
    assert list(read_masks(tmp_path / "out")) == [f"{i:05d}" for i in range(25)]
    assert (done.was_done, done.num_frames, done.signal) == (False, 25, None)


def test_the_masks_are_the_sessions_at_the_frames_of_the_video(tmp_path):
    run_toy(tmp_path, ToySource(8), start=3)
    masks = read_masks(tmp_path)
    for number in range(8):  # forwards from 3, and backwards from 3
        moved = np.zeros(SIZE, np.uint8)
        for o, mask in objects().items():
            moved[np.roll(mask, o * abs(number - 3), 1)] = o
        assert np.array_equal(masks[f"{number:05d}"], moved), number
    image = Image.open(tmp_path / "masks" / "00000.png")
    assert image.mode == "P" and image.getpalette()[3:6] == [128, 0, 0]


def test_events_tell_of_every_frame_and_object_in_order_of_time(tmp_path):
    run_toy(tmp_path, ToySource(25), start=12)
    told = json.loads((tmp_path / "events.json").read_text())
    assert [(e["frame"], e["object"]) for e in told["events"]] == [(i, o) for i in range(25) for o in (1, 3)]
    assert [e["state"] for e in told["events"] if e["object"] == 1 and e["frame"] in (2, 12, 22)] == [
        "absent",
        "visible",
        "absent",
    ]
    event = told["events"][0]
    assert event["area"] == pytest.approx(36 / (SIZE[0] * SIZE[1]), abs=1e-6)
    assert set(event["scores"]) == {"total"}, "a number that is none stays out of JSON"
    first = [s for s in told["stretches"] if s["object"] == 1]
    assert [(s["state"], s["start_seconds"], s["end_seconds"]) for s in first] == [
        ("visible", 0.0, 0.2),
        ("absent", 0.2, 0.3),
        ("visible", 0.3, 2.2),
        ("absent", 2.2, 2.3),
        ("visible", 2.3, 2.5),
    ]
    assert told["objects"][0]["frames"] == {"visible": 23, "absent": 2}
    assert {3, 23} <= {check["frame"] for check in told["checks"] if check["why"] == "came back"}


def test_frames_that_cannot_be_decoded_have_no_mask_and_are_told(tmp_path):
    done = run_toy(tmp_path, ToySource(12, missing=(4, 5)), start=2)
    assert "00004" not in read_masks(tmp_path) and len(read_masks(tmp_path)) == 10
    assert done.gaps == ([0.4, 0.5], [0.5, 0.6])
    told = json.loads((tmp_path / "events.json").read_text())
    assert told["gaps"] == [[0.4, 0.5], [0.5, 0.6]]
    assert not {4, 5} & {event["frame"] for event in told["events"]}


def test_the_film_has_the_videos_times_and_shows_the_objects(tmp_path):
    run_toy(tmp_path, ToySource(12, missing=(4,)))
    with VideoReader(tmp_path / "overlay.mp4") as reader:
        assert np.allclose(reader.index.times_seconds, [i / 10 for i in range(12) if i != 4], atol=1e-4)
        last = reader.frames_at([8]).frames[0].numpy().astype(int)
        assert abs(last[0] - last[2]).max() > 30 and last.shape == (3, *SIZE)


def test_run_length_codes_hold_the_same_masks(tmp_path):
    run_toy(tmp_path / "png", ToySource(12, missing=(4,)))
    run_toy(tmp_path / "rle", ToySource(12, missing=(4,)), as_rle=True)
    assert not (tmp_path / "rle" / "masks").exists()
    told = json.loads((tmp_path / "rle" / "masks.json").read_text())
    masks = read_masks(tmp_path / "png")
    assert [one["id"] for one in told["annotations"]] == [1, 3]
    for one in told["annotations"]:
        assert len(one["segmentations"]) == 12
        for i, code in enumerate(one["segmentations"]):
            truth = masks.get(f"{i:05d}", np.zeros(SIZE, np.uint8)) == one["id"]
            assert (code is None) == (not truth.any())
            assert code is None or np.array_equal(decode_rle(code), truth)


@pytest.mark.parametrize("count", [1, 2, 11, 12])
def test_a_stride_gives_every_frame_its_mask(tmp_path, count):
    run_toy(tmp_path / "every", ToySource(count))
    run_toy(tmp_path / "third", ToySource(count), stride=3)
    every, third = read_masks(tmp_path / "every"), read_masks(tmp_path / "third")
    assert list(every) == list(third)
    assert all(np.array_equal(every[name], third[name]) for name in every)


def test_frames_from_the_end_are_decoded_forwards_in_chunks(monkeypatch):
    monkeypatch.setattr(predict, "CHUNK_FRAMES", 4)
    source = ToySource(10)
    assert [number for number, _ in frames_of(source, range(9, -1, -1))] == list(range(9, -1, -1))
    assert source.asked == [6, 7, 8, 9, 2, 3, 4, 5, 0, 1]


def test_a_result_that_is_complete_is_left_as_it_is(tmp_path):
    run_toy(tmp_path, ToySource(6))
    before, source = files_of(tmp_path), ToySource(6)
    again = run_toy(tmp_path, source)
    assert again.was_done and again.objects and source.asked == [] and files_of(tmp_path) == before


def test_another_question_into_the_same_folder_says_what_differs(tmp_path):
    run_toy(tmp_path, ToySource(6))
    with pytest.raises(CutoutError, match="start was 0, not 2; name another folder, or delete this one"):
        run_toy(tmp_path, ToySource(6), start=2)


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "masks").mkdir()
    with pytest.raises(CutoutError, match="holds masks of something else"):
        run_toy(tmp_path, ToySource(6))
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]


class BreaksAt5(ToySession):
    def step(self, frame, seconds=None):
        if self.total >= 10:  # frames 1 to 4
            raise ArithmeticError("made so")
        return super().step(frame, seconds)


def test_an_error_within_the_work_surfaces_and_the_next_call_goes_on(tmp_path, monkeypatch):
    run_toy(tmp_path / "whole", ToySource(12))
    monkeypatch.setattr(predict, "SAVE_SECONDS", 0.0)
    with pytest.raises(ArithmeticError, match="made so"):
        run_toy(tmp_path / "broken", ToySource(12), session=BreaksAt5)
    source = ToySource(12)
    run_toy(tmp_path / "broken", source)
    assert source.asked[0] == 5
    assert files_of(tmp_path / "broken") == files_of(tmp_path / "whole")


def test_an_error_of_the_reading_thread_and_of_the_writing_thread_surfaces(tmp_path, monkeypatch):
    source = ToySource(12)
    source.missing = None  # `in None` raises
    with pytest.raises(TypeError):
        run_toy(tmp_path / "read", source)
    draw = run_toy.__globals__["DRAWING"]._replace(
        write_mask=lambda *_: (_ for _ in ()).throw(OSError(28, "disk full"))
    )
    monkeypatch.setitem(run_toy.__globals__, "DRAWING", draw)
    with pytest.raises(OSError, match="disk full"):
        run_toy(tmp_path / "written", ToySource(12))
    assert threading.active_count() < 5, "the threads have ended"


def test_two_processes_do_not_write_to_one_folder(tmp_path):
    def again(status):
        with pytest.raises(CutoutError, match="another process"):
            run_toy(tmp_path, ToySource(6))

    run_toy(tmp_path, ToySource(6), progress=again)


def toy_process(folder: Path, start: int = 0, stride: int = 1, sleep: float = 0.0) -> subprocess.Popen:
    words = [sys.executable, str(SCRIPT), str(folder), "60", str(start), str(stride), str(sleep)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen, line: str) -> None:
    for said in process.stdout:
        if said.startswith(line):
            return
    raise AssertionError(f"the process never said {line}: {process.stderr.read()}")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("moment", ["segment 20", "segment 50", "overlay 10"])
def test_a_signal_ends_it_soon_and_the_result_is_that_of_an_unbroken_run(tmp_path, signum, code, moment):
    run_toy(tmp_path / "whole", ToySource(60, (7,)), start=20, stride=2)
    process = toy_process(tmp_path / "broken", 20, 2, 0.01)
    wait_for(process, moment)
    os.kill(process.pid, signum)
    began = time.monotonic()
    _, told = process.communicate(timeout=30)
    assert time.monotonic() - began < 5 and process.returncode == code, told
    assert [path.name for path in (tmp_path / "broken").iterdir()] == ["unfinished"], "no half of a result"
    assert run_toy(tmp_path / "broken", ToySource(60, (7,)), start=20, stride=2).signal is None
    assert files_of(tmp_path / "broken") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("num_kills", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_again_and_again_the_result_is_that_of_an_unbroken_run(tmp_path, num_kills):
    run_toy(tmp_path / "whole", ToySource(60, (7,)), start=20)
    rng = random.Random(num_kills)
    for kill in range(num_kills):
        process = toy_process(tmp_path / "broken", 20, 1, 0.004)
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.6))
        process.kill()
        process.communicate()
        if (tmp_path / "broken" / "events.json").exists():  # it was done before the kill
            assert files_of(tmp_path / "broken") == files_of(tmp_path / "whole"), kill
            (tmp_path / "broken").rename(tmp_path / f"done{kill}")
    run_toy(tmp_path / "broken", ToySource(60, (7,)), start=20)
    assert files_of(tmp_path / "broken") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("step", range(6))
def test_a_kill_while_the_result_moves_into_place_is_made_good(tmp_path, monkeypatch, step):
    run_toy(tmp_path / "whole", ToySource(6))
    real, calls = os.replace, []

    def dies(a, b):
        if Path(b).parent == tmp_path / "broken":
            calls.append(b)
            if len(calls) > step:
                raise KeyboardInterrupt
        real(a, b)

    monkeypatch.setattr(os, "replace", dies)
    if step < 4:
        with pytest.raises(KeyboardInterrupt):
            run_toy(tmp_path / "broken", ToySource(6))
    monkeypatch.setattr(os, "replace", real)
    run_toy(tmp_path / "broken", ToySource(6))
    assert files_of(tmp_path / "broken") == files_of(tmp_path / "whole")


def test_a_state_that_is_damaged_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "SAVE_SECONDS", 0.0)
    with pytest.raises(ArithmeticError):
        run_toy(tmp_path, ToySource(12), session=BreaksAt5)
    state = tmp_path / "unfinished" / "forwards.safetensors"
    state.write_bytes(state.read_bytes()[:-3])
    with pytest.raises(CutoutError, match="damaged .* delete .* to begin again"):
        run_toy(tmp_path, ToySource(12))


def test_memory_does_not_grow_with_the_video(tmp_path):
    peaks = []
    for count in (300, 1200):  # more than the review has bins
        tracemalloc.start()
        run_toy(tmp_path / str(count), ToySource(count), start=count // 2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 500_000, peaks  # a mask and a row of each frame would be 4 MB more


def test_reading_and_writing_overlap_with_the_work():
    def slow():
        for i in range(10):
            time.sleep(0.05)
            yield i

    began = time.monotonic()
    with Ahead(slow(), 2) as items, Behind(lambda _: time.sleep(0.05), 2) as behind:
        for item in items:
            time.sleep(0.05)
            behind.put(item)
    assert time.monotonic() - began < 1.2  # 1.5 s one after the other, 0.6 s at best
