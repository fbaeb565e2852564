"""Weights of VideoMAE and MME from other files: key tables, strict loading, and the way back to `transformers`.

Five namings are read; ours is that of VideoMAE's own pre-training files:

| naming | a key |
| --- | --- |
| VideoMAE, MME pre-training | `encoder.blocks.0.attn.q_bias`; MME's decoder is `decoder.0.`, its heads `decoder.0.head.` |
| VideoMAE, MME fine-tuned | `blocks.0.attn.q_bias`; no `norm`, but `fc_norm` and `head` |
| transformers 4 | `videomae.encoder.layer.0.attention.attention.q_bias` |
| transformers 5 | `videomae.encoder.layer.0.attention.attention.query.bias` |
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

State = dict[str, Tensor]

_PAPERS = (  # (pattern, ours), all applied in this order
    (r"^(module\.|backbone\.)+", ""),
    (r"^(patch_embed\.|blocks\.|norm\.)", r"encoder.\1"),
    (r"^encoder_to_decoder\.0\.", "encoder_to_decoder."),
    (r"^decoder\.0\.(?!head\.)", "decoder."),  # MME's heads speak of motion: they have no place in a model of pixels
)
_TRANSFORMERS = (
    (r"^(videomae\.)?embeddings\.patch_embeddings\.projection\.", "encoder.patch_embed.proj."),
    (r"^(videomae\.)?encoder\.layer\.", "encoder.blocks."),
    (r"^(videomae\.)?layernorm\.", "encoder.norm."),
    (r"^decoder\.decoder_layers\.", "decoder.blocks."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.attention\.attention\.query\.bias$", ".attn.q_bias"),
    (r"\.attention\.attention\.value\.bias$", ".attn.v_bias"),
    (r"\.attention\.attention\.", ".attn."),
)
_TO_TRANSFORMERS = (
    (r"^encoder\.patch_embed\.proj\.", "videomae.embeddings.patch_embeddings.projection."),
    (r"^encoder\.blocks\.", "videomae.encoder.layer."),
    (r"^encoder\.norm\.", "videomae.layernorm."),
    (r"^decoder\.blocks\.", "decoder.decoder_layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"\.attn\.q_bias$", ".attention.attention.query.bias"),
    (r"\.attn\.v_bias$", ".attention.attention.value.bias"),
    (r"\.attn\.", ".attention.attention."),
)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of every tensor: names in our naming, sorted."""

    matched: tuple[str, ...]
    missing: tuple[str, ...] = ()  # the model wants it, the file lacks it
    unexpected: tuple[str, ...] = ()  # the file has it, the model has no such place
    mismatched: tuple[str, ...] = ()  # both have it, in different shapes
    ignored: tuple[str, ...] = ()  # the file has it, outside the parts that were asked for

    def __str__(self) -> str:
        lines = [f"{len(self.matched)} tensors matched"]
        for kind in ("missing", "unexpected", "mismatched", "ignored"):
            names = getattr(self, kind)
            if names:
                lines.append(f"{len(names)} {kind}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}")
        return "; ".join(lines)


