"""Retrieval of a method on real files, by reading them, with its report."""

import json
import re

import numpy as np
import pytest

from vitascope.evaluation.retrieval_run import evaluate_run
from vitascope.methods.base import Frozen, Method, Snippet
from vitascope.video.snippets import spread_clips
from vitascope.video.writer import VideoWriter


class Plain(Frozen):
    """Nothing to choose."""


class MeanColour(Method):
    """An encoder that gives the mean of each channel."""

    config = Plain()
    snippet = Snippet(num_frames=2, stride_frames=1, size=32)

    def stages(self):
        return []

    def samples(self, stage, records):
        raise AssertionError

    def training_step(self, batch):
        raise AssertionError

    def features(self, clips):
        return clips.float().mean((1, 3, 4))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three red and three blue videos, of unlike shapes, and one that cannot be read."""
    root = tmp_path_factory.mktemp("retrieval") / "data"
    for number in range(6):
        name, channel = (("red", 0), ("blue", 2))[number % 2]
        (root / name).mkdir(parents=True, exist_ok=True)
        frames = np.full((6, 3, 48, 64 + 16 * (number // 2)), 20 + 4 * number, np.uint8)
        frames[:, channel] = 200
        with VideoWriter(root / name / f"{number}.mp4", 25) as writer:
            writer.write(frames)
    (root / "red/bad.mp4").write_bytes(b"")
    return root


def test_a_run_finds_what_has_its_colour_and_says_how(data, tmp_path):
    asked = []

    def load(folder):
        asked.append(folder)
        return MeanColour()

    how = {"num_clips": 2, "device": "cpu"}
    result = evaluate_run(load, tmp_path, data, None, None, spread_clips, out=tmp_path / "report", **how)
    assert asked == [tmp_path] and list(result.unreadable) == ["red/bad.mp4"]
    assert result.num_queries == 6 and result.recall[1] == 1.0 and result.chance[1] == pytest.approx(0.4)
    assert result.protocol.startswith(
        "Features of MeanColour: at most 2 clips spread over a record, each of 2 frames, 1 "
    )
    told = json.loads((tmp_path / "report/report.json").read_text())
    (figure,) = (part for part in told["parts"] if isinstance(part, dict) and part["kind"] == "figure")
    assert [row["shape"] for row in figure["rows"]] == [[6, 3, 96, 96]] * 6  # the query and the five others
    assert re.match(
        r"blue/1\.mp4 \(blue\) finds blue/\d\.mp4 \(blue\), blue/\d\.mp4 \(blue\), red/", figure["rows"][0]["name"]
    )
    titles = [part["title"] for part in told["parts"] if isinstance(part, dict)]
    assert titles == ["Found", "Classes", "What some queries find", "Nearest", "Not read"]
    assert told["facts"]["centre"] == "none" and told["facts"]["leave out"] == "file"


def test_a_gallery_of_its_own_is_looked_among(data, tmp_path):
    result = evaluate_run(lambda _: MeanColour(), tmp_path, data, data, None, spread_clips, num_clips=1, device="cpu")
    assert "in a gallery of 6" in result.protocol and result.recall[1] == 1.0
    assert [len(query.nearest) for query in result.queries] == [5] * 6
