"""What a session remembers of an object, and for how long: the bank of one object, and the policies.

A bank is one block of memory, written in place. Its frames are of three sorts: *given* ones, whose mask a person drew (never
evicted, never overwritten), *kept* ones, and at most one *previous* frame, which the next one replaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Kind = Literal["given", "kept", "previous"]
PolicyName = Literal["default", "paper", "first_previous", "bounded"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Which frames are remembered.

    Attributes:
        keeps: Whether every `memory_every`-th frame is kept, beside the given ones.
        has_previous: Whether the frame before is always remembered too, until the next one.
        most_kept: How many kept frames a bank may hold; None for any number.
        merges: What becomes of a frame that must go: its tokens are merged into those of other kept frames that are
            like them, with a count (spec 6.5c), or they are dropped.
        watches: Whether the state machine decides what is decoded, shown and remembered; it keeps a frame, too, whenever
            the object has moved.
    """

    keeps: bool = True
    has_previous: bool = True
    most_kept: int | None = None
    merges: bool = False
    watches: bool = False


# 5, 9 and 16 differ by less than the noise on DAVIS train and the objects world, and merging what goes adds nothing
MOST_KEPT = 9
RECENT = 3  # of the kept frames so many latest ones are not thinned
MERGE_COSINE = 0.9  # of two keys that may become one
POLICIES: dict[str, Policy] = {
    "paper": Policy(),
    "first_previous": Policy(keeps=False),
    "bounded": Policy(most_kept=MOST_KEPT),
    # J on DAVIS train, `small` at side 480: .815, and .677 by `paper`; that the previous frame costs 4 points was measured
    # with earlier weights at 240
    "default": Policy(has_previous=False, most_kept=MOST_KEPT, watches=True),
}


class Tokens(NamedTuple):
    """The used part of a bank as `MaskNetwork.read` takes it; views, no copies."""

    keys: Tensor  # [1, Ck, N]
    values: Tensor  # [1, Cv, N]
    bias: Tensor | None  # [1, N], log of how many tokens each stands for; None while each stands for itself
    coverage: Tensor  # [1, 1, N], share of each token's pixels that is the object


