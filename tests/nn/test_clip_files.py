"""What configurations of CLIP may ask for, and what damaged files are told by."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitascope.nn.clip import Clip
from vitascope.nn.clip_files import _Fields, _sizes_of_openai, _sizes_of_transformers, load_clip

SIZES = {
    "dim": 16,
    "image_size": 32,
    "patch_size": 8,
    "image_width": 128,
    "image_depth": 2,
    "image_heads": 2,
    "vocabulary_size": 50,
    "max_tokens": 77,
    "token_width": 64,
    "text_depth": 2,
    "text_heads": 1,
}
# Keys that every tower of OpenAI's own config.json carries and that change nothing
GENERIC = {
    "_name_or_path": "",
    "add_cross_attention": False,
    "architectures": None,
    "attention_dropout": 0.0,
    "bad_words_ids": None,
    "bos_token_id": 0,
    "chunk_size_feed_forward": 0,
    "do_sample": False,
    "dropout": 0.0,
    "hidden_act": "quick_gelu",
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "is_decoder": False,
    "layer_norm_eps": 1e-05,
    "length_penalty": 1.0,
    "max_length": 20,
    "output_attentions": False,
    "pad_token_id": 1,
    "pruned_heads": {},
    "return_dict": True,
    "tie_word_embeddings": True,
    "torch_dtype": None,
    "torchscript": False,
    "use_bfloat16": False,
}
PIXELS = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}
#           dim, side, patch, image width, depth, heads, text width, depth, heads
REAL = {
    "ViT-B/32": (512, 224, 32, 768, 12, 12, 512, 12, 8),
    "ViT-B/16": (512, 224, 16, 768, 12, 12, 512, 12, 8),
    "ViT-L/14": (768, 224, 14, 1024, 24, 16, 768, 12, 12),
}


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(3)
    clip = Clip(**SIZES)
    with torch.no_grad():
        for parameter in clip.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return clip.state_dict()


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A tiny CLIP in transformers' layout: its folder, and its configuration."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    text = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "bos_token_id": 48, "eos_token_id": 49}
    image = {"hidden_size": 32, "intermediate_size": 60, "num_hidden_layers": 3, "num_attention_heads": 4}
    image |= {"image_size": 32, "patch_size": 8}
    folder = tmp_path_factory.mktemp("hub")
    CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=16)).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    return folder, {**config, "text_config": GENERIC | text, "vision_config": GENERIC | image}


def write_hub(hub, folder, **changes):
    """The tiny CLIP with values changed: `tower__key=value`."""
    whole, config = hub
    config = json.loads(json.dumps(config))
    for name, value in changes.items():
        tower, _, key = name.rpartition("__")
        (config[tower] if tower else config)[key] = value
    (folder / "config.json").write_text(json.dumps(config))
    save_file(load_file(whole / "model.safetensors"), folder / "model.safetensors")
    return folder


def write_open_clip(state, folder, **changes):
    """open_clip's files with values changed: `part__key=value`."""
    vision = {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 50, "width": 64, "heads": 1, "layers": 2}
    about = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text, "preprocess_cfg": {}}
    for name, value in changes.items():
        part, _, key = name.rpartition("__")
        (about[part] if part else about)[key] = value
    preprocess = about.pop("preprocess_cfg")
    whole = {"model_cfg": about, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


# Real configurations


def sizes_of(name):
    dim, side, patch, width, depth, heads, token_width, text_depth, text_heads = REAL[name]
    image = {"image_size": side, "patch_size": patch, "image_width": width, "image_depth": depth, "image_heads": heads}
    text = {"token_width": token_width, "text_depth": text_depth, "text_heads": text_heads}
    return {"dim": dim, "vocabulary_size": 49408, "max_tokens": 77} | image | text


def shapes_of(sizes):
    with torch.device("meta"):
        return Clip(**sizes).state_dict()


@pytest.mark.parametrize("end", [2, 49407])
@pytest.mark.parametrize("name", REAL)
def test_openais_configurations_of_transformers_are_read(name, end, tmp_path):
    sizes = sizes_of(name)
    text = {"num_attention_heads": sizes["text_heads"], "num_hidden_layers": 12, "eos_token_id": end}
    text |= {"projection_dim": sizes["dim"], "max_position_embeddings": 77, "vocab_size": 49408}
    image = {"num_attention_heads": sizes["image_heads"], "num_hidden_layers": sizes["image_depth"]}
    image |= {"image_size": 224, "patch_size": sizes["patch_size"], "projection_dim": sizes["dim"]}
    config = {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": sizes["dim"]}
    config |= {"logit_scale_init_value": 2.6592, "torch_dtype": "float32", "text_config_dict": None}
    config |= {"text_config": GENERIC | text, "vision_config": GENERIC | image, "vision_config_dict": None}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    got = _sizes_of_transformers(_Fields(config, "config.json"), shapes_of(sizes), tmp_path, tmp_path / "model.bin")
    assert got.items() >= sizes.items() and got["activation"] == "quick_gelu" and got["mean"] == PIXELS["image_mean"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"head_width": 64, "mlp_ratio": 4.0, "pool_type": "tok", "norm_kwargs": None, "act_kwargs": {}},
        {"ls_init_value": None, "patch_dropout": 0.0, "global_average_pool": False, "output_tokens": True},
    ],
)
@pytest.mark.parametrize("name", REAL)
def test_configurations_of_open_clip_are_read(name, more, tmp_path):
    sizes = sizes_of(name)
    vision = {"image_size": 224, "layers": sizes["image_depth"], "width": sizes["image_width"]}
    text = {"context_length": 77, "vocab_size": 49408, "width": sizes["token_width"], "heads": sizes["text_heads"]}
    model = {"embed_dim": sizes["dim"], "vision_cfg": vision | {"patch_size": sizes["patch_size"]} | more}
    frames = {"mean": PIXELS["image_mean"], "std": PIXELS["image_std"], "interpolation": "bicubic"}
    frames |= {"resize_mode": "shortest"}
    about = {"model_cfg": model | {"text_cfg": text | {"layers": 12}}, "preprocess_cfg": frames}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(about))
    got = _sizes_of_openai(shapes_of(sizes), tmp_path, tmp_path / "open_clip_model.safetensors")
    assert got.items() >= sizes.items() and got["activation"] == "gelu" and got["std"] == PIXELS["image_std"]


