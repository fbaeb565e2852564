"""Transforms of clips: exact where they can be, the same for all frames of a clip, the same for the same seed."""

import colorsys
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from vitascope.video import transforms as tf


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips_of(batch: int = 3, frames: int = 2, height: int = 24, width: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, frames, 3, height, width, generator=seeded(seed))


def jitter_of(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0, order=(0, 1, 2, 3)) -> tf.ColourJitter:
    values = [torch.tensor([float(v)]) for v in (brightness, contrast, saturation, hue)]
    return tf.ColourJitter(*values, torch.tensor([order]))


def changes(clips: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """Every random change once, each with parameters drawn from `seed`."""
    batch, frame = len(clips), tuple(clips.shape[-2:])
    chosen = tf.draw_chosen(batch, 0.5, seeded(seed))
    return {
        "random_resized": tf.crop_and_resize(clips, tf.draw_random_resized_boxes(batch, frame, seeded(seed)), 16),
        "multi_scale": tf.crop_and_resize(clips, tf.draw_multi_scale_boxes(batch, frame, 16, seeded(seed)), 16),
        "flip": tf.flip(clips, chosen),
        "grayscale": tf.grayscale(clips, chosen),
        "colour": tf.colour_jitter(clips, tf.draw_colour_jitter(batch, seeded(seed))),
        "blur": tf.gaussian_blur(clips, tf.draw_sigmas(batch, seeded(seed))),
    }


def test_same_seed_same_pictures_and_input_unchanged():
    clips = clips_of(8)
    before = clips.clone()
    one, same, other = changes(clips, 1), changes(clips, 1), changes(clips, 2)
    for name in one:
        assert torch.equal(one[name], same[name]), name
        assert not torch.equal(one[name], other[name]), name
    assert torch.equal(clips, before)


def test_all_frames_of_a_clip_are_changed_alike_and_clips_differ():
    still = clips_of(1, 1).expand(16, 4, 3, 24, 32)
    for name, out in changes(still, 3).items():
        assert torch.allclose(out, out[:, :1].expand_as(out), atol=1e-6), name
        assert len({tuple(clip[0].flatten().tolist()) for clip in out}) > 1, name


def test_a_clip_does_not_depend_on_its_neighbours_in_the_batch():
    clips, jitter = clips_of(4), tf.draw_colour_jitter(4, seeded())
    boxes, sigmas = tf.draw_random_resized_boxes(4, (24, 32), seeded()), torch.tensor([0.0, 1.0, 2.0, 0.5])
    for i in range(4):
        one = slice(i, i + 1)
        alone = tf.colour_jitter(clips[one], tf.ColourJitter(*(p[one] for p in jitter)))
        assert torch.allclose(tf.colour_jitter(clips, jitter)[one], alone, atol=1e-6)
        assert torch.equal(tf.crop_and_resize(clips, boxes, 20)[one], tf.crop_and_resize(clips[one], boxes[one], 20))
        blurred = tf.gaussian_blur(clips, sigmas)[one]
        assert torch.allclose(blurred, tf.gaussian_blur(clips[one], sigmas[one]), atol=1e-6)


def test_gradients_reach_the_clips():
    clips = clips_of(2).requires_grad_()
    for name, out in changes(clips, 0).items():
        (gradient,) = torch.autograd.grad(out.sum(), clips)
        assert gradient.isfinite().all() and gradient.abs().sum() > 0, name


def test_resize_agrees_with_pillow_and_keeps_the_aspect():
    picture = np.random.default_rng(0).random((40, 60), np.float32)
    clips = torch.from_numpy(picture).expand(1, 2, 3, 40, 60)
    for size in [(20, 24), (55, 70), (10, 90), (40, 30)]:
        expected = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))
        out = tf.resize(clips, size)
        assert out.shape == (1, 2, 3, *size) and np.abs(out[0, 1, 2].numpy() - expected).max() < 1e-4
    assert tf.resize(clips, 20).shape[-2:] == (20, 30)
    assert tf.resize(clips.mT, 20).shape[-2:] == (30, 20)
    assert tf.resize(clips, (40, 60)) is clips


def test_centre_and_three_crops_are_where_they_should_be():
    clips = clips_of(2, 3, 24, 32)
    assert torch.equal(tf.centre_crop(clips, (20, 10)), clips[..., 2:22, 11:21])
    wide, tall = tf.three_crop(clips, 24), tf.three_crop(clips.mT, 24)
    assert wide.shape == (2, 3, 3, 3, 24, 24)
    for view, x in enumerate((0, 4, 8)):
        assert torch.equal(wide[:, view], clips[..., x : x + 24])
        assert torch.equal(tall[:, view], clips.mT[..., x : x + 24, :])
    with pytest.raises(ValueError, match=r"size \(25 x 25\) must be > 0 and within 24 x 32; resize first"):
        tf.centre_crop(clips, 25)


