"""Joins the rooms, each imported by the function that needs it. With `progress=True` standard error shows how work goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitascope import structures
from vitascope.store.library import Library, run_folder
from vitascope.store.locate import find_library, library_for

if TYPE_CHECKING:
    from vitascope.methods.base import Frozen, Method
    from vitascope.methods.stm.model import MaskNetwork

PathLike = str | os.PathLike


def scan(data: PathLike, library: PathLike | None = None, *, deep: bool = False, num_workers: int = 2,
         progress: bool = False) -> structures.ScanSummary:  # fmt: skip
    """Look at the videos below a folder, every frame if `deep`: each is then done, damaged (with gaps) or refused."""
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
    run: str | None = None, init: PathLike | None = None, settings: dict[str, Any] | None = None, progress: bool = False,
) -> structures.TrainSummary:  # fmt: skip
    """Train a recipe with the `config` of `configure`, or go on with a run by the beginning of its id; see `train_plan`."""
    from vitascope.datasets.load import load_data
    from vitascope.engine.train_run import Plan, train_plan
    from vitascope.methods import METHODS

    name, make = recipes()[recipe]
    plan = Plan(METHODS[name], name, recipe, make(), config or make(), init)
    return train_plan(plan, data, load_data, library, run=run, settings=settings or {}, progress=progress)


def load_method(folder: PathLike, device: str = "cpu") -> Method:
    """The method of a run's or a checkpoint's folder, with its weights; `CheckpointError` if there is none."""
    from vitascope.engine.load import load_method as load
    from vitascope.methods import METHODS

    return load(Path(folder), METHODS, device)


def embed(library: PathLike | None = None, **how: Any) -> structures.EmbedSummary:
    """Turn every video of a library into vectors, one a snippet, with the encoder of a run (`how` is of `engine.extract.embed`)."""
    from vitascope.engine.extract import embed as embed_library
    from vitascope.video.snippets import Snippets

    with Library(find_library(library)) as lib:
        return embed_library(lib, load_method, Snippets, **how)


def search(like: tuple[PathLike, float], library: PathLike | None = None, **how: Any) -> structures.SearchSummary:
    """Find the snippets most like one moment of a video, by the vectors of a run (`how` is of `engine.search.search`)."""
    from vitascope.engine.search import search as find
    from vitascope.video.snippets import snippet_at

    with Library(find_library(library, os.path.abspath(like[0]))) as lib:
        return find(lib, like, load_method, snippet_at, **how)


def film_strip(path: PathLike, start_seconds: float, end_seconds: float, count: int = 8, size: int = 96) -> Any:
    """Frames spread evenly over a stretch of a video, for pictures: uint8 `[count, C, H, W]`."""
    from vitascope.video import snippets

    return snippets.film_strip(path, start_seconds, end_seconds, count, size)


def figures(run: PathLike, data: PathLike, count: int = 2) -> list[structures.Figure]:
    """What the method in a run's folder sees and says on `count` videos of some data, as its training would see them."""
    from vitascope.datasets.load import load_records
    from vitascope.engine.load import figures as draw

    return draw(load_method(run), load_records(data), count)


def make_worlds(folder: PathLike) -> Path:
    """Write the synthetic worlds of the demo as mp4 files, unless they are there, and return their folder."""
    from vitascope.datasets.worlds.write import write_demo_worlds

    return write_demo_worlds(folder)


def show_motion(video: PathLike, at_seconds: float, *, run: PathLike | None = None, library: PathLike | None = None,
                recipe: str = "mme") -> tuple[structures.Figure, Any]:  # fmt: skip
    """A clip's mask, tracks and gradients as a recipe sees them, with a run also what it predicts; and all as one picture."""
    from vitascope.methods.mme.look import motion_at
    from vitascope.methods.mme.method import MME

    method = load_method(run_folder(run, library)) if run else MME(configure(recipe))
    return motion_at(method, os.fspath(video), at_seconds, is_trained=bool(run))


