"""A stream of any length takes no more memory at its end than at its beginning."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from colours import GREEN, RED, ColourNetwork, film, square

from vitascope.methods.stm.light import LightSTM
from vitascope.methods.stm.session import VideoObjectSession

FPS = 25
GROWTH = 1.05


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def stream(num_frames: int, height: int, width: int):
    """A square that moves about, leaves for a while, and a cut every 10 seconds."""
    for t in range(num_frames):
        shot, step = divmod(t, 10 * FPS)
        ground = (GREEN, (90, 90, 90))[shot % 2]
        place = (1 + step // 25 % 2, 1 + step // 10 % 4)
        yield film(*([] if 120 <= step < 180 else [(place, RED)]), ground=ground, height=height, width=width)


def peaks(session: VideoObjectSession, frames, num_frames: int) -> tuple[int, int]:
    """Most bytes resident in the first thirtieth of the stream (at least 100 frames) and in all of it."""
    early = most = 0
    for t, frame in enumerate(frames):
        if t == 0:
            session.add_object(frame, square(1, 1, *frame.shape[1:]), 1)
            continue
        session.step(frame, t / FPS)
        most = max(most, resident_bytes())
        if t == max(100, num_frames // 30):
            early = most
    return early, most


@pytest.mark.parametrize("seconds", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_memory_is_flat_over_a_long_stream(seconds):
    torch.manual_seed(0)
    session = VideoObjectSession(LightSTM().eval(), "default")
    count = seconds * FPS
    early, most = peaks(session, stream(count, 48, 64), count)
    assert most <= GROWTH * early, f"{early / 2**20:.1f} MiB, then {most / 2**20:.1f}"
    assert session.frame_index == count - 1


def test_the_test_would_see_a_memory_that_grows():
    """The unbounded policy, on values so wide that a minute of them counts."""

    class Wide(ColourNetwork):
        value_width = 1024

        def encode_memory(self, frames, masks, others, query):
            keys, values = super().encode_memory(frames, masks, others, query)
            return keys, values.repeat(1, self.value_width, 1, 1)

        def decode(self, read, query):
            return super().decode(read[:, :1], query)

    sizes = {}
    for policy in ("paper", "default"):
        session = VideoObjectSession(Wide(), policy)
        for t, frame in enumerate(stream(200, 96, 128)):
            if t == 0:
                session.add_object(frame, square(1, 1), 1)
            else:
                session.step(frame)
        sizes[policy] = session._objects[1].bank.num_bytes
    assert sizes["paper"] > 3 * sizes["default"]


def test_a_minute_of_film_is_followed_through_every_cut_and_absence():
    session, wrong, absent = VideoObjectSession(ColourNetwork()), 0, 0
    for t, frame in enumerate(stream(60 * FPS, 96, 128)):
        if t == 0:
            session.add_object(frame, square(1, 1), 9)
            continue
        labels = session.step(frame).masks[0]
        truth = (frame == torch.tensor(RED, dtype=torch.uint8)[:, None, None]).all(0).numpy()
        if not truth.any():
            absent += bool(labels.any())
        wrong += not np.array_equal(labels == 9, truth)
    assert absent == 0
    assert wrong <= 6 * 4, "at each return in a shot the object may be looked for up to probe_frames later"