def test_full_crop_at_the_same_size_is_the_identity():
    clips = clips_of(3)
    boxes = tf.draw_random_resized_boxes(3, (24, 32), seeded(), area=(1, 1), aspect=(4 / 3, 4 / 3))
    assert boxes.tolist() == [[0, 0, 32, 24]] * 3
    assert torch.equal(tf.crop_and_resize(clips, boxes, (24, 32)), clips)


def test_crops_are_cut_exactly_and_each_clip_has_its_own():
    clips = clips_of(2)
    boxes = torch.tensor([[1, 2, 11, 12], [20, 10, 30, 20]])
    out = tf.crop_and_resize(clips, boxes, 10)
    assert torch.equal(out[0], clips[0, ..., 2:12, 1:11]) and torch.equal(out[1], clips[1, ..., 10:20, 20:30])


@pytest.mark.parametrize("box", [[0, 0, 33, 5], [-1, 0, 5, 5], [4, 4, 4, 8], [4, 8, 8, 4]])
def test_boxes_outside_of_the_frame_are_refused(box):
    with pytest.raises(ValueError, match="must not be empty and must lie within 32 x 24"):
        tf.crop_and_resize(clips_of(1), torch.tensor([box]), 8)
    with pytest.raises(ValueError, match="must be int64"):
        tf.crop_and_resize(clips_of(1), torch.tensor([[0.0, 0, 5, 5]]), 8)


def test_random_resized_boxes_keep_their_ranges_and_reach_every_corner():
    height, width = 240, 320
    boxes = tf.draw_random_resized_boxes(4000, (height, width), seeded(), area=(0.2, 0.6), aspect=(0.5, 2.0))
    x0, y0, x1, y1 = boxes.T.double()
    area, aspect = (x1 - x0) * (y1 - y0) / (height * width), (x1 - x0) / (y1 - y0)
    assert x0.min() == 0 and y0.min() == 0 and x1.max() == width and y1.max() == height
    assert 0.195 < area.min() < 0.21 and 0.59 < area.max() < 0.605
    assert 0.49 < aspect.min() < 0.53 and 1.8 < aspect.max() < 2.02
    small = tf.draw_random_resized_boxes(4000, (height, width), seeded(), area=(0.05, 0.05), aspect=(1, 1))
    share = small[:, 0].double() / (width - (small[:, 2] - small[:, 0]))
    assert abs(share.mean() - 0.5) < 0.02 and abs(share.std() - 12**-0.5) < 0.02


def test_boxes_that_can_never_fit_become_the_largest_centred_one():
    boxes = tf.draw_random_resized_boxes(2, (100, 400), seeded(), area=(1, 1), aspect=(1, 1))
    assert boxes.tolist() == [[150, 0, 250, 100]] * 2
    assert tf.draw_random_resized_boxes(1, (1, 1), seeded()).tolist() == [[0, 0, 1, 1]]


