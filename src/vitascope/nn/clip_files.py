"""CLIP from local files: the tiny one that comes with the package, transformers' layout, open_clip's and OpenAI's.

A folder of `nn.standin` is read in its place, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitascope.nn.bpe import Words, find_tokenizer
from vitascope.nn.clip import Clip
from vitascope.nn.loading import compare, load_weights
from vitascope.nn.standin import StandIn, is_standin, load_standin
from vitascope.nn.torchscript import is_torchscript, torchscript_tensors

TINY = Path(__file__).parent / "weights" / "tiny_clip.safetensors"
WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".bin")
NO_WEIGHTS = ("logit_bias", "input_resolution", "context_length", "vocab_size", "attn_mask", "position_ids")


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
        ValueError: The files are not of a CLIP with a vision transformer, or do not fit together.
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
        config = _json(folder / "config.json", f"weights ({weights}) have transformers' names")
        clip = Clip(**_sizes_of_transformers(config, state, folder))
        state = _from_transformers(state)
    else:
        clip = Clip(**_sizes_of_openai(state, folder, weights))
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
        raise ValueError(f"weights ({path}) are not of such a CLIP: {report}")
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


def _json(path: Path, because: str) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{because}, but {path.name} is not beside them; copy it there from the same source")
    return json.loads(path.read_text(encoding="utf-8"))


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


def _from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names -> ours; query, key and value become one, and the projections are turned."""
    ours = {}
    for name, tensor in state.items():
        if name in ("visual_projection.weight", "text_projection.weight"):
            ours["visual.proj" if name.startswith("visual") else "text_projection"] = tensor.T
            continue
        for old, new in _TABLE.items():
            name = name.replace(old, new)
        ours[name] = tensor
    for name in [name for name in ours if ".attn.q_proj." in name]:
        part, leaf = name.split("q_proj.")
        threes = [ours.pop(f"{part}{which}_proj.{leaf}") for which in "qkv"]
        ours[f"{part}in_proj_{leaf}"] = torch.cat(threes)
    return ours


def _sizes_of_transformers(config: dict[str, Any], state: Mapping[str, Tensor], folder: Path) -> dict[str, Any]:
    """Values of `Clip` from a `config.json`, which leaves out what is at transformers' default (ViT-B/32)."""
    image, text = config.get("vision_config") or {}, config.get("text_config") or {}
    activations = {part.get("hidden_act", "quick_gelu") for part in (image, text)}
    if len(activations) > 1 or not activations <= {"quick_gelu", "gelu"}:
        raise ValueError(f"hidden_act ({', '.join(sorted(activations))}) must be quick_gelu or gelu, in both towers")
    sizes = _sizes_of_tensors(_from_transformers(state), image.get("image_size", 224))
    sizes["image_heads"] = image.get("num_attention_heads", 12)
    sizes["text_heads"] = text.get("num_attention_heads", 8)
    given = _json(folder / "preprocessor_config.json", "") if (folder / "preprocessor_config.json").is_file() else {}
    norm = {ours: given[theirs] for ours, theirs in (("mean", "image_mean"), ("std", "image_std")) if theirs in given}
    return sizes | norm | {"activation": activations.pop()}


# open_clip and OpenAI


def _sizes_of_openai(state: Mapping[str, Tensor], folder: Path, path: Path) -> dict[str, Any]:
    """Values of `Clip` from the shapes of weights, and from `open_clip_config.json` where that is beside them."""
    if "visual.conv1.weight" not in state or "visual.class_embedding" not in state:
        raise ValueError(
            f"weights ({path}) hold no CLIP with a vision transformer (no visual.conv1 or visual.class_embedding); "
            "give a ViT's, such as ViT-B/16"
        )
    if "input_resolution" in state:  # only OpenAI's files have it
        sizes = _sizes_of_tensors(state, int(state["input_resolution"]))
        return sizes | {"activation": "quick_gelu"}
    about = _json(
        folder / "open_clip_config.json",
        f"weights ({path}) do not tell their activation (gelu in most of open_clip's, quick_gelu in OpenAI's)",
    )
    config, given = about.get("model_cfg", about), about.get("preprocess_cfg", {})
    image, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    sizes = _sizes_of_tensors(state, image.get("image_size"))
    sizes["image_heads"] = sizes["image_width"] // image.get("head_width", 64)
    sizes["text_heads"] = text.get("heads", sizes["text_heads"])
    norm = {key: given[key] for key in ("mean", "std") if key in given}
    return sizes | norm | {"activation": "quick_gelu" if config.get("quick_gelu") else "gelu"}


def _sizes_of_tensors(state: Mapping[str, Tensor], image_size: int | None) -> dict[str, Any]:
    """What the shapes tell; heads are 64 wide, as in OpenAI's."""
    needed = ("visual.conv1.weight", "visual.proj", "token_embedding.weight", "text_projection", "positional_embedding")
    missing = [name for name in needed if name not in state]
    if missing:
        raise ValueError(f"weights hold no whole CLIP (no {', '.join(missing)}); give a file with both of its towers")
    width, _, patch, _ = state["visual.conv1.weight"].shape
    places = state["visual.positional_embedding"].shape[0] - 1
    vocabulary, token_width = state["token_embedding.weight"].shape

    def depth(tower: str) -> int:
        return 1 + max(int(name.removeprefix(tower).split(".")[0]) for name in state if name.startswith(tower))

    return {
        "dim": state["text_projection"].shape[1],
        "image_size": image_size or round(places**0.5) * patch,
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
