"""Retrieval: who looks among whom, what is subtracted and left out, and a literal version beside it."""

from pathlib import Path

import numpy as np
import pytest

from vitascope.datasets.load import load_labelled
from vitascope.evaluation import retrieval_run
from vitascope.evaluation.retrieval import evaluate, report, score
from vitascope.store.reports import as_plain
from vitascope.structures import Record


def recorded(labels, *, split="", start=0):
    return [Record(f"{split}{n}.mp4", f"{split}{n}", (label,), split=split) for n, label in enumerate(labels, start)]


def drawn(seed, count, width=8, num_classes=4):
    """Features of overlapping classes, some of them twice, and their records."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, num_classes, count)
    features = rng.standard_normal((num_classes, width))[numbers] + rng.standard_normal((count, width))
    features[count // 2] = features[0]  # another class may have the same features
    return features.astype(np.float32), [f"class {n}" for n in numbers]


def literal(features, records, others, entries, centre, key):
    """R@1 and R@5 and mAP by plain loops in float64."""
    features, others = features.astype(np.float64), others.astype(np.float64)
    mean, own = others.mean(0), features.mean(0)
    features = features - {"none": 0, "gallery": mean, "each": own}[centre]
    others = others - (0 if centre == "none" else mean)
    hits, precisions = {1: 0, 5: 0}, []
    for query, record in zip(features, records):
        ranked = []
        for value, entry in zip(others, entries):
            if key(record) != key(entry):
                cosine = query @ value / np.sqrt((query @ query) * (value @ value))
                ranked.append((-round(cosine, 9), entry.labels == record.labels))
        ranked.sort()
        for k in hits:
            hits[k] += any(is_own for _, is_own in ranked[:k])
        places = [place for place, (_, is_own) in enumerate(ranked, 1) if is_own]
        precisions.append(np.mean([n / place for n, place in enumerate(places, 1)]) if places else 0.0)
    return hits[1] / len(records), hits[5] / len(records), np.mean(precisions)


@pytest.mark.parametrize("centre", ["none", "gallery", "each"])
@pytest.mark.parametrize("seed", range(4))
def test_a_list_among_another_equals_the_literal_version(centre, seed):
    features, labels = drawn(seed, 40)
    others, names = drawn(seed + 50, 90, num_classes=3)  # class 3 is absent
    records, entries = recorded(labels), recorded(names, split="train")
    result = score(features, records, others, entries, centre=centre)
    told = (result.recall[1], result.recall[5], result.mean_ap)
    assert told == pytest.approx(literal(features, records, others, entries, centre, lambda record: record.path))
    assert result.num_absent == labels.count("class 3") > 0
    assert (result.num_queries, result.num_gallery) == (40, 90)


@pytest.mark.parametrize("leave_out", ["file", "self"])
def test_each_among_the_others_equals_the_literal_version(leave_out):
    features, labels = drawn(1, 60)
    records = [Record(f"{n // 3}.mp4", f"{n}", (label,), n % 3, n % 3 + 1) for n, label in enumerate(labels)]
    keys = {"file": lambda record: record.path, "self": lambda record: (record.path, record.start_seconds)}
    result = score(features, records, leave_out=leave_out)
    told = (result.recall[1], result.recall[5], result.mean_ap)
    assert told == pytest.approx(literal(features, records, features, records, "none", keys[leave_out]))
    assert f"compared with {57 if leave_out == 'file' else 59} entries" in result.protocol


def test_what_is_nearest_is_listed_and_never_the_query_itself():
    features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.9, 0.1]], np.float32)
    result = score(features, recorded("aabb"))
    assert [name for name, *_ in result.queries[0].nearest] == ["1", "3", "2"]
    assert result.queries[0].place == 2  # of the two equal ones that of another class comes first
    assert result.queries[2].nearest[0] == ("1", "a", pytest.approx(0.1 / np.sqrt(0.82)))
    assert dict((name, hit) for name, _, hit, _ in result.classes) == {"a": 0.0, "b": 0.0}


def test_classes_and_chance_add_up():
    features, labels = drawn(2, 50)
    result = score(features, recorded(labels))
    assert sum(count * hit for _, count, hit, _ in result.classes) / 50 == pytest.approx(result.recall[1])
    assert sum(count * ap for _, count, _, ap in result.classes) / 50 == pytest.approx(result.mean_ap)
    by_chance = np.mean([(labels.count(label) - 1) / 49 for label in labels])
    assert result.chance[1] == pytest.approx(by_chance)
    assert result.interval[0] < result.recall[1] < result.interval[1]


def test_a_single_class_is_always_found():
    result = score(drawn(0, 7)[0], recorded("a" * 7))
    assert result.recall[1] == result.mean_ap == result.chance[1] == 1.0


@pytest.mark.parametrize(
    ("others", "told"),
    [(1, [1]), (4, [1]), (5, [1, 5]), (19, [1, 5, 10]), (20, [1, 5, 10, 20]), (70, [1, 5, 10, 20, 50])],
)
def test_recall_is_told_among_no_more_than_a_query_is_compared_with(others, told):
    features, labels = drawn(3, others + 1)
    own = score(features, recorded(labels))
    among = score(features[:1], recorded(labels[:1]), features[1:], recorded(labels[1:], split="train"))
    assert list(own.recall) == list(own.chance) == list(among.recall) == list(among.chance) == told


class Encoder:
    """Gives a record's number as its features, and remembers what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, records):
        self.asked.append([record.id for record in records])
        kept = [record for record in records if "bad" not in record.id]
        values = [[1.0, int("".join(c for c in Path(record.path).stem if c.isdigit()))] for record in kept]
        return np.array(values, np.float32), kept, {r.id: "damaged: no frame" for r in records if r not in kept}


