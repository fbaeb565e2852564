"""Trains the tiny CLIP that comes with the package (`nn/weights`) on rendered frames and captions, and measures it.

    OMP_NUM_THREADS=1 python benchmarks/train_tiny_clip.py                  # about 12 minutes of one free core
    OMP_NUM_THREADS=1 python benchmarks/train_tiny_clip.py --measure-only   # the figures of the weights that are there

Frames come from untrimmed worlds with props, and from the same places with a prop laid upon them; a caption names an
action, or its prop, or both. Names are read with and without random vectors around them, as prompts that are learned
later will look. Figures go to `results/` beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save as safetensors_of
from torch import Tensor

from vitascope.datasets.worlds.actions import pixels_per_texel
from vitascope.datasets.worlds.props import PROPS, make_prop
from vitascope.datasets.worlds.scene import Layer, Scene, pose
from vitascope.datasets.worlds.untrimmed import UntrimmedWorld
from vitascope.metrics.localization import video_average_precision
from vitascope.nn.bpe import Words
from vitascope.nn.clip import Clip, middle_square
from vitascope.nn.clip_files import TINY, load_tiny
from vitascope.store import atomic

RESULTS = Path(__file__).parent / "results" / "train_tiny_clip.json"
TRAIN_SEEDS, TEST_SEEDS = range(1000, 1010), range(9000, 9003)
NUM_STILLS = 10_000
SIZES = {
    "dim": 128,
    "image_size": 64,
    "patch_size": 8,
    "image_width": 192,
    "image_depth": 4,
    "image_heads": 6,
    "max_tokens": 77,
    "token_width": 96,
    "text_depth": 2,
    "text_heads": 4,
}
OF_ACTION = (
    "{action}",
    "{action}",
    "{prop}",
    "{shape}",
    "{action} with a {prop}",
    "the {prop} of {action}",
    "a video of {action}",
    "a photo of {action}",
    "a person doing {action}",
    "the action {action} near the {shape}",
)
OF_NOTHING = ("nothing", "nobody", "an empty place", "a crowd at rest", "a video of nothing")
CLASSES = (*PROPS, "nothing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=TINY)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--measure-only", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    how = {key: getattr(given, key) for key in ("steps", "batch_size", "lr", "seed")}
    figures = json.loads(given.results.read_text()) if given.measure_only and given.results.exists() else {}
    if not given.measure_only:
        figures = {"training": how | train(given.out, **how)}
    figures["zero_shot"] = measure(load_tiny(given.out), seed=given.seed)
    figures |= {"bytes": given.out.stat().st_size, "words": vocabulary().size - 2}
    atomic.write_json(given.results, figures)
    print(json.dumps(figures, indent=1))


def vocabulary() -> Words:
    """Every word that a caption may have."""
    captions = [caption(action, template) for action in PROPS for template in OF_ACTION]
    return Words(sorted({word for text in (*captions, *OF_NOTHING) for word in text.split()}))


def caption(action: str, template: str) -> str:
    return template.format(action=action, prop=PROPS[action].name, shape=PROPS[action].shape)


def rendered(seed: int, size: int, seconds: float = 60.0) -> tuple[Tensor, Tensor, Tensor]:
    """A world of 12 videos, two frames a second, 64 x 64.

    Returns:
        uint8 `[N, 3, 64, 64]`; bool `[N, 13]`, what is seen (the last is nothing); int64 `[N]`, the action or -1.
    """
    world = UntrimmedWorld(num_videos=12, seed=seed, size=size, seconds=seconds, fps=2.0, num_topics=12, props=True)
    frames, seen, acted = [], [], []
    for index, video in enumerate(world):
        chunks = [torch.from_numpy(np.ascontiguousarray(chunk)) for chunk in world.render(index)]
        frames += [middle_square(chunk, SIZES["image_size"]).to(torch.uint8) for chunk in chunks]
        row, action = torch.zeros(video.num_frames, 13, dtype=torch.bool), torch.full((video.num_frames,), -1)
        times = torch.from_numpy(video.times_seconds)
        for (start, end), label in zip(video.props.times_seconds, video.props.labels, strict=True):
            row[(times > start + 0.15) & (times < end - 0.15), CLASSES.index(label)] = True  # it slides in and out
        for (start, end), label in zip(video.segments.times_seconds, video.segments.labels, strict=True):
            action[(times >= start) & (times < end)] = CLASSES.index(label)
        row[:, -1] = ~row.any(1)
        seen.append(row)
        acted.append(action)
    return torch.cat(frames), torch.cat(seen), torch.cat(acted)


def train(out: Path, steps: int, batch_size: int, lr: float, seed: int) -> dict[str, float]:
    """Trains from random weights and writes them in float16."""
    started = time.process_time()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    words = vocabulary()
    clip = Clip(**SIZES, vocabulary_size=words.size)
    clip.tokenizer = words
    parts = [rendered(world, size=96) for world in TRAIN_SEEDS]
    frames, seen = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    easy, easy_seen = stills(frames[seen[:, -1]], NUM_STILLS, rng)
    rendering = time.process_time() - started
    print(f"{len(frames)} frames and {len(easy)} stills in {rendering:.0f} s of CPU time", flush=True)
    decayed = [p for p in clip.parameters() if p.ndim > 1]
    others = [p for p in clip.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    mean = 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * min((step + 1) / 60, 0.5 + 0.5 * math.cos(math.pi * step / steps))
        some = round(batch_size * (0.9 - 0.6 * step / steps))  # stills, fewer and fewer
        first, then = rng.integers(len(easy), size=some), rng.integers(len(frames), size=batch_size - some)
        images, right = torch.cat([easy[first], frames[then]]), torch.cat([easy_seen[first], seen[then]])
        loss = contrast(clip, varied(images, rng), right, rng)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(max=math.log(100))
        mean = loss.item() if not step else 0.95 * mean + 0.05 * loss.item()
        if step % 25 == 0 or step == steps - 1:
            print(f"step {step} loss {mean:.3f} cpu {time.process_time() - started:.0f} s", flush=True)
        if step % 100 == 99 or step == steps - 1:
            save(clip, words, out)
    parameters = sum(p.numel() for p in clip.parameters())
    seconds = {"rendering_cpu_seconds": rendering, "cpu_seconds": time.process_time() - started}
    return {
        "frames": len(frames),
        "stills": len(easy),
        "parameters": parameters,
        "words": words.size - 2,
        "loss": mean,
        **seconds,
    }


def save(clip: Clip, words: Words, out: Path) -> None:
    """Writes the weights in float16, with sizes and words beside them."""
    state = {name: tensor.half().contiguous() for name, tensor in clip.state_dict().items()}
    atomic.write_bytes(out, safetensors_of(state, {"clip": json.dumps({"sizes": SIZES, "words": list(words.ids)})}))


def stills(places: Tensor, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Frames without props, with one laid upon each, up to twice as large as in the worlds, or none.

    Returns:
        uint8 `[N, 3, S, S]`, bool `[N, 13]` of what is seen.
    """
    size, frames, seen = places.shape[-1], [], torch.zeros(count, len(CLASSES), dtype=torch.bool)
    for row in seen:
        place = np.ascontiguousarray(places[int(rng.integers(len(places)))].permute(1, 2, 0).numpy())
        layers, what = [Layer(0, "place", place, None, np.eye(3)[None])], int(rng.integers(len(CLASSES)))
        row[what] = True
        if what < len(PROPS):
            look = make_prop(rng, PROPS[CLASSES[what]], size)
            (x, y), angle = rng.uniform(0.25, 0.75, size=2) * size, rng.uniform(-0.75, 0.75)
            scale = pixels_per_texel(size) * np.exp(rng.uniform(np.log(0.85), np.log(2)))
            middle = tuple((n - 1) / 2 for n in reversed(look.level.shape))
            matrix = pose(np.array([x]), y, angle, scale, 0, middle)
            layers.append(Layer(1, look.name, look.texture, look.level, matrix))
        frames.append(Scene(tuple(layers), 1, size, size).draw(0, with_flow=False).frame)
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous(), seen


