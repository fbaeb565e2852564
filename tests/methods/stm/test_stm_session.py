"""The session on films whose truth is known, with a network that tells objects by colour (`colours.py`)."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from colours import BLUE, GREEN, RED, YELLOW, ColourNetwork, film, square

from vitascope.methods.stm.light import LightSTM
from vitascope.methods.stm.memory import POLICIES
from vitascope.methods.stm.session import VideoObjectSession

START = film(((1, 1), RED))


def started(policy="default", **options) -> VideoObjectSession:
    session = VideoObjectSession(ColourNetwork(), policy, **options)
    session.add_object(START, square(1, 1), 7)
    return session


def run(session, *frames) -> list:
    """State of the first object and its mask after each frame."""
    found = []
    for frame in frames:
        masks = session.step(frame).masks
        found.append((session.status[0].state, masks[0] == session.status[0].object_id))
    return found


def remembered(session, object_id=7) -> list[int]:
    return sorted(session._objects[object_id].bank.frames)


def small_motion(count):
    return [film(((1, 1 + t % 2), RED)) for t in range(count)]


# ----------------------------------------------------------------------------------------------- masks that are right


@pytest.mark.parametrize("policy", ["paper", "first_previous", "bounded", "default"])
def test_an_object_is_followed_wherever_it_goes(policy):
    session = started(policy)
    for row, column in [(1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (3, 4)]:
        masks = session.step(film(((row, column), RED)), seconds=0.25)
        assert (masks.masks[0] == 7 * square(row, column).numpy()).all()
        assert masks.masks.dtype == np.uint8 and masks.masks.shape == (1, 96, 128) and masks.times_seconds == [0.25]
        assert session.status[0].state == "visible" and session.status[0].confidence > 0.9
        assert session.status[0].area == pytest.approx(1024 / (96 * 128))


def test_several_objects_of_any_ids_keep_their_ids():
    session = VideoObjectSession(ColourNetwork())
    frame = film(((0, 0), RED), ((3, 5), GREEN))
    session.add_object(frame, square(0, 0), 254)
    session.add_object(frame, square(3, 5).numpy().astype(np.uint8), 1)
    masks = session.step(film(((1, 0), RED), ((3, 4), GREEN))).masks[0]
    assert (masks == 254 * square(1, 0).numpy() + square(3, 4).numpy()).all()
    assert session.object_ids == (254, 1)


def test_an_object_that_comes_later_takes_what_its_mask_covers():
    session = started()
    run(session, START, START)
    session.add_object(START, square(1, 2), 9)  # half of the red square is said to be another object's
    assert session.frame_index == 2
    p = session._now.probabilities
    assert p[2][square(1, 2)].min() == 1 and p[1][square(1, 2)].max() == 0
    assert p.sum(0) == pytest.approx(torch.ones(96, 128))


def test_an_object_given_later_is_followed_from_there():
    session = started()
    frame = film(((1, 1), RED), ((3, 5), BLUE))
    run(session, START, frame)
    session.add_object(frame, square(3, 5), 2)
    masks = session.step(film(((1, 1), RED), ((3, 4), BLUE))).masks[0]
    assert (masks == 7 * square(1, 1).numpy() + 2 * square(3, 4).numpy()).all()


def test_an_object_that_is_removed_shows_no_more_and_its_id_is_free():
    session = started()
    run(session, START)
    session.remove(7)
    assert session.status == () and not session.step(START).masks.any()
    session.add_object(START, square(1, 1), 7)
    assert (session.step(START).masks[0] == 7 * square(1, 1).numpy()).all()


@pytest.mark.parametrize("short_side, size", [(48, (96, 128)), (96, (101, 135)), (192, (96, 128)), (None, (97, 131))])
def test_masks_have_the_frames_own_size_whatever_the_network_works_at(short_side, size):
    frame = film(((2, 2), RED), height=size[0], width=size[1])
    mask = square(2, 2, *size)
    session = VideoObjectSession(ColourNetwork(), short_side=short_side)
    session.add_object(frame, mask, 3)
    found = session.step(frame).masks[0]
    assert found.shape == size
    overlap = ((found == 3) & mask.numpy()).sum() / ((found == 3) | mask.numpy()).sum()
    assert overlap > 0.4, "tokens are coarse here, but the object is where it is"


# --------------------------------------------------------------------------------------------- memory as it is written


def test_paper_gives_what_the_public_calls_of_the_network_give():
    """Memorise t - 1 with soft probabilities, then segment t; the last frame is never memorised (spec 1.1 and 1.8)."""
    torch.manual_seed(0)
    network = LightSTM().eval()
    frames = torch.randint(0, 256, (8, 3, 40, 56), dtype=torch.uint8)
    masks = [torch.zeros(40, 56, dtype=torch.bool) for _ in range(2)]
    masks[0][5:20, 5:25], masks[1][22:36, 30:50] = True, True
    session = VideoObjectSession(network, "paper", memory_every=3)
    for number, mask in enumerate(masks, 1):
        session.add_object(frames[0], mask, number)
    p = torch.stack([~(masks[0] | masks[1]), *masks])[None].float()
    kept_keys, kept_values = [], []
    for t in range(1, len(frames)):
        keys, values = network.memorize(frames[t - 1][None] / 255, p, num_objects=2)
        all_keys, all_values = torch.stack([*kept_keys, keys], 2), torch.stack([*kept_values, values], 2)
        if (t - 1) % 3 == 0:
            kept_keys.append(keys), kept_values.append(values)
        p = network.segment(frames[t][None] / 255, all_keys, all_values, num_channels=3).softmax(1)
        found = session.step(frames[t]).masks[0]
        assert torch.allclose(session._now.probabilities, p[0], atol=1e-4)
        assert (found != p[0].argmax(0).numpy()).mean() < 1e-3
        assert max(remembered(session, 1)) == t - 1


def test_a_frame_is_encoded_once_for_segmenting_and_remembering_it():
    class Counting(ColourNetwork):
        queries = 0

        def encode_query(self, frames):
            self.queries += 1
            return super().encode_query(frames)

    network = Counting()
    session = VideoObjectSession(network, "paper")
    session.add_object(START, square(1, 1), 7)
    run(session, *small_motion(6))
    assert network.queries == 7


def test_bounded_is_the_paper_s_while_nothing_must_go_and_default_leaves_out_the_previous_frame():
    frames = [START] * 45
    masks = {}
    for policy in ("paper", "bounded", "default"):
        session = started(policy)
        masks[policy] = [mask for _, mask in run(session, *frames)]
        assert remembered(session) == [*range(0, 45, 5), *[44] * (policy != "default")]
    assert np.array_equal(masks["paper"], masks["bounded"]) and np.array_equal(masks["paper"], masks["default"])


def test_a_frame_in_which_the_object_has_moved_is_kept_at_once():
    session = started(memory_every=100)
    run(session, *[START] * 4, film(((1, 2), RED)), *[film(((1, 2), RED))] * 4)
    assert remembered(session) == [0, 5]


def test_memory_is_constant_under_the_bounded_policies():
    for policy in ("bounded", "default", "first_previous"):
        session = started(policy)
        run(session, *small_motion(10))
        before = session._objects[7].bank.num_bytes
        run(session, *small_motion(120))
        assert session._objects[7].bank.num_bytes == before


# ------------------------------------------------------------------------------------- cuts, absence, occlusion, return


def test_an_object_that_leaves_is_absent_and_comes_back():
    session = started()
    before = run(session, *small_motion(7))
    gone = run(session, *[film()] * 30)
    assert [state for state, _ in before] == ["visible"] * 7
    assert not any(mask.any() for _, mask in gone) and gone[-1][0] == "absent"
    back = run(session, *[film(((3, 4), RED))] * (session._setup.thresholds.probe_frames + 1))
    assert back[-1][0] == "visible" and (back[-1][1] == square(3, 4).numpy()).all()


def test_nothing_is_remembered_while_the_object_is_away():
    session = started()
    run(session, *small_motion(5))
    network = session._setup.network
    run(session, film())  # frame 5 was still visible, and is remembered before frame 6 is segmented
    count = network.memorised
    run(session, *[film()] * 40)
    assert remembered(session) == [0, 2, 3, 4, 5] and network.memorised == count


def test_an_absent_object_costs_no_decoding():
    session = started()
    run(session, *small_motion(3), *[film()] * 10)
    network = session._setup.network
    count = network.decoded
    run(session, *[film()] * 40)
    assert abs(network.decoded - count - 40 / session._setup.thresholds.probe_frames) < 1


def test_after_a_cut_to_a_place_without_the_object_nothing_is_shown_or_remembered():
    """The place holds a thing of a colour that is nearer to the object's than to anything else in memory."""
    session = started()
    run(session, *small_motion(7))
    elsewhere = film(((2, 3), YELLOW), ground=BLUE)
    found = run(session, *[elsewhere] * 12)
    assert session.status[0].scores["cut"] == 0
    states = [state for state, _ in found]
    assert states[:3] == ["searching"] * 3 and states[-1] == "absent" and set(states) == {"searching", "absent"}
    assert not any(mask.any() for _, mask in found)
    assert max(remembered(session)) <= 7
    assert run_paper_shows_it(elsewhere), "the test tells nothing if the network is not misled"
    back = run(session, *small_motion(2))
    assert [state for state, _ in back] == ["visible"] * 2 and all(mask.any() for _, mask in back)