def keep(what: Literal["motion", "shots"], library: PathLike | None = None, **how: Any) -> structures.CacheSummary:
    """Keep of every video of a library what training can go by, its optical flow or its shots; resumable."""
    from vitascope.engine import cache
    from vitascope.video import grid_flow, shots

    with Library(find_library(library)) as lib:
        if what == "shots":
            return cache.index_shots(lib, shots.index_shots, **how)
        return cache.cache_motion(lib, how.pop("method", "dis-medium"), grid_flow.cache_flow, **how)


def load_network(weights: PathLike | None = None) -> MaskNetwork:
    """The network that cuts objects out: the package's own, a run's (its folder), or that of a file, such as the paper's."""
    from vitascope.methods.stm.starter import load_network as load

    return load_method(weights).network if weights and os.path.isdir(weights) else load(weights)


def segment(video: PathLike, mask: PathLike, out: PathLike, *, at_seconds: float = 0.0, object_id: int | None = None,
            weights: PathLike | None = None, progress: bool = False, **how: Any) -> structures.SegmentSummary:  # fmt: skip
    """Follow the objects of one mask through a video, both ways, into `out`, or go on; `how` is of `predict_run.Wish`."""
    from vitascope.engine.predict_run import Wish, segment_run
    from vitascope.methods.stm import fast, session
    from vitascope.video import overlay, source

    parts = load_network(weights), fast.fastest, session.VideoObjectSession, overlay
    return segment_run(
        Wish(video, mask, out, weights, **how), source, (at_seconds, object_id), *parts, progress=progress
    )


def evaluate_davis(data: PathLike, predictions: PathLike | None = None, *, weights: PathLike | None = None,
                   settings: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:  # fmt: skip
    """Score masks by the protocol of DAVIS (`evaluation.segmentation.evaluate`); without `predictions` they are made first."""
    from vitascope.engine.extract import hash_of
    from vitascope.evaluation.segmentation import evaluate
    from vitascope.methods.stm.follow import segmenter

    if predictions is None:
        network = load_network(weights)
        how["made_by"] = f"weights {hash_of(network)[:12]}, settings {settings or 'default'}"
        how["segment"] = segmenter(network, **settings or {})
    return evaluate(data, predictions, **how)


def evaluate_run(task: Literal["recognition", "retrieval"], run: PathLike, data: PathLike, beside: PathLike | None = None,
                 library: PathLike | None = None, **how: Any) -> Any:  # fmt: skip
    """How good a run is at telling classes, `beside` a list to learn from, or at finding them in a gallery (`evaluation`)."""
    from vitascope.evaluation import recognition_run, retrieval_run
    from vitascope.video.snippets import spread_clips

    if task == "retrieval":
        return retrieval_run.evaluate_run(load_method, run, data, beside, library, spread_clips, **how)
    return recognition_run.evaluate_run(load_method, run_folder(run, library), data, beside, spread_clips, **how)


def repro(claims: str, out: PathLike, work: PathLike, **how: Any) -> structures.ClaimsSummary:
    """Measure what is claimed of a method, and write the page to `out` (`evaluation.reproduce.reproduce`)."""
    from vitascope.evaluation.reproduce import reproduce
    from vitascope.methods import METHODS
    from vitascope.video import shots, snippets

    return reproduce(claims, Path(out), Path(work), recipes(), METHODS, shots, snippets, **how)


def evaluate_localization(ground_truth: PathLike, predictions: PathLike, protocol: str = "plain", **how: Any) -> Any:
    """Whether actions are found at their times, by a protocol of the field (`evaluation.localization_run`)."""
    from vitascope.evaluation import localization_run

    return localization_run.evaluate_localization(ground_truth, predictions, protocol, **how)


def localize(tags: PathLike | None = None, videos: Sequence[PathLike] = (), **how: Any) -> structures.LocalizeSummary:
    """When actions happen: learned from tags, or by a run that has learned (`engine.localize.localize`)."""
    from vitascope.datasets import annotations, feature_files, folder
    from vitascope.engine import localize as engine
    from vitascope.methods.cbp_vlp import encoders, method
    from vitascope.video import check, snippets

    tools = engine.Tools(folder, annotations, feature_files, check, snippets, load_method, encoders, method.CbpVlp)
    return engine.localize(tags, videos, tools, **how)
