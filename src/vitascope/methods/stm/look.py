"""One frame of a session: remember the one before, read, decode, judge what was found, merge what is believed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitascope.methods.stm import signals as measured
from vitascope.methods.stm.memory import Bank, Policy, remember
from vitascope.methods.stm.model import STRIDE, MaskNetwork, Query, aggregate, crop, pad
from vitascope.methods.stm.sizes import small_frame
from vitascope.methods.stm.states import (
    Signals,
    Thresholds,
    Track,
    advance,
    confidence,
    is_steady,
    must_verify,
    z_score,
)
from vitascope.structures import ObjectStatus


@dataclass(frozen=True, slots=True)
class Setup:
    """What stays the same through a session."""

    network: MaskNetwork
    policy: Policy
    thresholds: Thresholds
    short_side: int | None
    memory_every: int
    device: torch.device
    dtype: torch.dtype


@dataclass(slots=True)
class Followed:
    """One object: its memory, its state, and the frame in which it was outlined last."""

    bank: Bank = field(default_factory=Bank)
    track: Track = field(default_factory=Track)
    is_given: bool = True  # its mask of the latest frame is a person's
    anchors: Tensor | None = None  # of the bank's given frames, once they are asked for
    reference: tuple[Tensor, Tensor] | None = None  # frame [1, 3, h, w] and mask [h, w] at the network's size


@dataclass(slots=True)
class Frame:
    """A frame that was segmented."""

    index: int
    seconds: float
    pixels: Tensor  # uint8 [3, H, W]
    probabilities: Tensor  # [1 + O, h, w] at the network's size, the background first, objects as in the session
    thumbnail: np.ndarray
    query: Query | None = None
    is_remembered: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What was found in a frame, before it is made the latest one."""

    frame: Frame
    tracks: dict[int, Track]
    statuses: tuple[ObjectStatus, ...]
    is_cut: bool


def remember_frame(setup: Setup, objects: dict[int, Followed], now: Frame) -> None:
    """Writes a frame into the banks of the objects that are to remember it; a second call does nothing."""
    chosen = [
        channel
        for channel, known in enumerate(objects.values())
        if known.is_given or known.track.is_remembered or not setup.policy.watches
    ]
    if now.is_remembered or not chosen:
        return
    small = small_frame(now.pixels, setup.short_side, setup.dtype)
    if now.query is None and setup.network.memory_takes_query:
        now.query = setup.network.encode_query(pad(small))
    own = pad(now.probabilities[1:, None].to(setup.dtype))  # [O, 1, H, W]
    others = {o: (own[:o].sum(0, keepdim=True) + own[o + 1 :].sum(0, keepdim=True)).clamp(0, 1) for o in chosen}
    frame, followed = pad(small), list(objects.values())
    groups = [chosen] if frame.is_cuda else [[channel] for channel in chosen]
    for group in groups:
        rows = frame.expand(len(group), -1, -1, -1)
        beside = torch.cat([others[channel] for channel in group])
        keys, values = setup.network.encode_memory(rows, own[group], beside, now.query)
        coverage = functional.avg_pool2d(own[group].float(), STRIDE)[:, 0]  # [P, h, w]
        for row, channel in enumerate(group):
            known = followed[channel]
            write(setup, known, now.index, known.is_given, (keys[row], values[row], coverage[row]))
            known.is_given = False
    now.is_remembered = True


def write(setup: Setup, known: Followed, frame: int, is_given: bool, memory: tuple[Tensor, Tensor, Tensor]) -> None:
    """Keys `[Ck, h, w]`, values `[Cv, h, w]` and coverage `[h, w]` of a frame into an object's bank."""
    remember(known.bank, setup.policy, frame, is_given, setup.memory_every, *memory)
    if is_given:
        known.anchors = None


def remember_correction(setup: Setup, known: Followed, index: int, frame: Tensor, mask: Tensor) -> None:
    """Writes an earlier frame `[1, 3, h, w]`, outlined anew, into an object's bank; others in that frame are not known."""
    if mask.any():
        known.reference = (frame, mask)
    frame, mask = (pad(part.to(setup.dtype)) for part in (frame, mask[None, None]))
    keys, values = setup.network.encode_memory(frame, mask, torch.zeros_like(mask), setup.network.encode_query(frame))
    write(setup, known, index, True, (keys[0], values[0], functional.avg_pool2d(mask.float(), STRIDE)[0, 0]))


