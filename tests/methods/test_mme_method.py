"""Recipes, the masked autoencoder as a whole, and the method around it."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from vitascope.methods.mme.config import MMEConfig, videomae, videomae_tiny
from vitascope.methods.mme.data import tube_mask
from vitascope.methods.mme.look import GREY
from vitascope.methods.mme.method import MME
from vitascope.methods.mme.motion import motion_of
from vitascope.nn.vit import patchify, unpatchify
from vitascope.structures import Record
from vitascope.video.transforms import normalise


def tiny(**changes) -> MME:
    torch.manual_seed(0)
    sizes = dict(size=32, short_side=40, embed_dim=48, depth=3, decoder_dim=24, decoder_depth=1)
    return MME(MMEConfig.model_validate(videomae_tiny().model_dump() | sizes | changes))


def batch_for(method: MME, batch_size: int = 2) -> dict[str, torch.Tensor]:
    c, rng = method.config, np.random.default_rng(0)
    masks = [torch.from_numpy(tube_mask(c.grid, c.mask_ratio, rng)) for _ in range(batch_size)]
    clips = rng.integers(0, 256, (batch_size, c.num_frames, 3, c.size, c.size), dtype=np.uint8)
    return {"clips": torch.from_numpy(clips), "mask": torch.stack(masks)}


def normalised(clips: torch.Tensor) -> torch.Tensor:
    return normalise(clips.float() / 255)


def test_the_recipe_is_the_papers_row():
    with torch.device("meta"):
        method = MME(videomae())
    model, c = method.model, method.config
    assert (c.grid, c.mask_ratio, c.num_frames, c.stride_frames) == ((8, 14, 14), 0.9, 16, 4)
    assert round(sum(p.numel() for p in model.decoder.parameters()) / 1e6, 2) == 7.69
    assert model.decoder.head.out_features == 1536
    assert (len(model.encoder.blocks), model.encoder.blocks[0].attn.num_heads) == (12, 12)
    assert model.encoder.blocks[0].norm1.eps == model.encoder.norm.eps == model.decoder.norm.eps == 1e-6
    (stage,) = method.stages()
    assert (stage.name, stage.data, stage.unit, stage.length, stage.batch_size) == (
        "pretrain",
        "train",
        "epochs",
        800,
        2048,
    )
    assert stage.optim.lr == pytest.approx(1.5e-4 * 2048 / 256)
    assert stage.optim.min_lr == pytest.approx(1e-5 * 2048 / 256)
    assert stage.optim.warmup * stage.length == 40
    assert (stage.optim.betas, stage.optim.weight_decay, stage.optim.clip_norm) == ((0.9, 0.95), 0.05, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 100}, r"size \(100\) must be a multiple of patch_size \(16\)"),
        ({"num_frames": 7}, r"num_frames \(7\) must be a multiple of tubelet_frames \(2\)"),
        ({"embed_dim": 100}, r"embed_dim \(100\) must be a multiple of num_heads \(12\)"),
        ({"decoder_dim": 100}, r"decoder_dim \(100\) must be a multiple of decoder_heads \(6\)"),
        ({"mask_ratio": 0.001}, r"mask_ratio \(0.001\) masks 0 of 196 positions; at least one must be masked"),
        ({"crop_scales": (1.5,)}, r"crop_scales \(\(1.5,\)\) must be in \(0, 1\]"),
        ({"patches": 3}, "patches"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        MMEConfig(**changes)


def test_the_loss_sees_masked_tokens_only():
    method = tiny()
    batch = batch_for(method)
    reference = method.training_step(batch)["loss"]
    patches = patchify(batch["clips"], 2, 8)
    masked = batch["mask"][..., None, None, None, None]
    inverted = unpatchify(torch.where(masked, 255 - patches, patches), method.config.grid)
    changed = method.training_step({"clips": inverted, "mask": batch["mask"]})["loss"]
    # predictions are the same, targets change their sign: (p - t)^2 + (p + t)^2 = 2 p^2 + 2 t^2
    assert not torch.equal(reference, changed)
    predictions = method.model(normalised(batch["clips"]), batch["mask"])
    torch.testing.assert_close(method.model(normalised(inverted), batch["mask"]), predictions)
    t_squared = 1 - 1 / 128  # unbiased variance over 2 * 8 * 8 values
    expected = 2 * predictions.square().mean() + 2 * t_squared
    torch.testing.assert_close(reference + changed, expected, atol=1e-4, rtol=1e-4)


def test_each_sample_is_predicted_from_itself_alone():
    method = tiny()
    batch = batch_for(method)
    pixels = normalised(batch["clips"])
    both = method.model(pixels, batch["mask"])
    alone = method.model(pixels[1:], batch["mask"][1:])
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)


def test_layers_count_from_the_pixels_up():
    method = tiny()
    layers = {name: method.layer_of(name) for name, _ in method.named_parameters()}
    assert layers["model.encoder.patch_embed.proj.weight"] == layers["model.encoder.patch_embed.proj.bias"] == 0
    assert [layers[f"model.encoder.blocks.{i}.attn.q_bias"] for i in range(3)] == [1, 2, 3]
    last = ("encoder.norm.weight", "mask_token", "encoder_to_decoder.weight", "decoder.blocks.0.attn.q_bias")
    assert {layers[f"model.{name}"] for name in last} == {4}
    scales = {layer: 0.75 ** (13 - layer) for layer in range(14)}  # ViT-B: 12 blocks
    assert scales[0] == 0.75**13 and scales[13] == 1


def test_features_are_the_mean_of_the_encoders_normalised_tokens():
    method = tiny().eval()
    clips = batch_for(method)["clips"]
    with torch.inference_mode():
        expected = method.model.encoder(normalised(clips)).mean(1)
        torch.testing.assert_close(method.features(clips), expected)


def test_features_look_at_the_centre_of_a_wide_clip():
    method = tiny().eval()
    clips = batch_for(method)["clips"]
    wide = torch.nn.functional.pad(clips, (20, 20))
    assert torch.equal(method.features(wide), method.features(clips))


@pytest.mark.parametrize("num_frames", [2, 8, 16])
def test_features_take_other_lengths(num_frames):
    method = tiny().eval()
    vectors = method.features(torch.zeros(1, num_frames, 3, 40, 50, dtype=torch.uint8))
    assert vectors.shape == (1, 48) and vectors.isfinite().all()


def test_features_of_odd_lengths_and_of_floats_are_refused():
    method = tiny()
    with pytest.raises(ValueError, match=r"frames \(7\) of the clips must be a multiple of 2"):
        method.features(torch.zeros(1, 7, 3, 40, 50, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"clips \(torch.float32\) must be uint8"):
        method.features(torch.zeros(1, 8, 3, 40, 50))


def test_figures_show_the_input_the_mask_and_the_prediction():
    method = tiny().eval()
    batch = batch_for(method)
    figures = method.figures(batch)
    assert len(figures) == 2
    rows = dict(figures[1].rows)
    assert list(rows) == ["input", "masked input", "reconstruction"]
    seen, masked, said = (patchify(torch.from_numpy(row)[None], 2, 8)[0] for row in rows.values())
    mask = batch["mask"][1]
    assert torch.equal(patchify(batch["clips"][1:], 2, 8)[0], seen)
    assert (masked[mask] == GREY).all() and torch.equal(masked[~mask], seen[~mask])
    assert torch.equal(said[~mask], seen[~mask]) and not torch.equal(said[mask], seen[mask])
    assert figures[0].caption.startswith("75% of the tokens are masked")


def test_a_method_that_does_not_predict_says_so():
    with pytest.raises(TypeError, match="MME does not predict; use its features"):
        tiny().predict(Record("a.mp4"))


@pytest.mark.parametrize(
    "fields, needs_flow",
    [
        ({"predicts": ("pixels",)}, False),
        ({"predicts": ("shape",), "shape": "grid"}, False),
        ({"predicts": ("shape",), "shape": "tracks"}, True),
        ({"predicts": ("position", "shape"), "shape": "grid"}, True),
        ({"predicts": ("visibility",)}, True),
    ],
)
def test_flow_is_needed_where_tracks_are_followed(fields, needs_flow):
    config = MMEConfig(**fields)
    assert config.needs_flow is needs_flow
    motion = motion_of(config)
    assert (motion is not None and motion.needs_tracks) is needs_flow


@pytest.mark.parametrize("predicts", [("pixels", "shape"), ("position", "position")])
def test_parts_of_motion_that_do_not_go_together_are_told_with_those_there_are(predicts):
    with pytest.raises(
        ValueError, match=r"pixels alone, or parts of motion \(position, shape, visibility\), each once"
    ):
        MMEConfig(predicts=predicts)
