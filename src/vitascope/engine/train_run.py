"""Training as a run of a library: a row that says what it is and how it ended, and a folder that it can go on from."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from vitascope.engine import start
from vitascope.engine.cache import shots_of
from vitascope.engine.log import Progress, Status, read_metrics, read_timing, share_waited
from vitascope.engine.settings import TrainSettings
from vitascope.engine.train import TrainResult, train
from vitascope.methods.base import Frozen, Method
from vitascope.store.library import Library
from vitascope.store.locate import library_for
from vitascope.structures import Record, TrainSummary

LARGEST_WAIT = 0.1  # of the time of steps, waiting for data; beyond it there is advice


class Plan(NamedTuple):
    """What is to be trained, and from where."""

    cls: type[Method]
    method: str  # its name
    recipe: str
    default: Frozen  # the recipe's configuration
    config: Frozen  # with the user's changes
    init: Path | None = None  # folder of a run whose encoder is started from


def train_plan(
    plan: Plan,
    data: str | os.PathLike | dict[str, str | os.PathLike],
    load: Callable[..., dict[str, list[Record]]],
    library: str | os.PathLike | None,
    *,
    run: str | None,
    settings: dict[str, Any],
    progress: bool,
) -> TrainSummary:
    """Load the data, build the method and train it in a library, which is by default beside the data.

    Args:
        plan: What.
        data: A folder or a list, or one for each data set of the method's stages.
        load: `(paths by data set, whether labels are needed)` -> records by data set.
        library: Holds the run.
        run: Beginning of the id of a run to go on with.
        settings: Fields of `TrainSettings`.
        progress: Whether standard error shows how it goes on.

    Raises:
        ValueError: There is nothing to train on, or a name or value does not fit.
        CheckpointError: The run is of another kind.
    """
    settings = TrainSettings(**settings)
    paths = data if isinstance(data, dict) else dict.fromkeys(start.data_sets(plan.cls, plan.config), data)
    records, first = load(paths, start.takes_classes(plan.config)), Path(next(iter(paths.values())))
    root = first if first.is_dir() else first.parent
    method = start.start(plan.cls, plan.config, records, seed=settings.seed, recipe=plan.default, init=plan.init)
    names = {"name": plan.method, "recipe": plan.recipe, "data": ", ".join(dict.fromkeys(map(str, paths.values())))}
    with Library(library or library_for(root), data_root=root, create=True) as lib:
        records = with_shots(with_motion(records, method.config, lib), method.config, lib)
        return train_run(lib, method, records, settings, **names, run=run, progress=Progress() if progress else None)


def with_motion(records: dict[str, list[Record]], config: Frozen, library: Library) -> dict[str, list[Record]]:
    """The records with the flow that the library keeps of their videos, where it was made as the configuration says."""
    flow = getattr(config, "flow", None)
    files = library.motion.files(flow) if flow else {}
    if not files:
        return records
    kept = {os.path.abspath(path): file for path, file in files.items()}
    return {
        name: [replace(record, motion=kept.get(os.path.abspath(record.path), "")) for record in found]
        for name, found in records.items()
    }


def with_shots(records: dict[str, list[Record]], config: Frozen, library: Library) -> dict[str, list[Record]]:
    """The records with the library's index of their shots, where the configuration goes by it.

    Raises:
        ValueError: It does, and there is none.
    """
    if getattr(config, "content", "off") == "off":
        return records
    kept = {os.path.abspath(path): file for path, file in shots_of(library).items()}
    found = {
        name: [replace(record, shots=kept.get(os.path.abspath(record.path), "")) for record in some]
        for name, some in records.items()
    }
    if not any(record.shots for some in found.values() for record in some):
        raise ValueError(
            f"content ({config.content}) goes by the shots of the videos, and {library.path} has no index of them; "
            f"run `vitascope scan` and then `vitascope index shots --library {library.path}`"
        )
    return found


def train_run(
    library: Library,
    method: Method,
    records: dict[str, list[Record]],
    settings: TrainSettings,
    *,
    name: str,
    recipe: str,
    data: str,
    run: str | None = None,
    progress: Callable[[Status], Any] | None = None,
) -> TrainSummary:
    """Train in a run of `library`, the one that `run` begins the id of, or a fresh one.

    However training ends, the row says so: `done`, `interrupted` (by a signal, or short of its end) or `failed`.

    Raises:
        LibraryError: No such run, or another process is running it.
        Exception: As `train`.
    """
    about = {"data": data, "num_videos": sum(map(len, records.values()))}
    kept = library.runs.resume(run) if run else library.runs.new_run(recipe, name, _plain(method), data=about)
    state, metrics, detail = "failed", {}, ""
    try:
        result = train(method, records, kept.folder, settings, name=name, recipe=recipe, progress=progress)
        state = "done" if result.step == result.total else "interrupted"
        metrics = {key: value for key, value in result.metrics.items() if isinstance(value, float)}
    except BaseException as error:
        detail = str(error)
        raise
    finally:
        library.runs.finish(kept.id, state, metrics, detail)
    advice = advice_on_waiting(share_waited(read_timing(kept.folder)), method.config, records, library)
    advice += advice_on_shots(method.config, records, library)
    return replace(_summary(library, kept.id, recipe, data, state, metrics, result), advice=advice)


def advice_on_waiting(
    share: float | None, config: Frozen, records: dict[str, list[Record]], library: Library
) -> tuple[str, ...]:
    """What to do about kept flow that does not fit, and about steps that waited too long for flow to be made."""
    makes_flow = getattr(config, "needs_flow", False)
    has_flow = any(record.motion for found in records.values() for record in found)
    others = [folder.name for folder in library.motion.folders() if makes_flow and folder.name != config.flow]
    if others and not has_flow:
        return (
            f"the flow that the library keeps (by {', '.join(others)}) was not used: this recipe's flow is {config.flow}; run "
            f"`vitascope cache motion --library {library.path} --method {config.flow}`",
        )
    if share is None or share <= LARGEST_WAIT or not makes_flow or has_flow:
        return ()
    scan = "" if any(library.catalogue.counts().values()) else "after `vitascope scan`, "
    cache = f"`vitascope cache motion --library {library.path} --method {config.flow}`"
    keep = "; --set memory_mb=512 keeps small videos and their flow in memory"
    keep = keep if getattr(config, "memory_mb", None) == 0 else ""
    return (f"steps waited {100 * share:.0f} % of their time for data: {scan}{cache} computes flow once{keep}",)


def advice_on_shots(config: Frozen, records: dict[str, list[Record]], library: Library) -> tuple[str, ...]:
    """What to do about videos without an index of shots, where the configuration goes by it."""
    if getattr(config, "content", "off") == "off":
        return ()
    videos = {record.path: record.shots for found in records.values() for record in found}
    bare = sum(not shots for shots in videos.values())
    if not bare:
        return ()
    return (
        f"{bare} of {len(videos)} videos have no index of shots and are drawn from as without one; run `vitascope scan` and "
        f"then `vitascope index shots --library {library.path}`",
    )


def _plain(method: Method) -> dict[str, Any]:
    return method.config.model_dump(mode="json")


def _summary(
    library: Library, run: str, recipe: str, data: str, state: str, metrics: dict[str, float], result: TrainResult
) -> TrainSummary:
    return TrainSummary(
        run=run,
        recipe=recipe,
        data=data,
        library=str(library.path),
        folder=str(result.run_dir),
        state=state,
        steps=result.step,
        metrics=metrics,
        unreadable={skipped.path: f"{skipped.reason}: {skipped.detail}" for skipped in result.unreadable},
        curve=tuple((line["step"], line["loss"]) for line in read_metrics(result.run_dir) if "loss" in line),
        signal=result.interrupted,
    )
