"""Targets and losses of motion, against slow loops written from the paper and the specification (P9, P10)."""

import numpy as np
import pytest
import torch

from vitascope.methods.mme.loss import motion_loss
from vitascope.methods.mme.targets import (
    as_vector,
    from_vector,
    move_scale,
    move_weights,
    position_targets,
    shape_targets,
)

B, N, K = 2, 5, 4


def moves_of(num_steps: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    moves = 3 * torch.randn(B, N, K, num_steps, 2, generator=generator)
    seen = torch.rand(B, N, K, num_steps, generator=generator) > 0.15
    return moves, seen.cumprod(-1).bool()


def test_a_vector_runs_over_axis_step_row_and_column():
    moves = torch.arange(4 * 6 * 2).reshape(1, 1, 4, 6, 2)
    vector = as_vector(moves)[0, 0]
    expected = [moves[0, 0, k, step, axis] for axis in range(2) for step in range(6) for k in range(4)]
    assert vector.tolist() == expected
    assert torch.equal(from_vector(as_vector(moves), 4, 6), moves)


@pytest.mark.parametrize("num_steps", [4, 6])
def test_patch_std_is_the_releases_z_score_over_the_four_tracks(num_steps):
    moves, seen = moves_of(num_steps)
    said = position_targets(moves, seen, "patch-std", 0.0)
    over_20 = moves.double() / 20
    for b in range(B):
        for n in range(N):
            expected = []
            for axis in range(2):
                for step in range(num_steps):
                    four = over_20[b, n, :, step, axis].numpy()
                    expected += ((four - four.mean()) / (four.std(ddof=1) + 1e-6)).tolist()
            np.testing.assert_allclose(said[b, n], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["patch-std", "whole", "rms", "clip"])
def test_nothing_moves_gives_exactly_zero(kind):
    seen = torch.ones(1, 2, 4, 6, dtype=torch.bool)
    assert not position_targets(torch.zeros(1, 2, 4, 6, 2), seen, kind, 0.1).any()


def test_a_whole_motion_vanishes_under_patch_std_and_stays_under_rms():
    moves = torch.tensor([2.5, 2.5]).expand(1, 1, 4, 6, 2)
    seen = torch.ones(1, 1, 4, 6, dtype=torch.bool)
    assert not position_targets(moves, seen, "patch-std", 0.1).any()
    assert not position_targets(moves, seen, "whole", 0.1).any()
    torch.testing.assert_close(position_targets(moves, seen, "rms", 0.1), torch.ones(1, 1, 48))


def test_the_floor_keeps_noise_small():
    moves, seen = moves_of(6)
    still = moves / 3 * 0.01
    assert position_targets(still, seen, "rms", 0.1).abs().max() < 0.5
    assert position_targets(still, seen, "rms", 0.0).abs().max() > 1


def test_rms_and_clip_count_what_is_seen_only():
    moves, seen = moves_of(6)
    for kind in ("rms", "clip"):
        changed = torch.where(seen[..., None], moves, torch.full_like(moves, 1e3))
        assert torch.equal(move_scale(moves, seen, kind, 0.1)[1], move_scale(changed, seen, kind, 0.1)[1])
    for b in range(B):
        values = [
            float(v)
            for n in range(N)
            for k in range(K)
            for t in range(6)
            if seen[b, n, k, t]
            for v in moves[b, n, k, t]
        ]
        expected = np.sqrt(np.mean(np.square(values)))
        np.testing.assert_allclose(move_scale(moves, seen, "clip", 0.1)[1][b].item(), expected, rtol=1e-5)


def test_standardised_over_a_token_as_in_the_paper():
    moves, seen = moves_of(6)
    said = position_targets(moves, seen, "whole", 0.1)
    torch.testing.assert_close(said.mean(-1), torch.zeros(B, N), atol=1e-6, rtol=0)
    torch.testing.assert_close(said.std(-1, correction=0), torch.ones(B, N), atol=1e-5, rtol=0)
    cells = torch.rand(B, N, K, 6, 9)
    said = shape_targets(cells, "standard")
    torch.testing.assert_close(said.mean(-1), torch.zeros(B, N), atol=1e-6, rtol=0)
    assert said.std(-1, correction=0).min() > 0.99
    lengths = shape_targets(cells, "l2hys").square().sum(-1)
    torch.testing.assert_close(lengths, torch.full((B, N), 24.0), atol=0.1, rtol=0)
    assert torch.equal(shape_targets(cells, "none"), as_vector(cells))


def test_weights_are_of_tracks_or_of_whole_tokens():
    seen = torch.ones(1, 3, 4, 6, dtype=torch.bool)
    seen[0, 1, 2, 3:] = False  # one of four leaves
    seen[0, 2, :, 5] = False  # all leave at the end
    per_track = from_vector(move_weights(seen, "per_track"), 4, 6)
    assert torch.equal(per_track[..., 0].bool(), seen) and torch.equal(per_track[..., 0], per_track[..., 1])
    assert [move_weights(seen, "any")[0, n].mean().item() for n in range(3)] == [1, 1, 0]
    assert [move_weights(seen, "all")[0, n].mean().item() for n in range(3)] == [1, 0, 0]
    assert move_weights(seen, "off").min() == 1


@pytest.mark.parametrize(
    "call", [lambda m, s: move_weights(s, "most"), lambda m, s: position_targets(m, s, "max", 0.1)]
)
def test_an_unknown_kind_is_refused(call):
    with pytest.raises(ValueError, match=r"kind \('ma?o?[sx]t?'\) must be"):
        call(*moves_of(4))


@pytest.mark.parametrize("num_steps", [4, 6])
@pytest.mark.parametrize("norm", ["patch-std", "none"])
@pytest.mark.parametrize("weighting", ["any", "off"])
def test_the_sum_is_the_releases_loss(num_steps, norm, weighting):
    moves, seen = moves_of(num_steps, seed=num_steps)
    generator = torch.Generator().manual_seed(1)
    width = 8 * num_steps
    said = {
        "position": torch.randn(B, N, width, generator=generator),
        "shape": torch.rand(B, N, 108, generator=generator),
    }
    true = {"position": position_targets(moves, seen, norm, 0.1), "shape": torch.rand(B, N, 108, generator=generator)}
    got = motion_loss(said, true, move_weights(seen, weighting), sum_loss=True)
    position = shape = 0.0
    for b in range(B):
        for n in range(N):
            weight = 1.0 if weighting == "off" or seen[b, n, :, -1].any() else 0.0
            error = (said["position"][b, n].double() - true["position"][b, n].double()).square().sum().item()
            position += weight * 32 / width * error / (B * N)
            shape += (said["shape"][b, n].double() - true["shape"][b, n].double()).square().sum().item() / (B * N)
    np.testing.assert_allclose(got["position"].item(), position, rtol=2e-6)
    np.testing.assert_allclose(got["shape"].item(), shape, rtol=2e-6)
    np.testing.assert_allclose(got["loss"].item(), (position + shape) / 2, rtol=2e-6)
    only = motion_loss({"shape": said["shape"]}, {"shape": true["shape"]}, sum_loss=True)
    assert only["loss"] == only["shape"] == got["shape"]


def test_what_is_not_seen_does_not_count_in_the_mean():
    moves, seen = moves_of(6)
    weights = move_weights(seen, "per_track")
    said, true = torch.zeros(B, N, 48), position_targets(moves, seen, "rms", 0.1)
    wild = torch.where(weights.bool(), true, torch.full_like(true, 1e4))
    plain, other = (motion_loss({"position": said}, {"position": t}, weights)["loss"] for t in (true, wild))
    torch.testing.assert_close(plain, other)
    expected = np.mean([true[b][weights[b].bool()].square().mean().item() for b in range(B)])
    np.testing.assert_allclose(plain.item(), expected, rtol=1e-5)


def test_visibility_is_a_cross_entropy_beside_the_mean_of_the_others():
    logits, seen = torch.tensor([[[2.0, -1.0]]]), torch.tensor([[[True, False]]])
    said = {"position": torch.ones(1, 1, 2), "visibility": logits}
    true = {"position": torch.zeros(1, 1, 2), "visibility": seen}
    entropy = -(np.log(1 / (1 + np.exp(-2.0))) + np.log(1 - 1 / (1 + np.exp(1.0)))) / 2
    got = motion_loss(said, true, visibility_weight=0.1)
    np.testing.assert_allclose(got["visibility"].item(), entropy, rtol=1e-6)
    np.testing.assert_allclose(got["loss"].item(), 1 + 0.1 * entropy, rtol=1e-6)
