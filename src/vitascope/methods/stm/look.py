"""One frame of a session: remember the one before, read, decode, judge what was found, show what is believed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vitascope.methods.stm import signals as measured
from vitascope.methods.stm.memory import Bank, Kind, Policy, kind_of, remember
from vitascope.methods.stm.model import STRIDE, MaskNetwork, Query, aggregate, crop, pad
from vitascope.methods.stm.region import Box, around, decode_region, reaches_edge
from vitascope.methods.stm.sizes import small_frame
from vitascope.methods.stm.states import (
    Signals,
    Thresholds,
    Track,
    advance,
    confidence,
    has_moved,
    is_remembered,
    is_steady,
    shown_state,
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
    """One object: its memory, its state, and what it looks like in the frames in which a person outlined it."""

    bank: Bank = field(default_factory=Bank)
    track: Track = field(default_factory=Track)
    is_given: bool = True  # its mask of the latest frame is a person's
    given: measured.Given | None = None  # tokens of the bank's given frames, once they are asked for
    appearances: list[measured.Appearance] = field(default_factory=list)


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
    kinds = {channel: _kind(setup, known, now.index) for channel, known in enumerate(objects.values())}
    chosen = [channel for channel, kind in kinds.items() if kind is not None]
    if now.is_remembered or not chosen:
        return
    small = small_frame(now.pixels, setup.short_side, setup.dtype)
    is_judged = setup.policy.watches and any(known.is_given for known in objects.values())
    if now.query is None and (setup.network.memory_takes_query or is_judged):
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
            memory = keys[row], values[row], coverage[row]
            if known.is_given:
                remember_given(setup, known, now.index, memory, small, now.probabilities[1 + channel], now.query)
                known.is_given = False
            else:
                remember(known.bank, setup.policy, now.index, kinds[channel], *memory)
            if kinds[channel] != "previous":
                known.track = replace(known.track, kept_area=known.track.area, kept_centre=known.track.centre)
    now.is_remembered = True


def _kind(setup: Setup, known: Followed, index: int) -> Kind | None:
    """What the latest frame is to be in an object's memory."""
    if known.is_given:
        return "given"
    t, bank = setup.thresholds, known.bank
    if setup.policy.watches and not is_remembered(known.track, t):
        return None
    moved = setup.policy.watches and has_moved(known.track, t)
    return kind_of(setup.policy, bank.frames, bank.kinds, index, setup.memory_every, moved)


def remember_given(
    setup: Setup,
    known: Followed,
    index: int,
    memory: tuple[Tensor, Tensor, Tensor],
    small: Tensor,
    mask: Tensor,
    query: Query | None,
) -> None:
    """Writes a frame whose mask a person drew, for good, and takes note of what the object looks like there."""
    remember(known.bank, setup.policy, index, "given", *memory)
    known.given = None
    if setup.policy.watches and bool(mask.any()):
        known.appearances.append(measured.appearance(small, query.trunk, mask))


def remember_correction(setup: Setup, known: Followed, index: int, pixels: Tensor, mask: Tensor) -> None:
    """Writes an earlier frame, outlined anew, into an object's bank at once; the others in that frame are not known."""
    small = small_frame(pixels, setup.short_side, setup.dtype)
    frame, own = pad(small), pad(mask.to(setup.dtype)[None, None])
    query = setup.network.encode_query(frame)
    keys, values = setup.network.encode_memory(frame, own, torch.zeros_like(own), query)
    memory = keys[0], values[0], functional.avg_pool2d(own.float(), STRIDE)[0, 0]
    remember_given(setup, known, index, memory, small, mask, query)


