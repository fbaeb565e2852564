import pytest
import torch

from vitascope.nn.lite0 import Lite0, WholeLite0, trunk_state, whole_state

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def package_file(path, change=None):
    """A file as the package names it, of random weights: 16 blocks, of which the first does not widen."""
    torch.manual_seed(0)
    blocks = [(32, 16, 3, 1)]
    for width_in, width, kernel, repeats in (
        (16, 24, 3, 2),
        (24, 40, 5, 2),
        (40, 80, 3, 3),
        (80, 112, 5, 3),
        (112, 192, 5, 4),
        (192, 320, 3, 1),
    ):
        blocks += [(width_in if repeat == 0 else width, width, kernel, 6) for repeat in range(repeats)]
    layers = {"_conv_stem": (32, 3, 3, 3), "_bn0": 32, "_conv_head": (1280, 320, 1, 1), "_bn1": 1280}
    for number, (width_in, width, kernel, widening) in enumerate(blocks):
        middle, name = width_in * widening, f"_blocks.{number}"
        if widening > 1:
            layers |= {f"{name}._expand_conv": (middle, width_in, 1, 1), f"{name}._bn0": middle}
        layers |= {f"{name}._depthwise_conv": (middle, 1, kernel, kernel), f"{name}._bn1": middle}
        layers |= {f"{name}._project_conv": (width, middle, 1, 1), f"{name}._bn2": width}
    state = {"_fc.weight": torch.rand(1000, 1280), "_fc.bias": torch.rand(1000)}
    for name, shape in layers.items():
        if isinstance(shape, int):
            state |= {f"{name}.{part}": torch.rand(shape) + 0.5 for part in NORM[:4]}
            state[f"{name}.num_batches_tracked"] = torch.tensor(5)
        else:
            state[f"{name}.weight"] = 0.1 * torch.randn(shape)
    torch.save(state | (change or {}), path)
    return state


def test_the_trunk_of_the_whole_is_the_trunk(tmp_path):
    package_file(tmp_path / "a.pth")
    whole, trunk = WholeLite0().eval(), Lite0().eval()
    whole.load_state_dict(whole_state(tmp_path / "a.pth"))
    trunk.load_state_dict(trunk_state(tmp_path / "a.pth"))
    frames = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for found, wanted in zip(whole.trunk(frames), trunk(frames), strict=True):
            torch.testing.assert_close(found, wanted)
        assert [level.shape[1:] for level in trunk(frames)] == [(24, 16, 24), (40, 8, 12), (112, 4, 6)]
        assert whole(frames).shape == (1, 1280)


def test_every_tensor_of_the_file_but_the_classes_finds_its_place(tmp_path):
    given = package_file(tmp_path / "a.pth")
    state = whole_state(tmp_path / "a.pth")
    assert len(state) == len(given) - 2
    assert sum(t.double().sum() for t in state.values()) == pytest.approx(
        float(sum(t.double().sum() for name, t in given.items() if not name.startswith("_fc")))
    )
    torch.testing.assert_close(state["stages.1.0.project.1.weight"], given["_blocks.15._project_conv.weight"])
    torch.testing.assert_close(state["trunk.stages.0.0.depthwise.1.weight"], given["_blocks.0._depthwise_conv.weight"])


def test_another_file_is_refused(tmp_path):
    package_file(tmp_path / "a.pth", {"_conv_head.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"_conv_head.weight is \[1\], must be \[1280, 320, 1, 1\]"):
        whole_state(tmp_path / "a.pth")
    trunk_state(tmp_path / "a.pth")  # has no head
