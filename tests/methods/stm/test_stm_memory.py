import pytest
import torch

from vitascope.methods.stm.memory import POLICIES, Bank, Policy, kind_of, remember, room, victim
from vitascope.methods.stm.read import attend

TOKENS = (2, 3)


def memory(frame: int, width: int = 4, dtype=torch.float32):
    """Keys, values and coverage of a frame, its index in all of them."""
    generator = torch.Generator().manual_seed(frame)
    keys, values = (torch.randn(c, *TOKENS, generator=generator).to(dtype) for c in (width, 2 * width))
    return keys, values, torch.full(TOKENS, float(frame % 2))


def write(bank: Bank, policy: Policy, frame: int, is_given: bool, every: int, *parts) -> None:
    """As a session does."""
    kind = "given" if is_given else kind_of(policy, bank.frames, bank.kinds, frame, every)
    if kind is not None:
        remember(bank, policy, frame, kind, *parts)


def followed(policy: str, num_frames: int, every: int = 5) -> Bank:
    bank = Bank()
    for frame in range(num_frames):
        write(bank, POLICIES[policy], frame, frame == 0, every, *memory(frame))
    return bank


@pytest.mark.parametrize("every", [1, 2, 3, 5, 8])
def test_the_paper_s_schedule_holds_as_many_frames_as_its_formula_says(every):
    for t in range(1, 42):  # to segment frame t, frames 0 to t - 1 are remembered
        bank = followed("paper", t, every)
        assert len(bank) == (t - 1) // every + 1 + ((t - 1) % every != 0)
        assert sorted(bank.frames) == sorted({*range(0, t, every), t - 1})


def test_first_and_previous_are_all_that_policy_holds():
    assert sorted(followed("first_previous", 30).frames) == [0, 29]
    assert followed("first_previous", 30).capacity == 2


def test_the_default_holds_no_previous_frame():
    assert sorted(followed("default", 13).frames) == [0, 5, 10]
    assert followed("default", 400).kinds.count("kept") == POLICIES["default"].most_kept
    assert followed("default", 400).capacity == POLICIES["default"].most_kept + 1


def test_bounded_is_the_paper_s_until_its_cap_and_constant_from_there():
    cap = POLICIES["bounded"].most_kept
    last = 5 * cap + 5  # this frame is the first that needs another to go
    for t in (1, 2, 17, last):
        assert sorted(followed("bounded", t).frames) == sorted(followed("paper", t).frames)
    long = followed("bounded", 400)
    assert len(long) == cap + 2 and long.kinds.count("kept") == cap
    assert long.capacity == room(POLICIES["bounded"]) == cap + 2
    assert long.num_bytes == followed("bounded", 10).num_bytes


@pytest.mark.parametrize("length", [300, 1001, 2000, 3333])
def test_what_bounded_keeps_of_a_long_past_is_spread_over_all_of_it(length):
    bank = followed("bounded", length)
    kept = sorted(frame for frame, kind in zip(bank.frames, bank.kinds) if kind == "kept")
    last = (length - 1) // 5 * 5
    assert kept[-3:] == [last - 10, last - 5, last]
    gaps = [after - before for before, after in zip([0, *kept], kept)]
    assert max(gaps) <= 2 * length / (len(kept) - 3), kept


def test_given_frames_are_never_evicted_nor_overwritten():
    bank = Bank()
    for frame in range(300):
        write(bank, POLICIES["bounded"], frame, frame in (0, 7, 100), 5, *memory(frame))
    assert sorted(f for f, kind in zip(bank.frames, bank.kinds) if kind == "given") == [0, 7, 100]
    for frame in (0, 7, 100):
        tokens = bank.tokens(("given",))
        assert (tokens.keys[0].unflatten(1, (3, *TOKENS)) == memory(frame)[0][:, None]).flatten(2).all(2).all(0).any()


