"""A tiny contrastive method that the engine trains in several processes, and how a test starts them."""

from __future__ import annotations

import os
import socket
import traceback
from pathlib import Path

import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from vitascope.engine.checkpoint import folders
from vitascope.engine.settings import TrainSettings
from vitascope.engine.train import train
from vitascope.methods.base import Batch, Draw, Frozen, Method, Optim, Snippet, Stage
from vitascope.methods.hico.loss import hico_loss, topical_loss, visual_loss
from vitascope.methods.hico.targets import unknown_pairs
from vitascope.structures import Record, VideoError

OPTIM = Optim(name="sgd", lr=0.5, warmup=0, clip_norm=None, weight_decay=0)
CLIPS, DIM = 3, 6


class ContrastiveConfig(Frozen):
    batch_size: int = 7
    scope: str = "global"
    shards: int = 1  # in one process: into how many parts the topical term is cut, as so many processes would
    good: int = 20
    bad: int = 0
    micro_batch: int | None = None


class ContrastiveSamples(Dataset):
    def __init__(self, records: list[Record], config: ContrastiveConfig) -> None:
        self.records, self.config = records, config

    def __getitem__(self, draw: Draw) -> Batch:
        path = self.records[draw.index].path
        if path.startswith("bad"):
            raise VideoError(path, "damaged", "it was made so")
        generator = torch.Generator().manual_seed(draw.seed)
        place = round(draw.progress * 3 * self.config.batch_size) % self.config.batch_size  # there are 3 steps
        return {
            "clips": torch.randn(CLIPS, 5, generator=generator, dtype=torch.float64),
            "weights": torch.rand(CLIPS, CLIPS, generator=generator, dtype=torch.float64),
            "descriptors": torch.randn(CLIPS, 4, generator=generator, dtype=torch.float64),
            "video": torch.tensor(draw.index),
            "place": torch.tensor(place),
        }


class Contrastive(Method):
    snippet = Snippet(num_frames=1, stride_frames=1, size=1)

    def __init__(self, config: ContrastiveConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.GELU())
        self.visual, self.topical = nn.Linear(8, DIM), nn.Linear(8, DIM)
        self.predictor = nn.Sequential(nn.Linear(2 * DIM, 8), nn.ReLU(), nn.Linear(8, 1))
        self.double()

    def stages(self) -> list[Stage]:
        return [Stage(name="only", length=3, unit="steps", batch_size=self.config.batch_size, optim=OPTIM)]

    def samples(self, stage: Stage, records: list[Record]) -> Dataset:
        return ContrastiveSamples(records, self.config)

    def pair_logits(self, rows: Tensor) -> Tensor:
        count = len(rows)
        first, second = rows[:, None].expand(-1, count, -1), rows[None].expand(count, -1, -1)
        return self.predictor(torch.cat([first, second], -1)).squeeze(-1)

    def terms(self, visual: Tensor, topical: Tensor, batch: Batch) -> Batch:
        kept = {"weights": batch["weights"], "videos": batch["video"], "descriptors": batch["descriptors"]}
        return hico_loss(visual, topical, self.pair_logits, scope=self.config.scope, most_alike=5.0, **kept)

    def training_step(self, batch: Batch) -> Batch:
        hidden = self.encoder(batch["clips"])
        visual, topical = (F.normalize(head(hidden), dim=-1) for head in (self.visual, self.topical))
        if self.config.shards == 1:
            return self.terms(visual, topical, batch)
        loss = self.terms(visual, topical, batch)["visual"] * 0  # every process's part, in one
        size, shards = self.config.batch_size, self.config.shards
        for shard in range(shards):
            first, last = (rank * size // shards for rank in (shard, shard + 1))
            mine = (batch["place"] >= first) & (batch["place"] < last)
            loss = loss + self.shard_loss(visual, topical, batch, mine) * mine.sum() / len(mine)
        return {"loss": loss}

    def shard_loss(self, visual: Tensor, topical: Tensor, batch: Batch, mine: Tensor) -> Tensor:
        """The visual term of all, and the topical one of some."""

        def unknown(kept: Tensor) -> Tensor | None:
            return unknown_pairs(CLIPS, batch["video"][kept], batch["descriptors"][kept], 5.0)

        near = visual_loss(visual, excluded=unknown(torch.ones_like(mine)))
        logits = self.pair_logits(topical[mine].flatten(0, 1))
        return near + topical_loss(logits, CLIPS, weights=batch["weights"][mine], excluded=unknown(mine))

    def idle_step(self) -> Batch:
        none = torch.zeros(0, CLIPS, DIM, dtype=torch.float64, requires_grad=True)
        batch = {
            "weights": none.new_zeros(0, CLIPS, CLIPS),
            "descriptors": none.new_zeros(0, CLIPS, 4),
            "video": torch.zeros(0, dtype=torch.int64),
        }
        idle_calls.append(1)
        return self.terms(none, none, batch)

    def features(self, clips: Tensor) -> Tensor:
        return clips.float().mean((1, 3, 4))


idle_calls: list[int] = []


def run(config: ContrastiveConfig, run_dir: Path) -> None:
    torch.manual_seed(0)
    method = Contrastive(config)
    names = [*(f"good-{i}.mp4" for i in range(config.good)), *(f"bad-{i}.mp4" for i in range(config.bad))]
    records = [Record(path=name, id=name) for name in names]
    settings = TrainSettings(device="cpu", log_every=1, num_workers=0, micro_batch=config.micro_batch)
    train(method, {"train": records}, run_dir, settings)


def weights_of(run_dir: Path) -> dict[str, Tensor]:
    return load_file(folders(run_dir)[0] / "model.safetensors")


def _in_process(rank: int, task, num_processes: int, port: int, args: tuple) -> None:
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ.update(address, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(num_processes))
    try:
        task(rank, *args)
    except BaseException:
        traceback.print_exc()
        raise


def in_processes(num_processes: int, task, *args) -> None:
    """Call `task(rank, *args)` in so many processes that can form a group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_in_process, (task, num_processes, port, args), nprocs=num_processes)
