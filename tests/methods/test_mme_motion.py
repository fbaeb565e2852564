"""Motion of clips: views of a crop, tracks whose truth is known, and samples as the model gets them."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from vitascope.methods.base import Draw
from vitascope.methods.mme.config import MMEConfig, mme_tiny
from vitascope.methods.mme.footage import in_view
from vitascope.methods.mme.method import MME
from vitascope.methods.mme.motion import Motion, View, by_token, chains_from, view_of
from vitascope.structures import Record
from vitascope.video.flow import DenseFlow, grey
from vitascope.video.grid_flow import cache_flow
from vitascope.video.writer import VideoWriter

HEIGHT, WIDTH = 120, 160


def texture(seed: int, height: int = 400, width: int = 400) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return (127 + 90 * smooth / np.abs(smooth).max() * 1.4).clip(0, 255).astype(np.float32)


def shown(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """The texture moved by (dx, dy), as a frame."""
    matrix = np.float32([[1, 0, dx - 100], [0, 1, dy - 100]])
    return cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)


def film(velocity: tuple[float, float], count: int, camera: tuple[float, float] = (0, 0), seed: int = 0) -> np.ndarray:
    """A disc that moves over a ground that the camera moves: uint8 `[T, 3, H, W]`."""
    ground, disc = texture(seed), texture(seed + 1)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    frames = []
    for t in range(count):
        x, y = velocity[0] * t, velocity[1] * t
        alpha = np.clip(36 - np.hypot(columns - 80 - x, rows - 60 - y), 0, 1)
        frame = shown(ground, camera[0] * t, camera[1] * t) * (1 - alpha) + shown(disc, x, y) * alpha
        frames.append(np.repeat(np.rint(frame).astype(np.uint8)[None], 3, 0))
    return np.stack(frames)


def motion_of(frames: np.ndarray, box=(40, 20, 120, 100), size=64, num_steps=6, flows=None, **how):
    """Positions, moves, seen of tracks from the first frame on, in a crop."""
    motion = Motion(num_steps=num_steps, track_pixels=8, **how)
    view = view_of(box, (HEIGHT, WIDTH), size, motion.margin)
    greys = np.stack([view.warp(frame) for frame in grey(frames)])
    chains = chains_from(np.array([0]), num_steps, len(frames))
    return motion(view, size, greys, chains.numbers, chains.exists, None if flows is None else flows(view))


def test_a_view_shows_each_pixel_where_it_belongs():
    columns = np.tile(np.arange(WIDTH, dtype=np.float32), (HEIGHT, 1))
    view = view_of((30, 20, 110, 80), (HEIGHT, WIDTH), 40, margin=10)
    assert (view.left, view.top, view.width, view.height) == (10, 10, 60, 60)
    across = view.warp(columns)[25, :]
    np.testing.assert_allclose(across[10], 30 + 0.5 * 2 - 0.5, atol=0.05)  # the crop's first pixel spans 30 and 31
    np.testing.assert_allclose(np.diff(across), 2, atol=0.1)
    rows = np.tile(np.arange(HEIGHT, dtype=np.float32)[:, None], (1, WIDTH))
    down = view.warp(rows)
    np.testing.assert_allclose(down[10, 30], 20 + 0.5 * 1.5 - 0.5, atol=0.05)


def test_a_view_of_the_whole_frame_has_no_margin():
    view = view_of((0, 0, WIDTH, HEIGHT), (HEIGHT, WIDTH), 64, margin=24)
    assert (view.left, view.top, view.width, view.height) == (0, 0, 64, 64)


@pytest.mark.parametrize("box", [(40, 20, 120, 100), (10, 10, 138, 74), (30, 30, 94, 94)])
def test_displacements_are_in_pixels_of_the_crop_whatever_its_scales(box):
    velocity = (1.4, -0.8)
    frames = film(velocity, 8, camera=velocity)  # all moves as one
    positions, moves, seen = motion_of(frames, box)
    scale = np.array([(box[2] - box[0]) / 64, (box[3] - box[1]) / 64])
    error = np.hypot(*(moves.sum(1)[0] - 6 * np.array(velocity) / scale)[seen[0].all(0)].T)
    assert seen[0].all(0).mean() > 0.6
    assert error.mean() < 0.3
    np.testing.assert_allclose(positions[:, 1:] - positions[:, :-1], moves, atol=1e-4)


@pytest.mark.parametrize("flow", ["dis-medium", "farneback"])
def test_the_camera_is_taken_off_the_displacements_and_not_off_the_tracks(flow):
    camera, velocity = (1.2, 0.5), (-1.0, 0.9)
    frames = film(velocity, 8, camera)
    box, size = (0, 0, 160, 120), 128
    scale = np.array([160 / 128, 120 / 128])
    raw, with_camera, _ = motion_of(frames, box, size, flow=flow)
    positions, moves, seen = motion_of(frames, box, size, flow=flow, camera=True)
    np.testing.assert_array_equal(positions, raw)
    distance = np.hypot(*((positions[0, 0] + 0.5) * scale - 0.5 - [80, 60]).T)
    disc, ground, kept = distance < 22, distance > 60, seen[0].all(0)
    assert np.abs(moves[0].sum(0)[ground & kept]).mean() < 0.5  # of 5.8 over the six steps
    assert np.abs(with_camera[0].sum(0)[ground & kept] - 6 * np.array(camera) / scale).mean() < 0.3
    own = 6 * (np.array(velocity) - camera) / scale
    assert np.abs(moves[0].sum(0)[disc & kept] - own).mean() < 0.8  # of 6.6 on average


def test_a_track_that_leaves_the_crop_is_not_seen_from_then_on():
    frames = film((2.5, 0), 8, camera=(2.5, 0))
    positions, _, seen = motion_of(frames, (40, 20, 104, 84))
    outside = positions[0, 1:, :, 0] > 63.5
    assert outside[-1].any() and not outside[0].all()
    assert not seen[0][outside].any()
    assert (np.diff(seen[0].astype(int), axis=0) <= 0).all()  # for good
    assert seen[0][:, positions[0, 0, :, 0] < 30].all()


def test_past_the_end_of_the_video_nothing_moves_and_no_step_counts():
    frames = film((2, 0), 4, camera=(2, 0))
    _, moves, seen = motion_of(frames)
    assert not seen[0, 3:].any() and seen[0, :3].any()
    assert (moves[0, 3:] == 0).all()


def test_tracks_end_where_the_flow_does_not_lead_back():
    frames = film((4, 0), 8, camera=(-3, 0))
    lenient, strict = (motion_of(frames, end_where_inconsistent=on)[2] for on in (False, True))
    assert strict.sum() < lenient.sum()
    assert not (strict & ~lenient).any()


def test_integer_tracks_do_not_see_slow_motion():
    _, moves, _ = motion_of(film((0.6, 0.4), 8, camera=(0.6, 0.4)), is_integer=True)
    assert not moves.any()
    _, moves, _ = motion_of(film((2.6, 0), 8, camera=(2.6, 0)), (30, 30, 94, 94), is_integer=True)
    assert np.median(moves[..., 0]) == 2


def test_kept_flow_gives_what_is_computed():
    frames = film((1.5, -1), 8, camera=(1.5, -1))
    cells = np.tile(np.array([1.5, -1], np.float32), (7, HEIGHT // 8, WIDTH // 8, 1))
    cells[5] = np.nan

    def kept(view: View) -> np.ndarray:
        return in_view(cells, np.arange(8), view, (1.0, 1.0), step=8)

    _, moves, seen = motion_of(frames, flows=kept, num_steps=6)
    _, computed, _ = motion_of(frames, num_steps=6)
    assert not seen[0, 5].any() and seen[0, 4].any()
    np.testing.assert_allclose(moves[0, :5], np.broadcast_to(np.array([1.5, -1]) / 1.25, moves[0, :5].shape), atol=1e-3)
    assert np.abs(computed[0, :5] - moves[0, :5]).mean() < 0.1


def test_flow_of_another_size_is_scaled():
    view = view_of((20, 10, 100, 90), (HEIGHT, WIDTH), 40, margin=0)
    twice = np.tile(
        np.array([4, 2], np.float32), (1, 2 * HEIGHT // 8, 2 * WIDTH // 8, 1)
    )  # in pixels of twice the size
    flow = in_view(twice, np.array([0]), view, (2.0, 2.0), step=8)
    np.testing.assert_allclose(flow, np.broadcast_to([1.0, 0.5], flow.shape), atol=1e-5)


def test_steps_are_joined_without_interpolation():
    frames = film((1.5, -1), 10, camera=(1.5, -1))
    motion = Motion(num_steps=8, every=4, track_pixels=8)
    _, moves, seen = motion_of(frames, num_steps=8)
    joined, still_seen = motion.joined(moves, seen)
    assert joined.shape == (1, 2, 64, 2)
    np.testing.assert_allclose(joined[0, 1], moves[0, 4:].sum(0), atol=1e-5)
    np.testing.assert_array_equal(still_seen[0], seen[0, [3, 7]])


def test_tokens_own_two_by_two_tracks():
    grid = (2, 3, 4)
    rows, columns = np.mgrid[: 2 * grid[1], : 2 * grid[2]]
    values = torch.from_numpy(np.stack([rows, columns], -1).reshape(1, 1, -1, 2)).repeat(2, 5, 1, 1)
    tokens = by_token(values, grid)
    assert tokens.shape == (24, 4, 5, 2)
    for token in range(24):
        h, w = token % 12 // 4, token % 4
        expected = [[2 * h + i, 2 * w + j] for i in range(2) for j in range(2)]
        assert tokens[token, :, 0].tolist() == expected


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> Record:
    path = tmp_path_factory.mktemp("film") / "a.mp4"
    with VideoWriter(path, 25) as writer:
        writer.write(film((1.5, 0.5), 48, camera=(-0.7, 0.2)))
    return Record(str(path))


def sample(record: Record, seed: int = 3, **changes) -> dict[str, torch.Tensor]:
    config = MMEConfig.model_validate(mme_tiny().model_dump() | changes)
    method = MME(config)
    return method.samples(method.stages()[0], [record])[Draw(0, seed, 0.0)]


def test_a_sample_has_the_shapes_of_the_table(record):
    shapes = {key: tuple(value.shape) for key, value in sample(record).items()}
    assert shapes == {
        "clips": (8, 3, 64, 64),
        "mask": (256,),
        "moves": (256, 4, 8, 2),
        "seen": (256, 4, 8),
        "shape": (256, 4, 8, 9),
    }
    plain = sample(record, interpolate=False)
    assert plain["moves"].shape == (256, 4, 2, 2) and plain["shape"].shape == (256, 4, 2, 9)
    colours = sample(record, shape="grid", shape_gray=False)
    assert colours["shape"].shape == (256, 4, 1, 27)
    assert set(sample(record, predicts=("shape",), shape="grid")) == {"clips", "mask", "shape"}
    assert set(sample(record, predicts=("position",))) == {"clips", "mask", "moves", "seen"}


def test_the_clip_and_the_mask_do_not_depend_on_what_is_predicted(record):
    pixels, motion = sample(record, predicts=("pixels",)), sample(record)
    assert torch.equal(pixels["clips"], motion["clips"]) and torch.equal(pixels["mask"], motion["mask"])


def test_without_interpolation_displacements_are_sums(record):
    dense, sparse = sample(record), sample(record, interpolate=False)
    torch.testing.assert_close(sparse["moves"][:, :, 0], dense["moves"][:, :, :4].sum(2), atol=1e-4, rtol=1e-4)


def test_memory_changes_speed_and_hardly_the_sample(record):
    read, kept = sample(record), sample(record, memory_mb=100)
    assert torch.equal(read["clips"], kept["clips"])
    both = read["seen"] & kept["seen"]
    assert both.float().mean() > 0.5
    assert (read["moves"] - kept["moves"])[both].abs().mean() < 0.15  # its flow is of the whole frame, in 16 bits


@pytest.mark.parametrize("memory_mb", [0, 100])
def test_flow_that_a_library_keeps_is_used_and_gives_the_same_tracks(record, tmp_path, monkeypatch, memory_mb):
    computed = sample(record)
    cache_flow(record.path, tmp_path / "a.flow")
    monkeypatch.setattr(DenseFlow, "__call__", lambda *_: pytest.fail("flow is computed"))
    kept = sample(replace(record, motion=str(tmp_path / "a.flow")), memory_mb=memory_mb)
    assert torch.equal(computed["clips"], kept["clips"])
    both = computed["seen"] & kept["seen"]
    assert both.float().mean() > 0.5
    assert (computed["moves"] - kept["moves"])[both].abs().mean() < 0.15


def test_shuffled_frames_leave_tracks_in_their_order(record):
    plain, shuffled = sample(record), sample(record, shuffle="frames")
    assert not torch.equal(plain["clips"], shuffled["clips"])
    order = [
        int((plain["clips"].float() - frame.float()).abs().mean((1, 2, 3)).argmin()) for frame in shuffled["clips"]
    ]
    assert sorted(order) == list(range(8)) and torch.equal(shuffled["clips"], plain["clips"][order])
    assert torch.equal(plain["moves"], shuffled["moves"])
    followed = sample(record, shuffle="frames-and-tracks")
    assert torch.equal(followed["clips"], shuffled["clips"])
    per_frame = plain["moves"].reshape(4, 64, 4, 8, 2)
    for slot, start in enumerate(order[::2]):
        if start % 2 == 0:  # tracks of the plain clip start at even frames
            assert torch.equal(followed["moves"].reshape(4, 64, 4, 8, 2)[slot], per_frame[start // 2])


def test_figures_show_tracks_predictions_and_gradients(record):
    method = MME(mme_tiny()).eval()
    batch = {key: value[None] for key, value in sample(record).items()}
    (figure,) = method.figures(batch)
    assert [name for name, _ in figure.rows][:3] == ["input", "masked input", "tracks"]
    assert [len(row) for _, row in figure.rows] == [8, 8, 4, 4, 4]
    assert "8 frames of the video" in figure.caption
