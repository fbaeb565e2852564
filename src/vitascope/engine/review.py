"""What a person should know of a cut-out: how long each object was in which state, and which frames to look at."""

from __future__ import annotations

from typing import Any

from vitascope.store.cutouts import Row
from vitascope.structures import Gap

MOST_BINS = 240  # of the video's time; of each the frame most worth checking is a candidate
MOST_CHECKS = 12
MOST_RETURNS = 4  # of these; is it the same object? but a video may have nothing but returns
SHOWN = ("visible", "occluded")


class Review:
    """Takes the rows of a cut-out in order of time, and keeps what fits a page, however long the video is.

    Args:
        duration_seconds: Of the video.
        gaps: Stretches that cannot be decoded: nothing is said of them.

    Example:
        >>> review = Review(2.0)
        >>> for i in range(4):
        ...     review.add([{"frame": i, "seconds": i / 2, "object": 1, "state": "visible", "confidence": 1 - i / 10}])
        >>> [frame["frame"] for frame in review.checks()]
        [0, 1, 2, 3]
        >>> review.stretches(2.0)
        [{'object': 1, 'state': 'visible', 'start_seconds': 0.0, 'end_seconds': 2.0, 'first_frame': 0, 'last_frame': 3}]
    """

    def __init__(self, duration_seconds: float, gaps: tuple[Gap, ...] = ()) -> None:
        self._gaps = gaps
        self._bin_seconds = max(duration_seconds / MOST_BINS, 1e-6)
        self._duration_seconds = duration_seconds
        self._stretches: list[dict[str, Any]] = []
        self._open: dict[int, dict[str, Any]] = {}  # object -> its present stretch
        self._seen: dict[int, float] = {}  # object -> seconds of its latest frame
        self._unsure: dict[int, dict[str, Any]] = {}  # bin -> event of least confidence
        self._returns: dict[int, dict[str, Any]] = {}  # bin -> return of least confidence
        self._counts: dict[int, dict[str, float]] = {}

    def add(self, row: Row) -> None:
        """Take the next frame."""
        for event in row:
            o, before = event["object"], self._open.get(event["object"])
            gap = self._gap_after(self._seen.get(o, event["seconds"]), event["seconds"])
            if before is None or before["state"] != event["state"] or gap is not None:
                self._turn(event, gap)
            if before is not None and event["state"] in SHOWN and before["state"] not in SHOWN:
                self._keep(self._returns, event, "came back")
            self._keep(self._unsure, event, "least sure here")
            self._open[o]["last_frame"], self._seen[o] = event["frame"], event["seconds"]
            self._count(event)

    def stretches(self, end_seconds: float) -> list[dict[str, Any]]:
        """For each object its states in order of time, `[start_seconds, end_seconds)`; gaps are in none."""
        last = []
        for o, stretch in self._open.items():
            gap = self._gap_after(self._seen[o], end_seconds)
            last.append(stretch | {"end_seconds": end_seconds if gap is None else round(gap.start_seconds, 6)})
        return sorted(self._stretches + last, key=lambda stretch: (stretch["object"], stretch["start_seconds"]))

    def objects(self) -> list[dict[str, Any]]:
        """For each object the number of frames in each state, and its mean confidence."""
        told = []
        for o, counts in sorted(self._counts.items()):
            states = {state: int(n) for state, n in counts.items() if state != "confidence"}
            told.append(
                {"object": o, "frames": states, "confidence": round(counts["confidence"] / sum(states.values()), 4)}
            )
        return told

    def checks(self) -> list[dict[str, Any]]:
        """The frames most worth checking, spread over the video, in order of time: some returns, and the least sure."""
        chosen: list[dict[str, Any]] = []
        for found, most in ((self._returns, MOST_RETURNS), (self._unsure, MOST_CHECKS)):
            candidates = sorted(found.values(), key=lambda event: (event["confidence"], event["frame"]))
            distance = self._duration_seconds / MOST_CHECKS
            while distance > self._bin_seconds / 2 and len(chosen) < most:
                chosen += _apart(candidates, chosen, distance, most)
                distance /= 2
        return sorted(chosen, key=lambda event: (event["frame"], event["object"]))

    def _keep(self, found: dict[int, dict[str, Any]], event: dict[str, Any], why: str) -> None:
        place = int(event["seconds"] / self._bin_seconds)
        if place not in found or event["confidence"] < found[place]["confidence"]:
            found[place] = {key: value for key, value in event.items() if key != "scores"} | {"why": why}

    def _gap_after(self, seconds: float, until: float) -> Gap | None:
        between = (gap for gap in self._gaps if gap.end_seconds > seconds and gap.start_seconds < until)
        return min(between, key=lambda gap: gap.start_seconds, default=None)

    def _turn(self, event: dict[str, Any], gap: Gap | None) -> None:
        before = self._open.get(event["object"])
        if before is not None:
            end = event["seconds"] if gap is None else round(gap.start_seconds, 6)
            self._stretches.append(before | {"end_seconds": end})
        self._open[event["object"]] = {
            "object": event["object"],
            "state": event["state"],
            "start_seconds": event["seconds"],
            "end_seconds": event["seconds"],
            "first_frame": event["frame"],
            "last_frame": event["frame"],
        }

    def _count(self, event: dict[str, Any]) -> None:
        counts = self._counts.setdefault(event["object"], {"confidence": 0.0})
        counts[event["state"]] = counts.get(event["state"], 0) + 1
        counts["confidence"] += event["confidence"]


def _apart(
    candidates: list[dict[str, Any]], chosen: list[dict[str, Any]], distance: float, most: int
) -> list[dict[str, Any]]:
    """Candidates in their order that are `distance` seconds from those chosen and from each other, `most` with them."""
    more: list[dict[str, Any]] = []
    for event in candidates:
        if len(chosen) + len(more) == most:
            break
        if all(abs(event["seconds"] - other["seconds"]) >= distance for other in chosen + more):
            more.append(event)
    return more
