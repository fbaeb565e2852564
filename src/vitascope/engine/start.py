"""What a run starts from: a configuration that fits its data and another run's encoder, and that encoder's weights.

And a run that has trained nothing, for weights from elsewhere to start from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitascope.engine import checkpoint
from vitascope.engine.checkpoint import CheckpointError
from vitascope.methods.base import Frozen, Method
from vitascope.store.library import Library
from vitascope.store.runs import Run
from vitascope.structures import Record

ENCODER = "model.encoder."  # where methods that share an encoder keep it
LAST_NORM = "model.encoder.norm."  # of pre-training; a classifier has a fresh one in its place
GEOMETRY = (  # what an encoder's weights and positions are for, and how it is fed
    "num_frames",
    "stride_frames",
    "size",
    "short_side",
    "tubelet_frames",
    "patch_size",
    "embed_dim",
    "depth",
    "num_heads",
    "mlp_ratio",
    "layer_norm_eps",
)


def data_sets(cls: type[Method], config: Frozen) -> list[str]:
    """Names of the data sets that the stages of a method want, told without making its weights."""
    words = ("left", "right")  # which every vocabulary has
    config = config.model_copy(update={"classes": words}) if takes_classes(config) else config
    with torch.device("meta"):
        return list(dict.fromkeys(stage.data for stage in cls(config).stages()))


def takes_classes(config: Frozen) -> bool:
    """Whether a configuration has `classes`, so that its method learns from labels."""
    return "classes" in type(config).model_fields


def start(
    cls: type[Method],
    config: Frozen,
    records: dict[str, Sequence[Record]],
    *,
    seed: int,
    recipe: Frozen,
    init: Path | None = None,
) -> Method:
    """Build the method that a run trains.

    Args:
        cls: Of the method.
        config: As the recipe and the user's changes make it; empty `classes` become the labels of `records`.
        records: Of each data set.
        seed: The weights at the start are part of what it means.
        recipe: The configuration of the recipe without changes.
        init: Folder of a run or checkpoint whose encoder is taken, its geometry and its weights.

    Raises:
        CheckpointError: There is no checkpoint in `init`, or its encoder does not fit.
        ValueError: There are fewer than two classes, or a change of the geometry contradicts `init`.
    """
    if takes_classes(config) and not config.classes:
        config = _changed(config, {"classes": classes_of([r for found in records.values() for r in found])})
    if init is None:
        torch.manual_seed(seed)
        return cls(config)
    about, weights = read_run(init)
    config = with_geometry(config, recipe, about, str(init))
    torch.manual_seed(seed)
    method = cls(config)
    load_encoder(method, weights, str(init))
    return method


def classes_of(records: Sequence[Record]) -> tuple[str, ...]:
    """The different labels of records, sorted; numbers by their value.

    Raises:
        ValueError: There are fewer than two.

    Example:
        >>> classes_of([Record("a", labels=("10",)), Record("b", labels=("9",)), Record("c", labels=("10",))])
        ('9', '10')
    """
    found = {label for record in records for label in record.labels}
    if len(found) < 2:
        raise ValueError(
            f"the {len(records)} records have {len(found)} different labels; to learn classes takes two or more: give a list "
            "with labels, or a folder with a folder for each class"
        )
    return tuple(sorted(found, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))


def with_geometry(config: Frozen, recipe: Frozen, about: dict[str, Any], source: str) -> Frozen:
    """The configuration with the encoder that a run, of which `about` is the `config.json`, was trained with.

    Raises:
        CheckpointError: The run has no encoder, or one of another kind.
        ValueError: The user changed a field of the recipe to something else than the encoder's.
    """
    trained = about["config"]
    names = [name for name in GEOMETRY if name in type(config).model_fields]
    missing = [name for name in names if name not in trained]
    if missing or not names:
        raise CheckpointError(f"{source} holds no encoder of clips to start from (no {', '.join(missing or GEOMETRY)})")
    own, theirs = (fields.get("backbone", "vit") for fields in (dict(config), trained))
    if own != theirs:
        can_choose = "backbone" in type(config).model_fields
        remedy = f"choose --set backbone={theirs}" if can_choose else f"choose a run with encoder {own}"
        raise CheckpointError(
            f"{source} is a run of {about['method']} with encoder {theirs}, this recipe's encoder is {own}; {remedy}"
        )
    for name in names:
        now = getattr(config, name)
        if now not in (getattr(recipe, name), trained[name]):
            raise ValueError(f"{name} ({now}) is {trained[name]} in the encoder of {source}; leave it out")
    return _changed(config, {name: trained[name] for name in names})


def load_encoder(method: Method, weights: dict[str, Tensor], source: str) -> None:
    """Copy the weights of another method's encoder; all names and shapes must agree, but for a last norm left behind.

    Raises:
        CheckpointError: They do not.
    """
    own = {name for name in method.state_dict() if name.startswith(ENCODER)}
    found = {name: tensor for name, tensor in weights.items() if name.startswith(ENCODER)}
    if not own or not found:
        raise CheckpointError(f"{source} and {type(method).__name__} must both have an encoder of clips")
    kept = {
        name.removeprefix(ENCODER): tensor
        for name, tensor in found.items()
        if name in own or not name.startswith(LAST_NORM)
    }
    checkpoint.load_weights(method.get_submodule(ENCODER.rstrip(".")), kept, source)


def add_run(library: Library, method: Method, *, name: str, recipe: str, source: str) -> Run:
    """Put a method whose weights come from elsewhere into a library: a run that is done, without having trained.

    It can be embedded with, evaluated, and started from (`--init`) as any other; it cannot be gone on with.

    Args:
        library: Receives it.
        method: With its weights.
        name: Of the method, e.g. `mme`.
        recipe: What the run is listed under.
        source: Where the weights come from.

    Raises:
        CheckpointError: The weights cannot be written.
    """
    config = method.config.model_dump(mode="json")
    run = library.runs.new_run(recipe, name, config, command=f"weights of {source}", data={"data": source})
    state, detail = "failed", ""
    try:
        about, trainer = {"method": name, "recipe": recipe, "config": config}, {"step": 0, "settings": {}, "data": {}}
        folder, weights = checkpoint.folder_of(run.folder, 0), checkpoint.weights_of(method)
        checkpoint.write(run.folder, 0, checkpoint.Checkpoint(folder, weights, {}, about, trainer), keep_last=1)
        state = "done"
    except BaseException as error:
        detail = str(error)
        raise
    finally:
        run = library.runs.finish(run.id, state, detail=detail)
    return run


def read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The `config.json` and the weights of a checkpoint, or of a run's newest readable one.

    Raises:
        CheckpointError: There is none.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        newest = checkpoint.newest(folder)
        if newest is None:
            raise CheckpointError(f"{folder} holds no checkpoint; train first, or name another run")
        folder = newest.path
    return checkpoint.read_model(folder)


def _changed(config: Frozen, changes: dict[str, Any]) -> Frozen:
    return type(config).model_validate(dict(config) | changes)
