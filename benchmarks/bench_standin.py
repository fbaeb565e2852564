"""How many of ten sequences the stand-in for CLIP tells by their names alone: DAVIS-2016 train at 240p, a mean over frames.

    python benchmarks/bench_standin.py --clip FOLDER [--data ../shared/data/davis16-train-240p]

FOLDER is as `nn.standin.load_standin` takes it; that of a real CLIP does as well. The names were written before any result.
Also tells the CPU time of a frame, and how many are right between 16 + 16 vectors as learned prompts begin, over five draws.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vitascope.methods.cbp_vlp.vlp import Prompts
from vitascope.nn.clip_files import load_clip
from vitascope.store.atomic import write_json
from vitascope.store.facts import commit, machine

RESULTS = Path(__file__).parent / "results" / "bench_standin.json"
DATA = Path(__file__).parents[2] / "shared" / "data" / "davis16-train-240p"
NAMES = {
    "bear": "bear",
    "bmx-bumps": "bmx bike rider",
    "dance-jump": "dancer",
    "elephant": "elephant",
    "flamingo": "flamingo",
    "horsejump-low": "horse jumping",
    "mallard-water": "mallard duck",
    "soccerball": "soccer ball",
    "tennis": "tennis player",
    "train": "train",
}


def right(images: list[Tensor], texts: Tensor) -> list[bool]:
    """Whether each sequence, by the mean of its frames, is most like its own text."""
    likeness = [(F.normalize(own, dim=1) @ F.normalize(texts, dim=1).T).mean(0) for own in images]
    return [int(row.argmax()) == i for i, row in enumerate(likeness)]


@torch.no_grad()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", help="folder of the stand-in, or of a CLIP")
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    frames = options.data / "JPEGImages" / "240p"
    if not options.clip or not frames.is_dir():
        print(
            f"skipped: name weights with --clip, and with --data a folder of DAVIS that has {frames.name}",
            file=sys.stderr,
        )
        raise SystemExit(0)  # so that the others run
    torch.set_num_threads(1)
    clip, images, count, began = load_clip(options.clip), [], 0, time.process_time()
    for name in NAMES:
        files = sorted((frames / name).glob("*.jpg"))
        shown = [torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1) for file in files]
        images.append(torch.cat([clip.encode_image(part) for part in torch.stack(shown).split(16)]))
        count += len(files)
    seconds = time.process_time() - began
    tokens, drawn = [clip.tokens(name) for name in NAMES.values()], []
    alone = right(images, clip.encode_text(tokens))
    for seed in range(5):
        torch.manual_seed(seed)
        drawn.append(sum(right(images, clip.encode_text(tokens, *Prompts(clip.token_width)()))))
    told = {
        "sequences": len(NAMES),
        "frames": count,
        "right": [name for name, is_right in zip(NAMES, alone, strict=True) if is_right],
        "right_between_vectors": drawn,
        "ms_a_frame": round(1000 * seconds / count, 1),
    }
    for name, value in told.items():
        print(f"{name:24} {value}")
    write_json(RESULTS, {"commit": commit(), **machine(), **told})
    return 0


if __name__ == "__main__":
    sys.exit(main())
