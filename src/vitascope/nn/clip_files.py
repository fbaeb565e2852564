"""CLIP from local files: the tiny one that comes with the package, transformers' layout, open_clip's and OpenAI's.

A folder of `nn.standin` is read in its place, too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitascope.nn.bpe import Words, find_tokenizer
from vitascope.nn.clip import Clip
from vitascope.nn.loading import compare, load_weights
from vitascope.nn.standin import StandIn, is_standin, load_standin, read_config
from vitascope.nn.torchscript import is_torchscript, torchscript_tensors

TINY = Path(__file__).parent / "weights" / "tiny_clip.safetensors"
WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".bin")
NO_WEIGHTS = ("logit_bias", "input_resolution", "context_length", "vocab_size", "attn_mask", "position_ids")

# What configurations may say where `nn.clip` builds one thing only; what is left out is at its default, which is allowed.
Allowed = Mapping[str, tuple[Any, ...]]
TOWER = {"layer_norm_eps": (1e-5,)}  # of transformers
PIXELS = {
    "do_resize": (True,),
    "resample": (3,),  # bicubic
    "do_center_crop": (True,),
    "do_rescale": (True,),
    "do_normalize": (True,),
}
LAYERS = {"act_kwargs": (None, {}), "norm_kwargs": (None, {}, {"eps": 1e-5})}  # of open_clip
IMAGE = LAYERS | {"pool_type": ("tok",), "global_average_pool": (False,), "attentional_pool": (False,)}
TEXT = LAYERS | {"pool_type": ("argmax",), "no_causal_mask": (False,)}
FRAMES = {"interpolation": ("bicubic", None), "resize_mode": ("shortest", None)}


def load_clip(source: str | os.PathLike[str] = "tiny") -> Clip | StandIn:
    """CLIP, or what stands in for it, frozen and ready to encode.

    Args:
        source: `tiny` for the one that comes with the package, which knows the synthetic worlds and nothing else; or a
            local folder or file: transformers' layout (`config.json`, `model.safetensors`), open_clip's
            (`open_clip_config.json` and weights), or OpenAI's file or its state dict. The vocabulary is looked for
            beside the weights: `vocab.json` and `merges.txt`, or `bpe_simple_vocab_16e6.txt.gz`, or `tokenizer.json`.
            A folder with the `config.json` of a BERT is one of `nn.standin.load_standin`.

    Returns:
        The network in float32, with no parameter that learns.

    Raises:
        FileNotFoundError: There is no such file or folder, or the folder lacks weights.
        ValueError: The files are not of a CLIP with a vision transformer, ask for one that computes otherwise than
            OpenAI's, are damaged, or do not fit together.
    """
    if str(source) == "tiny":
        return load_tiny()
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"CLIP ({path}) does not exist; give 'tiny', or a local folder or file of a CLIP")
    if is_standin(path):
        return load_standin(path)
    folder, weights = (path, _weights_of(path)) if path.is_dir() else (path.parent, path)
    state = torchscript_tensors(weights) if is_torchscript(weights) else load_weights(weights)
    state = _plain_names(state)
    if any(name.startswith("vision_model.") for name in state):
        config = _fields(folder / "config.json", f"weights ({weights}) have transformers' names")
        state = _from_transformers(_with_whole_attention(state, weights))
        sizes = _sizes_of_transformers(config, state, folder, weights)
    else:
        sizes = _sizes_of_openai(state, folder, weights)
    try:
        clip = Clip(**sizes)
    except ValueError as error:
        raise ValueError(f"CLIP ({weights}) cannot be built: {error}; give files that belong together") from None
    clip.tokenizer = find_tokenizer(folder)
    state = {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] not in NO_WEIGHTS}
    return _filled(clip, state, weights)


def load_tiny(path: str | os.PathLike[str] = TINY) -> Clip:
    """The tiny CLIP that comes with the package; its sizes and its words stand in the file's metadata.

    Raises:
        FileNotFoundError: The package was installed without its weights.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise FileNotFoundError(
            f"the tiny CLIP ({path}) does not exist: the package came without its weights; install it again, "
            "or make them by benchmarks/train_tiny_clip.py"
        )
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["clip"])
    words = Words(about["words"])
    clip = Clip(**about["sizes"], vocabulary_size=words.size)
    clip.tokenizer = words
    return _filled(clip, load_file(path), Path(path))


