"""VideoWriter, PNG files and overlays."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vitascope.video.writer import VideoWriter, overlay_labels, overlay_masks, write_mask_png, write_png_sequence


def smooth_frames(num_frames: int, height: int, width: int) -> np.ndarray:
    """A coloured gradient that drifts: survives 4:2:0 nearly unchanged. [T, C, H, W]"""
    t, y, x = np.meshgrid(np.arange(num_frames), np.arange(height), np.arange(width), indexing="ij")
    channels = [128 + 100 * np.sin((x + 2 * t) / 17 + k) * np.cos(y / 23 + k) for k in range(3)]
    return np.stack(channels, 1).astype(np.uint8)


def decode(path) -> tuple[np.ndarray, np.ndarray]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    pictures = np.stack([frame.to_ndarray(format="rgb24").transpose(2, 0, 1) for frame in frames])
    return pictures, np.array([frame.time for frame in frames])


@pytest.mark.parametrize("size", [(32, 48), (33, 48), (32, 49), (31, 47), (1, 1), (2, 2)])
def test_odd_sizes_lose_no_pixel(tmp_path, size):
    frames = smooth_frames(6, *size)
    with VideoWriter(tmp_path / "a.mp4", 25, crf=4) as writer:
        writer.write(frames)
    read, _ = decode(tmp_path / "a.mp4")
    assert read.shape == (6, 3, size[0] + size[0] % 2, size[1] + size[1] % 2)
    error = np.abs(read[:, :, : size[0], : size[1]].astype(int) - frames)
    assert error.mean() < 3
    padded = np.pad(frames, ((0, 0), (0, 0), (0, size[0] % 2), (0, size[1] % 2)), mode="edge")
    assert np.abs(read.astype(int) - padded).mean() < 3


def test_colours_are_kept_and_tagged(tmp_path):
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]], np.uint8)
    with VideoWriter(tmp_path / "a.mp4", 5, crf=1) as writer:
        writer.write(np.broadcast_to(colours[:, :, None, None], (5, 3, 16, 16)))
    read, _ = decode(tmp_path / "a.mp4")
    assert np.abs(read.mean((2, 3)) - colours).max() < 4
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
    assert (int(frame.colorspace), int(frame.color_range)) == (6, 1)


def test_constant_rate_is_exact(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", Fraction(30000, 1001)) as writer:
        writer.write(smooth_frames(7, 16, 16))
        writer.write(smooth_frames(1, 16, 16)[0])
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == Fraction(30000, 1001)
        assert stream.duration * stream.time_base == Fraction(8 * 1001, 30000)
        frames = list(container.decode(stream))
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(i * 1001, 30000) for i in range(8)]


def test_times_are_kept_with_a_start_that_is_not_zero(tmp_path):
    times = 0.1234 + np.cumsum(np.random.default_rng(0).uniform(0.01, 0.3, 40))
    with VideoWriter(tmp_path / "a.mp4", 20) as writer:
        writer.write(smooth_frames(40, 16, 16)[:30], times[:30])
        writer.write(smooth_frames(40, 16, 16)[30:], times[30:])
    read, read_times = decode(tmp_path / "a.mp4")
    assert len(read) == 40
    assert np.abs(read_times - times).max() <= 0.5 / 90_000 + 1e-9


def test_gop_sets_the_distance_of_key_frames(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 20, gop=10) as writer:
        writer.write(smooth_frames(35, 16, 16))
    with av.open(str(tmp_path / "a.mp4")) as container:
        keys = [i for i, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    assert keys[:2] == [0, 10] and len(keys) == 4


def test_same_frames_give_the_same_bytes_and_the_index_is_in_front(tmp_path):
    frames = smooth_frames(20, 32, 32)
    for name, source in (("a.mp4", frames), ("b.mp4", torch.from_numpy(frames))):
        with VideoWriter(tmp_path / name, 25) as writer:
            writer.write(source)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data == (tmp_path / "b.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), VideoWriter(path, 25) as writer:
        writer.write(smooth_frames(5, 16, 16))
        raise KeyError("stop")
    with pytest.raises(ValueError, match="no frame was written"), VideoWriter(path, 25):
        pass
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_the_file_appears_only_at_the_end(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(smooth_frames(5, 16, 16))
        assert not (tmp_path / "a.mp4").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("frames", "times", "text"),
    [
        (np.zeros((2, 3, 8, 8), np.float32), None, "must be uint8 RGB"),
        (np.zeros((2, 8, 8, 3), np.uint8), None, "must be uint8 RGB"),
        (np.zeros((2, 3, 8, 8), np.uint8), [0.1], "there are 2 frames"),
        (np.zeros((2, 3, 8, 8), np.uint8), [0.1, 0.1], "strictly increasing"),
        (np.zeros((2, 3, 8, 8), np.uint8), [-0.1, 0.1], "strictly increasing"),
        (np.zeros((1, 3, 8, 8), np.uint8), [np.nan], "finite"),
    ],
)
def test_wrong_frames_are_refused(tmp_path, frames, times, text):
    with pytest.raises(ValueError, match=text), VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(frames, times)
    assert not list(tmp_path.iterdir())


def test_a_change_of_size_or_of_clock_is_refused(tmp_path):
    frames = smooth_frames(2, 16, 16)
    with pytest.raises(ValueError, match="first ones were"), VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(frames)
        writer.write(frames[:, :, :8])
    with pytest.raises(ValueError, match="in every call"), VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(frames)
        writer.write(frames, [5.0, 6.0])
    with pytest.raises(RuntimeError, match="use `with"):
        VideoWriter(tmp_path / "a.mp4", 25).write(frames)
    with pytest.raises(ValueError, match=r"fps \(0\) must be"):
        VideoWriter(tmp_path / "a.mp4", 0)


def test_png_sequence_is_lossless(tmp_path):
    frames = smooth_frames(3, 15, 17)
    paths = write_png_sequence(tmp_path / "new" / "folder", frames, "f{:03d}.png")
    assert [path.name for path in paths] == ["f000.png", "f001.png", "f002.png"]
    for path, frame in zip(paths, frames):
        assert np.array_equal(np.asarray(Image.open(path)).transpose(2, 0, 1), frame)
    with pytest.raises(ValueError, match="two frames one name"):
        write_png_sequence(tmp_path, frames, "same.png")


def test_mask_png_is_indexed_with_the_davis_colours(tmp_path):
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_mask_png(tmp_path / "m.png", mask)
    image = Image.open(tmp_path / "m.png")
    assert image.mode == "P" and np.array_equal(np.asarray(image), mask)
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 7: (128, 128, 128), 8: (64, 0, 0), 255: (224, 224, 192)}
    for index, colour in known.items():
        assert image.convert("RGB").getpixel((index % 16, index // 16)) == colour
    with pytest.raises(ValueError, match="must be uint8"):
        write_mask_png(tmp_path / "m.png", mask.astype(int))


def test_overlay_paints_objects_and_leaves_the_background():
    frames = smooth_frames(2, 8, 8)
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[1, 2:4, 2:4] = 2
    painted = overlay_masks(torch.from_numpy(frames), torch.from_numpy(masks), alpha=1.0)
    assert np.array_equal(painted[0], frames[0])
    assert (painted[1, :, 2:4, 2:4] == np.array([0, 128, 0])[:, None, None]).all()
    painted[1, :, 2:4, 2:4] = frames[1, :, 2:4, 2:4]
    assert np.array_equal(painted, frames)
    with pytest.raises(ValueError, match="as the frames"):
        overlay_masks(frames, masks[:, :4])


def test_labels_are_written_into_their_own_frames():
    frames = np.full((3, 3, 40, 100), 128, np.uint8)
    labelled = overlay_labels(frames, ["run 0.9", "", "jump"])
    assert (frames == 128).all() and (labelled[1] == 128).all()
    assert labelled[0, :, :14].max() > 200 and labelled[0, :, :14].min() == 0
    assert (labelled[:, :, 25:] == 128).all() and not np.array_equal(labelled[0], labelled[2])
    with pytest.raises(ValueError, match="list of 3 strings"):
        overlay_labels(frames, "one text")
