"""Which frames are worth a look: the unsure ones and the returns, spread over the video, however long it is."""

import numpy as np

from vitascope.engine.review import MOST_CHECKS, MOST_RETURNS, Review
from vitascope.structures import Gap


def event(frame: int, state: str = "visible", confidence: float = 1.0, o: int = 1) -> dict:
    return {"frame": frame, "seconds": frame / 25, "object": o, "state": state, "confidence": confidence, "scores": {}}


def test_returns_and_the_least_sure_are_told_in_order_of_time():
    review = Review(40.0)
    for i in range(1000):
        state = "absent" if 300 <= i < 500 else "visible"
        review.add([event(i, state, 0.4 if i == 800 else 0.9)])
    checks = review.checks()
    why = {check["frame"]: check["why"] for check in checks}
    assert (why[500], why[800]) == ("came back", "least sure here") and len(checks) == MOST_CHECKS
    assert [check["frame"] for check in checks] == sorted(why)


def test_many_returns_leave_room_for_frames_that_are_unsure():
    review = Review(40.0)
    for i in range(1000):
        review.add([event(i, "absent" if i % 50 < 10 else "visible", 0.3 if i == 733 else 0.95)])
    checks = review.checks()
    assert sum(check["why"] == "came back" for check in checks) == MOST_RETURNS
    assert 733 in {check["frame"] for check in checks}


def test_nothing_is_said_of_a_gap():
    review = Review(4.0, (Gap(0.2, 2.0), Gap(2.2, 4.0)))
    for i in (0, 1, 2, 3, 4, 50, 51, 52, 53, 54):
        review.add([event(i)])
    told = review.stretches(4.0)
    assert [(s["start_seconds"], s["end_seconds"]) for s in told] == [(0.0, 0.2), (2.0, 2.2)]
    assert [(s["first_frame"], s["last_frame"]) for s in told] == [(0, 4), (50, 54)]


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