def test_the_test_split_looks_among_the_train_split():
    records = recorded("ab", split="test") + recorded("aab", split="train") + recorded("ab", split="unused")
    encode = Encoder()
    result = evaluate(encode, records)
    assert encode.asked == [["test0", "test1"], ["train0", "train1", "train2"]]
    assert (result.num_queries, result.num_gallery) == (2, 3) and "in a gallery of 3" in result.protocol
    assert evaluate(encode, records[:2], records).num_gallery == 3


def test_the_official_lists_of_split_1_are_kept_to(tmp_path):
    (tmp_path / "testlist01.txt").write_text("a/v_1.avi\nb/v_2.avi\n")
    (tmp_path / "trainlist01.txt").write_text("a/v_3.avi 1\nb/v_5.avi 2\nb/v_6.avi 2\n")
    ucf = evaluate(Encoder(), *(load_labelled(tmp_path / f"{name}list01.txt") for name in ("test", "train")))
    assert (ucf.num_queries, ucf.num_gallery) == (2, 3)
    (tmp_path / "hmdb").mkdir()
    (tmp_path / "hmdb/a_test_split1.txt").write_text("1.avi 1\n2.avi 2\n3.avi 0\n")
    (tmp_path / "hmdb/b_test_split1.txt").write_text("5.avi 1\n6.avi 2\n")
    hmdb = evaluate(Encoder(), load_labelled(tmp_path / "hmdb"))
    assert (hmdb.num_queries, hmdb.num_gallery) == (2, 2)
    assert [query.id for query in hmdb.queries] == ["a/2.avi", "b/6.avi"]


def test_without_splits_each_looks_among_the_others():
    records = [*recorded("aabb"), Record("9.mp4", "bad", ("a",))]
    encode = Encoder()
    result = evaluate(encode, records)
    assert len(encode.asked) == 1 and result.num_queries == result.num_gallery == 4
    assert result.unreadable == {"bad": "damaged: no frame"} and "each among the others" in result.protocol


def test_a_query_that_is_in_the_gallery_does_not_find_itself():
    records = recorded("aabb")
    both, own = evaluate(Encoder(), records, records), evaluate(Encoder(), records)
    assert (both.recall, both.mean_ap, both.queries) == (own.recall, own.mean_ap, own.queries)


