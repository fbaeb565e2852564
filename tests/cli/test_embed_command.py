"""Which run `vitascope embed` takes, and that it says so."""

from typer.testing import CliRunner

from vitascope.cli.main import app
from vitascope.store.library import Library
from vitascope.structures import EmbedSummary


def test_embed_tells_which_of_several_finished_runs_it_takes(tmp_path, monkeypatch):
    taken = []

    def embed(library, *, run, **_):
        taken.append(run)
        return EmbedSummary(str(library), str(run), 0, 0, 0, 0, ())

    def told(*words):
        return CliRunner().invoke(app, ["embed", "--library", str(tmp_path / "library"), *words]).output

    monkeypatch.setattr("vitascope.api.embed", embed)
    with Library(tmp_path / "library", create=True) as library:
        first, second, _ = (library.runs.new_run("a", "mme").id for _ in range(3))
        library.runs.finish(first)
        assert "choose with" not in told() and taken == [None]
        library.runs.finish(second)
        newest = library.finished_run()
        assert f"run {newest}: the latest finished of 2; choose with --run" in told() and taken[-1] == newest
        assert "choose with" not in told("--run", first) and taken[-1] == first
