import json
import math
from dataclasses import replace

import pytest

from vitascope.methods.stm.states import (
    Signals,
    Thresholds,
    Track,
    accept,
    advance,
    belief,
    confidence,
    has_moved,
    is_remembered,
    is_steady,
    shown_state,
    z_score,
)

T = Thresholds(
    certainty_weight=20, colours_weight=6, likeness_weight=4, belief_bias=-23, enter=0.5, keep=0.2, show=0.05
)
GOOD = Signals(area=0.1, certainty=0.95, colours=0.8, likeness=0.8, match=-10.0)
WEAK = Signals(area=0.02, certainty=0.8, colours=0.55, likeness=0.55, match=-12.0)  # between `show` and `keep`
BETWEEN = Signals(area=0.1, certainty=0.84, colours=0.6, likeness=0.6, match=-10.0)  # between `keep` and `enter`
BAD = Signals(area=0.1, certainty=0.7, colours=0.3, likeness=0.3, match=-40.0)
GONE = Signals(match=-40.0)
CUT = 3.0


def changed(signals: Signals, **values) -> Signals:
    return Signals(**{**{name: getattr(signals, name) for name in signals.__slots__}, **values})


def known(state="visible", is_shown=True) -> Track:
    """An object that was visible for a while, its match about -10."""
    track = Track(state, is_shown=is_shown)
    for step in range(20):
        track = accept(track, changed(GOOD, match=-10.0 + 0.1 * (step % 3 - 1)))
    return track


def states(track: Track, *signals: Signals) -> list[str]:
    found = []
    for one in signals:
        track = advance(track, one, T)
        found.append(track.state)
    return found


def test_the_examples_are_on_the_sides_of_the_lines_that_their_names_say():
    assert belief(GOOD, T) > 0.9 > T.enter > T.keep > belief(WEAK, T) >= T.show > belief(BAD, T)
    assert belief(GONE, T) == 0 and belief(changed(GOOD, area=T.min_area / 2), T) == 0


def test_belief_is_the_logistic_of_its_four_weights():
    logit = 20 * 0.95 + 6 * 0.8 + 4 * 0.8 - 23
    assert belief(GOOD, T) == pytest.approx(1 / (1 + math.exp(-logit)))


def test_what_is_seen_as_ever_stays_visible():
    track = advance(known(), GOOD, T)
    assert track.state == "visible" and track.is_shown


def test_what_is_gone_is_occluded_then_absent_and_never_shown():
    assert states(known(), *[GONE] * 6) == ["occluded"] * (T.frames_to_absent - 1) + ["absent"] * 3
    track = known()
    for _ in range(6):
        track = advance(track, GONE, T)
        assert track.state != "visible" and not track.is_shown


def test_one_accepted_frame_shows_the_object_and_two_make_it_visible():
    track = advance(known("absent", is_shown=False), GOOD, T)
    assert track.state == "occluded" and track.is_shown
    assert advance(track, GOOD, T).state == "visible"


@pytest.mark.parametrize("state", ["absent", "searching"])
@pytest.mark.parametrize("signals", [WEAK, BAD, GONE])
def test_a_mask_that_is_not_accepted_is_not_shown_while_the_object_is_away(state, signals):
    track = known(state, is_shown=False)
    for _ in range(T.frames_to_absent - 1):
        track = advance(track, signals, T)
        assert track.state == state and not track.is_shown
    for _ in range(3):
        track = advance(track, signals, T)
        assert track.state == "absent" and not track.is_shown


def test_people_are_told_that_a_returning_object_is_seen_and_a_half_hidden_one_is_occluded():
    assert shown_state(advance(known("absent", is_shown=False), GOOD, T)) == "visible"
    assert shown_state(advance(known(), WEAK, T)) == "occluded"
    assert shown_state(advance(known("absent", is_shown=False), GONE, T)) == "absent"


def test_accepted_frames_with_another_between_do_not_count_as_two():
    elsewhere = changed(BAD, centre=(0.9, 0.9))
    assert states(known("absent", is_shown=False), GOOD, elsewhere, GOOD) == ["occluded"] * 3


