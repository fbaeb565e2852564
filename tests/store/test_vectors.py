"""Search returns the true neighbours, each moment once, and never what is gone."""

import os

import numpy as np
import pytest

from vitascope.store import index, vectors
from vitascope.store.index import build_index, open_index
from vitascope.store.neighbours import unit
from vitascope.store.schema import LibraryError
from vitascope.structures import Record

WIDTH = 16


def fill(shelf, counts, seed=0, hop=5.0, length=1.0):
    """Files v0.mp4, v1.mp4, ... with so many random snippets each; returns all values `[N, D]` in order."""
    random = np.random.default_rng(seed)
    paths = [shelf.write(f"v{i}.mp4") for i in range(len(counts))]
    shelf.scan()
    values = [random.standard_normal((count, WIDTH)).astype(np.float16) for count in counts]
    for path, part in zip(paths, values):
        shelf.put(path, part, hop=hop, length=length)
    return paths, values


def brute_force(paths, values, query, k, hop=5.0):
    """Slow, plain loops."""
    scored = []
    for path, part in zip(paths, values):
        for i, row in enumerate(part.astype(np.float64)):
            cosine = row @ query / np.sqrt((row @ row) * (query @ query))
            scored.append((-cosine, path, hop * i))
    return [(path, start) for _, path, start in sorted(scored)[:k]]


def test_exact_search_equals_brute_force(shelf):
    paths, values = fill(shelf, [40, 1, 70])
    search = shelf.library.vectors("m")
    assert search.is_exact and len(search) == 111
    for query in np.random.default_rng(1).standard_normal((20, WIDTH)):
        hits = search.search(query, 7, apart_seconds=None)
        assert [(hit.path, hit.start_seconds) for hit in hits] == brute_force(paths, values, query, 7)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_several_queries_give_a_list_each(shelf):
    _, values = fill(shelf, [30])
    search = shelf.library.vectors("m")
    queries = values[0][:3]
    assert search.search(queries, 2) == [search.search(query, 2) for query in queries]
    hit = search.search(values[0][4], 1)[0]
    assert (hit.start_seconds, hit.end_seconds) == (20.0, 21.0) and hit.score == pytest.approx(1, abs=1e-5)


def test_overlapping_snippets_of_one_moment_are_one_hit(shelf):
    path = shelf.write("a.mp4")
    shelf.scan()
    direction = np.eye(WIDTH)[0]
    shelf.put(path, (direction + 1e-3 * np.arange(100)[:, None] * np.eye(WIDTH)[1]).astype(np.float32), hop=0.25)
    search = shelf.library.vectors("m")
    hits = search.search(direction, 5)
    starts = [hit.start_seconds for hit in hits]
    assert starts == [0.0, 2.0, 4.0, 6.0, 8.0]  # a second long, a second apart
    assert [hit.start_seconds for hit in search.search(direction, 5, apart_seconds=0.0)] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [hit.start_seconds for hit in search.search(direction, 3, apart_seconds=None)] == [0.0, 0.25, 0.5]


def test_all_moments_are_found_even_behind_a_thousand_snippets_of_one(shelf):
    long, short = shelf.write("long.mp4"), shelf.write("short.mp4")
    shelf.scan()
    near, far = np.eye(WIDTH)[:2]
    shelf.put(long, np.tile(near, (1000, 1)).astype(np.float16), hop=0.001)
    shelf.put(short, far[None].astype(np.float16))
    assert [hit.path for hit in shelf.library.vectors("m").search(near + 0.1 * far, 2)] == [long, short]


def test_excluded_stretches_and_videos_do_not_come_back(shelf):
    paths, values = fill(shelf, [10, 10])
    search = shelf.library.vectors("m")
    place = Record(paths[0], start_seconds=15.0, end_seconds=16.0)
    hits = search.search(values[0][3], 20, exclude=[place])
    assert len(hits) == 19 and not any(hit.path == paths[0] and hit.start_seconds == 15 for hit in hits)
    hits = search.search(values[0][3], 20, exclude=[Record(paths[0])])
    assert len(hits) == 10 and {hit.path for hit in hits} == {paths[1]}


def test_missing_files_are_not_found(shelf):
    paths, values = fill(shelf, [10, 10])
    os.remove(paths[0])
    shelf.scan()
    assert {hit.path for hit in shelf.library.vectors("m").search(values[0][0], 20)} == {paths[1]}


def test_a_zero_vector_is_like_nothing(shelf):
    path = shelf.write("a.mp4")
    shelf.scan()
    shelf.put(path, np.zeros((1, WIDTH), np.float16))
    assert shelf.library.vectors("m").search(np.ones(WIDTH), 1)[0].score == 0


@pytest.mark.parametrize(
    ("query", "k", "message"),
    [
        (np.ones(3), 1, r"query \[3\] must be \[16\] or \[Q, 16\]"),
        (np.ones((1, 1, WIDTH)), 1, "must be"),
        (np.zeros(WIDTH), 1, "not all zeros"),
        (np.full(WIDTH, np.nan), 1, "must be finite"),
        (np.ones(WIDTH), 0, r"k \(0\) must be > 0"),
    ],
)
def test_a_query_without_a_direction_is_refused(shelf, query, k, message):
    fill(shelf, [3])
    with pytest.raises(ValueError, match=message):
        shelf.library.vectors("m").search(query, k)


