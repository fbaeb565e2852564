"""From tags to timelines: features of the tagged videos, a training on the tags, and what it finds in every video.

Each part goes on where it was stopped: a scan looks at what is new, features that are current are kept, a training is a run
of the library, and timelines are written for all videos at the end.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitascope.engine.configure import choose, override
from vitascope.engine.describe import (
    Asked,
    Tools,
    default_encoder,
    describe,
    listed,
    sources,
    with_whole_paths,
)
from vitascope.engine.distributed import make_accelerator
from vitascope.engine.settings import TrainSettings
from vitascope.engine.timelines import advice_on_learning, stopped, tell
from vitascope.engine.train_run import Plan, train_run
from vitascope.engine.train_run import changes as changes_of
from vitascope.methods.base import Frozen, Method
from vitascope.store.atomic import WriteError
from vitascope.store.library import Library
from vitascope.store.locate import find_library, library_for
from vitascope.store.runs import Run
from vitascope.store.schema import LibraryError
from vitascope.structures import NOTHING, LocalizeSummary, Record

METHOD = "cbp_vlp"
RECIPE, RECIPE_WITH_CLIP = "cbp-only-small", "cbp-vlp-small"  # where none is named


def localize(
    tags: str | os.PathLike | None,
    videos: Sequence[str | os.PathLike],
    tools: Tools,
    *,
    library: str | os.PathLike | None = None,
    recipe: str | None = None,
    out: str | os.PathLike = "timelines",
    data: str | os.PathLike | None = None,
    run: str | None = None,
    encoder: str = "",
    clip: str | None = None,
    changes: Sequence[str] = (),
    truth: str | os.PathLike | None = None,
    pages: bool = True,
    settings: dict[str, Any] | None = None,
    progress: bool = False,
) -> LocalizeSummary:
    """Learn from tags when their actions happen, and write timelines; or find actions in videos with what was learned.

    Args:
        tags: CSV or JSONL of `video,labels`, or annotations of a data set; None to use a `run` on `videos`.
        videos: Files, where nothing is to be learned.
        tools: Of other rooms.
        library: Holds features and runs; by default beside the data.
        recipe: Of the method; None for that of `run`, else `cbp-vlp-small` with a `clip` and `cbp-only-small` without.
        out: Folder of the timelines.
        data: Folder that the paths of `tags` start from; by default that of the list.
        run: Beginning of the id of a run: with `tags` to go on with, else the one to use.
        encoder: Of clips: `run:ID`, `KIND:WEIGHTS` of a frozen one, or `files:FOLDER` of published features; by default `run`'s,
            else the newest finished run.
        clip: Image-text encoder, as the configuration's; None for the recipe's.
        changes: Of the recipe's fields, `name=value`.
        truth: Annotations with times, for the pages; by default those times that `tags` holds.
        pages, settings, progress: Whether each video gets a page; of `TrainSettings`; whether standard error shows how it goes.

    Raises:
        ValueError: Tags or names do not fit, or nothing can be learned from or read.
        LibraryError: There is no encoder, or no such run.
        OtherRun: The run to go on with was begun with something else.
        WriteError: The system refuses.
    """
    if (tags is None) == (not videos) or (tags is None and not run):
        raise ValueError("give --tags to learn from, or videos and --run to use what was learned")
    annotations = [] if tags is None else tools.annotations.read_annotations(Path(tags))
    known = tools.annotations.read_annotations(Path(truth)) if truth else []
    known = {one.id: one for one in (*annotations, *known)}
    asked = Asked(Path(out), settings or {}, known, str(truth or ""), pages, progress)
    make_accelerator(TrainSettings(**asked.settings))  # refuses a device that is not there
    if tags is None:
        with Library(find_library(library, os.path.abspath(videos[0]))) as lib:
            return apply(lib, run_of(lib, run), [Path(video) for video in videos], tools, asked)
    root = Path(os.path.abspath(data or Path(tags).parent))
    if not root.is_dir():
        raise ValueError(f"data ({root}) is no folder; name the one that the paths of {tags} start from")
    records = listed(annotations, root, tools)
    with Library(library or library_for(root), data_root=root, create=True) as lib:
        plan = plan_of(lib, tools.cls, recipe, run, encoder, clip, changes)
        require_tags(records, plan.config, tags)
        return learn(lib, records, plan, Path(os.path.abspath(tags)), root, tools, asked, run)


def make_folder(folder: Path) -> None:
    """Make the folder of the timelines before any work is done for them.

    Raises:
        WriteError: The system refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(error.errno, f"cannot make the folder {folder}: {error.strerror}", str(folder)) from error


