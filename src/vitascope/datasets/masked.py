"""Folders of pictures and videos with masks -> records."""

from __future__ import annotations

import os
from pathlib import Path

from vitascope.structures import Record

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")


def find_stills(folder: str | os.PathLike[str]) -> list[Record]:
    """Images with masks below a folder: the mask of `NAME.jpg` is `NAME.png`, beside it or in a folder beside the image's.

    So `images/NAME.jpg` goes with `masks/NAME.png`, whatever the two folders are called. Images without a mask are left
    out.

    Raises:
        ValueError: `folder` is no folder, or holds no image with a mask.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("images/a.jpg", "masks/a.png", "images/b.jpg"):
        ...         Path(folder, name).parent.mkdir(exist_ok=True)
        ...         Path(folder, name).touch()
        ...     [record.id for record in find_stills(folder)]
        ['images/a.jpg']
    """
    records = _stills(_checked(folder))
    if not records:
        raise ValueError(f"{folder} holds no image with a mask; the mask of images/NAME.jpg is masks/NAME.png")
    return records


def _stills(folder: Path) -> list[Record]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)
    masks: dict[tuple[Path, str], list[Path]] = {}
    for path in files:
        if path.suffix.lower() == ".png":
            for place in (path.parent, path.parent.parent):
                masks.setdefault((place, path.stem), []).append(path)
    records = []
    for path in files:
        beside = masks.get((path.parent, path.stem), []) + masks.get((path.parent.parent, path.stem), [])
        found = [mask for mask in beside if mask != path and mask.parent != path.parent or mask.suffix != path.suffix]
        if path.suffix.lower() != ".png" and found:
            records.append(_record(folder, path, found[0]))
    return records


def find_masked_videos(folder: str | os.PathLike[str]) -> list[Record]:
    """Videos with masks below a folder, in either of two forms, and the stills with masks (`find_stills`).

    | frames | masks |
    | --- | --- |
    | `NAME.mp4` (or another container) | `NAME.masks.npz` beside it, `masks` uint8 `[T, H, W]`, as `write_world` writes |
    | `JPEGImages/[RES/]SEQ/*.jpg` | `Annotations/[RES/]SEQ/*.png`: DAVIS, YouTube-VOS |

    A sequence needs as many masks as frames. Stills among videos keep a network from forgetting what only they show.

    Raises:
        ValueError: `folder` is no folder, or holds no video with masks.
    """
    folder = _checked(folder)
    records = [
        _record(folder, path, path.with_suffix("").with_suffix(".masks.npz"))
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in VIDEOS and path.with_suffix(".masks.npz").exists()
    ]
    for images in sorted(folder.rglob("JPEGImages")):
        for sequence in sorted(path for path in images.rglob("*") if path.is_dir()):
            masks = images.parent / "Annotations" / sequence.relative_to(images)
            if masks.is_dir() and any(masks.glob("*.png")):
                records.append(_record(folder, sequence, masks))
    records += _stills(folder)
    if not records:
        raise ValueError(
            f"{folder} holds no video with masks; NAME.mp4 needs NAME.masks.npz, JPEGImages/SEQ needs Annotations/SEQ"
        )
    return records


def _checked(folder: str | os.PathLike[str]) -> Path:
    if not os.path.isdir(folder):
        fault = "is no folder" if os.path.exists(folder) else "does not exist"
        raise ValueError(f"{os.fspath(folder)} {fault}; give a folder of images or videos with masks")
    return Path(folder)


def _record(root: Path, path: Path, masks: Path) -> Record:
    return Record(str(path), id=path.relative_to(root).as_posix(), masks=str(masks))
