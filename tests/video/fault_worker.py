"""Reads damaged copies of a file, one after the other, and tells on stdout how each went.

Run by `test_reader_faults.py` in a process of its own, so that a crash or a hang is seen. Input: one JSON object a line,
`{"source", "kind", "value"}`; output: one JSON object a line.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

import numpy as np

from vitascope.structures import VideoError
from vitascope.video.check import check
from vitascope.video.reader import VideoReader


def digests(reader: VideoReader) -> dict[int, str]:
    """Digest of each frame that comes, by its stamp on the container's clock."""
    found = {}
    for seconds, image in reader.iterate():
        stamp = int(reader.index.pts[np.argmin(np.abs(reader.index.times_seconds - seconds))])
        found[stamp] = hashlib.sha1(image.numpy().tobytes()).hexdigest()
    return found


def damaged(data: bytes, kind: str, value: int) -> bytes:
    if kind == "cut":
        return data[:value]
    rng, broken = np.random.default_rng(value), bytearray(data)
    for _ in range((1, 8, 64)[value // 3 % 3]):
        broken[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
    return bytes(broken)


def attempt(path: Path, whole: dict[int, str]) -> dict[str, object]:
    """Reads a file in all ways.

    Counts the frames that are those of the whole file, the others, and those that random access gives otherwise than one pass.
    """
    try:
        with VideoReader(path) as reader:
            found = digests(reader)
            num_frames, gaps = len(reader), len(reader.gaps)
            wanted = np.random.default_rng(0).integers(0, num_frames, 6)
            clip = reader.frames_at(wanted, missing="drop")
            unlike = 0
            for seconds, image in zip(clip.times_seconds, clip.frames):
                stamp = int(reader.index.pts[np.argmin(np.abs(reader.index.times_seconds - seconds))])
                unlike += found[stamp] != hashlib.sha1(image.numpy().tobytes()).hexdigest()
        check(path)
    except VideoError as error:
        return {"reason": error.reason}
    good = sum(whole.get(stamp) == value for stamp, value in found.items())
    counts = {"good": good, "wrong": len(found) - good, "unlike": unlike, "gaps": gaps, "frames": num_frames}
    return {"reason": "", **counts}


def main() -> None:
    wholes: dict[str, dict[int, str]] = {}
    for line in sys.stdin:
        task = json.loads(line)
        source = Path(task["source"])
        if task["source"] not in wholes:
            with VideoReader(source) as reader:
                wholes[task["source"]] = digests(reader)
        copy = source.with_name("damaged" + source.suffix)
        copy.write_bytes(damaged(source.read_bytes(), task["kind"], task["value"]))
        start = time.monotonic()
        try:
            result = attempt(copy, wholes[task["source"]])
        except Exception as error:  # anything but a VideoError is what the test is looking for
            result = {"reason": "unexpected", "error": repr(error)}
        print(json.dumps({**task, **result, "seconds": time.monotonic() - start}), flush=True)


if __name__ == "__main__":
    main()
