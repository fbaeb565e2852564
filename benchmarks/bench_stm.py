"""CPU seconds a frame of the mask networks, against the paper's formulas written literally, on one thread, taking turns.

A frame is memorised and the next one segmented, with `T` frames in memory. The literal network goes object by object, pads
memory to 11 slots and concatenates it anew; ours writes into a bank that is there. Weights are random and calm, which
makes more near-ties than trained ones: the share of changed labels is an upper bound.

    python benchmarks/bench_stm.py            # 854x480, 3 objects, T = 10: about five minutes
    python benchmarks/bench_stm.py --quick    # 427x240, T = 3: seconds, no limits

Limits: exact >= 1.5 times as fast as literal with < 1e-3 of the labels changed, bf16 >= 3 times, small >= 8 times.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "methods" / "stm"))

from literal_stm import LiteralSTM, calm_weights, scene  # noqa: E402

from vitascope.methods.stm import load_official  # noqa: E402
from vitascope.methods.stm.fast import bf16_gain, prepare  # noqa: E402
from vitascope.methods.stm.light import LightSTM  # noqa: E402
from vitascope.methods.stm.memory import Tokens  # noqa: E402
from vitascope.methods.stm.model import MaskNetwork, pad  # noqa: E402
from vitascope.methods.stm.region import decode_region  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "bench_stm.json"
OBJECTS, CHANNELS = 3, 11
LIMITS = {"exact": 1.5, "bf16": 3.0, "small": 8.0}
CHANGED_LIMIT = 1e-3


class Literal:
    """The literal network with `T - 1` frames in memory."""

    def __init__(self, network: LiteralSTM, frames: Tensor, masks: Tensor) -> None:
        self.network = network
        banks = [network.memorize(frame[None], masks, OBJECTS) for frame in frames]
        self.keys, self.values = (torch.cat(tensors, 3) for tensors in zip(*banks))

    def step(self, previous: Tensor, masks: Tensor, frame: Tensor) -> Tensor:
        keys, values = self.network.memorize(previous, masks, OBJECTS)
        keys, values = torch.cat([self.keys, keys], 3), torch.cat([self.values, values], 3)
        return self.network.segment(frame, keys, values, OBJECTS)


class Ours:
    """One of our networks with `T - 1` frames in a bank of `T`."""

    def __init__(self, network: MaskNetwork, frames: Tensor, masks: Tensor) -> None:
        self.network, self.last = network, len(frames)
        self.bank: list[Tensor] = []
        for t, frame in enumerate(frames):
            self.write(t, network.memorize(frame[None], masks, OBJECTS))

    def write(self, t: int, memory: tuple[Tensor, Tensor]) -> None:
        if not self.bank:
            self.bank = [x.new_zeros(*x.shape[:2], self.last + 1, *x.shape[2:]) for x in memory]
        for bank, x in zip(self.bank, memory):
            bank[:, :, t] = x

    def step(self, previous: Tensor, masks: Tensor, frame: Tensor) -> Tensor:
        self.write(self.last, self.network.memorize(previous, masks, OBJECTS))
        return self.network.segment(frame, *self.bank, num_channels=CHANNELS)


@torch.no_grad()
def measure_region(network: MaskNetwork, frame: Tensor, rounds: int) -> dict[str, float]:
    """Reading and decoding one object in a box of a ninth of the frame, skips included, beside the whole frame."""
    frame = pad(frame)
    height, width = frame.shape[-2:]
    box = (width // 3, height // 3, 2 * width // 3, 2 * height // 3)
    tokens = 10 * (height // 16) * (width // 16)
    key_width = network.encode_query(frame).key.shape[1]
    keys, values = torch.randn(1, key_width, tokens), torch.randn(1, network.value_width, tokens)
    memory = Tokens(keys, values, None, torch.ones(1, 1, tokens))
    seconds: dict[str, list[float]] = {"whole": [], "region": []}
    decoded = {}
    for _ in range(rounds):
        for name in seconds:
            query = network.encode_query(frame)
            start = time.process_time()
            if name == "whole":
                decoded[name] = network.foreground(network.read(keys, values, query.key), query)
            else:
                decoded[name] = decode_region(network, memory, query, box)
            seconds[name].append(time.process_time() - start)
    inside = (slice(None), slice(box[1], box[3]), slice(box[0], box[2]))
    changed = (decoded["whole"][inside] > 0.5) != (decoded["region"][inside] > 0.5)
    return {
        "times_as_fast": round(statistics.median(seconds["whole"]) / statistics.median(seconds["region"]), 2),
        "pixels_changed_in_box": changed.double().mean().item(),
    }


@torch.no_grad()
def measure(width: int, height: int, memory: int, rounds: int) -> dict[str, object]:
    frames, masks = scene(memory + 1, height, width, OBJECTS, CHANNELS)
    state = calm_weights()
    exact = load_official(state)
    torch.manual_seed(0)
    ways = {
        "literal": Literal(LiteralSTM(state), frames[: memory - 1], masks),
        "exact": Ours(prepare(exact), frames[: memory - 1], masks),
        "small": Ours(prepare(LightSTM()), frames[: memory - 1], masks),
    }
    gain = bf16_gain()
    if gain >= 1:
        ways["bf16"] = Ours(prepare(exact, bf16=True), frames[: memory - 1], masks)
        ways["small bf16"] = Ours(prepare(LightSTM(), bf16=True), frames[: memory - 1], masks)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    labels = {}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            logits = way.step(frames[memory - 1 : memory], masks, frames[memory:])
            seconds[name].append(time.process_time() - start)
            labels[name] = logits.argmax(1)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {
        "cpu_seconds_a_frame": {name: round(median, 3) for name, median in medians.items()},
        "times_as_fast_as_literal": {name: round(medians["literal"] / median, 2) for name, median in medians.items()},
        "labels_changed": {
            name: (labels[name] != labels["literal"]).double().mean().item() for name in ways if "small" not in name
        },
        "region": {name: measure_region(ways[name].network, frames[:1], rounds) for name in ("exact", "small")},
        "labels_of_objects": (labels["literal"] > 0).double().mean().item(),
        "bf16_convolution_gain": round(gain, 2),
        "size": [width, height], "objects": OBJECTS, "memory_frames": memory, "rounds": rounds,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    result = measure(427, 240, 3, 3) if quick else measure(854, 480, 10, 5)
    result |= {"cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__}
    print(json.dumps(result, indent=2))
    if quick:
        return 0
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result | {"limits": LIMITS, "changed_limit": CHANGED_LIMIT}, indent=2) + "\n")
    ratios, changed = result["times_as_fast_as_literal"], result["labels_changed"]["exact"]
    missed = [f"{name} {ratios[name]} < {limit}" for name, limit in LIMITS.items() if ratios.get(name, limit) < limit]
    missed += [f"labels changed {changed} >= {CHANGED_LIMIT}"] if changed >= CHANGED_LIMIT else []
    print("limits missed: " + "; ".join(missed) if missed else "all limits held")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
