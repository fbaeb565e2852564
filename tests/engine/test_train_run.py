"""Training as a run of a library: what it refuses and advises, how it is listed and gone on with."""

import os
import re
import shlex
import signal
import time
from dataclasses import replace

import pytest
import torch
from toy_method import Toy, ToyConfig, ToySamples, good, records_of
from typer.testing import CliRunner

import vitascope.engine.train_run as train_run_module
from vitascope.cli.main import app
from vitascope.cli.runs import lines as lines_of_runs
from vitascope.cli.train import lines
from vitascope.engine.configure import override
from vitascope.engine.log import read_timing, share_waited
from vitascope.engine.run import OtherRun
from vitascope.engine.settings import TrainSettings
from vitascope.engine.train_run import (
    Plan,
    advice_on_batch,
    advice_on_shots,
    advice_on_waiting,
    changes,
    train_plan,
    train_run,
    with_shots,
)
from vitascope.methods.base import Optim, Stage
from vitascope.store.library import Library
from vitascope.store.schema import LibraryError
from vitascope.structures import Record


class FlowConfig(ToyConfig):
    flow: str = "farneback"
    needs_flow: bool = True
    memory_mb: int = 0
    read_seconds: float = 0.0
    stages: tuple[Stage, ...] = (Stage(name="only", length=24, unit="steps", batch_size=2, optim=Optim(lr=0.01)),)


class SlowSamples(ToySamples):
    def __init__(self, records, seconds):
        super().__init__(records)
        self.seconds = seconds

    def __getitem__(self, draw):
        time.sleep(self.seconds)
        return super().__getitem__(draw)


class FlowToy(Toy):
    def samples(self, stage, records):
        return SlowSamples(records, self.config.read_seconds)


@pytest.fixture
def library(tmp_path):
    with Library(tmp_path / "library", create=True) as library:
        yield library


def run(library, steps=None, **changes):
    torch.manual_seed(0)
    settings = TrainSettings(device="cpu", log_every=2, max_steps=steps)
    names = {"name": "toy", "recipe": "toy-tiny", "data": "films"}
    return train_run(library, FlowToy(FlowConfig(**changes)), {"train": good(4)}, settings, **names)


def test_who_waits_for_data_is_told_how_much_and_what_to_do(library):
    result = run(library, read_seconds=0.01)
    (sentence,) = result.advice
    share = share_waited(read_timing(result.folder))
    assert 0.3 < share < 1
    assert sentence == (
        f"steps waited {100 * share:.0f} % of their time for data: after `vitascope scan`, `vitascope cache motion "
        f"--library {library.path} --method farneback` computes flow once; --set memory_mb=512 keeps small videos and "
        "their flow in memory"
    )
    assert lines(result)[-3] == f"advice: {sentence}"


def test_who_hardly_waits_is_told_nothing(library, monkeypatch):
    monkeypatch.setattr(train_run_module, "share_waited", lambda timing: 0.05 if timing else None)
    result = run(library)
    assert result.state == "done" and result.advice == ()
    assert not any(line.startswith("advice") for line in lines(result))


def test_a_small_rate_is_not_rounded_to_zero(library):
    result = replace(run(library), metrics={"lr": 1e-05, "loss": 1.23456, "accuracy": 0.5, "grad_norm": 123.456})
    assert lines(result)[1:5] == ["  lr 1e-05", "  loss 1.235", "  accuracy 0.5", "  grad_norm 123.5"]


def test_a_few_steps_tell_nothing(library):
    assert run(library, steps=10, read_seconds=0.01).advice == ()


def test_a_line_of_timing_that_a_kill_cut_short_is_no_obstacle(library):
    first = run(library, steps=20, sleep_seconds=0.001)
    with open(f"{first.folder}/timing.jsonl", "a") as file:
        file.write('{"step": 24, "wait_sec')
    torch.manual_seed(0)
    names = {"name": "toy", "recipe": "toy-tiny", "data": "films", "run": first.run}
    settings, data = TrainSettings(device="cpu", log_every=2), {"train": good(4)}
    result = train_run(library, FlowToy(FlowConfig(sleep_seconds=0.001)), data, settings, **names)
    assert result.state == "done"
    assert [line["step"] for line in read_timing(result.folder)] == list(range(2, 25, 2))


def advice(library, share=0.34, records=None, **config):
    return advice_on_waiting(share, FlowConfig(**config), {"train": records or good(2)}, library)


def test_advice_is_given_only_where_flow_is_made_and_steps_wait(library):
    assert advice(library) and advice(library, share=0.101)
    assert not advice(library, share=0.1) and not advice(library, share=None)
    assert not advice(library, needs_flow=False)
    assert not advice(library, records=[Record("a.mp4"), replace(Record("b.mp4"), motion="b.flow")])
    assert advice_on_waiting(0.9, ToyConfig(), {"train": good(2)}, library) == ()


