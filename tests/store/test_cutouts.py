"""The folder of a cut-out: rows that can be cut back and read from either end, and whose folder it is."""

import json

import pytest

from vitascope.store import cutouts
from vitascope.store.cutouts import Cutout, CutoutError, asked_before, identity, read_head


def row(number: int) -> list[dict]:
    return [{"frame": number, "seconds": number / 4, "object": o, "state": "visible"} for o in (1, 2)]


@pytest.mark.parametrize("block", [7, 64, 1 << 16])
def test_rows_are_read_from_either_end(tmp_path, monkeypatch, block):
    monkeypatch.setattr(cutouts, "BLOCK_BYTES", block)
    part = Cutout(tmp_path, {}).part("forwards")
    assert part.load() is None and list(part.rows(backwards=True)) == []
    for number in range(20):
        part.append(row(number))
    assert list(part.rows()) == [row(number) for number in range(20)]
    assert list(part.rows(backwards=True)) == [row(number) for number in reversed(range(20))]


def test_rows_after_the_saved_state_are_cut_off_and_the_state_comes_back(tmp_path):
    import torch

    part = Cutout(tmp_path, {}).part("forwards")
    part.load()
    part.append(row(0))
    whole = torch.arange(12.0).view(3, 4)
    part.save({"shared": whole, "view": whole[:, 1:3], "none": torch.zeros(2, 0)}, {"at": 1, "share": 0.1 + 0.2})
    part.append(row(1))
    with open(part.rows_path, "a") as file:
        file.write('[{"frame": 2')
    saved = part.load()
    assert list(part.rows()) == [row(0)]
    assert saved.plain["at"] == 1 and saved.plain["share"] == 0.1 + 0.2
    assert torch.equal(saved.tensors["view"], whole[:, 1:3]) and saved.tensors["none"].shape == (2, 0)


def test_rows_that_were_lost_are_damage(tmp_path):
    part = Cutout(tmp_path, {}).part("forwards")
    part.load()
    part.append(row(0))
    part.save({}, {"at": 1})
    part.rows_path.write_bytes(b"")
    with pytest.raises(CutoutError, match="shorter than it was.*to begin again"):
        part.load()


def test_events_are_one_document_whose_head_is_read_alone(tmp_path):
    cutout = Cutout(tmp_path, {"video": "a\udcff.mp4"})
    assert asked_before(tmp_path) == {"video": "a\udcff.mp4"} and not cutout.is_done
    cutout.write_events({"frames": 3, "gaps": []}, iter([row(0), [], row(1)]))
    assert json.loads((cutout.work / "events.json").read_text())["events"] == row(0) + row(1)
    assert read_head(cutout.work / "events.json") == {"asked": {"video": "a\udcff.mp4"}, "frames": 3, "gaps": []}
    again = Cutout(tmp_path, {"video": "a\udcff.mp4"})  # as after a kill before the last move
    assert again.is_done and again.head["frames"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.json", "masks"]


@pytest.mark.parametrize("content", ["", "[]", '{"events": 3}', "\x00"])
def test_an_events_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "events.json").write_text(content)
    with pytest.raises(CutoutError, match="is not an events.json of a cut-out"):
        Cutout(tmp_path, {})


def test_a_video_is_known_by_its_name_and_content_and_a_folder_by_its_files(tmp_path):
    for name, text in (("a", "x"), ("b", "y"), ("c", "x")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_text(text * 3)
    assert identity(tmp_path / "a" / "0.png") == identity(tmp_path / "c" / "0.png")
    assert identity(tmp_path / "a" / "0.png") != identity(tmp_path / "b" / "0.png")
    before = identity(tmp_path / "a")
    assert before.startswith("a (")
    (tmp_path / "a" / "1.png").write_text("z")
    assert identity(tmp_path / "a") != before
