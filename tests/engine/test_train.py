"""The loop: numbers that do not depend on how a run is carried out, data that cannot be read, errors."""

import json
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from toy_method import TWO_STAGES, ToyConfig, ToySamples, files_of, good, make_toy, records_of, run_toy

from vitascope.engine.checkpoint import CheckpointError, folders
from vitascope.engine.loader import LoaderError
from vitascope.engine.log import Progress, Status, read_metrics
from vitascope.engine.run import EveryVideoUnreadable
from vitascope.engine.settings import TrainSettings
from vitascope.engine.train import NonFiniteLoss, train
from vitascope.methods.base import Optim, Stage


def one_stage(**changes) -> tuple[Stage, ...]:
    return (Stage(**{"name": "only", "length": 3, "batch_size": 4, "optim": Optim(lr=0.01), **changes}),)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_number_of_workers_changes_no_bit(tmp_path, num_workers):
    config = ToyConfig(stages=TWO_STAGES)
    run_toy(tmp_path / "none", config, log_every=1)
    run_toy(tmp_path / "some", config, log_every=1, num_workers=num_workers)
    assert files_of(tmp_path / "none") == files_of(tmp_path / "some")


def test_another_seed_gives_other_weights(tmp_path):
    run_toy(tmp_path / "a", ToyConfig(), seed=0)
    run_toy(tmp_path / "b", ToyConfig(), seed=1)
    assert files_of(tmp_path / "a")["model.safetensors"] != files_of(tmp_path / "b")["model.safetensors"]


# within the first stage, between the stages, within the second
@pytest.mark.parametrize(("stop", "num_workers"), [(7, 0), (7, 2), (18, 1), (31, 0), (31, 1)])
def test_a_resumed_run_equals_the_unbroken_one(tmp_path, stop, num_workers):
    config = ToyConfig(stages=TWO_STAGES)
    run_toy(tmp_path / "whole", config, log_every=1)
    first = run_toy(tmp_path / "broken", config, log_every=1, max_steps=stop, num_workers=num_workers)
    assert (first.step, first.total) == (stop, 60)
    run_toy(tmp_path / "broken", config, log_every=1, num_workers=num_workers)
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "broken")


def test_a_finished_run_called_again_does_nothing_and_gives_the_weights(tmp_path):
    run_toy(tmp_path, ToyConfig())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    method = make_toy()
    with torch.no_grad():
        method.head.weight.zero_()
    result = train(method, {"train": good(10)}, tmp_path, TrainSettings(device="cpu"))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert result.step == result.total == 8
    saved = load_file(result.checkpoint / "model.safetensors")
    assert torch.equal(method.head.weight, saved["head.weight"])


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 5])
def test_micro_batches_add_up_to_the_whole_batch(tmp_path, micro_batch):
    config = ToyConfig(stages=one_stage(batch_size=5), dropout=0.0, double=True, batch_norm=False)
    whole, parts = make_toy(config), make_toy(config)
    data = {"train": [*good(7), *records_of("bad-1")]}  # some batches lack a sample
    train(whole, data, tmp_path / "whole", TrainSettings(device="cpu", log_every=1))
    train(parts, data, tmp_path / "parts", TrainSettings(device="cpu", log_every=1, micro_batch=micro_batch))
    for name, tensor in whole.named_parameters():
        if name != "teacher":  # it moves with each forward pass
            torch.testing.assert_close(parts.state_dict()[name], tensor.detach(), rtol=0, atol=1e-10)
    for one, other in zip(read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "parts")):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-10)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], abs=1e-10)


def test_a_toy_overfits(tmp_path):
    stage = one_stage(length=300, unit="steps", batch_size=8, optim=Optim(lr=0.02, weight_decay=0.0))
    method = make_toy(ToyConfig(width=32, stages=stage, dropout=0.0, batch_norm=False))
    method.samples = lambda stage, records: Fixed(records)
    train(method, {"train": good(8)}, tmp_path, TrainSettings(device="cpu", log_every=1))
    lines = read_metrics(tmp_path)
    assert lines[0]["loss"] > 0.1
    assert lines[-1]["loss"] < 1e-3


class Fixed(ToySamples):
    def __getitem__(self, draw):
        return super().__getitem__(draw._replace(seed=draw.index))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_videos_are_counted_once_and_dropped(tmp_path, num_workers):
    data = [*good(14), *records_of(*(f"bad-{index}" for index in range(6)))]  # 30%
    config = ToyConfig(stages=one_stage(length=2, batch_size=5), batch_norm=False)
    settings = TrainSettings(device="cpu", log_every=1, num_workers=num_workers)
    result = train(make_toy(config), {"train": data}, tmp_path, settings)
    assert result.step == 8
    assert sorted(skipped.path for skipped in result.unreadable) == [f"bad-{index}" for index in range(6)]
    assert {skipped.detail for skipped in result.unreadable} == {"it was made so"}
    lines = read_metrics(tmp_path)
    assert sum(line["samples"] for line in lines) == 28  # two epochs of the 14 good ones
    assert lines[-1]["unreadable"] == {"damaged": 3, "empty": 3}


