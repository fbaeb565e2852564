"""What a run starts from: classes of its data, the encoder of another run."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from vitascope.engine.checkpoint import CheckpointError
from vitascope.engine.load import load_method
from vitascope.engine.start import add_run, classes_of, data_sets, start
from vitascope.engine.train import train
from vitascope.methods import METHODS
from vitascope.store.library import Library
from vitascope.structures import Record

RECORDS = {"train": [Record("a.mp4", labels=("run",)), Record("b.mp4", labels=("jump",))]}


def tiny(name):
    cls = METHODS[name]
    return cls, next(make for recipe, make in cls.recipes.items() if recipe.endswith("-tiny"))()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of masked pre-training, of another depth than the recipe of the classifier."""
    cls, config = tiny("mme")
    config = config.model_copy(update={"depth": 2, "stride_frames": 3})
    torch.manual_seed(5)
    method, folder = cls(config), tmp_path_factory.mktemp("run")
    save_file({name: tensor + 0.01 for name, tensor in method.state_dict().items()}, folder / "model.safetensors")
    about = {"method": "mme", "recipe": "tiny", "config": config.model_dump(mode="json")}
    (folder / "config.json").write_text(json.dumps(about))
    return folder, method


def test_data_sets_are_told_without_weights():
    for name in METHODS:
        cls, config = tiny(name)
        torch.manual_seed(0)
        before = torch.get_rng_state()
        assert data_sets(cls, config)
        assert torch.equal(torch.get_rng_state(), before), name
    assert data_sets(*tiny("classifier")) == ["train"]


def test_classes_are_the_labels_sorted_numbers_by_value():
    assert classes_of([Record("a", labels=(name,)) for name in ("10", "9", "b", "a", "a")]) == ("9", "10", "a", "b")
    with pytest.raises(ValueError, match="1 records have 0 different labels"):
        classes_of([Record("a")])


def test_without_another_run_the_seed_makes_the_weights():
    cls, config = tiny("mme")
    method = start(cls, config, RECORDS, seed=3, recipe=config)
    torch.manual_seed(3)
    assert all(torch.equal(a, b) for a, b in zip(method.parameters(), cls(config).parameters(), strict=True))


def test_a_classifier_takes_geometry_and_weights_of_the_encoder(trained):
    folder, source = trained
    cls, config = tiny("classifier")
    method = start(cls, config, RECORDS, seed=0, recipe=config, init=folder)
    assert method.config.classes == ("jump", "run") and method.config.depth == 2 and method.config.stride_frames == 3
    theirs = dict(source.model.encoder.named_parameters())
    for name, parameter in method.model.encoder.named_parameters():
        torch.testing.assert_close(parameter, theirs[name] + 0.01)
    assert method.model.fc_norm.weight.eq(1).all()


def test_classes_that_are_given_stay_in_their_order(trained):
    cls, config = tiny("classifier")
    config = config.model_copy(update={"classes": ("run", "jump")})
    assert start(cls, config, RECORDS, seed=0, recipe=config).config.classes == ("run", "jump")


def test_a_changed_size_that_the_encoder_has_not_is_an_error(trained):
    cls, recipe = tiny("classifier")
    changed = recipe.model_copy(update={"depth": 3})
    with pytest.raises(ValueError, match=r"depth \(3\) is 2 in the encoder of .*; leave it out"):
        start(cls, changed, RECORDS, seed=0, recipe=recipe, init=trained[0])


def test_weights_that_do_not_fit_are_an_error(trained, tmp_path):
    folder, source = trained
    weights = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    del weights["model.encoder.blocks.1.attn.q_bias"]
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    cls, config = tiny("classifier")
    with pytest.raises(CheckpointError, match="does not fit: missing blocks.1.attn.q_bias"):
        start(cls, config, RECORDS, seed=0, recipe=config, init=tmp_path)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        start(cls, config, RECORDS, seed=0, recipe=config, init=tmp_path / "nothing")


