"""Which frames are worth a look: the unsure ones and the returns, spread over the video, however long it is."""

import numpy as np

from vitascope.engine.review import MOST_CHECKS, Review


def event(frame: int, state: str = "visible", confidence: float = 1.0, o: int = 1) -> dict:
    return {"frame": frame, "seconds": frame / 25, "object": o, "state": state, "confidence": confidence, "scores": {}}


def test_a_return_comes_first_then_the_least_sure():
    review = Review(40.0)
    for i in range(1000):
        state = "absent" if 300 <= i < 500 else "visible"
        review.add([event(i, state, 0.4 if i == 800 else 0.9)])
    first, second, *rest = review.checks()
    assert (first["frame"], first["why"]) == (500, "came back")
    assert (second["frame"], second["why"]) == (800, "low confidence")
    assert len(rest) == MOST_CHECKS - 2


def test_frames_to_check_are_spread_over_the_video():
    review = Review(400.0)
    for i in range(10_000):
        review.add([event(i, confidence=0.1 if i < 500 else 0.5)])  # the worst are all at the beginning
    seconds = np.sort([check["seconds"] for check in review.checks()])
    assert len(seconds) == MOST_CHECKS and seconds[0] < 20 and seconds[-1] > 350 and np.diff(seconds).min() > 10


def test_a_short_video_has_as_many_frames_to_check_as_it_has_frames():
    review = Review(0.12)
    for i in range(3):
        review.add([event(i), event(i, "absent", 0.5, o=2)])
    assert sorted(check["frame"] for check in review.checks()) == [0, 1, 2]
    assert Review(0.0).checks() == []


def test_stretches_follow_each_other_without_a_gap():
    review = Review(0.4)
    for i, state in enumerate(["visible", "occluded", "occluded", "absent", "visible", "visible"]):
        review.add([event(i, state)])
    told = review.stretches(0.24)
    assert [s["state"] for s in told] == ["visible", "occluded", "absent", "visible"]
    assert [s["end_seconds"] for s in told[:-1]] == [s["start_seconds"] for s in told[1:]]
    assert (told[1]["first_frame"], told[1]["last_frame"], told[-1]["end_seconds"]) == (1, 2, 0.24)
    assert review.objects() == [{"object": 1, "frames": {"visible": 3, "occluded": 2, "absent": 1}, "confidence": 1.0}]
