"""Nearest neighbours by cosine over all features of one model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitascope.store.catalogue import Catalogue
from vitascope.store.features import FeatureStore, Part, checked_model_id
from vitascope.store.index import build_index, check_widths, open_index
from vitascope.store.neighbours import Exact, top, unit
from vitascope.store.schema import LibraryError
from vitascope.structures import Hit, Record

EXACT_BELOW = 100_000  # vectors that a matrix product compares exactly in a few milliseconds
DEAD_SHARE = 0.2  # of an index's vectors that may belong to files since removed or embedded anew
MOST_CANDIDATES = 16384


class Vectors:
    """The vectors of one model, as they were when this was made; make another to see what came since.

    Below 100,000 vectors every comparison is exact. Above, a faiss index on the disk holds most of them and is
    built when it is missing or no longer fits; what was embedded since it was built is compared exactly, what was
    removed is left out. Files that are missing are not found.

    Raises:
        LibraryError: The model has no features here.
    """

    def __init__(self, features: FeatureStore, catalogue: Catalogue, folder: Path, model_id: str) -> None:
        self._features, self.model_id = features, model_id
        self._folder = folder / checked_model_id(model_id)
        parts = features.parts(model_id)
        if not parts:
            models = ", ".join(features.models()) or "none yet"
            raise LibraryError(f"no features of model {model_id}; there are those of: {models}; run `vitascope embed`")
        check_widths(parts, model_id)
        self.width = parts[0].width
        self._paths = catalogue.paths()
        self._ids = {path: number for number, path in self._paths.items()}
        self._index, rest = self._opened(parts)
        self._alive = self._alive_rows(parts)
        self._load(rest)

    def __len__(self) -> int:
        indexed = 0 if self._index is None else int(np.count_nonzero(self._alive))
        return indexed + len(self._file_ids)

    @property
    def is_exact(self) -> bool:
        """Whether every stored vector is compared with the query."""
        return self._index is None

    def search(
        self,
        query: np.ndarray,
        k: int = 10,
        *,
        exclude: Sequence[Record] = (),
        apart_seconds: float | None = 1.0,
    ) -> list[Hit] | list[list[Hit]]:
        """Return the `k` stretches most like the query, best first.

        Snippets overlap, so the neighbours of a moment are mostly the same moment: of hits in one file that lie less
        than `apart_seconds` apart, end to start, only the best is returned.

        Args:
            query: `[D]`, or `[Q, D]` for several, of any length but 0.
            k: How many; fewer come back if there are no more.
            exclude: Stretches, or whole videos, that are not to be returned, and nothing within `apart_seconds` of
                them: the query's own place, usually.
            apart_seconds: None returns every snippet for itself.

        Returns:
            A list of hits for `[D]`, a list of such lists for `[Q, D]`.

        Raises:
            ValueError: The query has another width, is zero or not finite, or `k` is not positive.
        """
        query = np.asarray(query)
        if query.ndim not in (1, 2) or query.shape[-1] != self.width:
            raise ValueError(
                f"query {list(query.shape)} must be [{self.width}] or [Q, {self.width}], the model's width"
            )
        if k <= 0:
            raise ValueError(f"k ({k}) must be > 0")
        queries = np.atleast_2d(query).astype(np.float32)
        if not np.isfinite(queries).all() or not queries.any(axis=1).all():
            raise ValueError("query must be finite and not all zeros, or it has no direction to compare")
        results = [self._search_one(row, k, exclude, apart_seconds) for row in unit(queries)]
        return results[0] if query.ndim == 1 else results

    def _search_one(self, query: np.ndarray, k: int, exclude: Sequence[Record], apart: float | None) -> list[Hit]:
        taken = [self._stretch(record) for record in exclude]
        # one by one: a product of many queries rounds otherwise than that of one
        scores = next(cosines for _, cosines in self._exact.cosines(query[None]))[0]  # [N]
        count, effort = (k if apart is None and not taken else 4 * k + 16), 1
        while True:
            ranked, num_candidates = self._candidates(query, scores, count, effort)
            hits = self._chosen(ranked, k, taken, apart)
            if len(hits) == k or num_candidates >= len(self) or count > MOST_CANDIDATES:
                return hits
            count, effort = 4 * count, 4 * effort

    def _candidates(
        self, query: np.ndarray, scores: np.ndarray, count: int, effort: int
    ) -> tuple[list[tuple[float, int, float, float]], int]:
        """Return `(score, file id, start, end)` of the best `count`, best first, and how many were looked for."""
        count = min(count, len(self))
        rows = top(scores[None], count)[0]
        found = [(scores[rows], self._file_ids[rows], self._times[rows])]
        if self._index is not None:
            near_scores, near = (array[0] for array in self._index.search(query[None], count, effort))
            keep = near >= 0
            keep[keep] = self._alive[near[keep]]
            near = near[keep]
            found.append((near_scores[keep], self._index.file_ids[near], self._index.times[near]))
        scores, file_ids, times = (np.concatenate(arrays) for arrays in zip(*found))
        order = top(scores[None], count)[0]
        stretches = times[order].tolist()
        ranked = [(s, f, *t) for s, f, t in zip(scores[order].tolist(), file_ids[order].tolist(), stretches)]
        return ranked, count

    def _chosen(
        self, ranked: list[tuple[float, int, float, float]], k: int, taken: list, apart: float | None
    ) -> list[Hit]:
        """Return the first `k` that keep their distance from the excluded stretches and from better hits."""
        kept: list[Hit] = []
        places = list(taken)
        for score, file_id, start, end in ranked:
            gap = apart or 0.0
            if any(file_id == f and start < e + gap and end > s - gap for f, s, e in places):
                continue
            kept.append(Hit(self._paths[file_id], start, end, score))
            if len(kept) == k:
                break
            if apart is not None:
                places.append((file_id, start, end))
        return kept

    def _stretch(self, record: Record) -> tuple[int, float, float]:
        start = -np.inf if record.start_seconds is None else record.start_seconds
        end = np.inf if record.end_seconds is None else record.end_seconds
        return self._ids.get(os.path.abspath(record.path), -1), start, end

    def _opened(self, parts: list[Part]) -> tuple:
        """Return the index, built again if it does not fit, or None, and the parts that it does not hold."""
        index = open_index(self._folder)
        current = {} if index is None else index.versions
        rest = [part for part in parts if current.get(part.file_id) != part.version]
        live = sum(part.num_snippets for part in parts) - sum(part.num_snippets for part in rest)
        is_worn = index is not None and live < (1 - DEAD_SHARE) * len(index.file_ids)
        if sum(part.num_snippets for part in rest) < EXACT_BELOW and not is_worn:
            return index, rest
        if sum(part.num_snippets for part in parts) < EXACT_BELOW:
            return None, parts
        build_index(self._folder, parts, lambda part: self._features.read(self.model_id, part))
        index = open_index(self._folder)
        if index is None:
            raise LibraryError(f"{self._folder}: the index just built cannot be read; check the disk")
        return index, []

    def _alive_rows(self, parts: list[Part]) -> np.ndarray | None:
        """Return which rows of the index belong to current features, bool `[N]`."""
        if self._index is None:
            return None
        versions = self._index.versions
        alive = [part.file_id for part in parts if versions.get(part.file_id) == part.version]
        return np.isin(self._index.file_ids, alive)

    def _load(self, parts: list[Part]) -> None:
        """Read the vectors that are compared exactly into memory."""
        loaded = [self._features.read(self.model_id, part) for part in parts]
        empty = np.zeros((0, self.width), np.float16)
        self._exact = Exact(np.concatenate([empty, *(values for values, _ in loaded)]))
        self._times = np.concatenate([np.zeros((0, 2)), *(times for _, times in loaded)])
        counts = [part.num_snippets for part in parts]
        self._file_ids = np.repeat(np.array([part.file_id for part in parts], np.int64), counts)
