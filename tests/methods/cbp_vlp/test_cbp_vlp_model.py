"""The branches: what attention sees, and what holds of every one of them."""

import pytest
import torch

from vitascope.methods.cbp_vlp.basnet import BasNet
from vitascope.methods.cbp_vlp.co2net import Co2Net
from vitascope.methods.cbp_vlp.loss import WARMUP, contrast_loss, kd_loss
from vitascope.methods.cbp_vlp.model import (
    CbpTransformer,
    Mil,
    Positions,
    UntrimmedNet,
    final_logits,
    local_attention,
    probabilities,
    suppress,
)
from vitascope.methods.cbp_vlp.targets import pseudo_labels, topk_mean

DIM = 8
BRANCHES = {
    "transformer": lambda k, bg: CbpTransformer(DIM, k, background=bg, width=16, num_heads=2, window=3, dropout=0.0),
    "global": lambda k, bg: CbpTransformer(
        DIM, k, background=bg, width=8, num_heads=2, window=None, num_positions=0, dropout=0
    ),
    "mil": lambda k, bg: Mil(DIM, k, background=bg, width=16, dropout=0.0),
    "untrimmednet": lambda k, bg: UntrimmedNet(DIM, k, background=bg),
    "hard": lambda k, bg: UntrimmedNet(DIM, k, background=bg, selection="hard"),
    "basnet": lambda k, bg: BasNet(DIM, k, background=bg, hidden=6, dropout=0.0),
    "co2net": lambda k, bg: Co2Net(DIM, k, background=bg, hidden=6, dropout=0.0),
}
LOSS_OF = {"global": "transformer", "hard": "untrimmednet"}


def make(name, num_classes=3, background=True):
    torch.manual_seed(0)
    return BRANCHES[name](num_classes, background)


def loss_of(name):
    return WARMUP[LOSS_OF.get(name, name)]


