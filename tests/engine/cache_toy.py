"""Videos that are text files, and functions that compute their flow in worker processes, for test_cache.py.

cache_toy.py LIBRARY WORKERS caches: what the tests kill.
"""

import ctypes
import os
import sys
import time
from pathlib import Path

from vitascope.engine.cache import cache_motion
from vitascope.store.catalogue import Scanned, content_hash
from vitascope.store.library import Library
from vitascope.structures import Gap, VideoError

WHOLE = b"flow of " * 1000


def fill(library, folder, texts):
    """Write and scan videos 0.mp4, 1.mp4, ... of these texts."""
    paths = [str(folder / f"{number}.mp4") for number in range(len(texts))]
    for path, text in zip(paths, texts):
        Path(path).write_text(text)
        status = os.stat(path)
        library.catalogue.add(
            [
                Scanned(
                    path, status.st_size, status.st_mtime_ns, content_hash(path), "done",
                    metadata={"duration_seconds": 1.0 + len(text)}, frame_index=text.encode(),
                )
            ]
        )  # fmt: skip
    return paths


def compute(video, path, *, method, index):
    """What the text says; beside the video it is noted that it was asked for."""
    text = Path(video).read_text()
    assert index == text.encode() and method
    with open(f"{video}.log", "a") as file:
        file.write("computed\n")
    if text == "broken":
        raise VideoError(video, "damaged", "no frame of it can be decoded")
    if text == "tiny":
        raise ValueError("frames of 4x4 pixels are too small")
    if text == "changes":
        os.utime(video, ns=(1, 1))
    if text == "full disk":
        raise OSError(28, "No space left on device")
    with open(path, "wb") as file:
        file.write(WHOLE)
        file.flush()
        if text == "crash":
            ctypes.string_at(0)
        if text.startswith("slow"):
            Path(f"{video}.begun").touch()
            time.sleep(0.15)
        file.write(video.encode())
    return len(text), (Gap(0.5, 1.25, "lost"),) if text == "gap" else ()


def is_whole(path):
    data = Path(path).read_bytes()
    return data.startswith(WHOLE) and data.endswith(b".mp4")


if __name__ == "__main__":
    with Library(sys.argv[1]) as library:
        result = cache_motion(library, "dis-medium", compute, num_workers=int(sys.argv[2]))
    sys.exit(128 + result.signal if result.signal else 0)