def test_after_a_cut_the_object_is_searched_until_it_is_accepted_or_told_to_be_absent():
    assert states(known(), changed(GONE, cut=CUT), *[GONE] * 6) == ["searching"] * 3 + ["absent"] * 4
    assert states(known(), changed(GOOD, cut=CUT), GOOD) == ["occluded", "visible"]
    assert states(known(), changed(WEAK, cut=CUT), WEAK) == ["searching", "searching"]


def test_a_cut_does_not_make_an_absent_object_a_searched_one():
    assert states(known("absent", is_shown=False), changed(GONE, cut=CUT)) == ["absent"]


def test_a_visible_object_is_kept_with_less_belief_than_it_needs_to_come_back():
    assert T.keep < belief(BETWEEN, T) < T.enter
    assert advance(known(), BETWEEN, T).state == "visible"
    assert advance(known("absent", is_shown=False), BETWEEN, T).state == "absent"


def test_what_is_left_of_an_object_where_it_was_is_shown_and_not_remembered():
    track = known()
    for _ in range(10):
        track = advance(track, WEAK, T)
        assert track.state == "occluded" and track.is_shown
    assert not advance(known(), changed(WEAK, centre=(0.5, 1.2)), T).is_shown


def test_a_mask_that_jumps_is_remembered_only_when_it_is_accepted_twice():
    far = changed(GOOD, centre=(0.5, 1.2))
    assert states(known(), far, far) == ["occluded", "visible"]


def test_the_z_score_is_that_of_the_visible_frames():
    track = known()
    assert abs(z_score(track, -10.0, T)) < 0.5
    assert z_score(track, -13.0, T) < -4
    assert z_score(Track(), -13.0, T) == 0


def test_confidence_is_the_belief_in_the_mask_or_in_its_absence():
    assert confidence(advance(known(), GOOD, T)) == belief(GOOD, T)
    hidden = advance(known("absent", is_shown=False), WEAK, T)
    assert confidence(hidden) == 1 - belief(WEAK, T)
    assert confidence(advance(known("absent", is_shown=False), GONE, T)) == 1


def test_frames_are_filled_in_only_where_nothing_changed():
    track = advance(known(), GOOD, T)
    assert is_steady(track, advance(track, changed(GOOD, centre=(0.55, 0.5)), T), T)
    assert not is_steady(track, advance(track, GONE, T), T)
    assert not is_steady(track, advance(track, changed(GOOD, centre=(0.5, 0.8)), T), T)
    assert not is_steady(track, advance(track, BETWEEN, T), T)
    assert is_steady(known("absent", is_shown=False), known("searching", is_shown=False), T)
    assert not is_steady(known("absent", is_shown=False), track, T)


def test_only_masks_of_visible_objects_that_are_well_believed_are_remembered():
    assert is_remembered(advance(known(), GOOD, T), T)
    assert not is_remembered(advance(known(), BETWEEN, T), T)
    assert not is_remembered(advance(known("absent", is_shown=False), GOOD, T), T), "it was accepted once only"
    assert not is_remembered(advance(known(), GONE, T), T)


def test_an_object_has_moved_when_its_place_or_its_size_is_another_than_in_the_latest_kept_frame():
    track = replace(known(), kept_area=0.1, kept_centre=(0.5, 0.5))
    radius = math.sqrt(0.1 / math.pi)
    assert not has_moved(track, T)
    assert not has_moved(replace(track, centre=(0.5, 0.5 + 0.9 * T.moved * radius)), T)
    assert has_moved(replace(track, centre=(0.5, 0.5 + 1.1 * T.moved * radius)), T)
    assert has_moved(replace(track, kept_area=0.2), T)
    assert has_moved(replace(track, kept_area=0.0), T), "no frame was kept"


def test_a_track_goes_through_json_unchanged():
    assert Track.from_json(json.loads(json.dumps(known().to_json()))) == known()
