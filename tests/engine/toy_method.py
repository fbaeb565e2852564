"""A tiny method on made-up samples, with everything that makes a resume hard: dropout, buffers, an averaged copy."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.utils.data import Dataset

from vitascope.engine.settings import TrainSettings
from vitascope.engine.train import TrainResult, train
from vitascope.methods.base import Batch, Draw, Frozen, Method, Optim, Snippet, Stage
from vitascope.structures import Record, VideoError


class ToyConfig(Frozen):
    width: int = 4
    stages: tuple[Stage, ...] = (Stage(name="only", length=3, batch_size=4, optim=Optim(lr=0.01)),)
    dropout: float = 0.3
    sleep_seconds: float = 0.0
    double: bool = False
    batch_norm: bool = True


class ToySamples(Dataset):
    """The target is a fixed function of the input; the input follows from the record and the draw's seed."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records

    def __getitem__(self, draw: Draw) -> Batch:
        path = self.records[draw.index].path
        if path.startswith("bad"):
            raise VideoError(path, "damaged" if draw.index % 2 else "empty", "it was made so")
        if path.startswith("dies"):
            os.kill(os.getpid(), signal.SIGKILL)
        if path.startswith("bug"):
            raise KeyError("a mistake of the program")
        x = torch.randn(4, generator=torch.Generator().manual_seed(draw.seed)) + draw.index
        return {"x": x, "y": x.sum().view(1).sin()}


class Toy(Method):
    snippet = Snippet(num_frames=1, stride_frames=1, size=1)

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = nn.Sequential(nn.Linear(4, config.width), nn.BatchNorm1d(config.width), nn.GELU())
        if not config.batch_norm:
            self.encoder[1] = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, 1)
        self.teacher = nn.Parameter(torch.zeros(1, config.width), requires_grad=False)
        self.register_buffer("seen", torch.zeros(()))
        if config.double:
            self.double()

    def stages(self) -> list[Stage]:
        return list(self.config.stages)

    def samples(self, stage: Stage, records: list[Record]) -> Dataset:
        return ToySamples(records)

    def training_step(self, batch: Batch) -> Batch:
        with torch.no_grad():
            self.teacher.mul_(0.9).add_(self.head.weight, alpha=0.1)
            self.seen.add_(len(batch["x"]))
        if self.config.sleep_seconds:
            time.sleep(self.config.sleep_seconds)
        x = batch["x"].to(self.head.weight.dtype)
        hidden = dropout(self.encoder(x), self.config.dropout, training=True)
        error = self.head(hidden) - batch["y"].to(hidden.dtype)
        return {"loss": error.square().mean(), "error": error.abs().mean()}

    def features(self, clips: Tensor) -> Tensor:
        return clips.float().mean((1, 3, 4))


def make_toy(config: ToyConfig | None = None) -> Toy:
    torch.manual_seed(0)
    return Toy(config or ToyConfig())


def records_of(*paths: str) -> list[Record]:
    return [Record(path=path, id=path) for path in paths]


def good(count: int) -> list[Record]:
    return records_of(*(f"good-{index}.mp4" for index in range(count)))


TWO_STAGES = (
    Stage(name="first", length=7, batch_size=4, optim=Optim(lr=0.01)),  # 7 * 10 / 4 = 18 steps
    Stage(name="second", length=42, unit="steps", batch_size=3, learns=("head", "encoder.0"), optim=Optim(name="lars")),
)


def run_toy(run_dir: Path, config: ToyConfig, count: int = 10, **settings: object) -> TrainResult:
    return train(make_toy(config), {"train": good(count)}, run_dir, TrainSettings(device="cpu", **settings))


def files_of(run_dir: Path) -> dict[str, bytes]:
    """The bytes of the newest checkpoint and of the metrics; of trainer.json what does not tell how it was run."""
    newest = max((run_dir / "checkpoints").glob("step-*"))
    found = {path.name: path.read_bytes() for path in newest.iterdir()}
    trainer = json.loads(found.pop("trainer.json"))
    trainer.pop("settings")
    return {**found, "trainer": json.dumps(trainer).encode(), "metrics": (run_dir / "metrics.jsonl").read_bytes()}


if __name__ == "__main__":  # a run of its own for tests of signals and of several processes
    torch.set_num_threads(1)
    options = json.loads(sys.argv[2])
    bad = records_of(*(f"bad-{index}.mp4" for index in range(options.pop("bad", 0))))
    all_records = [*good(options.pop("good", 10)), *bad]
    toy = make_toy(ToyConfig(**options.pop("config", {})))
    result = train(toy, {"train": all_records}, sys.argv[1], TrainSettings(device="cpu", **options))
    if os.environ.get("RANK", "0") == "0":
        print(
            json.dumps({"step": result.step, "interrupted": result.interrupted, "unreadable": len(result.unreadable)})
        )
    sys.exit(128 + result.interrupted if result.interrupted else 0)
