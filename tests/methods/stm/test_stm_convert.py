"""Loading the released weights, and what is said of files that are something else."""

import pickle

import pytest
import torch
from literal_stm import calm_weights
from safetensors.torch import save_file

from vitascope.methods.stm import load_official


@pytest.fixture(scope="module")
def state():
    return calm_weights(prefix="module.")


def is_loaded(network, state):
    plain = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return all(torch.equal(tensor, plain[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("kind", ["plain", "prefixed", "wrapped", "zip", "legacy", "safetensors"])
def test_weights_load_from_every_container(state, tmp_path, kind):
    source = state
    if kind == "plain":
        source = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    elif kind == "wrapped":
        source = {"epoch": 3, "network": state}
    elif kind == "safetensors":
        source = tmp_path / "weights.safetensors"
        save_file(state, source)
    elif kind in ("zip", "legacy"):
        source = tmp_path / "STM_weights.pth"
        torch.save(state, source, _use_new_zipfile_serialization=kind == "zip")
    network = load_official(source if kind != "legacy" else str(source))
    assert is_loaded(network, state) and not network.training


def test_misfits_are_named_with_what_to_do(state):
    wrong = {name: tensor for name, tensor in state.items() if name != "module.Decoder.pred2.bias"}
    wrong["module.Decoder.pred2.weight"] = torch.zeros(1, 256, 3, 3)
    wrong["module.Decoder.pred4.bias"] = torch.zeros(2)
    with pytest.raises(ValueError) as error:
        load_official(wrong)
    for part in (
        "1 missing (Decoder.pred2.bias)",
        "1 unexpected (Decoder.pred4.bias)",
        "Decoder.pred2.weight [1, 256, 3, 3] instead of [2, 256, 3, 3]",
        "STM_weights.pth (558 tensors) fits",
    ):
        assert part in str(error.value)


def test_only_one_prefix_is_taken_off(state):
    with pytest.raises(ValueError, match=r"558 missing .*558 unexpected \(module\.Decoder"):
        load_official({f"module.{name}": tensor for name, tensor in state.items()})


def test_another_network_is_refused_by_its_name():
    with pytest.raises(ValueError, match="of Mask-Propagation or MiVOS, another network.*cannot be converted"):
        load_official({"mask_rgb_encoder.conv1.weight": torch.zeros(64, 5, 7, 7)})


def test_a_file_of_two_networks_is_refused(state):
    with pytest.raises(ValueError, match="Decoder.pred2.bias twice"):
        load_official({**state, "Decoder.pred2.bias": torch.zeros(2)})


def test_unreadable_sources_get_one_clear_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone.pth\) do not exist"):
        load_official(tmp_path / "gone.pth")
    (tmp_path / "weights.h5").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"must be a .safetensors, .pth, .pyth, .pt, .bin or .tar file"):
        load_official(tmp_path / "weights.h5")
    (tmp_path / "object.pth").write_bytes(pickle.dumps(Exception("code"), protocol=2))
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 broken")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("object.pth", "cut.pth", "empty.pth"):
        with pytest.raises(ValueError, match=rf"{name}\) hold objects beside tensors, or are damaged"):
            load_official(tmp_path / name)
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(ValueError, match=r"cut.safetensors\) cannot be read"):
        load_official(tmp_path / "cut.safetensors")
    for nothing in ({}, {"epoch": 3}):
        with pytest.raises(ValueError, match=r"weights hold no tensors under .*'network' or at the top"):
            load_official(nothing)