def varied(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Frames mirrored, moved, lit and blurred by chance, with noise; uint8 as they came."""
    x = frames.float()
    mirrored = torch.from_numpy(rng.random(len(x)) < 0.5)
    x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
    top, left = rng.integers(0, 9, size=2)
    x = F.pad(x, (4, 4, 4, 4), mode="reflect")[..., top : top + frames.shape[-2], left : left + frames.shape[-1]]
    gain, lift, blur = (torch.from_numpy(rng.random(len(x))).float()[:, None, None, None] for _ in range(3))
    x = x * (0.75 + 0.5 * gain) + 40 * (lift - 0.5)
    x = torch.lerp(x, F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), 0.6 * blur)
    x = x + 6 * torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
    return x.clamp(0, 255).to(torch.uint8)


def contrast(clip: Clip, frames: Tensor, seen: Tensor, rng: np.random.Generator) -> Tensor:
    """CLIP's loss, where a caption is right for every frame of the batch that shows what it names."""
    texts: dict[str, int] = {}
    for row in seen:
        of = int(rng.choice(np.flatnonzero(row)))
        templates = OF_NOTHING if of == len(PROPS) else OF_ACTION
        template = templates[int(rng.integers(len(templates)))]
        texts[template if of == len(PROPS) else caption(CLASSES[of], template)] = of
    right = seen[:, list(texts.values())].float()  # [frames, texts]
    around = [None, None]
    if rng.random() < 0.5:  # vectors as prompts begin with
        counts = rng.integers(0, 17, size=2)
        around = [torch.from_numpy(rng.normal(0, 0.01, (n, clip.token_width))).float() for n in counts]
    with torch.autocast("cpu", torch.bfloat16):
        images = clip.encode_image(frames)
        captions = clip.encode_text([clip.tokens(text) for text in texts], *around)
    images, captions = F.normalize(images.float(), dim=1), F.normalize(captions.float(), dim=1)
    logits = clip.logit_scale.exp() * images @ captions.T
    losses = []
    for scores, target in ((logits, right), (logits.T, right.T)):
        target = target / target.sum(1, keepdim=True).clamp(min=1)
        losses.append(-(target * scores.log_softmax(1)).sum(1).mean())
    return sum(losses) / 2


@torch.no_grad()
def measure(clip: Clip, seed: int = 0) -> dict[str, object]:
    """What names alone tell of frames of worlds that were never trained on, at another size."""
    parts = [rendered(world, size=112) for world in TEST_SEEDS]
    frames, seen, acted = (torch.cat(column) for column in zip(*parts))
    images = F.normalize(torch.cat([clip.encode_image(part) for part in frames.split(256)]), dim=1)
    actions = list(PROPS)
    around = torch.randn(2, 16, clip.token_width, generator=torch.Generator().manual_seed(seed)) * 0.01
    prompts = {
        "action name": clip.encode_text([clip.tokens(name) for name in actions]),
        "prop name": clip.encode_text([clip.tokens(PROPS[name].name) for name in actions]),
        "a video of <action name>": clip.encode_text([clip.tokens(f"a video of {name}") for name in actions]),
        "action name within 16 + 16 random vectors": clip.encode_text(
            [clip.tokens(name) for name in actions], around[0], around[1]
        ),
    }
    one = (seen[:, :-1].sum(1) == 1) & ~seen[:, -1]
    doing = np.stack([(acted == k).numpy() for k in range(len(actions))], axis=1)
    noise = torch.rand(seen[:, :-1].shape, generator=torch.Generator().manual_seed(seed))
    perfect = seen[:, :-1] + 0.1 * noise  # in any order among frames that show the same
    figures: dict[str, object] = {
        "test_seeds": list(TEST_SEEDS),
        "frames": len(frames),
        "frames_of_one_prop": int(one.sum()),
        "frames_of_actions": int((acted >= 0).sum()),
        "frames_without_prop": int(seen[:, -1].sum()),
        "chance": 1 / len(actions),
        "mean_average_precision_of_props_by_chance": seen[:, :-1].float().mean().item(),
        "mean_average_precision_of_actions_by_chance": float(doing.mean()),
        "mean_average_precision_of_actions_by_perfect_props": mean_precision(doing, perfect),
    }
    for name, texts in prompts.items():
        scores = images @ F.normalize(texts, dim=1).T
        best = scores.argmax(1)
        right = best[one] == seen[one, :-1].int().argmax(1)
        figures[name] = {
            "accuracy_where_one_prop_is_seen": right.float().mean().item(),
            "accuracy_of_the_action_within_actions": (best == acted)[acted >= 0].float().mean().item(),
            "mean_average_precision_of_props": mean_precision(seen[:, :-1].numpy(), scores),
            "mean_average_precision_of_actions": mean_precision(doing, scores),
        }
        if name == "action name":
            which = seen[one, :-1].int().argmax(1)
            figures["accuracy_by_class"] = {
                action: right[which == k].float().mean().item() for k, action in enumerate(actions)
            }
    return figures


def mean_precision(labels: np.ndarray, scores: Tensor) -> float:
    return float(np.nanmean(video_average_precision(labels, scores.float().numpy())))


if __name__ == "__main__":
    main()