def _filled(clip: Clip, state: Mapping[str, Tensor], path: Path) -> Clip:
    given = {name: tensor.float() for name, tensor in state.items()}
    report = compare(given, clip.state_dict())
    if not report.fits:
        raise ValueError(
            f"weights ({path}) are not of such a CLIP: {report}; copy the file again from its source, "
            "and what lies beside it from the same one"
        )
    clip.load_state_dict(given)
    return clip.eval().requires_grad_(False)


def _weights_of(folder: Path) -> Path:
    found = sorted(file for file in folder.iterdir() if file.suffix in WEIGHT_FILES)
    named = [file for file in found if file.stem in ("model", "open_clip_model")] or [
        file for file in found if file.stem in ("pytorch_model", "open_clip_pytorch_model")
    ]
    chosen = named or found
    if not chosen:
        raise FileNotFoundError(
            f"CLIP ({folder}) holds no weights; a folder must hold model.safetensors or such a file"
        )
    if len(chosen) > 1:
        names = ", ".join(file.name for file in chosen)
        raise ValueError(f"CLIP ({folder}) holds several weights ({names}); give the path of one file")
    return chosen[0]


class _Fields:
    """An object of a configuration, which refuses values by their names."""

    def __init__(self, values: object, name: str) -> None:
        if not isinstance(values, dict):
            raise ValueError(
                f"{name} ({_short(values)}) must be an object of names and values; copy the file again from its source"
            )
        self.values, self.name = values, name

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def part(self, key: str) -> _Fields:
        """The object under a name; an empty one where there is none."""
        value = self.get(key)
        return _Fields({} if value is None else value, f"{self.name}: {key}")

    def refuse(self, key: str, value: object, allowed: str) -> ValueError:
        return ValueError(
            f"{self.name}: {key} ({_short(value)}) must be {allowed}; give the files of such a CLIP, "
            "such as OpenAI's ViT-B/16, or copy this one again from its source if it is damaged"
        )

    def only(self, allowed: Allowed) -> None:
        """Refuse what is not built."""
        for key, values in allowed.items():
            if key in self.values and self.values[key] not in values:
                raise self.refuse(key, self.values[key], f"{' or '.join(map(_short, values))}, as no other is built")

    def count(self, key: str, default: int) -> int:
        value = self.get(key, default)
        if type(value) is not int or value < 1:
            raise self.refuse(key, value, "a whole number > 0")
        return value

    def side(self, key: str, default: int | None) -> int | None:
        """Height and width of a square, given as one number or as two that are the same."""
        value = self.get(key, default)
        pair = value if isinstance(value, list) else [value, value]
        if value is None:
            return default
        if len(pair) != 2 or any(type(side) is not int or side < 1 for side in pair) or pair[0] != pair[1]:
            raise self.refuse(key, value, "a whole number > 0, or two that are the same (a square)")
        return pair[0]

    def depth(self, key: str, layers: int) -> None:
        """Refuse another number of layers than the weights have."""
        if self.get(key, layers) != layers:
            raise self.refuse(key, self.get(key), f"{layers}, as many as the weights have")

    def norm(self, mean: str, std: str) -> dict[str, list[float]]:
        """`mean` and `std` of `Clip`, where they are given."""
        names = {ours: theirs for ours, theirs in (("mean", mean), ("std", std)) if self.get(theirs) is not None}
        for ours, theirs in names.items():
            value = self.get(theirs)
            numbers = value if isinstance(value, list) and len(value) == 3 else [None]
            if any(type(x) not in (int, float) or not abs(x) < 1e6 or (ours == "std" and x <= 0) for x in numbers):
                raise self.refuse(
                    theirs, value, f"three numbers{' > 0' if ours == 'std' else ''}, for red, green, blue"
                )
        return {ours: self.get(theirs) for ours, theirs in names.items()}


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _fields(path: Path, because: str) -> _Fields:
    """A configuration that must be there: `because` tells why."""
    if not path.is_file():
        raise ValueError(f"{because}, but {path.name} is not beside them; copy it there from the same source")
    return _Fields(read_config(path), str(path))


