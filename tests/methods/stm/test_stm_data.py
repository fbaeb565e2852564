"""Clips with masks: what a sample shows, that image and mask move together, and what becomes of files that do not fit."""

import numpy as np
import pytest
import torch
from PIL import Image

from vitascope.methods.base import Draw
from vitascope.methods.stm.config import STMConfig, stm_tiny
from vitascope.methods.stm.data import StillClips, VideoClips, clip_frames, max_skip_at, read_masks, read_still
from vitascope.methods.stm.motion import Picture, affine, colours, joined, warp
from vitascope.methods.stm.targets import keep_objects
from vitascope.structures import Record, VideoError
from vitascope.video.writer import VideoWriter, write_mask_png

RED, GREEN = (220, 30, 30), (30, 200, 40)


@pytest.fixture
def stills(tmp_path) -> list[Record]:
    """Grey pictures of a red disc (7) and a green square (9): the colour of a pixel says what its label must be."""
    rows, columns = np.mgrid[0:120, 0:160]
    records = []
    for i in range(3):
        mask = np.zeros((120, 160), np.uint8)
        mask[np.hypot(rows - 40 - 8 * i, columns - 50) < 24] = 7
        mask[60:100, 90 + 5 * i : 135] = 9
        image = np.full((120, 160, 3), 128, np.uint8)
        image[mask == 7], image[mask == 9] = RED, GREEN
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        write_mask_png(tmp_path / f"{i}.mask.png", mask)
        records.append(Record(str(tmp_path / f"{i}.png"), masks=str(tmp_path / f"{i}.mask.png")))
    return records


def is_object(frames: torch.Tensor) -> torch.Tensor:
    """Pixels that are clearly red or clearly green."""
    red, green = frames[:, 0].int(), frames[:, 1].int()
    return ((red - green).abs() > 100).to(torch.uint8)


def config(**changes) -> STMConfig:
    return stm_tiny().model_copy(update=changes)


def test_image_and_mask_move_together(stills):
    samples = StillClips(stills, config(colour=0.0, paste=0.0, max_objects=2))
    seen = 0
    for seed in range(12):
        sample = samples[Draw(seed % 3, seed, 0.0)]
        assert sample["frames"].dtype == sample["labels"].dtype == torch.uint8
        assert sample["frames"].shape == (3, 3, 96, 96) and sample["labels"].shape == (3, 96, 96)
        shown, labelled = is_object(sample["frames"]), (sample["labels"] > 0).to(torch.uint8)
        ids = set(sample["labels"].unique().tolist())
        if ids >= {1, 2}:  # both objects of the picture are followed, so every coloured pixel is labelled
            seen += 1
            assert (shown != labelled).float().mean() < 0.02
    assert seen >= 4


def test_frames_of_a_still_differ_but_show_the_same_objects(stills):
    sample = StillClips(stills, config(paste=0.0))[Draw(0, 1, 0.0)]
    assert not torch.equal(sample["frames"][0], sample["frames"][1])
    assert set(sample["labels"][1].unique().tolist()) <= set(sample["labels"][0].unique().tolist()) | {0}


def test_a_pasted_object_lies_on_top_and_is_labelled(stills):
    samples = StillClips(stills, config(paste=1.0, colour=0.0, max_objects=3, min_pixels=8))
    most = [len(set(samples[Draw(0, seed, 0.0)]["labels"][0].unique().tolist()) - {0}) for seed in range(12)]
    assert max(most) == 3


def test_a_clip_may_end_in_another_picture_without_the_object(stills):
    sample = StillClips(stills, config(leave=1.0))[Draw(0, 3, 0.0)]
    assert sample["labels"][0].any() and sample["labels"][1].any()
    assert not sample["labels"][2].any()


def test_the_other_picture_is_never_the_same_one_again(stills):
    Image.fromarray(np.full((120, 160, 3), 90, np.uint8)).save(stills[1].path)  # all that is not the first: grey
    samples = StillClips(stills[:2], config(leave=1.0, paste=0.0, colour=0.0, blur=0.0))
    alone = StillClips(stills[:1], config(leave=1.0, paste=0.0, colour=0.0, blur=0.0))
    for seed in range(12):
        frames = samples[Draw(0, seed, 0.0)]["frames"]
        assert is_object(frames[:2]).any() and not is_object(frames[2:]).any()
        assert not is_object(alone[Draw(0, seed, 0.0)]["frames"][2:]).any()


def test_the_skip_rises_in_equal_steps_and_stays():
    rises = [max_skip_at(p, 25, 0.5) for p in np.linspace(0, 0.999, 50)]
    assert rises == sorted(rises) and set(rises) == {0, 5, 10, 15, 20, 25}
    assert max_skip_at(0.0, 25, 0.0) == 25


def test_clip_frames_are_in_order_within_the_video_and_skip_at_most_so_many():
    rng = np.random.default_rng(0)
    for _ in range(300):
        num_available, max_skip = int(rng.integers(1, 40)), int(rng.integers(0, 12))
        frames = clip_frames(num_available, 3, max_skip, rng)
        gaps = np.diff(frames)
        assert frames.min() >= 0 and frames.max() < num_available
        assert (gaps <= max_skip + 1).all() and (gaps >= (1 if num_available >= 3 else 0)).all()


