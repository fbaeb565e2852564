"""The index for many vectors: inverted lists of float16 vectors (faiss), a derived file that the features can rebuild.

Building reads the features twice, in chunks: once for a training sample, once to add. Beside what the index itself
takes (2 bytes a value) it needs memory for the sample and one chunk only. How many lists a query visits is tuned on
vectors held out of the training, against exact search, until recall@10 reaches 0.99.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitascope.store.atomic import WriteError, replace_dir, temp_name
from vitascope.store.catalogue import content_hash
from vitascope.store.features import Part
from vitascope.store.neighbours import top, unit
from vitascope.store.schema import LibraryError

Read = Callable[[Part], tuple[np.ndarray, np.ndarray]]

TRAIN_PER_LIST = 50  # k-means gains nothing visible beyond
TRAIN_ROUNDS = 8
NUM_PROBES = 512  # held-out queries; a recall of 0.98 is then known to about 0.003
RECALL_AT = 10
RECALL_WANTED = 0.99  # of the held-out queries, so that 0.98 holds for others
CHUNK_ROWS = 65536
FORMAT = 1


@dataclass
class Index:
    """An open index: row `i` of it is the snippet `times[i]` of the file `file_ids[i]`."""

    lists: Any  # faiss.IndexIVF
    num_probed: int
    file_ids: np.ndarray  # int64 [N]
    times: np.ndarray  # float64 [N, 2]
    versions: dict[int, str]  # of the parts that it holds, by file id
    facts: dict[str, Any]  # as in index.json

    def search(self, queries: np.ndarray, count: int, effort: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return cosines `[Q, count]`, best first, and rows `[Q, count]`, -1 where the visited lists held fewer.

        Args:
            queries: float32 `[Q, D]`, unit length.
            count: How many neighbours.
            effort: Factor on the number of lists visited.
        """
        import faiss

        num_probed = min(self.lists.nlist, self.num_probed * effort)
        return self.lists.search(queries, count, params=faiss.SearchParametersIVF(nprobe=num_probed))