class Bank:
    """The memory of one object.

    Attributes:
        frames: Frame index of each slot in use.
        kinds: Sort of each slot in use.
    """

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.kinds: list[Kind] = []
        self.capacity = 0
        self.is_merged = False
        self._blocks: dict[str, Tensor] = {}  # name -> [C, capacity, h*w]

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def num_bytes(self) -> int:
        return sum(block.nbytes for block in self._blocks.values())

    def reserve(self, capacity: int, keys: Tensor, values: Tensor) -> None:
        """Room for `capacity` frames like these (`[Ck, h, w]`, `[Cv, h, w]`); what is there already stays."""
        if capacity <= self.capacity:
            return
        tokens = keys.shape[-2] * keys.shape[-1]
        like = {"keys": keys, "values": values, "counts": keys.new_empty(1, dtype=torch.float32)}
        like["coverage"] = like["counts"]
        for name, part in like.items():
            block = part.new_zeros(len(part), capacity, tokens)
            if name in self._blocks:
                block[:, : self.capacity] = self._blocks[name]
            self._blocks[name] = block
        self.capacity = capacity

    def write(self, slot: int, frame: int, kind: Kind, keys: Tensor, values: Tensor, coverage: Tensor) -> None:
        """Fills a slot, or the next free one when `slot` is the number of slots in use; grows by doubling.

        Args:
            slot: At most `len(bank)`.
            frame: Frame index.
            kind: Sort of the frame.
            keys: `[Ck, h, w]`.
            values: `[Cv, h, w]`.
            coverage: `[h, w]`, share of each token's pixels that is the object.
        """
        if slot == len(self):
            if slot == self.capacity:
                self.reserve(max(2, 2 * self.capacity), keys, values)
            self.frames.append(frame)
            self.kinds.append(kind)
        self.frames[slot], self.kinds[slot] = frame, kind
        self._blocks["keys"][:, slot] = keys.flatten(1)
        self._blocks["values"][:, slot] = values.flatten(1)
        self._blocks["coverage"][:, slot] = coverage.flatten()
        self._blocks["counts"][:, slot] = 1

    def drop(self, slot: int) -> None:
        """Frees a slot; the last one moves into its place."""
        last = len(self) - 1
        if slot != last:
            for block in self._blocks.values():
                block[:, slot] = block[:, last]
            self.frames[slot], self.kinds[slot] = self.frames[last], self.kinds[last]
        self.frames.pop()
        self.kinds.pop()

    def find(self, kind: Kind) -> int | None:
        """The first slot of a sort."""
        return self.kinds.index(kind) if kind in self.kinds else None

    def drop_previous(self) -> None:
        slot = self.find("previous")
        if slot is not None:
            self.drop(slot)

    def tokens(self, kinds: tuple[Kind, ...] | None = None) -> Tokens:
        """All tokens in use, or those of the frames of some sorts (a copy)."""
        slots: slice | list[int] = slice(len(self))
        if kinds is not None and not set(self.kinds) <= set(kinds):
            slots = [slot for slot, own in enumerate(self.kinds) if own in kinds]
        parts = {name: block[:, slots].flatten(1)[None] for name, block in self._blocks.items()}
        bias = parts["counts"][0].log().to(parts["keys"].dtype) if self.is_merged else None
        return Tokens(parts["keys"], parts["values"], bias, parts["coverage"])

    def frames_of(self, kind: Kind) -> tuple[Tensor, Tensor]:
        """Copies of the keys `[F, Ck, n]` and the coverage `[F, n]` of the frames of a sort."""
        slots = [slot for slot, own in enumerate(self.kinds) if own == kind]
        return self._blocks["keys"][:, slots].transpose(0, 1), self._blocks["coverage"][0, slots]

    def merge(self, slot: int) -> None:
        """Adds a slot's tokens to the kept tokens that are most like them and of the same label (spec 6.5c).

        Attention over `m` equal keys is attention over one of them with `log m` added and the mean value, so tokens
        that are nearly equal change little by becoming one. Those that are like none are left out.
        """
        others = [s for s, kind in enumerate(self.kinds) if kind == "kept" and s != slot]
        if not others:
            return
        keys = functional.normalize(self._blocks["keys"].float(), dim=0)  # [Ck, capacity, n]
        likeness = keys[:, slot].T @ keys[:, others].flatten(1)  # [n, M]
        is_object = self._blocks["coverage"][0] > 0.5
        likeness = likeness.masked_fill(is_object[slot][:, None] != is_object[others].flatten()[None], -1)
        best, at = likeness.max(1)
        sources = (best >= MERGE_COSINE).nonzero()[:, 0]
        tokens = keys.shape[-1]
        targets = torch.tensor(others, device=at.device)[at[sources] // tokens] * tokens + at[sources] % tokens
        counts = self._blocks["counts"][0]
        weights, flat = counts[slot, sources], counts.flatten()
        total = flat.index_add(0, targets, weights)
        for name in ("keys", "values", "coverage"):
            block = self._blocks[name]
            mean = (block.flatten(1).float() * flat).index_add(1, targets, block[:, slot, sources].float() * weights)
            touched = targets.unique()
            block.view(len(block), -1)[:, touched] = (mean[:, touched] / total[touched]).to(block.dtype)
        self._blocks["counts"][0] = total.view_as(counts)
        self.is_merged = True

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """Copies of what is in use, and the rest as plain values."""
        tensors = {name: block[:, : len(self)].clone() for name, block in self._blocks.items()}
        return tensors, {
            "frames": list(self.frames),
            "kinds": list(self.kinds),
            "capacity": self.capacity,
            "is_merged": self.is_merged,
        }

    def load_state(self, tensors: dict[str, Tensor], plain: dict) -> None:
        """Takes over what `state` gave."""
        self.frames, self.kinds = [int(f) for f in plain["frames"]], list(plain["kinds"])
        self.is_merged = bool(plain["is_merged"])
        self.capacity = int(plain["capacity"])  # the same strides, so the same rounding in products
        self._blocks = {}
        for name, part in tensors.items():
            block = part.new_zeros(len(part), self.capacity, part.shape[-1])
            block[:, : len(self)] = part
            self._blocks[name] = block


def room(policy: Policy, num_given: int = 1) -> int:
    """Frames that a bank holds from the start: all it can need, or a few where the policy sets no bound."""
    most = 8 if policy.most_kept is None else policy.most_kept
    return num_given + policy.keeps * most + policy.has_previous


def victim(frames: list[int], kinds: list[Kind]) -> int:
    """The kept slot to give up: the one whose neighbours in time are closest to each other, `RECENT` latest ones apart.

    Evenly spaced frames stay evenly spaced, at twice the distance; the earliest one goes of those that are equal.

    Example:
        >>> victim([0, 5, 10, 15, 20, 25, 30], ["given"] + 6 * ["kept"])
        1
        >>> victim([0, 10, 15, 20, 25, 30, 35], ["given"] + 6 * ["kept"])
        2
    """
    order = sorted((s for s, kind in enumerate(kinds) if kind != "previous"), key=lambda s: frames[s])
    kept = [s for s in order if kinds[s] == "kept"]
    candidates = set(kept[: max(1, len(kept) - RECENT)])
    gaps = {}
    for place, slot in enumerate(order):
        if slot in candidates:
            before = frames[order[place - 1]] if place else frames[slot]
            after = frames[order[place + 1]] if place + 1 < len(order) else frames[slot]
            gaps[slot] = after - before
    return min(gaps, key=lambda slot: (gaps[slot], frames[slot]))


def kind_of(
    policy: Policy, frames: list[int], kinds: list[Kind], frame: int, every: int, has_moved: bool = False
) -> Kind | None:
    """What a frame that is not given is to be: kept, `every` frames after the latest one that is given or kept (spec 1.8).

    Args:
        policy: What is kept.
        frames: Frame index of each slot.
        kinds: Sort of each slot.
        frame: Frame index.
        every: Distance of kept frames.
        has_moved: The object moved since the latest kept frame, so that this one is kept at once.

    Returns:
        None when it is not to be remembered.

    Example:
        >>> [kind_of(POLICIES["paper"], [0, 5], ["given", "kept"], frame, every=5) for frame in (9, 10)]
        ['previous', 'kept']
    """
    latest = max((f for f, kind in zip(frames, kinds, strict=True) if kind != "previous"), default=None)
    if policy.keeps and (has_moved or latest is None or frame - latest >= every):
        return "kept"
    return "previous" if policy.has_previous else None


def remember(
    bank: Bank, policy: Policy, frame: int, kind: Kind, keys: Tensor, values: Tensor, coverage: Tensor
) -> None:
    """Writes a frame into a bank; the previous frame's slot is used again.

    Args:
        bank: Of one object.
        policy: How much is kept.
        frame: Frame index.
        kind: What the frame is.
        keys: `[Ck, h, w]`.
        values: `[Cv, h, w]`.
        coverage: `[h, w]`.
    """
    bank.reserve(room(policy, max(1, bank.kinds.count("given") + (kind == "given"))), keys, values)
    bank.drop_previous()
    slot = bank.frames.index(frame) if kind == "given" and frame in bank.frames else len(bank)
    if kind == "kept" and policy.most_kept is not None and bank.kinds.count("kept") >= policy.most_kept:
        slot = victim(bank.frames, bank.kinds)
        if policy.merges:
            bank.merge(slot)
    bank.write(slot, frame, kind, keys, values, coverage)