def test_a_short_video_still_gives_a_clip(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (2, 3, 64, 80), dtype=np.uint8)
    masks = np.zeros((2, 64, 80), np.uint8)
    masks[:, 20:50, 20:60] = 5
    record = video(tmp_path, frames, masks)
    sample = VideoClips([record], config())[Draw(0, 0, 0.9)]
    assert sample["frames"].shape == (3, 3, 96, 96)
    assert set(sample["labels"].unique().tolist()) <= {0, 1}


def test_masks_of_another_number_or_size_are_refused_with_both(tmp_path):
    frames = np.zeros((6, 3, 64, 80), np.uint8)
    with pytest.raises(VideoError, match="5 masks for 6 frames"):
        VideoClips([video(tmp_path, frames, np.zeros((5, 64, 80), np.uint8))], config())[Draw(0, 0, 0.0)]
    with pytest.raises(VideoError, match="64x64 masks on 64x80 frames"):
        VideoClips([video(tmp_path, frames, np.zeros((6, 64, 64), np.uint8))], config())[Draw(0, 0, 0.0)]


def test_a_pickled_array_is_not_opened(tmp_path):
    np.savez(tmp_path / "a.masks.npz", masks=np.array([{"evil": 1}], dtype=object))
    record = Record("a.mp4", masks=str(tmp_path / "a.masks.npz"))
    with pytest.raises(VideoError, match="allow_pickle"):
        read_masks(record, np.array([0]), None)


def test_a_missing_or_unfit_mask_is_named(stills, tmp_path):
    with pytest.raises(VideoError, match="missing"):
        read_still(Record(stills[0].path, masks=str(tmp_path / "none.png")))
    write_mask_png(tmp_path / "small.png", np.ones((10, 12), np.uint8))
    with pytest.raises(VideoError, match="12x10 mask on a 160x120 image"):
        read_still(Record(stills[0].path, masks=str(tmp_path / "small.png")))


def test_objects_that_the_first_frame_does_not_show_become_background():
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[0, :4], masks[1, 4:], masks[:, 0, 0] = 3, 200, 255
    labels, count = keep_objects(masks, 5, 1, np.random.default_rng(0))
    assert count == 1 and set(np.unique(labels[0])) == {0, 1, 255} and set(np.unique(labels[1])) == {0, 255}


def test_at_most_so_many_objects_are_kept_and_small_ones_are_not():
    masks = np.zeros((1, 10, 10), np.uint8)
    for i in range(5):
        masks[0, 2 * i : 2 * i + 2] = i + 1
    masks[0, 0, 1:], masks[0, 1] = 0, 0
    kept = [keep_objects(masks, 2, 2, np.random.default_rng(seed)) for seed in range(20)]
    assert all(count == 2 for _, count in kept)
    assert all(labels[0, 0, 0] == 0 for labels, _ in kept)  # one pixel is too few


def test_an_affine_turns_about_the_centre():
    centre = np.array([48.0, 48.0, 1.0])
    np.testing.assert_allclose(affine(33, 5, (1.1, 0.9), (0, 0), 48) @ centre, centre)
    np.testing.assert_allclose(affine(90, 0, (1, 1), (0, 0), 0) @ [1, 0, 1], [0, 1, 1], atol=1e-12)


def test_a_patch_is_not_mirrored_beyond_its_edge():
    picture = Picture(np.zeros((20, 20, 3), np.uint8), np.ones((20, 20), np.uint8))
    view = np.diag([4.0, 4.0, 1.0])
    assert warp(picture, view, 20).mask.all()
    assert warp(picture, view, 20, is_mirrored=False).mask.sum() == 25


def test_joining_keeps_what_lies_below_outside_of_the_object():
    below = Picture(np.full((9, 9, 3), 10, np.uint8), np.full((9, 9), 4, np.uint8))
    above = Picture(np.full((9, 9, 3), 200, np.uint8), np.pad(np.ones((1, 1), np.uint8), 4))
    result = joined(below, above, 9)
    assert result.mask[4, 4] == 9 and (np.delete(result.mask.ravel(), 40) == 4).all()
    assert result.image[0, 0, 0] == 10 and result.image[4, 4, 0] > 40


def test_no_colour_change_at_strength_zero():
    image = np.random.default_rng(0).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    assert np.array_equal(colours(image, 0.0, np.random.default_rng(0)), image)
    assert not np.array_equal(colours(image, 0.3, np.random.default_rng(0)), image)


def video(folder, frames: np.ndarray, masks: np.ndarray) -> Record:
    with VideoWriter(folder / "v.mp4", 12) as writer:
        writer.write(frames)
    np.savez_compressed(folder / "v.masks.npz", masks=masks)
    return Record(str(folder / "v.mp4"), masks=str(folder / "v.masks.npz"))
