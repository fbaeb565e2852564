"""Features of snippets that others have published, in the place of those that an encoder makes: no video is needed."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from vitascope.engine.log import Progress, Status
from vitascope.engine.signals import Signals
from vitascope.store.feature_files import write_features
from vitascope.structures import Annotation, Features, Record

FOLDER = "published"  # of a library


class Published(NamedTuple):
    """A folder of features, what reads those of each video by its id, and the id that a name means."""

    folder: str
    read: Mapping[str, Callable[[], Features]]
    id_of: Callable[[str], str]

    def of(self, record: Record) -> Callable[[], Features] | None:
        """What reads the features of a video, by its id with or without the suffix of a file."""
        names = (record.id, os.path.splitext(record.id)[0])
        return next((self.read[self.id_of(name)] for name in names if self.id_of(name) in self.read), None)


def find(folder: str, known: Collection[Annotation], feature_files: ModuleType) -> Published:
    """The features in a folder (`datasets.feature_files.find_features`).

    Raises:
        ValueError: There are none, or of no known layout.
    """
    if not os.path.isdir(folder):
        raise ValueError(f"encoder ('files:{folder}') must name a folder of features; there is none")
    return Published(folder, feature_files.find_features(folder, known=known), feature_files.video_id)


def copy(
    found: Published, records: Sequence[Record], library: Path, signals: Signals, progress: Progress | None
) -> tuple[list[Record], list[tuple[str, str]], int]:
    """Write the features of videos as a library's files, anew each time, since what they are read from may have changed.

    Returns:
        The records that have features, with the names of their files; what is wrong with others, by path; their width.
    """
    folder = library / FOLDER / hashlib.sha256(os.path.abspath(found.folder).encode()).hexdigest()[:8]
    made, problems, width, in_doubt = [], [], 0, []
    for done, record in enumerate(records, 1):
        read = found.of(record)
        if signals.signum is not None:
            break
        if read is None:
            problems.append((record.path, f"{found.folder} has no features of {record.id}"))
            continue
        file = folder / f"{record.id}.safetensors"
        try:
            with warnings.catch_warnings(record=True) as doubts:
                warnings.simplefilter("always")
                features = read()
            width = width or features.values.shape[1]
            if features.values.shape[1] != width:
                raise ValueError(
                    f"{record.id}: features are {features.values.shape[1]} wide, others {width}; extract them alike"
                )
            file.parent.mkdir(parents=True, exist_ok=True)
            write_features(file, features)
        except ValueError as error:
            problems.append((record.path, str(error)))
            continue
        in_doubt += [str(doubt.message) for doubt in doubts]
        made.append(replace(record, features=(*record.features, str(file))))
        if progress:
            progress(Status("read features", done, len(records), None, None))
    if in_doubt:
        more = f" (and so it may be with {len(in_doubt) - 1} more)" if len(in_doubt) > 1 else ""
        problems.append((found.folder, f"{in_doubt[0]}, in a manifest.json there{more}"))
    return made, problems, width
