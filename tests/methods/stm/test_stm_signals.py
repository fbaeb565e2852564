import numpy as np
import pytest
import torch
from colours import BLUE, GREEN, RED, YELLOW, ColourNetwork, film, square

from vitascope.datasets.worlds.objects import ObjectsWorld
from vitascope.methods.stm.memory import POLICIES, Bank, remember
from vitascope.methods.stm.signals import alike, appearance, cut_score, given_tokens, match, place, thumbnail
from vitascope.methods.stm.states import Thresholds

NETWORK = ColourNetwork()
T = Thresholds()


def frame_of(film_frame):
    return film_frame[None] / 255


def bank_of(*frames) -> Bank:
    """Frames with their masks, all given."""
    bank = Bank()
    for number, (frame, mask) in enumerate(frames):
        query = NETWORK.encode_query(frame_of(frame))
        keys, values = NETWORK.encode_memory(frame_of(frame), mask[None, None].float(), None, query)
        remember(bank, POLICIES["default"], number, "given", keys[0], values[0], values[0, 0])
    return bank


def test_a_frame_that_shows_the_given_object_matches_fully_wherever_it_is():
    given = given_tokens(bank_of((film(((1, 1), RED)), square(1, 1))))
    assert [keys.shape for keys in given.own] == [(3, 4)] and given.others.shape == (3, 44)
    best, margin = match(NETWORK, given, NETWORK.encode_query(frame_of(film(((3, 4), RED)))).key)
    assert best == pytest.approx(0, abs=1e-3) and margin > 0


def test_match_and_margin_equal_slow_loops():
    """Of squared distances, as the network's similarity is `-scale / 2 * distance^2` but for what all tokens share."""
    given = given_tokens(bank_of((film(((1, 1), RED)), square(1, 1)), (film(((2, 3), YELLOW)), square(2, 3))))
    query = NETWORK.encode_query(frame_of(film(((0, 2), (200, 120, 60)), ground=BLUE))).key
    tokens = query[0].flatten(1).T.double().numpy()

    def similarity(key, token):
        return -NETWORK.scale / 2 * ((key - token) ** 2).sum()

    def best_of(keys):
        return np.mean([max(similarity(key, token) for token in tokens) for key in keys.T.double().numpy()])

    expected = max(best_of(keys) for keys in given.own)
    own = np.concatenate([keys.T.double().numpy() for keys in given.own])
    others = given.others.T.double().numpy()
    margins = [max(similarity(k, token) for k in own) - max(similarity(k, token) for k in others) for token in tokens]
    best, margin = match(NETWORK, given, query)
    assert best == pytest.approx(expected, rel=1e-3) and margin == pytest.approx(max(margins), rel=1e-3, abs=1e-2)


def test_a_frame_of_other_things_has_no_margin():
    given = given_tokens(bank_of((film(((1, 1), RED)), square(1, 1))))
    best, margin = match(NETWORK, given, NETWORK.encode_query(frame_of(film(((3, 4), (100, 110, 90))))).key)
    assert best < -1 and margin < 0


def test_an_object_smaller_than_a_token_has_one():
    mask = torch.zeros(96, 128, dtype=torch.bool)
    mask[20:24, 20:24] = True
    bank = bank_of((film(((1, 1), RED)), mask))
    assert [keys.shape for keys in given_tokens(bank).own] == [(3, 1)]


def test_a_frame_given_without_the_object_gives_no_tokens_of_it():
    given = given_tokens(bank_of((film(((1, 1), RED)), square(1, 1)), (film(), torch.zeros(96, 128, dtype=torch.bool))))
    assert len(given.own) == 1 and given.others.shape == (3, 44 + 48)


def look_of(frame, mask):
    return appearance(frame_of(frame), (frame_of(frame),), mask.float())


def test_the_same_thing_elsewhere_looks_alike_and_another_does_not():
    given = look_of(film(((1, 1), RED)), square(1, 1))
    assert alike([given], look_of(film(((3, 4), RED)), square(3, 4))) == pytest.approx((1, 1), abs=1e-3)
    colours, likeness = alike([given], look_of(film(((3, 4), GREEN)), square(3, 4)))
    assert colours == 0 and likeness < 0.5
    both = [given, look_of(film(((1, 1), GREEN)), square(1, 1))]
    assert alike(both, look_of(film(((3, 4), GREEN)), square(3, 4))) == pytest.approx((1, 1), abs=1e-3)


def test_colours_are_those_under_the_mask():
    found = look_of(film(((1, 1), RED)), square(1, 1))
    assert found.colours.sum() == pytest.approx(1) and found.colours.max() == pytest.approx(1)
    half = square(1, 1) | square(1, 3)
    assert look_of(film(((1, 1), RED)), half).colours.max() == pytest.approx(0.5, abs=0.01)


def test_place_gives_area_centre_and_certainty():
    probabilities = torch.full((96, 128), 0.25)
    probabilities[square(1, 1)] = 0.75
    area, centre, certainty = place(square(1, 1), probabilities)
    assert area == 1024 / (96 * 128) and centre == pytest.approx((32 / 96, 32 / 128)) and certainty == 0.75
    assert place(torch.zeros(96, 128, dtype=torch.bool), probabilities) == (0.0, (0.5, 0.5), 0.0)


def test_cuts_of_the_objects_world_are_found_and_motion_is_none():
    """Of the frames that the world says belong to another shot at least nine in ten; of the others hardly any."""
    hits = misses = false = steps = 0
    for video in ObjectsWorld(num_videos=4, seed=3, size=64, num_frames=84, fps=8.0):
        edges, motion = {round(cut.time_seconds * video.fps) for cut in video.cuts}, 0.0
        pictures = [thumbnail(torch.from_numpy(frame)) for frame in video.frames]
        for t in range(1, len(pictures)):
            score, motion = cut_score(pictures[t - 1], pictures[t], motion, T)
            hits += score > 1 and t in edges
            misses += score <= 1 and t in edges
            false += score > 1 and t not in edges
            steps += t not in edges
    assert hits >= 0.9 * (hits + misses) and hits + misses >= 6
    assert false <= 0.02 * steps, (false, steps)


def test_a_change_of_exposure_is_no_cut():
    before = film(((1, 1), RED))
    after = (before.float() * 0.6).to(torch.uint8)
    assert cut_score(thumbnail(before), thumbnail(after), 0.0, T)[0] <= 1
