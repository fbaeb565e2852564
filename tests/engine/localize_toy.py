"""Videos in which coloured boxes come and go, an encoder that sees colours alone, and calls of `localize`, for its test."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import torch
from torch import nn

from vitascope.datasets import annotations, feature_files, folder
from vitascope.engine import localize as engine
from vitascope.methods.base import Snippet
from vitascope.methods.cbp_vlp.method import CbpVlp
from vitascope.video import check, snippets
from vitascope.video.writer import VideoWriter

FPS = 10
WHEN = {"red": (1.0, 2.6), "blue": (3.6, 5.0)}  # seconds
TAGS = {"a.mp4": ("red",), "b.mp4": ("blue",), "c.mp4": ("red", "blue"), "d.mp4": ("blue",), "sub/e.mp4": ()}
TINY = ("warmup_steps=60", "width=64", "num_heads=2", "depth=1", "window=1", "dropout=0", "batch_size=4")
TINY = (*TINY, "hop_seconds=0.2", "cbp_optim.lr=0.01")


def write_video(path, labels, seconds=6.0, times_seconds=None):
    rng = np.random.default_rng(len(str(path)))
    count = int(seconds * FPS) if times_seconds is None else len(times_seconds)
    times = np.arange(count) / FPS if times_seconds is None else np.asarray(times_seconds)
    frames = rng.integers(90, 110, (count, 3, 48, 64), dtype=np.uint8)
    for label in labels:
        start, end = WHEN[label]
        shown = (times >= start) & (times < end)
        frames[shown, :, 8:40, 8:40] = np.array([230, 20, 20] if label == "red" else [20, 20, 230])[:, None, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, FPS) as writer:
        writer.write(frames, times_seconds)


def write_list(path, rows):
    path.write_text("video,labels\n" + "".join(f"{name},{'|'.join(labels)}\n" for name, labels in rows.items()))
    return path


def write_data(root):
    for name, labels in TAGS.items():
        write_video(root / name, labels or ("red",))  # the last one has an action that nobody has tagged
    return write_list(root / "tags.csv", TAGS)


class Colours(nn.Module):
    """How red and how blue a clip is."""

    snippet = Snippet(num_frames=2, stride_frames=1, fps=FPS, size=32)
    dim, name = 3, "colours"

    def __init__(self, pause_seconds=0.0):
        super().__init__()
        self.scale, self.calls, self.pause_seconds = nn.Parameter(torch.tensor(4.0)), 0, pause_seconds

    def features(self, clips):
        self.calls += 1
        time.sleep(self.pause_seconds)
        red, green, blue = (clips.float() / 255).mean((1, 3, 4)).unbind(1)
        return torch.stack([red - green, blue - green, torch.ones_like(red)], 1) * self.scale


def tools(encoder=None):
    made = {"colours": encoder or Colours()}
    encoders = SimpleNamespace(Kind=Literal["colours", "clip"], make_encoder=lambda kind, weights: made[kind])

    def load(run):
        from vitascope import api

        return api.load_method(run)

    return engine.Tools(folder, annotations, feature_files, check, snippets, load, encoders, CbpVlp)


def learn(tags, out, *, seen_by=None, changes=TINY, settings=None, **how):
    """Learn from a list as `vitascope localize --tags` does, with `seen_by` as the encoder `colours`."""
    how.setdefault("encoder", "" if how.get("run") else "colours")
    settings = {"device": "cpu"} | (settings or {})
    return engine.localize(tags, (), tools(seen_by), out=out, changes=changes, settings=settings, **how)


class Slow(CbpVlp):
    """One that takes its time to learn, and learns the same."""

    def training_step(self, batch):
        time.sleep(0.05)
        return super().training_step(batch)


if __name__ == "__main__":
    torch.set_num_threads(1)
    tags, out, what = sys.argv[1:4]
    slow, changes = Colours(pause_seconds=0.3), TINY
    if what == "embedding":
        changes = (*TINY, "hop_seconds=0.1")
    else:
        slow, CbpVlp = None, Slow
    summary = learn(Path(tags), out, seen_by=slow, changes=changes, settings={"save_every_steps": 5, "log_every": 1})
    sys.exit(128 + summary.signal if summary.signal else 0)
