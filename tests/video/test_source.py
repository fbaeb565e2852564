"""A video and a folder of frames behave as one; masks that do not fit are told."""

import numpy as np
import pytest
from PIL import Image

from vitascope.structures import Gap, VideoError
from vitascope.video.source import FrameSource, first_masks, keep_apart
from vitascope.video.writer import VideoWriter, write_png_sequence

FRAMES = np.stack([np.full((3, 32, 48), 40 * i, np.uint8) for i in range(5)])


@pytest.fixture(params=["video", "folder"])
def path(request, tmp_path):
    if request.param == "folder":
        write_png_sequence(tmp_path / "folder", FRAMES)
        return tmp_path / "folder"
    with VideoWriter(tmp_path / "a.mp4", 25, crf=0) as writer:
        writer.write(FRAMES)
    return tmp_path / "a.mp4"


def test_frames_names_and_times_are_the_same_from_a_file_and_from_a_folder(path):
    with FrameSource(path) as source:
        assert (len(source), source.size, source.fps) == (5, (32, 48), pytest.approx(25))
        assert np.allclose(source.times_seconds, np.arange(5) / 25) and source.duration_seconds == pytest.approx(0.2)
        for i in (0, 1, 4, 2):
            assert abs(source.frame(i).numpy().astype(int) - FRAMES[i]).max() <= 4
        assert source.name(3) == "00003" and source.gaps == ()
        assert [source.number_at(t) for t in (0, 0.04, 0.079, 0.08)] == [0, 1, 1, 2]


@pytest.mark.parametrize("seconds", [-0.1, 0.2, 7])
def test_a_time_that_is_not_shown_is_out_of_range(path, seconds):
    with FrameSource(path) as source, pytest.raises(VideoError, match="shown from 0 to 0.2 s") as error:
        source.number_at(seconds)
    assert error.value.reason == "out_of_range"


def test_an_image_that_cannot_be_decoded_is_a_gap(tmp_path):
    paths = write_png_sequence(tmp_path / "folder", FRAMES)
    paths[2].write_bytes(paths[2].read_bytes()[:60])
    with FrameSource(tmp_path / "folder", fps=10) as source:
        assert [source.frame(i) is None for i in range(5)] == [False, False, True, False, False]
        assert source.gaps == (Gap(pytest.approx(0.2), pytest.approx(0.3), "00002"),)
        with pytest.raises(VideoError, match="no frame can be decoded at 0.25 s"):
            source.number_at(0.25)


def test_masks_by_id_and_black_and_white_is_object_1(tmp_path):
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 1:3], mask[0] = 7, 254
    Image.fromarray(mask).save(tmp_path / "m.png")
    Image.fromarray(np.where(mask == 7, 255, 0).astype(np.uint8)).save(tmp_path / "w.png")
    found = first_masks(tmp_path / "m.png", (4, 6))
    assert list(found) == [7, 254] and np.array_equal(found[7], mask == 7)
    assert list(first_masks(tmp_path / "m.png", (4, 6), 254)) == [254]
    white = first_masks(tmp_path / "w.png", (4, 6))
    assert list(white) == [1] and np.array_equal(white[1], mask == 7)
    with pytest.raises(ValueError, match="the mask is 6x4 pixels, but the frames are 8x6"):
        first_masks(tmp_path / "m.png", (6, 8))


def test_mask_and_result_are_kept_apart_from_the_frames(tmp_path):
    frames, other = tmp_path / "frames", tmp_path / "other"
    frames.mkdir(), other.mkdir()
    keep_apart(frames, other / "mask.png", other)
    keep_apart(frames, other / "mask.png", frames / "result")  # folders in a folder of frames are none of them
    keep_apart(tmp_path / "film.mp4", tmp_path / "mask.png", tmp_path)
    with pytest.raises(ValueError, match="the mask lies among the frames of .*; put it elsewhere"):
        keep_apart(frames, frames / "mask.png", other)
    with pytest.raises(ValueError, match="would be written among the frames; name another folder"):
        keep_apart(frames, other / "mask.png", other / ".." / "frames")