def test_kept_flow_that_does_not_fit_the_recipe_is_told_however_short_the_waits(library):
    (library.motion.folder / "dis-medium").mkdir()
    (sentence,) = advice(library, share=0.0)
    assert sentence.startswith(
        "the flow that the library keeps (by dis-medium) was not used: this recipe's flow is farneback"
    )
    assert sentence.endswith(f"`vitascope cache motion --library {library.path} --method farneback`")
    assert not advice(library, share=0.0, needs_flow=False)
    assert not advice(library, share=0.0, records=[replace(Record("b.mp4"), motion="b.flow")])


def test_advice_leaves_out_what_is_done_already(library, monkeypatch):
    assert "memory_mb" not in advice(library, memory_mb=64)[0]
    assert "after `vitascope scan`, `vitascope cache" in advice(library)[0]
    monkeypatch.setattr(library.catalogue, "counts", lambda: {"done": 2, "damaged": 0})
    assert "scan" not in advice(library)[0]


class Guided(ToyConfig):
    content: str = "cuts"


def test_videos_without_an_index_of_shots_are_counted_where_the_configuration_goes_by_it(library):
    indexed = replace(Record("a.mp4"), shots="a.npz")
    records = {"train": [indexed, Record("b.mp4"), Record("b.mp4"), Record("c.mp4")], "more": [indexed]}
    assert advice_on_shots(Guided(), records, library) == (
        "2 of 3 videos have no index of shots and are drawn from as without one; run `vitascope scan` and then "
        f"`vitascope index shots --library {library.path}`",
    )
    assert advice_on_shots(Guided(content="off"), records, library) == ()
    assert advice_on_shots(ToyConfig(), records, library) == ()
    assert advice_on_shots(Guided(), {"train": [indexed]}, library) == ()


def test_training_by_shots_tells_how_many_videos_have_no_index(library):
    class GuidedToy(Toy):
        def samples(self, stage, records):
            return ToySamples(records)

    records = good(4)
    records[0] = replace(records[0], shots="0.npz")
    names = {"name": "toy", "recipe": "toy-tiny", "data": "films"}
    settings = TrainSettings(device="cpu", max_steps=1)
    result = train_run(library, GuidedToy(Guided()), {"train": records}, settings, **names)
    (sentence,) = result.advice
    assert sentence.startswith("3 of 4 videos have no index of shots") and f"advice: {sentence}" in lines(result)


def test_records_get_the_shots_that_the_library_keeps_where_the_configuration_goes_by_them(library, monkeypatch):
    records = {"train": [Record("a.mp4"), Record("b.mp4")]}
    assert with_shots(records, ToyConfig(), library) == records
    assert with_shots(records, Guided(content="off"), library) == records
    with pytest.raises(ValueError, match=r"content \(cuts\) goes by the shots.*run .*vitascope index shots --library"):
        with_shots(records, Guided(), library)
    monkeypatch.setattr(train_run_module, "shots_of", lambda library: {os.path.abspath("b.mp4"): "b.npz"})
    assert [record.shots for record in with_shots(records, Guided(), library)["train"]] == ["", "b.npz"]


RECIPE = FlowConfig(stages=(Stage(name="only", length=4, unit="steps", batch_size=2, optim=Optim(lr=0.01)),))


class Refusing(FlowToy):
    def samples(self, stage, records):
        raise ValueError("the data hold 1 video")


def plan(cls=FlowToy, config=RECIPE, init=None):
    return Plan(cls, "toy", "toy-tiny", RECIPE, config, init)


def train_on(tmp_path, what=None, library=None, records=None, run=None, **settings):
    """Train on the folder `films`, which holds 4 videos unless `records` are given."""
    (tmp_path / "films").mkdir(exist_ok=True)
    settings = {"device": "cpu", "log_every": 2, **settings}
    given = {"train": records or good(4)}
    return train_plan(
        what or plan(), tmp_path / "films", lambda *_: given, library, run=run, settings=settings, progress=False
    )


def runs_of(result):
    with Library(result.library) as library:
        return library.runs.list()


def test_what_was_changed_of_a_recipe_makes_its_configuration_again():
    config = override(RECIPE, ["dropout=0.25", "flow=a b", "batch_norm=false"])
    assert changes(RECIPE, config) == ["dropout=0.25", "batch_norm=false", "flow=a b"]
    assert override(RECIPE, changes(RECIPE, config)) == config and changes(RECIPE, RECIPE) == []


def test_runs_are_told_apart_by_what_was_changed_and_those_that_did_not_end_by_why_and_how_they_go_on(tmp_path):
    train_on(tmp_path, plan(config=override(RECIPE, ["dropout=0.25", "flow=none"])))
    result = train_on(tmp_path, seed=5, max_steps=2)
    header, second, why, go_on, first = lines_of_runs(runs_of(result))
    assert header.split()[-4:] == ["changed", "from", "the", "recipe"]
    assert first.endswith(" dropout=0.25 flow=none") and second.endswith(" seed=5")
    assert re.search(r"done +\S+ \S+ +\d\S*  +dropout", first), "the loss and nothing else of the metrics"
    assert why == "    why: stopped after 2 of 4 steps"
    assert go_on == (
        f"    go on: vitascope train toy-tiny --data {tmp_path}/films --seed 5 --workers 0 --device cpu "
        f"--library {tmp_path}/films.vitascope --run {result.run}"
    )


