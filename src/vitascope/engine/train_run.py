"""Training as a run of a library: a row that says what it is and how it ended, and a folder that it can go on from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitascope.engine.log import Status, read_metrics
from vitascope.engine.settings import TrainSettings
from vitascope.engine.train import TrainResult, train
from vitascope.methods.base import Method
from vitascope.store.library import Library
from vitascope.structures import Record, TrainSummary


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
    return _summary(library, kept.id, recipe, data, state, metrics, result)


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
