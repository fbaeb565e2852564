"""Rows of three processes (gloo), one of which has none."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from vitascope.nn.gather import gather

ROWS = (2, 0, 3)


def check(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=len(ROWS))
    first = sum(ROWS[:rank])
    x = (torch.arange(first, first + ROWS[rank], dtype=torch.float64)[:, None] * torch.ones(4)).requires_grad_()
    everyone = gather(x.t().contiguous().t())  # also where memory is not in the order of rows
    assert everyone.tolist() == [[float(row)] * 4 for row in range(5)]
    # each process weighs the rows otherwise: 1, 2, 3; a row's gradient is the sum over the processes
    ((rank + 1) * everyone * torch.arange(4)).sum().backward()
    assert x.grad.tolist() == [[6.0 * column for column in range(4)]] * ROWS[rank]
    assert gather(torch.full((ROWS[rank],), rank)).tolist() == [0, 0, 2, 2, 2]
    dist.destroy_process_group()


def test_rows_come_in_the_order_of_ranks_and_gradients_are_summed(tmp_path):
    mp.spawn(check, (str(tmp_path / "store"),), nprocs=len(ROWS))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_a_single_process_gets_its_own_rows(dtype):
    x = torch.ones(3, 2, dtype=dtype)
    assert gather(x) is x
