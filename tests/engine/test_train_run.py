"""Training as a run of a library: what it advises when steps wait for data."""

import os
import time
from dataclasses import replace

import pytest
import torch
from toy_method import Toy, ToyConfig, ToySamples, good

import vitascope.engine.train_run as train_run_module
from vitascope.cli.train import lines
from vitascope.engine.log import read_timing, share_waited
from vitascope.engine.settings import TrainSettings
from vitascope.engine.train_run import advice_on_shots, advice_on_waiting, train_run, with_shots
from vitascope.methods.base import Optim, Stage
from vitascope.store.library import Library
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
