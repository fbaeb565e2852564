"""Clips spread over a record."""

import numpy as np
import pytest

from vitascope.structures import Record, VideoError
from vitascope.video.snippets import Snippets, snippet_at, spread_clips
from vitascope.video.writer import VideoWriter


@pytest.fixture(scope="module")
def counting(tmp_path_factory) -> str:
    """A video of 50 frames at 25 a second whose frame t is a grey of 4 * t."""
    path = tmp_path_factory.mktemp("video") / "counting.mp4"
    frames = np.broadcast_to((np.arange(50) * 4)[:, None, None, None], (50, 3, 48, 64)).astype(np.uint8)
    with VideoWriter(path, 25, crf=0) as writer:
        writer.write(frames)
    return str(path)


def numbers(clips):
    return (clips[:, :, 0, 12, 16].float() / 4).round().int().tolist()


def test_the_first_starts_at_the_beginning_and_the_last_ends_at_the_end(counting):
    clips = spread_clips(Record(counting), 4, 3, size=24, num_clips=3)
    assert clips.shape == (3, 4, 3, 24, 32)
    assert numbers(clips) == [[0, 3, 6, 9], [20, 23, 26, 29], [40, 43, 46, 49]]


def test_one_is_in_the_middle_of_its_stretch(counting):
    record = Record(counting, start_seconds=0.4, end_seconds=1.2)  # frames 10 to 29
    assert numbers(spread_clips(record, 4, 2)) == [[16, 18, 20, 22]]


def test_a_short_record_gives_one_clip_that_does_not_leave_it(counting):
    record = Record(counting, start_seconds=0.4, end_seconds=0.6)  # frames 10 to 14
    assert numbers(spread_clips(record, 4, 2, num_clips=5)) == [[10, 12, 14, 14]]


def test_a_stretch_without_frames_is_an_error(counting):
    with pytest.raises(VideoError, match="out_of_range"):
        spread_clips(Record(counting, start_seconds=9.0), 4, 2)


def test_a_stride_at_another_rate_spans_the_same_seconds(counting):
    assert numbers(spread_clips(Record(counting), 4, 3, fps=12.5)) == numbers(spread_clips(Record(counting), 4, 6))
    assert numbers(snippet_at(counting, 0.4, 4, 3, fps=12.5)[None]) == [[10, 16, 22, 28]]
    one, other = Snippets(Record(counting), 4, 3, fps=12.5), Snippets(Record(counting), 4, 6)
    assert one.window_seconds == other.window_seconds == pytest.approx(0.96)
    assert [numbers(clip[None]) for _, clip in one] == [numbers(clip[None]) for _, clip in other]
