"""The probe's optimum, its folds, what it is honest about; features of records; a classifier's score."""

import numpy as np
import pytest
import torch
from torch import nn

from vitascope.evaluation import logistic
from vitascope.evaluation.folds import deal, grouped_folds, stratified_folds
from vitascope.evaluation.recognition import classify, cross_validate, encode, evaluate, groups_of, linear_probe, report
from vitascope.methods.base import Frozen, Method
from vitascope.store.reports import as_plain
from vitascope.structures import Labels, Record, VideoError


def blobs(per_class=30, width=6, classes=3, distance=1.2, seed=0):
    """Overlapping clouds of points, and their classes as names."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, width)) * distance
    labels = np.repeat(np.arange(classes), per_class)
    return centres[labels] + rng.normal(size=(len(labels), width)), [f"class {n}" for n in labels]


def slow_fit(features, labels, strength, steps=20000):
    """Plain gradient descent on the same objective."""
    x = torch.from_numpy((features - features.mean(0)) / features.std(0))
    y = torch.from_numpy(labels)
    w = torch.zeros(x.shape[1], int(labels.max()) + 1, dtype=torch.float64, requires_grad=True)
    b = torch.zeros(w.shape[1], dtype=torch.float64, requires_grad=True)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(x @ w + b, y) + strength / 2 * w.square().sum()
        gw, gb = torch.autograd.grad(loss, [w, b])
        with torch.no_grad():
            w -= 0.3 * gw
            b -= 0.3 * gb
    return w.detach().numpy(), b.detach().numpy()


@pytest.mark.parametrize("width", [4, 40])
def test_the_fit_is_the_minimum_in_few_and_in_many_dimensions(width):
    """40 dimensions of 24 samples go through the rotation, and must come out the same."""
    features, names = blobs(per_class=8, width=width)
    labels = np.repeat(np.arange(3), 8)
    model = logistic.fit(features, labels)
    weight, bias = slow_fit(features, labels, model.strength, steps=4000)
    assert model.strength == logistic.STRENGTHS[len(logistic.STRENGTHS) // 2]
    np.testing.assert_allclose(model.weight, weight, atol=2e-4)
    np.testing.assert_allclose(model.bias, bias, atol=2e-4)


def test_features_are_standardised_so_that_units_do_not_matter():
    features, names = blobs()
    plain = cross_validate(features, names, repeats=1)
    units = cross_validate(features * np.array([1e-3, 1e3, 1, 1, 50, 1]) + 7, names, repeats=1)
    np.testing.assert_allclose([row[3] for row in plain.predictions], [row[3] for row in units.predictions], atol=1e-4)


def test_a_constant_feature_is_left_out():
    features, names = blobs()
    with_constant = np.c_[features, np.full(len(features), 1e6)]
    plain = cross_validate(features, names, repeats=1)
    assert cross_validate(with_constant, names, repeats=1).confusion == plain.confusion


def test_noise_is_told_at_chance_and_its_interval_says_so():
    rng = np.random.default_rng(0)
    result = cross_validate(rng.normal(size=(80, 100)), ["a", "b"] * 40)
    assert 0.3 < result.top1 < 0.7 and result.interval[0] < 0.5 < result.interval[1]
    assert result.majority == 0.5


def test_the_strength_follows_the_noise():
    """Few samples in many dimensions want a strong penalty, many in few a weak one."""
    few, names = blobs(per_class=10, width=60, distance=0.1)
    many, others = blobs(per_class=150, width=3, distance=1.5)
    strengths = [
        logistic.fit(x, np.unique(y, return_inverse=True)[1], np.arange(len(y)) % 5).strength
        for x, y in ((few, names), (many, others))
    ]
    assert strengths[0] > strengths[1]


def test_the_probe_goes_from_list_to_list_and_spells_out_how():
    features, names = blobs()
    train, test = np.arange(len(names)) % 2 == 0, np.arange(len(names)) % 2 == 1
    at = [name for name, taken in zip(names, test, strict=True) if taken]
    result = linear_probe(features[train], [n for n, t in zip(names, train, strict=True) if t], features[test], at)
    assert result.num_samples == test.sum() and result.top1 > 0.6
    right = sum(true == told for _, true, told, _ in result.predictions)
    assert result.top1 == right / len(at) == np.trace(np.array(result.confusion)) / len(at)
    for word in ("standardised", "L2", "cross-entropy", "45 training and 45 test", "The encoder learns nothing"):
        assert word in result.protocol, word
    assert all(0 < score <= 1 for *_, score in result.predictions)


def test_a_class_that_the_training_list_lacks_counts_as_told_wrong():
    x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    result = linear_probe(x, ["a", "a", "b", "b"], x, ["a", "a", "b", "c"])
    assert result.classes == ("a", "b", "c") and result.top1 == 0.75


def test_top5_is_there_where_it_says_something():
    result = cross_validate(*blobs(per_class=6, classes=7), repeats=1)
    assert result.top5 >= result.top1
    assert cross_validate(*blobs(), repeats=1).top5 is None


def test_each_sample_is_held_out_once():
    features, names = blobs()
    result = cross_validate(features, names, num_folds=5)
    assert sum(fold.num_samples for fold in result.folds) == len(names) and len(result.folds) == 5
    mean = sum(fold.accuracy * fold.num_samples for fold in result.folds) / len(names)
    assert result.repeats[0] == pytest.approx(mean)


def test_few_samples_are_dealt_several_times_and_the_mean_is_given():
    features, names = blobs(distance=0.4)
    result = cross_validate(features, names)
    alone = [cross_validate(features, names, seed=seed, repeats=1) for seed in range(5)]
    assert result.repeats == tuple(one.top1 for one in alone) and len(set(result.repeats)) > 1
    assert result.top1 == pytest.approx(np.mean(result.repeats))
    assert result.confusion == alone[0].confusion and "dealt 5 times" in result.protocol
    assert result.interval[0] < result.top1 < result.interval[1]


def test_groups_are_never_parted():
    """Each group has its own signature and no class has one: without groups it looks easy, with them it is chance."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(16), 5)
    features = rng.normal(size=(16, 30))[groups] + 0.1 * rng.normal(size=(80, 30))
    labels = ["ab"[group % 2] for group in groups]
    assert cross_validate(features, labels, repeats=1).top1 == 1.0
    honest = cross_validate(features, labels, groups)
    assert honest.top1 < 0.75 and len(honest.folds) == 16
    assert [fold.num_samples for fold in honest.folds] == [5] * 16
    assert len(cross_validate(features, labels, groups, num_folds=4).folds) == 4