def _plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes of data-parallel training and of open_clip's text tower."""
    return {name.removeprefix("module.").removeprefix("text."): tensor for name, tensor in state.items()}


# transformers

_TABLE = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm": "visual.ln_pre",  # the typing error is transformers'
    "vision_model.post_layernorm": "visual.ln_post",
    "vision_model.encoder.layers": "visual.transformer.resblocks",
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "text_model.encoder.layers": "transformer.resblocks",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
    ".self_attn.": ".attn.",
}


def _with_whole_attention(state: Mapping[str, Tensor], path: Path) -> Mapping[str, Tensor]:
    """The same weights, of which each attention has query, key and value."""
    found = [re.fullmatch(r"(.+\.self_attn\.)[qkv](_proj\..+)", name) for name in state]
    wanted = {f"{match[1]}{which}{match[2]}" for match in found if match for which in "qkv"}
    lacking = sorted(wanted - state.keys())
    if lacking:
        raise ValueError(
            f"weights ({path}) lack {', '.join(lacking[:6])}{', ...' if len(lacking) > 6 else ''}; "
            "copy the file again from its source"
        )
    return state


def _from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names -> ours; query, key and value become one, and the projections are turned."""
    ours = {}
    for name, tensor in state.items():
        if name in ("visual_projection.weight", "text_projection.weight") and tensor.ndim == 2:
            ours["visual.proj" if name.startswith("visual") else "text_projection"] = tensor.T
            continue
        for old, new in _TABLE.items():
            name = name.replace(old, new)
        ours[name] = tensor
    for name in [name for name in ours if ".attn.q_proj." in name]:
        part, leaf = name.split("q_proj.")
        threes = [f"{part}{which}_proj.{leaf}" for which in "qkv"]
        shapes = [ours[three].shape for three in threes if three in ours]
        if len(shapes) == 3 and len(set(shapes)) == 1:  # others are found to have no place
            ours[f"{part}in_proj_{leaf}"] = torch.cat([ours.pop(three) for three in threes])
    return ours


def _sizes_of_transformers(config: _Fields, ours: Mapping[str, Tensor], folder: Path, path: Path) -> dict[str, Any]:
    """Values of `Clip` from a `config.json`, which leaves out what is at transformers' default (ViT-B/32).

    Where old files have `text_config_dict` beside `text_config`, transformers reads that one; so with images.
    """
    config.only({"model_type": ("clip",)})
    towers = ("vision_config", "text_config")
    image, text = (config.part(f"{key}_dict" if config.get(f"{key}_dict") is not None else key) for key in towers)
    sizes = _sizes_of_tensors(ours, image.side("image_size", 224), path)
    for tower in (image, text):
        tower.only(TOWER | {"hidden_act": ("quick_gelu", "gelu")})
    image.depth("num_hidden_layers", sizes["image_depth"])
    text.depth("num_hidden_layers", sizes["text_depth"])
    last = sizes["vocabulary_size"] - 1
    text.only({"eos_token_id": (last, 2, None)})  # old files say 2, and mean the last
    activation = image.get("hidden_act", "quick_gelu")
    if text.get("hidden_act", "quick_gelu") != activation:
        raise text.refuse("hidden_act", text.get("hidden_act", "quick_gelu"), f"{activation}, as that of vision_config")
    sizes["image_heads"] = image.count("num_attention_heads", 12)
    sizes["text_heads"] = text.count("num_attention_heads", 8)
    beside = folder / "preprocessor_config.json"
    pixels = _Fields(read_config(beside) if beside.is_file() else {}, str(beside))
    pixels.only(PIXELS)
    return sizes | pixels.norm("image_mean", "image_std") | {"activation": activation}


# open_clip and OpenAI


def _sizes_of_openai(state: Mapping[str, Tensor], folder: Path, path: Path) -> dict[str, Any]:
    """Values of `Clip` from the shapes of weights, and from `open_clip_config.json` where that is beside them."""
    if "visual.conv1.weight" not in state or "visual.class_embedding" not in state:
        raise ValueError(
            f"weights ({path}) hold no CLIP with a vision transformer (no visual.conv1 or visual.class_embedding); "
            "give a ViT's, such as ViT-B/16"
        )
    if "input_resolution" in state:  # only OpenAI's files have it
        side = state["input_resolution"]
        return _sizes_of_tensors(state, int(side) if side.numel() == 1 else 0, path) | {"activation": "quick_gelu"}
    about = _fields(
        folder / "open_clip_config.json",
        f"weights ({path}) do not tell their activation (gelu in most of open_clip's, quick_gelu in OpenAI's)",
    )
    config, frames = about.part("model_cfg") if "model_cfg" in about.values else about, about.part("preprocess_cfg")
    image, text = config.part("vision_cfg"), config.part("text_cfg")
    for part, allowed in ((image, IMAGE), (text, TEXT), (frames, FRAMES)):
        part.only(allowed)
    config.only({"quick_gelu": (True, False, None)})
    sizes = _sizes_of_tensors(state, image.side("image_size", None), path)
    image.depth("layers", sizes["image_depth"])
    text.depth("layers", sizes["text_depth"])
    sizes["image_heads"] = _heads(image, sizes["image_width"])
    sizes["text_heads"] = text.count("heads", sizes["text_heads"])
    return sizes | frames.norm("mean", "std") | {"activation": "quick_gelu" if config.get("quick_gelu") else "gelu"}


def _heads(image: _Fields, width: int) -> int:
    head = image.count("head_width", 64)
    if width % head:
        raise image.refuse("head_width", head, f"a divisor of the width of the weights ({width})")
    return width // head


_AXES = {
    "visual.conv1.weight": 4,
    "visual.positional_embedding": 2,
    "visual.transformer.resblocks.0.mlp.c_fc.weight": 2,
    "visual.proj": 2,
    "token_embedding.weight": 2,
    "positional_embedding": 2,
    "transformer.resblocks.0.mlp.c_fc.weight": 2,
    "text_projection": 2,
}  # of the tensors that tell sizes


def _sizes_of_tensors(state: Mapping[str, Tensor], image_size: int | None, path: Path) -> dict[str, Any]:
    """What the shapes tell; heads are 64 wide, as in OpenAI's."""
    missing = [name for name in _AXES if name not in state]
    if missing:
        raise ValueError(
            f"weights ({path}) hold no whole CLIP (no {', '.join(missing)}); give a file with both of its towers"
        )
    for name, axes in _AXES.items():
        if state[name].ndim != axes or 0 in state[name].shape:
            raise ValueError(
                f"weights ({path}): {name} {list(state[name].shape)} must have {axes} axes, none of them empty; "
                "copy the file again from its source"
            )
    width, _, patch, _ = state["visual.conv1.weight"].shape
    places = state["visual.positional_embedding"].shape[0] - 1
    vocabulary, token_width = state["token_embedding.weight"].shape
    image_size = round(places**0.5) * patch if image_size is None else image_size
    if places < 1 or (image_size // patch) ** 2 != places:
        raise ValueError(
            f"image_size ({image_size}) does not fit weights ({path}): they have {places} places for patches of {patch} "
            "pixels; give the weights and the configuration of one CLIP"
        )

    def depth(tower: str) -> int:
        return len({name.removeprefix(tower).split(".")[0] for name in state if name.startswith(tower)})

    return {
        "dim": state["text_projection"].shape[1],
        "image_size": image_size,
        "patch_size": patch,
        "image_width": width,
        "image_depth": depth("visual.transformer.resblocks."),
        "image_heads": max(1, width // 64),
        "image_hidden": state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "vocabulary_size": vocabulary,
        "max_tokens": state["positional_embedding"].shape[0],
        "token_width": token_width,
        "text_depth": depth("transformer.resblocks."),
        "text_heads": max(1, token_width // 64),
        "text_hidden": state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
    }
