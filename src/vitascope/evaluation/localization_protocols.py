"""The protocols under which the field reports localization, by name."""

from __future__ import annotations

from typing import Literal, NamedTuple

from vitascope.metrics.localization import Ties

Unknown = Literal["error", "drop", "false_positive"]
Missing = Literal["count", "skip"]

TENTHS = tuple(k / 10 for k in range(1, 8))
TWENTIETHS = tuple(k / 20 for k in range(10, 20))
THUMOS_AVERAGES = ((0.1, 0.7), (0.1, 0.5), (0.3, 0.7))


class Protocol(NamedTuple):
    """How predictions are judged.

    Attributes:
        name: As it is reported.
        thresholds: Of tIoU.
        averages: Ranges of thresholds, both ends included, over which mAP is averaged; the first is the main one.
        split: Of the truth, that is judged; empty for all. Data without splits are judged whole.
        grid_per_second: Times are rounded to so many steps a second, halves to even; None judges them as they are.
        left_out: Ids of videos that are no part of the test set.
        num_videos: Of the test set; None if the protocol does not tell.
        ambiguous: Whether predictions of any class that overlap an ambiguous stretch are dropped before scoring.
        merge_repeated: Whether true segments of one class whose ends lie both within 1 ms count once.
        ties: As `metrics.localization.average_precisions`.
        unknown: What becomes of predictions for videos that the truth does not have.
    """

    name: str
    thresholds: tuple[float, ...]
    averages: tuple[tuple[float, float], ...]
    split: str = ""
    grid_per_second: float | None = None
    left_out: frozenset[str] = frozenset()
    num_videos: int | None = None
    ambiguous: bool = False
    merge_repeated: bool = False
    ties: Ties = "reverse"
    unknown: Unknown = "false_positive"

    def ranges(self) -> dict[str, list[int]]:
        """The places of the thresholds that each average is over, by its name; the main one first.

        Example:
            >>> PROTOCOLS["plain"].ranges()["0.3:0.7"]
            [2, 3, 4, 5, 6]
        """
        return {
            f"{low:g}:{high:g}": [n for n, limit in enumerate(self.thresholds) if low - 1e-9 < limit < high + 1e-9]
            for low, high in self.averages
        }


_ANET = {"thresholds": TWENTIETHS, "averages": ((0.5, 0.95),), "split": "validation"}
_FAULTY = frozenset({"video_test_0000270", "video_test_0001496"})  # segments beyond the end of the video
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("plain", TENTHS, THUMOS_AVERAGES, ties="input", unknown="error"),
        Protocol("basnet_seconds_210", TENTHS, THUMOS_AVERAGES, "test", left_out=_FAULTY, num_videos=210),
        Protocol("co2_grid_212", TENTHS, THUMOS_AVERAGES, "test", 25 / 16, num_videos=212, ambiguous=True),
        Protocol("actionformer_212", TENTHS[2:], ((0.3, 0.7),), "test", num_videos=212, merge_repeated=True),
        Protocol("anet12", **_ANET),
        Protocol("anet13", **_ANET),
    )
}


def protocol_of(protocol: Protocol | str) -> Protocol:
    """A protocol by its name, or itself.

    Raises:
        ValueError: There is none of this name, or a range of its averages has no threshold.
    """
    if isinstance(protocol, str) and protocol not in PROTOCOLS:
        raise ValueError(f"protocol ({protocol}) must be one of: {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[protocol] if isinstance(protocol, str) else protocol
    for name, inside in protocol.ranges().items():
        if not inside:
            limits = ", ".join(f"{limit:g}" for limit in protocol.thresholds)
            raise ValueError(
                f"protocol {protocol.name} averages over {name}, which has none of its thresholds ({limits}); change either"
            )
    return protocol


def describe(protocol: Protocol, split: str, unknown: Unknown, missing: Missing, num_videos: int) -> str:
    """What a result was judged by, in words."""
    steps = protocol.grid_per_second
    times = "in seconds" if steps is None else f"rounded to steps of {1 / steps:g} s"
    ambiguous = "dropped before scoring, of any class" if protocol.ambiguous else "judged as any other"
    ties = "first" if protocol.ties == "input" else "last, as in the official code with stable sorts,"
    empty = "count as videos in which nothing is found" if missing == "count" else "are left out"
    strangers = {
        "error": "refused",
        "drop": "dropped",
        "false_positive": "false positives, as the official rule has it",
    }[unknown]
    return (
        f"Protocol {protocol.name}: {f'split {split}' if split else 'all splits'}, {num_videos} videos judged; times "
        f"{times}; tIoU {', '.join(f'{limit:g}' for limit in protocol.thresholds)}. ActivityNet's rule: predictions of a "
        "class are pooled over all videos, the best score first, and each takes the free true segment of its video that "
        "it overlaps most; AP is the area under precision made falling, mAP the mean over the classes that the truth of "
        f"the judged videos has. Of equal scores the one given {ties} comes first. Predictions that overlap an ambiguous "
        f"stretch are {ambiguous}; those for videos that are not in the truth are {strangers}; videos without predictions "
        f"{empty}."
    )
