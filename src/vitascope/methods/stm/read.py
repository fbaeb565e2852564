"""The space-time memory read: attention of query tokens over memory tokens, whose values are wider than their keys."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 256  # query tokens at a time: of 64 to 512 the fastest on a CPU, at 1/6 the memory of all at once


def at_least_single(x: Tensor) -> Tensor:
    """In float32, unless it is in float64."""
    return x if x.dtype == torch.float64 else x.float()


def attend(keys: Tensor, values: Tensor, query: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """For each query token, the mean of the values, weighted by the softmax over the memory tokens of similarity.

    Similarities and their softmax are float32 or wider, whatever the type of keys and values; the result has the values'
    type. Each of `P` may be 1 where another is more: where keys, query and bias all are, the weights are computed once.

    Args:
        keys: `[P, Ck, N]`.
        values: `[P, Cv, N]`.
        query: `[P, Ck, M]`.
        scale: Factor on the dot product of key and query.
        bias: `[P, N]`, added to the similarities.

    Returns:
        `[P, Cv, M]`.

    Example:
        >>> keys, values = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[6.0, 2.0]]])
        >>> attend(keys, values, torch.zeros(1, 1, 1), 1.0).item()
        4.0
        >>> attend(keys, values, torch.zeros(1, 1, 1), 1.0, bias=torch.tensor([[0.0, 3.0]]).log()).item()
        2.0
    """
    keys, query = at_least_single(keys), at_least_single(query) * scale
    if bias is not None:  # as one more channel of the keys: the product adds it, without a pass over the similarities
        rows = max(len(keys), len(bias))
        keys = torch.cat([keys.expand(rows, -1, -1), bias[:, None].to(keys.dtype).expand(rows, -1, -1)], 1)
        query = torch.cat([query, torch.ones_like(query[:, :1])], 1)
    if values.is_cuda:
        weights = (torch.softmax(part.transpose(1, 2) @ keys, 2).to(values.dtype) for part in query.split(CHUNK, 2))
        return torch.cat([values @ part.transpose(1, 2) for part in weights], 2)  # [P, Cv, M]
    num_weights = max(len(keys), len(query))
    if num_weights == 1:
        read = _attend(keys[0].T, values.flatten(0, 1), query[0].T)  # [M, P * Cv]
        return read.T.unflatten(0, values.shape[:2])
    # one object after another, so that its similarities stay in the cache
    rows = [[x[row % len(x)] for x in (keys, values, query)] for row in range(num_weights)]
    return torch.stack([_attend(k.T, v, q.T) for k, v, q in rows]).transpose(1, 2)


def _attend(keys: Tensor, values: Tensor, query: Tensor) -> Tensor:
    """`[N, Ck]`, `[Cv, N]` and `[M, Ck]` to `[M, Cv]`."""
    keys, values, query = keys.contiguous(), values.contiguous(), query.contiguous()
    weights = (torch.softmax(product(part, keys), 1).to(values.dtype) for part in query.split(CHUNK))  # each [M, N]
    return torch.cat([product(part, values) for part in weights])


def product(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b.T` of contiguous `[M, K]` and `[N, K]`, on CPUs by oneDNN.

    torch takes MKL for float32 matrices, which on AMD's processors leaves half of the vector unit idle: measured 56 against
    127 billion multiply-adds a second. oneDNN's product knows no gradient, and is very slow on strides.
    """
    is_plain = (
        a.is_cuda or a.dtype != torch.float32 or (torch.is_grad_enabled() and (a.requires_grad or b.requires_grad))
    )
    if is_plain or not has_onednn():
        return a @ b.T
    return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], None)


def has_onednn() -> bool:
    """Whether this torch has the products and convolutions of oneDNN that its compiler uses."""
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_convolution_pointwise")
    )