def look(setup: Setup, objects: dict[int, Followed], frame: Frame, cut: float) -> Look:
    """Segments a frame; changes nothing but the objects' anchors, which are worked out once.

    Args:
        setup: Of the session.
        objects: All that are followed, those that are away too.
        frame: To be filled in: its probabilities and query.
        cut: Above 1 when the frame before belongs to another shot.
    """
    small = small_frame(frame.pixels, setup.short_side, setup.dtype)
    query = frame.query = setup.network.encode_query(pad(small))
    is_cut = setup.policy.watches and cut > 1
    evidence = {object_id: _evidence(setup, known, query, frame.index, is_cut) for object_id, known in objects.items()}
    wanted = [object_id for object_id, found in evidence.items() if found is None]
    own = _decode(setup, [objects[object_id].bank for object_id in wanted], query, is_cut)  # [D, H, W]
    size = tuple(small.shape[-2:])
    everything = list(objects)

    def merge(shown: list[int]) -> Tensor:
        merged = torch.zeros(1 + len(everything), *size, device=small.device)
        rows = [wanted.index(object_id) for object_id in shown]
        logits = crop(aggregate(own[rows][None]), *size) if rows else torch.zeros(1, 1, *size, device=small.device)
        merged[[0, *(1 + everything.index(object_id) for object_id in shown)]] = logits[0].softmax(0).to(merged.dtype)
        return merged

    p = frame.probabilities = merge(wanted)
    labels, signals, tracks = p.argmax(0), {}, {}
    for channel, (object_id, known) in enumerate(objects.items(), 1):
        mask = labels == channel
        area, centre, certainty = measured.place(mask, p[channel])
        found = evidence[object_id]
        found = float(p[channel].max()) if found is None else found
        similarity = _match(setup, known, query) if setup.policy.watches else 0.0
        now = Signals(cut if is_cut else 0.0, area, centre, certainty, similarity, found)
        if setup.policy.watches and must_verify(known.track, now, setup.thresholds):
            now = now.verified(_agreement(setup, known, small, p, channel, query))
        signals[object_id] = now
        tracks[object_id] = _moved(setup, known.track, now)
    shown = [object_id for object_id in wanted if tracks[object_id].is_shown]
    if len(shown) < len(wanted):
        frame.probabilities = merge(shown)
    statuses = tuple(
        _status(setup, frame, object_id, objects[object_id].track, tracks[object_id], signals[object_id])
        for object_id in objects
    )
    return Look(frame, tracks, statuses, is_cut)


def _evidence(setup: Setup, known: Followed, query: Query, index: int, is_cut: bool) -> float | None:
    """None when the object is to be decoded; else how little speaks for it."""
    if not setup.policy.watches or is_cut or known.track.state in ("visible", "occluded"):
        return None
    found = measured.attention(setup.network, known.bank, query.key)
    is_due = index % setup.thresholds.probe_frames == 0
    return None if is_due or found >= setup.thresholds.attention else found


def _decode(setup: Setup, banks: list[Bank], query: Query, is_cut: bool) -> Tensor:
    """Foreground probabilities of each object by itself, `[D, H, W]`, H and W padded; memory of the shot before is left out."""
    height, width = (STRIDE * n for n in query.key.shape[-2:])
    if not banks:
        return torch.zeros(0, height, width, device=setup.device)
    read = []
    for bank in banks:
        tokens = bank.tokens(("given", "kept") if is_cut else None)
        read.append(setup.network.read(tokens.keys, tokens.values, query.key, tokens.bias))
    return setup.network.foreground(torch.cat(read), query)


def _match(setup: Setup, known: Followed, query: Query) -> float:
    if known.anchors is None:
        known.anchors = measured.anchors(known.bank)
    return measured.match(setup.network, known.anchors, query.key)


def _agreement(setup: Setup, known: Followed, small: Tensor, p: Tensor, channel: int, query: Query) -> float:
    """Takes this frame and its mask as the only memory, and finds the object in the frame in which it was outlined."""
    own = pad(p[channel][None, None].to(setup.dtype))
    others = pad((1 - p[0] - p[channel]).clamp(0, 1)[None, None].to(setup.dtype))
    keys, values = setup.network.encode_memory(pad(small), own, others, query)
    frame, mask = known.reference
    there = setup.network.encode_query(pad(frame.to(setup.dtype)))
    read = setup.network.read(keys.flatten(2), values.flatten(2), there.key)
    found = crop(setup.network.foreground(read, there), *mask.shape)
    return measured.overlap(found[0], mask)


def _moved(setup: Setup, track: Track, signals: Signals) -> Track:
    if setup.policy.watches:
        return advance(track, signals, setup.thresholds)
    return Track("visible" if signals.area > 0 else "absent")


def _status(setup: Setup, frame: Frame, object_id: int, before: Track, track: Track, signals: Signals) -> ObjectStatus:
    t = setup.thresholds
    scores = {"cut": signals.cut, "match": z_score(before, signals.match, t), "evidence": signals.evidence}
    if signals.agreement is not None:
        scores["agreement"] = signals.agreement
    area = signals.area if track.is_shown else 0.0
    sure = confidence(track, signals, t)
    return ObjectStatus(frame.index, frame.seconds, object_id, track.state, sure, area, scores)


def is_calm(objects: dict[int, Followed], found: Look) -> bool:
    """Whether so little happened between two segmented frames that those between them can be filled in."""
    return not found.is_cut and all(is_steady(known.track, found.tracks[o]) for o, known in objects.items())
