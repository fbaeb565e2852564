"""Videos with masks of object ids: the folder trees of DAVIS 2016 and 2017, and of YouTube-VOS.

A `Sequence` names the files of one video; nothing is decoded but the first mask of each DAVIS sequence. `read_annotation`
and `write_annotation` are the masks' way in and out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vitascope.video.frames import FrameFolder, image_files, natural_key
from vitascope.video.masks import read_mask

Year = Literal["2016", "2017"]
VOID = 255  # pixels that nobody labelled
USUAL_RESOLUTION = "480p"  # the one that DAVIS is scored at


@dataclass(frozen=True, slots=True)
class SequenceObject:
    """One object of a sequence: its id, the name of the frame at which it begins, and its class, where one is told."""

    id: int
    first_frame: str
    category: str = ""


@dataclass(frozen=True, slots=True)
class Sequence:
    """The files of one video with masks. Frames are known by their file names without extension.

    Attributes:
        name: Name of the folders of the sequence.
        frames: Folder of the images; None where only masks are there.
        annotations: Folder of the masks.
        frame_names: Of all images, in order.
        annotation_names: Of the frames that have a mask, in order.
        result_names: Of the frames for which a result is asked, in order.
        objects: In the order of their ids.
        single_object: Whether every object's pixels count as object 1, as in DAVIS 2016.
    """

    name: str
    frames: Path | None
    annotations: Path
    frame_names: tuple[str, ...]
    annotation_names: tuple[str, ...]
    result_names: tuple[str, ...]
    objects: tuple[SequenceObject, ...]
    single_object: bool = False


def find_sequences(folder: str | os.PathLike[str], split: str | None = None, *, year: Year = "2017") -> list[Sequence]:
    """The sequences of a DAVIS tree that have masks.

    Args:
        folder: The tree: `JPEGImages/[RES/]SEQ` and `Annotations/[RES/]SEQ`, RES being a resolution such as 480p (the
            one taken if there are several); or only a folder of folders of masks.
        split: Name of a list `ImageSets/<year>/<split>.txt`, or, as in 2016, `ImageSets/<RES>/<split>.txt`; None for
            all sequences that have masks.
        year: "2016": one object, which is all that is labelled; "2017": the objects 1 to the largest id of the first mask.

    Raises:
        ValueError: The tree is not as said, or first masks cannot be read or are empty; all such sequences are named.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "Annotations/480p/bear").mkdir(parents=True)
        ...     write_annotation(f"{folder}/Annotations/480p/bear/00000.png", np.array([[0, 1], [2, 2]], np.uint8))
        ...     [(sequence.name, len(sequence.objects)) for sequence in find_sequences(folder)]
        [('bear', 2)]
    """
    if year not in ("2016", "2017"):
        raise ValueError(f"year ({year!r}) must be '2016' (one object) or '2017' (several)")
    folder = Path(folder)
    masks = annotations_folder(folder)
    frames = None
    if (folder / "JPEGImages").is_dir():
        below = masks.relative_to(folder / "Annotations") if masks.is_relative_to(folder / "Annotations") else "."
        frames = folder / "JPEGImages" / below
        frames = frames if frames.is_dir() else _sequences_folder(folder / "JPEGImages")
    names = _split_names(folder, split, year, masks.name) if split else _folders(masks)
    found, problems = [], []
    for name in names:
        try:
            found.append(_davis_sequence(name, frames, masks, year == "2016"))
        except ValueError as error:
            problems.append(str(error))
    raise_all(problems)
    return found


def find_ytvos(folder: str | os.PathLike[str]) -> list[Sequence]:
    """The videos of a YouTube-VOS tree: `meta.json`, `JPEGImages/VIDEO` and `Annotations/VIDEO`.

    Objects may begin late: `meta.json` tells the frames of each, and the mask of the first holds it. For objects that
    run already, 0 in that mask may mean unknown. Results are asked for all frames that `meta.json` lists.

    Raises:
        ValueError: `meta.json` is missing or not as said, or a mask with which an object begins is missing.
    """
    folder = Path(folder)
    meta = read_meta(folder / "meta.json")
    found, problems = [], []
    for name in sorted(name for name, objects in meta.items() if objects):
        try:
            found.append(_ytvos_sequence(name, meta[name], folder))
        except ValueError as error:
            problems.append(str(error))
    raise_all(problems)
    return found


def read_meta(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """The videos of a YouTube-VOS `meta.json`: name -> object id -> `{"category": str, "frames": [str]}`.

    Raises:
        ValueError: The file is missing or not as said.
    """
    try:
        videos = json.loads(Path(path).read_text(encoding="utf-8"))["videos"]
        objects = {name: video["objects"] for name, video in videos.items()}
        listed = [item["frames"] for video in objects.values() for item in video.values()]
        names = [*objects, *(frame for frames in listed for frame in frames)]
        if not all(map(_is_plain, names)):
            raise ValueError("a name of a video or frame is no plain file name")
        return objects
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; a YouTube-VOS tree has its meta.json beside JPEGImages") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        detail = "must hold videos -> objects -> id -> category and frames, as YouTube-VOS writes it"
        raise ValueError(f"{path}: {detail} ({type(error).__name__}: {error})") from error


def categories(meta: str | os.PathLike[str]) -> frozenset[str]:
    """The categories of a YouTube-VOS `meta.json`; those of the training set are the seen ones."""
    videos = read_meta(meta)
    return frozenset(item.get("category", "") for objects in videos.values() for item in objects.values()) - {""}


def annotations_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder whose folders hold the masks: `folder/Annotations/[RES]`, `folder/[RES]` or `folder` itself.

    Raises:
        ValueError: There is none, or there are several and none is `480p`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: no such folder; name a DAVIS tree or a folder that holds a folder of masks a sequence"
        )
    masks = folder / "Annotations"
    return _sequences_folder(masks if masks.is_dir() else folder)


def open_frames(sequence: Sequence) -> FrameFolder:
    """The frames of a sequence; `ValueError` if it has masks only, `VideoError` if they cannot be read."""
    if sequence.frames is None:
        raise ValueError(f"{sequence.name}: there are masks, but no folder JPEGImages with its frames; add the frames")
    return FrameFolder(sequence.frames)


def read_annotation(path: str | os.PathLike[str], *, single_object: bool = False) -> np.ndarray:
    """A mask of the truth, uint8 `[H, W]` of object ids; pixels labelled 255, which are void, become background.

    With `single_object` all ids become 1, and 255 is the object in a file of 0 and 255 only, as DAVIS 2016 has them.

    Raises:
        ValueError: As `video.masks.read_mask`.
    """
    mask = read_mask(path)
    if single_object:
        is_object = (mask > 0) & (mask < VOID)
        return (is_object if is_object.any() else mask == VOID).astype(np.uint8)
    mask[mask == VOID] = 0
    return mask


def read_result(path: str | os.PathLike[str], *, single_object: bool = False) -> np.ndarray:
    """A mask of a result, uint8 `[H, W]`: all ids as they are, or, with `single_object`, as `read_annotation`."""
    return read_annotation(path, single_object=True) if single_object else read_mask(path)


def write_annotation(path: str | os.PathLike[str], mask: np.ndarray) -> None:
    """Writes a mask uint8 `[H, W]` as the palette PNG that these data sets use; whole or not at all."""
    from vitascope.video.writer import write_mask_png

    write_mask_png(path, mask)


def mask_file(folder: Path, name: str) -> Path:
    """The file of the mask of one frame."""
    return folder / f"{name}.png"


def _davis_sequence(name: str, frames: Path | None, masks: Path, single_object: bool) -> Sequence:
    if not (masks / name).is_dir():
        raise ValueError(f"{name}: no folder {masks / name} with its masks; add it, or take it from the list")
    annotated = _mask_names(masks / name)
    if not annotated:
        raise ValueError(f"{name}: {masks / name} holds no PNG; it must hold the masks of the sequence")
    first = read_annotation(mask_file(masks / name, annotated[0]), single_object=single_object)
    if not first.any():
        raise ValueError(f"{mask_file(masks / name, annotated[0])}: the first mask is empty; it must show every object")
    shown = _frame_names(name, frames / name) if frames is not None else annotated
    missing = sorted(set(annotated) - set(shown))
    if missing:
        raise ValueError(f"{name}: the mask {missing[0]}.png has no frame of its name in {frames / name}")
    objects = tuple(SequenceObject(number, annotated[0]) for number in range(1, int(first.max()) + 1))
    pictures = None if frames is None else frames / name
    return Sequence(name, pictures, masks / name, shown, annotated, shown, objects, single_object)


def _ytvos_sequence(name: str, meta: dict[str, Any], folder: Path) -> Sequence:
    frames, masks = folder / "JPEGImages" / name, folder / "Annotations" / name
    objects = []
    for number, item in meta.items():
        if not (str(number).isdecimal() and 0 < int(number) < VOID) or not item["frames"]:
            raise ValueError(
                f"{name}: object {number} in meta.json must have an id from 1 to 254 and at least one frame"
            )
        first = min(item["frames"], key=natural_key)
        if not mask_file(masks, first).is_file():
            raise ValueError(
                f"{mask_file(masks, first)}: no such file; object {number} of {name} begins with this mask"
            )
        objects.append(SequenceObject(int(number), first, item.get("category", "")))
    pictures = frames if frames.is_dir() else None
    listed = tuple(sorted({frame for item in meta.values() for frame in item["frames"]}, key=natural_key))
    shown = _frame_names(name, frames) if pictures else listed
    missing = [frame for frame in listed if frame not in set(shown)]
    if missing:
        raise ValueError(f"{name}: frame {missing[0]} of meta.json is not in {frames}; add it")
    ordered = tuple(sorted(objects, key=lambda item: item.id))
    return Sequence(name, pictures, masks, shown, _mask_names(masks), listed, ordered)


def _mask_names(folder: Path) -> tuple[str, ...]:
    return tuple(file.stem for file in image_files(folder) if file.suffix == ".png")


def _frame_names(name: str, folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise ValueError(f"{name}: no folder {folder} with its frames; add it")
    return tuple(file.stem for file in image_files(folder))


def _sequences_folder(folder: Path) -> Path:
    """`folder`, or the one below it named after a resolution, whichever holds folders with images."""
    below = _folders(folder)
    if any(image_files(folder / name) for name in below):
        return folder
    resolutions = [name for name in below if any(image_files(folder / name / deep) for deep in _folders(folder / name))]
    if len(resolutions) == 1:
        return folder / resolutions[0]
    if USUAL_RESOLUTION in resolutions:
        return folder / USUAL_RESOLUTION
    if not resolutions:
        raise ValueError(
            f"{folder}: no folder in it holds images; it must hold one folder a sequence, e.g. bear/00000.png"
        )
    raise ValueError(f"{folder}: several resolutions ({', '.join(resolutions)}) and no 480p; leave one of them there")


def _folders(folder: Path) -> list[str]:
    names = [entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."]
    return sorted(names, key=natural_key)


def _split_names(folder: Path, split: str, year: str, resolution: str) -> list[str]:
    """The names of a list; one of 2016 holds pairs of an image and its mask, whose folders are the names."""
    lists = [folder / "ImageSets" / part / f"{split}.txt" for part in (year, resolution)]
    file = next((file for file in lists if file.is_file()), None)
    if file is None:
        raise ValueError(f"split ({split}): there is no {lists[0]} nor {lists[1]}; leave split out for all sequences")
    words = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    names = [Path(word).parent.name if "/" in word else word for word in words]
    if not names or not all(map(_is_plain, names)):
        raise ValueError(f"{file}: must hold one name of a sequence a line, or paths of images and masks")
    return list(dict.fromkeys(names))


def _is_plain(name: Any) -> bool:
    """Whether a name from a file stays in its folder."""
    return isinstance(name, str) and Path(name).name == name != ".."


def raise_all(problems: Collection[str]) -> None:
    """Raises one `ValueError` that tells of every bad sequence; does nothing if there is none."""
    if problems:
        count = f"{len(problems)} sequences: " if len(problems) > 1 else ""
        raise ValueError(count + "; ".join(problems))