def test_old_files_with_a_second_configuration_of_a_tower_are_read_as_transformers_reads_them(hub, tmp_path):
    text = hub[1]["text_config"]
    write_hub(hub, tmp_path, text_config_dict=text, text_config__num_attention_heads=3, vision_config_dict=None)
    assert load_clip(tmp_path).transformer.resblocks[0].attn.heads == 2


# What is not built


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"vision_config__layer_norm_eps": 1e-6}, r"vision_config: layer_norm_eps \(1e-06\) must be 1e-05"),
        ({"text_config__layer_norm_eps": 0.1}, r"text_config: layer_norm_eps \(0.1\) must be 1e-05"),
        ({"vision_config__num_hidden_layers": 2}, r"num_hidden_layers \(2\) must be 3, as many as the weights have"),
        ({"vision_config__num_attention_heads": 0}, r"num_attention_heads \(0\) must be a whole number > 0"),
        ({"text_config__num_attention_heads": "2"}, r'num_attention_heads \("2"\) must be a whole number > 0'),
        ({"text_config__eos_token_id": 47}, r"eos_token_id \(47\) must be 49 or 2"),
        ({"text_config__hidden_act": "gelu"}, r'text_config: hidden_act \("gelu"\) must be quick_gelu, as that of'),
        ({"vision_config__hidden_act": ["gelu"]}, r'hidden_act \(\["gelu"\]\) must be "quick_gelu" or "gelu"'),
        ({"vision_config__image_size": [32, 40]}, r"image_size \(\[32, 40\]\) must be .* two that are the same"),
        ({"model_type": "clipseg"}, r'model_type \("clipseg"\) must be "clip"'),
        ({"text_config": [1]}, r"text_config \(\[1\]\) must be an object"),
    ],
)
def test_values_of_transformers_that_are_not_built_are_refused(hub, tmp_path, changes, told):
    write_hub(hub, tmp_path, **changes)
    with pytest.raises(ValueError, match=rf"config.json: .*{told}.*; (give|copy)"):
        load_clip(tmp_path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"vision_cfg__pool_type": "avg"}, r'vision_cfg: pool_type \("avg"\) must be "tok"'),
        ({"vision_cfg__global_average_pool": True}, r"global_average_pool \(true\) must be false"),
        ({"vision_cfg__norm_kwargs": {"eps": 1e-6}}, r'norm_kwargs \({"eps": 1e-06}\) must be null or {} or {"eps"'),
        ({"vision_cfg__act_kwargs": {"approximate": "tanh"}}, r"vision_cfg: act_kwargs .* must be null or {}"),
        ({"text_cfg__pool_type": "last"}, r'text_cfg: pool_type \("last"\) must be "argmax"'),
        ({"text_cfg__no_causal_mask": True}, r"no_causal_mask \(true\) must be false"),
        ({"text_cfg__norm_kwargs": {"eps": 1e-6}}, r"text_cfg: norm_kwargs .* must be null"),
        ({"text_cfg__layers": 1}, r"text_cfg: layers \(1\) must be 2, as many as the weights have"),
        ({"text_cfg__heads": 0}, r"heads \(0\) must be a whole number > 0"),
        ({"vision_cfg__head_width": 60}, r"head_width \(60\) must be a divisor of the width of the weights \(128\)"),
        ({"vision_cfg__image_size": [32, 24]}, r"image_size \(\[32, 24\]\) must be .* two that are the same"),
        ({"vision_cfg__image_size": "32"}, r'image_size \("32"\) must be a whole number > 0'),
        ({"quick_gelu": "no"}, r'quick_gelu \("no"\) must be true or false'),
        ({"preprocess_cfg__resize_mode": "squash"}, r'resize_mode \("squash"\) must be "shortest"'),
        ({"preprocess_cfg__interpolation": "bilinear"}, r'interpolation \("bilinear"\) must be "bicubic"'),
        ({"preprocess_cfg__mean": [0.5]}, r"mean \(\[0.5\]\) must be three numbers"),
        ({"preprocess_cfg__std": [0.5, 0.5, 0]}, r"std \(\[0.5, 0.5, 0\]\) must be three numbers > 0"),
    ],
)
def test_values_of_open_clip_that_are_not_built_are_refused(state, tmp_path, changes, told):
    write_open_clip(state, tmp_path, **changes)
    with pytest.raises(ValueError, match=rf"open_clip_config.json: .*{told}.*; give the files of such a CLIP"):
        load_clip(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("resample", 2), ("do_normalize", False), ("do_center_crop", False)])
