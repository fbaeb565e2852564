import json

import numpy as np
import pytest

from vitascope.datasets.load import load_records
from vitascope.datasets.worlds import write
from vitascope.datasets.worlds.motion import MotionWorld
from vitascope.datasets.worlds.objects import ObjectsWorld
from vitascope.datasets.worlds.untrimmed import UntrimmedWorld
from vitascope.datasets.worlds.write import write_world

SMALL = {"num_videos": 2, "size": 64}


def frames_of(path):
    import av

    with av.open(path) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]).transpose(0, 3, 1, 2)


def test_the_files_hold_the_world(tmp_path):
    world = MotionWorld(**SMALL, num_frames=6)
    records = write_world(world, tmp_path)
    assert [record.labels for record in records] == [video.labels for video in world]
    for record, video in zip(records, world, strict=True):
        frames = frames_of(record.path)
        assert frames.shape == video.frames.shape
        assert np.abs(frames.astype(float) - video.frames).mean() < 8  # H.264 in 4:2:0
        with np.load(record.path.replace(".mp4", ".masks.npz")) as file:
            np.testing.assert_array_equal(file["masks"], video.masks)


def test_the_manifest_gives_the_same_records(tmp_path):
    records = write_world(UntrimmedWorld(**SMALL, seconds=12.0), tmp_path)
    assert load_records(tmp_path / "manifest.csv") == records
    assert len(records[0].labels) > 1


def test_the_truth_names_segments_shots_cuts_topic_and_absences(tmp_path):
    world = UntrimmedWorld(**SMALL, seconds=12.0)
    write_world(world, tmp_path / "u")
    truth = json.loads((tmp_path / "u/truth.json").read_text())["videos"]["untrimmed_00000"]
    video = world[0]
    assert [(s["start_seconds"], s["end_seconds"]) for s in truth["segments"]] == [
        tuple(row) for row in video.segments.times_seconds.tolist()
    ]
    assert [c["time_seconds"] for c in truth["cuts"]] == [cut.time_seconds for cut in video.cuts]
    assert truth["topic"] == video.topic and len(truth["shots"]) == len(video.shots)
    write_world(ObjectsWorld(num_videos=1, size=64, num_frames=60), tmp_path / "o")
    truth = json.loads((tmp_path / "o/truth.json").read_text())["videos"]["objects_00000"]
    (start, end), *_ = truth["objects"][0]["absences"]
    assert 0 < start < end <= truth["duration_seconds"]


def test_a_second_run_writes_no_video_again_and_a_longer_world_only_what_is_missing(tmp_path, monkeypatch):
    made = []
    original = write._write_video
    monkeypatch.setattr(write, "_write_video", lambda *a: made.append(a[1]) or original(*a))
    world = MotionWorld(**SMALL, num_frames=3)
    first = write_world(world, tmp_path)
    assert made == [0, 1] and write_world(world, tmp_path) == first and made == [0, 1]
    write_world(MotionWorld(num_videos=4, size=64, num_frames=3), tmp_path)
    assert made == [0, 1, 2, 3]
    (tmp_path / "motion_00001.mp4").unlink()
    (tmp_path / "motion_00002.masks.npz").unlink()
    write_world(MotionWorld(num_videos=4, size=64, num_frames=3), tmp_path)
    assert made == [0, 1, 2, 3, 1, 2]


def test_another_world_in_the_folder_is_refused_and_left_alone(tmp_path):
    write_world(MotionWorld(**SMALL, num_frames=3), tmp_path)
    before = (tmp_path / "truth.json").read_bytes()
    with pytest.raises(ValueError, match="holds another world"):
        write_world(MotionWorld(**SMALL, num_frames=3, seed=1), tmp_path)
    assert (tmp_path / "truth.json").read_bytes() == before


def test_the_same_world_gives_the_same_files(tmp_path):
    world = MotionWorld(**SMALL, num_frames=3)
    for name in ("a", "b"):
        write_world(world, tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "a").iterdir() if path.suffix != ".npz")
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_run_that_breaks_off_leaves_whole_files_only_and_goes_on(tmp_path, monkeypatch):
    world = MotionWorld(**SMALL, num_frames=3)
    original = write.VideoWriter.write
    monkeypatch.setattr(write.VideoWriter, "write", lambda self, frames: (original(self, frames), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        write_world(world, tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert len(write_world(world, tmp_path)) == 2
