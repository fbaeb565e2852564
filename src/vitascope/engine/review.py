"""What a person should know of a cut-out: how long each object was in which state, and which frames to look at."""

from __future__ import annotations

from typing import Any

from vitascope.store.cutouts import Row

MOST_BINS = 240  # of the video's time; of each the frame most worth checking is a candidate
MOST_CHECKS = 12
SHOWN = ("visible", "occluded")


class Review:
    """Takes the rows of a cut-out in order of time, and keeps what fits a page, however long the video is.

    Args:
        duration_seconds: Of the video.

    Example:
        >>> review = Review(2.0)
        >>> for i in range(4):
        ...     review.add([{"frame": i, "seconds": i / 2, "object": 1, "state": "visible", "confidence": 1 - i / 10}])
        >>> [frame["frame"] for frame in review.checks()]
        [3, 2, 1, 0]
        >>> review.stretches(2.0)
        [{'object': 1, 'state': 'visible', 'start_seconds': 0.0, 'end_seconds': 2.0, 'first_frame': 0, 'last_frame': 3}]
    """

    def __init__(self, duration_seconds: float) -> None:
        self._bin_seconds = max(duration_seconds / MOST_BINS, 1e-6)
        self._duration_seconds = duration_seconds
        self._stretches: list[dict[str, Any]] = []
        self._open: dict[int, dict[str, Any]] = {}  # object -> its present stretch
        self._best: dict[int, tuple[float, dict[str, Any]]] = {}  # bin -> worth, event
        self._counts: dict[int, dict[str, float]] = {}

    def add(self, row: Row) -> None:
        """Take the next frame."""
        for event in row:
            before = self._open.get(event["object"])
            why, worth = "low confidence", 1.0 - event["confidence"]
            if before is None or before["state"] != event["state"]:
                if before is not None and event["state"] in SHOWN and before["state"] not in SHOWN:
                    why, worth = "came back", worth + 1.0  # is it the same object? nothing else decides as much
                self._turn(event)
            self._open[event["object"]]["last_frame"] = event["frame"]
            self._count(event)
            place, found = int(event["seconds"] / self._bin_seconds), event | {"why": why}
            if place not in self._best or worth > self._best[place][0]:
                self._best[place] = worth, {key: value for key, value in found.items() if key != "scores"}

    def stretches(self, end_seconds: float) -> list[dict[str, Any]]:
        """For each object its states in order of time, `[start_seconds, end_seconds)`."""
        last = [stretch | {"end_seconds": end_seconds} for stretch in self._open.values()]
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
        """The frames most worth checking, the most worth first, spread over the video."""
        candidates = sorted(self._best.values(), key=lambda item: (-item[0], item[1]["frame"]))
        distance, chosen = self._duration_seconds / MOST_CHECKS, []
        while distance > self._bin_seconds / 2 and len(chosen) < min(MOST_CHECKS, len(candidates)):
            for _, event in candidates:
                is_apart = all(abs(event["seconds"] - other["seconds"]) >= distance for other in chosen)
                if is_apart and len(chosen) < MOST_CHECKS:
                    chosen.append(event)
            distance /= 2
        return chosen

    def _turn(self, event: dict[str, Any]) -> None:
        before = self._open.get(event["object"])
        if before is not None:
            self._stretches.append(before | {"end_seconds": event["seconds"]})
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
