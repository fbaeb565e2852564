"""Parity with the papers' networks (P3, P5, P13, P17) and the order of their target vectors, against slow words.

The words are written from the specification, in the names of the released files; nothing here is foreign code.
"""

import argparse
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from vitascope.engine.optim import learning_names, make_optimizer, parameter_groups, set_lr
from vitascope.methods.classifier.model import ClipClassifier
from vitascope.methods.mme.config import MMEConfig, mme_release, videomae
from vitascope.methods.mme.convert import config_of, import_weights, load_into, load_weights
from vitascope.methods.mme.hog import hog_cells
from vitascope.methods.mme.method import MME
from vitascope.methods.mme.model import MaskedAutoencoder
from vitascope.methods.mme.motion import Motion, by_token
from vitascope.methods.mme.targets import position_targets, shape_targets
from vitascope.video.transforms import normalise

GRID = (2, 4, 4)
SIZES = dict(embed_dim=48, depth=2, num_heads=4, patch_size=8)


def stirred(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """With biases that are not zero, above all those of queries and values."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def released(seed: int, depth: int = 1, num_steps: int = 4, shape_values: int = 108) -> MaskedAutoencoder:
    """A small encoder under the decoder of MME's release: 192 wide, 6 heads, two heads of 512 hidden values."""
    torch.manual_seed(seed)
    model = MaskedAutoencoder(
        GRID,
        **SIZES,
        decoder_dim=192,
        decoder_depth=depth,
        decoder_heads=6,
        heads={"shape": shape_values, "position": 8 * num_steps},
        head_dim=512,
        activations={"shape": "sigmoid", "position": "tanh"},
    )
    return stirred(model, seed)


def mme_names(model: MaskedAutoencoder) -> dict[str, torch.Tensor]:
    """A state as MME's files name it: `decoder.0`, `encoder_to_decoder.0`, heads 0 (HOG) and 1 (position)."""
    file = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("encoder_to_decoder.", "encoder_to_decoder.0.")
        name = name.replace("decoder.heads.shape.", "decoder.head.0.").replace(
            "decoder.heads.position.", "decoder.head.1."
        )
        file["decoder.0." + name.removeprefix("decoder.") if name.startswith("decoder.") else name] = tensor.clone()
    return file


def layer_norm(x, file, name, eps=1e-6):
    centred = x - x.mean(-1, keepdim=True)
    return (
        centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * file[f"{name}.weight"] + file[f"{name}.bias"]
    )


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def block(x, file, name, num_heads):
    """Section 1.2 for tokens `[N, D]`: pre-norm, biases on queries and values, an MLP of four times the width."""
    inner, width = layer_norm(x, file, f"{name}.norm1"), x.shape[1] // num_heads
    wq, wk, wv = file[f"{name}.attn.qkv.weight"].split(x.shape[1])
    q, k, v = inner @ wq.T + file[f"{name}.attn.q_bias"], inner @ wk.T, inner @ wv.T + file[f"{name}.attn.v_bias"]
    mixed = torch.zeros_like(x)
    for head in range(num_heads):
        part = slice(head * width, (head + 1) * width)
        scores = (q[:, part] @ k[:, part].T / math.sqrt(width)).exp()
        mixed[:, part] = scores / scores.sum(1, keepdim=True) @ v[:, part]
    x = x + mixed @ file[f"{name}.attn.proj.weight"].T + file[f"{name}.attn.proj.bias"]
    hidden = gelu(
        layer_norm(x, file, f"{name}.norm2") @ file[f"{name}.mlp.fc1.weight"].T + file[f"{name}.mlp.fc1.bias"]
    )
    return x + hidden @ file[f"{name}.mlp.fc2.weight"].T + file[f"{name}.mlp.fc2.bias"]


def table(num_tokens, dim):
    rows = [[n / 10000 ** (2 * (j // 2) / dim) for j in range(dim)] for n in range(num_tokens)]
    rows = [[math.sin(a) if j % 2 == 0 else math.cos(a) for j, a in enumerate(row)] for row in rows]
    return torch.tensor(rows, dtype=torch.float64)


def literal_encoder(file, pixels, mask, depth=2, num_heads=4):
    """Of pixels `[T, C, H, W]` and a mask `[N]`: the visible tokens `[N_visible, D]`."""
    volume = pixels.transpose(0, 1)[None]  # [1, C, T, H, W]
    tokens = F.conv3d(
        volume, file["encoder.patch_embed.proj.weight"], file["encoder.patch_embed.proj.bias"], stride=(2, 8, 8)
    )
    tokens = tokens[0].flatten(1).T
    tokens = (tokens + table(*tokens.shape))[~mask]
    for number in range(depth):
        tokens = block(tokens, file, f"encoder.blocks.{number}", num_heads)
    return layer_norm(tokens, file, "encoder.norm")


def literal_mme(file, pixels, mask, depth):
    """Section 1.3: what MME's network says of the masked tokens of one clip, HOG and position, by the file's names."""
    seen = literal_encoder(file, pixels, mask) @ file["encoder_to_decoder.0.weight"].T
    positions = table(len(mask), 192)
    tokens = [token + positions[n] for token, n in zip(seen, np.flatnonzero(~mask), strict=True)]
    tokens += [file["mask_token"][0, 0] + positions[n] for n in np.flatnonzero(mask)]  # visible first, never put back
    tokens = torch.stack(tokens)
    for number in range(depth):
        tokens = block(tokens, file, f"decoder.0.blocks.{number}", 6)
    tokens = layer_norm(tokens[-int(mask.sum()) :], file, "decoder.0.norm")
    said = []
    for number in range(2):
        name = f"decoder.0.head.{number}"
        hidden = gelu(tokens @ file[f"{name}.0.weight"].T + file[f"{name}.0.bias"])
        said.append(hidden @ file[f"{name}.2.weight"].T + file[f"{name}.2.bias"])
    return 1 / (1 + torch.exp(-said[0])), (said[1].exp() - (-said[1]).exp()) / (said[1].exp() + (-said[1]).exp())


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(2, 4, 3, 32, 32, generator=generator)
    return pixels, torch.stack([torch.randperm(32, generator=generator) < 22 for _ in range(2)])


@torch.no_grad()
@pytest.mark.parametrize("num_steps", [4, 6])
@pytest.mark.parametrize("depth", [1, 4])
def test_the_network_of_mme_equals_its_words(batch, depth, num_steps):
    """P3 and P5: encoder, decoder and both heads, from one file of MME's names, to 1e-5."""
    pixels, mask = batch
    file = mme_names(released(1, depth, num_steps))
    model = released(2, depth, num_steps)
    report = load_into(model, file)
    assert len(report.matched) == len(file) == len(model.state_dict()) and not report.ignored
    said, tokens = model(pixels, mask), model.encoder(pixels, mask)
    file = {name: tensor.double() for name, tensor in file.items()}
    for b in range(2):
        hog, position = literal_mme(file, pixels[b].double(), mask[b], depth)
        assert hog.shape == (22, 108) and position.shape == (22, 8 * num_steps)
        torch.testing.assert_close(
            tokens[b].double(), literal_encoder(file, pixels[b].double(), mask[b]), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(said["shape"][b].double(), hog, atol=1e-5, rtol=0)
        torch.testing.assert_close(said["position"][b].double(), position, atol=1e-5, rtol=0)


def test_values_of_the_heads_run_as_in_the_release():
    """So that heads of MME's files need no permutation: the last layer's rows mean the same as theirs."""
    grid, num_steps = (2, 2, 3), 4
    generator = torch.Generator().manual_seed(0)
    height, width = 16 * grid[1], 16 * grid[2]
    images = torch.randint(0, 256, (2, 3, height, width), generator=generator, dtype=torch.uint8)
    hog = hog_cells(normalise(images[None] / 255)[0], 8)  # [S, channel, bin, 2h, 2w]
    motion = Motion(num_steps, shape="grid", is_gray=False)
    of_grid = shape_targets(by_token(motion.shape_of_grid(images), grid)[None], "none")[0]
    rows, columns = np.mgrid[:height:8, :width:8] + 3.5
    points = np.stack([columns, rows], -1).reshape(1, 1, -1, 2).repeat(2, 0).repeat(num_steps, 1).astype(np.float32)
    film = torch.randint(0, 256, (2 * num_steps, 3, height, width), generator=generator, dtype=torch.uint8)
    numbers = np.arange(2 * num_steps).reshape(2, num_steps)
    of_tracks = shape_targets(by_token(motion.shape_of(film, numbers, points), grid)[None], "none")[0]
    film_hog = hog_cells(normalise(film[None] / 255)[0], 8)
    moves = torch.randn(2, num_steps, 4 * grid[1] * grid[2], 2, generator=generator)
    seen = torch.ones(12, 4, num_steps, dtype=torch.bool)
    position = position_targets(by_token(moves, grid)[None], seen[None], "none", 0)[0]
    for token in range(12):
        t, i, j = token // 6, token % 6 // 3, token % 3
        four = [(2 * i + r, 2 * j + k) for r in range(2) for k in range(2)]
        expected = [hog[t, c, b, r, k] for c in range(3) for b in range(9) for r, k in four]
        torch.testing.assert_close(of_grid[token], torch.stack(expected))
        steps = range(num_steps)
        expected = [
            film_hog[numbers[t, s], c, b, r, k] for c in range(3) for b in range(9) for s in steps for r, k in four
        ]
        torch.testing.assert_close(of_tracks[token], torch.stack(expected))
        expected = [moves[t, s, r * 2 * grid[2] + k, axis] / 20 for axis in range(2) for s in steps for r, k in four]
        torch.testing.assert_close(position[token], torch.stack(expected))


def test_the_release_is_told_from_a_file_of_its_sizes():
    for make in (videomae, mme_release):
        with torch.device("meta"):
            model = MME(make()).model
        told = config_of(mme_names(model) if make is mme_release else model.state_dict())
        assert told == {name: getattr(make(), name) for name in told}
        assert {"embed_dim", "depth", "num_heads", "mlp_ratio", "tubelet_frames", "patch_size"} < told.keys()
        assert {"predicts", "decoder_dim", "decoder_depth", "decoder_heads"} < told.keys()
        assert {"track_steps", "shape", "shape_gray", "head_dim"} <= told.keys() or make is videomae


@pytest.mark.parametrize(("embed_dim", "num_heads"), [(384, 6), (768, 12), (1024, 16), (1280, 16)])
def test_heads_of_attention_are_those_of_the_papers_sizes(embed_dim, num_heads):
    with torch.device("meta"):
        model = MaskedAutoencoder(GRID, embed_dim, 1, num_heads, decoder_dim=192, decoder_depth=1)
    told = config_of(model.state_dict())
    assert (told["num_heads"], told["decoder_heads"]) == (num_heads, num_heads // 2)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize(
    ("hogs", "shape", "is_gray"),
    [(3, "grid", False), (1, "grid", True), ("3 L", "tracks", False), ("L", "tracks", True)],
)
def test_steps_and_kind_of_hog_are_told_from_the_heads(num_steps, hogs, shape, is_gray):
    count = {"3 L": 3 * num_steps, "L": num_steps}.get(hogs, hogs)
    told = config_of(mme_names(released(0, 1, num_steps, 36 * count)))
    assert told["track_steps"] == num_steps and told["predicts"] == ("shape", "position")
    if num_steps == 1:  # tracks of one step and the grid are as wide
        shape = "grid"
    if (num_steps, hogs) == (3, "L"):  # as wide as a grid of colours, which is the one released
        shape, is_gray = "grid", False
    assert (told["shape"], told["shape_gray"]) == (shape, is_gray)


def test_heads_of_no_number_of_steps_are_refused():
    with pytest.raises(
        ValueError, match=r"heads of 100 values \(shape\) and 32 values \(position\) fit no number of steps"
    ):
        config_of(mme_names(released(0, 1, 4, 100)))
    with pytest.raises(ValueError, match="hold no encoder of clips, only head.bias, head.weight"):
        config_of(torch.nn.ModuleDict({"head": torch.nn.Linear(2, 2)}).state_dict())


def test_a_file_of_another_length_of_tracks_is_refused_by_name():
    model = released(1, num_steps=4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    message = r"2 mismatched: decoder.heads.position.2.bias, .*; the file has track_steps 6 \(the model: 4\); check"
    with pytest.raises(ValueError, match=message):
        load_into(model, mme_names(released(2, num_steps=6)))
    with pytest.raises(ValueError, match=r"the file has shape tracks \(the model: grid\)"):
        load_into(model, mme_names(released(2, shape_values=432)))
    with pytest.raises(ValueError, match=r"the file has .*predicts pixels \(the model: shape and position\)"):
        load_into(
            model, MaskedAutoencoder(GRID, **SIZES, decoder_dim=24, decoder_depth=1, decoder_heads=2).state_dict()
        )
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


STYLES = ("videomae", "mme", "fine-tuned", "transformers 4", "transformers 5")


def source(style: str, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    if style == "mme":
        return released(seed)
    if style == "fine-tuned":
        return stirred(ClipClassifier(GRID, 5, **SIZES), seed)
    decoder = dict(decoder_dim=24, decoder_depth=1, decoder_heads=2, decoder_norm_eps=1e-5)
    return stirred(MaskedAutoencoder(GRID, **SIZES, **decoder), seed)


def transformers_names(state, version):
    """The names of `VideoMAEForPreTraining`, one tensor at a time."""
    file = {}
    for name, tensor in state.items():
        name = name.replace("encoder.patch_embed.proj", "videomae.embeddings.patch_embeddings.projection")
        name = name.replace("encoder.norm", "videomae.layernorm").replace("encoder.blocks", "videomae.encoder.layer")
        name = name.replace("decoder.blocks", "decoder.decoder_layers")
        for ours, theirs in (("norm1", "layernorm_before"), ("norm2", "layernorm_after")):
            name = name.replace(f".{ours}.", f".{theirs}.")
        name = name.replace("attn.proj", "attention.output.dense").replace("mlp.fc1", "intermediate.dense")
        name = name.replace("mlp.fc2", "output.dense").replace("attn.", "attention.attention.")
        if version == 5:
            name = name.replace("q_bias", "query.bias").replace("v_bias", "value.bias")
        if "qkv" in name:
            for part, piece in zip(("query", "key", "value"), tensor.split(tensor.shape[1]), strict=True):
                file[name.replace("qkv", part)] = piece.clone()
        else:
            file[name] = tensor.clone()
    return file


def written(style: str, model: torch.nn.Module, folder) -> str:
    """A file as each project writes it."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if style.startswith("transformers"):
        save_file(transformers_names(state, int(style[-1])), folder / "model.safetensors", {"format": "pt"})
        return folder / "model.safetensors"
    if style == "fine-tuned":  # DeepSpeed's
        content = {"module": {name.removeprefix("encoder."): tensor for name, tensor in state.items()}}
    else:
        content = {"model": mme_names(model) if style == "mme" else state, "epoch": 1600}
        content |= {"args": argparse.Namespace(lr=1e-3), "scaler": {"scale": 65536.0}}
    torch.save(content, folder / "checkpoint.pth")
    return folder / "checkpoint.pth"


@pytest.mark.parametrize("style", STYLES)
def test_files_of_all_five_styles_give_the_tensors_that_went_in(style, tmp_path):
    """P17."""
    model, other = source(style, 1), source(style, 2)
    path = written(style, model, tmp_path)
    report = load_into(other, load_weights(path))
    assert not report.missing and not report.unexpected and not report.mismatched and not report.ignored
    expected, found = model.state_dict(), other.state_dict()
    assert set(report.matched) == expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    biases = [name for name in found if name.endswith(("bias", "q_bias", "v_bias"))]
    assert len([name for name in biases if name.endswith(("q_bias", "v_bias"))]) >= 4
    assert all(found[name].abs().min() > 0 for name in biases)


def test_the_names_of_transformers_here_are_its_own():
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    config = VideoMAEConfig(image_size=32, patch_size=8, num_frames=4, use_mean_pooling=False, hidden_size=48)
    config.update(dict(num_hidden_layers=2, num_attention_heads=4, intermediate_size=192, decoder_hidden_size=24))
    config.update(dict(decoder_num_hidden_layers=1, decoder_num_attention_heads=2, decoder_intermediate_size=96))
    theirs = VideoMAEForPreTraining(config).state_dict()
    ours = transformers_names(source("transformers 5", 1).state_dict(), 5)
    assert {name: tensor.shape for name, tensor in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_fine_tuned_files_of_transformers_load_into_a_classifier():
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    config = VideoMAEConfig(image_size=32, patch_size=8, num_frames=4, hidden_size=48, num_hidden_layers=2)
    config.update(dict(num_attention_heads=4, intermediate_size=192, layer_norm_eps=1e-6, num_labels=5))
    theirs, ours = stirred(VideoMAEForVideoClassification(config), 1), source("fine-tuned", 2)
    report = load_into(ours, theirs.state_dict())
    assert len(report.matched) == len(ours.state_dict()) and not report.ignored
    ours.fc_norm.eps = theirs.fc_norm.eps  # 1e-5 there
    pixels = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels), theirs(pixels).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("style", STYLES)
def test_a_method_is_made_of_any_file(style, tmp_path):
    model = source(style, 1)
    fields = dict(num_heads=4, decoder_heads=6 if style == "mme" else 2, size=32, num_frames=4)
    fields |= {"decoder_dim": 24} if style == "fine-tuned" else {}
    method, report = import_weights(written(style, model, tmp_path), **fields)
    assert method.config.predicts == (("shape", "position") if style == "mme" else ("pixels",))
    assert method.config.bounded_heads == (style == "mme") and method.config.patch_size == 8
    clips = torch.randint(0, 256, (1, 4, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        tokens = model.encoder(normalise(clips / 255))
        if style == "fine-tuned":
            assert report.ignored == ("fc_norm.bias", "fc_norm.weight", "head.bias", "head.weight")
            assert {name.split(".")[0] for name in report.missing} == {
                "decoder",
                "encoder",
                "encoder_to_decoder",
                "mask_token",
            }
            assert [name for name in report.missing if name.startswith("encoder.")] == [
                "encoder.norm.bias",
                "encoder.norm.weight",
            ]
            tokens = F.layer_norm(tokens, (48,), eps=1e-6)
        else:
            assert not report.missing and not report.ignored
        torch.testing.assert_close(method.features(clips), tokens.mean(1))


def test_what_a_model_has_no_place_for_is_not_left_out_in_silence(tmp_path):
    file = source("videomae", 1).state_dict() | {"encoder.pos_embed": torch.zeros(1, 32, 48)}
    save_file(file, tmp_path / "learned.safetensors")
    with pytest.raises(ValueError, match=r"hold encoder.pos_embed, for which the model has no place"):
        import_weights(tmp_path / "learned.safetensors", num_heads=4, size=32, num_frames=4, decoder_heads=2)


def resampled(trained: torch.Tensor, old: tuple[int, int, int], new: tuple[int, int, int]) -> torch.Tensor:
    """A table `[N, D]` laid out in 3-D and interpolated along T, H and W, one line after the other."""
    volume = trained.double().numpy().reshape(*old, -1)
    for axis, (before, after) in enumerate(zip(old, new, strict=True)):
        at = (np.arange(after) + 0.5) * before / after - 0.5
        volume = np.apply_along_axis(lambda line, at=at: np.interp(at, np.arange(len(line)), line), axis, volume)
    return torch.from_numpy(volume.reshape(-1, volume.shape[-1])).float()


@torch.no_grad()
@pytest.mark.parametrize(
    ("num_frames", "height", "width"), [(4, 32, 32), (8, 32, 32), (2, 32, 32), (4, 48, 48), (12, 16, 40)]
)
def test_features_equal_transformers_at_other_lengths_and_sizes(num_frames, height, width):
    """Of the same weights with biases on queries and values, at 1e-5; its fixed table is given the 3-D reshape."""
    from transformers import VideoMAEConfig, VideoMAEModel

    def build(frames, size):
        sizes = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=192, patch_size=8)
        return VideoMAEModel(
            VideoMAEConfig(num_frames=frames, image_size=size, layer_norm_eps=1e-6, use_mean_pooling=False, **sizes)
        )

    trained, other = stirred(build(4, 32), 1), build(num_frames, (height, width)).eval()
    other.load_state_dict(trained.state_dict())
    assert all(layer.attention.attention.query.bias.abs().min() > 0 for layer in other.encoder.layer)
    positions = trained.embeddings.position_embeddings[0]
    grid = (num_frames // 2, height // 8, width // 8)
    other.embeddings.position_embeddings = resampled(positions, GRID, grid)[None]
    config = videomae().model_dump() | SIZES | dict(num_frames=4, size=32, decoder_dim=24, decoder_heads=2)
    method = MME(MMEConfig.model_validate(config)).eval()
    load_into(method.model, trained.state_dict(), ("encoder.",))
    clips = torch.randint(0, 256, (2, num_frames, 3, height, width), dtype=torch.uint8)
    expected = other(normalise(clips / 255)).last_hidden_state
    torch.testing.assert_close(method.model.encoder(normalise(clips / 255)), expected, atol=1e-5, rtol=0)
    if (height, width) == (32, 32):
        torch.testing.assert_close(method.features(clips), expected.mean(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", [videomae, mme_release])
def test_groups_of_pre_training_are_those_of_the_papers(make):
    """P13, of pre-training: one rate for all; no decay of 1-D parameters and the mask token; constant."""
    with torch.device("meta"):
        method = MME(make())
    (stage,) = method.stages()
    groups = parameter_groups(method, learning_names(method, stage), stage.optim)
    found = {name: (group["lr_scale"], group["weight_decay"]) for group in groups for name in group["names"]}
    for name, parameter in method.named_parameters():
        free = parameter.ndim == 1 or name.endswith(".bias") or name == "model.mask_token"
        assert found.pop(name) == (1.0, 0.0 if free else 0.05), name
    assert not found
    small = MME(MMEConfig.model_validate(make().model_dump() | SIZES | dict(size=32, num_frames=4, decoder_heads=2)))
    optimizer = make_optimizer(small, learning_names(small, stage), stage.optim)
    before = [group["weight_decay"] for group in optimizer.param_groups]
    set_lr(optimizer, 0.5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == before
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}
