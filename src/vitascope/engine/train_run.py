"""Training as a run of a library: a row that says what it is and how it ended, and a folder that it can go on from."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

from vitascope.engine import start
from vitascope.engine.cache import shots_of
from vitascope.engine.configure import field_names
from vitascope.engine.distributed import make_accelerator
from vitascope.engine.log import Progress, Status, read_metrics, read_timing, share_waited
from vitascope.engine.memory import require_memory
from vitascope.engine.run import OtherRun, make_plan
from vitascope.engine.settings import TrainSettings
from vitascope.engine.train import TrainResult, train
from vitascope.methods.base import Frozen, Method
from vitascope.store.library import Library, run_folder
from vitascope.store.locate import find_library, library_for
from vitascope.structures import Record, TrainSummary

LARGEST_WAIT = 0.1  # of the time of steps, waiting for data; beyond it there is advice
OPTIONS = {"seed": "--seed", "num_workers": "--workers", "device": "--device", "precision": "--precision"}
USUAL = TrainSettings(num_workers=1)  # of `vitascope train`


class Plan(NamedTuple):
    """What is to be trained, and from where."""

    cls: type[Method]
    method: str  # its name
    recipe: str
    default: Frozen  # the recipe's configuration
    config: Frozen  # with the user's changes
    init: str | os.PathLike | None = None  # run whose encoder is started from: its folder, or the beginning of its id


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

    What is refused is refused before a library or a run is made.

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
    if plan.init is not None and not os.path.isdir(plan.init):
        plan = plan._replace(init=run_folder(plan.init, find_library(library, root)))
    method = start.start(plan.cls, plan.config, records, seed=settings.seed, recipe=plan.default, init=plan.init)
    by_index = getattr(method.config, "content", "off") != "off"
    if not by_index:
        require_trainable(method, records, settings)
    names = {"name": plan.method, "recipe": plan.recipe, "data": ", ".join(dict.fromkeys(map(str, paths.values())))}
    names["command"] = command_of(plan, data, settings)
    with Library(library or library_for(root), data_root=root, create=run is None and not by_index) as lib:
        records = with_shots(with_motion(records, method.config, lib), method.config, lib)
        if by_index:
            require_trainable(method, records, settings)
        return train_run(lib, method, records, settings, **names, run=run, progress=Progress() if progress else None)


def require_trainable(method: Method, records: dict[str, list[Record]], settings: TrainSettings) -> None:
    """Refuse what cannot be trained.

    Raises:
        ValueError: The stages, the data, the device or the memory do not fit.
    """
    make_accelerator(settings)
    for span in make_plan(method, records):
        require_memory(method, span.stage, method.samples(span.stage, span.records), span.records, settings)


def command_of(plan: Plan, data: str | os.PathLike | dict[str, str | os.PathLike], settings: TrainSettings) -> str:
    """The command line that trains a plan, from any folder."""
    words = ["vitascope", "train", plan.recipe]
    if isinstance(data, dict):
        words += [word for name, path in data.items() for word in ("--data", f"{name}={os.path.abspath(path)}")]
    else:
        words += ["--data", os.path.abspath(data)]
    words += [word for change in changes(plan.default, plan.config) for word in ("--set", change)]
    words += ["--init", os.path.abspath(plan.init)] if plan.init else []
    for name, option in OPTIONS.items():
        value = getattr(settings, name)
        words += [option, str(value)] if value != getattr(USUAL, name) else []
    words += ["--tensorboard"] if settings.tensorboard else []
    return shlex.join(words)


def changes(recipe: Frozen, config: Frozen) -> list[str]:
    """The assignments, as `configure.override` takes them, that make a configuration of a recipe's.

    Example:
        >>> from vitascope.methods.base import Optim
        >>> changes(Optim(), Optim(lr=0.5, betas=(0.9, 0.999), clip_norm=None, name="lars"))
        ['name=lars', 'lr=0.5', 'betas=[0.9,0.999]', 'clip_norm=null']
    """
    found, dumped = [], [each.model_dump(mode="json") for each in (recipe, config)]
    for name in field_names(config):
        before, now = (reduce(getitem, name.split("."), fields) for fields in dumped)
        if before != now:
            found.append(f"{name}={now if isinstance(now, str) else json.dumps(now, separators=(',', ':'))}")
    return found


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
    command: str | None = None,
    run: str | None = None,
    progress: Callable[[Status], Any] | None = None,
) -> TrainSummary:
    """Train in a run of `library`, the one that `run` begins the id of, or a fresh one.

    However training ends, the row says so: `done`, `interrupted` (by a signal, or short of its end) or `failed`; one
    that was begun with something else is refused, and its row stays as it was.

    Args:
        library: Holds the run.
        method: Trained in place.
        records: By data set.
        settings: How to train.
        name: Of the method.
        recipe: Its name.
        data: Where the records are from.
        command: That trains the same; by default this process's.
        run: Beginning of the id of the run to go on with.
        progress: As `train` takes it.

    Raises:
        LibraryError: No such run, or another process is running it.
        OtherRun: The run was begun with something else; the message has the command that goes on with it.
        Exception: As `train`.
    """
    about = {"data": data, "num_videos": sum(map(len, records.values()))}
    before = library.runs.find(run) if run else None
    how = {"command": command, "data": about}
    kept = library.runs.resume(run) if run else library.runs.new_run(recipe, name, _plain(method), **how)
    state, metrics, detail = "failed", {}, ""
    try:
        result = train(method, records, kept.folder, settings, name=name, recipe=recipe, progress=progress)
        state = "done" if result.step == result.total else "interrupted"
        metrics = {key: value for key, value in result.metrics.items() if isinstance(value, float)}
        detail = "" if state == "done" else f"stopped after {result.step} of {result.total} steps"
    except OtherRun as error:
        state, metrics, detail = before.state, before.metrics, before.detail
        raise OtherRun(f"{error} (without --run); what goes on with it: {before.go_on}") from None
    except BaseException as error:
        detail = str(error)
        raise
    finally:
        library.runs.finish(kept.id, state, metrics, detail)
    advice = advice_on_waiting(share_waited(read_timing(kept.folder)), method.config, records, library)
    advice += advice_on_shots(method.config, records, library) + advice_on_batch(method, records)
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


def advice_on_batch(method: Method, records: dict[str, list[Record]]) -> tuple[str, ...]:
    """What to do about batches that hold each video several times, where a batch is compared within itself."""
    if not method.compares_samples:
        return ()
    stage = method.stages()[0]
    count = len({record.path for record in records[stage.data]})
    if stage.batch_size < 2 * count:
        return ()
    return (
        f"a batch of {stage.batch_size} holds each of the {count} videos {stage.batch_size // count} times or more, and a "
        f"video is compared with others alone; --set batch_size={count} makes steps as many times cheaper",
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