def run_paper_shows_it(elsewhere) -> bool:
    session = started("paper")
    run(session, *small_motion(7))
    return all(mask.any() for _, mask in run(session, *[elsewhere] * 5))


def test_through_a_cut_to_a_place_with_the_object_it_is_found_at_once():
    session = started()
    run(session, *small_motion(6))
    found = run(session, *[film(((3, 4), RED), ground=GREEN)] * 3)
    assert [state for state, _ in found] == ["visible"] * 3
    assert all((mask == square(3, 4).numpy()).all() for _, mask in found)


def test_at_a_cut_the_previous_frame_is_forgotten_and_the_kept_ones_stay(monkeypatch):
    monkeypatch.setitem(POLICIES, "default", replace(POLICIES["default"], has_previous=True))
    session = started()
    run(session, *[START] * 8)
    assert remembered(session) == [0, 5, 7]
    run(session, film(((2, 3), YELLOW), ground=BLUE))
    assert remembered(session) == [0, 5]


def test_an_object_hidden_for_a_moment_is_occluded_and_found_again():
    session = started()
    run(session, *small_motion(6))
    found = run(session, film(), film(), *[START] * 3)
    assert [state for state, _ in found] == ["occluded", "occluded", "visible", "visible", "visible"]
    assert found[2][1].any()