def test_the_protocol_tells_what_was_done():
    features, labels = drawn(0, 20)
    told = score(features, recorded(labels), centre="each").protocol
    for word in ("20 queries", "8 values", "each among the others", "own from them", "exactly", "average precision"):
        assert word in told, word


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"centre": "median"}, r"centre \(median\) must be one of none, gallery, each"),
        ({"leave_out": "class"}, r"leave_out \(class\) one of file, self"),
        ({"features": np.zeros((3, 2))}, r"features of the queries \[3, 2\] must be \[4, D\]"),
        ({"features": np.full((4, 2), np.nan)}, "features of 4 of the queries are not finite"),
        ({"records": [Record("a.mp4", f"{n}", ("a",), n, n + 1) for n in range(4)]}, "no query may see any"),
        ({"gallery_features": np.zeros((1, 3)), "gallery": [Record("x.mp4", labels=("a",))]}, "must be as many"),
    ],
)
def test_what_cannot_be_measured_is_an_error(change, told):
    with pytest.raises(ValueError, match=told):
        score(**{"features": np.ones((4, 2)), "records": recorded("aabb")} | change)


def test_a_record_of_several_classes_is_an_error_before_anything_is_read():
    encode = Encoder()
    with pytest.raises(ValueError, match="has 2 labels"):
        evaluate(encode, [Record("1.mp4", labels=("a", "b"))])
    assert not encode.asked


@pytest.mark.parametrize("gallery", [None, recorded("aa", split="train")])
def test_records_of_one_class_are_an_error_before_anything_is_read(gallery):
    encode = Encoder()
    with pytest.raises(
        ValueError, match=r"hold one class \(a\); at least 2 are needed, otherwise every answer is right"
    ):
        evaluate(encode, recorded("aaa"), gallery)
    with pytest.raises(
        ValueError, match=r"hold one class \(a\)"
    ):  # what neither asks nor is looked among does not help
        evaluate(encode, recorded("aa", split="test") + recorded("aa", split="train") + recorded("b", split="unused"))
    assert not encode.asked
    assert evaluate(encode, recorded("aa"), recorded("ab", split="train")).num_queries == 2


def test_the_report_holds_the_figures_and_the_nearest():
    features, labels = drawn(0, 20)
    result = score(features, recorded(labels))
    plain = as_plain(report(result, "Retrieval", {"run": "r"}))
    tables = {part["title"]: part["rows"] for part in plain["parts"] if isinstance(part, dict)}
    assert [row[0] for row in tables["Found"]] == ["R@1", "R@5", "R@10", "mAP"]
    assert len(tables["Nearest"]) == 20 and plain["parts"][-1] == result.protocol
    assert all(None not in row for row in tables["Found"])


def test_kept_features_are_the_mean_over_the_snippets_of_a_record(tmp_path):
    from vitascope.store.catalogue import Scanned
    from vitascope.store.library import Library
    from vitascope.store.schema import LibraryError
    from vitascope.structures import Features

    paths = [str(tmp_path / f"{name}.mp4") for name in "ab"]
    with Library(tmp_path / "library", create=True) as library:
        library.catalogue.add(Scanned(path, 1, 1, f"{n:032x}", "done") for n, path in enumerate(paths))
        times = np.stack([np.arange(4.0), np.arange(1.0, 5.0)], 1)
        values = np.arange(8, dtype=np.float16).reshape(4, 2)
        library.features.put(library.catalogue.entry(paths[0]), "m", Features(values, times))
        records = [Record(paths[0], "all"), Record(paths[0], "part", (), 1.0, 3.0), Record(paths[1], "none")]
        found, kept, missing = retrieval_run.embedded_features(library, "m", records)
        assert found.tolist() == [[3.0, 4.0], [3.0, 4.0]] and kept == records[:2] and found.dtype == np.float32
        assert "absent" in missing["none"]
        with pytest.raises(LibraryError, match="none of the 1 records has features of m"):
            retrieval_run.embedded_features(library, "m", records[2:])