def run_of(library: Library, prefix: str) -> Run:
    """The run that an id begins.

    Raises:
        LibraryError: There is none, or it is of another method.
    """
    run = library.runs.find(prefix)
    if run.method != METHOD:
        raise LibraryError(
            f"run {run.id} is of {run.method}, which finds no actions; `vitascope runs` lists those that do, and --encoder "
            f"run:{run.id} has this one describe the videos"
        )
    return run


def plan_of(
    library: Library,
    cls: type[Method],
    recipe: str | None,
    run: str | None,
    encoder: str,
    clip: str | None,
    changes: Sequence[str],
) -> Plan:
    """What is to be trained: as the recipe says, or as a run does that is gone on with, and with what the caller changes.

    Raises:
        ValueError: A name or a value does not fit.
        LibraryError: There is no encoder.
    """
    kept = run_of(library, run) if run else None
    recipe = recipe or (kept.recipe if kept else RECIPE_WITH_CLIP if clip else RECIPE)
    default = choose(recipe, cls.recipes)()
    if clip and not default.clip:
        raise ValueError(f"recipe ({recipe}) has no branch for --clip; leave out --recipe, or name {RECIPE_WITH_CLIP}")
    config = type(default).model_validate(kept.config) if kept and kept.recipe == recipe else default
    fields = [] if clip is None else [f"clip={clip}"]
    if encoder:
        fields.append(f"encoder={encoder}")
    config = override(config, [*fields, *changes])
    if not config.encoder:
        config = config.model_copy(update={"encoder": default_encoder(library)})
    if config.supervised:
        raise ValueError("supervised (True) learns from times, and `localize` from tags; leave it out")
    return Plan(cls, METHOD, recipe, default, with_whole_paths(config))


def require_tags(records: Sequence[Record], config: Frozen, source: str | os.PathLike) -> None:
    """Refuse tags that nothing can be learned from, before any video is looked at.

    Raises:
        ValueError: There is none, or one is none of the classes of the configuration.
    """
    tags = {label for record in records for label in record.labels}
    if not tags - {NOTHING}:
        told = f"all tags are {NOTHING!r}" if tags else "no video that is to be learned from has a tag"
        raise ValueError(f"{source}: {told}; write what happens in some of them into the column labels, as a|b")
    alike = [sorted(tag for tag in tags if tag.lower() == one.lower()) for one in sorted(tags)]
    doubled = next((names for names in alike if len(names) > 1), None)
    if doubled:
        raise ValueError(f"{source}: tags {doubled[0]!r} and {doubled[1]!r} differ in capitals alone; write them alike")
    unknown = [
        (label, record.id) for record in records for label in record.labels if label not in (*config.classes, NOTHING)
    ]
    if config.classes and unknown:
        shown = ", ".join(config.classes[:8]) + ", ..." * (len(config.classes) > 8)
        raise ValueError(
            f"{source}: tag {unknown[0][0]!r} of {unknown[0][1]} is none of the {len(config.classes)} classes ({shown}); correct "
            "it, or learn anew with it: without --run, and without --set classes"
        )


