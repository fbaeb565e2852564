"""Losses against slow loops over snippets, classes and videos."""

import math

import pytest
import torch

from vitascope.methods.cbp_vlp.loss import WARMUP, contrast_loss, kd_loss, video_loss

LABELS = torch.tensor(
    [
        [[1, 0], [0, 0], [1, 0], [-1, 0], [0, 0], [1, 0]],
        [[0, 1], [1, 1], [0, 0], [0, 1], [-1, -1], [-1, -1]],
        [[0, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]],
        [[-1, 0], [0, -1], [-1, -1], [-1, -1], [-1, -1], [-1, -1]],
    ],
    dtype=torch.int8,
)
MASK = torch.arange(6) < torch.tensor([[6], [4], [6], [3]])


def is_known(row):
    return all(h >= 0 for h in row)


def slow_kd(p, labels, divergence):
    total = 0.0
    for i in range(len(p)):
        sure = [t for t in range(p.shape[1]) if is_known(labels[i, t].tolist())]
        for t in sure:
            for k in range(p.shape[2]):
                h, q = labels[i, t, k].item(), p[i, t, k]
                if divergence == "bernoulli":
                    total = total - (torch.log(q) if h else torch.log(1 - q)) / len(sure) / len(p)
                elif h:
                    share = 1 / labels[i, t].sum().item()
                    total = total + share * (math.log(share) - torch.log(q)) / len(sure) / len(p)
    return total


@pytest.mark.parametrize("divergence", ["bernoulli", "categorical"])
def test_kd_is_the_slow_sum(divergence):
    torch.manual_seed(0)
    p = torch.randn(4, 6, 3).softmax(-1)[..., :2]
    assert kd_loss(p, LABELS, divergence).item() == pytest.approx(slow_kd(p, LABELS, divergence).item(), abs=1e-6)


def test_kd_of_certain_answers_is_finite_and_of_right_ones_zero():
    labels = torch.tensor([[[1, 0]]])
    assert kd_loss(torch.tensor([[[1.0, 0.0]]]), labels) == pytest.approx(0, abs=1e-5)
    assert kd_loss(torch.tensor([[[0.0, 1.0]]]), labels).isfinite()


def test_kd_without_confident_snippets_is_zero_with_a_gradient():
    p = torch.rand(1, 3, 2, requires_grad=True)
    loss = kd_loss(p, torch.tensor([[[-1, 0]] * 3]))
    loss.backward()
    assert loss == 0 and (p.grad == 0).all()


def test_background_teaches_by_bernoulli_and_not_by_categorical():
    p = torch.tensor([[[0.7, 0.2]]], requires_grad=True)
    background = torch.zeros(1, 1, 2)
    assert torch.autograd.grad(kd_loss(p, background, "bernoulli"), p)[0].abs().min() > 1
    assert (torch.autograd.grad(kd_loss(p, background, "categorical"), p)[0] == 0).all()


def test_the_least_cost_of_background_over_20_classes_is_the_even_distribution():
    """Section 1.7: C log(C / (C - 1)) = 1.03, below the paper's threshold of background."""
    even = kd_loss(torch.full((1, 1, 20), 1 / 20), torch.zeros(1, 1, 20))
    assert even.item() == pytest.approx(20 * math.log(20 / 19), abs=1e-5)
    assert kd_loss((torch.randn(1, 1, 20) / 9).softmax(-1), torch.zeros(1, 1, 20)) > even


def slow_share(anchor, same, other, f, temperature):
    def near(j):
        return math.exp(f[anchor] @ f[j] / temperature)

    positive = sum(near(m) for m in same if m != anchor)
    return -math.log(positive / (positive + sum(near(j) for j in other)))


