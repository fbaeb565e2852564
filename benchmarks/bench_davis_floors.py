"""Score what needs no learning on a DAVIS tree: holding the first mask, and carrying it along by optical flow.

    python benchmarks/bench_davis_floors.py --data ../shared/data/davis16-train-240p

`hold` repeats the first mask; `flow` fetches each pixel's id from where DIS flow (medium preset) says it came from, frame by
frame. Both run through the same code as `vitascope evaluate davis --data`. The result goes to
benchmarks/results/bench_davis_floors.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from vitascope.evaluation.segmentation import VALUES, score_davis, segment_davis
from vitascope.store.atomic import write_json
from vitascope.video.frames import FrameFolder

RESULTS = Path(__file__).parent / "results" / "bench_davis_floors.json"
DATA = Path(__file__).parents[2] / "shared" / "data" / "davis16-train-240p"


def hold(frames: FrameFolder, first_masks: dict[int, np.ndarray]) -> Iterator[np.ndarray]:
    mask = np.zeros(frames.size, np.uint8)
    for position in range(len(frames)):
        mask = renewed(mask, first_masks.get(position))
        yield mask


def flow(frames: FrameFolder, first_masks: dict[int, np.ndarray]) -> Iterator[np.ndarray]:
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    rows, columns = np.mgrid[: frames.size[0], : frames.size[1]].astype(np.float32)
    mask, before = np.zeros(frames.size, np.uint8), None
    for position, (_, picture) in enumerate(frames.iterate()):
        grey = cv2.cvtColor(picture.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)
        if before is not None:
            back = dis.calc(grey, before, None)  # from this frame to the one before  [H, W, 2]
            mask = cv2.remap(mask, columns + back[..., 0], rows + back[..., 1], cv2.INTER_NEAREST)
        before, mask = grey, renewed(mask, first_masks.get(position))
        yield mask


def renewed(mask: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    return mask if given is None else np.where(given > 0, given, mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--year", choices=("2016", "2017"), default="2017")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"{options.data}: no such folder; name a DAVIS tree with --data")
        return
    result = {"data": options.data.name, "year": options.year}
    for segment in (hold, flow):
        with tempfile.TemporaryDirectory() as out:
            start = time.perf_counter()
            segment_davis(options.data, segment, out, year=options.year)
            seconds = time.perf_counter() - start
            scores = score_davis(options.data, out, year=options.year)
        result[segment.__name__] = {name: round(scores[name], 4) for name in ("j_and_f_mean", *VALUES)} | {
            "seconds": round(seconds, 1),
            "j_by_object": {
                f"{row['sequence']}/{row['object']}": round(row["j_mean"], 3) for row in scores["per_object"]
            },
        }
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    write_json(RESULTS, result)


if __name__ == "__main__":
    main()
