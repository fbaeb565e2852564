"""A network a few samples at a time: gradients, running statistics, random numbers, memory."""

import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitascope.nn.chunked import chunked


class Flat(nn.Module):
    """[B, C, ...] -> [B, C], as the encoders do."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2)


def network(norm: str, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    norms = {"group": nn.GroupNorm(2, 4), "layer": nn.LayerNorm((4, 3, 3)), "batch": nn.BatchNorm2d(4)}
    parts = [nn.Conv2d(2, 4, 3, padding=1), norms[norm], nn.GELU(), nn.Dropout(dropout), nn.Conv2d(4, 5, 1), Flat()]
    return nn.Sequential(*parts).double()


def contrastive(z: Tensor) -> Tensor:
    """A loss that no sample has to itself."""
    return (z @ z.T).logsumexp(1).mean()


def learnt(net: nn.Module, make, seed: int = 1) -> list[Tensor]:
    net.zero_grad()
    torch.manual_seed(seed)
    z = make(net)
    contrastive(z).backward()
    return [z.detach(), *(p.grad.clone() for p in net.parameters())]


X = torch.randn(7, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100, None])
def test_chunks_have_the_gradient_of_the_batch(norm, chunk):
    net = network(norm)
    for found, expected in zip(learnt(net, lambda m: chunked(m, X, chunk)), learnt(net, lambda m: m(X))):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_dropout_repeats_its_random_numbers():
    net = network("group", dropout=0.5)
    found = learnt(net, lambda m: chunked(m, X, 2))
    expected = learnt(net, lambda m: torch.cat([m(part) for part in X.split(2)]))  # the same numbers, nothing twice
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
    assert not torch.equal(learnt(net, lambda m: chunked(m, X, 2), seed=2)[0], found[0])


def test_running_statistics_see_each_sample_once():
    net = network("batch")
    buffer = net[1].running_mean
    learnt(net, lambda m: chunked(m, X, 3))
    found = {name: value.clone() for name, value in net.named_buffers()}
    assert net[1].running_mean is buffer
    other = network("batch")
    other.train()
    with torch.no_grad():
        for part in X.split(3):
            other(part)
    assert found["1.num_batches_tracked"] == 3
    for name, value in other.named_buffers():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def test_batch_statistics_are_those_of_each_chunk():
    net = network("batch")
    found = learnt(net, lambda m: chunked(m, X, 3))
    apart = learnt(net, lambda m: torch.cat([m(part) for part in X.split(3)]))
    for one, other in zip(found, apart):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
    assert (found[0] - net(X)).abs().max() > 1e-3  # so it is not the batch's result
    net.eval()
    torch.testing.assert_close(learnt(net, lambda m: chunked(m, X, 3))[0], net(X), rtol=1e-12, atol=1e-14)


def test_without_gradients_nothing_is_computed_twice():
    net, calls = network("group"), []
    net[0].register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        torch.testing.assert_close(chunked(net, X, 3), net(X), rtol=1e-12, atol=1e-14)
    assert len(calls) == 4
    with pytest.raises(ValueError, match=r"chunk \(0\) must be > 0"):
        chunked(net, X, 0)


class Memory(TorchDispatchMode):
    """Peak bytes of all tensors made while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            storage = leaf.untyped_storage() if isinstance(leaf, Tensor) else None
            if storage is not None and storage not in self.known:
                self.known.add(storage)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.free, storage.nbytes())
        return result

    def free(self, size: int) -> None:
        self.now -= size


def peak_bytes(batch: int, chunk: int | None) -> int:
    net = nn.Sequential(nn.Conv2d(2, 16, 3), nn.GroupNorm(2, 16), nn.GELU(), nn.Conv2d(16, 16, 3), nn.GELU(), Flat())
    x = torch.randn(batch, 2, 24, 24)
    with Memory() as memory:
        memory.known.add(x.untyped_storage())  # the input is there in any case
        contrastive(chunked(net, x, chunk)).backward()
    return memory.peak


def test_memory_does_not_grow_with_the_batch():
    plain = [peak_bytes(batch, None) for batch in (16, 64)]
    cached = [peak_bytes(batch, 8) for batch in (16, 64)]
    assert plain[1] > 3.5 * plain[0]
    # what grows is the embeddings alone
    assert cached[1] < 1.02 * cached[0] and cached[0] < 0.7 * plain[0] and cached[1] < 0.2 * plain[1]
