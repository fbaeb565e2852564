"""Tags that the curves speak against."""

from types import SimpleNamespace

import numpy as np
import pytest

from vitascope.engine.noise import noisy_tags, silent_classes
from vitascope.structures import NOTHING, Localized, Segments

CONFIG = SimpleNamespace(high=0.3)
CLASSES = ("jump", "run", "sit")


def found(curves, labels=(), confident=None):
    """A video of three snippets of a second, with curves `[3, 3]` by branch."""
    times = np.arange(3.0)[:, None] + [0.0, 1.0]
    segments = Segments(np.tile([0.0, 1.0], (len(labels), 1)), labels, np.ones(len(labels)))
    curves = {name: np.array(curve, np.float32) for name, curve in curves.items()}
    return Localized("a.mp4", 3.0, segments, times, CLASSES, curves, confident)


QUIET = [[0.1, 0.9, 0.0], [0.2, 0.1, 0.0], [0.1, 0.1, 0.0]]
LOUD = [[0.1, 0.9, 0.0], [0.8, 0.1, 0.0], [0.1, 0.1, 0.0]]


def test_a_tag_that_no_branch_ever_sees_is_suspicious_and_told_where_it_is_most_likely():
    (doubt,) = noisy_tags({"a": ("jump", "run")}, {"a": found({"CBP": QUIET})}, CONFIG)
    assert doubt[:4] == ("a", "jump", "suspicious", 1.5) and doubt.score == pytest.approx(0.2)


def test_a_tag_that_one_branch_sees_is_not_suspicious():
    both = {"CBP": QUIET, "VLP": LOUD}
    assert noisy_tags({"a": ("jump", "run")}, {"a": found(both)}, CONFIG) == []


def test_what_all_branches_see_and_is_not_tagged_is_missing():
    loud = {"CBP": LOUD, "VLP": LOUD}
    (doubt,) = noisy_tags({"a": ("run",)}, {"a": found(loud, ("jump", "run"))}, CONFIG)
    assert doubt[:4] == ("a", "jump", "missing", 1.5) and doubt.score == pytest.approx(0.8)


def test_what_is_seen_less_than_another_class_is_not_missing():
    faint = [[0.4, 0.9, 0.0]] * 3
    assert noisy_tags({"a": ("run",)}, {"a": found({"CBP": faint, "VLP": faint})}, CONFIG) == []


def test_nothing_is_a_tag_that_cannot_be_silent_and_what_is_seen_there_is_missing():
    one = found({"CBP": LOUD, "VLP": LOUD}, ())
    assert silent_classes({"a": (NOTHING,)}, {"a": one}) == []
    assert [doubt.kind for doubt in noisy_tags({"a": (NOTHING,)}, {"a": one}, CONFIG)][:1] == ["missing"]


def test_branches_that_see_it_at_different_times_or_not_both_miss_nothing():
    elsewhere = [LOUD[1], LOUD[0], LOUD[2]]
    for other in (elsewhere, QUIET):
        one = found({"CBP": LOUD, "VLP": other}, ("jump", "run"))
        assert noisy_tags({"a": ("run",)}, {"a": one}, CONFIG) == []


def test_videos_without_tags_and_without_curves_are_left_out():
    assert noisy_tags({"a": (), "b": ("jump",)}, {"a": found({"CBP": LOUD}, ("jump",))}, CONFIG) == []


def test_the_clearest_come_first_missing_before_suspicious():
    videos = {name: found({"CBP": QUIET}) for name in ("a", "b")}
    videos["b"].curves["CBP"][:, 0] = 0.05
    videos["c"] = found({"CBP": LOUD}, ("jump",))
    tags = {"a": ("jump", "run"), "b": ("jump", "run"), "c": ("run",)}
    doubts = noisy_tags(tags, videos, CONFIG)
    assert [(doubt.video, doubt.kind) for doubt in doubts] == [
        ("c", "missing"),
        ("b", "suspicious"),
        ("a", "suspicious"),
    ]


def test_a_class_is_silent_if_no_video_tagged_with_it_has_a_confident_snippet_of_it():
    confident = np.full((3, 3), -1, np.int8)
    confident[0, 1] = 1
    confident[1, 2] = 1  # in a video that is not tagged with it
    videos = {"a": found({"CBP": QUIET}, confident=confident), "b": found({"CBP": QUIET})}
    tags = {"a": ("jump", "run"), "b": ("sit",), "unread": ("swim",)}
    assert silent_classes(tags, videos) == ["jump", "sit"]
