"""The losses of HiCo: golden values of the released functions, and loops written from their formulas."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vitascope.methods.hico.loss import hico_loss, nt_xent, topical_loss, visual_loss
from vitascope.methods.hico.targets import topic_pairs, unknown_pairs, visual_negatives


def golden(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Embeddings [4, 3, 8] and logits [12, 12] of the specification, section 6."""

    def h(k: Tensor) -> Tensor:
        return torch.sin(0.37 * k**2 + 1.1 * k)

    row, column = torch.arange(12, dtype=torch.float64)[:, None], torch.arange(12, dtype=torch.float64)
    z = F.normalize(h(8 * row + column[:8]), dim=1).view(4, 3, 8)
    return z.to(dtype), (1.5 * h(7 * row + 3 * column + 1)).to(dtype)


def cases(num_videos: int, num_clips: int = 3, dim: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_videos)
    rows = num_videos * num_clips
    z = torch.randn(num_videos, num_clips, dim, generator=generator, dtype=torch.float64)
    return F.normalize(z, dim=-1), 3 * torch.randn(rows, rows, generator=generator, dtype=torch.float64)


def literal_visual(z: list, t: float, excluded: list | None = None) -> float:
    total = 0.0
    for n in range(len(z)):
        for a, p in ((0, 1), (1, 0)):
            positive = math.exp(min(1.0, sum(x * y for x, y in zip(z[n][a], z[n][p]))) / t)
            denominator = positive
            for m in range(len(z)):
                for s in range(len(z[m])):
                    if m != n and not (excluded and excluded[n * len(z[n]) + a][m * len(z[m]) + s]):
                        denominator += math.exp(sum(x * y for x, y in zip(z[n][a], z[m][s])) / t)
            total -= math.log(positive / denominator)
    return total / (2 * len(z))