def look(setup: Setup, objects: dict[int, Followed], before: Frame, frame: Frame, cut: float) -> Look:
    """Segments a frame; changes neither memory nor states: what was found may be thrown away.

    Args:
        setup: Of the session.
        objects: All that are followed, those that are away too.
        before: The latest frame that was segmented.
        frame: To be filled in: its probabilities and query.
        cut: Above 1 when the frame before belongs to another shot.
    """
    small = small_frame(frame.pixels, setup.short_side, setup.dtype)
    query = frame.query = setup.network.encode_query(pad(small))
    is_cut = setup.policy.watches and cut > 1
    matches = {o: _match(setup, known, query) for o, known in objects.items()} if setup.policy.watches else {}
    wanted = [o for o, known in objects.items() if _is_wanted(setup, known, matches.get(o), frame.index, is_cut)]
    everything = list(objects)
    boxes = {} if is_cut else _boxes(setup, objects, before, frame.index)
    own = _decode(setup, [(objects[o].bank, boxes.get(o)) for o in wanted], query, is_cut)  # [D, H, W]

    def merge(shown: list[int]) -> Tensor:
        merged = torch.zeros(1 + len(everything), *small.shape[-2:], device=small.device)
        rows = [wanted.index(o) for o in shown]
        logits = crop(aggregate(own[rows][None]), *small.shape[-2:])
        merged[[0, *(1 + everything.index(o) for o in shown)]] = logits[0].softmax(0).to(merged.dtype)
        return merged

    p = frame.probabilities = merge(wanted)
    labels, tracks, statuses = p.argmax(0), {}, []
    for channel, (o, known) in enumerate(objects.items(), 1):
        mask, track = labels == channel, known.track
        area, centre, certainty = measured.place(mask, p[channel])
        if not setup.policy.watches:
            signals = Signals(0.0, area, centre, certainty)
            sure = certainty if area > 0 else 1 - float(p[channel].max())
            track = replace(track, state="visible" if area > 0 else "absent", belief=sure)
        else:
            found = measured.appearance(small, query.trunk, mask) if area > 0 else None
            alike = measured.alike(known.appearances, found) if found else (0.0, 0.0)
            signals = Signals(cut if is_cut else 0.0, area, centre, certainty, *alike, matches[o][0])
            track = advance(track, signals, setup.thresholds) if o in wanted else track
        tracks[o] = track
        statuses.append(_status(setup, frame, o, known.track, track, signals, matches.get(o)))
    shown = [o for o in wanted if tracks[o].is_shown]
    if len(shown) < len(wanted):
        frame.probabilities = merge(shown)
    return Look(frame, tracks, tuple(statuses), is_cut)


def _match(setup: Setup, known: Followed, query: Query) -> tuple[float, float]:
    if known.given is None:
        known.given = measured.given_tokens(known.bank)
    return measured.match(setup.network, known.given, query.key)


def _is_wanted(setup: Setup, known: Followed, match: tuple[float, float] | None, index: int, is_cut: bool) -> bool:
    """Whether an object is to be decoded; one that is away only now and then, and when something is like it."""
    if match is None or is_cut or not known.track.is_away:
        return True
    t, usual = setup.thresholds, abs(known.track.match_mean)
    return match[1] > t.margin * usual or index % t.probe_frames == 0


def _boxes(setup: Setup, objects: dict[int, Followed], before: Frame, index: int) -> dict[int, Box | None]:
    """Where those can be that were surely seen a moment ago; on a CPU, as a GPU decodes all objects at once."""
    if not setup.policy.watches or before.probabilities.is_cuda:
        return {}
    labels = before.probabilities.argmax(0)
    return {
        o: around(labels == channel, index - before.index)
        for channel, (o, known) in enumerate(objects.items(), 1)
        if is_remembered(known.track, setup.thresholds)
    }


def _decode(setup: Setup, wanted: list[tuple[Bank, Box | None]], query: Query, is_cut: bool) -> Tensor:
    """Foreground probabilities of each object by itself, `[D, H, W]`, H and W padded; over a cut without the frame before."""
    height, width = (STRIDE * n for n in query.key.shape[-2:])
    found, read = {}, {}
    for number, (bank, box) in enumerate(wanted):
        tokens = bank.tokens(("given", "kept") if is_cut else None)
        if box is not None:
            part = decode_region(setup.network, tokens, query, box)
            if not reaches_edge(part, box):
                found[number] = part
                continue
        read[number] = setup.network.read(tokens.keys, tokens.values, query.key, tokens.bias)
    if read:
        whole = setup.network.foreground(torch.cat(list(read.values())), query)
        found |= dict(zip(read, whole.split(1), strict=True))
    return torch.cat([torch.zeros(0, height, width, device=setup.device), *(found[n] for n in range(len(wanted)))])


def _status(
    setup: Setup,
    frame: Frame,
    object_id: int,
    before: Track,
    track: Track,
    signals: Signals,
    match: tuple[float, float] | None,
) -> ObjectStatus:
    scores = {"certainty": signals.certainty}
    if match is not None:
        scores |= {"colours": signals.colours, "likeness": signals.likeness, "cut": signals.cut}
        scores |= {"match": z_score(before, match[0], setup.thresholds), "margin": match[1]}
    area = signals.area if track.is_shown else 0.0
    return ObjectStatus(frame.index, frame.seconds, object_id, shown_state(track), confidence(track), area, scores)


def is_calm(setup: Setup, objects: dict[int, Followed], found: Look) -> bool:
    """Whether so little happened between two segmented frames that those between them can be filled in."""
    return not found.is_cut and all(
        is_steady(known.track, found.tracks[o], setup.thresholds) for o, known in objects.items()
    )