def test_the_same_data_give_the_same_result():
    features, names = blobs()
    assert cross_validate(features, names, repeats=2) == cross_validate(features, names, repeats=2)


def test_stratified_folds_hold_as_many_of_every_class():
    labels = np.repeat(np.arange(4), (10, 11, 12, 7))
    folds = stratified_folds(labels, 5)
    for label in range(4):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 1


def test_grouped_folds_are_of_like_size():
    groups = np.repeat(np.arange(6), (9, 1, 2, 8, 3, 7))
    folds = grouped_folds(groups, 3)
    assert all(len(set(folds[groups == group])) == 1 for group in range(6))
    assert np.bincount(folds).tolist() == [10, 10, 10]


@pytest.mark.parametrize(("groups", "folds", "told"), [(None, 1, "samples"), (["x", "y", "x", "y"], 3, "groups")])
def test_folds_that_cannot_be_are_an_error(groups, folds, told):
    with pytest.raises(ValueError, match=rf"num_folds \({folds}\) must be > 1 and <= the number of {told}"):
        deal(np.array([0, 1, 0, 1]), groups, folds, 0)


@pytest.mark.parametrize(
    ("features", "labels", "told"),
    [
        (np.zeros((2, 3)), ["a"], r"features \(2\), labels \(1\) must be as many"),
        (np.full((6, 2), np.nan), ["a", "b"] * 3, "must be finite numbers"),
        (np.zeros((6, 2)), ["a"] * 6, "all of one class"),
    ],
)
def test_what_cannot_be_probed_is_an_error(features, labels, told):
    with pytest.raises(ValueError, match=told):
        cross_validate(features, labels)


class Plain(Frozen):
    """Nothing to choose."""


class MeanColour(Method):
    """An encoder that gives the mean of each channel."""

    config = Plain()
    seen: list

    def __init__(self):
        super().__init__()
        self.seen = []

    def stages(self):
        return []

    def samples(self, stage, records):
        raise AssertionError

    def training_step(self, batch):
        raise AssertionError

    def features(self, clips):
        assert not self.training and torch.is_inference_mode_enabled()
        self.seen.append(tuple(clips.shape))
        return clips.float().mean((1, 3, 4))


def clips_of(record):
    """Two clips whose brightness is in the name; of another size for names with a b."""
    if "bad" in record.path:
        raise VideoError(record.path, "damaged", "no frame of it can be decoded")
    value, size = int(record.path.split("_")[1].partition(".")[0]), 6 if "b_" in record.path else 4
    return torch.stack([torch.full((2, 3, size, size), v, dtype=torch.uint8) for v in (value, value + 2)])


def labelled(count=6):
    return [Record(f"{'ab'[i % 2]}_{100 * (i % 2) + i}.mp4", f"{i}", labels=("ab"[i % 2],)) for i in range(count)]


def test_features_are_the_mean_over_clips_whatever_the_batches():
    method = MeanColour().train()
    records = labelled()
    values, kept, unreadable = encode(method, records, clips_of, batch_size=3)
    assert values.dtype == np.float32 and kept == records and not unreadable
    assert values[:, 0].tolist() == [int(record.path[2:-4]) + 1 for record in records]
    assert method.training and {shape[0] for shape in method.seen} == {2}  # no batch mixes sizes
    same = [Record(f"a_{i}.mp4") for i in range(5)]
    encode(method, same, clips_of, batch_size=4)
    assert [shape[0] for shape in method.seen[-3:]] == [4, 4, 2]


