"""The classifier's parts against slow words, its groups of parameters, its test of many views, its weights from elsewhere."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from vitascope.engine.optim import learning_names, parameter_groups
from vitascope.methods.classifier.config import finetune, finetune_tiny, probe, probe_tiny
from vitascope.methods.classifier.data import dense_test_indices, segment_test_indices
from vitascope.methods.classifier.loss import classification_loss
from vitascope.methods.classifier.method import Classifier
from vitascope.methods.classifier.model import ClipClassifier
from vitascope.methods.mme.convert import load_into
from vitascope.structures import Record
from vitascope.video.reader import VideoReader
from vitascope.video.transforms import normalise
from vitascope.video.writer import VideoWriter

CLASSES = ("run", "jump", "rest")


def tiny(**changes) -> Classifier:
    torch.manual_seed(0)
    return Classifier(finetune_tiny().model_copy(update={"classes": CLASSES, **changes})).eval()


def stirred(method: Classifier, seed: int = 1) -> Classifier:
    """With a head and biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return method


def test_layer_decay_groups_are_those_of_vit_b():
    """P13: patch embedding 0, block i at i + 1, all else 13; scale 0.75^(13 - layer)."""
    with torch.device("meta"):
        method = Classifier(finetune().model_copy(update={"classes": CLASSES}))
    groups = parameter_groups(method, learning_names(method, method.stages()[0]), method.stages()[0].optim)
    found = {name: (group["lr_scale"], group["weight_decay"]) for group in groups for name in group["names"]}
    assert found.keys() == {name for name, _ in method.named_parameters()}
    for name, parameter in method.named_parameters():
        block = re.match(r"model\.encoder\.blocks\.(\d+)\.", name)
        layer = 0 if ".patch_embed." in name else int(block[1]) + 1 if block else 13
        decay = 0.0 if parameter.ndim == 1 or name.endswith("bias") else 0.05
        assert found[name] == (pytest.approx(0.75 ** (13 - layer)), decay), name


@pytest.mark.parametrize("make", [probe, probe_tiny])
def test_the_probe_learns_the_head_alone_under_the_augmentations_of_its_size(make):
    config = make()
    with torch.device("meta"):
        method = Classifier(config.model_copy(update={"classes": CLASSES}))
    assert learning_names(method, method.stages()[0]) == ["model.head.weight", "model.head.bias"]
    tuned = {probe: finetune, probe_tiny: finetune_tiny}[make]()
    for name in ("mixup", "cutmix", "drop_path", "colour_jitter", "crop_area", "label_smoothing"):
        assert getattr(config, name) == getattr(tuned, name), name


def test_the_forward_pass_equals_its_parts_in_words():
    """P16: encoder without its last norm, mean over all tokens, fresh norm, head."""
    method = stirred(tiny())
    clips = torch.rand(2, 8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model, encoder = method.model, method.model.encoder
    tokens = encoder.patch_embed(clips) + encoder.positions
    for block in encoder.blocks:
        tokens = block(tokens)
    mean = torch.stack([tokens[:, i] for i in range(tokens.shape[1])]).sum(0) / tokens.shape[1]
    centred = mean - mean.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    normed = normed * model.fc_norm.weight + model.fc_norm.bias
    logits = normed @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(clips), logits, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.features(clips), normed, rtol=1e-5, atol=1e-5)


