"""The demo's cut-out: which clip a mask belongs to, and what the report says of it."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vitascope import api
from vitascope.cli import demo, demo_cutout
from vitascope.cli.demo_cutout import Task, cut_out, parts, score, synthetic_task, task_of
from vitascope.structures import SegmentSummary, Timeline
from vitascope.video.writer import VideoWriter, write_mask_png


def entry(path: str, width: int = 64, height: int = 48, state: str = "done") -> SimpleNamespace:
    return SimpleNamespace(path=path, state=state, metadata={"width": width, "height": height})


@pytest.fixture
def mask(tmp_path) -> Path:
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(tmp_path / "first.png")
    return tmp_path / "first.png"


def test_a_mask_belongs_to_the_clip_of_its_name_or_the_only_one_of_its_size(mask):
    films = [entry("/a/monday.mp4"), entry("/a/first.mp4", 320, 240), entry("/a/first.mp4.mp4", state="refused")]
    assert task_of(mask, films).video == Path("/a/first.mp4")
    assert task_of(mask, films[:1]).video == Path("/a/monday.mp4")


def test_a_mask_that_may_belong_to_two_clips_or_to_none_is_told(mask):
    with pytest.raises(ValueError, match="may belong to a.mp4, b.mp4; name it like its clip, for example a.png"):
        task_of(mask, [entry("a.mp4"), entry("b.mp4")])
    with pytest.raises(ValueError, match="no clip has the size of .*first.png, 64x48"):
        task_of(mask, [entry("a.mp4", 10, 10)])
    with pytest.raises(ValueError, match="none.png: no such image"):
        task_of(mask.with_name("none.png"), [entry("a.mp4")])


@pytest.fixture
def result(tmp_path) -> tuple[Task, SegmentSummary, dict]:
    """An object that is there in frames 0 to 3 of 8; it was found in 0 to 4, half of it in frame 1."""
    truth, found = np.zeros((2, 8, 8, 8), np.uint8)
    truth[:4, 2:6, 2:6], found[:5, 2:6, 2:6], found[1, 4:] = 1, 1, 0
    for i, mask in enumerate(found):
        (tmp_path / "masks").mkdir(exist_ok=True)
        write_mask_png(tmp_path / "masks" / f"{i:05d}.png", mask)
    with VideoWriter(tmp_path / "overlay.mp4", 4) as writer:
        writer.write(np.zeros((8, 3, 32, 32), np.uint8))
    events = [{"seconds": i / 4, "object": 1, "area": float((mask > 0).mean())} for i, mask in enumerate(found)]
    stretches = [{"object": 1, "state": "visible", "start_seconds": 0.0, "end_seconds": 2.0}]
    told = {"frames": 8, "duration_seconds": 2.0, "objects": [{"object": 1, "confidence": 0.9}], "stretches": stretches}
    (tmp_path / "events.json").write_text(json.dumps(told | {"events": events}))
    done = SegmentSummary(str(tmp_path), False, 8, (), (), (), ())
    return Task(Path("a.mp4"), tmp_path / "m.png", 1, truth, ((0.0, 2.0, "place0"),)), done, told


def test_the_score_is_the_overlap_with_the_truth_without_the_given_frame(result):
    task, done, told = result
    rows = dict(score(task, done, told).rows)
    assert rows["J, mean over the frames in which it is there"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert rows["frames without it"] == 4 and rows["of these, share without a mask"] == 0.75


def test_the_report_shows_film_states_truth_and_areas(result):
    task, done, _ = result
    shown = parts(task, done)
    assert [type(part).__name__ for part in shown] == ["Figure", "Timeline", "Table", "Curve"]
    (timeline,) = (part for part in shown if isinstance(part, Timeline))
    assert dict(timeline.lanes)["in truth"] == ((0.0, 1.0, "visible"), (1.0, 2.0, "absent"))
    assert [name for name, _ in shown[-1].lines] == ["object 1, as found", "in truth"]
    own = task._replace(truth=None, shots=())
    assert [type(part).__name__ for part in parts(own, done)] == ["Figure", "Timeline", "Curve"]


def test_the_demos_object_is_hidden_leaves_and_comes_back_through_cuts(tmp_path, monkeypatch):
    from vitascope.datasets.worlds.objects import ObjectsWorld
    from vitascope.datasets.worlds.write import write_world

    world = ObjectsWorld(num_videos=4)
    number = int(demo_cutout.VIDEO[-5:])
    video, o = world[number], demo_cutout.OBJECT - 1
    is_there = video.areas[:, o] > 0
    turns = np.flatnonzero(np.diff(is_there))
    assert is_there[0] and is_there[-1] and len(turns) == 2 and len(video.cuts) >= 2
    assert (video.areas[:, o] < 0.6 * video.reaches[:, o])[is_there].sum() >= 10, "hidden by a nearer object"
    double = next(
        k for k, name in enumerate(video.objects) if k != o and name.split(":")[0] == video.objects[o].split(":")[0]
    )
    assert (video.areas[~is_there, double] > 0).sum() >= 10, "a double is there while it is away"
    write_world(ObjectsWorld(num_videos=number + 1), tmp_path / "data" / "objects")
    task = synthetic_task(tmp_path / "data", tmp_path / "out")
    assert task.video.exists() and np.array_equal(Image.open(task.mask), video.masks[0])


@pytest.fixture
def random_weights(monkeypatch):
    import torch

    from vitascope.methods.stm import starter
    from vitascope.methods.stm.light import LightSTM

    torch.manual_seed(0)
    network = LightSTM().eval().requires_grad_(False)
    monkeypatch.setattr(starter, "load_starter", lambda *_: network)


@pytest.fixture
def films(tmp_path) -> Path:
    texture = np.random.default_rng(0).integers(0, 255, (3, 24, 24), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    (tmp_path / "films").mkdir()
    with VideoWriter(tmp_path / "films" / "a.mp4", 25) as writer:
        writer.write(np.stack([np.roll(texture, 2 * t, axis=2) for t in range(50)]))
    mask = np.zeros((96, 96), np.uint8)
    mask[20:60, 20:60] = 3
    write_mask_png(tmp_path / "first.png", mask)
    return tmp_path / "films"


def test_a_cut_out_of_another_mask_makes_way(films, tmp_path, random_weights):
    task = Task(films / "a.mp4", tmp_path / "first.png")
    first = cut_out(task, tmp_path / "out")
    assert [known["object"] for known in first.objects] == [3]
    assert cut_out(task, tmp_path / "out").was_done
    Image.fromarray(np.asarray(Image.open(tmp_path / "first.png")) // 3).save(tmp_path / "first.png")
    assert [known["object"] for known in cut_out(task, tmp_path / "out").objects] == [1]


def test_the_demo_cuts_an_object_of_the_users_own_out(films, tmp_path, random_weights, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    demo.command(data=Path("films"), mask=Path("first.png"), out=Path("out"), steps=1, json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["segment"]["num_frames"] == 50
    page = (tmp_path / "out" / "report.html").read_text()
    assert "An object cut out" in page and "object 3" in page and "Against the truth" not in page
    assert "--mask first.png" in page and api.segment is not None