def real(*lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def slow_attention(q, k, v, mask, window):
    out = torch.zeros_like(q)
    b, heads, t, d = q.shape
    for i in range(b):
        for h in range(heads):
            for s in range(t):
                near = [j for j in range(t) if mask[i, j] and (window is None or abs(j - s) <= window)] or [s]
                weights = (k[i, h, near] @ q[i, h, s] / d**0.5).softmax(0)
                out[i, h, s] = weights @ v[i, h, near]
    return out


@pytest.mark.parametrize("window", [1, 2, 4, 7, 20, None])
@pytest.mark.parametrize("lengths", [(1,), (4, 2), (13, 6), (17, 17, 1)])
def test_local_attention_is_the_slow_rule(window, lengths):
    torch.manual_seed(0)
    mask = real(*lengths)
    q, k, v = torch.randn(3, len(lengths), 2, max(lengths), 4)
    fast, slow = local_attention(q, k, v, mask, window), slow_attention(q, k, v, mask, window)
    assert torch.allclose(fast.transpose(1, 2)[mask], slow.transpose(1, 2)[mask], atol=1e-6)
    assert fast.isfinite().all()


def test_a_snippet_is_reached_from_so_far_as_the_windows_of_all_blocks_go():
    branch = CbpTransformer(DIM, 2, background=False, width=16, depth=2, num_heads=2, window=3, dropout=0).eval()
    x = torch.randn(1, 40, DIM, requires_grad=True)
    branch(x, torch.ones(1, 40, dtype=torch.bool))["logits"][0, 20].sum().backward()
    reached = x.grad[0].abs().sum(1).nonzero().flatten().tolist()
    assert reached == list(range(14, 27))  # 2 blocks of 3 to either side


def test_an_hour_long_video_takes_memory_in_proportion_to_its_length():
    q = torch.randn(1, 1, 200_000, 4)  # pairs of all snippets would be 160 GB
    out = local_attention(q, q, q, torch.ones(1, 200_000, dtype=torch.bool), 8)
    assert out.shape == q.shape


def test_positions_are_stretched_over_the_real_snippets():
    positions = Positions(4, 1)
    with torch.no_grad():
        positions.table.copy_(torch.tensor([[0.0], [1.0], [2.0], [3.0]]))
    found = positions(real(8, 4, 2, 1))[..., 0]
    assert found[0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    assert found[1, :4].tolist() == [0, 1, 2, 3]
    assert found[2, :2].tolist() == [0.5, 2.5]
    assert found[3, :1].tolist() == [1.5]


def test_suppression_keeps_where_attention_is_1_and_levels_where_it_is_0():
    logits = torch.tensor([[[3.0, -1.0, 5.0]] * 3])
    held = suppress(logits, torch.tensor([[[1.0], [0.5], [0.0]]]))
    assert held[0].tolist() == [[3, -1, 5], [1, -1, 2], [-1, -1, -1]]


def test_probabilities_of_each_kind_of_background():
    logits = torch.randn(2, 5, 3)
    out = {"logits": logits}
    assert torch.allclose(probabilities(out, 3, "none"), logits.softmax(-1))
    assert torch.allclose(probabilities(out, 2, "class"), logits.softmax(-1)[..., :2])
    total = logits.exp().sum(-1, keepdim=True)
    assert torch.allclose(probabilities(out, 3, "zero"), logits.exp() / (total + 1))
    assert torch.equal(probabilities({"logits": logits, "suppressed": -logits}, 3), (-logits).softmax(-1))
    for classes, background in ((2, "none"), (2, "zero"), (3, "class")):
        with pytest.raises(ValueError, match=r"logits \(3\) must be"):
            probabilities(out, classes, background)


@pytest.mark.parametrize("name", BRANCHES)
@pytest.mark.parametrize("filling", [0.0, 1e3, float("nan")])
def test_padding_changes_nothing(name, filling):
    branch = make(name).eval()
    mask, y = real(11, 5, 1), torch.tensor([[1.0, 0, 1], [1, 1, 0], [0, 0, 0]])
    x = torch.randn(3, 11, DIM)
    x[~mask] = filling
    wide, wide_mask = torch.cat([x, torch.full((3, 13, DIM), filling)], 1), real(24, 5, 1)
    wide_mask[0, 11:] = False
    out, other = branch(x, mask), branch(wide, wide_mask)
    for key in out:
        assert torch.allclose(out[key][mask], other[key][:, :11][mask], atol=1e-6), key
    for i, length in enumerate((11, 5, 1)):
        alone = branch(x[i : i + 1, :length], torch.ones(1, length, dtype=torch.bool))
        assert torch.allclose(alone["logits"][0], out["logits"][i, :length], atol=1e-6)
    losses, others = loss_of(name)(out, y, mask), loss_of(name)(other, y, wide_mask)
    for key in losses:
        assert losses[key].isfinite() and torch.allclose(losses[key], others[key], atol=1e-6), key


@pytest.mark.parametrize("name", BRANCHES)
def test_the_gradient_of_padding_is_zero_and_of_the_weights_the_same(name):
    grads = []
    for extra in (0, 9):
        branch, mask = make(name).eval(), torch.arange(12 + extra) < torch.tensor([[12], [4]])
        torch.manual_seed(1)
        x = torch.randn(2, 12, DIM)
        x = torch.cat([x, torch.ones(2, extra, DIM)], 1).requires_grad_()
        loss_of(name)(branch(x, mask), torch.tensor([[1.0, 1, 0], [0, 1, 0]]), mask)["loss"].backward()
        assert (x.grad[~mask] == 0).all()
        grads.append([p.grad for p in branch.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("name", BRANCHES)
@pytest.mark.parametrize("t", [1, 2, 20])
def test_one_class_no_tags_and_single_snippets_give_finite_losses_and_gradients(name, t):
    branch, mask = make(name, num_classes=1), torch.ones(3, t, dtype=torch.bool)
    y = torch.tensor([[1.0], [0.0], [1.0]])
    out = branch(torch.randn(3, t, DIM), mask)
    p = probabilities(out, 1, "class")
    assert ((p > 0) & (p < 1)).all()
    labels = pseudo_labels(p.detach(), y, mask, 0.5, 0.499)
    loss = loss_of(name)(out, y, mask)["loss"] + kd_loss(p, labels)
    loss = (
        loss
        + contrast_loss(out["features"], labels, mask)
        + contrast_loss(out["features"], labels, mask, scope="batch")
    )
    loss.backward()
    assert loss.isfinite() and all(q.grad.isfinite().all() for q in branch.parameters())


@pytest.mark.parametrize("name", BRANCHES)
def test_every_parameter_learns_from_tags_and_from_pseudo_labels(name):
    branch, mask, y = make(name), real(20, 9), torch.tensor([[1.0, 0, 0], [1, 1, 0]])
    x, labels = torch.randn(2, 20, DIM), torch.randint(0, 2, (2, 20, 3)).masked_fill(~mask[..., None], -1)
    for kind in ("tags", "labels"):
        branch.zero_grad()
        out = branch(x, mask)
        taught = kd_loss(probabilities(out, 3, "class"), labels) + 0.05 * contrast_loss(out["features"], labels, mask)
        (loss_of(name)(out, y, mask)["loss"] if kind == "tags" else taught).backward()
        lacking = [n for n, p in branch.named_parameters() if p.grad is None or not p.grad.any()]
        assert not lacking, kind


@pytest.mark.parametrize("name", BRANCHES)
def test_what_a_branch_returns_has_the_shapes_of_the_interface(name):
    out = make(name)(torch.randn(2, 6, DIM), real(6, 3))
    assert out["logits"].shape == final_logits(out).shape == (2, 6, 4)
    assert out["features"].shape[:2] == (2, 6)
    assert ("attention" in out) == ("suppressed" in out) == (name in ("untrimmednet", "basnet", "co2net"))
    if "attention" in out:
        assert out["attention"].shape == (2, 6, 1)
        assert ((out["attention"] >= 0) & (out["attention"] <= 1)).all()


@pytest.mark.parametrize("name", ["transformer", "global", "mil", "untrimmednet", "hard"])
def test_without_background_there_are_as_many_logits_as_classes(name):
    mask = torch.ones(2, 6, dtype=torch.bool)
    out = make(name, background=False)(torch.randn(2, 6, DIM), mask)
    assert out["logits"].shape == (2, 6, 3)
    for background in (None, "none", "zero"):
        loss = loss_of(name)(out, torch.tensor([[1.0, 0, 0], [0, 0, 0]]), mask, background=background)["loss"]
        assert loss.isfinite() and loss > 0
    with pytest.raises(ValueError, match=r"logits \(3\) must be 4"):
        loss_of(name)(out, torch.zeros(2, 3), mask, background="class")


@pytest.mark.parametrize("name", ["basnet", "co2net"])
def test_the_methods_about_background_refuse_to_be_without(name):
    with pytest.raises(ValueError, match=r"background \(False\) must be True"):
        make(name, background=False)


def test_soft_selection_is_the_attention_mean_of_snippet_probabilities():
    branch, mask, x = make("untrimmednet"), real(7, 4), torch.randn(2, 7, DIM)
    y = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    wanted = []
    for i, length in enumerate((7, 4)):
        rows = x[i, :length]
        p = (rows @ branch.head.weight.T + branch.head.bias).softmax(1)
        a = (rows @ branch.select.weight.T).softmax(0)
        target = torch.cat([y[i], torch.ones(1)])
        wanted.append(-(target / target.sum() * (a * p).sum(0).log()).sum())
    out = branch(x, mask)
    assert torch.allclose(loss_of("untrimmednet")(out, y, mask)["loss"], sum(wanted) / 2, atol=1e-6)
    assert torch.allclose(out["attention"].amax(1), torch.ones(2, 1))


def test_hard_selection_is_softmax_of_pooled_logits():
    branch, mask, x = make("hard", background=False), real(16, 9), torch.randn(2, 16, DIM)
    out, y = branch(x, mask), torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    log_p = topk_mean(out["logits"], mask, 8).log_softmax(1)
    wanted = -(log_p[0, 0] / 2 + log_p[0, 2] / 2 + log_p[1, 1]) / 2
    assert torch.allclose(loss_of("hard")(out, y, mask)["loss"], wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CbpTransformer(4, 2, background=True, width=10, num_heads=4), r"dim \(10\) must be a multiple"),
        (lambda: CbpTransformer(4, 2, background=True, window=0), r"window \(0\) must be > 0"),
        (lambda: UntrimmedNet(4, 2, background=True, selection="medium"), r"selection \(medium\)"),
        (lambda: Co2Net(5, 2), r"dim \(5\) must be even"),
    ],
)
def test_impossible_values_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