def test_each_object_has_its_own_state():
    session = VideoObjectSession(ColourNetwork())
    both = film(((0, 0), RED), ((3, 5), GREEN))
    session.add_object(both, square(0, 0), 1)
    session.add_object(both, square(3, 5), 2)
    for _ in range(6):
        session.step(both)
    for _ in range(6):
        masks = session.step(film(((0, 0), RED))).masks
    assert {status.object_id: status.state for status in session.status} == {1: "visible", 2: "absent"}
    assert set(np.unique(masks)) == {0, 1}
    assert 2 not in remembered(session, 2)[-1:] and max(remembered(session, 1)) >= 10


def test_the_confidence_of_an_absence_falls_when_something_like_the_object_is_there():
    session = started()
    run(session, *small_motion(5), *[film()] * 8)
    sure = session.status[0].confidence
    run(session, *[film(((2, 3), (230, 110, 110)))] * 4)
    assert session.status[0].state == "absent"
    assert session.status[0].confidence < sure


# ------------------------------------------------------------------------------------------------------- corrections


def test_a_corrected_frame_is_never_overwritten():
    session = started()
    run(session, *small_motion(3))
    other = film(((3, 4), BLUE))
    session.step(other)
    session.correct(session.frame_index, square(3, 4), 7)  # from here on the object is blue
    assert session.status[0].state == "visible"
    found = run(session, *[other] * 120)
    assert all((mask == square(3, 4).numpy()).all() for _, mask in found)
    bank = session._objects[7].bank
    assert sorted(f for f, kind in zip(bank.frames, bank.kinds) if kind == "given") == [0, 4]


