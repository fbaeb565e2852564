"""Weights in five namings, and agreement with the VideoMAE of transformers on the same weights."""

import argparse

import pytest
import torch
from safetensors.torch import save_file

from vitascope.methods.mme.convert import load_into, load_weights, to_ours, to_transformers
from vitascope.methods.mme.loss import pixel_loss
from vitascope.methods.mme.model import MaskedAutoencoder
from vitascope.methods.mme.targets import normalized_pixels
from vitascope.nn.vit import patchify, select_tokens
from vitascope.video.transforms import normalise

GRID = (4, 4, 4)


def build(seed: int, **changes) -> MaskedAutoencoder:
    torch.manual_seed(seed)
    sizes = dict(embed_dim=48, depth=2, num_heads=4, decoder_dim=24, decoder_depth=2, decoder_heads=2, patch_size=8)
    return MaskedAutoencoder(GRID, **(sizes | changes))


def randomize(model: torch.nn.Module, seed: int) -> None:
    """Random weights with biases that are not zero: a dropped bias must show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.2)


@pytest.fixture(scope="module")
def theirs():
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    config = VideoMAEConfig(
        image_size=32,
        patch_size=8,
        num_frames=8,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=192,
        decoder_hidden_size=24,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=96,
        layer_norm_eps=1e-6,
        use_mean_pooling=False,
    )
    model = VideoMAEForPreTraining(config).eval()
    randomize(model, 1)
    return model


@pytest.fixture(scope="module")
def ours(theirs):
    model = build(0, decoder_norm_eps=1e-5)  # transformers leaves the decoder's last norm at torch's default
    load_into(model, theirs.state_dict())
    return model.eval()


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(3)
    clips = torch.randint(0, 256, (2, 8, 3, 32, 32), generator=generator, dtype=torch.uint8)
    mask = torch.stack([torch.randperm(64, generator=generator) < 48 for _ in range(2)])
    return clips, normalise(clips / 255), mask


def test_biases_of_queries_and_values_arrive(theirs, ours):
    attention = theirs.videomae.encoder.layer[1].attention.attention
    assert attention.query.bias.abs().min() > 0
    assert torch.equal(ours.encoder.blocks[1].attn.q_bias, attention.query.bias)
    assert torch.equal(ours.encoder.blocks[1].attn.v_bias, attention.value.bias)
    assert torch.equal(ours.encoder.blocks[1].attn.qkv.weight[48:96], attention.key.weight)


@torch.no_grad()
def test_encoder_agrees_with_transformers(theirs, ours, batch):
    _, pixels, mask = batch
    expected = theirs.videomae(pixels, bool_masked_pos=mask).last_hidden_state
    torch.testing.assert_close(ours.encoder(pixels, mask), expected, atol=1e-5, rtol=0)
    everything = theirs.videomae(pixels, bool_masked_pos=None).last_hidden_state
    torch.testing.assert_close(ours.encoder(pixels), everything, atol=1e-5, rtol=0)


@torch.no_grad()
def test_decoder_and_loss_agree_with_transformers(theirs, ours, batch):
    clips, pixels, mask = batch
    expected = theirs(pixels, bool_masked_pos=mask)
    predictions = ours(pixels, mask)
    torch.testing.assert_close(predictions, expected.logits, atol=1e-5, rtol=0)
    targets = normalized_pixels(select_tokens(patchify(clips, 2, 8), mask))
    loss = pixel_loss(predictions, targets)["loss"]
    assert abs(float(loss) - float(expected.loss)) <= 1e-5


@pytest.mark.slow
@torch.no_grad()
def test_the_papers_size_agrees_with_transformers():
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    torch.manual_seed(0)
    peer = VideoMAEForPreTraining(VideoMAEConfig(layer_norm_eps=1e-6, use_mean_pooling=False)).eval()
    for name, p in peer.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(p, std=0.02)
    model = MaskedAutoencoder((8, 14, 14), decoder_norm_eps=1e-5).eval()
    load_into(model, peer.state_dict())
    clips = torch.randint(0, 256, (1, 16, 3, 224, 224), dtype=torch.uint8)
    pixels, mask = normalise(clips / 255), (torch.randperm(196) < 176).repeat(8)[None]
    expected = peer(pixels, bool_masked_pos=mask)
    tokens = peer.videomae(pixels, bool_masked_pos=mask).last_hidden_state
    predictions = model(pixels, mask)
    loss = pixel_loss(predictions, normalized_pixels(select_tokens(patchify(clips, 2, 16), mask)))["loss"]
    differences = {
        "encoder": float((model.encoder(pixels, mask) - tokens).abs().max()),
        "decoder": float((predictions - expected.logits).abs().max()),
        "loss": abs(float(loss) - float(expected.loss)),
    }
    print(differences)
    assert max(differences.values()) <= 1e-5, differences


def test_gradients_agree_with_transformers(theirs, ours, batch):
    clips, pixels, mask = batch
    targets = normalized_pixels(select_tokens(patchify(clips, 2, 8), mask))
    ours.zero_grad()
    theirs.zero_grad()
    pixel_loss(ours(pixels, mask), targets)["loss"].backward()
    theirs(pixels, bool_masked_pos=mask).loss.backward()
    expected = to_ours({name: p.grad for name, p in theirs.named_parameters()})
    for name, p in ours.named_parameters():
        torch.testing.assert_close(
            p.grad, expected[name], atol=1e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
        )


@torch.no_grad()
def test_a_dropped_query_bias_would_show(theirs, ours, batch):
    _, pixels, mask = batch
    broken = build(0, decoder_norm_eps=1e-5)
    load_into(broken, theirs.state_dict())
    for block in broken.encoder.blocks:
        block.attn.q_bias.zero_()
    assert (broken(pixels, mask) - ours(pixels, mask)).abs().max() > 1e-3


@torch.no_grad()
def test_what_we_export_transformers_loads_and_computes_alike(theirs, batch, tmp_path):
    from transformers import VideoMAEForPreTraining

    _, pixels, mask = batch
    model = build(5, decoder_norm_eps=1e-5).eval()
    randomize(model, 6)
    for version in (4, 5):
        folder = tmp_path / str(version)
        theirs.config.save_pretrained(folder)
        save_file(to_transformers(model.state_dict(), version), folder / "model.safetensors", {"format": "pt"})
        loaded, info = VideoMAEForPreTraining.from_pretrained(folder, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"], version
        torch.testing.assert_close(loaded(pixels, mask).logits, model(pixels, mask), atol=1e-5, rtol=0)


def test_what_transformers_saves_we_load(theirs, ours, tmp_path):
    theirs.save_pretrained(tmp_path)
    model = build(7)
    report = load_into(model, load_weights(tmp_path / "model.safetensors"))
    assert len(report.matched) == len(model.state_dict())
    assert all(torch.equal(v, ours.state_dict()[k]) for k, v in model.state_dict().items())


def official_state(model: MaskedAutoencoder) -> dict:
    return {k: v.clone() for k, v in model.state_dict().items()}


def mme_state(model: MaskedAutoencoder) -> dict:
    """MME's pre-training naming: one more level for the decoder, and two heads of two layers."""
    state = {}
    for name, value in official_state(model).items():
        if name.startswith(("encoder_to_decoder.", "decoder.")):
            part, rest = name.split(".", 1)
            name = f"{part}.0.{rest}"
        if not name.startswith("decoder.0.head."):
            state[name] = value
    for head, out in ((0, 108), (1, 32)):
        for layer, shape in ((0, (512, 24)), (2, (out, 512))):
            state[f"decoder.0.head.{head}.{layer}.weight"] = torch.randn(shape)
            state[f"decoder.0.head.{head}.{layer}.bias"] = torch.randn(shape[0])
    return state