def test_the_list_of_unreadable_videos_survives_a_resume(tmp_path):
    data = {"train": [*good(14), *records_of(*(f"bad-{index}" for index in range(6)))]}
    config = ToyConfig(stages=one_stage(length=1, batch_size=5), batch_norm=False)
    train(make_toy(config), data, tmp_path, TrainSettings(device="cpu", max_steps=3))
    result = train(make_toy(config), data, tmp_path, TrainSettings(device="cpu"))
    assert len(result.unreadable) == 6


def test_a_step_without_a_readable_video_changes_no_weight(tmp_path):
    data = {"train": [*good(3), *records_of("bad-0", "bad-1", "bad-2")]}
    method = make_toy(ToyConfig(stages=one_stage(length=1, batch_size=1), batch_norm=False))
    train(method, data, tmp_path, TrainSettings(device="cpu", log_every=1, save_every_steps=1, keep_last=10))
    lines = {line["step"]: line for line in read_metrics(tmp_path)}
    assert sorted(line["samples"] for line in lines.values()) == [0, 0, 0, 1, 1, 1]
    for step in (step for step, line in lines.items() if line["samples"] == 0 and step > 1):
        before, after = (load_file(tmp_path / f"checkpoints/step-{s:08d}/model.safetensors") for s in (step - 1, step))
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_small_set_of_bad_videos_ends_with_an_error_at_once(tmp_path):
    with pytest.raises(
        EveryVideoUnreadable, match=r"every one of the 6 records .* 3 damaged, 3 empty.*bad-\d"
    ) as caught:
        train(make_toy(), {"train": records_of(*(f"bad-{i}" for i in range(6)))}, tmp_path, TrainSettings(device="cpu"))
    assert len(caught.value.unreadable) == 6


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_large_set_of_bad_videos_ends_with_an_error_within_5_s(tmp_path, num_workers):
    data = {"train": records_of(*(f"bad-{index}" for index in range(100_000)))}
    start = time.monotonic()
    with pytest.raises(EveryVideoUnreadable, match="8 batches in a row"):
        train(make_toy(), data, tmp_path, TrainSettings(device="cpu", num_workers=num_workers))
    assert time.monotonic() - start < 5


