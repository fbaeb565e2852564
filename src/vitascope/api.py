"""The one file that joins the rooms: scan, train, embed, search. A room is imported by the function that needs it."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitascope.store.library import Library
from vitascope.store.locate import find_library, library_for
from vitascope.store.schema import LibraryError
from vitascope.structures import EmbedSummary, Figure, Record, ScanSummary, SearchSummary, TrainSummary

if TYPE_CHECKING:
    from vitascope.methods.base import Frozen, Method

PathLike = str | os.PathLike


def scan(
    data: PathLike, library: PathLike | None = None, *, deep: bool = False, num_workers: int = 2, progress: Any = None
) -> ScanSummary:
    """Look at every video below a folder; each is then done, damaged (with gaps) or refused (with the reason).

    Args:
        data: A folder of any nesting.
        library: The library's folder; by default beside the data.
        deep: Decode every frame of every file; else the packets and a few frames of what is new or changed.
        num_workers: Processes; 0 works in this one.
        progress: Called with (files done, files to do).

    Raises:
        ValueError: `data` is not a folder.
        LibraryError: The library cannot be opened.
    """
    from vitascope.datasets.folder import find_videos
    from vitascope.engine.scan import scan as scan_files
    from vitascope.video.check import check

    paths = [record.path for record in find_videos(data)]
    with Library(library or library_for(data), data_root=data, create=True) as lib:
        return scan_files(lib, Path(data), paths, check, deep=deep, num_workers=num_workers, progress=progress)


def recipes() -> dict[str, tuple[str, Callable[[], Frozen]]]:
    """Every recipe by name: its method's name, and the function that gives its configuration."""
    from vitascope.methods import METHODS

    return {name: (method, make) for method, cls in METHODS.items() for name, make in cls.recipes.items()}


def configure(recipe: str, assignments: Sequence[str] = ()) -> Frozen:
    """The configuration of a recipe, with fields changed by `name=value`.

    Raises:
        ValueError: Unknown recipe or field (the nearest is named), or a value that does not fit.
    """
    from vitascope.engine.configure import nearest, override

    known = recipes()
    if recipe not in known:
        near = nearest(recipe, known)
        raise ValueError(
            f"unknown recipe {recipe!r}; " + (f"the nearest is {near!r}" if near else f"there are {', '.join(known)}")
        )
    return override(known[recipe][1](), assignments)


def train(
    recipe: str,
    data: PathLike,
    library: PathLike | None = None,
    *,
    config: Frozen | None = None,
    run: str | None = None,
    settings: dict[str, Any] | None = None,
    progress: Any = None,
) -> TrainSummary:
    """Train a recipe on a folder or a list of videos, or go on with a run.

    Args:
        recipe: A name of `recipes()`.
        data: A folder, or a CSV, JSONL or TXT list (see `datasets`).
        library: Holds the run; by default beside the data.
        config: From `configure`; by default the recipe's own.
        run: Id, or its beginning, of a run to go on with; None starts one.
        settings: Fields of `engine.settings.TrainSettings`.
        progress: Called with an `engine.log.Status` after each step.

    Raises:
        ValueError: There is no video, or a name or value does not fit.
        CheckpointError: The run to go on with is of another configuration.
    """
    import torch

    from vitascope.datasets.load import load_records
    from vitascope.engine.settings import TrainSettings
    from vitascope.engine.train_run import train_run
    from vitascope.methods import METHODS

    config, name = config or configure(recipe), recipes()[recipe][0]
    records, settings = load_records(data), TrainSettings(**settings or {})
    if not records:
        raise ValueError(f"no video in {data}; name a folder or a list that has some")
    torch.manual_seed(settings.seed)  # the weights at the start are part of what a seed means
    method = METHODS[name](config)
    with Library(library or library_for(data), data_root=data, create=True) as lib:
        return train_run(
            lib, method, records, settings, name=name, recipe=recipe, data=str(data), run=run, progress=progress
        )


def load_method(folder: PathLike, device: str = "cpu") -> Method:
    """The method of a run or of a checkpoint folder, with its weights, ready for use.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
    """
    from vitascope.engine import checkpoint
    from vitascope.methods import METHODS

    folder = Path(folder) if (Path(folder) / "config.json").is_file() else checkpoint.latest_folder(Path(folder))
    about, weights = checkpoint.read_model(folder)
    cls = METHODS[about["method"]]
    method = cls(type(next(iter(cls.recipes.values()))()).model_validate(about["config"]))
    checkpoint.load_weights(method, weights, str(folder))
    return method.eval().to(device)


def search(
    like: tuple[PathLike, float], library: PathLike | None = None, *, run: str | None = None, k: int = 10
) -> SearchSummary:
    """Find the snippets most like one moment; the first is the moment's own if its video is in the library.

    Args:
        like: A video and a time in it, in seconds.
        library: By default the one beside the video or above it.
        run: Whose vectors; by default those of the newest run that has some.
        k: How many.

    Raises:
        LibraryError: There is no library, or it has no features.
        VideoError: The moment is outside the video, or the video cannot be read.
    """
    path, seconds = os.path.abspath(like[0]), float(like[1])
    with Library(find_library(library, path)) as lib:
        model_id = lib.embedded_run(run)
        vectors = lib.vectors(model_id)
        query = _query(lib, model_id, path, seconds)
        hits = vectors.search(query, k, apart_seconds=0.0)  # overlapping snippets are one moment
        return SearchSummary(path, seconds, model_id, len(vectors), tuple(hits))


def _query(lib: Library, model_id: str, path: str, seconds: float) -> Any:
    """The stored vector of the snippet that holds a moment, or the vector of a snippet read there."""
    import numpy as np

    entry = next((entry for entry in lib.catalogue.entries() if entry.path == path), None)
    if entry is not None and lib.features.status(entry, model_id) == "current":
        near = lib.features.get(path, model_id, seconds, np.nextafter(seconds, np.inf))
        if len(near.values):
            return near.values[len(near.values) // 2]
    method = load_method(lib.runs.find(model_id).folder)
    return _snippet_features(method, path, seconds)