@pytest.mark.parametrize("container", ["model", "module", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_official_videomae_files_load(container, prefix, tmp_path):
    model, other = build(8), build(9)
    randomize(model, 8)
    state = {prefix + k: v for k, v in official_state(model).items()}
    content = state if container is None else {container: state, "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    torch.save(content, tmp_path / "checkpoint.pth")
    report = load_into(other, load_weights(tmp_path / "checkpoint.pth"))
    assert len(report.matched) == len(state) and not report.ignored
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    assert other.encoder.blocks[0].attn.q_bias.abs().min() > 0


def test_official_mme_files_load_into_a_model_of_pixels_up_to_their_heads(tmp_path):
    model, other = build(10), build(11)
    randomize(model, 10)
    head_before = other.decoder.head.weight.clone()
    torch.save({"model": mme_state(model), "args": argparse.Namespace()}, tmp_path / "mme.pth")
    parts = ("encoder.", "encoder_to_decoder.", "mask_token", "decoder.blocks.", "decoder.norm.")
    report = load_into(other, load_weights(tmp_path / "mme.pth"), parts)
    assert len(report.ignored) == 8 and all(name.startswith("decoder.heads.") for name in report.ignored)
    assert torch.equal(other.encoder_to_decoder.weight, model.encoder_to_decoder.weight)
    assert torch.equal(other.decoder.blocks[1].attn.v_bias, model.decoder.blocks[1].attn.v_bias)
    assert torch.equal(other.decoder.head.weight, head_before)
    assert "8 ignored: decoder.heads.position.0.bias" in str(report)
    with pytest.raises(ValueError, match=r"2 missing: decoder.head.bias, decoder.head.weight; 8 unexpected"):
        load_into(other, load_weights(tmp_path / "mme.pth"))


def test_fine_tuned_files_load_without_the_norm_that_they_lack():
    model, other = build(12), build(13)
    randomize(model, 12)
    state = {k.removeprefix("encoder."): v for k, v in official_state(model).items() if k.startswith("encoder.")}
    state = {k: v for k, v in state.items() if not k.startswith("norm.")}
    state |= {"fc_norm.weight": torch.ones(48), "head.weight": torch.ones(10, 48)}
    with pytest.raises(ValueError, match="2 missing: encoder.norm.bias, encoder.norm.weight"):
        load_into(other, state, ("encoder.",))
    report = load_into(other, state, ("encoder.patch_embed.", "encoder.blocks."))
    assert report.ignored == ("fc_norm.weight", "head.weight")
    assert torch.equal(other.encoder.blocks[0].attn.q_bias, model.encoder.blocks[0].attn.q_bias)


def test_a_refused_file_leaves_the_model_untouched():
    model = build(14)
    before = official_state(model)
    state = {k: v + 1 for k, v in before.items()}
    del state["encoder.norm.weight"]
    state["encoder.blocks.7.norm1.weight"] = torch.ones(48)
    state["mask_token"] = torch.ones(1, 1, 25)
    message = "1 missing: encoder.norm.weight; 1 unexpected: encoder.blocks.7.norm1.weight; 1 mismatched: mask_token"
    with pytest.raises(ValueError, match=message):
        load_into(model, state)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("version", [4, 5])
def test_there_and_back_again(version):
    state = build(15).state_dict()
    back = to_ours(to_transformers(state, version))
    assert back.keys() == state.keys() and all(torch.equal(state[k], back[k]) for k in state)


def test_a_query_without_its_key_is_refused():
    state = to_transformers(build(16).state_dict())
    del state["videomae.encoder.layer.0.attention.attention.key.weight"]
    with pytest.raises(ValueError, match="without its partners; query, key and value belong together"):
        to_ours(state)


def test_a_key_bias_is_refused():
    state = to_transformers(build(17).state_dict())
    state["videomae.encoder.layer.0.attention.attention.key.bias"] = torch.zeros(48)
    with pytest.raises(ValueError, match="1 unexpected: encoder.blocks.0.attn.key.bias"):
        load_into(build(17), state)


def test_two_models_in_one_file_are_refused():
    state = build(18).state_dict()
    state["blocks.0.norm1.weight"] = state["encoder.blocks.0.norm1.weight"]
    with pytest.raises(ValueError, match=r"encoder.blocks.0.norm1.weight twice.*mixes two models"):
        to_ours(state)


class Danger:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    torch.save({"model": build(19).state_dict(), "args": Danger()}, tmp_path / "bad.pth")
    with pytest.raises(Exception, match="(?i)weights.only"):
        load_weights(tmp_path / "bad.pth")
    assert "this must not run" not in capsys.readouterr().out


def test_files_of_other_kinds_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="do not exist"):
        load_weights(tmp_path / "none.pth")
    (tmp_path / "weights.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match="must be a .safetensors, .pth, .pyth, .pt, .bin or .tar file"):
        load_weights(tmp_path / "weights.onnx")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="hold no tensors"):
        load_weights(tmp_path / "empty.pth")


def test_parts_that_name_nothing_are_refused():
    with pytest.raises(ValueError, match=r"parts \(\('trunk.',\)\) name nothing of the model"):
        load_into(build(20), {}, ("trunk.",))