def literal_topical(
    logits: list, clips: int, gamma: float, weights: list | None = None, excluded: list | None = None
) -> float:
    eps, same, other, weight, count = 1e-5, 0.0, 0.0, 0.0, 0
    for r, row in enumerate(logits):
        for c, logit in enumerate(row):
            s = 1 / (1 + math.exp(-logit))
            if r // clips == c // clips and r != c:
                w = weights[r // clips][r % clips][c % clips] if weights else 1.0
                same += w * (1 - s) ** gamma * math.log(s + eps)
                weight += w
            elif r // clips != c // clips and not (excluded and excluded[r][c]):
                other += s**gamma * math.log(1 - s + eps)
                count += 1
    return -same / weight - other / count


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-6)])
def test_golden_values_of_both_terms(dtype, tolerance):  # P1, P2
    z, logits = golden(dtype)
    assert float(visual_loss(z)) == pytest.approx(3.897330833668, abs=tolerance)
    assert float(topical_loss(logits)) == pytest.approx(1.387118775834, abs=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_golden_total_and_gradients(dtype, tolerance):  # P3
    z, logits = (each.requires_grad_() for each in golden(dtype))
    terms = hico_loss(z, z.detach(), lambda rows: logits)
    terms["loss"].backward()
    assert float(terms["loss"].detach()) == pytest.approx(5.284449609502, abs=tolerance)
    assert float(terms["visual"] + terms["topical"]) == pytest.approx(5.284449609502, abs=tolerance)
    assert float(z.grad.norm()) == pytest.approx(5.566301906490, abs=tolerance)
    assert float(logits.grad.norm()) == pytest.approx(0.126250639857, abs=tolerance)


@pytest.mark.parametrize(("gamma", "expected"), [(0, 1.724277039354), (1, 1.147632673807), (2, 0.828340871145)])
def test_golden_values_of_other_gammas(gamma, expected):  # P4
    assert float(topical_loss(golden()[1], gamma=gamma)) == pytest.approx(expected, abs=1e-10)


def test_the_own_third_clip_is_no_negative():  # P5
    z, _ = golden()
    flat, total = z.flatten(0, 1), 0.0
    for n in range(4):  # the misreading: all clips but the anchor in the denominator
        for a, p in ((3 * n, 3 * n + 1), (3 * n + 1, 3 * n)):
            scores = flat @ flat[a] / 0.1
            total += torch.cat([scores[:a], scores[a + 1 :]]).logsumexp(0) - scores[p]
    assert float(total / 8) == pytest.approx(3.928826596796, abs=1e-10)
    assert abs(float(visual_loss(z)) - 3.928826596796) > 0.03


def test_two_clips_give_nt_xent():  # P6
    z, _ = golden()
    assert float(nt_xent(z[:, :2])) == pytest.approx(3.655639086872, abs=1e-10)
    flat = z[:, :2].flatten(0, 1)
    scores = (flat @ flat.T / 0.1).masked_fill(torch.eye(8, dtype=torch.bool), -math.inf)
    expected = F.cross_entropy(scores, torch.arange(8) ^ 1)
    assert float(hico_loss(z[:, :2])["loss"]) == pytest.approx(float(expected), abs=1e-12)
    with pytest.raises(ValueError, match="nt_xent needs 2 clips of each video and got 3"):
        nt_xent(z)


def test_golden_values_of_two_shards():  # P7
    logits = golden()[1]
    shards = [float(topical_loss(part)) for part in (logits[:6, :6], logits[6:, 6:])]
    assert shards == pytest.approx([1.460457764544, 1.312206184495], abs=1e-10)
    assert sum(shards) / 2 == pytest.approx(1.386331974519, abs=1e-10)


def test_the_transposed_map_has_the_same_loss():  # P9
    logits = golden()[1]
    assert float(topical_loss(logits.T)) == pytest.approx(float(topical_loss(logits)), abs=1e-12)


@pytest.mark.parametrize("n", [2, 4, 32])
def test_limits(n):  # P10
    assert float(topical_loss(torch.zeros(3 * n, 3 * n))) == pytest.approx(0.98023, abs=1e-5)
    same = F.normalize(torch.ones(n, 3, 7, dtype=torch.float64), dim=-1)
    assert float(visual_loss(same)) == pytest.approx(math.log(1 + 3 * (n - 1)), abs=1e-5)


@pytest.mark.parametrize("n", [2, 4, 32])
def test_random_inputs_equal_the_literal_loops(n):
    z, logits = cases(n)
    assert float(visual_loss(z, 0.2)) == pytest.approx(literal_visual(z.tolist(), 0.2), abs=1e-12)
    for gamma in (0.5, 1.7):
        expected = literal_topical(logits.tolist(), 3, gamma)
        assert float(topical_loss(logits, 3, gamma)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [2, 4, 32])
def test_weights_and_left_out_pairs_equal_the_literal_loops(n):
    z, logits = cases(n)
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(n, 3, 3, generator=generator, dtype=torch.float64).round(decimals=1)
    excluded = torch.rand(3 * n, 3 * n, generator=generator) < 0.3
    expected = literal_visual(z.tolist(), 0.1, excluded.tolist())
    assert float(visual_loss(z, 0.1, excluded)) == pytest.approx(expected, abs=1e-12)
    expected = literal_topical(logits.tolist(), 3, 0.5, weights.tolist(), excluded.tolist())
    found = topical_loss(logits, weights=weights, excluded=excluded)
    assert float(found) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_of_one_and_nothing_left_out_change_no_bit(dtype):
    def loss_and_gradients(**options):
        z, logits = (each.to(dtype).requires_grad_() for each in cases(8))
        terms = hico_loss(z, z.detach(), lambda rows: logits, **options)
        terms["loss"].backward()
        return torch.cat([terms["loss"].detach().view(1), z.grad.flatten(), logits.grad.flatten()])

    plain = loss_and_gradients()
    descriptors = torch.randn(8, 3, 5)
    neutral = {"weights": torch.ones(8, 3, 3), "videos": torch.arange(8), "descriptors": descriptors}
    assert torch.equal(loss_and_gradients(**neutral), plain)
    assert not torch.equal(loss_and_gradients(descriptors=descriptors, most_alike=1.0), plain)


def test_pairs_of_weight_zero_have_no_gradient_and_are_no_negatives():
    logits = golden()[1].requires_grad_()
    weights = torch.ones(4, 3, 3)
    weights[1, 2, :] = weights[1, :, 2] = 0
    topical_loss(logits, weights=weights).backward()
    assert (logits.grad[5, 3:5] == 0).all() and (logits.grad[3:5, 5] == 0).all()
    assert logits.grad[3, 4] < 0 < logits.grad[5, 0]  # the pair ij still counts, and so do clip k's negatives


def test_a_video_that_comes_twice_is_not_told_from_itself():
    z, logits = (each.requires_grad_() for each in golden())
    videos = torch.tensor([9, 5, 9, 6])
    terms = hico_loss(z, z.detach(), lambda rows: logits, videos=videos)
    terms["loss"].backward()
    assert (logits.grad[:3, 6:9] == 0).all() and (logits.grad[6:9, :3] == 0).all() and (logits.grad[:3, 3:6] > 0).all()
    same = [[videos[r // 3] == videos[c // 3] for c in range(12)] for r in range(12)]
    assert float(terms["visual"]) == pytest.approx(literal_visual(z.tolist(), 0.1, same), abs=1e-12)


def test_nothing_to_compare_with_is_zero_and_no_nan():
    z, logits = (each.requires_grad_() for each in golden())
    everything = torch.ones(12, 12, dtype=torch.bool)
    visual = visual_loss(z, excluded=everything)
    topical = topical_loss(logits, weights=torch.zeros(4, 3, 3), excluded=everything)
    (visual + topical).backward()
    assert visual == 0 and topical == 0
    assert (z.grad == 0).all() and (logits.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_certain_logits_and_half_precision_give_finite_gradients(dtype):
    logits = torch.tensor([-6e4, -90.0, -17.5, 0.0, 17.5, 90.0, 6e4]).repeat(12)[:81].view(9, 9).to(dtype)
    z = F.normalize(torch.ones(3, 3, 128), dim=-1).to(dtype)  # exp(10) nine times: over the largest float16
    logits, z = logits.requires_grad_(), z.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        terms = hico_loss(z, z.detach(), lambda rows: logits)
    terms["loss"].backward()
    assert terms["loss"].dtype == torch.float32
    assert all(value.isfinite() for value in terms.values())
    assert z.grad.isfinite().all() and logits.grad.isfinite().all() and logits.grad.any()


def test_autocast_does_not_round_the_cosines():
    z = golden(torch.float32)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert float(visual_loss(z)) == pytest.approx(3.897330833668, abs=2e-6)


def test_one_video_is_an_error_and_no_nan():
    z, logits = golden()
    with pytest.raises(ValueError, match="the visual term needs at least 2 videos of 2 clips and got 1 of 3"):
        hico_loss(z[:1], z[:1], lambda rows: logits[:3, :3])
    with pytest.raises(ValueError, match="the topical term needs at least 2 videos .* got 1 of 3; use a larger batch"):
        topical_loss(logits[:3, :3])


def test_masks_are_those_of_the_definitions():
    positives, negatives = topic_pairs(4, 3)
    assert positives.sum() == 6 * 4 and negatives.sum() == 9 * 4 * 3  # 6 and 9 N (N - 1): section 1.6
    assert not (positives & negatives).any() and not (positives | negatives).diagonal().any()
    assert visual_negatives(4, 3).sum(1).tolist() == [3 * 3] * 8


def test_clips_that_look_too_much_alike_are_found_by_clip():
    descriptors = F.normalize(torch.tensor([[[1.0, 0], [0, 1]], [[1, 0.1], [-1, 0]]]), dim=-1)
    unknown = unknown_pairs(2, descriptors=descriptors, most_alike=0.9)
    assert unknown[:2, 2:].tolist() == [[True, False], [False, False]]
    assert unknown_pairs(2) is None
