"""A pre-training step of ours beside that of VideoMAE in transformers: same sizes, same mask, one thread, interleaved.

A step is forward, loss (with the making of its targets), backward and AdamW. Ours starts from uint8 clips, theirs from
pixels that are normalised already, which favours theirs. The ratio of the medians of CPU seconds must be <= 1.05.

    python benchmarks/bench_mme_step.py
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import VideoMAEConfig, VideoMAEForPreTraining

from vitascope.methods.mme.config import MMEConfig
from vitascope.methods.mme.method import MME
from vitascope.video.transforms import normalise

RESULT = Path(__file__).parent / "results" / "bench_mme_step.json"
LIMIT, ROUNDS, BATCH = 1.05, 15, 4
CONFIG = MMEConfig(
    size=112, embed_dim=192, depth=6, num_heads=3, decoder_dim=96, decoder_depth=2, decoder_heads=3, mask_ratio=0.9
)


def our_step(clips: torch.Tensor, mask: torch.Tensor) -> Callable[[], float]:
    method = MME(CONFIG)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-4)

    def step() -> float:
        loss = method.training_step({"clips": clips, "mask": mask})["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def their_step(pixels: torch.Tensor, mask: torch.Tensor) -> Callable[[], float]:
    config = VideoMAEConfig(
        image_size=CONFIG.size,
        hidden_size=CONFIG.embed_dim,
        num_hidden_layers=CONFIG.depth,
        num_attention_heads=CONFIG.num_heads,
        intermediate_size=4 * CONFIG.embed_dim,
        decoder_hidden_size=CONFIG.decoder_dim,
        decoder_num_hidden_layers=CONFIG.decoder_depth,
        decoder_num_attention_heads=CONFIG.decoder_heads,
        decoder_intermediate_size=4 * CONFIG.decoder_dim,
        layer_norm_eps=CONFIG.layer_norm_eps,
        use_mean_pooling=False,
    )
    config._attn_implementation = "sdpa"  # the faster of their two
    model = VideoMAEForPreTraining(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> float:
        loss = model(pixels, bool_masked_pos=mask).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def measure(steps: dict[str, Callable[[], float]]) -> dict[str, dict[str, float]]:
    """CPU and wall milliseconds of each step, taken in turns after two to warm up."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for round_ in range(ROUNDS + 2):
        for name, step in steps.items():
            cpu, wall = time.process_time(), time.perf_counter()
            step()
            if round_ >= 2:
                seconds[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {
        name: {
            "cpu_ms_median": round(1e3 * statistics.median(cpu for cpu, _ in taken), 1),
            "wall_ms_best": round(1e3 * min(wall for _, wall in taken), 1),
        }
        for name, taken in seconds.items()
    }


def main() -> int:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    places = CONFIG.grid[1] * CONFIG.grid[2]
    mask = (torch.rand(BATCH, places).argsort(1) < int(CONFIG.mask_ratio * places)).repeat(1, CONFIG.grid[0])
    clips = torch.randint(0, 256, (BATCH, CONFIG.num_frames, 3, CONFIG.size, CONFIG.size), dtype=torch.uint8)
    pixels = normalise(clips.float() / 255)
    result = measure({"ours": our_step(clips, mask), "transformers": their_step(pixels, mask)})
    ratio = result["ours"]["cpu_ms_median"] / result["transformers"]["cpu_ms_median"]
    result |= {
        "ratio": round(ratio, 3),
        "limit": LIMIT,
        "rounds": ROUNDS,
        "batch_size": BATCH,
        "torch": torch.__version__,
        "config": CONFIG.model_dump(mode="json"),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    for name in ("ours", "transformers"):
        print(
            f"{name:13} {result[name]['cpu_ms_median']:7.1f} ms CPU, {result[name]['wall_ms_best']:7.1f} ms wall at best"
        )
    print(f"ratio {ratio:.3f} (limit {LIMIT}); written to results/{RESULT.name}")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