def learn(
    library: Library,
    records: Sequence[Record],
    plan: Plan,
    tags: Path,
    root: Path,
    tools: Tools,
    asked: Asked,
    run: str | None = None,
) -> LocalizeSummary:
    """Train on the tags of a library's videos, and write the timelines of all videos that are listed.

    Args:
        library: Of the videos.
        records: Those without labels are not learned from, and localized all the same.
        plan: Method and configuration, whose `encoder` and `clip` say what features are made by.
        tags: The list that they are from.
        root: Folder that its paths start from.
        tools: Of other rooms.
        asked: What the caller wants.
        run: Id of the run to go on with.

    Raises:
        ValueError: Nothing can be learned from.
        LibraryError: There is no encoder.
    """
    tagged = [record for record in records if record.labels]
    plan.cls(
        with_data(plan.config, plan.config.dim, tagged)
    )  # refuses now what it would after the videos are described
    encoders = sources(library, plan.config, tools, asked.known.values())
    make_folder(asked.out)
    found, problems, width, signal = describe(library, records, encoders, plan.config.hop_seconds, tools, asked)
    if signal:
        return stopped(asked, problems, signal)
    tagged = [record for record in found if record.labels]
    if not any(set(record.labels) - {NOTHING} for record in tagged):
        raise ValueError(
            f"none of the tagged videos of {tags} can be used, whose paths start from {root} (--data names another folder); "
            f"{': '.join(problems[0])}"
        )
    plan = plan._replace(config=with_data(plan.config, width, tagged))
    settings = TrainSettings(**asked.settings)
    names = {"name": plan.method, "recipe": plan.recipe, "data": str(tags)}
    names["command"] = command_of(plan, tags, root, asked.out, settings)
    method = seeded(plan.cls, plan.config, settings.seed)
    done = train_run(library, method, {"train": tagged}, settings, **names, run=run, progress=asked.shown)
    if done.state != "done":
        return stopped(asked, problems, done.signal, done.run)
    lost = {label for record in records for label in record.labels} - {*plan.config.classes, NOTHING}
    advice = advice_on_learning(done.folder, tagged, found, sorted(lost))
    return tell(library, method, found, problems, done.run, tools, asked, advice)


def command_of(plan: Plan, tags: Path, root: Path, out: Path, settings: TrainSettings) -> str:
    """The command line that learns the same, from any folder."""
    words = ["vitascope", "localize", "--tags", str(tags), "--data", str(root), "--out", os.path.abspath(out)]
    words += ["--recipe", plan.recipe]
    for name in ("seed", "device"):
        value = getattr(settings, name)
        words += [f"--{name}", str(value)] if value != type(settings).model_fields[name].default else []
    words += [word for change in changes_of(plan.default, plan.config) for word in ("--set", change)]
    return shlex.join(words)


def with_data(config: Frozen, width: int, tagged: Sequence[Record]) -> Frozen:
    """The configuration with the width of the features and, where it names none, the classes of the tags."""
    classes = config.classes or tuple(sorted({label for record in tagged for label in record.labels} - {NOTHING}))
    return type(config).model_validate(dict(config) | {"dim": width, "classes": classes})


def seeded(cls: type[Method], config: Frozen, seed: int) -> Method:
    """The method, with weights that follow from the seed."""
    import torch

    torch.manual_seed(seed)
    return cls(config)


def apply(library: Library, run: Run, videos: Sequence[Path], tools: Tools, asked: Asked) -> LocalizeSummary:
    """Write the timelines of videos by a run that has learned.

    Raises:
        LibraryError: The encoder that made the run's features is not there.
        CheckpointError: The run has not learned anything yet.
        ValueError: None of the videos can be read.
    """
    method = tools.load(run.folder)
    config, records = method.config, named(videos)
    encoders = sources(library, config, tools, asked.known.values())
    make_folder(asked.out)
    found, problems, _, signal = describe(library, records, encoders, config.hop_seconds, tools, asked)
    if signal:
        return stopped(asked, problems, signal, run.id)
    if not found:
        more = f", and so it is with all {len(records)} videos" if len(records) > 1 else ""
        raise ValueError(f"{': '.join(problems[0])}{more}")
    advice = (
        ()
        if run.state == "done"
        else (f"run {run.id} has not learned to its end; `vitascope runs` tells how it goes on",)
    )
    return tell(library, method, found, problems, run.id, tools, asked, advice)


def named(videos: Sequence[Path]) -> list[Record]:
    """Records of files, by their names; where two have one name, by their paths below a folder that all lie in.

    Example:
        >>> [record.id for record in named([Path("/films/a/1.mp4"), Path("/films/b/1.mp4")])]
        ['a/1.mp4', 'b/1.mp4']
    """
    paths = list(dict.fromkeys(os.path.abspath(video) for video in videos))
    names = [os.path.basename(path) for path in paths]
    if len(set(names)) < len(names):
        home = os.path.commonpath([os.path.dirname(path) for path in paths])
        names = [os.path.relpath(path, home) for path in paths]
    return [Record(path, name) for path, name in zip(paths, names, strict=True)]
