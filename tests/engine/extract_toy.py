"""A method whose vectors tell which clip they came of, and videos that are text files, for test_extract.py."""

import os
import sys
import time

import torch
from torch import nn

from vitascope.engine.extract import ExtractSettings, extract
from vitascope.methods.base import Method, Snippet
from vitascope.store.catalogue import Scanned, content_hash
from vitascope.store.library import Library
from vitascope.structures import Record, VideoError


class Mean(Method):
    """The first two channels' means: the number of the video, and of the snippet."""

    snippet = Snippet(num_frames=2, stride_frames=1, size=4)

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))
        self.hook, self.shapes = None, []

    def stages(self):
        return []

    def samples(self, stage, records):
        return None

    def training_step(self, batch):
        return batch

    def features(self, clips):
        if self.hook:
            self.hook()
        self.shapes.append((len(clips), clips.shape[-2]))
        return clips.float().mean((1, 3, 4))[:, :2] * self.scale


class Stream:
    """Half a second from snippet to snippet; the file says how many there are."""

    fps, window_seconds, hop_seconds = 25.0, 1.0, 0.5

    def __init__(self, record, height=4, fails_at=None, gaps=()):
        self.record, self.height, self.fails_at, self.gaps = record, height, fails_at, gaps

    def __iter__(self):
        number = int(os.path.basename(self.record.path).split(".")[0])
        with open(self.record.path) as file:
            count = int(file.read())
        for i in range(count):
            if i == self.fails_at:
                raise VideoError(self.record.path, "damaged", "it ends here")
            clip = torch.zeros(2, 3, self.height, 4, dtype=torch.uint8)
            clip[:, 0], clip[:, 1] = number, i
            yield (i * 0.5, i * 0.5 + 1), clip


def fill(library, folder, counts):
    """Write and scan videos 0.mp4, 1.mp4, ... with so many snippets each."""
    paths = [str(folder / f"{number}.mp4") for number in range(len(counts))]
    for path, count in zip(paths, counts):
        with open(path, "w") as file:
            file.write(str(count))
        status = os.stat(path)
        metadata = {"duration_seconds": 0.5 * count + 0.5}
        result = Scanned(path, status.st_size, status.st_mtime_ns, content_hash(path), "done", metadata=metadata)
        library.catalogue.add([result])
    return paths


if __name__ == "__main__":
    torch.set_num_threads(1)
    method = Mean()
    method.hook = lambda: (print("at work", flush=True), time.sleep(0.01))
    with Library(sys.argv[1]) as library:
        records = [Record(entry.path) for entry in library.catalogue.entries()]
        settings = ExtractSettings(batch_size=4, device="cpu", dtype="float32")
        sys.exit(128 + (extract(method, "m", records, Stream, library, settings).interrupted or -128))