def test_frames_that_transformers_would_prepare_otherwise_are_refused(hub, tmp_path, key, value):
    write_hub(hub, tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PIXELS | {key: value}))
    with pytest.raises(ValueError, match=rf"preprocessor_config.json: {key} \({json.dumps(value)}\) must be"):
        load_clip(tmp_path)


def test_a_square_may_be_given_as_a_pair(hub, state, tmp_path):
    (tmp_path / "open").mkdir()
    one = load_clip(write_hub(hub, tmp_path, vision_config__image_size=[32, 32]))
    other = load_clip(write_open_clip(state, tmp_path / "open", vision_cfg__image_size=[32, 32]))
    assert one.image_size == other.image_size == 32


def test_another_size_than_that_of_the_weights_is_refused(state, tmp_path):
    write_open_clip(state, tmp_path, vision_cfg__image_size=10**9)
    told = r"image_size \(1000000000\) does not fit weights \(.*safetensors\): they have 16 places"
    with pytest.raises(ValueError, match=told):
        load_clip(tmp_path)


def test_a_network_that_cannot_be_built_is_told_with_its_file(hub, tmp_path):
    write_hub(hub, tmp_path, vision_config__num_attention_heads=3)
    with pytest.raises(
        ValueError, match=r"CLIP \(.*model.safetensors\) cannot be built: width \(32\) .* heads \(3\); "
    ):
        load_clip(tmp_path)