def load_weights(path: str | Path) -> State:
    """Read the tensors of a `.safetensors`, `.pth`, `.pt` or `.bin` file, whatever their names.

    The papers' files pickle the command line's `argparse.Namespace` beside the weights; that one class is allowed, and
    nothing else is unpickled. DeepSpeed's files, which nest the weights under `module`, are read too.

    Args:
        path: The file.

    Returns:
        Tensors by their names in the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of another kind or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights ({path}) do not exist; give the path of a .safetensors or .pth file")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if path.suffix not in (".pth", ".pt", ".bin"):
        raise ValueError(f"weights ({path}) must be a .safetensors, .pth, .pt or .bin file")
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("model", "module", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise ValueError(f"weights ({path}) hold no tensors under 'model', 'module', 'state_dict' or at the top")
    return tensors


def to_ours(state: State) -> State:
    """Rename the tensors of any of the five namings to ours; separate query, key and value weights are joined.

    Args:
        state: Tensors by their names in the file.

    Returns:
        Tensors by our names; a name without a rule stays as it is, and strict loading will tell.

    Raises:
        ValueError: A query, key or value weight lacks its partners, or two names of the file become one.

    Example:
        >>> sorted(to_ours({"blocks.0.attn.q_bias": torch.ones(2), "fc_norm.weight": torch.ones(2)}))
        ['encoder.blocks.0.attn.q_bias', 'fc_norm.weight']
    """
    ours: State = {}
    for name, tensor in state.items():
        renamed = _rename(_rename(name, _PAPERS), _TRANSFORMERS)
        if renamed in ours:
            raise ValueError(f"weights hold {renamed} twice, the second time as {name}; the file mixes two models")
        ours[renamed] = tensor
    for name in [
        name for name in ours if name.endswith((".attn.query.weight", ".attn.key.weight", ".attn.value.weight"))
    ]:
        stem = name.rsplit(".", 2)[0]
        if f"{stem}.qkv.weight" in ours:
            continue
        parts = [ours.get(f"{stem}.{part}.weight") for part in ("query", "key", "value")]
        if any(part is None for part in parts):
            raise ValueError(f"weights hold {name} without its partners; query, key and value belong together")
        ours[f"{stem}.qkv.weight"] = torch.cat(parts)
    split = re.compile(r"\.attn\.(query|key|value)\.weight$")
    return {name: tensor for name, tensor in ours.items() if not split.search(name)}


def load_into(model: nn.Module, state: State, parts: tuple[str, ...] = ("",)) -> LoadReport:
    """Load tensors of any of the five namings into a `MaskedAutoencoder`: all of the parts asked for, or nothing.

    Args:
        model: Receives the weights in place.
        state: Tensors as `load_weights` reads them.
        parts: Prefixes of our names that must be filled, e.g. `("encoder.",)`, or for an MME file `("encoder.",
            "encoder_to_decoder.", "mask_token")`. The file's other tensors are reported as ignored.

    Returns:
        What matched and what was ignored.

    Raises:
        ValueError: Something within the parts is missing, unexpected or of another shape; the model is untouched.
    """
    given, wanted = to_ours(state), {k: v for k, v in model.state_dict().items() if k.startswith(parts)}
    if not wanted:
        raise ValueError(f"parts ({parts}) name nothing of the model; its parts are {_top_names(model)}")
    common = given.keys() & wanted.keys()
    report = LoadReport(
        matched=tuple(sorted(k for k in common if given[k].shape == wanted[k].shape)),
        missing=tuple(sorted(wanted.keys() - given.keys())),
        unexpected=tuple(sorted(k for k in given if k.startswith(parts) and k not in wanted)),
        mismatched=tuple(sorted(k for k in common if given[k].shape != wanted[k].shape)),
        ignored=tuple(sorted(k for k in given if not k.startswith(parts))),
    )
    if report.missing or report.unexpected or report.mismatched:
        raise ValueError(f"weights do not fit the model: {report}; check the sizes, or name the `parts` to load")
    model.load_state_dict({**model.state_dict(), **{k: given[k] for k in report.matched}})
    return report


def to_transformers(state: State, version: int = 5) -> State:
    """Name the tensors of a `MaskedAutoencoder` as `VideoMAEForPreTraining` does (with `use_mean_pooling=False`).

    Args:
        state: Tensors by our names.
        version: Major version of transformers; 4 calls query biases `q_bias`, 5 calls them `query.bias`.

    Returns:
        Tensors by the names of transformers, query, key and value apart.

    Raises:
        ValueError: `version` is neither 4 nor 5.

    Example:
        >>> sorted(to_transformers({"encoder.blocks.0.attn.q_bias": torch.ones(2)}, version=4))
        ['videomae.encoder.layer.0.attention.attention.q_bias']
    """
    if version not in (4, 5):
        raise ValueError(f"version ({version}) must be 4 or 5")
    theirs: State = {}
    for name, tensor in state.items():
        renamed = _rename(name, _TO_TRANSFORMERS)
        if version == 4:
            renamed = renamed.replace(".query.bias", ".q_bias").replace(".value.bias", ".v_bias")
        if renamed.endswith(".qkv.weight"):
            stem = renamed.removesuffix("qkv.weight")
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                theirs[f"{stem}{part}.weight"] = piece.clone()  # own memory: safetensors refuses shared tensors
        else:
            theirs[renamed] = tensor
    return theirs


def _rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _top_names(model: nn.Module) -> str:
    return ", ".join(sorted({name.split(".")[0] for name in model.state_dict()}))
