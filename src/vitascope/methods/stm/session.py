"""Following objects through a stream of frames: frames go in one at a time, masks come out, memory stays bounded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitascope.methods.stm import signals as measured
from vitascope.methods.stm.between import fill
from vitascope.methods.stm.look import Followed, Frame, Look, Setup, is_calm, look, remember_correction, remember_frame
from vitascope.methods.stm.memory import POLICIES, PolicyName
from vitascope.methods.stm.model import MaskNetwork
from vitascope.methods.stm.sizes import labels_of, small_mask, small_size
from vitascope.methods.stm.states import Thresholds, Track
from vitascope.structures import Masks, ObjectStatus

MOST_OBJECTS = 254  # ids are those of a uint8 mask; 255 marks void pixels in the data sets


@dataclass(slots=True)
class _Held:
    """A frame that waits for the next one that is segmented."""

    pixels: Tensor
    seconds: float
    thumbnail: np.ndarray
    cut: float


class _Known(NamedTuple):
    """A frame whose masks are known."""

    seconds: float
    labels: np.ndarray  # uint8 [H, W]
    statuses: tuple[ObjectStatus, ...]


class VideoObjectSession:
    """Follows objects from the masks of a frame through the frames that come, in the order in which they are given.

    Forwards, backwards or from the middle is a matter of that order. Memory does not grow with the number of frames,
    but for the policy `paper`.

    Args:
        network: In eval mode; its weights say device and dtype.
        policy: What is remembered: `paper` is first, previous and every 5th frame, all of them; `first_previous` those
            two; `bounded` is `paper` with a constant number of frames; `default` is `bounded`, and looks out for shot
            cuts, absence, occlusion and return: it shows nothing of an object that is away, and remembers only masks
            that it believes (`states.py`).
        short_side: Pixels of the shorter side at which the network works; None for the frames' own.
        memory_every: Distance of kept frames.
        frame_stride: Every so many frames are segmented, those between are filled in where little happens.
        thresholds: Of the states.

    Raises:
        ValueError: A parameter is out of its range.

    Example:
        >>> from vitascope.methods.stm.light import LightSTM
        >>> session = VideoObjectSession(LightSTM().eval())
        >>> frame, mask = torch.zeros(3, 48, 64, dtype=torch.uint8), np.zeros((48, 64), bool)
        >>> mask[10:30, 10:40] = True
        >>> session.add_object(frame, mask, object_id=7)
        >>> session.step(frame, seconds=0.04).masks.shape
        (1, 48, 64)
    """

    def __init__(
        self,
        network: MaskNetwork,
        policy: PolicyName = "default",
        *,
        short_side: int | None = None,
        memory_every: int = 5,
        frame_stride: int = 1,
        thresholds: Thresholds | None = None,
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(f"policy ({policy}) must be one of {', '.join(POLICIES)}")
        for name, value in (("short_side", short_side), ("memory_every", memory_every), ("frame_stride", frame_stride)):
            if value is not None and value < 1:
                raise ValueError(f"{name} ({value}) must be > 0")
        if network.training:
            raise ValueError("network is in training mode; call network.eval() first")
        weight = next(network.parameters(), torch.zeros(()))
        self.frame_stride = frame_stride
        self._setup = Setup(
            network, POLICIES[policy], thresholds or Thresholds(), short_side, memory_every, weight.device, weight.dtype
        )
        self._objects: dict[int, Followed] = {}
        self._now: Frame | None = None
        self._motion = 0.0
        self._held: list[_Held] = []
        self._statuses: tuple[ObjectStatus, ...] = ()

    @property
    def frame_index(self) -> int:
        """Of the latest frame, counted from 0 in the order in which they were given; -1 before the first."""
        return (-1 if self._now is None else self._now.index) + len(self._held)

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self._objects)

    @property
    def status(self) -> tuple[ObjectStatus, ...]:
        """Of each object in each frame that the latest call returned; after `add_object` and `correct`, in that frame."""
        return self._statuses

    @torch.inference_mode()
    def add_object(self, frame: Tensor, mask: Any, object_id: int) -> None:
        """A new object, outlined in the current frame: the first one, or the one that `step` was called with last.

        Where the mask lies over others, it is the new object's (as YouTube-VOS has it).

        Args:
            frame: uint8 `[3, H, W]`.
            mask: bool or 0 and 1, `[H, W]`.
            object_id: 1 to 254.

        Raises:
            ValueError: Shapes, dtype or id are not as said, the mask is empty, the frame is not the current one, or frames
                are held back.
        """
        mask = self._check_mask(self._check_frame(frame), mask)
        if not 1 <= object_id <= MOST_OBJECTS:
            raise ValueError(f"object_id ({object_id}) must be between 1 and {MOST_OBJECTS}")
        if object_id in self._objects:
            raise ValueError(f"object_id ({object_id}) is there already; remove it first, or correct it")
        if not mask.any():
            raise ValueError(f"mask of object {object_id} is empty; outline the object in at least one pixel")
        self._check_nothing_held("add an object")
        now = self._now
        if now is None:
            pixels = frame.to(self._setup.device)
            nothing = torch.ones(1, *small_size(*pixels.shape[1:], self._setup.short_side), device=self._setup.device)
            now = self._now = Frame(0, 0.0, pixels, nothing, measured.thumbnail(frame))
        elif not torch.equal(frame.to(self._setup.device), now.pixels):
            raise ValueError(f"frame is not the current one, frame {now.index}; step to it first, then add the object")
        self._objects[object_id] = Followed()
        now.probabilities = torch.cat([now.probabilities, torch.zeros_like(now.probabilities[:1])])
        self._give(object_id, mask)

    @torch.inference_mode()
    def correct(self, frame_index: int, mask: Any, object_id: int, frame: Tensor | None = None) -> None:
        """A person's mask of an object in a frame that has been seen; it is never forgotten nor overwritten.

        Frames that were returned already stay as they are; those to come profit.

        Args:
            frame_index: As `frame_index` counts.
            mask: bool or 0 and 1, `[H, W]`; an empty one says that the object is not there.
            object_id: Of an object that is there.
            frame: uint8 `[3, H, W]`; needed for all frames but the latest one, whose pixels are still held.

        Raises:
            ValueError: No such object or frame, its pixels are not held any more, shapes are not as said, or frames are
                held back.
        """
        known = self._object(object_id)
        self._check_nothing_held("correct one")
        now = self._now
        if not 0 <= frame_index <= now.index:
            raise ValueError(f"frame_index ({frame_index}) must be between 0 and {now.index}, the latest frame")
        if frame_index == now.index:
            self._give(object_id, self._check_mask(tuple(now.pixels.shape[1:]), mask))
            return
        if frame is None:
            raise ValueError(
                f"frame {frame_index} is not held any more, only {now.index} is; pass its pixels as frame="
            )
        mask = small_mask(self._check_mask(self._check_frame(frame), mask), self._setup.short_side)
        remember_correction(self._setup, known, frame_index, frame.to(self._setup.device), mask)

    @torch.inference_mode()
    def remove(self, object_id: int) -> None:
        """Forgets an object; its id is free again.

        Raises:
            ValueError: No such object, or frames are held back.
        """
        self._object(object_id)
        self._check_nothing_held("remove one")
        channel = 1 + list(self._objects).index(object_id)
        p = self._now.probabilities.clone()
        p[0] += p[channel]
        self._now.probabilities = torch.cat([p[:channel], p[channel + 1 :]])
        del self._objects[object_id]
        self._statuses = tuple(status for status in self._statuses if status.object_id != object_id)

    @torch.inference_mode()
    def step(self, frame: Tensor, seconds: float | None = None) -> Masks:
        """The next frame.

        Args:
            frame: uint8 `[3, H, W]`, of the same size as those before.
            seconds: Its presentation time; by default the index of the frame.

        Returns:
            The masks that became known: of this frame, or with `frame_stride` above 1 of none, or of several.

        Raises:
            ValueError: Shape or dtype are not as said, or no object was ever added.
        """
        self._check_frame(frame)
        if self._now is None:
            raise ValueError("there is nothing to follow; call add_object with the first frame and a mask")
        seconds = float(self.frame_index + 1) if seconds is None else float(seconds)
        thumbnail = measured.thumbnail(frame)
        before = self._held[-1].thumbnail if self._held else self._now.thumbnail
        cut, self._motion = measured.cut_score(before, thumbnail, self._motion, self._setup.thresholds)
        held = _Held(frame.to(self._setup.device), seconds, thumbnail, cut)
        self._held.append(held)
        known = self._segment_held() if len(self._held) == self.frame_stride else []
        return self._masks(known)

    @torch.inference_mode()
    def finish(self) -> Masks:
        """The masks of the frames that are still held back; with `frame_stride` 1 there are none."""
        return self._masks(self._flush())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the frames to come depend on: copies of tensors, and plain values that JSON takes.

        A session of the same network and parameters that loads them gives the same masks, bit for bit.
        """
        tensors: dict[str, Tensor] = {}
        plain: dict[str, Any] = {"motion": self._motion, "objects": {}, "held": []}
        now = self._now
        if now is not None:
            tensors["now.pixels"], tensors["now.probabilities"] = now.pixels.clone(), now.probabilities.clone()
            plain["now"] = {"index": now.index, "seconds": now.seconds, "is_remembered": now.is_remembered}
        for object_id, known in self._objects.items():
            parts, bank = known.bank.state()
            for number, looks in enumerate(known.appearances):
                parts[f"colours.{number}"] = looks.colours.clone()
                for level, (own, ground) in enumerate(zip(looks.features, looks.ground, strict=True)):
                    parts[f"features.{number}.{level}"], parts[f"ground.{number}.{level}"] = own.clone(), ground.clone()
            tensors.update({f"object.{object_id}.{name}": part for name, part in parts.items()})
            plain["objects"][str(object_id)] = {
                "bank": bank,
                "track": known.track.to_json(),
                "is_given": known.is_given,
                "appearances": [len(looks.features) for looks in known.appearances],
            }
        for number, held in enumerate(self._held):
            tensors[f"held.{number}"] = held.pixels.clone()
            plain["held"].append({"seconds": held.seconds, "cut": held.cut})
        return tensors, plain

    @torch.inference_mode()
    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Takes over what `state` gave; what the session held is dropped."""
        parts = {name: part.to(self._setup.device, copy=True) for name, part in tensors.items()}
        self._motion, self._objects, self._now, self._held = float(plain["motion"]), {}, None, []
        self._statuses = ()
        if "now" in plain:
            pixels = parts["now.pixels"]
            self._now = Frame(**plain["now"], pixels=pixels, probabilities=parts["now.probabilities"],
                               thumbnail=measured.thumbnail(pixels))  # fmt: skip
        for object_id, own in plain["objects"].items():
            start = f"object.{object_id}."
            mine = {name.removeprefix(start): part for name, part in parts.items() if name.startswith(start)}
            known = Followed(track=Track.from_json(own["track"]), is_given=own["is_given"])
            for number, levels in enumerate(own["appearances"]):
                colours = mine.pop(f"colours.{number}")
                pair = [
                    tuple(mine.pop(f"{n}.{number}.{level}") for level in range(levels)) for n in ("features", "ground")
                ]
                known.appearances.append(measured.Appearance(colours, *pair))
            known.bank.load_state(mine, own["bank"])
            self._objects[int(object_id)] = known
        for number, own in enumerate(plain["held"]):
            pixels = parts[f"held.{number}"]
            self._held.append(_Held(pixels, own["seconds"], measured.thumbnail(pixels), own["cut"]))

    def _check_frame(self, frame: Tensor) -> tuple[int, int]:
        if not isinstance(frame, Tensor) or frame.dtype != torch.uint8 or frame.ndim != 3 or frame.shape[0] != 3:
            came = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, Tensor) else type(frame).__name__
            raise ValueError(f"frame ({came}) must be a uint8 tensor [3, H, W]")
        size = tuple(frame.shape[1:])
        if self._now is not None and size != tuple(self._now.pixels.shape[1:]):
            height, width = self._now.pixels.shape[1:]
            raise ValueError(
                f"frame is {size[1]} x {size[0]} pixels and those before were {width} x {height}; "
                "resize it, or begin another session"
            )
        return size

    def _check_mask(self, size: tuple[int, int], mask: Any) -> Tensor:
        mask = torch.tensor(np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask))
        if mask.ndim != 2:
            raise ValueError(f"mask {list(mask.shape)} must be [H, W]")
        if tuple(mask.shape) != size:
            raise ValueError(f"mask is {mask.shape[1]} x {mask.shape[0]} pixels and the frame {size[1]} x {size[0]}")
        if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError(f"mask holds {mask.max()}; it must be bool, or 0 and 1: give each object by itself")
        return mask.bool().to(self._setup.device)

    def _check_nothing_held(self, what: str) -> None:
        if self._held:
            raise ValueError(f"{len(self._held)} frames are held back; call finish() for their masks, then {what}")

    def _object(self, object_id: int) -> Followed:
        if object_id not in self._objects:
            raise ValueError(f"object_id ({object_id}) must be one of those followed: {list(self._objects)}")
        return self._objects[object_id]

    def _give(self, object_id: int, mask: Tensor) -> None:
        """Sets a person's mask into the latest frame; it is remembered before the next frame is segmented."""
        now, known = self._now, self._objects[object_id]
        channel = 1 + list(self._objects).index(object_id)
        small = small_mask(mask, self._setup.short_side)
        p = now.probabilities.clone()
        p[0] += p[channel]  # where the object was thought to be and is not
        p[channel] = 0
        p *= 1 - small
        p[channel] += small
        now.probabilities, now.is_remembered = p, False
        known.is_given = True
        area, centre, _ = measured.place(mask, mask)
        state = "visible" if area else "absent"
        known.track = replace(
            known.track, state=state, run=0, is_shown=bool(area), belief=float(bool(area)), area=area, centre=centre
        )
        status = ObjectStatus(now.index, now.seconds, object_id, state, 1.0, area)
        self._statuses = (*(s for s in self._statuses if s.frame == now.index and s.object_id != object_id), status)

    def _segment_held(self) -> list[_Known]:
        """Segments the frame that came last, and fills in those before it; or segments them all, where much happens."""
        held, now = self._held, self._now
        if len(held) == 1:
            return self._flush()
        found = self._look(held[-1], now.index + len(held), max(one.cut for one in held))
        if not is_calm(self._setup, self._objects, found):
            return self._flush()
        frames = [frame.cpu().numpy() for frame in (now.pixels, *(one.pixels for one in held))]
        filled = fill(self._labels(now), self._labels(found.frame), frames)
        known = []
        for index, (one, labels) in enumerate(zip(held, filled), now.index + 1):
            statuses = (replace(s, frame=index, seconds=one.seconds, scores={"filled": 1.0}) for s in found.statuses)
            known.append(_Known(one.seconds, labels, tuple(statuses)))
        self._held = []
        return [*known, self._commit(found)]

    def _flush(self) -> list[_Known]:
        """Segments each of the frames that are held back."""
        held, self._held = self._held, []
        return [self._commit(self._look(one, self._now.index + 1, one.cut)) for one in held]

    def _look(self, held: _Held, index: int, cut: float) -> Look:
        remember_frame(self._setup, self._objects, self._now)
        nothing = self._now.probabilities[:0]
        frame = Frame(index, held.seconds, held.pixels, nothing, held.thumbnail)
        return look(self._setup, self._objects, self._now, frame, cut)

    def _commit(self, found: Look) -> _Known:
        self._now = found.frame
        for object_id, known in self._objects.items():
            known.track = found.tracks[object_id]
            if found.is_cut:
                known.bank.drop_previous()  # its premise, that little moved, is gone
        return _Known(found.frame.seconds, self._labels(found.frame), found.statuses)

    def _labels(self, frame: Frame) -> np.ndarray:
        return labels_of(frame.probabilities, self.object_ids, tuple(frame.pixels.shape[1:]))

    def _masks(self, known: list[_Known]) -> Masks:
        self._statuses = tuple(status for one in known for status in one.statuses)
        labels = [one.labels for one in known] or np.zeros((0, *self._now.pixels.shape[1:]), np.uint8)
        return Masks(np.stack(labels) if known else labels, np.array([one.seconds for one in known], np.float64))