def slow_contrast(features, labels, mask, temperature, scope):
    f = torch.nn.functional.normalize(features.double(), dim=-1).flatten(0, 1)
    b, t, classes = labels.shape
    rows = labels.flatten(0, 1).tolist()
    known = [r for r in range(b * t) if mask.flatten()[r] and is_known(rows[r])]
    groups = [known] if scope == "batch" else [[r for r in known if r // t == i] for i in range(b)]
    total = 0.0
    for group in groups:
        other, of_classes = [r for r in group if not any(rows[r])], []
        for k in range(classes):
            same = [r for r in group if rows[r][k] == 1]
            if len(same) > 1 and other:
                of_classes.append(sum(slow_share(a, same, other, f, temperature) for a in same) / len(same))
        total += sum(of_classes) / max(1, len(of_classes)) / len(groups)
    return total


@pytest.mark.parametrize("scope", ["video", "batch"])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_contrast_is_the_slow_sum(scope, temperature):
    torch.manual_seed(0)
    features = torch.randn(4, 6, 5)
    features[~MASK] = torch.nan
    loss = contrast_loss(features, LABELS, MASK, temperature=temperature, scope=scope)
    assert loss.item() == pytest.approx(slow_contrast(features, LABELS, MASK, temperature, scope), abs=1e-5)


def test_no_snippet_finds_itself():
    """Were each its own positive, all alike, the loss of two snippets and one background would be log(3 / 2)."""
    loss = contrast_loss(torch.ones(1, 3, 2), torch.tensor([[[1], [1], [0]]]), torch.ones(1, 3, dtype=torch.bool))
    assert loss.item() == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.parametrize("labels", [[1, 0, 0], [1, 1, 1], [0, 0, 0], [-1, -1, 1]])
@pytest.mark.parametrize("scope", ["video", "batch"])
def test_contrast_without_a_pair_or_without_background_is_zero_with_a_gradient(labels, scope):
    features = torch.randn(1, 3, 2, requires_grad=True)
    mask = torch.ones(1, 3, dtype=torch.bool)
    loss = contrast_loss(features, torch.tensor([labels])[..., None], mask, scope=scope)
    loss.backward()
    assert loss == 0 and (features.grad == 0).all()


def test_untagged_videos_are_background_for_the_batch():
    features, mask = torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    labels = torch.tensor([[1, 1, 1], [0, 0, 0]])[..., None]
    assert contrast_loss(features, labels, mask, scope="video") == 0
    assert contrast_loss(features, labels, mask, scope="batch") > 0


def test_caps_draw_anew_and_the_same_for_the_same_generator():
    torch.manual_seed(0)
    features, mask = torch.randn(1, 400, 8), torch.ones(1, 400, dtype=torch.bool)
    labels = (torch.arange(400) % 2)[None, :, None]
    caps = {"max_foreground": 20, "max_background": 30}

    def drawn(seed):
        return contrast_loss(features, labels, mask, **caps, generator=torch.Generator().manual_seed(seed))

    assert drawn(1) == drawn(1) != drawn(2)
    free = torch.random.get_rng_state()
    contrast_loss(features, labels, mask, max_foreground=200, max_background=200)  # nothing to draw
    assert torch.equal(free, torch.random.get_rng_state())


def test_video_loss_weighs_a_video_of_two_tags_as_one_and_an_untagged_as_nothing():
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 9, 4), torch.ones(3, 9, dtype=torch.bool)
    y = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    log_p = logits.amax(1).log_softmax(1)  # 9 // 8 = 1 snippet
    wanted = -(log_p[0, 0] / 2 + log_p[0, 1] / 2 + log_p[1, 2]) / 3
    assert torch.allclose(video_loss(logits, y, mask), wanted)


def test_video_loss_takes_logits_and_can_reach_zero():
    """Of probabilities the loss of 20 classes could not go below 2.08 (section 1.4)."""
    logits = torch.zeros(1, 8, 20)
    logits[..., 0] = 50
    assert video_loss(logits, torch.eye(20)[:1], torch.ones(1, 8, dtype=torch.bool)) < 1e-6


def test_a_background_class_is_wanted_of_every_video_and_a_zero_logit_of_untagged_ones():
    mask, tagged, untagged = torch.ones(1, 1, dtype=torch.bool), torch.tensor([[1.0]]), torch.tensor([[0.0]])
    loss = WARMUP["mil"]
    balanced = torch.tensor([[[2.0, 2.0]]], requires_grad=True)  # one class, background
    loss({"logits": balanced}, tagged, mask)["loss"].backward()
    assert (balanced.grad == 0).all()
    for y, rises in ((tagged, True), (untagged, False)):
        alone = torch.tensor([[[0.5]]], requires_grad=True)
        loss({"logits": alone}, y, mask, background="zero")["loss"].backward()
        assert (alone.grad.item() < 0) == rises


@pytest.mark.parametrize("name", ["mil", "untrimmednet", "basnet"])
def test_the_loss_of_a_batch_is_the_mean_of_those_of_its_videos(name):
    torch.manual_seed(0)
    logits, mask = torch.randn(4, 6, 3), MASK
    weights = torch.randn(4, 6, 1).masked_fill(~mask[..., None], -torch.inf).softmax(1)
    out = {"logits": logits, "suppressed": -logits, "weights": weights, "attention": weights}
    y = torch.tensor([[1.0, 0], [1, 1], [0, 0], [0, 1]])
    whole = WARMUP[name](out, y, mask)["loss"]
    parts = [
        WARMUP[name]({key: x[i : i + 1] for key, x in out.items()}, y[i : i + 1], mask[i : i + 1])["loss"]
        for i in range(4)
    ]
    assert torch.allclose(whole, sum(parts) / 4, atol=1e-6)
    p = logits.softmax(-1)[..., :2]
    for loss in (lambda i: kd_loss(p[i], LABELS[i]), lambda i: contrast_loss(logits[i], LABELS[i], mask[i])):
        assert torch.allclose(loss(slice(None)), sum(loss(slice(i, i + 1)) for i in range(4)) / 4, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kd_loss(torch.rand(1, 1, 1), torch.ones(1, 1, 1), "reverse"), r"divergence \(reverse\)"),
        (lambda: contrast_loss(torch.rand(1, 1, 1), LABELS, MASK, scope="world"), r"scope \(world\)"),
        (
            lambda: contrast_loss(torch.rand(1, 1, 1), LABELS, MASK, max_foreground=1),
            r"max_foreground \(1\) must be > 1",
        ),
    ],
)
def test_unknown_readings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
