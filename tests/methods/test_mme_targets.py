"""Targets and loss against slow loops."""

import numpy as np
import torch

from vitascope.methods.mme.loss import pixel_loss
from vitascope.methods.mme.targets import as_pixels, normalized_pixels
from vitascope.nn.vit import patchify


def random_patches(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randint(0, 256, (2, 4, 3, 16, 24), generator=generator, dtype=torch.uint8)
    return patchify(clips, 2, 8)


def test_targets_equal_a_slow_loop_on_pixels_in_0_to_1():
    patches = random_patches()
    targets = normalized_pixels(patches).reshape(patches.shape).numpy()
    pixels = patches.numpy().astype(np.float64) / 255
    for b in range(2):
        for n in range(patches.shape[1]):
            for c in range(3):
                x = pixels[b, n, ..., c]
                expected = (x - x.mean()) / (np.sqrt(((x - x.mean()) ** 2).sum() / (x.size - 1)) + 1e-6)
                np.testing.assert_allclose(targets[b, n, ..., c], expected, atol=1e-5)


def test_an_even_patch_has_a_target_of_exactly_zero():
    for grey in range(256):
        assert not normalized_pixels(torch.full((1, 1, 2, 16, 16, 3), grey, dtype=torch.uint8)).any()


def test_values_run_over_frames_rows_columns_and_channels():
    patches = random_patches()
    targets = normalized_pixels(patches)
    assert targets.shape == (2, 12, 2 * 8 * 8 * 3)
    assert (
        targets[1, 5, ((1 * 8 + 3) * 8 + 6) * 3 + 2]
        == normalized_pixels(patches[1:, 5:6])[0, 0].reshape(2, 8, 8, 3)[1, 3, 6, 2]
    )


def test_true_targets_become_the_true_pixels():
    patches = random_patches()
    assert torch.equal(as_pixels(normalized_pixels(patches), patches), patches)


def test_predictions_outside_of_the_range_are_clipped():
    patches = random_patches()
    assert (as_pixels(torch.full((2, 12, 384), 1e4), patches) == 255).all()


def test_the_loss_is_the_mean_over_tokens_and_values():
    torch.manual_seed(0)
    predictions, targets = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    total = sum(float((p - t) ** 2) for p, t in zip(predictions.flatten(), targets.flatten()))
    assert abs(float(pixel_loss(predictions, targets)["loss"]) - total / 30) < 1e-6


def test_the_loss_is_taken_in_float32():
    predictions = torch.full((1, 1, 4096), 300.0, dtype=torch.float16)  # its squares overflow half precision
    assert float(pixel_loss(predictions, torch.zeros(1, 1, 4096))["loss"]) == 90000.0


def test_knowing_only_the_mean_of_each_patch_scores_about_one():
    targets = normalized_pixels(random_patches())
    assert abs(float(pixel_loss(torch.zeros_like(targets), targets)["loss"]) - 1) < 0.01
