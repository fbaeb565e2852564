"""Batches that cannot fit into memory are refused before training starts."""

import pytest
import torch
from torch.utils.data import Dataset
from toy_method import Toy, ToyConfig, ToySamples, good, records_of

import vitascope.engine.memory as memory
from vitascope.engine.memory import TooLarge, free_bytes, kept_bytes, require_memory, two_samples
from vitascope.engine.settings import TrainSettings
from vitascope.methods.base import Stage
from vitascope.methods.hico.config import hico
from vitascope.methods.hico.method import HiCo

MIB = 2**20


class Pixels(Dataset):
    def __getitem__(self, draw):
        return {"clips": torch.zeros(MIB, dtype=torch.uint8), "label": draw.index}


class Chunked(ToyConfig):
    chunk_clips: int | None = None


def require(monkeypatch, free, batch_size=8, kept=0, config=None, videos=20, **settings):
    """Samples of 1 MiB of pixels; one pass keeps `kept` MiB a sample."""
    monkeypatch.setattr(memory, "free_bytes", lambda: free and int(free * MIB))
    monkeypatch.setattr(memory, "kept_bytes", lambda *_: 2 * kept * MIB)
    stage, settings = Stage(name="only", length=1, batch_size=batch_size), TrainSettings(device="cpu", **settings)
    require_memory(Toy(config or ToyConfig()), stage, Pixels(), good(videos), settings)


def test_the_pixels_of_a_batch_and_of_what_is_read_ahead_must_fit(monkeypatch):
    require(monkeypatch, free=8 * (1 + 4) + 0.1)  # as bytes, and as floats
    with pytest.raises(TooLarge, match=r"batch_size \(8\) needs at least 40.0 MiB of memory and 39.0 MiB are free"):
        require(monkeypatch, free=39)
    require(monkeypatch, free=8 * (3 + 4) + 0.1, num_workers=1)
    with pytest.raises(TooLarge, match="the loader holds 3 batches of 8.0 MiB, and the network 32.0 MiB for"):
        require(monkeypatch, free=55, num_workers=1)
    require(monkeypatch, free=8 + 2 * 4 + 0.1, micro_batch=2)


def test_what_the_network_keeps_for_the_gradient_must_fit_unless_it_goes_by_chunks(monkeypatch):
    with pytest.raises(
        TooLarge, match="and the network 800.0 MiB for .*choose --set batch_size=2 for these 20 videos, or a"
    ):
        require(monkeypatch, free=500, kept=100)
    with pytest.raises(TooLarge, match="20 videos, --set chunk_clips=16, or a recipe"):
        require(monkeypatch, free=500, kept=100, config=Chunked())
    require(monkeypatch, free=500, kept=100, config=Chunked(chunk_clips=4))
    require(monkeypatch, free=900, kept=100)


def test_the_advised_batch_is_no_larger_than_the_data(monkeypatch):
    with pytest.raises(TooLarge, match="--set batch_size=20 for these 20 videos"):
        require(monkeypatch, free=1000, batch_size=1024)
    with pytest.raises(TooLarge, match="--set batch_size=99 for these 3000 videos"):
        require(monkeypatch, free=1000, batch_size=1024, videos=3000)


def test_nothing_is_refused_where_the_system_does_not_tell(monkeypatch):
    with pytest.raises(TooLarge):
        require(monkeypatch, free=1000, batch_size=10**9)
    require(monkeypatch, free=None, batch_size=10**9)


def test_what_this_system_has_free_is_told():
    assert 2**20 < free_bytes() < 2**50


def test_videos_that_cannot_be_read_are_passed_over():
    stage = Stage(name="only", length=1, batch_size=64)
    some = records_of("bad-0.mp4", "good-1.mp4")
    assert two_samples(stage, ToySamples(records_of("bad-0.mp4", "bad-1.mp4")), 2, 0) is None
    assert len(two_samples(stage, ToySamples(some + good(30)), 32, 0).batch["x"]) == 2


def test_what_a_pass_keeps_grows_with_the_batch_and_leaves_the_method_as_it_was():
    toy = Toy(ToyConfig(width=256))
    before = {name: value.clone() for name, value in toy.state_dict().items()}
    stage, batches = toy.stages()[0], [{"x": torch.rand(n, 4), "y": torch.rand(n, 1)} for n in (2, 64)]
    state = torch.get_rng_state()
    two, many = (kept_bytes(toy, stage, batch) for batch in batches)
    assert 20 < many / two < 33  # not the weights, which do not grow
    assert all(torch.equal(value, before[name]) for name, value in toy.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state) and all(p.grad is None for p in toy.parameters())
    head = stage.model_copy(update={"learns": ("head",)})
    assert kept_bytes(toy, head, batches[1]) < many / 2


class Clips(Dataset):
    def __getitem__(self, draw):
        clips = torch.zeros(3, 16, 3, 112, 112, dtype=torch.uint8)
        return {"clips": clips, "topic_weights": torch.ones(3, 3), "video": draw.index}


def test_the_papers_batch_is_refused_on_a_cpu(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 24 * 2**30)
    method = HiCo(hico())
    with pytest.raises(
        TooLarge, match=r"batch_size \(1024\) needs at least 3\d\d.\d GiB.* --set batch_size=20 for these 20"
    ):
        require_memory(method, method.stages()[0], Clips(), good(20), TrainSettings(device="cpu"))
