"""Histograms of gradients: parity with slow loops over the specification (P6, P11), where points lie, and mirroring."""

import math

import cv2
import numpy as np
import pytest
import torch

from vitascope.methods.mme.hog import along_tracks, flip_cells, hog_cells, normalise_cells
from vitascope.video.tracks import grid_points, track_integer


def literal(image, cell, bins=9):
    """Section 1.5 of the specification with zero bias, pixel by pixel: `[bins, h, w]` of one channel."""
    padded = np.pad(image.astype(np.float64), 1, mode="edge")
    h, w = image.shape[0] // cell, image.shape[1] // cell
    cells = np.zeros((bins, h, w))
    for y in range(h * cell):
        for x in range(w * cell):
            a = padded[y : y + 3, x : x + 3]
            gx = a[0, 0] + 2 * a[1, 0] + a[2, 0] - a[0, 2] - 2 * a[1, 2] - a[2, 2]
            gy = a[0, 0] + 2 * a[0, 1] + a[0, 2] - a[2, 0] - 2 * a[2, 1] - a[2, 2]
            magnitude, phase = math.hypot(gx, gy), math.atan2(gy, gx) * bins / math.pi
            phase = phase + bins if phase < 0 else phase
            low, high = math.floor(phase), math.ceil(phase)
            if low == high:  # both bins coincide: the shares add up
                cells[low % bins, y // cell, x // cell] += magnitude
                continue
            cells[low % bins, y // cell, x // cell] += magnitude * (high - phase)
            cells[high % bins, y // cell, x // cell] += magnitude * (phase - low)
    return cells / cell**2


def photo_like(height, width, seed=0):
    """Smooth shapes with edges, in [0, 1]."""
    rng = np.random.default_rng(seed)
    picture = cv2.GaussianBlur(rng.random((height, width)).astype(np.float32), (0, 0), 4)
    cv2.circle(picture, (width // 3, height // 2), height // 4, 0.8, -1, cv2.LINE_AA)
    cv2.rectangle(picture, (width // 2, 3), (width - 6, height // 2), 0.2, -1)
    return picture


def randn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


IMAGES = {
    "randn": randn(32, 40).numpy(),
    "photo": photo_like(48, 64),
    "ramp right": np.tile(np.arange(32, dtype=np.float32), (24, 1)),
    "ramp left": np.tile(-np.arange(32, dtype=np.float32), (24, 1)),
    "ramp down": np.tile(np.arange(24, dtype=np.float32)[:, None], (1, 32)),
    "ramp aslant": np.add.outer(np.arange(24), 2 * np.arange(32)).astype(np.float32),
    "flat": np.full((16, 16), 0.3, np.float32),
    "whole numbers": np.random.default_rng(0).integers(-2, 3, (32, 32)).astype(np.float32),
    "not whole cells": randn(29, 35).numpy(),
}


@pytest.mark.parametrize("bins", [9, 6])
@pytest.mark.parametrize("cell", [8, 4])
@pytest.mark.parametrize("name", IMAGES)
def test_histograms_are_those_of_the_literal_loop(name, cell, bins):
    ours = hog_cells(torch.from_numpy(IMAGES[name])[None, None], cell, bins)[0, 0]
    assert ours.dtype == torch.float32
    scale = max(1.0, float(np.abs(IMAGES[name]).max()))
    np.testing.assert_allclose(ours.numpy(), literal(IMAGES[name], cell, bins), rtol=1e-5, atol=1e-5 * scale)


def test_a_whole_clip_is_that_of_its_images():
    images = randn(3, 2, 64, 72)
    together = hog_cells(images, 8)
    assert together.shape == (3, 2, 9, 8, 9)
    for m in range(3):
        for c in range(2):
            torch.testing.assert_close(together[m, c], hog_cells(images[m : m + 1, c : c + 1], 8)[0, 0], rtol=0, atol=0)


def test_images_of_many_chunks_keep_their_order():
    images = randn(7, 1, 224, 224)
    alone = torch.cat([hog_cells(image[None], 8) for image in images])
    torch.testing.assert_close(hog_cells(images, 8), alone, rtol=0, atol=0)


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_ramp_keeps_its_mass(turn):
    """The release overwrites where the two bins coincide and so loses a ramp's cells."""
    ramp = torch.rot90(torch.arange(64.0).expand(64, 64), turn)
    cells = hog_cells(ramp[None, None], 8)[0, 0]
    assert cells[0 if turn % 2 == 0 else 4].min() > 3.9 * (1 if turn % 2 == 0 else 0.5)
    torch.testing.assert_close(cells[:, 1:-1, 1:-1].sum(0), torch.full((6, 6), 8.0))


@pytest.mark.parametrize("degrees", [0, 10, 20, 45, 90, 135, 160, 175])
def test_a_slanted_ramp_lies_in_the_bins_of_its_angle(degrees):
    angle = math.radians(degrees)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    cells = hog_cells((math.cos(angle) * columns + math.sin(angle) * rows)[None, None], 8)[0, 0, :, 1, 1]
    low, share = divmod(degrees / 20, 1)
    expected = torch.zeros(9)
    expected[int(low) % 9] += 8 * (1 - share)
    expected[(int(low) + 1) % 9] += 8 * share
    torch.testing.assert_close(cells, expected, atol=1e-4, rtol=0)


def test_golden_values():
    """By hand: gradients (-1, -1), (-1, -3), (-3, -1), (-3, -3), that is 45, 71.565, 18.435 and 45 degrees."""
    found = hog_cells(torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]]), 2)[0, 0, :, 0, 0]
    expected = [0.061864, 0.728705, 1.060660, 0.686973, 0.457149, 0, 0, 0, 0]
    torch.testing.assert_close(found, torch.tensor(expected), atol=2e-6, rtol=0)


def test_a_flat_image_has_no_gradients():
    cells = hog_cells(torch.full((1, 3, 16, 16), 0.7), 8)
    assert (cells == 0).all()


def test_no_histogram_is_negative():
    assert hog_cells(randn(4, 3, 64, 64), 8).min() >= 0


def test_images_too_small_are_refused():
    with pytest.raises(ValueError, match=r"images \[1, 1, 4, 16\] must be \[M, C, H, W\], no side below cell \(8\)"):
        hog_cells(torch.zeros(1, 1, 4, 16), 8)
    with pytest.raises(ValueError, match=r"bins \(0\) must be > 0"):
        hog_cells(torch.zeros(1, 1, 16, 16), 8, bins=0)


def test_mirrored_images_give_mirrored_cells():
    images = torch.stack([randn(48, 64), torch.from_numpy(photo_like(48, 64))])[:, None]
    torch.testing.assert_close(flip_cells(hog_cells(images, 8)), hog_cells(images.flip(-1), 8), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(flip_cells(flip_cells(hog_cells(images, 8))), hog_cells(images, 8), atol=0, rtol=0)


def moving_clip(starts, length, size):
    """Frames `[S, L, 1, H, W]`, no two alike, and flows between them, `[S, L, H, W, 2]`."""
    rng = np.random.default_rng(1)
    frames = torch.rand(starts, length, 1, size, size, generator=torch.Generator().manual_seed(1))
    coarse = rng.normal(0, 5, (starts * length, 4, 4, 2)).astype(np.float32)
    flows = np.stack([cv2.resize(flow, (size, size)) for flow in coarse])
    return frames, flows.reshape(starts, length, size, size, 2)


def test_tracks_meet_other_cells_and_the_divided_ones_of_the_release_never_do():
    """P11: with displacements over 20 a track stays in its cell, so its histograms are those of the grid."""
    starts, length, size = 3, 4, 64
    frames, flows = moving_clip(starts, length, size)
    cells = hog_cells(frames.flatten(0, 1), 8)[:, 0].view(starts, length, 9, 8, 8)
    points = (grid_points(size, size, 8) + 0.5).astype(np.int64)
    moves = np.stack([track_integer(flow, points)[0] for flow in flows])  # [S, L, K, 2]
    before = np.concatenate([np.zeros_like(moves[:, :1]), moves[:, :-1]], 1).cumsum(1)  # the first L points
    grid = cells.flatten(3).transpose(2, 3)  # [S, L, K, 9]
    divided = along_tracks(cells, torch.from_numpy(points + before / 20), 8)
    torch.testing.assert_close(divided, grid, atol=0, rtol=0)
    moving = along_tracks(cells, torch.from_numpy(points + before), 8)
    torch.testing.assert_close(moving[:, 0], grid[:, 0], atol=0, rtol=0)
    elsewhere = (moving != grid).any(-1)[:, 1:]
    assert 0.3 < elsewhere.double().mean() < 1


def test_points_read_the_cell_that_they_lie_in():
    starts, length, size = 2, 3, 32
    cells = randn(starts, length, 5, 4, 4)
    positions = randn(starts, length, 50, 2) * 16 + 16
    found = along_tracks(cells, positions, 8)
    assert found.shape == (starts, length, 50, 5)
    outside = 0
    for s, t, k in np.ndindex(starts, length, 50):
        x, y = positions[s, t, k].tolist()
        outside += not (0 <= x <= size - 1 and 0 <= y <= size - 1)
        row = min(range(4), key=lambda r: abs(y - (8 * r + 3.5)))
        column = min(range(4), key=lambda c: abs(x - (8 * c + 3.5)))
        assert torch.equal(found[s, t, k], cells[s, t, :, row, column])
    assert outside > 10


def test_a_mirrored_clip_with_mirrored_points_gives_mirrored_histograms():
    frames, size = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(2)), 32
    positions = torch.rand(1, 2, 20, 2, generator=torch.Generator().manual_seed(3)) * (size - 1)
    mirrored = torch.stack([size - 1 - positions[..., 0], positions[..., 1]], -1)
    cells = hog_cells(frames, 8)[None, :, 0]
    there = along_tracks(hog_cells(frames.flip(-1), 8)[None, :, 0], mirrored, 8)
    torch.testing.assert_close(along_tracks(flip_cells(cells), mirrored, 8), there, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(along_tracks(cells, positions, 8), there)


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"positions \[1, 2, 5, 2\] \[S, L, K, 2\]"):
        along_tracks(torch.zeros(1, 3, 9, 4, 4), torch.zeros(1, 2, 5, 2), 8)


def test_normalised_vectors_have_one_scale():
    values = hog_cells(torch.from_numpy(photo_like(64, 64))[None, None], 8)[0, 0].flatten(1).T  # [64, 9]
    values = values[values.norm(dim=-1) > 0.2]
    assert len(values) > 10
    assert normalise_cells(values, "none") is values
    standard = normalise_cells(values, "standard")
    torch.testing.assert_close(standard.mean(-1), torch.zeros(len(values)), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.std(-1, unbiased=False), torch.ones(len(values)), atol=0.05, rtol=0)
    l2hys = normalise_cells(values, "l2hys")
    torch.testing.assert_close(l2hys.norm(dim=-1), torch.ones(len(values)), atol=1e-2, rtol=0)


def test_l2hys_is_length_one_cut_and_length_one_again():
    values = torch.tensor([3.0, 0.0, 4.0, 0.5])
    once = (values / math.sqrt(9 + 16 + 0.25)).clamp(max=0.2)
    torch.testing.assert_close(normalise_cells(values, "l2hys", floor=0.0), once / once.norm())


@pytest.mark.parametrize("kind", ["l2hys", "standard"])
def test_noise_of_a_flat_cell_stays_small(kind):
    noise = hog_cells(0.5 + randn(1, 1, 64, 64) / 1000, 8)[0, 0].flatten(1).T
    edges = hog_cells(torch.from_numpy(photo_like(64, 64))[None, None], 8)[0, 0].flatten(1).T
    assert normalise_cells(noise, kind).norm(dim=-1).mean() < 0.3 * normalise_cells(edges, kind).norm(dim=-1).mean()
    assert (normalise_cells(torch.zeros(2, 9), kind) == 0).all()


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match=r"kind \('l3'\) must be one of none, l2hys, standard"):
        normalise_cells(torch.zeros(9), "l3")