def test_names_are_those_of_the_papers_fine_tuned_files():
    names = set(tiny().model.state_dict())
    assert {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"} <= names
    assert not [name for name in names if name.startswith("encoder.norm")]
    rest = {name for name in names if not name.startswith(("fc_norm.", "head."))}
    assert all(name.startswith(("encoder.patch_embed.proj.", "encoder.blocks.")) for name in rest)


@pytest.mark.parametrize("nested", [False, True])
def test_a_fine_tuned_file_of_the_papers_loads_whole(nested):
    """Their names have no `encoder.`; DeepSpeed's have a `module.` before."""
    source, target = stirred(tiny(), seed=1).model, stirred(tiny(), seed=2).model
    prefix = "module." if nested else ""
    file = {prefix + name.removeprefix("encoder."): tensor for name, tensor in source.state_dict().items()}
    report = load_into(target, file)
    assert len(report.matched) == len(file) and not report.ignored
    clips = torch.rand(1, 8, 3, 64, 64)
    assert torch.equal(source(clips), target(clips))
    assert source.state_dict()["encoder.blocks.0.attn.q_bias"].abs().sum() > 0


def test_the_fresh_head_tells_nothing_apart():
    method = tiny()
    shares = method.model(torch.rand(2, 8, 3, 64, 64)).softmax(1)
    assert (shares - 1 / 3).abs().max() < 0.01
    assert 0 < method.model.head.weight.std() < 2e-5 * 1.5
    assert method.model.fc_norm.weight.eq(1).all() and method.model.fc_norm.bias.eq(0).all()


def test_the_loss_equals_words():
    logits, targets = torch.randn(5, 3), torch.rand(5, 3).softmax(1)
    out = classification_loss(logits, targets, torch.tensor([0, 1, 2, 0, 1]))
    slow = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        total = sum(np.exp(row))
        slow -= sum(share * np.log(np.exp(value) / total) for share, value in zip(target, row, strict=True)) / 5
    assert float(out["loss"]) == pytest.approx(slow, abs=1e-5)
    right = [int(np.argmax(row)) == label for row, label in zip(logits.tolist(), [0, 1, 2, 0, 1], strict=True)]
    assert float(out["accuracy"]) == pytest.approx(np.mean(right))


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    rng = np.random.default_rng(0)
    with VideoWriter(path, 25) as writer:
        writer.write(rng.integers(0, 256, (60, 3, 64, 96)).astype(np.uint8).repeat(1, 0))
    return str(path)


@pytest.mark.parametrize("sampling", ["dense", "segments"])
@pytest.mark.parametrize("crops", [1, 3])
def test_predictions_are_the_mean_softmax_over_the_views_of_the_paper(video, sampling, crops):
    method = stirred(tiny(sampling=sampling, test_crops=crops, test_clips=2))
    rule = dense_test_indices(60, 8, 2, 2) if sampling == "dense" else segment_test_indices(60, 8, 2)
    shares = []
    with VideoReader(video) as reader, torch.no_grad():
        for clip in rule:
            frames = reader.frames_at(clip.tolist(), size=64).frames.float() / 255
            for left in (0, 16, 32) if crops == 3 else (16,):
                view = normalise(frames[None, ..., left : left + 64])
                shares.append(method.model(view)[0].softmax(0).numpy())
    expected = np.mean(shares, 0)
    labels = method.predict(Record(video))
    assert len(shares) == 2 * crops and set(labels.names) == set(CLASSES)
    assert list(labels.scores) == sorted(labels.scores, reverse=True)
    assert sum(labels.scores) == pytest.approx(1)
    for name, score in zip(labels.names, labels.scores, strict=True):
        assert score == pytest.approx(expected[CLASSES.index(name)], abs=1e-5)
    assert f"times {crops} crops" in method.protocol


def test_predicting_leaves_the_mode_as_it_was(video):
    method = tiny(drop_path=0.5).train()
    assert method.predict(Record(video)) == method.predict(Record(video))
    assert method.training


def test_without_classes_there_is_no_classifier():
    with pytest.raises(ValueError, match="must name at least two"):
        Classifier(finetune_tiny())
    with pytest.raises(ValueError, match=r"classes \(a, a\) must be at least two, each once"):
        finetune_tiny().model_validate(dict(finetune_tiny()) | {"classes": ("a", "a")})


def test_mixing_reaches_the_loss():
    """Two clips of different classes, each wholly replaced by its partner, ask for the partner's class."""
    method = stirred(tiny(label_smoothing=0.0))
    clips = torch.randint(0, 256, (2, 8, 3, 64, 64), dtype=torch.uint8)
    batch = {"clips": clips, "labels": torch.tensor([0, 1]), "blends": torch.ones(2), "boxes": torch.zeros(2, 4).long()}
    swapped = batch | {"boxes": torch.tensor([[0, 0, 64, 64]] * 2)}
    turned = batch | {"clips": clips.flip(0), "labels": torch.tensor([1, 0])}
    for other in (swapped, batch | {"blends": torch.zeros(2)}):
        torch.testing.assert_close(method.training_step(other)["loss"], method.training_step(turned)["loss"])
    halves = method.training_step(batch | {"blends": torch.full((2,), 0.5)})["loss"]
    assert not torch.allclose(halves, method.training_step(batch)["loss"])


def test_the_model_takes_no_other_norm_from_the_encoder():
    model = ClipClassifier((1, 2, 2), num_classes=2, embed_dim=32, depth=1, num_heads=2)
    assert isinstance(model.encoder.norm, nn.Identity)
