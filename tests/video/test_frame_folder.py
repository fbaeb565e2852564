"""A folder of images that is read like a video."""

import numpy as np
import pytest
import torch
from PIL import Image

from vitascope.structures import VideoError
from vitascope.video.frames import FrameFolder

RNG = np.random.default_rng(0)


def picture(height: int = 12, width: int = 20, value: int | None = None) -> np.ndarray:
    if value is not None:
        return np.full((height, width, 3), value, np.uint8)
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(folder, name: str, pixels: np.ndarray, **options) -> None:
    Image.fromarray(pixels).save(folder / name, **options)


@pytest.fixture
def ten(tmp_path):
    for i in range(10):
        save(tmp_path, f"{i:05d}.png", picture(value=20 * i))
    return tmp_path


def test_frames_come_in_natural_order_and_other_files_are_left_out(tmp_path):
    for name in ("f10.png", "f9.JPG", "f2.webp", "f1.jpeg"):
        save(tmp_path, name, picture())
    for name in ("notes.txt", ".f3.png", "._f9.JPG", "f4.gif"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "g.png").mkdir()
    with FrameFolder(tmp_path) as frames:
        assert frames.names == ("f1", "f2", "f9", "f10")
        assert len(frames) == 4 and frames.size == (12, 20) and frames.fps == 25
        assert frames.duration_seconds == 4 / 25


def test_pixels_are_those_of_the_images(tmp_path):
    pixels = [picture() for _ in range(3)]
    for i, image in enumerate(pixels):
        save(tmp_path, f"{i}.png", image)
    seen = list(FrameFolder(tmp_path, fps=10).iterate())
    assert [seconds for seconds, _ in seen] == [0, 0.1, 0.2]
    for (_, frame), image in zip(seen, pixels):
        assert frame.dtype == torch.uint8
        np.testing.assert_array_equal(frame.numpy(), image.transpose(2, 0, 1))


def test_frames_at_gives_the_order_asked_with_repetitions(ten):
    clip = FrameFolder(ten).frames_at([7, 0, 7, 3])
    assert clip.frames.shape == (4, 3, 12, 20)
    assert clip.frames[:, 0, 0, 0].tolist() == [140, 0, 140, 60]
    np.testing.assert_array_equal(clip.times_seconds, np.array([7, 0, 7, 3]) / 25)
    assert FrameFolder(ten).frames_at([]).frames.shape == (0, 3, 12, 20)


@pytest.mark.parametrize("index", [-1, 10])
def test_a_frame_outside_is_told(ten, index):
    with pytest.raises(VideoError, match=f"out_of_range: frame {index} was asked for; there are frames 0 to 9"):
        FrameFolder(ten).frames_at([0, index])


def test_iterate_takes_the_frames_that_start_in_the_stretch(ten):
    frames = FrameFolder(ten, fps=10)
    values = [int(frame[0, 0, 0]) // 20 for _, frame in frames.iterate(0.3, 0.6)]
    assert values == [3, 4, 5]
    assert [seconds for seconds, _ in frames.iterate(0.85)] == [0.9]
    assert list(frames.iterate(5)) == []


def test_iterate_decodes_one_frame_at_a_time(ten):
    (ten / "00005.png").write_bytes(b"broken")
    frames = FrameFolder(ten).iterate()
    for _ in range(5):
        next(frames)
    with pytest.raises(VideoError, match=r"damaged: the image 00005\.png cannot be decoded"):
        next(frames)


@pytest.mark.parametrize("size, expected", [(6, (6, 10)), ((5, 7), (5, 7)), (24, (24, 40)), (None, (12, 20))])
def test_sizes_are_those_of_a_video_reader(ten, size, expected):
    frames = FrameFolder(ten)
    assert frames.frames_at([4], size).frames.shape[2:] == expected
    _, frame = next(frames.iterate(size=size))
    assert frame.shape[1:] == expected
    assert (frames.frames_at([4], size).frames == 80).all()  # a flat picture stays flat
    assert frames.size == (12, 20)


def test_shrinking_averages_over_areas(tmp_path):
    image = picture(8, 8)
    save(tmp_path, "0.png", image)
    small = FrameFolder(tmp_path).frames_at([0], (4, 4)).frames[0].numpy()
    means = image.reshape(4, 2, 4, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(small - means).max() <= 1


def test_an_impossible_size_is_told(ten):
    with pytest.raises(ValueError, match=r"size \(0\) must give sides of 1 to 16384 pixels"):
        FrameFolder(ten).frames_at([0], 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation):
    image = picture(6, 10)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path, "0.png", image, exif=exif)
    turned = {
        1: image, 2: image[:, ::-1], 3: image[::-1, ::-1], 4: image[::-1], 5: image.transpose(1, 0, 2),
        6: np.rot90(image, -1), 7: np.rot90(image, 2).transpose(1, 0, 2), 8: np.rot90(image),
    }[orientation]  # fmt: skip
    frames = FrameFolder(tmp_path)
    assert frames.size == turned.shape[:2]
    np.testing.assert_array_equal(frames.frames_at([0]).frames[0].numpy(), turned.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_every_kind_of_8_bit_image_becomes_rgb(tmp_path, mode):
    Image.fromarray(picture(value=255)).convert(mode).save(tmp_path / "0.png")
    frame = FrameFolder(tmp_path).frames_at([0]).frames
    assert frame.shape == (1, 3, 12, 20) and (frame == 255).all()


def test_sixteen_bit_images_are_refused_not_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(tmp_path / "0.png")
    with pytest.raises(VideoError, match=r"unsupported: 0\.png has pixels of kind I;16, more than 8 bits"):
        FrameFolder(tmp_path).frames_at([0])


def test_frames_of_another_size_are_told_by_name(ten):
    save(ten, "00004.png", picture(20, 12))
    with pytest.raises(VideoError, match=r"unsupported: 00004\.png is 12x20, but 00000\.png is 20x12; make all"):
        list(FrameFolder(ten).iterate(size=6))


def test_a_truncated_image_is_damage(ten):
    save(ten, "00002.png", picture())
    data = (ten / "00002.png").read_bytes()
    (ten / "00002.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError) as caught:
        FrameFolder(ten).frames_at([1, 2])
    assert caught.value.reason == "damaged" and "00002.png" in caught.value.detail


def test_what_is_no_folder_of_frames_is_told(tmp_path):
    with pytest.raises(VideoError, match="missing: no such folder"):
        FrameFolder(tmp_path / "a")
    with pytest.raises(VideoError, match="empty: the folder holds no image; frames are files .jpg, .jpeg, .png, .webp"):
        FrameFolder(tmp_path)
    (tmp_path / "0.png").touch()
    with pytest.raises(VideoError, match=r"damaged: the image 0\.png cannot be decoded"):
        FrameFolder(tmp_path)
    with pytest.raises(VideoError, match="not_a_video: a file, not a folder"):
        FrameFolder(tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"fps \(0\) must be > 0"):
        FrameFolder(tmp_path, fps=0)


def test_two_frames_of_one_name_are_refused(tmp_path):
    save(tmp_path, "00000.jpg", picture())
    save(tmp_path, "00000.png", picture())
    with pytest.raises(VideoError, match=r"unsupported: 00000\.jpg and 00000\.png are two frames of one name"):
        FrameFolder(tmp_path)


def test_real_frames(shared_data):
    with FrameFolder(shared_data / "davis16-train-240p" / "JPEGImages" / "240p" / "bear") as frames:
        assert len(frames) == 60 and frames.size == (240, 427)
        assert frames.frames_at([59], 120).frames.shape == (1, 3, 120, 214)