def test_a_dead_worker_is_a_clear_error(tmp_path):
    data = {"train": [*good(3), *records_of("dies")]}
    start = time.monotonic()
    with pytest.raises(LoaderError, match=r"was killed by SIGKILL.*use fewer num_workers \(2\)"):
        train(make_toy(), data, tmp_path, TrainSettings(device="cpu", num_workers=2))
    assert time.monotonic() - start < 15


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_of_the_program_is_not_taken_for_an_unreadable_video(tmp_path, num_workers):
    with pytest.raises(KeyError, match="a mistake of the program"):
        train(make_toy(), {"train": records_of("bug")}, tmp_path, TrainSettings(device="cpu", num_workers=num_workers))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path):
    method = make_toy(ToyConfig(stages=one_stage(length=20, unit="steps")))
    step = method.training_step

    def diverge(batch):
        terms = step(batch)
        return {**terms, "loss": terms["loss"] * (torch.nan if method.seen > 40 else 1)}

    method.training_step = diverge
    with pytest.raises(NonFiniteLoss, match=r"step 11 of stage 'only' is not finite \(loss nan, error .*of step 9"):
        train(method, {"train": good(10)}, tmp_path, TrainSettings(device="cpu", save_every_steps=3))
    assert folders(tmp_path)[0].name == "step-00000009"
    assert all(tensor.isfinite().all() for tensor in method.state_dict().values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": ToyConfig(dropout=0.5)}, r"config.dropout of the run in .* is 0.3, here it is 0.5"),
        ({"seed": 1}, r"settings.seed of the run in .* is 0, here it is 1"),
        (
            {"count": 11},
            r"data set 'train' of the run in .* has changed since it began: 1 new \(first good-10.mp4\); resume",
        ),
        ({"count": 8}, r"since it began: 2 missing \(first good-8.mp4\); resume with the same, or begin a fresh run"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(tmp_path, changes, message):
    run_toy(tmp_path, ToyConfig(), max_steps=2)
    with pytest.raises(CheckpointError, match=message):
        run_toy(tmp_path, **{"config": ToyConfig(), **changes})


def test_records_of_the_same_names_with_other_labels_are_other_data(tmp_path):
    run_toy(tmp_path, ToyConfig(), max_steps=2)
    records = {"train": [replace(record, labels=("a",)) for record in good(10)]}
    with pytest.raises(CheckpointError, match="began: the same names, with other labels or times or in another order"):
        train(make_toy(), records, tmp_path, TrainSettings(device="cpu"))


def test_where_a_run_kept_no_names_its_data_are_told_by_their_number(tmp_path):
    run_toy(tmp_path, ToyConfig(), max_steps=2)
    (tmp_path / "records.json").unlink()
    with pytest.raises(CheckpointError, match=r"since it began: 10 records, \w+, now 11 records, \w+; resume"):
        run_toy(tmp_path, ToyConfig(), count=11)


def test_a_run_from_before_a_field_existed_goes_on_with_its_default(tmp_path):
    run_toy(tmp_path, ToyConfig(), max_steps=2)
    path = folders(tmp_path)[0] / "config.json"
    about = json.loads(path.read_text())
    del about["config"]["dropout"]
    path.write_text(json.dumps(about))
    with pytest.raises(CheckpointError, match=r"config.dropout of the run in .* is 0.3, here it is 0.5"):
        run_toy(tmp_path, ToyConfig(dropout=0.5))
    assert run_toy(tmp_path, ToyConfig()).step == 8


def test_how_a_run_is_carried_out_may_change_on_resume(tmp_path):
    run_toy(tmp_path, ToyConfig(), max_steps=2)
    assert run_toy(tmp_path, ToyConfig(), num_workers=1, keep_last=1, save_every_steps=1).step == 8


@pytest.mark.parametrize("records", [{}, {"train": []}, {"other": good(1)}])
def test_absent_records_are_named(tmp_path, records):
    with pytest.raises(ValueError, match=r"stage 'only' needs records of data set 'train'; given: "):
        train(make_toy(), records, tmp_path, TrainSettings(device="cpu"))


def test_only_what_a_stage_names_learns(tmp_path):
    method = make_toy(ToyConfig(stages=one_stage(learns=("head",))))
    before = {name: tensor.clone() for name, tensor in method.named_parameters()}
    train(method, {"train": good(10)}, tmp_path, TrainSettings(device="cpu"))
    changed = {name for name, tensor in method.named_parameters() if not torch.equal(tensor, before[name])}
    assert changed == {"head.weight", "head.bias", "teacher"}  # the teacher follows the head by itself
    assert {name for name, tensor in method.named_parameters() if not tensor.requires_grad} == {"teacher"}


def test_bf16_computes_otherwise_and_keeps_the_weights_in_fp32(tmp_path):
    run_toy(tmp_path / "fp32", ToyConfig(), log_every=1)
    run_toy(tmp_path / "bf16", ToyConfig(), log_every=1, precision="bf16")
    one, other = (read_metrics(tmp_path / name)[0]["loss"] for name in ("fp32", "bf16"))
    assert one != other and one == pytest.approx(other, rel=0.05)
    assert load_file(folders(tmp_path / "bf16")[0] / "model.safetensors")["head.weight"].dtype == torch.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_what_the_machine_lacks_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"device \('cuda'\) is not available"):
        train(make_toy(), {"train": good(1)}, tmp_path, TrainSettings(device="cuda"))
    with pytest.raises(ValueError, match=r"precision \('fp16'\) needs a CUDA device"):
        run_toy(tmp_path, ToyConfig(), precision="fp16")


def test_progress_is_called_after_each_step_and_the_log_is_json(tmp_path, capsys):
    seen: list[Status] = []
    train(make_toy(), {"train": good(10)}, tmp_path, TrainSettings(device="cpu", log_every=3), progress=seen.append)
    assert [status.step for status in seen] == list(range(1, 9))
    assert seen[0].seconds_left is None and seen[-1].seconds_left == 0
    assert [line["step"] for line in read_metrics(tmp_path)] == [3, 6, 8]
    timing = [json.loads(line) for line in (tmp_path / "timing.jsonl").read_text().splitlines()]
    assert all(line["seconds"] >= line["wait_seconds"] >= 0 for line in timing)
    assert capsys.readouterr() == ("", "")


def test_progress_off_a_terminal_prints_the_first_and_the_last_step(tmp_path, capsys):
    train(make_toy(), {"train": good(10)}, tmp_path, TrainSettings(device="cpu"), progress=Progress())
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["only: 1/8 (12%)", "only: 8/8 (100%)"]


def test_the_names_of_method_and_recipe_are_saved(tmp_path):
    train(make_toy(), {"train": good(10)}, tmp_path, TrainSettings(device="cpu"), name="mme", recipe="videomae")
    saved = json.loads((folders(tmp_path)[0] / "config.json").read_text())
    assert (saved["method"], saved["recipe"], saved["config"]) == (
        "mme",
        "videomae",
        ToyConfig().model_dump(mode="json"),
    )
