"""Positions: every sample once an epoch, and nothing depends on where one starts or how many share the work."""

from collections import Counter

import pytest

from vitascope.engine.sampler import Positions, num_steps
from vitascope.methods.base import Stage


def stage_of(length=3, batch_size=4, **fields):
    return Stage(name="s", length=length, batch_size=batch_size, **fields)


def test_each_epoch_shows_each_sample_once_across_the_borders_of_batches():
    draws = [draw for batch in Positions(stage_of(length=4, batch_size=7), 5, seed=0) for draw in batch]
    assert len(draws) == 21
    for epoch in range(4):
        assert sorted(draw.index for draw in draws[5 * epoch : 5 * epoch + 5]) == [0, 1, 2, 3, 4]


def test_epochs_have_different_orders_and_every_draw_its_own_seed():
    positions = Positions(stage_of(length=5), 50, seed=0)
    draws = [draw for batch in positions for draw in batch]
    assert [draw.index for draw in draws[:50]] != [draw.index for draw in draws[50:100]]
    assert max(Counter(draw.seed for draw in draws).values()) == 1
    assert all(0 <= draw.seed < 2**63 for draw in draws)


def test_a_start_in_the_middle_gives_the_rest_of_the_whole():
    whole = list(Positions(stage_of(), 10, seed=3))
    for step in range(len(whole) + 1):
        assert list(Positions(stage_of(), 10, seed=3, first_step=step)) == whole[step:]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5, 6])
def test_the_slices_of_all_processes_make_the_batch(num_ranks):
    whole = list(Positions(stage_of(batch_size=5), 10, seed=0))
    parts = [list(Positions(stage_of(batch_size=5), 10, seed=0, rank=r, num_ranks=num_ranks)) for r in range(num_ranks)]
    assert [sum((part[step] for part in parts), []) for step in range(len(whole))] == whole


def test_progress_goes_from_0_to_below_1():
    progress = [draw.progress for batch in Positions(stage_of(), 10, seed=0) for draw in batch]
    assert progress[0] == 0 and progress == sorted(progress) and progress[-1] == 31 / 32


def test_another_seed_or_stage_gives_another_order():
    orders = {
        tuple(draw.index for batch in Positions(stage, 30, seed=seed) for draw in batch)
        for seed in (0, 1)
        for stage in (stage_of(), stage_of().model_copy(update={"name": "t"}))
    }
    assert len(orders) == 4


@pytest.mark.parametrize(("stage", "expected"), [(stage_of(), 8), (stage_of(length=7, unit="steps"), 7)])
def test_epochs_are_rounded_up_to_whole_batches(stage, expected):
    assert num_steps(stage, 10) == expected == len(Positions(stage, 10, seed=0))
