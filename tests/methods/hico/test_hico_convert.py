"""Files as HiCo and CoCLR release them, made here with their names, duplicates and containers."""

import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vitascope.methods.hico.convert import config_of, import_weights, load_official, to_ours
from vitascope.methods.hico.method import HiCo
from vitascope.methods.hico.model import BACKBONES, HiCoModel
from vitascope.video.transforms import centre_crop, normalise, resize

LAYERS = (  # blocks of the released S3D-G, a pooling in front of all but the first
    ("Conv_1a",),
    ("", "Conv_2b", "Conv_2c"),
    ("", "Mixed_3b", "Mixed_3c"),
    ("", "Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"),
    ("", "Mixed_5b", "Mixed_5c"),
)
HEADS = {
    "visual_head.": "head.mlp_vcl.",
    "topical_head.": "head.mlp_tcl.mlp.",
    "predictor.": "head.mlp_tcl.topical_predictor.",
}


def build(backbone: str, topical: bool = True) -> dict:
    """The state of a model, every tensor of a number of its own, one in memory and on disk whatever its shape."""
    with torch.device("meta"):
        encoder = BACKBONES[backbone]()
        state = HiCoModel(encoder, encoder.dim, topical).state_dict()
    return {name: torch.tensor(i, dtype=t.dtype).expand(t.shape) for i, (name, t) in enumerate(state.items())}


def official(ours: dict, prefix: str = "backbone.", heads: dict | None = None) -> dict:
    """A state by the released names, every tensor of S3D-G's layers twice."""
    state = {}
    for name, tensor in ours.items():
        for part, theirs in ({"encoder.": prefix} | (HEADS if heads is None else heads)).items():
            if name.startswith(part):
                state[theirs + name.removeprefix(part)] = tensor
    for i, block in enumerate(LAYERS, start=1):
        for j, layer in enumerate(block):
            start = f"{prefix}{layer}."
            twins = {
                f"{prefix}block{i}.{j}.{k.removeprefix(start)}": v for k, v in state.items() if k.startswith(start)
            }
            state |= twins if layer else {}
    return state


def save(state: dict, path, **beside):
    torch.save(
        {"epoch": 119, "model_state": state, "cfg": '{"TRAIN": {}}', "optimizer_state": {"state": {}}} | beside, path
    )
    return path


@pytest.fixture(scope="module")
def s3dg() -> dict:
    return build("s3dg")


def is_equal(tensors: dict, ours: dict, start: str = "") -> bool:
    wanted = {name: tensor for name, tensor in ours.items() if name.startswith(start)}
    return tensors.keys() == wanted.keys() and all(torch.equal(tensors[name], wanted[name]) for name in wanted)


def test_hico_s3dg_loads_with_its_heads(s3dg, tmp_path):
    state = official(s3dg)
    assert len(state) == 1104 and "backbone.block4.5.branch1.1.bn2.weight" in state
    tensors, report = load_official(save(state, tmp_path / "checkpoint_epoch_00120.pyth"))
    assert len(report.matched) == len(tensors) == 570 and str(report) == "570 tensors matched"
    assert is_equal(tensors, s3dg)
    assert config_of(tensors) == {"backbone": "s3dg", "hidden_dim": 1024, "projection_dim": 128, "topical": True}
    fresh = HiCoModel(BACKBONES["s3dg"](), 1024)
    fresh.load_state_dict(tensors)
    assert fresh.encoder.Conv_1a.bn1.eps == 1e-3 and fresh.encoder.Conv_2b.bn.eps == 1e-5


def test_hico_r2plus1d_loads(tmp_path):
    ours = build("r2plus1d-10")
    state = official(ours)
    assert len(state) == 126 + 36
    tensors, report = load_official(save(state, tmp_path / "r2plus1d.pyth"))
    assert is_equal(tensors, ours) and report.fits
    assert config_of(tensors)["backbone"] == "r2plus1d-10"


def test_the_baseline_has_one_head(tmp_path):
    ours = build("s3dg", topical=False)
    state = official(ours, heads={"visual_head.": "head.mlp."})
    tensors, report = load_official(save(state, tmp_path / "simclr.pyth"))
    assert is_equal(tensors, ours) and report.fits
    assert config_of(tensors)["topical"] is False