def test_an_earlier_frame_is_corrected_with_its_pixels():
    session = started()
    run(session, *small_motion(3))
    other = film(((3, 4), BLUE))
    with pytest.raises(ValueError, match="frame 1 is not held any more, only 3 is; pass its pixels as frame="):
        session.correct(1, square(3, 4), 7)
    session.correct(1, square(3, 4), 7, frame=other)
    assert (session.step(other).masks[0] == 7 * square(3, 4).numpy()).all()


def test_an_empty_correction_says_that_the_object_is_not_there():
    session = started()
    run(session, *small_motion(3))
    session.correct(3, torch.zeros(96, 128), 7)
    assert session.status[0].state == "absent"
    run(session, *small_motion(1))
    bank = session._objects[7].bank
    assert [f for f, kind in zip(bank.frames, bank.kinds) if kind == "given"] == [0, 3]


# ------------------------------------------------------------------------------------------------- frames left out


def test_with_a_stride_frames_are_filled_in_and_each_comes_once():
    session = started(frame_stride=3)
    frames = [film(((1, 1), RED)) for _ in range(10)]
    times, counts = [], []
    for t, frame in enumerate(frames):
        masks = session.step(frame, seconds=t / 10)
        times += masks.times_seconds.tolist()
        counts.append(len(masks.masks))
        assert {status.seconds for status in session.status} == set(masks.times_seconds.tolist())
        assert all((one == 7 * square(1, 1).numpy()).all() for one in masks.masks)
    assert counts == [0, 0, 3, 0, 0, 3, 0, 0, 3, 0]
    last = session.finish()
    assert len(last.masks) == 1 and len(session.finish().masks) == 0
    assert [*times, *last.times_seconds] == pytest.approx([t / 10 for t in range(10)])
    assert session._setup.network.decoded == 4


def test_with_a_stride_a_moving_object_is_filled_in_on_its_way():
    wide = 256
    frames = [film(((1, 1), RED), width=wide)]
    for x in range(1, 9):
        frame = film(width=wide)
        frame[:, 16:48, 16 + 4 * x : 48 + 4 * x] = torch.tensor(RED, dtype=torch.uint8)[:, None, None]
        frames.append(frame)
    session = VideoObjectSession(ColourNetwork(), frame_stride=4)
    session.add_object(frames[0], square(1, 1, width=wide), 7)
    found = np.concatenate([session.step(frame).masks for frame in frames[1:]])
    centres = [np.nonzero(one == 7)[1].mean() for one in found]
    assert len(found) == 8 and (np.diff(centres) > 0).all(), centres


def test_a_cut_between_segmented_frames_is_not_filled_over():
    """Just as with no stride: each frame of that stretch is segmented."""
    before, after = START, film(((2, 3), YELLOW), ground=BLUE)
    frames = [before] * 7 + [after] * 5
    strided, every = started(frame_stride=3), started()
    masks = np.concatenate([*(strided.step(frame).masks for frame in frames), strided.finish().masks])
    assert np.array_equal(masks, np.concatenate([every.step(frame).masks for frame in frames]))
    assert masks[:7].any((1, 2)).all() and not masks[7:].any()


def test_frames_that_are_held_back_must_be_asked_for_before_objects_change():
    session = started(frame_stride=4)
    session.step(START), session.step(START)
    changes = (lambda: session.add_object(START, square(4, 5), 2), lambda: session.remove(7))
    for change in (*changes, lambda: session.correct(0, square(1, 1), 7, frame=START)):
        with pytest.raises(ValueError, match=r"2 frames are held back; call finish\(\) for their masks, then"):
            change()
    assert len(session.finish().masks) == 2 and len(session.status) == 2
    session.add_object(START, square(4, 5), 2)
    assert session.frame_index == 2


# ------------------------------------------------------------------------------------------------------------ resuming


