"""Weights of HiCo and CoCLR from their own files: a key table, duplicates, strict loading.

| naming | keys |
| --- | --- |
| HiCo, any backbone | `backbone.`; S3D-G a second time under `backbone.block1.` to `backbone.block5.` |
| HiCo, pre-training | `head.mlp_vcl.`, `head.mlp_tcl.mlp.`, `head.mlp_tcl.topical_predictor.` |
| its SimCLR baseline | `head.mlp.` |
| fine-tuned, or probed | `head.out.` |
| CoCLR, S3D without gates | `encoder_q.0.`, also twice; its head, second encoder and queue are ignored |

Epsilons of norms are no tensors: they come with the network that `config_of` names, 1e-3 after the separable
convolutions of HiCo's S3D-G, 1e-5 everywhere in CoCLR's S3D.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vitascope.methods.hico.config import HiCoConfig, hico, hico_r2plus1d
from vitascope.methods.hico.method import HiCo
from vitascope.methods.hico.model import BACKBONES, HiCoModel
from vitascope.nn.loading import LoadReport, State, compare, load_weights

PARTS = ("encoder.", "visual_head.", "topical_head.", "predictor.", "head.")
COCLR = "encoder_q.0."
COCLR_REST = ("encoder_q.", "encoder_k.", "sampler.", "queue")  # of CoCLR's files, besides the encoder

_NAMES = (  # (pattern, ours), all applied in this order
    (r"^module\.", ""),
    (r"^(backbone|encoder_q\.0)\.", "encoder."),
    (r"^head\.mlp_vcl\.", "visual_head."),
    (r"^head\.mlp_tcl\.mlp\.", "topical_head."),
    (r"^head\.mlp_tcl\.topical_predictor\.", "predictor."),
    (r"^head\.mlp\.", "visual_head."),
    (r"^head\.out\.", "head."),
)
_BLOCKS = {  # where S3D-G's layers stand a second time; what is not listed are poolings
    "block1.0": "Conv_1a",
    "block2.1": "Conv_2b",
    "block2.2": "Conv_2c",
    "block3.1": "Mixed_3b",
    "block3.2": "Mixed_3c",
    "block4.1": "Mixed_4b",
    "block4.2": "Mixed_4c",
    "block4.3": "Mixed_4d",
    "block4.4": "Mixed_4e",
    "block4.5": "Mixed_4f",
    "block5.1": "Mixed_5b",
    "block5.2": "Mixed_5c",
}


def load_official(path: str | Path) -> tuple[State, LoadReport]:
    """Read a file of HiCo or CoCLR, and require that all of it fits: the encoder whole, and each head that is there.

    `config_of` tells the network that the tensors belong to. They are loaded by
    `model.load_state_dict({**model.state_dict(), **tensors})`; the `head.` of a fine-tuned file is for a classifier.

    Args:
        path: A `.pyth`, `.pth`, `.pt`, `.bin`, `.tar` or `.safetensors` file. Nothing but tensors and plain values is
            unpickled.

    Returns:
        The tensors by our names, and what became of every tensor of the file. Heads that the file has not are no part
        of the report.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, has no encoder of these, or something is missing, unexpected or of another shape.
    """
    given = load_weights(path)
    is_coclr = any(name.removeprefix("module.").startswith(COCLR) for name in given)
    try:
        ours = to_ours(given)
        told = config_of(ours)
    except ValueError as error:
        raise ValueError(f"weights ({path}) cannot be used: {error}") from None
    if told["backbone"] in (
        "s3d",
        "s3dg",
    ):  # whose file it is decides, not whether there are gates: epsilons hang on it
        told["backbone"] = "s3d" if is_coclr else "s3dg"
    rest = {name for name in ours if is_coclr and name.startswith(COCLR_REST)}
    ours = {name: tensor for name, tensor in ours.items() if name not in rest}
    report = replace(compare(ours, _wanted(ours, told)), ignored=tuple(sorted(rest)))
    if not report.fits:
        raise ValueError(
            f"weights ({path}) do not fit {told['backbone']}: {report}; give a whole file of HiCo or CoCLR"
        )
    return ours, report


def import_weights(path: str | Path, **fields: Any) -> tuple[HiCo, LoadReport]:
    """Build the method that a file of HiCo or CoCLR was made for, with its weights.

    What the file has not stays as it began, and is reported as missing: CoCLR's and fine-tuned files have no head of ours.
    The classes of a fine-tuned file are ignored. For use in a library see `engine.start.add_run`.

    Args:
        path: As `load_official` takes it.
        fields: Of `HiCoConfig`, for what no file tells: above all `num_frames`, `stride_frames` and `size`. The rest is
            that of recipe `hico`, or `hico-r2plus1d`, its pixels' mean and deviation too, whosever file it is.

    Returns:
        The method in evaluation mode, and what became of every tensor.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As `load_official`, or `fields` contradict the file.
    """
    tensors, report = load_official(path)
    told = config_of(tensors)
    wrong = [name for name in told.keys() & fields.keys() if told[name] != fields[name]]
    if wrong:
        raise ValueError(f"{wrong[0]} ({fields[wrong[0]]}) is {told[wrong[0]]} in {path}; leave it out")
    recipe = hico_r2plus1d() if told["backbone"] == "r2plus1d-10" else hico()
    method = HiCo(HiCoConfig.model_validate(recipe.model_dump() | told | fields)).eval()
    own = method.model.state_dict()
    ours = {name: tensor for name, tensor in tensors.items() if name in own}
    method.model.load_state_dict({**own, **ours})
    left = tensors.keys() - own.keys()  # of a classifier
    return method, replace(
        report,
        matched=tuple(sorted(ours)),
        missing=tuple(sorted(own.keys() - ours.keys())),
        ignored=tuple(sorted({*report.ignored, *left})),
    )


def to_ours(state: State) -> State:
    """Rename the tensors of HiCo's or CoCLR's files to our names, and drop those that stand there twice.

    Args:
        state: Tensors by their names in the file.

    Returns:
        Tensors by our names; a name without a rule stays as it is, and strict loading will tell.

    Raises:
        ValueError: A tensor and its duplicate differ, or two names of the file become one.

    Example:
        >>> one = torch.ones(1)
        >>> list(to_ours({"backbone.Conv_1a.bn1.bias": one, "backbone.block1.0.bn1.bias": one, "head.out.bias": one}))
        ['encoder.Conv_1a.bn1.bias', 'head.bias']
    """
    ours: State = {}
    for name, tensor in state.items():
        renamed = name
        for pattern, replacement in _NAMES:
            renamed = re.sub(pattern, replacement, renamed)
        if renamed in ours:
            raise ValueError(f"{renamed} is there twice, the second time as {name}; the file mixes two models")
        ours[renamed] = tensor
    for name in [name for name in ours if name.startswith("encoder.block")]:
        _, block, number, *inner = name.split(".")
        layer = _BLOCKS.get(f"{block}.{number}")
        if layer is None:
            continue
        twin = ".".join(["encoder", layer, *inner])
        tensor = ours.pop(name)
        if not torch.equal(ours.setdefault(twin, tensor), tensor):
            raise ValueError(f"{name} and {twin} are one tensor and differ; the file is damaged or mixes two models")
    return ours


def config_of(state: State) -> dict[str, Any]:
    """What tensors tell of the configuration that they belong to.

    Args:
        state: Tensors by our names, as `load_official` gives them.

    Returns:
        Fields of `HiCoConfig`: `backbone`; with a visual head also `hidden_dim`, `projection_dim` and `topical`.

    Raises:
        ValueError: There is no encoder that we know.

    Example:
        >>> config_of({"encoder.conv1.a1.weight": torch.ones(83, 3, 1, 7, 7)})
        {'backbone': 'r2plus1d-10'}
    """
    if "encoder.Conv_1a.conv1.weight" in state:
        told: dict[str, Any] = {"backbone": "s3dg" if any(".gating_b" in name for name in state) else "s3d"}
    elif "encoder.conv1.a1.weight" in state:
        told = {"backbone": "r2plus1d-10"}
    else:
        some = ", ".join(sorted(state)[:6])
        raise ValueError(f"there is no S3D-G, S3D or R(2+1)D-10 in it, only {some}; give another file")
    hidden, out = state.get("visual_head.linear_a.weight"), state.get("visual_head.logits_out_b2.weight")
    if hidden is not None and out is not None:
        told |= {"hidden_dim": len(hidden), "projection_dim": len(out)}
        told["topical"] = any(name.startswith("topical_head.") for name in state)
    return told


def _wanted(ours: State, told: dict[str, Any]) -> State:
    """What must be there: the encoder, and of the other parts those of which there is anything."""
    with torch.device("meta"):  # only shapes are looked at
        encoder = BACKBONES[told["backbone"]]()
        sizes = {name: told[name] for name in ("hidden_dim", "projection_dim") if name in told}
        wanted = HiCoModel(encoder, encoder.dim, **sizes).state_dict()
        num_classes = len(ours.get("head.weight", ()))
        wanted |= {"head.weight": torch.empty(num_classes, encoder.dim), "head.bias": torch.empty(num_classes)}
    parts = tuple(part for part in PARTS if part == "encoder." or any(name.startswith(part) for name in ours))
    return {name: tensor for name, tensor in wanted.items() if name.startswith(parts)}