def test_fine_tuned_files_bring_a_classifier(s3dg, tmp_path):
    state = official(s3dg, heads={}) | {"head.out.weight": torch.ones(101, 1024), "head.out.bias": torch.ones(101)}
    tensors, report = load_official(save(state, tmp_path / "ft.pyth"))
    assert len(report.matched) == 534 + 2 and tensors["head.weight"].shape == (101, 1024)
    assert config_of(tensors) == {"backbone": "s3dg"}
    with pytest.raises(ValueError, match="1 mismatched: head.bias"):
        load_official(save(state | {"head.out.bias": torch.ones(51)}, tmp_path / "odd.pyth"))


@pytest.mark.parametrize("wrapped", ["", "module."])
def test_coclr_s3d_loads_and_the_rest_of_its_file_is_ignored(wrapped, tmp_path):
    ours = build("s3d")
    state = official(ours, "encoder_q.0.", heads={})
    others = {name.replace("encoder_q", "encoder_k"): tensor for name, tensor in state.items()}
    others |= {
        "encoder_q.2.weight": torch.ones(1024, 1024, 1, 1, 1),
        "queue": torch.ones(128, 8),
        "queue_ptr": torch.ones(1),
    }
    state = {wrapped + name: tensor for name, tensor in (state | others).items()}
    path = tmp_path / "epoch299.pth.tar"
    torch.save({"epoch": 299, "state_dict": state, "best_acc": 0.5, "iteration": 7}, path)
    tensors, report = load_official(path)
    assert is_equal(tensors, ours, "encoder.") and len(tensors) == 462
    assert len(report.ignored) == len(others) and "queue_ptr" in report.ignored
    assert config_of(tensors) == {"backbone": "s3d"}
    norms = [part for part in BACKBONES["s3d"]().modules() if isinstance(part, nn.BatchNorm3d)]
    assert {norm.eps for norm in norms} == {1e-5}


def test_gates_must_agree_with_whose_file_it_is(s3dg, tmp_path):
    """HiCo's epsilons on CoCLR's weights, or the other way round, would give a network that works and is wrong."""
    with pytest.raises(ValueError, match=r"do not fit s3dg: 462 tensors matched; 72 missing: .*gating_b0"):
        load_official(save(official(build("s3d"), heads={}), tmp_path / "ungated.pyth"))
    with pytest.raises(ValueError, match=r"do not fit s3d: 462 tensors matched; 72 unexpected: .*gating_b0"):
        load_official(save(official(s3dg, "encoder_q.0.", heads={}), tmp_path / "gated.pyth"))


def test_duplicates_that_differ_are_refused(s3dg, tmp_path):
    state = official(s3dg)
    name = "backbone.block3.2.branch0.0.bn.weight"
    for other in (state[name] + 1, state[name][:-1]):
        message = (
            "encoder.block3.2.branch0.0.bn.weight and encoder.Mixed_3c.branch0.0.bn.weight are one tensor and differ"
        )
        with pytest.raises(ValueError, match=message):
            load_official(save(state | {name: other}, tmp_path / "conflict.pyth"))


def test_files_without_duplicates_or_with_the_duplicates_only_load(s3dg, tmp_path):
    state = official(s3dg)
    once = {name: tensor.clone() for name, tensor in state.items() if ".block" not in name}
    save_file(once, tmp_path / "once.safetensors")
    twins = {name: tensor for name, tensor in state.items() if not re.match(r"backbone\.(Conv|Mixed)", name)}
    for path in (tmp_path / "once.safetensors", save(twins, tmp_path / "twins.pyth")):
        tensors, _ = load_official(path)
        assert is_equal(tensors, s3dg)