def test_what_cannot_be_read_is_told_and_does_not_count():
    records = [*labelled(), Record("bad_1.mp4", "bad", labels=("a",))]
    result = evaluate(MeanColour(), records, read=clips_of, num_folds=3)
    assert result.unreadable == {"bad": "damaged: no frame of it can be decoded"}
    assert result.num_samples == 6 and result.top1 == 1.0
    assert [name for name, *_ in result.predictions] == [str(i) for i in range(6)]
    with pytest.raises(ValueError, match="none of the 1 records can be read"):
        encode(MeanColour(), records[-1:], clips_of)


def test_segments_of_one_file_stay_together():
    records = [Record(r.path, f"{r.id}@{s}", r.labels, s, s + 1.0) for r in labelled() for s in (0.0, 1.0)]
    assert groups_of(records) == [record.path for record in records] and groups_of(labelled()) is None
    result = evaluate(MeanColour(), records, read=clips_of)
    assert len(result.folds) == 6 and "whole groups" in result.protocol


def test_a_training_list_may_not_share_a_file_with_the_test():
    with pytest.raises(ValueError, match=r"a_0.mp4 is in the training list and in the test list"):
        evaluate(MeanColour(), labelled(), labelled(), read=clips_of)
    others = [Record(f"{r.path[0]}_{int(r.path[2:-4]) + 9}.mp4", labels=r.labels) for r in labelled()]
    assert evaluate(MeanColour(), labelled(), others, read=clips_of).num_samples == 6


def test_splits_of_a_list_are_heeded():
    splits = ["train", "train", "train", "train", "test", "test", "unused", "unused"]
    records = [Record(r.path, r.id, r.labels, split=s) for r, s in zip(labelled(8), splits, strict=True)]
    result = evaluate(MeanColour(), records, read=clips_of)
    assert result.num_samples == 2 and "4 training and 2 test" in result.protocol


@pytest.mark.parametrize("labels", [(), ("a", "b")])
def test_a_record_must_have_exactly_one_class(labels):
    with pytest.raises(ValueError, match=f"has {len(labels)} labels"):
        evaluate(MeanColour(), [Record("a_1.mp4", labels=labels)], read=clips_of)


def test_a_probe_is_not_asked_about_a_single_class():
    method, same = MeanColour(), [r for r in labelled() if r.labels == ("a",)]
    others = [Record("b_9.mp4", labels=("b",)), Record("a_9.mp4", labels=("a",))]
    for given in ((same,), (same[:2], same[2:])):
        with pytest.raises(
            ValueError, match=r"hold one class \(a\); at least 2 are needed, otherwise every answer is ri"
        ):
            evaluate(method, *given, read=clips_of)
    assert not method.seen  # it is told before anything is read
    assert evaluate(method, same, others, read=clips_of).num_samples == 3


class Named(Frozen):
    """What a classifier can say."""

    classes: tuple[str, ...] = ("a", "b", "c")


class Answers(MeanColour):
    """Says of every clip but one what it is."""

    config = Named()
    protocol = "One view."

    def predict(self, record):
        if "bad" in record.path:
            raise VideoError(record.path, "empty", "the file has 0 bytes")
        best = {"a": "a", "b": "b"}[record.labels[0]] if record.id != "3" else "c"
        return Labels((best, *sorted({"a", "b", "c"} - {best})), (0.8, 0.1, 0.1))


def test_a_classifier_is_scored_by_its_predictions():
    result = evaluate(Answers(), [*labelled(), Record("bad.mp4", labels=("a",))])
    assert result == classify(Answers(), [*labelled(), Record("bad.mp4", labels=("a",))])
    assert (result.num_samples, result.top1) == (6, pytest.approx(5 / 6))
    assert result.confusion == ((3, 0, 0), (0, 2, 1), (0, 0, 0))
    assert result.mean_class == pytest.approx((1 + 2 / 3) / 2)
    assert result.unreadable == {"bad.mp4": "empty: the file has 0 bytes"} and "One view." in result.protocol


def test_a_classifier_may_be_asked_about_a_single_class_since_it_may_be_wrong():
    assert evaluate(Answers(), labelled()[1::2]).top1 == pytest.approx(2 / 3)


def test_a_classifier_is_not_asked_for_what_it_does_not_know():
    with pytest.raises(ValueError, match="class 'dance' is not among those of the classifier: a, b, c"):
        evaluate(Answers(), [Record("a_1.mp4", labels=("dance",))])
    with pytest.raises(ValueError, match="leave the training list and the folds out"):
        evaluate(Answers(), labelled(), labelled())


def test_the_report_holds_the_tables():
    result = evaluate(Answers(), [*labelled(), Record("bad.mp4", labels=("a",))])
    plain = as_plain(report(result, "Recognition", {"run": "r"}))
    tables = {part["title"]: part["rows"] for part in plain["parts"] if isinstance(part, dict) and "rows" in part}
    assert tables["Classes"][1] == ["b", 3, 2, 66.7, "c"] and tables["Classes"][2][3] is None
    assert tables["Confusion"][0] == ["a", 3, 0, 0]
    assert tables["Not read"] == [["bad.mp4", "empty: the file has 0 bytes"]]
    assert tables["Told wrong"] == [["3", "b", "c", 0.8]]