def build_index(folder: Path, parts: list[Part], read: Read, seed: int = 0) -> None:
    """Build the index of `parts` and put it in place of the one in `folder`.

    Args:
        folder: Where it is kept: `lists.faiss`, `rows.safetensors`, `index.json`.
        parts: What to hold; all of one width.
        read: Gives the values `[S, D]` and times `[S, 2]` of a part.
        seed: Of the training sample.

    Raises:
        WriteError: The system refuses; an older index is in its place.
    """
    import faiss

    total, width = sum(part.num_snippets for part in parts), parts[0].width
    num_lists = max(1, 2 ** round(np.log2(2 * np.sqrt(total))))
    lists = faiss.index_factory(width, f"IVF{num_lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    lists.cp.niter, lists.cp.max_points_per_centroid, lists.cp.min_points_per_centroid = TRAIN_ROUNDS, 10**9, 1
    lists.cp.spherical, lists.cp.seed = True, seed
    rows = np.random.default_rng(seed).choice(total, min(total, TRAIN_PER_LIST * num_lists + NUM_PROBES), replace=False)
    probes, training = rows[: min(NUM_PROBES, total // 2)], np.sort(rows[min(NUM_PROBES, total // 2) :])
    lists.train(unit(_rows(parts, read, training)))
    queries = unit(_rows(parts, read, np.sort(probes)))
    exact = _Exact(queries, np.sort(probes))
    times = []
    for values, chunk_times in _chunks(parts, read):
        values = unit(values)
        exact.update(values, lists.ntotal)
        lists.add(values)
        times.append(chunk_times)
    num_probed, recall = _tuned(lists, exact)
    file_ids = np.repeat([part.file_id for part in parts], [part.num_snippets for part in parts])
    facts = {
        "format": FORMAT,
        "num_vectors": total,
        "width": width,
        "num_lists": num_lists,
        "num_probed": num_probed,
        "recall_at_10": recall,
        "num_queries": len(queries),
        "seed": seed,
        "versions": {part.file_id: part.version for part in parts},
    }
    _store(folder, lists, {"file_ids": file_ids, "times_seconds": np.concatenate(times)}, facts)


def open_index(folder: Path) -> Index | None:
    """Open the index in `folder`; None if there is none, or if it is not whole: then it is to be built again.

    The lists are mapped into memory, so opening reads little, and several processes share them.
    """
    import faiss
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        facts = json.loads((folder / "index.json").read_text())
        if facts["format"] != FORMAT or any(content_hash(folder / n) != h for n, h in facts["hashes"].items()):
            return None
        lists = faiss.read_index(str(folder / "lists.faiss"), faiss.IO_FLAG_MMAP_IFC)
        rows = load_file(folder / "rows.safetensors")
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError):
        return None
    versions = {int(number): version for number, version in facts["versions"].items()}
    return Index(lists, facts["num_probed"], rows["file_ids"], rows["times_seconds"], versions, facts)


def _store(folder: Path, lists: Any, rows: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    import faiss
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    temp = temp_name(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temp.mkdir()
        faiss.write_index(lists, str(temp / "lists.faiss"))
        save_file(rows, temp / "rows.safetensors")
        hashes = {name: content_hash(temp / name) for name in ("lists.faiss", "rows.safetensors")}
        (temp / "index.json").write_text(json.dumps(facts | {"hashes": hashes}))
    except (OSError, RuntimeError, SafetensorError) as error:  # faiss tells a full disk by a RuntimeError
        shutil.rmtree(temp, ignore_errors=True)
        number = getattr(error, "errno", None) or errno.EIO
        raise WriteError(number, f"cannot write the index {folder}: {error}; is the disk full?", str(folder)) from error
    replace_dir(temp, folder)


class _Exact:
    """Exact nearest neighbours of a few stored vectors, kept up to date while the others pass by; itself left out."""

    def __init__(self, queries: np.ndarray, own_rows: np.ndarray) -> None:
        self.queries, self.own_rows = queries, own_rows
        self.scores = np.full((len(queries), RECALL_AT), -np.inf, np.float32)
        self.rows = np.full((len(queries), RECALL_AT), -1)

    def update(self, values: np.ndarray, first_row: int) -> None:
        scores = self.queries @ values.T  # [Q, N]
        inside = np.flatnonzero((self.own_rows >= first_row) & (self.own_rows < first_row + len(values)))
        scores[inside, self.own_rows[inside] - first_row] = -np.inf
        best = top(scores, RECALL_AT)
        scores = np.concatenate([self.scores, np.take_along_axis(scores, best, 1)], 1)
        rows = np.concatenate([self.rows, best + first_row], 1)
        order = top(scores, RECALL_AT)
        self.scores, self.rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def _tuned(lists: Any, exact: _Exact) -> tuple[int, float]:
    """Return the smallest number of lists that reaches the wanted recall, or after which more gain nothing."""
    ladder = [n * 2**power for power in range(20) for n in (2, 3) if n * 2**power < 2 * lists.nlist]
    recalls: list[float] = []
    for num_probed in (min(n, lists.nlist) for n in ladder or [1]):
        lists.nprobe = num_probed
        _, rows = lists.search(exact.queries, RECALL_AT + 1)
        others = (set(found) - {own} for found, own in zip(rows.tolist(), exact.own_rows.tolist()))
        hits = sum(len(found & set(true)) for found, true in zip(others, exact.rows.tolist()))
        recalls.append(hits / exact.rows.size)
        if recalls[-1] >= RECALL_WANTED or (len(recalls) > 3 and recalls[-1] - recalls[-4] < 0.002 < recalls[-1]):
            break
    return num_probed, round(recalls[-1], 4)


def _rows(parts: list[Part], read: Read, rows: np.ndarray) -> np.ndarray:
    """Return the values of ascending global rows, reading each part that holds any once."""
    firsts = np.cumsum([0, *(part.num_snippets for part in parts)])
    bounds = np.searchsorted(rows, firsts)
    taken = [
        read(part)[0][rows[low:high] - first]
        for part, first, low, high in zip(parts, firsts, bounds, bounds[1:])
        if high > low
    ]
    return np.concatenate(taken)


def _chunks(parts: list[Part], read: Read) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield values and times of all parts in order, about `CHUNK_ROWS` rows at once."""
    held: list[tuple[np.ndarray, np.ndarray]] = []
    for part in parts:
        values, times = read(part)
        if len(values) > CHUNK_ROWS:  # a very long video
            held += [(values[i : i + CHUNK_ROWS], times[i : i + CHUNK_ROWS]) for i in range(0, len(values), CHUNK_ROWS)]
        else:
            held.append((values, times))
        while sum(len(values) for values, _ in held) >= CHUNK_ROWS:
            yield from _joined(held[: max(1, len(held) - 1)])
            held = held[max(1, len(held) - 1) :]
    yield from _joined(held)


def _joined(held: list[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if held:
        yield np.concatenate([values for values, _ in held]), np.concatenate([times for _, times in held])


def check_widths(parts: list[Part], model_id: str) -> None:
    """Raise unless all parts have vectors of one width.

    Raises:
        LibraryError: They have not.
    """
    widths = {part.width for part in parts}
    if len(widths) > 1:
        raise LibraryError(f"the features of {model_id} have widths {sorted(widths)}, must have one; embed all again")
