"""J and F of the starter weights on a DAVIS tree, for each memory policy and for several working resolutions.

    python benchmarks/bench_stm_davis.py --data ../shared/data/davis16-train-240p [--weights FILE --name NAME]

Each row is what `vitascope evaluate davis --data DIR --policy P --short-side N --json` prints. Rows are added to
benchmarks/results/bench_stm_davis.json one by one; those of the same weights that are there are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from vitascope import api
from vitascope.engine.extract import hash_of
from vitascope.evaluation.segmentation import VALUES
from vitascope.store.atomic import write_json

RESULTS = Path(__file__).parent / "results" / "bench_stm_davis.json"
DATA = Path(__file__).parents[2] / "shared" / "data" / "davis16-train-240p"
ROWS = (("default", 480), ("bounded", 480), ("paper", 480), ("first_previous", 480), ("default", 360), ("default", 240))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--weights", type=Path, default=None, help="by default those of the package")
    parser.add_argument("--name", default="starter", help="of the weights, in the results")
    parser.add_argument("--only-default", action="store_true", help="the first row alone")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"skipped: {options.data}: no such folder; name a DAVIS tree with --data", file=sys.stderr)
        raise SystemExit(0)  # so that the others run
    weights = hash_of(api.load_network(options.weights))[:12]
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for policy, short_side in ROWS[:1] if options.only_default else ROWS:
        name = f"{options.name}, {policy}, {short_side}"
        if kept.get(name, {}).get("weights") != weights:
            kept[name] = {"weights": weights} | measure(options.data, options.weights, policy, short_side)
            write_json(RESULTS, kept)
        row = kept[name]
        print(f"{name:34} J&F {100 * row['j_and_f_mean']:.1f}  J {100 * row['j_mean']:.1f}", flush=True)


def measure(data: Path, weights: Path | None, policy: str, short_side: int) -> dict[str, object]:
    settings, began = {"policy": policy, "short_side": short_side}, time.process_time()
    found = api.evaluate_davis(data, weights=weights, settings=settings, progress=True)
    return {
        **{name: round(found[name], 4) for name in ("j_and_f_mean", *VALUES)},
        "cpu_seconds": round(time.process_time() - began, 1),
        "j_by_object": {row["sequence"]: round(row["j_mean"], 3) for row in found["per_object"]},
    }


if __name__ == "__main__":
    main()
