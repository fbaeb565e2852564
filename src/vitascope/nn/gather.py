"""What all processes of a run computed, as if one had: for losses that compare the samples of all of them."""

from __future__ import annotations

import atexit
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather(x: Tensor) -> Tensor:
    """Put the rows of all processes one after the other, in the order of their ranks; `x` itself in a single process.

    The gradient of a process's rows is the sum over the processes of the gradients of these rows. Processes that each
    compute the loss of all rows, weigh it by their share of the samples times their number, and average the gradients of
    their parameters, as the engine does, therefore get the gradient of one process. Every process has to take part in
    each call, if need be with no row, and either all or none with rows that require a gradient.

    Args:
        x: `[N, ...]`; N may differ between processes, all else may not.

    Returns:
        `[sum of N, ...]`.

    Example:
        >>> gather(torch.arange(3)).tolist()
        [0, 1, 2]
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    return _Gather.apply(x, _own_group(dist.group.WORLD))


@lru_cache(maxsize=1)
def _own_group(world: dist.ProcessGroup) -> dist.ProcessGroup:
    # DDP exchanges gradients in the same backward pass. In a process without samples it does so in another order, and
    # operations of one group must come in the same order everywhere.
    return dist.new_group()


atexit.register(_own_group.cache_clear)  # a group that outlives the interpreter aborts the process


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(dist.get_world_size(group))]
        dist.all_gather(counts, torch.tensor([len(x)], device=x.device), group=group)
        sizes = [int(count) for count in counts]
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded, group=group)
        ctx.group, ctx.start, ctx.size = group, sum(sizes[: dist.get_rank(group)]), len(x)
        return torch.cat([part[:size] for part, size in zip(parts, sizes)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total[ctx.start : ctx.start + ctx.size], None
