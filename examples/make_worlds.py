"""Write a few synthetic videos with exact truth to a folder, and look at what is true of one of them.

python examples/make_worlds.py worlds
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from vitascope.datasets.worlds.motion import MotionWorld
from vitascope.datasets.worlds.objects import ObjectsWorld
from vitascope.datasets.worlds.untrimmed import UntrimmedWorld
from vitascope.datasets.worlds.write import write_world


def main(folder: Path) -> None:
    worlds = [
        MotionWorld(num_videos=12),
        MotionWorld(num_videos=12, by="texture"),
        UntrimmedWorld(num_videos=2, seconds=30.0),
        ObjectsWorld(num_videos=2),
    ]
    for world in worlds:
        records = write_world(world, folder / world.name)
        print(f"{folder / world.name}: {len(records)} videos; the first one is labelled {records[0].labels}")

    for segment in worlds[2][0].to_json()["segments"][:3]:
        print(f"{segment['start_seconds']:6.2f} to {segment['end_seconds']:6.2f} s: {segment['label']}")

    video = worlds[3][0]
    positions, visible = video.tracks(np.array([[56.0, 56.0]]))
    print(f"the point in the middle of {video.id} is seen in {visible.sum()} of {video.num_frames} frames,")
    print(f"and lies at {positions[8, 0].round(2)} in frame 8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
