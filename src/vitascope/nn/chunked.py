"""Large batches in little memory: a network on a few samples at a time, computed again for the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def chunked(module: nn.Module, x: Tensor, chunk: int | None) -> Tensor:
    """Apply a network to `chunk` samples at a time, so that only their activations are in memory at once.

    The result has the gradients of `module(x)` for networks that treat samples apart, at the price of a second forward
    pass. In training, BatchNorm takes its statistics from each chunk and not from the batch; its running averages are
    those of one pass over the chunks, in order. Dropout repeats its random numbers in the second pass.

    Args:
        module: `[B, ...]` -> `[B, ...]`.
        x: `[B, ...]`.
        chunk: Samples at a time, > 0; None for all, without a second pass.

    Raises:
        ValueError: `chunk` is not positive.

    Example:
        >>> net, x = nn.Linear(4, 2), torch.arange(20.0).view(5, 4)
        >>> torch.allclose(chunked(net, x, 2), net(x))
        True
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk ({chunk}) must be > 0, or None for the whole batch at once")
    if chunk is None or len(x) <= chunk:
        return module(x)
    if not torch.is_grad_enabled():
        return torch.cat([module(part) for part in x.split(chunk)])

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _buffers_kept(module)

    return torch.cat([checkpoint(module, part, use_reentrant=False, context_fn=contexts) for part in x.split(chunk)])


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Let the second pass update copies of the buffers: running statistics have seen these samples already."""
    kept = [(part, dict(part._buffers)) for part in module.modules()]
    for part, buffers in kept:
        part._buffers.update({name: value.clone() for name, value in buffers.items() if value is not None})
    try:
        yield
    finally:
        for part, buffers in kept:
            part._buffers.update(buffers)