def test_the_command_of_a_run_is_one_that_the_command_line_takes(tmp_path, monkeypatch):
    result = train_on(tmp_path, plan(config=override(RECIPE, ["dropout=0.25"])), seed=5, precision="bf16")
    given = {}
    monkeypatch.setattr("vitascope.api.configure", lambda recipe, assignments: (recipe, assignments))
    monkeypatch.setattr("vitascope.api.train", lambda *words, **named: given.update(named, words=words) or 1 / 0)
    CliRunner().invoke(app, shlex.split(runs_of(result)[0].go_on)[1:])
    assert given["config"] == ("toy-tiny", ["dropout=0.25"]) and given["run"] == result.run
    assert [str(word) for word in given["words"][1:]] == [str(tmp_path / "films"), result.library]
    assert given["settings"].items() >= {"seed": 5, "precision": "bf16", "device": "cpu", "num_workers": 0}.items()


def test_a_run_that_a_signal_ended_is_told_with_the_whole_command_that_goes_on(tmp_path):
    result = replace(train_on(tmp_path, max_steps=2), signal=signal.SIGINT)
    assert lines(result)[-1] == f"go on: {runs_of(result)[0].go_on}" and result.run in lines(result)[-1]


def test_a_refused_resumption_names_the_command_that_goes_on_and_leaves_the_run_as_it_was(tmp_path):
    result = train_on(tmp_path)
    (before,) = runs_of(result)
    other = plan(config=override(RECIPE, ["dropout=0.25"]))
    told = (
        r"config.dropout of .* is 0.3, here it is 0.25; resume with the same, or begin a fresh run \(without --run\); "
    )
    with pytest.raises(OtherRun, match=told + f"what goes on with it: {re.escape(before.go_on)}$"):
        train_on(tmp_path, other, run=result.run)
    with pytest.raises(OtherRun, match=r"1 new \(first good-4.mp4\); resume .* \(without --run\)"):
        train_on(tmp_path, records=good(5), run=result.run)
    (after,) = runs_of(result)
    assert after.state == "done" and after.metrics == before.metrics and after.detail == ""


def test_the_run_to_start_from_is_looked_for_in_the_library_that_training_uses(tmp_path, monkeypatch):
    first = train_on(tmp_path)
    Library(tmp_path / "more.vitascope", create=True).close()
    monkeypatch.chdir(tmp_path)
    taken = []
    monkeypatch.setattr(train_run_module.start, "start", lambda *_, init, **__: taken.append(init) or FlowToy(RECIPE))
    result = train_on(tmp_path, plan(init=first.run[:-2]))
    train_on(tmp_path, plan(init=first.folder), library=tmp_path / "new.vitascope")
    assert [str(folder) for folder in taken] == [first.folder] * 2
    assert runs_of(result)[0].changes == (f"init={first.run}",)
    with pytest.raises(LibraryError, match=f"begins with {first.run!r} in .*more.vitascope"):
        train_on(tmp_path, plan(init=first.run), library=tmp_path / "more.vitascope")


def test_a_refused_training_leaves_neither_library_nor_run(tmp_path, monkeypatch):
    def refused(message, *args, **named):
        with pytest.raises((ValueError, LibraryError), match=message):
            train_on(tmp_path, *args, **named)

    refused("the data hold 1 video", plan(Refusing))
    refused("needs a CUDA device", precision="fp16")
    refused("no library at .*films.vitascope", run="2")
    refused("no library at .*films.vitascope", plan(Toy, Guided())._replace(default=Guided(content="off")))
    monkeypatch.setattr("vitascope.engine.memory.free_bytes", lambda: 30)
    refused(r"batch_size \(2\) needs at least .* of memory")
    assert [path.name for path in tmp_path.iterdir()] == ["films"]
    monkeypatch.undo()
    result = train_on(tmp_path)
    refused("the data hold 1 video", plan(Refusing))
    assert len(runs_of(result)) == len(list((tmp_path / "films.vitascope" / "runs").iterdir())) == 1


def test_batches_that_hold_each_video_several_times_are_advised_against_where_videos_are_compared():
    class Comparing(FlowToy):
        compares_samples = True

    records = {"train": records_of("a", "a", "b", "c")}
    config = RECIPE.model_copy(update={"stages": (Stage(name="only", length=4, batch_size=6),)})
    (sentence,) = advice_on_batch(Comparing(config), records)
    assert sentence.startswith("a batch of 6 holds each of the 3 videos 2 times or more")
    assert "--set batch_size=3 " in sentence
    assert advice_on_batch(FlowToy(config), records) == ()
    assert advice_on_batch(Comparing(config), {"train": records_of("a", "b", "c", "d")}) == ()
