"""From a folder of video to a search hit, in a few lines: scan, train, embed, search. About half a minute on a CPU.

python examples/train_and_search.py
"""

import tempfile
from pathlib import Path

import vitascope
from vitascope import api
from vitascope.datasets.worlds.motion import MotionWorld
from vitascope.datasets.worlds.write import write_world


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "videos"
        write_world(MotionWorld(num_videos=6, num_frames=48), data)

        scanned = vitascope.scan(data)
        print(f"{scanned.num_files} videos, {scanned.duration_seconds:.0f} s, {scanned.done} of them sound")

        config = api.configure("videomae-tiny", ["length=20", "batch_size=4"])
        trained = vitascope.train("videomae-tiny", data, config=config)
        print(f"run {trained.run}: {trained.steps} steps, loss {trained.metrics['loss']:.3f}")

        vitascope.embed(scanned.library, run=trained.run)
        found = vitascope.search((data / "motion_00002.mp4", 1.2), k=3)
        for hit in found.hits:
            span = f"{hit.start_seconds:.1f} to {hit.end_seconds:.1f} s"
            print(f"{hit.score:.3f}  {Path(hit.path).name}  {span}")


if __name__ == "__main__":
    main()
