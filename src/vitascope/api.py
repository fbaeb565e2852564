"""Joins the rooms, each imported by the function that needs it. With `progress=True` standard error shows how work goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitascope.store.library import Library
from vitascope.store.locate import find_library, library_for
from vitascope.structures import EmbedSummary, Figure, Record, ScanSummary, SearchSummary, SegmentSummary, TrainSummary

if TYPE_CHECKING:
    from vitascope.methods.base import Frozen, Method
    from vitascope.methods.stm.model import MaskNetwork

PathLike = str | os.PathLike


def scan(data: PathLike, library: PathLike | None = None, *, deep: bool = False, num_workers: int = 2,
         progress: bool = False) -> ScanSummary:  # fmt: skip
    """Look at every video below the folder `data`; each is then done, damaged (with gaps) or refused (with the reason).

    `deep` decodes every frame; else the packets and a few frames of what is new or changed are looked at, by `num_workers`
    processes (0: this one). The library is by default beside the data. `ValueError`: not a folder."""
    from vitascope.datasets.folder import find_videos
    from vitascope.engine.log import Progress
    from vitascope.engine.scan import scan as scan_files
    from vitascope.video.check import check

    paths, shown = [record.path for record in find_videos(data)], Progress() if progress else None
    with Library(library or library_for(data), data_root=data, create=True) as lib:
        return scan_files(lib, Path(data), paths, check, deep=deep, num_workers=num_workers, progress=shown)


def recipes() -> dict[str, tuple[str, Callable[[], Frozen]]]:
    """Every recipe by name: its method's name, and the function that gives its configuration."""
    from vitascope.methods import METHODS

    return {name: (method, make) for method, cls in METHODS.items() for name, make in cls.recipes.items()}


def configure(recipe: str, assignments: Sequence[str] = ()) -> Frozen:
    """The configuration of a recipe, with fields changed by `name=value`; `ValueError` names what is near a wrong name."""
    from vitascope.engine.configure import choose, override

    return override(choose(recipe, recipes())[1](), assignments)


def train(
    recipe: str, data: PathLike | dict[str, PathLike], library: PathLike | None = None, *, config: Frozen | None = None,
    run: str | None = None, settings: dict[str, Any] | None = None, progress: bool = False,
) -> TrainSummary:  # fmt: skip
    """Train a recipe (with the `config` that `configure` makes of it), or go on with a run by the beginning of its id.

    `data` is a folder or a list (`datasets.load`), or one for each data set that the recipe's stages name; the library that
    holds the run is by default beside it; `settings` are fields of `TrainSettings`.
    `ValueError`: nothing to train on, or a name or value does not fit. `CheckpointError`: the run is of another kind."""
    import torch

    from vitascope.datasets.load import load_data
    from vitascope.engine.log import Progress
    from vitascope.engine.settings import TrainSettings
    from vitascope.engine.train_run import train_run
    from vitascope.methods import METHODS

    name, settings = recipes()[recipe][0], TrainSettings(**settings or {})
    torch.manual_seed(settings.seed)  # the weights at the start are part of what a seed means
    method = METHODS[name](config or configure(recipe))
    paths = data if isinstance(data, dict) else dict.fromkeys([stage.data for stage in method.stages()], data)
    records, first = load_data(paths), Path(next(iter(paths.values())))
    root = first if first.is_dir() else first.parent
    names = {"name": name, "recipe": recipe, "data": ", ".join(dict.fromkeys(map(str, paths.values())))}
    with Library(library or library_for(root), data_root=root, create=True) as lib:
        return train_run(lib, method, records, settings, **names, run=run, progress=Progress() if progress else None)


def load_method(folder: PathLike, device: str = "cpu") -> Method:
    """The method of a run's or a checkpoint's folder, with its weights; `CheckpointError` if there is none."""
    from vitascope.engine.load import load_method as load
    from vitascope.methods import METHODS

    return load(Path(folder), METHODS, device)


def embed(library: PathLike | None = None, *, run: str | None = None, hop_seconds: float | None = None,
          settings: dict[str, Any] | None = None, progress: bool = False) -> EmbedSummary:  # fmt: skip
    """Turn every video of a library into vectors, one a snippet, with the encoder of a run; what is there is kept.

    By default the only library in this folder and its newest finished run; snippets lie end to end, or `hop_seconds` apart;
    `settings` are fields of `ExtractSettings`. `LibraryError`: there is no library, or no run that is done."""
    from vitascope.engine.extract import ExtractSettings, extract
    from vitascope.engine.log import Progress
    from vitascope.video.snippets import Snippets

    with Library(find_library(library)) as lib:
        run = lib.runs.find(run).id if run else lib.finished_run()
        method, how, shown = load_method(lib.runs.find(run).folder), ExtractSettings(**settings or {}), Progress()

        def read(record: Record) -> Snippets:
            known = {**method.snippet.model_dump(), "index": lib.catalogue.frame_index(record.path)}
            return Snippets(record, hop_seconds=hop_seconds, **known)

        records, asked = [Record(entry.path) for entry in lib.catalogue.entries()], {"hop_seconds": hop_seconds}
        done = extract(method, run, records, read, lib, how, asked=asked, progress=shown if progress else None)
        counts = len(done.embedded), len(done.skipped), done.num_snippets, done.width
        return EmbedSummary(str(lib.path), run, *counts, done.problems, done.interrupted)


