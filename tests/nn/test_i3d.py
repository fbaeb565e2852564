import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from vitascope.nn.i3d import I3D, load_i3d

BRANCHES = ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
MIXED = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")


def windows(x, kernel, stride, fill):
    """Pads of TensorFlow's "same": the output has ceil(size / stride) windows, the larger half of the rest behind."""
    for axis, (k, s) in enumerate(zip(kernel, stride, strict=True), 2):
        size = x.shape[axis]
        total = max((math.ceil(size / s) - 1) * s + k - size, 0)
        before = torch.full([*x.shape[:axis], total // 2, *x.shape[axis + 1 :]], fill)
        after = torch.full([*x.shape[:axis], total - total // 2, *x.shape[axis + 1 :]], fill)
        x = torch.cat([before, x, after], axis)
    return x


def unit(x, state, name, kernel=1, stride=1):
    x = F.conv3d(windows(x, (kernel,) * 3, (stride,) * 3, 0.0), state[f"{name}.conv3d.weight"], stride=stride)
    mean, variance = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
    scale, shift = state[f"{name}.bn.weight"], state[f"{name}.bn.bias"]
    rows = (slice(None), None, None, None)
    return ((x - mean[rows]) / (variance[rows] + 0.001).sqrt() * scale[rows] + shift[rows]).clamp(min=0)


def pool(x, kernel, stride):
    return F.max_pool3d(windows(x, kernel, stride, 0.0), kernel, stride)


def mixed(x, state, name):
    return torch.cat(
        [
            unit(x, state, f"{name}.b0"),
            unit(unit(x, state, f"{name}.b1a"), state, f"{name}.b1b", 3),
            unit(unit(x, state, f"{name}.b2a"), state, f"{name}.b2b", 3),
            unit(pool(x, (3, 3, 3), (1, 1, 1)), state, f"{name}.b3b"),
        ],
        1,
    )


def literal(clips, state):
    """The network as its paper and its files tell it, layer after layer, to the last mixed block."""
    x = unit(clips.transpose(1, 2), state, "Conv3d_1a_7x7", 7, 2)
    x = pool(x, (1, 3, 3), (1, 2, 2))
    x = unit(unit(x, state, "Conv3d_2b_1x1"), state, "Conv3d_2c_3x3", 3)
    x = pool(x, (1, 3, 3), (1, 2, 2))
    x = mixed(mixed(x, state, "Mixed_3b"), state, "Mixed_3c")
    x = pool(x, (3, 3, 3), (2, 2, 2))
    for name in ("4b", "4c", "4d", "4e", "4f"):
        x = mixed(x, state, f"Mixed_{name}")
    x = pool(x, (2, 2, 2), (2, 2, 2))
    return mixed(mixed(x, state, "Mixed_5b"), state, "Mixed_5c")


def random_network(in_channels):
    torch.manual_seed(0)
    network = I3D(in_channels).eval()
    for name, tensor in network.state_dict().items():
        if ".bn." in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
        if name.endswith(("bn.bias", "running_mean")):
            tensor.uniform_(-0.2, 0.2)
    return network


@pytest.fixture(scope="module")
def network():
    return random_network(3)


@pytest.mark.parametrize("shape", [(16, 64, 64), (11, 45, 53), (9, 33, 38), (10, 47, 32)])
@torch.no_grad()
def test_it_is_the_literal_network_at_even_and_odd_sizes(network, shape):
    clips = torch.rand(1, shape[0], 3, *shape[1:]) * 2 - 1
    found, wanted = network.feature_maps(clips), literal(clips, network.state_dict())
    assert found.shape[2:] == tuple(math.ceil(n / d) for n, d in zip(shape, (8, 32, 32), strict=True))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert wanted.std() > 1e-3


@torch.no_grad()
def test_sixteen_frames_of_224_pixels_are_one_vector_the_mean_of_all(network, monkeypatch):
    maps = torch.rand(2, 1024, 2, 7, 7)
    monkeypatch.setattr(network, "feature_maps", lambda clips: maps)
    torch.testing.assert_close(network(torch.zeros(2, 16, 3, 224, 224)), maps.mean((2, 3, 4)))


def test_parameters_carry_the_names_of_the_files(network):
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    units = ["Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"]
    units += [f"Mixed_{block}.{branch}" for block in MIXED for branch in BRANCHES]
    names = {f"{name}.conv3d.weight" for name in units} | {f"{name}.bn.{part}" for name in units for part in norm}
    state = network.state_dict()
    assert set(state) == names | {"logits.conv3d.weight", "logits.conv3d.bias"}
    assert state["Mixed_4b.b2a.conv3d.weight"].shape == (16, 480, 1, 1, 1)
    assert state["logits.conv3d.weight"].shape == (400, 1024, 1, 1, 1)
    assert sum(p.numel() for p in network.parameters()) == 12_697_264


@torch.no_grad()
@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {f"module.{k}": v for k, v in s.items()}]
)
def test_a_file_tells_channels_and_classes(tmp_path, wrap):
    given = I3D(in_channels=2, num_classes=7)
    old = {name: tensor for name, tensor in given.state_dict().items() if not name.endswith("tracked")}
    torch.save(wrap(old), tmp_path / "flow_imagenet.pt")
    found = load_i3d(tmp_path / "flow_imagenet.pt")
    assert not found.training and found.in_channels == 2 and found.logits.conv3d.out_channels == 7
    clip = torch.rand(1, 9, 2, 33, 33)
    torch.testing.assert_close(found.feature_maps(clip), given.eval().feature_maps(clip))


def test_a_file_that_does_not_fit_is_refused(tmp_path, network):
    path, state = tmp_path / "a.safetensors", network.state_dict()
    save_file({name: t for name, t in state.items() if name != "Mixed_3b.b0.bn.weight"}, path)
    with pytest.raises(ValueError, match="do not fit I3D.*1 missing: Mixed_3b.b0.bn.weight"):
        load_i3d(path)
    save_file(state | {"head.weight": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="1 unexpected: head.weight"):
        load_i3d(path)
    save_file(state | {"Mixed_3b.b0.bn.weight": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="1 mismatched: Mixed_3b.b0.bn.weight"):
        load_i3d(path)
    save_file({"conv1.weight": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="must be I3D's as pytorch-i3d names them"):
        load_i3d(path)
    with pytest.raises(FileNotFoundError):
        load_i3d(tmp_path / "none.pt")


@pytest.mark.parametrize("shape", [(8, 3, 224, 224), (16, 3, 192, 224)])
def test_clips_that_are_too_small_are_refused(network, shape):
    with pytest.raises(ValueError, match="must have at least 9 frames of 193 pixels"):
        network(torch.zeros(1, *shape))


def test_clips_of_other_channels_are_refused(network):
    with pytest.raises(ValueError, match=r"must be \[B, T, 3, H, W\]"):
        network(torch.zeros(1, 16, 2, 224, 224))