# Damaged files


@pytest.mark.parametrize("which", "qkv")
def test_weights_without_a_part_of_an_attention_name_it(hub, tmp_path, which):
    write_hub(hub, tmp_path)
    lost = f"text_model.encoder.layers.1.self_attn.{which}_proj.weight"
    weights = load_file(tmp_path / "model.safetensors")
    del weights[lost]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=rf"weights \(.*model.safetensors\) lack {lost}; copy the file again"):
        load_clip(tmp_path)


def test_parts_of_an_attention_of_different_sizes_are_refused(hub, tmp_path):
    write_hub(hub, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["text_model.encoder.layers.1.self_attn.k_proj.weight"] = torch.zeros(24, 5)
    save_file(weights, tmp_path / "model.safetensors")
    told = r"weights \(.*\) are not of such a CLIP: .*missing: transformer.resblocks.1.attn.in_proj_weight.*; copy"
    with pytest.raises(ValueError, match=told):
        load_clip(tmp_path)


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("transformer.resblocks.", r"hold no whole CLIP \(no transformer.resblocks.0.mlp.c_fc.weight\); give"),
        ("visual.transformer.", r"hold no whole CLIP \(no visual.transformer.resblocks.0.mlp.c_fc.weight\); give"),
        ("visual.positional_embedding", r"hold no whole CLIP \(no visual.positional_embedding\); give"),
        ("transformer.resblocks.0.", r"hold no whole CLIP \(no transformer.resblocks.0.mlp.c_fc.weight\)"),
    ],
)
def test_weights_without_layers_are_refused(state, tmp_path, lost, told):
    write_open_clip({k: v for k, v in state.items() if not k.startswith(lost)}, tmp_path)
    with pytest.raises(ValueError, match=rf"weights \(.*open_clip_model.safetensors\) {told}"):
        load_clip(tmp_path)


def test_layers_of_odd_numbers_are_not_built_up_to_the_highest(state, tmp_path):
    odd = {"transformer.resblocks.999999999.ln_1.bias": torch.zeros(64), "transformer.resblocks.x.bias": torch.zeros(1)}
    write_open_clip(state | odd, tmp_path, text_cfg__layers=4)
    with pytest.raises(ValueError, match=r"are not of such a CLIP: .*unexpected: .*999999999.*; copy the file again"):
        load_clip(tmp_path)


def test_tensors_of_wrong_axes_are_refused(state, tmp_path):
    write_open_clip(state | {"visual.conv1.weight": torch.zeros(128, 3)}, tmp_path)
    with pytest.raises(ValueError, match=r"safetensors\): visual.conv1.weight \[128, 3\] must have 4 axes.*; copy"):
        load_clip(tmp_path)


@pytest.mark.parametrize("content", [b'{"model_cfg": {"embed', b"", b"\xff\xfe{", b"[" * 100_000])
@pytest.mark.parametrize("name", ["open_clip_config.json", "config.json", "preprocessor_config.json"])
def test_cut_configurations_are_told_by_name(hub, state, tmp_path, name, content):
    write_open_clip(state, tmp_path) if name.startswith("open") else write_hub(hub, tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"/{name} is no JSON \(.*\); copy the file again from its source"):
        load_clip(tmp_path)


def test_a_configuration_that_is_no_object_is_refused(state, tmp_path):
    write_open_clip(state, tmp_path)
    (tmp_path / "open_clip_config.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"open_clip_config.json \(list\) must be an object .*; copy"):
        load_clip(tmp_path)
