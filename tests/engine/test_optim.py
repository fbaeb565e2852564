"""Schedules, groups and LARS against lists and loops written out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from vitascope.engine.optim import LARS, learning_names, lr_at, make_optimizer, parameter_groups, set_lr
from vitascope.methods.base import Method, Optim, Stage


class Layered(Method):
    """Names and layers of a ViT with 12 blocks."""

    no_decay = ("pos_embed",)

    def __init__(self):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.ones(1, 3, 2))
        self.patch_embed = nn.Linear(2, 2)
        self.blocks = nn.ModuleList(nn.ModuleDict({"norm": nn.LayerNorm(2), "fc": nn.Linear(2, 2)}) for _ in range(12))
        self.head = nn.Linear(2, 2)
        self.fixed = nn.Parameter(torch.zeros(2, 2), requires_grad=False)

    def layer_of(self, name):
        if name.startswith(("pos_embed", "patch_embed")):
            return 0
        return int(name.split(".")[1]) + 1 if name.startswith("blocks") else 13

    stages = samples = training_step = features = None


Layered.__abstractmethods__ = frozenset()


def stage_of(*learns):
    return Stage(name="s", length=1, batch_size=1, learns=learns)


def test_the_schedule_equals_the_list_of_the_videomae_family():
    # 1601 epochs of 234 steps, 40 to warm up; the list is built as its authors describe it
    total, warm, peak, low = 1601 * 234, 40 * 234, 6e-4, 4e-5
    steps = np.arange(total - warm)
    cosine = low + 0.5 * (peak - low) * (1 + np.cos(np.pi * steps / len(steps)))
    expected = np.concatenate([np.linspace(0, peak, warm), cosine])
    optim = Optim(lr=peak, min_lr=low, warmup=40 / 1601)
    rates = np.array([lr_at(step, total, optim) for step in range(total)])
    np.testing.assert_allclose(rates, expected, rtol=1e-12, atol=1e-18)
    assert rates[0] == 0 and rates[-1] == pytest.approx(low, rel=1e-6)
    assert np.flatnonzero(rates == peak).tolist() == [warm - 1, warm]  # P12: the peak comes twice


def test_the_schedule_gives_the_golden_values_of_hico():
    optim = Optim(lr=3.6, warmup=5 / 120, warmup_lr=0.001)
    for steps in (2, 470):  # of an epoch
        rates = [lr_at(round(epoch * steps), 120 * steps, optim) for epoch in (0, 2.5, 5, 60)]
        assert rates == pytest.approx([0.001, 1.7928, 3.584601, 1.8], abs=1e-6)
    assert lr_at(5, 10, Optim(lr=2.0, warmup=1.0, warmup_lr=1.0)) == 0.5  # up to the end of the cosine, which is down
    assert lr_at(0, 10, Optim(lr=2.0, warmup=0.0, warmup_lr=0.001)) == 2.0


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("total", [1, 2, 3, 10])
def test_short_schedules_stay_between_0_and_the_peak(total, warmup):
    rates = [lr_at(step, total, Optim(lr=2.0, warmup=warmup)) for step in range(total)]
    assert all(0 <= rate <= 2 for rate in rates)


def test_without_warm_up_the_first_step_has_the_peak():
    assert lr_at(0, 10, Optim(lr=2.0, warmup=0)) == 2.0


def test_layer_decay_and_weight_decay_follow_name_and_shape():
    method, optim = Layered(), Optim(layer_decay=0.75, weight_decay=0.05)
    groups = parameter_groups(method, learning_names(method, stage_of("")), optim)
    found = {name: (group["lr_scale"], group["weight_decay"]) for group in groups for name in group["names"]}
    expected = {}
    for name, parameter in method.named_parameters():
        if name == "fixed":
            continue
        layer = 0 if "embed" in name else 13 if name.startswith("head") else int(name.split(".")[1]) + 1
        free = parameter.ndim == 1 or name == "pos_embed"
        expected[name] = (0.75 ** (13 - layer), 0.0 if free else 0.05)
    assert found == expected
    assert found["patch_embed.weight"] == (0.75**13, 0.05)
    assert found["pos_embed"] == (0.75**13, 0.0)
    assert found["head.weight"] == (1.0, 0.05)


def test_the_rate_of_a_step_is_scaled_by_layer():
    method = Layered()
    optimizer = make_optimizer(method, learning_names(method, stage_of("")), Optim(layer_decay=0.5))
    set_lr(optimizer, 0.1)
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
    assert rates["head.bias"] == 0.1 and rates["blocks.11.fc.weight"] == 0.05


def test_learns_takes_prefixes_and_never_what_the_method_keeps_fixed():
    method = Layered()
    assert learning_names(method, stage_of("head", "patch")) == [
        "patch_embed.weight",
        "patch_embed.bias",
        "head.weight",
        "head.bias",
    ]
    assert "fixed" not in learning_names(method, stage_of(""))
    with pytest.raises(
        ValueError, match=r"has 'encoder', which begins no name .* blocks, head, patch_embed, pos_embed"
    ):
        learning_names(method, stage_of("encoder"))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("adapts", [False, True])
def test_lars_equals_the_papers_loop(nesterov, adapts):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
    lr, momentum, decay, trust = 0.3, 0.9, 1e-2, 1e-3
    optimizer = LARS([weight], lr, momentum, decay, trust, nesterov, adapts)
    w, v = weight.detach().flatten().tolist(), [0.0] * 12
    for step in range(5):
        optimizer.param_groups[0]["lr"] = rate = lr / (step + 1)
        weight.grad = torch.randn(3, 4, dtype=torch.float64)
        g = weight.grad.flatten().tolist()
        optimizer.step()
        size, slope = math.sqrt(sum(a * a for a in w)), math.sqrt(sum(a * a for a in g))
        local = trust * size / (slope + decay * size) if adapts else 1.0
        change = [rate * local * (b + decay * a) for a, b in zip(w, g)]
        v = [momentum * a + b for a, b in zip(v, change)]
        w = [a - (momentum * b + c if nesterov else b) for a, b, c in zip(w, v, change)]
    assert weight.flatten().tolist() == pytest.approx(w, abs=1e-14)


def test_lars_gives_the_golden_values_of_hico():
    weight = nn.Parameter(torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64))
    optimizer = LARS([weight], 0.3, 0.9, 1e-6, nesterov=True)
    for expected in ((0.998974002736, 1.99999999316, 1.998632001368), (0.99751103543, 1.999999983407, 1.996681375042)):
        weight.grad = torch.tensor([0.3, 0.0, 0.4], dtype=torch.float64)
        optimizer.step()
        assert weight.tolist() == pytest.approx(expected, abs=1e-11)


def test_lars_moves_a_weight_that_is_zero():
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.ones(2)
    LARS([weight], lr=0.5).step()
    assert weight.tolist() == [-0.5, -0.5]


def test_lars_leaves_a_weight_that_is_zero_where_the_release_of_hico_does():
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.ones(2)
    optimizer = LARS([weight], lr=0.5, weight_decay=1e-6, nesterov=True, frees_zeros=False)
    for _ in range(3):
        optimizer.step()
    assert weight.tolist() == [0, 0]


@pytest.mark.parametrize("name", ["lars", "sgd"])
def test_a_stage_can_ask_for_nesterovs_momentum(name):
    moves = {}
    for nesterov in (False, True):
        method = Layered()
        optim = Optim(name=name, betas=(0.9, 0.999), weight_decay=0, nesterov=nesterov)
        optimizer = make_optimizer(method, ["head.weight"], optim)
        before = method.head.weight.detach().clone()
        method.head.weight.grad = torch.ones(2, 2)
        optimizer.step()
        moves[nesterov] = (before - method.head.weight.detach()) / (before.norm() if name == "lars" else 1)
    torch.testing.assert_close(moves[True], 1.9 * moves[False])  # the first step: change + 0.9 * change


@pytest.mark.parametrize("name", ["adamw", "adam", "lars", "sgd"])
def test_every_optimiser_lowers_a_quadratic(name):
    method = Layered()
    with torch.no_grad():
        method.head.weight.fill_(1.0)
    optimizer = make_optimizer(method, ["head.weight"], Optim(name=name, lr=3.0 if name == "lars" else 0.02))
    for _ in range(100):
        optimizer.zero_grad()
        method.head.weight.square().sum().backward()
        optimizer.step()
    assert method.head.weight.abs().max() < 0.8
