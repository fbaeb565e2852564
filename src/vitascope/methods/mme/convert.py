"""Weights of VideoMAE and MME from other files: key tables, strict loading, and the way back to `transformers`.

Five namings are read; ours is that of VideoMAE's own pre-training files:

| naming | a key |
| --- | --- |
| VideoMAE, MME pre-training | `encoder.blocks.0.attn.q_bias`; MME: `decoder.0.head.0.` (HOG), `.1.` (position) |
| VideoMAE, MME fine-tuned | `blocks.0.attn.q_bias`; no `norm`, but `fc_norm` and `head` |
| transformers 4 | `videomae.encoder.layer.0.attention.attention.q_bias` |
| transformers 5 | `videomae.encoder.layer.0.attention.attention.query.bias` |

The values of MME's heads run as ours do, x before y and HOG by channel and bin, then over steps, rows and columns: they
load as they are.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitascope.methods.mme.config import MMEConfig, mme_release, videomae
from vitascope.methods.mme.method import MME
from vitascope.nn.loading import LoadReport, State, compare, load_weights

PARTS = ("encoder.patch_embed.", "encoder.blocks.", "encoder.norm.", "encoder_to_decoder.", "mask_token", "decoder.")
CLASSIFIER = ("fc_norm.", "head.")
WIDE_HEADS = {1280: 16}  # of ViT-H; those of the other sizes are 64 wide

_PAPERS = (  # (pattern, ours), all applied in this order
    (r"^(module\.|backbone\.)+", ""),
    (r"^(patch_embed\.|blocks\.|norm\.)", r"encoder.\1"),
    (r"^encoder_to_decoder\.0\.", "encoder_to_decoder."),
    (r"^decoder\.0\.head\.0\.(?=[02]\.)", "decoder.heads.shape."),
    (r"^decoder\.0\.head\.1\.(?=[02]\.)", "decoder.heads.position."),
    (r"^decoder\.0\.", "decoder."),
)
_TRANSFORMERS = (
    (r"^(videomae\.)?embeddings\.patch_embeddings\.projection\.", "encoder.patch_embed.proj."),
    (r"^(videomae\.)?encoder\.layer\.", "encoder.blocks."),
    (r"^(videomae\.)?layernorm\.", "encoder.norm."),
    (r"^decoder\.decoder_layers\.", "decoder.blocks."),
    (r"^classifier\.", "head."),
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
    """Load tensors of any of the five namings into a model of ours: all of the parts asked for, or nothing.

    Args:
        model: Receives the weights in place.
        state: Tensors as `load_weights` reads them.
        parts: Prefixes of our names that must be filled, e.g. `("encoder.",)`. The file's other tensors are reported as
            ignored.

    Returns:
        What matched and what was ignored.

    Raises:
        ValueError: Something within the parts is missing, unexpected or of another shape; the model is untouched.
    """
    given, wanted = to_ours(state), {k: v for k, v in model.state_dict().items() if k.startswith(parts)}
    if not wanted:
        raise ValueError(f"parts ({parts}) name nothing of the model; its parts are {_top_names(model)}")
    report = compare(given, wanted, parts)
    if not report.fits:
        differs = _differences({k: v for k, v in given.items() if k.startswith(parts)}, wanted)
        raise ValueError(
            f"weights do not fit the model: {report}{differs}; check the sizes, or name the `parts` to load"
        )
    model.load_state_dict({**model.state_dict(), **{k: given[k] for k in report.matched}})
    return report


def config_of(state: State) -> dict[str, Any]:
    """What the shapes of a file's tensors tell of the configuration that they belong to.

    Heads of attention leave no trace: told are those of the papers' sizes, 64 wide in the encoder (80 in ViT-H), half
    as many in the decoder. Clips and their positions leave none at all.

    Args:
        state: Tensors as `load_weights` reads them.

    Returns:
        Fields of `MMEConfig`: the encoder's; the decoder's and `predicts` if there is a decoder; for heads of motion
        `head_dim`, `track_steps`, `shape` and `shape_gray`.

    Raises:
        ValueError: There is no encoder, or a head fits no number of steps.

    Example:
        >>> from vitascope.methods.mme.model import MaskedAutoencoder
        >>> told = config_of(MaskedAutoencoder((1, 2, 2), 64, 1, 1, decoder_dim=48, decoder_depth=2).state_dict())
        >>> told["embed_dim"], told["decoder_depth"], told["predicts"]
        (64, 2, ('pixels',))
    """
    ours = to_ours(state)
    patch = ours.get("encoder.patch_embed.proj.weight")
    if patch is None or patch.ndim != 5:
        raise ValueError(
            f"weights hold no encoder of clips, only {', '.join(sorted(ours)[:6])}, ...; give another file"
        )
    told = _told(ours)
    num_heads = WIDE_HEADS.get(told["embed_dim"], max(1, told["embed_dim"] // 64))
    guessed = {"num_heads": num_heads, "decoder_heads": max(1, num_heads // 2)}
    return told | (guessed if "decoder_dim" in told else {"num_heads": num_heads})


def import_weights(path: str | Path, **fields: Any) -> tuple[MME, LoadReport]:
    """Build the method that a file of any of the five namings was made for, with its weights.

    What the file has not stays as it began, and is reported as missing: files that were fine-tuned have no decoder, and
    no last norm of the encoder, which then only standardises. For use in a library see `engine.start.add_run`.

    Args:
        path: As `load_weights` takes it.
        fields: Of `MMEConfig`, for what no file tells: above all `num_frames`, `size`, `stride_frames`, and `num_heads`
            where `config_of` guesses wrongly. The rest is that of recipe `videomae`, or `mme-release` if there are
            heads of motion.

    Returns:
        The method in evaluation mode, and what became of every tensor.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no encoder, or something that the model has no place for, or `fields` contradict it.
    """
    state = load_weights(path)
    told, names = config_of(state), to_ours(state)
    strange = sorted(name for name in names if not name.startswith((*PARTS, *CLASSIFIER)))
    if strange:  # an ignored table of positions, for one, would leave a model that works and is wrong
        raise ValueError(f"weights ({path}) hold {', '.join(strange[:6])}, for which the model has no place")
    recipe = videomae() if told.get("predicts", ("pixels",)) == ("pixels",) else mme_release()
    method = MME(MMEConfig.model_validate(recipe.model_dump() | told | fields)).eval()
    parts = tuple(part for part in PARTS if any(name.startswith(part) for name in names))
    report = load_into(method.model, state, parts)
    fresh = (name for name in method.model.state_dict() if not name.startswith(parts))
    return method, replace(report, missing=tuple(sorted(fresh)))


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


def _told(ours: State) -> dict[str, Any]:
    """As `config_of`, of tensors by our names and as far as they are there; nothing is guessed."""
    shapes, told = {name: tuple(tensor.shape) for name, tensor in ours.items()}, {}
    if patch := shapes.get("encoder.patch_embed.proj.weight"):  # [D, C, frames, rows, columns]
        told |= {"embed_dim": patch[0], "tubelet_frames": patch[2], "patch_size": patch[3]}
        told["depth"] = _num_blocks(ours, "encoder")
    if hidden := shapes.get("encoder.blocks.0.mlp.fc1.weight"):
        told["mlp_ratio"] = hidden[0] / hidden[1]
    if bridge := shapes.get("encoder_to_decoder.weight"):
        told |= {"decoder_dim": bridge[0], "decoder_depth": _num_blocks(ours, "decoder")}
    if "decoder.head.weight" in shapes:
        told["predicts"] = ("pixels",)
    last = {name: shapes.get(f"decoder.heads.{name}.2.bias") for name in ("shape", "position", "visibility")}
    widths = {name: shape[0] for name, shape in last.items() if shape}
    if widths:
        hidden = shapes.get(f"decoder.heads.{next(iter(widths))}.0.bias", (None,))
        told |= {"predicts": tuple(widths), "head_dim": hidden[0], **_told_by_heads(widths)}
    return told


def _told_by_heads(widths: dict[str, int]) -> dict[str, Any]:
    """Steps of the tracks, and which HOG, of the widths of the heads: 8 values of position a step, 36 of a HOG."""
    told, steps = {}, 1
    if "position" in widths:
        steps = widths["position"] / 8
        told["track_steps"] = int(steps)
    if "shape" in widths:
        per_hog = widths["shape"] / 36
        if (
            "position" not in widths and per_hog > 3
        ):  # no position says how many steps: HOG is of colours, as the release's
            steps = per_hog / 3
            told["track_steps"] = int(steps)
        # by the number of HOGs; a grid of colours comes before three grey steps, because only the former was released
        kinds = {steps: ("tracks", True), 1: ("grid", True), 3 * steps: ("tracks", False), 3: ("grid", False)}
        told["shape"], told["shape_gray"] = kinds.get(per_hog, (None, None))
    if steps < 1 or steps % 1 or told.get("shape", "") is None:
        raise ValueError(
            f"heads of {' and '.join(f'{width} values ({name})' for name, width in widths.items())} fit no number of "
            "steps L: a position has 8 L, a shape 108 or 108 L (36 or 36 L where grey); give a file of MME"
        )
    return told


def _num_blocks(ours: State, part: str) -> int:
    return len({name.split(".")[2] for name in ours if name.startswith(f"{part}.blocks.")})


def _differences(given: State, wanted: State) -> str:
    """In which fields of the configuration a file and a model differ, as far as both tell."""
    theirs = own = {}
    with suppress(ValueError):  # heads of no known shape; the report still names them
        theirs, own = _told(given), _told(wanted)
    differ = [name for name in theirs if name in own and theirs[name] != own[name]]
    pairs = [f"{name} {_plain(theirs[name])} (the model: {_plain(own[name])})" for name in differ]
    return f"; the file has {', '.join(pairs)}" if pairs else ""


def _plain(value: Any) -> str:
    return " and ".join(value) if isinstance(value, tuple) else str(value)


def _rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _top_names(model: nn.Module) -> str:
    return ", ".join(sorted({name.split(".")[0] for name in model.state_dict()}))