def search(like: tuple[PathLike, float], library: PathLike | None = None, *, run: str | None = None,
           k: int = 10) -> SearchSummary:  # fmt: skip
    """Find the `k` snippets most like one moment, a video and a time in seconds; its own comes first if it is in the library.

    By default in the library beside the video or above it, among the vectors of the newest run that has some.
    `LibraryError`: no library, or no features. `VideoError`: the video, or that moment of it, cannot be read."""
    from vitascope.video.snippets import snippet_at

    path, seconds = os.path.abspath(like[0]), float(like[1])
    with Library(find_library(library, path)) as lib:
        run = lib.embedded_run(run)
        vectors, query = lib.vectors(run), lib.vector_at(run, path, seconds)
        if query is None:  # not in the library: read and embedded now
            method = load_method(lib.runs.find(run).folder)
            query = method.features(snippet_at(path, seconds, **method.snippet.model_dump())[None]).detach().numpy()[0]
        hits = vectors.search(query, k, apart_seconds=0.0)  # overlapping snippets are one moment
        return SearchSummary(path, seconds, run, len(vectors), tuple(hits))


def film_strip(path: PathLike, start_seconds: float, end_seconds: float, count: int = 8, size: int = 96) -> Any:
    """Frames spread evenly over a stretch of a video, for pictures: uint8 `[count, C, H, W]`."""
    from vitascope.video import snippets

    return snippets.film_strip(path, start_seconds, end_seconds, count, size)


def figures(run: PathLike, data: PathLike, count: int = 2) -> list[Figure]:
    """What the method in a run's folder sees and says on `count` videos of some data, as its training would see them."""
    from vitascope.datasets.load import load_records
    from vitascope.engine.load import figures as draw

    return draw(load_method(run), load_records(data), count)


def make_worlds(folder: PathLike) -> Path:
    """Write the synthetic worlds of the demo as mp4 files, unless they are there, and return their folder."""
    from vitascope.datasets.worlds.write import write_demo_worlds

    return write_demo_worlds(folder)


def load_network(weights: PathLike | None = None) -> MaskNetwork:
    """The network that cuts objects out: the package's own, a run's (its folder), or that of a file, such as the paper's."""
    from vitascope.methods.stm.starter import load_network as load

    return load_method(weights).network if weights and os.path.isdir(weights) else load(weights)


def segment(
    video: PathLike, mask: PathLike, out: PathLike, *, at_seconds: float = 0.0, object_id: int | None = None,
    weights: PathLike | None = None, as_rle: bool = False, fps: float = 25.0, settings: dict[str, Any] | None = None,
    bf16: bool = False, progress: bool = False) -> SegmentSummary:  # fmt: skip
    """Follow the objects of one mask through a video, both ways, into the folder `out`; called again, it goes on.

    `video` is a file, or a folder of frames shown at `fps`; `mask` a PNG of object ids of its size, true at `at_seconds`;
    `settings` are `policy`, `frame_stride`, `short_side` of `VideoObjectSession`; `as_rle` writes `masks.json`, not PNG files;
    `bf16` works in 16 bits where that is measured to be faster: masks then differ a little, and between machines. `VideoError`:
    the video cannot be read, or not at that time. `ValueError`: the mask does not fit, or `out` is another's."""
    from vitascope.engine import extract, log, predict
    from vitascope.methods.stm import fast, session
    from vitascope.store import cutouts
    from vitascope.video import overlay, source

    source.keep_apart(video, mask, out)
    with source.FrameSource(video, fps) as frames:
        start, objects = frames.number_at(at_seconds), source.first_masks(mask, frames.size, object_id)
        network = load_network(weights)
        how = {"policy": "default", "frame_stride": 1, "short_side": network.short_side(frames.size)} | (settings or {})
        asked = {"video": cutouts.identity(video), "mask": cutouts.identity(mask), "objects": list(objects), "fps": fps}
        asked |= {"first_frame": start, "format": "rle" if as_rle else "png", **how}
        asked["weights"] = f"{Path(weights or 'starter').name} ({extract.hash_of(network)[:12]})"
        # measured once: a resumed run ends as it would have
        network, asked["bf16"] = fast.fastest(network, bf16 and (cutouts.asked_before(out) or {}).get("bf16", "auto"))
        at_work, show = (lambda: session.VideoObjectSession(network, **how)), log.Progress() if progress else None
        job = predict.Job(at_work, frames, start, objects, cutouts.Cutout(out, asked), overlay, as_rle, show)
        return predict.segment(job)


def evaluate_davis(data: PathLike, predictions: PathLike | None = None, *, weights: PathLike | None = None,
                   settings: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:  # fmt: skip
    """Score masks by the protocol of DAVIS (`evaluation.segmentation.evaluate`); without `predictions` they are made first."""
    from vitascope.engine.extract import hash_of
    from vitascope.evaluation.segmentation import evaluate
    from vitascope.methods.stm.follow import segmenter

    if predictions is None:
        network = load_network(weights)
        how["segment"] = segmenter(network, **(settings or {}))
        how["made_by"] = f"weights {hash_of(network)[:12]}, settings {settings or 'default'}"
    return evaluate(data, predictions, **how)
