"""`vitascope repro`: what it prints, what it refuses; and, slowly, that a killed one goes on."""

import json
import signal
import subprocess
import sys
import time

import pytest

from vitascope import api
from vitascope.cli import main
from vitascope.structures import ClaimsSummary

CLAIMS = (("ours is better", True, 9.7, 8.2, 11.1), ("theirs is better", False, -9.7, -11.1, -8.2))


def test_claims_are_told_with_their_verdicts(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(api, "repro", lambda *a, **k: asked.append((a, k)) or ClaimsSummary("x", "docs/x.md", CLAIMS))
    assert main.main(["repro", "mme-motion", "--out", "pages", "--workers", "1", "--small"]) == 0
    held, failed, page = capsys.readouterr().out.splitlines()
    assert held.split() == ["held", "+9.7", "points", "(+8.2", "to", "+11.1)", "ours", "is", "better"]
    assert failed.startswith("NOT HELD") and page == "page: docs/x.md"
    ((arguments, options),) = asked
    assert [str(argument) for argument in arguments] == ["mme-motion", "pages", "vitascope-repro"]
    assert options == {"is_small": True, "num_workers": 1, "progress": True}


def test_claims_are_told_as_json(monkeypatch, capsys):
    monkeypatch.setattr(api, "repro", lambda *a, **k: ClaimsSummary("x", "docs/x.md", CLAIMS))
    assert main.main(["repro", "mme-motion", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["claims"][1] == list(CLAIMS[1])


def test_unknown_claims_are_refused_in_one_sentence(tmp_path, capsys):
    assert main.main(["repro", "mme-sound", "--out", str(tmp_path), "--work", str(tmp_path / "work")]) == 1
    assert (
        capsys.readouterr().err
        == "error: claims (mme-sound) must be one of: mme-motion, mme-shuffle, hico, wtal, wtal-world\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mme-motion", "mme-shuffle", "hico", "wtal-world"])
def test_small_setting_runs_through_a_kill(name, tmp_path):
    command = [sys.executable, "-m", "vitascope.cli.main", "repro", name, "--small", "--out", "page"]
    work = tmp_path / "vitascope-repro"
    first = subprocess.Popen(command, cwd=tmp_path)
    while not list(work.glob("*/result.json")):
        assert first.poll() is None
        time.sleep(0.5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = {path: path.stat().st_mtime_ns for path in work.glob("*/result.json")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(path.stat().st_mtime_ns == kept[path] for path in kept)
    told = json.loads((tmp_path / "page" / f"{name}-small.json").read_text())
    assert len(told["claims"]) == len(done.stdout.splitlines()) - 1
    assert "says nothing about the claims" in (tmp_path / "page" / f"{name}-small.md").read_text()