def test_a_model_without_features_is_named(shelf):
    fill(shelf, [3])
    with pytest.raises(LibraryError, match="no features of model n; there are those of: m; run `vitascope embed`"):
        shelf.library.vectors("n")


def test_vectors_of_two_widths_are_refused(shelf):
    paths, _ = fill(shelf, [3, 3])
    shelf.put(paths[0], np.ones((3, 5), np.float16))
    with pytest.raises(LibraryError, match=r"have widths \[5, 16\], must have one; embed all again"):
        shelf.library.vectors("m")


@pytest.fixture
def small_limit(monkeypatch):
    """From 200 vectors on an index is built; and how often one was."""
    built = []

    def counted(*args):
        built.append(1)
        build_index(*args)

    monkeypatch.setattr(vectors, "EXACT_BELOW", 200)
    monkeypatch.setattr(vectors, "build_index", counted)
    return built


def test_the_index_is_built_once_and_agrees_with_brute_force(shelf, small_limit):
    paths, values = fill(shelf, [150, 90, 60])
    for _ in range(2):
        search = shelf.library.vectors("m")
    assert not search.is_exact and len(small_limit) == 1 and len(search) == 300
    agree = 0
    for query in np.random.default_rng(1).standard_normal((20, WIDTH)):
        found = {(hit.path, hit.start_seconds) for hit in search.search(query, 5, apart_seconds=None)}
        agree += len(found & set(brute_force(paths, values, query, 5)))
    assert agree >= 95


def test_what_came_since_the_index_is_found_and_what_went_is_not(shelf, small_limit):
    paths, values = fill(shelf, [250, 30])
    shelf.library.vectors("m")
    path = shelf.write("late.mp4")
    os.remove(paths[1])
    shelf.scan()
    late = np.random.default_rng(5).standard_normal((3, WIDTH)).astype(np.float16)
    shelf.put(path, late)
    search = shelf.library.vectors("m")
    assert len(small_limit) == 1 and len(search) == 253
    assert search.search(late[1], 1)[0].path == path
    assert paths[1] not in {hit.path for hit in search.search(values[1][0], 100, apart_seconds=None)}


def test_features_made_anew_replace_those_in_the_index(shelf, small_limit):
    paths, values = fill(shelf, [250, 30])
    shelf.library.vectors("m")
    shelf.put(paths[1], -values[1], hop=5.0)
    search = shelf.library.vectors("m")
    assert len(small_limit) == 1 and len(search) == 280
    assert search.search(-values[1][2], 1)[0].score == pytest.approx(1, abs=1e-3)
    assert search.search(values[1][2], 1)[0].score < 0.99


def test_an_index_of_which_too_much_is_gone_is_built_again(shelf, small_limit):
    paths, _ = fill(shelf, [210, 100])
    shelf.library.vectors("m")
    os.remove(paths[1])
    shelf.scan()
    assert len(shelf.library.vectors("m")) == 210 and len(small_limit) == 2


@pytest.mark.parametrize("name", ["lists.faiss", "rows.safetensors", "index.json"])
def test_a_damaged_index_is_built_again(shelf, small_limit, name):
    fill(shelf, [250])
    shelf.library.vectors("m")
    path = shelf.library.path / "index" / "m" / name
    path.write_bytes(path.read_bytes()[:-9])
    assert open_index(path.parent) is None
    assert len(shelf.library.vectors("m")) == 250 and len(small_limit) == 2


def test_the_index_folder_may_be_removed(shelf, small_limit):
    fill(shelf, [250])
    for path in sorted((shelf.library.path / "index").rglob("*"), reverse=True):
        path.unlink()
    assert len(shelf.library.vectors("m")) == 250


def test_a_failed_build_leaves_nothing(shelf, small_limit, monkeypatch):
    fill(shelf, [250])

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index, "content_hash", full)
    with pytest.raises(OSError, match="cannot write the index .*is the disk full"):
        shelf.library.vectors("m")
    assert os.listdir(shelf.library.path / "index") == []


def clustered(count, width, random, centres):
    noise = random.standard_normal((count, width), np.float32)
    return unit(centres[random.integers(0, len(centres), count)] + 0.75 / np.sqrt(width) * noise)


def test_recall_is_at_least_098_on_120_000_clustered_vectors(shelf):
    random = np.random.default_rng(0)
    centres = unit(random.standard_normal((2400, 64), np.float32))
    paths = [shelf.write(f"v{i}.mp4") for i in range(12)]
    shelf.scan()
    values = [clustered(10_000, 64, random, centres).astype(np.float16) for _ in paths]
    for path, part in zip(paths, values):
        shelf.put(path, part)
    search = shelf.library.vectors("m")
    assert not search.is_exact
    queries = clustered(200, 64, random, centres)
    true = np.argsort(-queries @ unit(np.concatenate(values)).T, axis=1)[:, :10]
    found = search.search(queries, 10, apart_seconds=None)
    places = [{paths.index(hit.path) * 10_000 + int(hit.start_seconds) for hit in hits} for hits in found]
    assert sum(len(set(a) & b) for a, b in zip(true.tolist(), places)) / 2000 >= 0.98