def test_a_frame_that_is_given_later_takes_the_slot_of_the_same_frame():
    bank = followed("paper", 12)
    keys, values, _ = memory(77)
    write(bank, POLICIES["paper"], 5, True, 5, keys, values, torch.zeros(TOKENS))
    slot = bank.frames.index(5)
    assert bank.frames.count(5) == 1 and bank.kinds[slot] == "given"
    assert torch.equal(bank.tokens().keys[0].unflatten(1, (len(bank), 6))[:, slot], keys.flatten(1))


def test_tokens_are_views_in_the_order_of_the_slots():
    bank = followed("paper", 7)
    tokens = bank.tokens()
    assert tokens.keys.shape == (1, 4, len(bank) * 6) and tokens.values.shape == (1, 8, len(bank) * 6)
    assert tokens.bias is None
    for slot, frame in enumerate(bank.frames):
        keys, values, coverage = memory(frame)
        assert torch.equal(tokens.keys[0, :, 6 * slot : 6 * slot + 6], keys.flatten(1))
        assert torch.equal(tokens.values[0, :, 6 * slot : 6 * slot + 6], values.flatten(1))
        assert torch.equal(tokens.coverage[0, 0, 6 * slot : 6 * slot + 6], coverage.flatten())
    before = bank.tokens().keys.data_ptr()
    write(bank, POLICIES["paper"], 7, False, 5, *memory(7))
    assert bank.tokens().keys.data_ptr() == before, "the bank was copied"


def test_only_the_unbounded_policy_grows_and_by_doubling():
    sizes = {followed("paper", t).capacity for t in range(1, 160, 5)}
    first = room(POLICIES["paper"])
    assert sizes == {first, 2 * first, 4 * first}


def test_merging_equal_tokens_changes_no_read():
    """Five equal kept frames, one of them merged away: the read is what it was with all five."""
    policy = Policy(most_kept=4, merges=True)
    keys, values, coverage = memory(3)
    bank, full = Bank(), Bank()
    for frame in (0, 5, 10, 15, 20, 25):
        part = memory(0) if frame == 0 else (keys, values, coverage)
        write(bank, policy, frame, frame == 0, 5, *part)
        write(full, POLICIES["paper"], frame, frame == 0, 5, *part)
    assert len(bank) == 5 and len(full) == 6 and bank.is_merged
    query = torch.randn(1, 4, 9, generator=torch.Generator().manual_seed(1))
    one, all_of_them = bank.tokens(), full.tokens()
    assert torch.allclose(
        attend(one.keys, one.values, query, 0.5, one.bias),
        attend(all_of_them.keys, all_of_them.values, query, 0.5),
        atol=1e-5,
    )


def test_the_state_of_a_bank_gives_the_same_bank():
    bank, other = followed("bounded", 60), Bank()
    tensors, plain = bank.state()
    write(bank, POLICIES["bounded"], 60, False, 5, *memory(60))  # copies, so this does not touch them
    other.load_state(tensors, plain)
    write(other, POLICIES["bounded"], 60, False, 5, *memory(60))
    assert other.frames == bank.frames and other.kinds == bank.kinds and other.capacity == bank.capacity
    for a, b in zip(bank.tokens(), other.tokens()):
        assert (a is None and b is None) or (torch.equal(a, b) and a.stride() == b.stride())


def test_half_precision_stays_half():
    bank = Bank()
    for frame in range(3):
        write(bank, POLICIES["bounded"], frame, frame == 0, 5, *memory(frame, dtype=torch.bfloat16))
    assert bank.tokens().keys.dtype == bank.tokens().values.dtype == torch.bfloat16


def test_the_frame_that_goes_is_the_one_whose_neighbours_are_closest():
    kinds = ["given", *["kept"] * 6]
    assert victim([0, 100, 110, 120, 200, 210, 220], kinds) == 2
    assert victim([0, 10, 20, 30, 31, 32, 33], kinds) in (1, 2, 3)
