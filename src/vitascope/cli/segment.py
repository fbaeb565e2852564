"""Cut objects out of a whole video, given their mask in one frame; run again, it goes on where it was stopped.

Example: vitascope segment recordings/monday.mp4 --mask first.png --out cutout/
"""

from __future__ import annotations

import shlex
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from vitascope.cli.output import clock, emit, printable
from vitascope.cli.scan import JsonOption

MOST_STRETCHES = 12


class Format(str, Enum):
    png = "png"
    rle = "rle"


class Policy(str, Enum):
    default = "default"
    paper = "paper"
    first_previous = "first_previous"
    bounded = "bounded"


def command(
    video: Annotated[Path, typer.Argument(metavar="VIDEO|DIR", help="A video, or a folder of frames.")],
    mask: Annotated[Path, typer.Option(metavar="PNG", help="Object ids in one frame, 0 is background; at its size.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the result.")],
    at: Annotated[float, typer.Option(metavar="SECONDS", help="Time of the frame that the mask is of.")] = 0.0,
    object_: Annotated[int | None, typer.Option("--object", metavar="ID", help="Only this object of the mask.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="PNG files, or one masks.json of COCO RLE.")] = Format.png,
    weights: Annotated[
        Path | None, typer.Option(help="STM_weights.pth, or the folder of a run; by default the small network's own.")
    ] = None,
    short_side: Annotated[
        int | None, typer.Option(min=32, help="Pixels of the short side that the network sees; at most 480 by default.")
    ] = None,
    policy: Annotated[
        Policy, typer.Option(help="What is remembered; `default` also tells when the object is away.")
    ] = Policy.default,
    frame_stride: Annotated[int, typer.Option(min=1, help="Segment every so many frames, fill in between.")] = 1,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Work in 16 bits where that is faster; masks then differ a little.")
    ] = False,
    fps: Annotated[float, typer.Option(help="Frames per second of a folder of frames.")] = 25.0,
    json: JsonOption = False,
) -> None:
    from vitascope import api

    settings = {"policy": policy.value, "frame_stride": frame_stride}
    result = api.segment(
        video,
        mask,
        out,
        at_seconds=at,
        object_id=object_,
        weights=weights,
        as_rle=format_ is Format.rle,
        fps=fps,
        bf16=bf16,
        settings=settings | ({"short_side": short_side} if short_side else {}),
        progress=True,
    )
    emit(json, result, lambda: lines(result))
    if result.signal:
        raise SystemExit(128 + result.signal)


def lines(result) -> list[str]:
    if result.signal:
        return [f"stopped; go on:  {shlex.join(['vitascope', *sys.argv[1:]])}"]
    text = [f"{result.num_frames} frames" + (", done before" if result.was_done else "")]
    for known in result.objects:
        states = sorted(known["frames"].items(), key=lambda state: -state[1])
        told = ", ".join(f"{state} in {count}" for state, count in states)
        text.append(f"object {known['object']}: {told}; mean confidence {known['confidence']:.2f}")
        away = [s for s in result.stretches if s["object"] == known["object"] and s["state"] != "visible"]
        text += [
            f"  {s['state']} {clock(s['start_seconds'], 2)} to {clock(s['end_seconds'], 2)}"
            for s in away[:MOST_STRETCHES]
        ]
        if len(away) > MOST_STRETCHES:
            text.append(f"  and {len(away) - MOST_STRETCHES} more stretches, in events.json")
    text += [f"gap {clock(start, 2)} to {clock(end, 2)}: cannot be decoded, has no mask" for start, end in result.gaps]
    text.append("worth checking: " + ", ".join(clock(check["seconds"], 2) for check in result.checks))
    text.append(f"result: {printable(result.out)}: masks, overlay.mp4, contact_sheet.png, events.json")
    return text
