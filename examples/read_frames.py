"""Read frames of a video by true time, and its shot boundaries. A few seconds on a CPU.

python examples/read_frames.py
"""

import tempfile
from pathlib import Path

from vitascope import VideoReader, probe
from vitascope.datasets.worlds.untrimmed import UntrimmedWorld
from vitascope.datasets.worlds.write import write_world
from vitascope.video.cuts import find_cuts


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (record,) = write_world(UntrimmedWorld(num_videos=1, seconds=20), Path(folder))
        info = probe(record.path)
        print(
            f"{info.codec}, {info.width}x{info.height}, {info.duration_seconds:.1f} s, {info.average_fps:.2f} frames/s"
        )
        with VideoReader(record.path) as reader:
            clip = reader.frames_at_seconds([15.0, 0.0, 7.5], size=64)  # in any order; decoded with few seeks
            print(f"frames {list(clip.frames.shape)} at {clip.times_seconds.tolist()} s")
        cuts = find_cuts(record.path)
        print(
            "cuts at", ", ".join(f"{seconds:.2f} s ({kind})" for seconds, kind in zip(cuts.times_seconds, cuts.kinds))
        )


if __name__ == "__main__":
    main()
