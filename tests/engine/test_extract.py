"""Extraction: each video's vectors are written whole, once, and again only when something about them changed."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from extract_toy import Mean, Stream, fill

from vitascope.engine.extract import ExtractSettings, extract, hash_of
from vitascope.store import atomic
from vitascope.store.library import Library
from vitascope.structures import Gap, Record, VideoError

SETTINGS = ExtractSettings(batch_size=4, device="cpu", dtype="float32")


@pytest.fixture
def library(tmp_path):
    with Library(tmp_path / "library", create=True) as library:
        yield library


def run(library, paths, read=Stream, method=None, settings=SETTINGS, **more):
    return extract(method or Mean(), "m", [Record(path) for path in paths], read, library, settings, **more)


def test_every_snippet_gets_the_vector_of_its_own_clip(library, tmp_path):
    paths = fill(library, tmp_path, [3, 1, 9, 6])
    result = run(library, paths)
    assert result.embedded == tuple(paths) and result.num_snippets == 19 and result.width == 2
    assert result.problems == () and result.interrupted is None
    for number, (path, count) in enumerate(zip(paths, [3, 1, 9, 6])):
        features = library.features.get(path, "m")
        assert features.values.tolist() == [[number, i] for i in range(count)]
        assert features.times_seconds.tolist() == [[i * 0.5, i * 0.5 + 1] for i in range(count)]
        assert features.manifest["fps"] == 25 and features.manifest["asked"]["num_frames"] == 2


def test_batches_run_across_videos_and_never_mix_shapes(library, tmp_path):
    paths = fill(library, tmp_path, [3, 3, 3])
    method = Mean()
    run(library, paths, lambda record: Stream(record, height=8 if record.path == paths[2] else 4), method)
    assert method.shapes == [(4, 4), (2, 4), (3, 8)]
    assert library.features.get(paths[1], "m").values[:, 0].tolist() == [1, 1, 1]


def test_a_second_call_reads_nothing(library, tmp_path):
    paths = fill(library, tmp_path, [3, 2])
    method = Mean()
    run(library, paths, method=method)
    result = run(library, paths, read=None, method=method)
    assert result.skipped == tuple(paths) and result.embedded == ()


@pytest.mark.parametrize("what", ["weights", "asked", "dtype", "content"])
def test_they_are_made_again_when_something_about_them_changed(library, tmp_path, what):
    paths = fill(library, tmp_path, [3, 2])
    method = Mean()
    run(library, paths, method=method, asked={"hop": 1})
    settings, asked, expected = SETTINGS, {"hop": 1}, tuple(paths)
    if what == "weights":
        method.scale.data += 1
    if what == "asked":
        asked = {"hop": 2}
    if what == "dtype":
        settings = ExtractSettings(batch_size=4, device="cpu", dtype="float16")
    if what == "content":
        fill(library, tmp_path, [4])
        expected = (paths[0],)
    assert run(library, paths, method=method, settings=settings, asked=asked).embedded == expected


def test_what_cannot_be_read_is_reported_and_the_rest_goes_on(library, tmp_path):
    paths = fill(library, tmp_path, [3, 8, 5, 2, 0])

    def read(record):
        if record.path == paths[0]:
            raise VideoError(record.path, "unsupported", "no such codec")
        if record.path == paths[1]:
            return Stream(record, fails_at=6)
        return Stream(record, gaps=(Gap(0.5, 1.25),) if record.path == paths[2] else ())

    result = run(library, [*paths, str(tmp_path / "unknown.mp4")], read)
    assert result.embedded == (paths[1], paths[2], paths[3])
    problems = {os.path.basename(path): (state, detail) for path, state, detail in result.problems}
    assert problems["0.mp4"] == ("refused", "unsupported: no such codec")
    assert problems["1.mp4"] == ("damaged", "read up to 3.5 s: it ends here")
    assert problems["2.mp4"] == ("damaged", "1 gaps (0.5 to 1.2 s); the rest is embedded")
    assert problems["4.mp4"] == ("refused", "damaged: no snippet of it can be decoded")
    assert "is not in the library" in problems["unknown.mp4"][1] and len(problems) == 5
    assert len(library.features.get(paths[1], "m").values) == 6


def test_a_video_that_changed_since_its_scan_is_not_read(library, tmp_path):
    paths = fill(library, tmp_path, [3, 2])
    os.utime(paths[0], ns=(1, 1))
    result = run(library, paths)
    assert result.problems == ((paths[0], "refused", "gone or changed since its scan; scan its folder again"),)
    assert result.embedded == (paths[1],)


def test_a_video_that_changes_while_it_is_read_is_not_kept(library, tmp_path):
    (path,) = fill(library, tmp_path, [3])

    def read(record):
        os.utime(path, ns=(1, 1))
        return Stream(record)

    result = run(library, [path], read)
    assert result.embedded == () and "changed while it was read" in result.problems[0][2]


def test_values_that_cannot_be_kept_are_reported(library, tmp_path):
    paths = fill(library, tmp_path, [3, 2])
    method = Mean()
    method.scale.data[:] = 70000
    result = run(library, paths, method=method, settings=ExtractSettings(batch_size=4, device="cpu"))
    assert [state for _, state, _ in result.problems] == ["refused"] * 2
    assert "must be finite; in float16 the largest value is 65504" in result.problems[0][2]


def test_a_mistake_in_the_program_is_raised_and_not_reported_as_damage(library, tmp_path):
    paths = fill(library, tmp_path, [3])

    def read(record):
        raise KeyError("a mistake")

    with pytest.raises(KeyError, match="a mistake"):
        run(library, paths, read)


def test_a_full_disk_is_an_error_that_leaves_nothing_half_written(library, tmp_path, monkeypatch):
    paths = fill(library, tmp_path, [3])

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "sync", full)
    with pytest.raises(OSError, match="the disk is full"):
        run(library, paths)
    assert os.listdir(library.path / "features" / "m") == []


def test_decoding_runs_ahead_but_not_without_bound(library, tmp_path):
    (path,) = fill(library, tmp_path, [200])
    method, read, ahead = Mean(), [], []

    class Counted(Stream):
        def __iter__(self):
            for item in super().__iter__():
                read.append(1)
                yield item

    method.hook = lambda: (time.sleep(0.01), ahead.append(len(read) - 4 * len(ahead)))
    run(library, [path], Counted, method)
    assert 8 <= max(ahead) <= 4 + 8 + 1 + 4  # a batch at work, the queue, one in hand, one batch being gathered


def test_the_method_is_in_evaluation_mode_only_while_it_works(library, tmp_path):
    paths = fill(library, tmp_path, [1])
    method, seen = Mean().train(), []
    method.hook = lambda: seen.append((method.training, torch.is_grad_enabled()))
    run(library, paths, method=method)
    assert seen == [(False, False)] and method.training


def test_progress_tells_how_far_it_is_and_how_long_it_will_take(library, tmp_path):
    paths, seen = fill(library, tmp_path, [8, 8]), []
    run(library, paths, progress=seen.append)
    assert [status.step for status in seen] == sorted(status.step for status in seen)
    assert (seen[-1].step, seen[-1].total, seen[-1].seconds_left) == (2, 2, 0)
    assert seen[0].seconds_left > 0


def test_the_hash_tells_weights_apart():
    a, b = Mean(), Mean()
    assert hash_of(a) == hash_of(b)
    b.scale.data[0] += 1e-6
    assert hash_of(a) != hash_of(b)
    assert hash_of(a.to(torch.bfloat16)) != hash_of(Mean())


def test_a_signal_ends_it_after_the_present_batch(library, tmp_path):
    paths = fill(library, tmp_path, [4, 4, 250])
    method, batches = Mean(), []

    def hook():
        batches.append(1)
        if len(batches) == 4:
            signal.raise_signal(signal.SIGTERM)

    method.hook = hook
    result = run(library, paths, method=method)
    assert result.interrupted == signal.SIGTERM and len(batches) <= 5
    assert result.embedded == tuple(paths[:2])
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(_run)")]
    method.hook = None
    result = run(library, paths, method=method)
    assert result.embedded == (paths[2],) and result.skipped == tuple(paths[:2])


def test_a_signal_ends_it_even_while_a_decoder_hangs(library, tmp_path):
    paths = fill(library, tmp_path, [4])
    released = threading.Event()

    def read(record):
        threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
        released.wait(30)
        return Stream(record)

    began = time.monotonic()
    assert run(library, paths, read).interrupted == signal.SIGINT
    assert time.monotonic() - began < 5
    released.set()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_ended_leaves_whole_features_or_none(tmp_path, number):
    with Library(tmp_path / "library", create=True) as library:
        paths = fill(library, tmp_path, [5] * 60)
    script = str(Path(__file__).with_name("extract_toy.py"))
    for _ in range(2):
        process = subprocess.Popen([sys.executable, script, str(tmp_path / "library")], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(0.15)
        process.send_signal(number)
        assert process.wait() == (143 if number == signal.SIGTERM else -9)
    with Library(tmp_path / "library") as library:
        library.clean()
        there = [path for path in paths if library.features.status(library.catalogue.entry(path), "m") == "current"]
        assert 0 < len(there) < 60
        assert all(library.features.get(path, "m").values[:, 1].tolist() == [0, 1, 2, 3, 4] for path in there)
        kept = os.listdir(library.path / "features" / "m")
        assert not [name for name in kept if name.startswith(".")] and len(kept) in (len(there), len(there) + 1)
        result = run(library, paths)
        assert set(result.skipped) == set(there) and len(result.embedded) == 60 - len(there)


def test_bf16_is_near_fp32(library, tmp_path):
    paths = fill(library, tmp_path, [6])
    run(library, paths, settings=ExtractSettings(batch_size=4, device="cpu", precision="bf16"))
    np.testing.assert_allclose(library.features.get(paths[0], "m").values[:, 1], range(6), atol=0.05)


def test_damage_that_the_scan_did_not_see_becomes_the_state_of_the_file(library, tmp_path):
    paths = fill(library, tmp_path, [3, 2])
    gap = Gap(0.5, 1.0, "lost")

    assert library.catalogue.entry(paths[0]).state == "done"
    run(library, paths, lambda record: Stream(record, gaps=(gap,) if record.path == paths[0] else ()))
    states = [library.catalogue.entry(path).state for path in paths]
    assert states == ["damaged", "done"]
    assert library.catalogue.entry(paths[0]).gaps == (gap,)
