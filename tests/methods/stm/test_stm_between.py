import numpy as np
import pytest

from vitascope.datasets.worlds.objects import ObjectsWorld
from vitascope.methods.stm.between import fill


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / max(1, (a | b).sum())


def texture(width=64, seed=0) -> np.ndarray:
    """uint8 `[3, 64, W]`, smooth."""
    small = np.random.default_rng(seed).integers(0, 255, (3, 16, width // 4), np.uint8)
    return small.repeat(4, 1).repeat(4, 2)


def moved(count: int, pixels: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A textured square that moves to the right over a still ground, and its masks of id 9."""
    frames, masks = [], []
    for t in range(count):
        frame, mask = texture(), np.zeros((64, 64), np.uint8)
        left = 8 + pixels * t
        frame[:, 20:40, left : left + 20] = texture(seed=1)[:, :20, :20]
        mask[20:40, left : left + 20] = 9
        frames.append(frame), masks.append(mask)
    return frames, masks


@pytest.mark.parametrize("pixels", [0, 2, 6])
def test_a_moving_object_is_filled_in_where_it_was(pixels):
    frames, masks = moved(5, pixels)
    filled = fill(masks[0], masks[-1], frames)
    assert len(filled) == 3 and all(one.dtype == np.uint8 and set(np.unique(one)) == {0, 9} for one in filled)
    for t, one in enumerate(filled, 1):
        assert overlap(one == 9, masks[t] == 9) > 0.85


def test_an_object_that_comes_or_goes_is_shown_in_the_nearer_half():
    frames, masks = moved(5, 0)
    nothing = np.zeros_like(masks[0])
    assert [bool(one.any()) for one in fill(masks[0], nothing, frames)] == [True, True, False]
    assert [bool(one.any()) for one in fill(nothing, masks[0], frames)] == [False, False, True]
    assert not any(one.any() for one in fill(nothing, nothing, frames))


def test_objects_keep_their_ids():
    frames, masks = moved(3, 2)
    both = [mask.copy() for mask in masks]
    for mask in both:
        mask[50:60, 5:15] = 254
    filled = fill(both[0], both[-1], frames)[0]
    assert set(np.unique(filled)) == {0, 9, 254}
    assert overlap(filled == 9, both[1] == 9) > 0.85 and overlap(filled == 254, both[1] == 254) > 0.85


def test_the_objects_world_is_filled_in_better_than_by_the_frame_before():
    video = ObjectsWorld(num_videos=1, seed=5, size=112, num_frames=24, fps=16.0)[0]
    filled, held = [], []
    for t in range(0, 20, 3):
        one = fill(video.masks[t], video.masks[t + 3], list(video.frames[t : t + 4]))
        for k in (1, 2):
            for o in np.unique(video.masks[t])[1:]:
                if (video.masks[t + 3] == o).sum() > 20:
                    filled.append(overlap(one[k - 1] == o, video.masks[t + k] == o))
                    held.append(overlap(video.masks[t] == o, video.masks[t + k] == o))
    assert np.mean(filled) > np.mean(held) + 0.2, (np.mean(filled), np.mean(held))
