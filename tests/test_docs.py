"""The README's commands and example run, on generated video, in the order in which they stand."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    from vitascope.video.writer import VideoWriter, write_mask_png

    root = tmp_path_factory.mktemp("docs")
    (root / "recordings").mkdir()
    rng = np.random.default_rng(0)
    for name in ("monday", "tuesday", "friday"):
        texture = rng.integers(0, 255, (3, 24, 24), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
        frames = np.stack([np.roll(texture, 2 * t, axis=2) for t in range(75)])
        with VideoWriter(root / "recordings" / f"{name}.mp4", 25) as writer:
            writer.write(frames)
    (root / "recordings" / "tags.csv").write_text(
        "video,labels\nmonday.mp4,calm|fight\ntuesday.mp4,calm\nfriday.mp4,\n"
    )
    mask = np.zeros((96, 96), np.uint8)
    mask[30:60, 20:60] = 1
    write_mask_png(root / "first.png", mask)
    return root


def test_readme_commands_run_in_order(folder):
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("vitascope ")]
    assert {shlex.split(line)[1] for line in commands} == {
        "scan",
        "train",
        "embed",
        "search",
        "segment",
        "runs",
        "localize",
    }
    for line in commands:
        words = shlex.split(line)
        done = subprocess.run(
            [sys.executable, "-m", "vitascope.cli.main", *words[1:]], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip(), f"{line} printed nothing"


def test_readme_python_example_runs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("h264 3.0 torch.Size([3, 3, 96, 96])")


def test_readme_list_of_labelled_clips_is_read(folder):
    from vitascope.datasets.load import load_labelled

    (text,) = blocks("csv")
    (folder / "labelled.csv").write_text(text)
    first, *_, last = records = load_labelled(folder / "labelled.csv")
    assert all(Path(record.path).is_file() for record in records)
    assert (first.labels, first.start_seconds, first.end_seconds, first.split) == (("calm",), 0.0, 1.5, "train")
    assert (last.end_seconds, last.split) == (None, "test")


def test_readme_diagram_names_only_verbs_that_exist():
    from vitascope.cli.main import app

    verbs = re.findall(r"(\w+) +──►", README)
    assert len(verbs) == 7 and set(verbs) <= {command.name for command in app.registered_commands}


def test_readme_names_only_make_targets_that_exist():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for target in re.findall(r"^make (\S+)", "\n".join(blocks("sh")), re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