def test_contrast_starts_from_masked_pre_training_where_its_encoder_is_a_vit(trained):
    folder, source = trained
    cls, recipe = tiny("hico")
    config = recipe.model_copy(update={"backbone": "vit"})
    method = start(cls, config, RECORDS, seed=0, recipe=recipe, init=folder)
    names = ("num_frames", "stride_frames", "size", "patch_size", "embed_dim", "depth", "num_heads")
    assert all(getattr(method.config, name) == getattr(source.config, name) for name in names)
    theirs, ours = source.model.encoder.state_dict(), method.model.encoder.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor + 0.01) for name, tensor in theirs.items())
    clips = torch.randint(0, 255, (2, 8, 3, 64, 64), dtype=torch.uint8)
    own = cls(method.config)
    assert not torch.allclose(own.features(clips), method.features(clips))
    own.model.encoder.load_state_dict(ours)
    torch.testing.assert_close(own.features(clips), method.features(clips))


def test_an_encoder_of_another_kind_is_told_with_what_to_choose(trained, tmp_path):
    folder, _ = trained
    cls, recipe = tiny("hico")
    told = f"{folder} is a run of mme with encoder vit, this recipe's encoder is tiny3d; choose --set backbone=vit"
    with pytest.raises(CheckpointError, match=re.escape(told) + "$"):
        start(cls, recipe, RECORDS, seed=0, recipe=recipe, init=folder)
    with Library(tmp_path / "library", create=True) as library:
        run = add_run(library, cls(recipe), name="hico", recipe="hico-tiny", source="a.pth")
    other, config = tiny("classifier")
    with pytest.raises(CheckpointError, match="of hico with encoder tiny3d, .* is vit; choose a run with encoder vit$"):
        start(other, config, RECORDS, seed=0, recipe=config, init=run.folder)
    assert start(cls, recipe, RECORDS, seed=0, recipe=recipe, init=run.folder).config == recipe


def test_a_method_without_an_encoder_of_clips_is_no_start(trained):
    cls, config = tiny("stm")
    with pytest.raises(CheckpointError, match="holds no encoder of clips|must both have an encoder"):
        start(cls, config, RECORDS, seed=0, recipe=config, init=trained[0])


def test_weights_from_elsewhere_are_a_run_like_any_other_but_cannot_be_gone_on_with(tmp_path):
    cls, config = tiny("mme")
    torch.manual_seed(7)
    source = cls(config.model_copy(update={"depth": 2}))
    with Library(tmp_path / "library", create=True) as library:
        run = add_run(library, source, name="mme", recipe="videomae", source="a.pth")
        assert library.finished_run() == run.id and run.state == "done" and run.data == {"data": "a.pth"}
        assert run.config["depth"] == 2 and run.recipe == "videomae"
    back = load_method(run.folder, METHODS)
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), back.parameters(), strict=True))
    other, recipe = tiny("classifier")
    method = start(other, recipe, RECORDS, seed=0, recipe=recipe, init=run.folder)
    assert method.config.depth == 2
    assert torch.equal(method.model.encoder.blocks[1].attn.q_bias, source.model.encoder.blocks[1].attn.q_bias)
    with pytest.raises(CheckpointError, match="resume with the same, or begin a fresh run"):
        train(cls(source.config), RECORDS, run.folder, name="mme", recipe="videomae")


def test_weights_that_cannot_be_written_leave_a_run_that_failed(tmp_path, monkeypatch):
    cls, config = tiny("mme")
    monkeypatch.setattr(
        "vitascope.engine.checkpoint.write", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full"))
    )
    with Library(tmp_path / "library", create=True) as library:
        with pytest.raises(OSError, match="disk full"):
            add_run(library, cls(config), name="mme", recipe="videomae", source="a.pth")
        assert [(run.state, run.detail) for run in library.runs.list()] == [("failed", "disk full")]
