"""Pooling, thresholds and pseudo-labels against slow restatements of sections 1.3, 1.6 and 6.1 of the specification."""

import math

import pytest
import torch

from vitascope.methods.cbp_vlp.targets import confident, coverage, pseudo_labels, thresholds, topk_mean


def lengths_to_mask(lengths, t):
    return torch.arange(t) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("ratio", [1, 5, 7, 8, 100])
def test_topk_mean_is_sort_and_slice_of_each_videos_own_snippets(ratio):
    torch.manual_seed(ratio)
    lengths = [1, 2, 7, 8, 9, 15, 16, 40]
    logits, mask = torch.randn(len(lengths), 40, 5), lengths_to_mask(lengths, 40)
    logits[~mask] = 1e9
    pooled = topk_mean(logits, mask, ratio)
    for i, length in enumerate(lengths):
        for k in range(5):
            ordered = sorted(logits[i, :length, k].tolist(), reverse=True)
            best = ordered[: max(1, length // ratio)]
            assert pooled[i, k].item() == pytest.approx(sum(best) / len(best), abs=1e-6)


def test_topk_mean_of_no_snippets_is_zero():
    pooled = topk_mean(torch.full((2, 4, 3), torch.nan), torch.zeros(2, 4, dtype=torch.bool))
    assert (pooled == 0).all()


def test_the_gradient_of_topk_mean_reaches_the_chosen_snippets_alone():
    logits = torch.tensor([[[1.0], [3.0], [2.0], [9.0]]], requires_grad=True)
    topk_mean(logits, torch.tensor([[True, True, True, False]]), ratio=1.5).sum().backward()
    assert logits.grad.flatten().tolist() == [0, 0.5, 0.5, 0]


def slow_labels(p, y, mask, high, low):
    out = torch.full(p.shape, -1, dtype=torch.int8)
    for i, t, k in torch.cartesian_prod(*(torch.arange(n) for n in p.shape)).tolist():
        if not mask[i, t]:
            continue
        if p[i, t, k] > high and y[i, k]:
            out[i, t, k] = 1
        elif p[i, t, k] < low or not y[i, k]:
            out[i, t, k] = 0
    return out


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_pseudo_labels_are_those_of_the_slow_rule(dtype):
    torch.manual_seed(0)
    p, y, mask = torch.rand(4, 12, 3), torch.rand(4, 3) < 0.5, lengths_to_mask([12, 1, 5, 9], 12)
    y[2] = False
    labels = pseudo_labels(p, y.to(dtype), mask, 0.6, 0.3)
    assert labels.dtype == torch.int8
    assert torch.equal(labels, slow_labels(p, y, mask, 0.6, 0.3))
    assert set(labels.unique().tolist()) == {-1, 0, 1}


def test_a_video_without_tags_is_all_background():
    labels = pseudo_labels(torch.rand(1, 6, 2), torch.zeros(1, 2), torch.ones(1, 6, dtype=torch.bool))
    assert (labels == 0).all() and confident(labels).all()


def test_video_minmax_stretches_each_curve_over_its_real_snippets_and_leaves_flat_ones():
    p = torch.tensor([[[0.50, 0.4], [0.52, 0.4], [0.60, 0.4], [0.99, 0.0]]])
    mask = torch.tensor([[True, True, True, False]])
    labels = pseudo_labels(p, torch.ones(1, 2), mask, 0.3, 0.1, normalise="video_minmax")
    assert labels[0, :, 0].tolist() == [0, -1, 1, -1]
    assert labels[0, :, 1].tolist() == [1, 1, 1, -1]  # 0.4, as it is
    alone = pseudo_labels(p[:, :1], torch.ones(1, 2), mask[:, :1], 0.3, 0.1, normalise="video_minmax")
    assert alone.tolist() == [[[1, 1]]]


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match=r"normalise \(batch\) must be none or video_minmax"):
        pseudo_labels(torch.rand(1, 1, 1), torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool), normalise="batch")


def test_coverage_counts_confident_snippets_and_ignores_padding():
    labels = torch.tensor([[[1, 0], [1, -1], [0, 0], [-1, -1]], [[0, 0], [-1, -1], [-1, -1], [-1, -1]]])
    mask = torch.tensor([[True, True, True, True], [True, False, False, False]])
    assert coverage(labels, mask) == {"foreground": 1 / 5, "background": 2 / 5, "uncertain": 2 / 5}
    nothing = coverage(labels, torch.zeros_like(mask))
    assert nothing == {"foreground": 0, "background": 0, "uncertain": 0}


@pytest.mark.parametrize("num_classes", [2, 3, 5, 10])
def test_few_classes_without_background_are_refused_or_scaled_over_the_even_level(num_classes):
    with pytest.raises(ValueError, match=rf"low \(0.1\) must be > 1/{num_classes}.*background 'class'"):
        thresholds(0.3, 0.1, num_classes)
    high, low = thresholds(0.3, 0.1, num_classes, scale=True)
    assert 1 / num_classes < low < high < 1
    assert low == pytest.approx(1.5 / num_classes)


@pytest.mark.parametrize("how", [{"background": "class"}, {"background": "zero"}, {"normalise": "video_minmax"}])
def test_a_lower_floor_keeps_the_papers_thresholds(how):
    assert thresholds(0.3, 0.1, 1, **how) == (0.3, 0.1)
    assert thresholds(0.3, 0.1, 11) == (0.3, 0.1)


def test_one_class_alone_cannot_be_scaled():
    with pytest.raises(ValueError, match=r"must be > 1/1"):
        thresholds(0.3, 0.1, 1, scale=True)


@pytest.mark.parametrize(("high", "low"), [(0.1, 0.3), (0.3, 0.3), (1.0, 0.1), (0.3, 0.0), (math.nan, 0.1)])
def test_thresholds_out_of_order_are_refused(high, low):
    with pytest.raises(ValueError, match="must be 0 < low < high < 1"):
        thresholds(high, low, 20)
