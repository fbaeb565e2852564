"""From files of features to samples, and from one branch to the other: what is drawn, who teaches, and that a stage resumes."""

import numpy as np
import pytest
import torch

from vitascope.engine.settings import TrainSettings
from vitascope.engine.train import train
from vitascope.methods.base import Draw
from vitascope.methods.cbp_vlp.data import Snippets, at_times, tags
from vitascope.methods.cbp_vlp.method import CbpVlp
from vitascope.methods.cbp_vlp.targets import confident
from vitascope.store.feature_files import write_features
from vitascope.structures import NOTHING, Features, Record, VideoError

CLASSES = ("left", "right", "orbit")


def stretches(count: int, hop: float = 0.64) -> np.ndarray:
    edges = np.arange(count + 1) * hop
    return np.stack([edges[:-1], edges[1:]], 1)


def video(folder, name: str, count: int, labels=("left",), numbered=False) -> Record:
    """A video whose vectors are noise, or each the number of its snippet."""
    rng, files = np.random.default_rng(count), []
    for width in (32, 128):
        values = np.arange(count)[:, None].repeat(width, 1) if numbered else rng.normal(size=(count, width))
        files.append(str(folder / f"{name}.{width}.safetensors"))
        write_features(files[-1], Features(values.astype(np.float32), stretches(count)))
    return Record(f"{name}.mp4", name, labels, features=tuple(files))


def snippets(records, branch="cbp", **how) -> Snippets:
    return Snippets(records, CLASSES, branch, **{"max_snippets": 20, "sampling": "crop", **how})


def method(**changes) -> CbpVlp:
    config = CbpVlp.recipes["cbp-vlp-tiny"]().model_copy(update={"classes": CLASSES, **changes})
    torch.manual_seed(0)
    return CbpVlp(config)


def test_a_short_video_is_whole_and_padded(tmp_path):
    samples = snippets([video(tmp_path, "a", 7, numbered=True), video(tmp_path, "b", 12)])
    sample = samples[Draw(0, 1, 0.0)]
    assert sample["features"].shape == (12, 32) and sample["mask"].sum() == 7
    assert sample["features"][:7, 0].tolist() == list(range(7)) and not sample["features"][7:].any()


def test_a_long_video_is_cropped_to_snippets_in_a_row_anywhere_in_it(tmp_path):
    samples, firsts = snippets([video(tmp_path, "a", 50, numbered=True)]), set()
    for seed in range(60):
        rows = samples[Draw(0, seed, 0.0)]["features"][:, 0]
        assert torch.equal(rows, torch.arange(20) + rows[0])
        firsts.add(int(rows[0]))
    assert min(firsts) <= 3 and max(firsts) >= 27 and max(firsts) <= 30


def test_stratified_sampling_takes_one_snippet_of_each_part(tmp_path):
    samples = snippets([video(tmp_path, "a", 50, numbered=True)], sampling="stratified")
    rows = samples[Draw(0, 3, 0.0)]["features"][:, 0]
    parts = torch.arange(20) * 2.5
    assert (rows >= parts.floor()).all() and (rows < parts + 2.5).all()


def test_labels_are_of_the_snippets_drawn_and_asked_for_once(tmp_path):
    asked = []

    def teach(features, frames, tags):
        asked.append(len(features))
        return (features[:, :3] % 2).to(torch.int8)

    samples = snippets([video(tmp_path, "a", 50, numbered=True)], "vlp", teach=teach)
    for seed in range(5):
        sample = samples[Draw(0, seed, 0.0)]
        assert torch.equal(sample["labels"][:, 0].float(), sample["frames"][:, 0] % 2)
    assert asked == [50]


def test_frames_are_those_nearest_in_time():
    own = stretches(20, 0.32)
    found = at_times(torch.arange(20.0)[:, None], own, stretches(10), "a.mp4")[:, 0]
    middles = own.mean(1)
    best = [np.abs(middles - t).min() for t in stretches(10).mean(1)]
    assert np.allclose(np.abs(middles[found.long()] - stretches(10).mean(1)), best)


def test_vectors_of_another_video_are_refused():
    with pytest.raises(VideoError, match="VLP features are .* s away from its CBP features"):
        at_times(torch.zeros(5, 2), stretches(5), stretches(50), "a.mp4")


def test_one_vector_serves_a_video_of_one_snippet():
    assert at_times(torch.ones(1, 2), stretches(1), stretches(1), "a.mp4").shape == (1, 2)


def test_a_tag_that_is_no_class_is_named():
    with pytest.raises(ValueError, match="b.mp4: tag 'orbti' is none of the 3 classes .left, right, orbit."):
        tags(Record("b.mp4", labels=("orbti",)), CLASSES)