@pytest.mark.parametrize("policy, stride", [("default", 1), ("paper", 1), ("bounded", 1), ("default", 3)])
def test_a_session_that_goes_on_from_its_state_gives_the_same_masks_bit_for_bit(policy, stride):
    torch.manual_seed(0)
    network = LightSTM().eval()
    frames = torch.randint(0, 256, (24, 3, 48, 64), dtype=torch.uint8)
    mask = torch.zeros(48, 64, dtype=torch.bool)
    mask[10:30, 10:40] = True
    whole = VideoObjectSession(network, policy, frame_stride=stride)
    whole.add_object(frames[0], mask, 5)
    for frame in frames[1:10]:
        whole.step(frame)
    tensors, plain = whole.state()
    plain = json.loads(json.dumps(plain))
    resumed = VideoObjectSession(network, policy, frame_stride=stride)
    expected = [whole.step(frame) for frame in frames[10:]]
    resumed.load_state(tensors, plain)
    for frame, masks in zip(frames[10:], expected):
        again = resumed.step(frame)
        assert np.array_equal(again.masks, masks.masks) and np.array_equal(again.times_seconds, masks.times_seconds)
    assert torch.equal(whole._now.probabilities, resumed._now.probabilities)
    assert whole.status == resumed.status and whole.frame_index == resumed.frame_index


def test_a_state_right_after_the_first_mask_can_be_gone_on_from():
    session = started()
    resumed = VideoObjectSession(ColourNetwork())
    resumed.load_state(*session.state())
    for frame in small_motion(3):
        assert np.array_equal(session.step(frame).masks, resumed.step(frame).masks)


# -------------------------------------------------------------------------------------------------------- wrong input


def test_wrong_input_is_told_in_one_sentence():
    session = VideoObjectSession(ColourNetwork())
    with pytest.raises(ValueError, match="there is nothing to follow; call add_object with the first frame and a mask"):
        session.step(START)
    with pytest.raises(ValueError, match=r"frame \(torch.float32 \[3, 96, 128\]\) must be a uint8 tensor \[3, H, W\]"):
        session.add_object(START.float(), square(1, 1), 1)
    with pytest.raises(ValueError, match="mask is 100 x 50 pixels and the frame 128 x 96"):
        session.add_object(START, torch.ones(50, 100, dtype=torch.bool), 1)
    with pytest.raises(ValueError, match="mask of object 1 is empty"):
        session.add_object(START, torch.zeros(96, 128), 1)
    with pytest.raises(ValueError, match="mask holds 3; it must be bool, or 0 and 1"):
        session.add_object(START, 3 * square(1, 1).int(), 1)
    for wrong in (0, 255, -1):
        with pytest.raises(ValueError, match=rf"object_id \({wrong}\) must be between 1 and 254"):
            session.add_object(START, square(1, 1), wrong)
    session.add_object(START, square(1, 1), 7)
    with pytest.raises(ValueError, match=r"object_id \(7\) is there already; remove it first, or correct it"):
        session.add_object(START, square(1, 1), 7)
    with pytest.raises(ValueError, match="frame is not the current one, frame 0; step to it first"):
        session.add_object(film(), square(1, 1), 8)
    with pytest.raises(ValueError, match="frame is 64 x 48 pixels and those before were 128 x 96"):
        session.step(film(height=48, width=64))
    with pytest.raises(ValueError, match=r"object_id \(4\) must be one of those followed: \[7\]"):
        session.remove(4)
    with pytest.raises(ValueError, match=r"frame_index \(9\) must be between 0 and 0, the latest frame"):
        session.correct(9, square(1, 1), 7)
    assert (session.step(START).masks[0] == 7 * square(1, 1).numpy()).all(), "wrong calls changed something"


def test_wrong_parameters_are_told_in_one_sentence():
    with pytest.raises(ValueError, match=r"policy \(all\) must be one of paper, first_previous, bounded, default"):
        VideoObjectSession(ColourNetwork(), "all")
    for name in ("short_side", "memory_every", "frame_stride"):
        with pytest.raises(ValueError, match=rf"{name} \(0\) must be > 0"):
            VideoObjectSession(ColourNetwork(), **{name: 0})
    with pytest.raises(ValueError, match="network is in training mode"):
        VideoObjectSession(LightSTM().train())
