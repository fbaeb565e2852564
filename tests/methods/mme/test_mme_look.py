"""One clip of a video as a motion recipe sees it, near the end and past it."""

import numpy as np
import pytest

from vitascope.methods.mme.look import motion_at
from vitascope.methods.mme.method import MME
from vitascope.structures import VideoError
from vitascope.video.writer import VideoWriter

COVERED = 32  # frames of the video that a clip of mme-tiny spans: 8, 4 apart


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    """2 s of 25 frames, each of a grey of its own."""
    path = tmp_path_factory.mktemp("look") / "a.mp4"
    with VideoWriter(path, 25) as writer:
        writer.write(np.repeat(np.arange(4, 204, 4, dtype=np.uint8), 3 * 80 * 96).reshape(50, 3, 80, 96))
    return str(path)


def shown(video: str, seconds: float):
    figure, _ = motion_at(MME(MME.recipes["mme-tiny"]()), video, seconds, is_trained=False)
    return figure, dict(figure.rows)["input"].mean((1, 2, 3)) / 4 - 1  # numbers of the frames


def test_a_clip_starts_at_the_time_and_its_frames_are_apart(video):
    for first in (0, 7, 50 - COVERED):
        figure, numbers = shown(video, first / 25)
        np.testing.assert_allclose(numbers, first + 4 * np.arange(8), atol=0.7)
        assert "ends after" not in figure.caption


def test_a_clip_that_the_video_ends_in_says_that_a_frame_is_repeated(video):
    figure, numbers = shown(video, 40 / 25)
    np.testing.assert_allclose(numbers, [40, 44, *[48] * 6], atol=0.7)
    assert figure.caption.endswith(
        "The video ends after 10 of the 32 frames that the clip spans; its last one is repeated."
    )
    assert "ends after 31 of the 32" in shown(video, 19 / 25)[0].caption


def test_a_time_past_the_end_is_an_error_that_names_it_and_the_limit(video):
    for seconds in (2.0, 9.0):
        with pytest.raises(VideoError, match=f"out_of_range: {seconds:g} s was asked for; .* shown from 0 to 2 s"):
            shown(video, seconds)