def test_multi_scale_boxes_are_the_ones_of_the_specification():
    boxes = tf.draw_multi_scale_boxes(6000, (256, 340), 224, seeded())
    sides = {(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes.tolist()}
    scaled = [256, 224, 192, 168]  # 256 * .66 = 168.96
    assert sides == {(scaled[i], scaled[j]) for i, j in itertools.product(range(4), repeat=2) if abs(i - j) <= 1}
    square = [box for box in boxes.tolist() if (box[2] - box[0], box[3] - box[1]) == (192, 192)]
    dx, dy = (340 - 192) // 4, (256 - 192) // 4
    places = {(i, j) for i in (0, 2, 4) for j in (0, 2, 4)} | {(i, j) for i in (1, 3) for j in (1, 3)}
    assert {(box[0], box[1]) for box in square} == {(i * dx, j * dy) for i, j in places} and len(places) == 13
    assert 400 < len(square) < 800  # one of ten pairs


def test_a_side_close_to_the_size_becomes_the_size():
    boxes = tf.draw_multi_scale_boxes(50, (226, 300), 224, seeded(), scales=(1.0,))
    assert set((boxes[:, 2:] - boxes[:, :2]).flatten().tolist()) == {224}
    boxes = tf.draw_multi_scale_boxes(50, (227, 300), 224, seeded(), scales=(1.0,))
    assert set((boxes[:, 2:] - boxes[:, :2]).flatten().tolist()) == {227}
    boxes = tf.draw_multi_scale_boxes(50, (222, 300), 224, seeded(), scales=(1.0,))
    assert boxes[:, 3].max() <= 222 and boxes.min() >= 0


def test_flip_and_grayscale_touch_only_the_chosen():
    clips, chosen = clips_of(2), torch.tensor([True, False])
    assert torch.equal(tf.flip(clips, chosen)[0], clips[0].flip(-1)) and torch.equal(
        tf.flip(clips, chosen)[1], clips[1]
    )
    grey = tf.grayscale(clips, chosen)
    luma = 0.299 * clips[0, :, 0] + 0.587 * clips[0, :, 1] + 0.114 * clips[0, :, 2]
    assert all(torch.allclose(grey[0, :, c], luma, atol=1e-6) for c in range(3)) and torch.equal(grey[1], clips[1])
    assert tf.draw_chosen(4000, 0.25, seeded()).float().mean().sub(0.25).abs() < 0.03
    assert tf.draw_chosen(100, 1.0, seeded()).all() and not tf.draw_chosen(100, 0.0, seeded()).any()
    with pytest.raises(ValueError, match=r"chosen .* must be bool \[2\]"):
        tf.flip(clips, torch.tensor([True]))


def test_no_colour_change_is_the_identity():
    clips = clips_of(5)
    assert torch.equal(tf.colour_jitter(clips, tf.draw_colour_jitter(5, seeded(), probability=0.0)), clips)
    assert torch.equal(tf.gaussian_blur(clips, tf.draw_sigmas(5, seeded(), probability=0.0)), clips)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_colour_matrix_equals_the_changes_one_after_the_other(order):
    clips = 0.3 + 0.3 * clips_of(1)  # far from the clamp
    luma = lambda c: (c * torch.tensor(tf.LUMA)[:, None, None]).sum(2, keepdim=True)  # noqa: E731
    steps = {
        0: lambda c: c * 1.1,
        1: lambda c: 0.7 * c + 0.3 * luma(c).mean(),
        2: lambda c: 1.3 * c - 0.3 * luma(c),
        3: lambda c: tf.colour_jitter(c, jitter_of(hue=0.1)),
    }
    expected = clips
    for step in order:
        expected = steps[step](expected)
    out = tf.colour_jitter(clips, jitter_of(1.1, 0.7, 1.3, 0.1, order))
    assert torch.allclose(out, expected, atol=1e-5)


def test_hue_keeps_luma_and_turns_the_colour():
    reds = torch.tensor([0.6, 0.3, 0.3])[:, None, None].expand(1, 1, 3, 2, 2)
    for turns in (-1 / 3, 1 / 6, 1 / 3, 0.5):
        out = tf.colour_jitter(reds, jitter_of(hue=turns))[0, 0, :, 0, 0]
        assert torch.isclose(out @ torch.tensor(tf.LUMA), reds[0, 0, :, 0, 0] @ torch.tensor(tf.LUMA), atol=1e-5)
        turned = colorsys.rgb_to_hsv(*out.tolist())[0]
        assert abs((turned - turns + 0.5) % 1 - 0.5) < 0.1  # YIQ's circle is near HSV's, not the same
    assert torch.allclose(tf.colour_jitter(reds, jitter_of(hue=0.0)), reds)
    grey = torch.full((1, 1, 3, 2, 2), 0.4)
    assert torch.allclose(tf.colour_jitter(grey, jitter_of(hue=0.3)), grey, atol=1e-6)


def test_colour_jitter_keeps_its_ranges():
    jitter = tf.draw_colour_jitter(4000, seeded(), 0.8, 0.4, 1.5, 0.2, probability=0.8)
    for values, low, high in zip(jitter, (0.2, 0.6, 0.0, -0.2), (1.8, 1.4, 2.5, 0.2)):
        assert low <= values.min() < low + 0.02 and high - 0.02 < values.max() <= high
    assert abs((jitter.brightness == 1).float().mean() - 0.2) < 0.03
    assert len({tuple(row) for row in jitter.order.tolist()}) == 24
    assert tf.colour_jitter(clips_of(4000, 1, 2, 2), jitter).min() >= 0
    with pytest.raises(ValueError, match="the last one, hue, <= 0.5"):
        tf.draw_colour_jitter(1, seeded(), hue=0.6)


def test_blur_is_a_gaussian_inside_and_keeps_flat_pictures():
    point = torch.zeros(1, 1, 3, 31, 31)
    point[..., 15, 15] = 1
    out = tf.gaussian_blur(point, torch.tensor([1.5]))[0, 0, 0]
    axis = torch.exp(-((torch.arange(31.0) - 15) ** 2) / (2 * 1.5**2))
    assert torch.allclose(out, torch.outer(axis, axis) / axis.sum() ** 2, atol=1e-5)
    flat = torch.full((1, 1, 3, 9, 13), 0.7)
    assert torch.allclose(tf.gaussian_blur(flat, torch.tensor([4.0])), flat, atol=1e-6)


def test_normalise_and_its_inverse():
    clips = clips_of(2)
    out = tf.normalise(clips)
    assert torch.isclose(out[1, 1, 2, 3, 4], (clips[1, 1, 2, 3, 4] - 0.406) / 0.225)
    assert torch.allclose(tf.denormalise(out), clips, atol=1e-6)


def test_clips_of_another_kind_are_refused():
    for clips in (torch.zeros(2, 3, 8, 8), torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"must be float \[B, T, C, H, W\]"):
            tf.resize(clips, 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_pictures_of_the_cpu():
    clips = clips_of(4)
    on_cpu, on_gpu = changes(clips, 1), changes(clips.cuda(), 1)
    for name in on_cpu:
        assert torch.allclose(on_cpu[name], on_gpu[name].cpu(), atol=1e-4), name
