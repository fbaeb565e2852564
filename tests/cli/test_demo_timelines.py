"""The demo's timelines: what is told of the untrimmed world, what the report shows, and when tags are learned from anew."""

import csv
import json

import numpy as np
import pytest

from vitascope import api
from vitascope.cli.demo_timelines import (
    LEAST,
    Tagged,
    date_actions,
    earlier_run,
    parts,
    stretches,
    synthetic_tags,
    true_stretches,
)
from vitascope.datasets.worlds.untrimmed import UntrimmedWorld
from vitascope.datasets.worlds.write import write_world
from vitascope.structures import Segments


@pytest.fixture(scope="module")
def dated(tmp_path_factory):
    """A small world, a library with an encoder, and timelines that were learned from its tags."""
    home = tmp_path_factory.mktemp("demo")
    world = UntrimmedWorld(num_videos=4, seconds=8, size=32, fps=8, props=True)
    write_world(world, home / "data" / "untrimmed")
    config = api.configure("mme-tiny", ["length=1", "batch_size=2"])
    run = api.train("mme-tiny", home / "data", home / "library", config=config).run
    tagged = synthetic_tags(home / "data", home)
    return home, world, tagged, run, date_actions(tagged, home / "library", run, home / "timelines")


def test_the_true_times_of_the_world_are_written_as_a_list(dated):
    _, world, tagged, _, _ = dated
    found = true_stretches(tagged.truth)
    for video in (world[i] for i in range(len(world))):
        times = [(start, end) for start, end, _ in found[f"{video.id}.mp4"]]
        assert np.allclose(times, video.segments.times_seconds)
        assert tuple(label for *_, label in found[f"{video.id}.mp4"]) == video.segments.labels
    with tagged.tags.open(newline="") as file:
        assert {row["video"] for row in csv.DictReader(file)} == set(found)


def test_timelines_are_written_and_the_report_shows_found_and_true_times(dated):
    home, _, tagged, _, done = dated
    assert done.num_videos == 4 and (home / "timelines" / "index.html").is_file()
    timeline, table = parts(tagged, done)
    assert [name for name, _ in timeline.lanes[:2]] == ["untrimmed_00000", "in truth"] and len(timeline.lanes) == 6
    assert [row[0] for row in table.rows] == ["0.1", "0.3", "0.5", "0.7"]
    assert all(0 <= value <= 100 for _, value in table.rows) and "27" not in table.caption
    assert "with the help of a tiny CLIP" in timeline.caption
    (alone,) = parts(tagged._replace(truth=None, clip=None), done)
    assert alone.caption.startswith("Learned from tags of whole videos. ")


def test_the_same_tags_are_not_learned_from_again_and_other_ones_are(dated):
    home, _, tagged, run, done = dated
    assert earlier_run(home / "library", f"run:{run}", tagged) == done.run
    again = date_actions(tagged, home / "library", run, home / "timelines")
    assert (again.run, again.num_segments) == (done.run, done.num_segments)
    tagged.tags.write_text(tagged.tags.read_text())  # as an editor saves it
    assert earlier_run(home / "library", f"run:{run}", tagged) is None
    assert earlier_run(home / "library", f"run:{run}", Tagged(tagged.truth, tagged.data)) is None


def test_of_what_begins_together_the_shorter_lies_on_top_and_weak_findings_are_not_shown():
    times = np.array([[0.0, 2.0], [0.0, 5.0], [6.0, 7.0]])
    found = Segments(times, ("a", "b", "c"), np.array([0.9, 0.5, LEAST - 0.1]))
    assert stretches(found, LEAST) == ((0.0, 5.0, "b"), (0.0, 2.0, "a"))


def test_a_manifest_that_stays_the_same_keeps_its_time(tmp_path):
    world = UntrimmedWorld(num_videos=1, seconds=4, size=32, fps=8)
    write_world(world, tmp_path)
    before = (tmp_path / "manifest.csv").stat().st_mtime_ns
    write_world(world, tmp_path)
    assert (tmp_path / "manifest.csv").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "truth.json").read_text())["videos"].keys() == {"untrimmed_00000"}
