"""Caching flow: each video's is there whole or not at all, once, whatever is wrong with the others."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import cache_toy
import numpy as np
import pytest
from cache_toy import compute, fill, is_whole

from vitascope.engine.cache import cache_motion, index_shots, shots_of
from vitascope.store.atomic import WriteError
from vitascope.store.library import Library
from vitascope.store.schema import LibraryError


@pytest.fixture
def library(tmp_path):
    with Library(tmp_path / "library", create=True) as library:
        yield library


def run(library, num_workers=0, method="dis-medium", function=compute, **more):
    return cache_motion(library, method, function, num_workers=num_workers, **more)


def times_computed(path):
    log = Path(f"{path}.log")
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_video_gets_its_flow_once(library, tmp_path, num_workers):
    paths = fill(library, tmp_path, ["one", "two!", "three"])
    shown = []
    result = run(library, num_workers, progress=shown.append)
    assert (result.cached, result.skipped, result.num_pairs) == (3, 0, 12)
    assert result.problems == () and result.signal is None and result.method == "dis-medium"
    files = library.motion.files("dis-medium")
    assert sorted(files) == paths and all(is_whole(file) for file in files.values())
    assert result.cache_bytes == sum(os.path.getsize(file) for file in files.values())
    assert result.video_bytes == sum(os.path.getsize(path) for path in paths)
    assert [(s.stage, s.step, s.total) for s in shown] == [("cache", done, 3) for done in range(4)]
    assert shown[0].seconds_left is None and shown[-1].seconds_left == 0
    again = run(library)
    assert (again.cached, again.skipped, again.num_pairs, again.cache_bytes) == (0, 3, 0, result.cache_bytes)
    assert [times_computed(path) for path in paths] == [1, 1, 1]


def test_the_longest_come_first(library, tmp_path):
    fill(library, tmp_path, ["a", "aaaa", "aa"])
    seen = []
    run(library, function=lambda video, path, **how: (seen.append(Path(video).name), compute(video, path, **how))[1])
    assert seen == ["1.mp4", "2.mp4", "0.mp4"]


def test_another_method_is_kept_beside(library, tmp_path):
    fill(library, tmp_path, ["one"])
    run(library)
    assert run(library, method="farneback").cached == 1
    assert library.motion.files("farneback").keys() == library.motion.files("dis-medium").keys()


def test_a_changed_video_is_done_again_and_its_old_flow_removed(library, tmp_path):
    paths = fill(library, tmp_path, ["one", "two!"])
    run(library)
    before = library.motion.files("dis-medium")
    fill(library, tmp_path, ["another"])
    result = run(library)
    assert (result.cached, result.skipped, result.removed) == (1, 1, 1)
    assert not os.path.exists(before[paths[0]]) and is_whole(library.motion.files("dis-medium")[paths[0]])


def test_copies_share_their_flow(library, tmp_path):
    paths = fill(library, tmp_path, ["same", "same", "other"])
    result = run(library)
    assert (result.cached, result.skipped) == (2, 1)
    files = library.motion.files("dis-medium")
    assert files[paths[0]] == files[paths[1]] and sum(map(times_computed, paths)) == 2
    assert result.cache_bytes == sum(os.path.getsize(file) for file in set(files.values()))


def test_what_is_wrong_is_reported_and_the_rest_goes_on(library, tmp_path):
    paths = fill(library, tmp_path, ["broken", "tiny", "crash", "changes", "gap", "fine"])
    result = run(library, num_workers=2)
    assert result.cached == 2 and sorted(library.motion.files("dis-medium")) == [paths[4], paths[5]]
    problems = {os.path.basename(path): (state, detail) for path, state, detail in result.problems}
    assert problems == {
        "0.mp4": ("refused", "damaged: no frame of it can be decoded"),
        "1.mp4": ("refused", "frames of 4x4 pixels are too small"),
        "2.mp4": ("refused", "its process ended twice, the last time by SIGSEGV"),
        "3.mp4": ("refused", "changed while it was read; scan its folder again"),
        "4.mp4": ("damaged", "1 gaps (0.5 to 1.2 s); the rest is cached"),
    }
    states = [library.catalogue.entry(path).state for path in paths]
    assert states == ["refused", "done", "done", "done", "damaged", "done"]
    assert library.clean() and library.clean() == []  # the crash left its temporary names


def test_what_a_scan_refused_or_that_changed_since_is_not_read(library, tmp_path):
    paths = fill(library, tmp_path, ["one", "two!", "three"])
    library.catalogue.mark(paths[0], "refused", "empty", "the file has 0 bytes")
    os.utime(paths[1], ns=(1, 1))
    os.remove(paths[2])
    result = run(library)
    details = {path: detail for path, _, detail in result.problems}
    assert details[paths[0]] == "empty: the file has 0 bytes" and len(details) == 3
    assert details[paths[1]] == details[paths[2]] == "gone or changed since its scan; scan its folder again"
    assert result.cached == 0 and not any(map(times_computed, paths))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_full_disk_ends_it_and_leaves_nothing_half_written(library, tmp_path, num_workers):
    fill(library, tmp_path, ["full disk", "ok"])
    with pytest.raises(WriteError, match="cannot write .*: the disk is full"):
        run(library, num_workers)
    assert os.listdir(library.path / "motion" / "dis-medium") == []


def started(library_path, num_workers):
    command = [sys.executable, cache_toy.__file__, str(library_path), str(num_workers)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(folder, count, process):
    deadline = time.monotonic() + 60
    while sum(1 for _ in folder.glob("*.begun")) < count and process.poll() is None:
        assert time.monotonic() < deadline, "it does not begin"
        time.sleep(0.005)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_killed_at_any_time_it_leaves_whole_files_and_goes_on(tmp_path, num_workers):
    with Library(tmp_path / "library", create=True) as library:
        paths = fill(library, tmp_path, [f"slow {i}" for i in range(8)])
    chance, kills = random.Random(num_workers), 0
    for count in (1, 3, 5):
        process = started(tmp_path / "library", num_workers)
        wait_for(tmp_path, count, process)
        time.sleep(chance.uniform(0, 0.2))
        kills += process.poll() is None
        process.kill()
        process.wait()
        assert all(is_whole(path) for path in (tmp_path / "library" / "motion").glob("*/*.flow"))
    assert kills == 3
    with Library(tmp_path / "library") as library:
        there = library.motion.files("dis-medium")
        before = [times_computed(path) for path in paths]
        result = run(library, num_workers)
        assert (result.cached, result.skipped) == (8 - len(there), len(there)) and 0 < len(there) < 8
        after = [times_computed(path) for path in paths]
        assert [b - a for a, b in zip(before, after)] == [int(path not in there) for path in paths]
        files = library.motion.files("dis-medium")
        assert len(files) == 8 and all(is_whole(file) for file in files.values())
        names, deadline = sorted(map(os.path.basename, files.values())), time.monotonic() + 30
        while sorted(os.listdir(library.path / "motion" / "dis-medium")) != names:
            assert time.monotonic() < deadline, "temporary names stay"
            time.sleep(0.2)  # a dead worker counts as live until the system has taken note of its end
            library.clean()


@pytest.mark.parametrize(("signum", "num_workers"), [(signal.SIGTERM, 0), (signal.SIGTERM, 2), (signal.SIGINT, 2)])
def test_a_signal_ends_it_at_once_and_cleanly(tmp_path, signum, num_workers):
    with Library(tmp_path / "library", create=True) as library:
        fill(library, tmp_path, [f"slow {i}" for i in range(30)])
    process = started(tmp_path / "library", num_workers)
    wait_for(tmp_path, 2, process)
    began = time.monotonic()
    process.send_signal(signum)
    assert process.wait(10) == 128 + signum and time.monotonic() - began < 3
    names = os.listdir(tmp_path / "library" / "motion" / "dis-medium")
    flows = [tmp_path / "library" / "motion" / "dis-medium" / name for name in names if name.endswith(".flow")]
    assert len(flows) < 30 and all(is_whole(path) for path in flows)
    assert num_workers or len(names) == len(flows)  # in this process, nothing half-written is left


def test_the_flow_of_real_videos_is_kept_by_worker_processes(tmp_path):
    from vitascope.engine.scan import scan
    from vitascope.video.check import check
    from vitascope.video.grid_flow import GridFlow, cache_flow
    from vitascope.video.writer import VideoWriter

    paths = [str(tmp_path / f"{shift}.mp4") for shift in (1, 2)]
    noise = np.random.default_rng(0).integers(0, 255, (3, 12, 16), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    for shift, path in enumerate(paths, 1):
        with VideoWriter(path, 25) as writer:
            writer.write(np.stack([np.roll(noise, shift * t, axis=2) for t in range(12)]))
    (tmp_path / "text.mp4").write_text("no video")
    with Library(tmp_path / "library", create=True) as library:
        scan(library, tmp_path, [*paths, str(tmp_path / "text.mp4")], check, num_workers=0)
        result = run(library, 2, function=cache_flow)
        assert (result.cached, result.num_pairs) == (2, 22)
        assert [(os.path.basename(path), state) for path, state, _ in result.problems] == [("text.mp4", "refused")]
        for shift, path in enumerate(paths, 1):
            flow = GridFlow.open(library.motion.files("dis-medium")[path]).read(0, 11)
            assert abs(np.median(flow[..., 0]) - shift) < 0.2 and abs(np.median(flow[..., 1])) < 0.1


def compute_shots(video, path, *, index):
    return compute(video, path, method="dis-medium", index=index)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_shots_are_kept_in_the_same_way_beside_flow(library, tmp_path, num_workers):
    paths = fill(library, tmp_path, ["one", "gap", "broken"])
    shown = []
    result = index_shots(library, compute_shots, num_workers=num_workers, progress=shown.append)
    assert (result.cached, result.skipped, result.num_pairs) == (2, 0, 6)
    details = {path: detail for path, _, detail in result.problems}
    assert details[paths[1]] == "1 gaps (0.5 to 1.2 s); the rest is indexed" and paths[2] in details
    assert {status.stage for status in shown} == {"index"}
    assert shots_of(library).keys() == set(paths[:2]) and all(is_whole(file) for file in shots_of(library).values())
    assert library.motion.files("dis-medium") == {}
    again = index_shots(library, compute_shots, num_workers=num_workers)
    assert (again.cached, again.skipped) == (0, 2)


def test_a_library_without_videos_is_refused_with_the_remedy(tmp_path):
    told = pytest.raises(LibraryError, match=r"library knows no videos yet; run `vitascope scan DIR --library")
    with Library(tmp_path / "library", create=True) as empty, told:
        cache_motion(empty, "dis-medium", compute, num_workers=0)
