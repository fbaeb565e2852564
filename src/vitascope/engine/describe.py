"""Listed videos, each with files of vectors of its snippets: what methods learn from that never see a frame."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args

from vitascope.engine import published
from vitascope.engine.extract import ExtractSettings, extract, hash_of
from vitascope.engine.log import Progress
from vitascope.engine.scan import scan
from vitascope.engine.signals import Signals
from vitascope.methods.base import Frozen, Method
from vitascope.store.library import Library
from vitascope.store.schema import LibraryError
from vitascope.structures import NOTHING, Annotation, Record

ENCODERS = ("mme", "hico", "classifier")  # methods whose runs describe clips
OWN = ("", "tiny")  # image-text encoders that are no path

Problems = list[tuple[str, str]]  # path, what is wrong


class Tools(NamedTuple):
    """What other rooms do: modules of `datasets` and `video`, and what gives and makes methods."""

    folder: ModuleType
    annotations: ModuleType
    feature_files: ModuleType
    check: ModuleType
    snippets: ModuleType
    load: Callable[[Path], Method]  # of a run's folder
    encoders: ModuleType  # frozen ones
    cls: type[Method]  # that learns


@dataclass(frozen=True)
class Asked:
    """What a caller wants of `localize`."""

    out: Path
    settings: dict[str, Any]  # fields of `TrainSettings`
    known: dict[str, Annotation]  # by id: durations, frame rates, and for the pages true times
    truth: str = ""  # where these times are from, if it was named
    pages: bool = True
    progress: bool = False

    @property
    def shown(self) -> Progress | None:
        """What shows how work goes on."""
        return Progress() if self.progress else None


class Source(NamedTuple):
    """An encoder, and the name that its features go by; or the features that others have published."""

    encoder: Any
    model_id: str
    files: published.Published | None = None


class Described(NamedTuple):
    """Videos with features, what is wrong with others, the width of their first vectors, and a signal that ended it."""

    records: list[Record]
    problems: Problems
    width: int
    signal: int | None = None


def listed(annotations: Sequence[Annotation], root: Path, tools: Tools) -> list[Record]:
    """The videos of a list, by paths below `root`; where no such file is there, by the name of one that is.

    Data sets name their videos without folder and suffix: `v_abc` is then `root/train/v_abc.mp4`, if that is the only one.
    Those of a split to be tested on (`held_out`) come without their tags.

    Raises:
        ValueError: One lies outside `root`, is there twice, or has a tag that is no line of text.
    """
    records: dict[str, Record] = {}
    tested = held_out({known.split for known in annotations})
    for known in annotations:
        name = os.path.relpath(os.path.normpath(root / known.id), root)
        if not known.id.strip() or "\0" in known.id or name.split(os.sep)[0] in (os.curdir, os.pardir):
            raise ValueError(f"video ({known.id!r}) is no file below {root}; name the folder of all videos with --data")
        if name in records:
            raise ValueError(f"video ({known.id!r}) is listed twice; give it one id and all its tags")
        unfit = [label for label in known.labels if not label.strip() or not label.isprintable()]
        if unfit:
            raise ValueError(f"tag ({unfit[0]!r}) of {known.id} must be one line of visible text")
        records[name] = Record(str(root / name), name, () if known.split in tested else tags_of(known))
    if all(os.path.isfile(record.path) for record in records.values()):
        return list(records.values())
    files = named_files(root, tools)
    return [_by_name(record, files) for record in records.values()]


def tags_of(known: Annotation) -> tuple[str, ...]:
    """The tags of a video; `nothing` where it is known that none of the actions happens.

    Raises:
        ValueError: One is `nothing` in other letters.
    """
    other = [label for label in known.labels if label.lower() == NOTHING != label]
    if other:
        raise ValueError(
            f"tag ({other[0]!r}) of {known.id} must be {NOTHING!r}, in small letters, if nothing happens there"
        )
    is_empty = not known.labels and known.segments is not None  # somebody has looked, and found none
    return (NOTHING,) if is_empty else known.labels


def held_out(splits: Collection[str]) -> set[str]:
    """Those splits of a data set that are not learned from.

    All but that for training, where there is one; else that for testing: THUMOS14 is learned from by its validation set.

    Example:
        >>> sorted(held_out({"training", "validation", "testing"})), held_out({"validation", "test"}), held_out({"", "a"})
        (['testing', 'validation'], {'test'}, set())
    """
    for_training = {split for split in splits if split.lower().startswith("train")}
    if for_training:
        return set(splits) - for_training - {""}
    return {split for split in splits if split.lower().startswith("test")}


def named_files(root: Path, tools: Tools) -> dict[str, list[str]]:
    """The videos below a folder by their names without suffix."""
    try:
        videos = tools.folder.find_videos(root)
    except ValueError:  # there is none, which is told of each that is listed
        return {}
    found: dict[str, list[str]] = {}
    for video in videos:
        found.setdefault(Path(video.path).stem, []).append(video.path)
    return found


def _by_name(record: Record, files: dict[str, list[str]]) -> Record:
    if os.path.isfile(record.path):
        return record
    paths = files.get(record.id, files.get(f"v_{record.id}", []))
    return replace(record, path=paths[0]) if len(paths) == 1 else record


def default_encoder(library: Library) -> str:
    """The newest finished run that has an encoder of clips.

    Raises:
        LibraryError: There is none.
    """
    for run in library.runs.list(state="done"):
        if run.method in ENCODERS:
            return f"run:{run.id}"
    raise LibraryError(
        f"{library.path} has no run whose encoder could describe the videos; train one with `vitascope train hico-tiny "
        f"--data {library.data_root}`, or name one with --encoder, for example lite0:WEIGHTS"
    )


def with_whole_paths(config: Frozen) -> Frozen:
    """A configuration whose files are named so that any process finds them."""
    kind, colon, weights = config.encoder.partition(":")
    if weights and kind != "run":
        config = config.model_copy(update={"encoder": f"{kind}{colon}{os.path.abspath(weights)}"})
    if config.clip not in OWN:
        config = config.model_copy(update={"clip": os.path.abspath(config.clip)})
    return config


def sources(library: Library, config: Frozen, tools: Tools, known: Collection[Annotation] = ()) -> list[Source]:
    """The encoders that a configuration names: of clips, and of frames if there is one.

    Published features span what `known` says that their videos last.

    Raises:
        LibraryError: There is no such run, or it describes no clips.
        FileNotFoundError: Weights are not there.
        ValueError: They do not fit, or there is no such encoder.
    """
    specs = [config.encoder, *([f"clip:{config.clip}"] if config.clip else [])]
    return [source_of(library, spec, config.hop_seconds, tools, known) for spec in specs]


def source_of(
    library: Library, spec: str, hop_seconds: float, tools: Tools, known: Collection[Annotation] = ()
) -> Source:
    """What `run:ID`, `KIND:WEIGHTS` or `files:FOLDER` names. Errors as of `sources`."""
    kind, _, weights = spec.partition(":")
    if kind == "files":
        return Source(None, spec, published.find(weights, known, tools.feature_files))
    if kind == "run":
        run = library.runs.find(weights)
        if run.method not in ENCODERS:
            raise LibraryError(
                f"run {run.id} is of {run.method}, which describes no clips; name one of {_or(ENCODERS)}"
            )
        return Source(tools.load(run.folder), f"{run.id}.hop{hop_seconds:g}")
    kinds = get_args(tools.encoders.Kind)
    if kind not in kinds:
        raise ValueError(
            f"encoder ({spec!r}) must be run:ID, KIND:WEIGHTS, of which KIND is {_or(kinds)}, or files:FOLDER"
        )
    encoder = tools.encoders.make_encoder(kind, weights or None)
    return Source(encoder, f"{encoder.name}-{hash_of(encoder)[:8]}.hop{hop_seconds:g}")


def describe(
    library: Library, records: Sequence[Record], encoders: list[Source], hop_seconds: float, tools: Tools, asked: Asked
) -> Described:
    """Look at the listed videos, and make their features by each of the encoders; what is there and current is kept.

    Args:
        library: Keeps both.
        records: The listed videos; where all features are published, they need not be there themselves.
        encoders: Emptied, since each takes memory that the next can use.
        hop_seconds: Distance of two snippets.
        tools: Of other rooms.
        asked: Device and progress.
    """
    there, problems, first = list(records), [], 0
    looked_at = any(source.files is None for source in encoders)
    if looked_at:
        there, problems = seen(library, records, tools, asked)
    while encoders:
        source = encoders.pop(0)
        if source.files is None:
            there, wrong, width, signal = vectors(library, there, source, hop_seconds, tools, asked)
        else:
            there, wrong, width, signal = copies(library, there, source, asked)
        problems += [problem for problem in wrong if problem not in problems]
        first = first or width
        if signal:
            return Described([], problems, first, signal)
    return Described(there, problems + (damage(library, there, problems) if looked_at else []), first)


def seen(library: Library, records: Sequence[Record], tools: Tools, asked: Asked) -> tuple[list[Record], Problems]:
    """Scan the listed videos; those that are there, and those that are not."""
    there = [record for record in records if os.path.isfile(record.path)]
    problems = [(record.path, absence(record.path)) for record in records if record not in there]
    if there:  # under the first file there is nothing, so that videos that are not listed stay as they are known
        paths = [record.path for record in there]
        scan(library, Path(paths[0]), paths, tools.check.check, progress=asked.shown)
    return there, problems


def absence(path: str) -> str:
    """Why a path is no video."""
    return "this is a folder; name the videos in it" if os.path.isdir(path) else "there is no such file"


def copies(library: Library, records: Sequence[Record], source: Source, asked: Asked) -> Described:
    """Copy published features into the library, as files of the kind that it keeps."""
    with Signals(lambda: None, raises=False) as signals:
        made, problems, width = published.copy(source.files, records, library.path, signals, asked.shown)
    return Described(made, problems, width, signals.signum)


def damage(library: Library, records: Sequence[Record], told: Problems) -> Problems:
    """What is known of videos that are not whole, besides what was told: their features may be of an earlier call."""
    entries = [library.catalogue.entry(record.path) for record in records]
    paths = {path for path, _ in told}
    return [
        (entry.path, f"damaged: {entry.detail}")
        for entry in entries
        if entry.state == "damaged" and entry.path not in paths
    ]


def vectors(
    library: Library, records: list[Record], source: Source, hop_seconds: float, tools: Tools, asked: Asked
) -> Described:
    """Make the features of videos by one encoder, and add their files to the records."""
    encoder, model_id, _ = source

    def read(record: Record) -> Any:
        known = {**encoder.snippet.model_dump(), "index": library.catalogue.frame_index(record.path)}
        return tools.snippets.Snippets(record, hop_seconds=hop_seconds, **known)

    how = ExtractSettings(device=asked.settings.get("device", "auto"))
    done = extract(
        encoder, model_id, records, read, library, how, asked={"hop_seconds": hop_seconds}, progress=asked.shown
    )
    files = [library.features.file(record.path, model_id) for record in records]
    made = [
        replace(record, features=(*record.features, str(file)))
        for record, file in zip(records, files, strict=True)
        if file is not None
    ]
    width = library.features.get(made[0].path, model_id).values.shape[1] if made else 0
    problems = [(path, f"{state}: {detail}") for path, state, detail in done.problems]
    return Described(made, problems, width, done.interrupted)


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
