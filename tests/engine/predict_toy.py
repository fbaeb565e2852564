"""A made-up film and a session that follows nothing: its mask moves one pixel a frame and depends on every frame seen."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitascope.engine import predict
from vitascope.engine.predict import Drawing, Job, segment
from vitascope.store.cutouts import Cutout
from vitascope.structures import Gap, Masks, ObjectStatus, SegmentSummary
from vitascope.video import masks, overlay, writer
from vitascope.video.index import build

SIZE = (48, 64)


class ToySource:
    size, fps = SIZE, 10.0

    def __init__(self, count: int, missing: tuple[int, ...] = (), sleep_seconds: float = 0.0) -> None:
        self.times_seconds = np.arange(count) / self.fps
        self.duration_seconds = count / self.fps
        self.missing, self.sleep_seconds = missing, sleep_seconds
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.times_seconds)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        return tuple(Gap(i / self.fps, (i + 1) / self.fps) for i in self.missing)

    def name(self, number: int) -> str:
        return f"{number:05d}"

    def frame(self, number: int) -> torch.Tensor | None:
        self.asked.append(number)
        time.sleep(self.sleep_seconds)
        if number in self.missing:
            return None
        return torch.full((3, *SIZE), number % 256, dtype=torch.uint8)


class ToySession:
    """Object `o` moves by `o` columns a frame; it is absent in every tenth frame. With a stride frames are held back."""

    def __init__(self, stride: int = 1) -> None:
        self.stride, self.index, self.total = stride, 0, 0
        self.masks: dict[int, np.ndarray] = {}
        self.held: list[float] = []
        self.status: tuple[ObjectStatus, ...] = ()

    def add_object(self, frame, mask, object_id) -> None:
        self.masks[object_id] = np.array(mask)
        self.status = (*self.status, ObjectStatus(0, 0.0, object_id, "visible", 1.0, 0.0))

    def step(self, frame, seconds=None) -> Masks:
        self.total += int(frame[0, 0, 0])
        self.held.append(seconds)
        return self._release() if len(self.held) == self.stride else self._masks([])

    def finish(self) -> Masks:
        return self._release()

    def _release(self) -> Masks:
        made, self.status = [], ()
        for seconds in self.held:
            self.index += 1
            frame, is_away = np.zeros(SIZE, np.uint8), self.index % 10 == 0
            for o, mask in self.masks.items():
                self.masks[o] = np.roll(mask, o, 1)
                frame[self.masks[o] & (not is_away)] = o
                state = "absent" if is_away else "visible"
                scores = {"total": float(self.total), "odd": float("nan")}
                self.status += (ObjectStatus(self.index, seconds, o, state, 0.5 + self.total % 7 / 20, 0.0, scores),)
            made.append(frame)
        self.held = []
        return self._masks(made)

    def _masks(self, made) -> Masks:
        if not made:
            self.status = ()
        return Masks(np.array(made, np.uint8).reshape(-1, *SIZE), np.zeros(len(made)))

    def state(self):
        tensors = {str(o): torch.from_numpy(mask) for o, mask in self.masks.items()}
        return tensors, {"index": self.index, "total": self.total, "held": self.held}

    def load_state(self, tensors, plain) -> None:
        self.masks = {int(o): tensor.numpy() for o, tensor in sorted(tensors.items())}
        self.index, self.total, self.held = plain["index"], plain["total"], list(plain["held"])


def objects() -> dict[int, np.ndarray]:
    first, second = np.zeros((2, *SIZE), bool)
    first[4:10, 4:10] = True
    second[14:20, 10:16] = True
    return {1: first, 3: second}


DRAWING = Drawing(
    writer.write_mask_png, masks.read_mask, masks.encode_rle, overlay.write_film, overlay.tile, overlay.write_sheet
)


def run_toy(
    folder: Path,
    source: ToySource,
    start: int = 0,
    *,
    stride: int = 1,
    as_rle: bool = False,
    session=ToySession,
    **rest,
) -> SegmentSummary:
    cutout = Cutout(folder, {"video": "toy", "start": start})
    return segment(Job(lambda: session(stride), source, start, objects(), cutout, DRAWING, as_rle, **rest))


def files_of(folder: Path) -> dict[str, Any]:
    """The bytes of all files; of a film the times of its frames, as the encoder's look-ahead does not repeat itself."""
    return {str(path.relative_to(folder)): _content(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _content(path: Path) -> Any:
    return build(path).times_seconds.tolist() if path.suffix == ".mp4" else path.read_bytes()


if __name__ == "__main__":  # predict_toy.py FOLDER COUNT START STRIDE SLEEP: what the tests kill
    count, start, stride = map(int, sys.argv[2:5])
    predict.SAVE_SECONDS = 0.05
    source = ToySource(count, (7,), float(sys.argv[5]))
    done = run_toy(
        Path(sys.argv[1]), source, start, stride=stride, progress=lambda s: print(s.stage, s.step, flush=True)
    )
    sys.exit(128 + done.signal if done.signal else 0)