def test_anything_less_than_the_whole_encoder_is_refused(s3dg, tmp_path):
    state = official(s3dg)
    del state["backbone.Mixed_5c.branch1.1.bn2.running_var"], state["backbone.block5.2.branch1.1.bn2.running_var"]
    with pytest.raises(ValueError, match="569 tensors matched; 1 missing: encoder.Mixed_5c.branch1.1.bn2.running_var"):
        load_official(save(state, tmp_path / "less.pyth"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone.Mixed_6a.conv.weight": torch.ones(1)}, "1 unexpected: encoder.Mixed_6a.conv.weight"),
        ({"backbone.block6.0.conv.weight": torch.ones(1)}, "1 unexpected: encoder.block6.0.conv.weight"),
        ({"queue": torch.ones(128, 8)}, "1 unexpected: queue"),
        ({"head.mlp_tcl.topical_predictor.2.bias": torch.ones(2)}, "1 mismatched: predictor.2.bias"),
        ({"module.backbone.Conv_2b.bn.bias": torch.ones(64)}, "encoder.Conv_2b.bn.bias is there twice"),
        ({"encoder_q.0.Conv_2b.bn.bias": torch.ones(64)}, "encoder.Conv_2b.bn.bias is there twice"),
    ],
)
def test_what_does_not_belong_is_refused_by_name(s3dg, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load_official(save(official(s3dg) | change, tmp_path / "odd.pyth"))


def test_half_a_head_is_refused(s3dg, tmp_path):
    state = {name: tensor for name, tensor in official(s3dg).items() if not name.startswith("head.mlp_vcl.linear_b")}
    with pytest.raises(ValueError, match="7 missing: visual_head.linear_b.bias"):
        load_official(save(state, tmp_path / "half.pyth"))


def test_other_networks_and_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no S3D-G, S3D or R\(2\+1\)D-10 in it, only features.0.weight"):
        load_official(save({"features.0.weight": torch.ones(1)}, tmp_path / "torchvision.pth"))
    with pytest.raises(FileNotFoundError, match="do not exist"):
        load_official(tmp_path / "gone.pyth")
    (tmp_path / "cut.pyth").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(ValueError, match="hold objects beside tensors, or are damaged"):
        load_official(tmp_path / "cut.pyth")


class Danger:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_code_in_a_file_is_not_run(s3dg, tmp_path, capsys):
    with pytest.raises(ValueError, match="Weights only load failed"):
        load_official(save(official(s3dg), tmp_path / "bad.pyth", cfg=Danger()))
    assert "this must not run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("backbone", "prefix", "missing"),
    [("s3dg", "backbone.", 0), ("r2plus1d-10", "backbone.", 0), ("s3d", "encoder_q.0.", 36)],
)
def test_a_file_becomes_a_method_that_gives_features_of_its_weights(backbone, prefix, missing, tmp_path):
    torch.manual_seed(0)
    model = HiCoModel(BACKBONES[backbone](), BACKBONES[backbone]().dim).eval()
    state = official(model.state_dict(), prefix, heads={} if missing else None)
    method, report = import_weights(save(state, tmp_path / "a.pyth"), num_frames=8, size=64)
    assert isinstance(method, HiCo) and not method.training
    assert (method.config.backbone, method.snippet.num_frames, method.config.size) == (backbone, 8, 64)
    assert len(report.missing) == missing and all(name.split(".")[0] != "encoder" for name in report.missing)
    own = method.model.state_dict()
    assert sorted([*report.matched, *report.missing]) == sorted(own)
    assert all(torch.equal(own[name], model.state_dict()[name]) for name in report.matched)
    clips = torch.randint(0, 255, (1, 8, 3, 74, 90), dtype=torch.uint8)
    seen = normalise(centre_crop(resize(clips.float() / 255, 73), 64), (0.45,) * 3, (0.225,) * 3)
    with torch.no_grad():
        torch.testing.assert_close(method.features(clips), model.encode(seen), rtol=1e-5, atol=1e-5)


def test_the_classes_of_a_fine_tuned_file_are_left_and_told(s3dg, tmp_path):
    state = official(s3dg, heads={}) | {"head.out.weight": torch.ones(101, 1024), "head.out.bias": torch.ones(101)}
    _, report = import_weights(save(state, tmp_path / "ft.pyth"))
    assert report.ignored == ("head.bias", "head.weight") and len(report.matched) == 534
    assert {name.split(".")[0] for name in report.missing} == {"visual_head", "topical_head", "predictor"}


def test_the_baseline_becomes_a_method_without_topics(tmp_path):
    ours = build("s3dg", topical=False)
    path = save(official(ours, heads={"visual_head.": "head.mlp."}), tmp_path / "simclr.pyth")
    method, report = import_weights(path)
    assert method.config.topical is False and report.fits
    with pytest.raises(ValueError, match=r"topical \(True\) is False in .*simclr.pyth; leave it out"):
        import_weights(path, topical=True)


def test_names_without_a_rule_stay():
    assert list(to_ours({"head.other.bias": torch.ones(1)})) == ["head.other.bias"]
