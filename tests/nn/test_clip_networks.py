"""The 3-D networks: sizes of the papers, names of the released files, and S3D-G against its layers written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vitascope.nn.r2plus1d import R2Plus1D10, middle_width
from vitascope.nn.r3d import R3D18
from vitascope.nn.s3dg import S3DG
from vitascope.nn.tiny3d import Tiny3D


def on_meta(build, frames: int, size: int):
    """A network and clips of shapes only: nothing is computed."""
    with torch.device("meta"):
        return build(), torch.empty(1, frames, 3, size, size)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def giga_flops(network: nn.Module, clips: torch.Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        network(clips)
    return counter.get_total_flops() / 1e9


@pytest.mark.parametrize(
    ("build", "frames", "num_parameters", "num_tensors", "shape"),
    [
        (S3DG, 16, 9_098_000, 534, (1, 1024, 2, 3, 3)),  # 534 + 36 of the heads = the 570 of a released file
        (lambda: S3DG(gating=False, separable_eps=1e-5), 16, 7_910_048, 462, (1, 1024, 2, 3, 3)),
        (R2Plus1D10, 16, 14_365_477, 126, (1, 512, 2, 7, 7)),
        (R3D18, 8, 33_166_272, 120, (1, 512, 1, 7, 7)),
    ],
    ids=["s3dg", "s3d", "r2plus1d-10", "r3d-18"],
)
def test_sizes_are_those_of_the_papers(build, frames, num_parameters, num_tensors, shape):
    network, clips = on_meta(build, frames, 112)
    assert count(network) == num_parameters
    assert len(network.state_dict()) == num_tensors
    assert network.feature_maps(clips).shape == shape
    assert network(clips).shape == (1, network.dim)


def test_s3dg_costs_what_the_specification_says():
    assert giga_flops(*on_meta(S3DG, 16, 112)) == pytest.approx(8.95, abs=0.01)
    assert giga_flops(*on_meta(S3DG, 32, 224)) == pytest.approx(71.9, abs=0.3)


def test_norms_of_s3dg_have_two_epsilons():
    for network, separable_eps in ((S3DG(), 1e-3), (S3DG(gating=False, separable_eps=1e-5), 1e-5)):
        norms = {name: part for name, part in network.named_modules() if isinstance(part, nn.BatchNorm3d)}
        separable = {name for name in norms if name.endswith((".bn1", ".bn2"))}
        assert len(norms) == 77 and len(separable) == 40
        assert {norms[name].eps for name in separable} == {separable_eps}
        assert {norms[name].eps for name in norms.keys() - separable} == {1e-5}
        assert {part.momentum for part in norms.values()} == {0.1}


def test_names_of_s3dg_are_the_released_ones():
    names = S3DG().state_dict().keys()
    for name in (
        "Conv_1a.conv1.weight",
        "Conv_1a.bn2.running_var",
        "Conv_2b.conv.weight",
        "Conv_2c.conv2.weight",
        "Mixed_3b.branch0.0.bn.bias",
        "Mixed_4f.branch1.1.conv2.weight",
        "Mixed_5b.branch2.0.conv.weight",
        "Mixed_5c.branch3.1.bn.num_batches_tracked",
        "Mixed_5c.gating_b3.fc.bias",
    ):
        assert name in names
    assert S3DG().Conv_1a.conv1.kernel_size == (1, 7, 7) and S3DG().Conv_1a.conv2.kernel_size == (7, 1, 1)


def test_weights_of_s3dg_begin_as_small_normal_ones():
    torch.manual_seed(0)
    weight = S3DG().Mixed_5b.branch1[1].conv1.weight
    assert weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert weight.abs().max() > 0.03  # more than two deviations: not truncated


def literal_s3dg(state: dict, clips: torch.Tensor, separable_eps: float) -> torch.Tensor:
    """Layer by layer on tensors by their released names; running statistics."""

    def norm(x, name, eps):
        mean, var, weight, bias = (
            state[f"{name}.{part}"].view(1, -1, 1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + eps).sqrt() * weight + bias).clamp(min=0)

    def point(x, name):
        return norm(F.conv3d(x, state[f"{name}.conv.weight"]), f"{name}.bn", 1e-5)

    def separable(x, name, stride=1):
        pad = state[f"{name}.conv2.weight"].shape[2] // 2
        x = F.conv3d(x, state[f"{name}.conv1.weight"], stride=(1, stride, stride), padding=(0, pad, pad))
        x = norm(x, f"{name}.bn1", separable_eps)
        x = F.conv3d(x, state[f"{name}.conv2.weight"], stride=(stride, 1, 1), padding=(pad, 0, 0))
        return norm(x, f"{name}.bn2", separable_eps)

    def mixed(x, name):
        outs = [
            point(x, f"{name}.branch0.0"),
            separable(point(x, f"{name}.branch1.0"), f"{name}.branch1.1"),
            separable(point(x, f"{name}.branch2.0"), f"{name}.branch2.1"),
            point(F.max_pool3d(x, 3, 1, 1), f"{name}.branch3.1"),
        ]
        if f"{name}.gating_b0.fc.weight" in state:
            for i, out in enumerate(outs):
                weight, bias = state[f"{name}.gating_b{i}.fc.weight"], state[f"{name}.gating_b{i}.fc.bias"]
                gate = torch.sigmoid(out.flatten(2).mean(2) @ weight.T + bias)
                outs[i] = torch.einsum("bcthw,bc->bcthw", out, gate)
        return torch.cat(outs, 1)

    x = separable(clips.permute(0, 2, 1, 3, 4), "Conv_1a", stride=2)
    x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    x = separable(point(x, "Conv_2b"), "Conv_2c")
    x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    x = mixed(mixed(x, "Mixed_3b"), "Mixed_3c")
    x = F.max_pool3d(x, 3, 2, 1)
    for letter in "bcdef":
        x = mixed(x, f"Mixed_4{letter}")
    x = F.max_pool3d(x, 2, 2)
    x = mixed(mixed(x, "Mixed_5b"), "Mixed_5c")
    return x.mean((2, 3, 4))


@torch.no_grad()
@pytest.mark.parametrize("gating", [True, False])
def test_s3dg_computes_its_layers_written_out(gating):
    torch.manual_seed(1)
    eps = 1e-3 if gating else 1e-5
    network = S3DG(gating, separable_eps=eps).double().eval()
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.3)
        elif name.endswith("running_var"):
            tensor.uniform_(1e-3, 1e-2)  # so small that epsilons count
        elif "conv" in name.split(".")[-2]:
            tensor.mul_(3)
    clips = torch.randn(2, 8, 3, 40, 34, dtype=torch.float64)
    expected, said = literal_s3dg(network.state_dict(), clips, eps), network(clips)
    assert expected.std() > 1e-3
    torch.testing.assert_close(said, expected, rtol=1e-9, atol=0)
    if gating:
        assert not torch.allclose(said, literal_s3dg(network.state_dict(), clips, 1e-5), rtol=1e-3)


def test_clips_of_which_nothing_would_be_left_are_refused():
    network, _ = on_meta(S3DG, 16, 112)
    for shape in ((1, 4, 3, 64, 64), (1, 16, 3, 16, 64), (4, 3, 64, 64)):
        with pytest.raises(ValueError, match=r"must be \[B, T, 3, H, W\] with T >= 5 and H, W >= 17"):
            network(torch.empty(shape, device="meta"))
    assert network.eval()(torch.empty(1, 5, 3, 17, 17, device="meta")).shape == (1, 1024)


def test_names_of_r2plus1d_are_the_released_ones():
    names = {name.rsplit(".", 1)[0] for name in R2Plus1D10().state_dict()}
    stem = {f"conv1.{part}" for part in ("a1", "a1_bn", "a2", "a2_bn")}
    parts = ("a1", "a1_bn", "a2", "a2_bn", "b1", "b1_bn", "b2", "b2_bn")
    branches = {f"conv{i}.res_1.conv_branch.{part}" for i in (2, 3, 4, 5) for part in parts}
    shortcuts = {f"conv{i}.res_1.{part}" for i in (3, 4, 5) for part in ("short_cut", "short_cut_bn")}
    assert names == stem | branches | shortcuts


def test_split_convolutions_have_as_many_weights_as_the_whole_ones():
    for in_dim, dim, spatial in ((3, 64, 7), (64, 64, 3), (64, 128, 3), (256, 512, 3)):
        middle = middle_width(in_dim, dim, spatial)
        split, whole = spatial**2 * in_dim * middle + 3 * middle * dim, 3 * spatial**2 * in_dim * dim
        assert whole - spatial**2 * in_dim - 3 * dim < split <= whole


def test_the_tiny_network_costs_little():
    network, clips = on_meta(Tiny3D, 8, 64)
    assert network.dim == 256 and network(clips).shape == (1, 256)
    assert count(network) == 704_096
    assert giga_flops(network, clips) < 0.3


def test_no_clip_of_the_trained_tiny_network_depends_on_its_batch():
    torch.manual_seed(2)
    network, clips = Tiny3D(width=8).double(), torch.randn(5, 8, 3, 32, 32, dtype=torch.float64)
    network(clips)
    alone = torch.cat([network.eval()(clip[None]) for clip in clips])
    torch.testing.assert_close(alone, network(clips))
    assert not torch.allclose(alone, network.train()(clips), rtol=1e-3)


@pytest.mark.parametrize("build", [S3DG, R2Plus1D10, R3D18, Tiny3D])
def test_every_parameter_learns_and_time_matters(build):
    torch.manual_seed(3)
    network = build()
    clips = torch.randn(2, 8, 3, 36, 36)
    network(clips).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().any()] == []
    with torch.no_grad():
        assert not torch.allclose(network(clips), network(clips.flip(1)), rtol=1e-2, atol=0)