def test_features_that_are_gone_are_a_video_that_cannot_be_read(tmp_path):
    record = video(tmp_path, "a", 30)
    samples = snippets([record, video(tmp_path, "b", 30)])
    (tmp_path / "a.32.safetensors").unlink()
    with pytest.raises(VideoError, match="a.mp4: missing: its features .* embed it again"):
        samples[Draw(0, 1, 0.0)]


def test_the_teacher_stays_as_it_was_when_its_stage_began(tmp_path):
    model, records = method(), [video(tmp_path, "a", 30)]
    stage = model.stages()[2]
    samples, again = (model.samples(stage, records) for _ in range(2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    first, second = samples[Draw(0, 5, 0.0)]["labels"], again[Draw(0, 5, 0.0)]["labels"]
    later = model.samples(stage, records)[Draw(0, 5, 0.0)]["labels"]
    assert torch.equal(first, second) and not torch.equal(first, later)


def test_classes_that_are_not_tagged_are_background_in_what_is_taught(tmp_path):
    model = method()
    for stage in model.stages()[1:]:
        sample = model.samples(stage, [video(tmp_path, "a", 30)])[Draw(0, 5, 0.0)]
        assert (sample["labels"][sample["mask"]][:, 1:] == 0).all()


@pytest.mark.parametrize(("stage", "kept"), [(1, "background"), (2, "foreground")])
def test_a_side_alone_keeps_the_strong_side_of_its_teacher(tmp_path, stage, kept):
    records, labels = [video(tmp_path, "a", 60)], {}
    for trust in ("both", "own"):
        model = method(trust=trust, high=0.34, low=0.33)
        labels[trust] = model.samples(model.stages()[stage], records)[Draw(0, 5, 0.0)]["labels"]
    sure = {name: confident(found) for name, found in labels.items()}
    foreground = {name: sure[name] & (found == 1).any(-1) for name, found in labels.items()}
    strong = foreground["both"] if kept == "foreground" else sure["both"] & ~foreground["both"]
    assert sure["both"].any() and torch.equal(sure["own"], strong)


def test_a_run_stopped_inside_each_stage_ends_with_the_same_weights(tmp_path):
    records = [video(tmp_path, name, 40 + i, (CLASSES[i % 3],)) for i, name in enumerate("abcdef")]
    changes = {"warmup_steps": 4, "b_steps": 4, "f_steps": 4, "dropout": 0.1}
    whole, settings = method(**changes), {"seed": 3, "device": "cpu", "save_every_steps": 1}
    train(whole, {"train": records}, tmp_path / "whole", TrainSettings(**settings))
    for until in (2, 6, 10, None):
        broken = method(**changes)
        train(broken, {"train": records}, tmp_path / "broken", TrainSettings(**settings, max_steps=until))
    for (name, ours), theirs in zip(whole.state_dict().items(), broken.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_one_class_is_found_where_it_is(tmp_path):
    """Videos in which nothing happens are what a single class is told from."""
    rng, records, actions = np.random.default_rng(0), [], []
    for i in range(8):
        values, start = rng.normal(size=(60, 32)).astype(np.float32), 10 + 4 * i
        if i % 2:
            values[start : start + 8, :4] += 4
        path = tmp_path / f"{i}.safetensors"
        write_features(path, Features(values, stretches(60)))
        records.append(Record(f"{i}.mp4", str(i), ("left",) if i % 2 else (NOTHING,), features=(str(path),)))
        actions.append(start)
    config = CbpVlp.recipes["cbp-only-small"]().model_copy(
        update={"classes": ("left",), "dim": 32, "warmup_steps": 100, "batch_size": 8}
    )
    torch.manual_seed(0)
    model = CbpVlp(config)
    train(model, {"train": records}, tmp_path / "run", TrainSettings(device="cpu"))
    for record, start in list(zip(records, actions, strict=True))[1::2]:
        curve = model.localize(record).curves["CBP"][:, 0]
        inside = np.zeros(60, bool)
        inside[start : start + 8] = True
        assert curve[inside].mean() > curve[~inside].mean() + 0.3


def test_a_tagged_video_is_searched_for_its_tags_alone_and_one_of_nothing_for_none(tmp_path):
    model, record = method(), video(tmp_path, "a", 40, ("right", "orbit"))
    assert set(model.localize(record).segments.labels) == {"right", "orbit"}
    assert model.localize(video(tmp_path, "b", 40, (NOTHING,))).segments.labels == ()
    assert len(model.localize(video(tmp_path, "c", 40, ())).segments.labels) > 0
