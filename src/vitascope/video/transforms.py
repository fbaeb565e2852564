"""Picture changes of clips, float `[B, T, C, H, W]` in [0, 1]: each is drawn once for a clip and done to all its frames.

A random change comes in two: `draw_*` takes a `torch.Generator` on the CPU and returns its parameters for `B` clips as
CPU tensors, and the change itself takes the clips and those parameters. So a seed gives the same pictures on any
device, and parameters can be kept: boxes tell later where a crop came from. Nothing changes its input, all is
differentiable with respect to the clips, and a clip that a change does not choose comes out bit for bit.

Boxes are int64 `[B, 4]`, `xyxy` in pixels: columns `x0 <= x < x1`, rows `y0 <= y < y1`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))
LUMA = RGB_TO_YIQ[0]

Size = int | tuple[int, int]


def resize(clips: Tensor, size: Size) -> Tensor:
    """Bilinear resize, antialiased where it shrinks.

    Args:
        clips: `[B, T, C, H, W]`.
        size: Pixels of the short side, aspect kept; or height and width.

    Returns:
        `[B, T, C, height, width]`; the input itself if it has that size already.

    Example:
        >>> resize(torch.rand(2, 4, 3, 60, 80), 30).shape
        torch.Size([2, 4, 3, 30, 40])
    """
    height, width = _size_of(clips)
    if isinstance(size, int):
        scale = size / min(height, width)
        size = (max(size, round(height * scale)), max(size, round(width * scale)))
    if min(size) < 1:
        raise ValueError(f"size ({size}) must be > 0")
    if tuple(size) == (height, width):
        return clips
    # frames as channels: torch resizes [1, T * C, H, W] 3.5 times faster than [T, C, H, W]
    out = F.interpolate(clips.flatten(1, 2), size=tuple(size), mode="bilinear", antialias=True)
    return out.unflatten(1, clips.shape[1:3])  # [B, T, C, height, width]


def centre_crop(clips: Tensor, size: Size) -> Tensor:
    """The middle of each frame, `size` pixels square or high and wide, as a view.

    Raises:
        ValueError: The frames are smaller than `size`.

    Example:
        >>> centre_crop(torch.rand(2, 4, 3, 60, 80), 50).shape
        torch.Size([2, 4, 3, 50, 50])
    """
    height, width, top, left = _crop_room(clips, size)
    return clips[..., top // 2 : top // 2 + height, left // 2 : left // 2 + width]


def three_crop(clips: Tensor, size: Size) -> Tensor:
    """Start, middle and end of the longer side, and the middle of the other one: the usual three views of a test.

    Args:
        clips: `[B, T, C, H, W]`.
        size: Of each crop in pixels: one number for a square, or height and width.

    Returns:
        `[B, V, T, C, height, width]` with `V` = 3.

    Raises:
        ValueError: The frames are smaller than `size`.

    Example:
        >>> three_crop(torch.rand(2, 4, 3, 60, 80), 60).shape
        torch.Size([2, 3, 4, 3, 60, 60])
    """
    height, width, top, left = _crop_room(clips, size)
    is_wide = clips.shape[-1] >= clips.shape[-2]
    corners = [(top // 2, x) for x in (0, left // 2, left)] if is_wide else [(y, left // 2) for y in (0, top // 2, top)]
    return torch.stack([clips[..., y : y + height, x : x + width] for y, x in corners], 1)  # [B, V, T, C, h, w]


def crop_and_resize(clips: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Cuts each clip's own box out and resizes it as `resize` does; a box that has the size already is copied exactly.

    Args:
        clips: `[B, T, C, H, W]`.
        boxes: int64 `[B, 4]` on the CPU, within the frame.
        size: In pixels: one number for a square, or height and width.

    Returns:
        `[B, T, C, height, width]`.

    Raises:
        ValueError: A box is empty or not within the frame.

    Example:
        >>> clips = torch.rand(1, 2, 3, 8, 8)
        >>> torch.equal(crop_and_resize(clips, torch.tensor([[2, 1, 6, 5]]), 4), clips[..., 1:5, 2:6])
        True
    """
    height, width = _size_of(clips)
    if boxes.shape != (len(clips), 4) or boxes.is_floating_point():
        raise ValueError(f"boxes ({boxes.dtype} {list(boxes.shape)}) must be int64 [{len(clips)}, 4]")
    crops = []
    for clip, (x0, y0, x1, y1) in zip(clips, boxes.tolist(), strict=True):
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ValueError(f"box {[x0, y0, x1, y1]} must not be empty and must lie within {width} x {height} pixels")
        crops.append(resize(clip[None, ..., y0:y1, x0:x1], _pair(size)))
    return torch.cat(crops)


def draw_random_resized_boxes(
    batch_size: int,
    frame_size: tuple[int, int],
    generator: Generator,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Draws boxes of random area, aspect and place, for `crop_and_resize`.

    Area is uniform and aspect log-uniform in its range, the place uniform; sides are rounded to whole pixels. A box
    that does not fit is drawn anew, 10 times at most; then it is the largest centred one with an aspect in the range.

    Args:
        batch_size: Number of clips `B`.
        frame_size: Height and width of the clips.
        generator: On the CPU.
        area: Range of the box's share of the frame.
        aspect: Range of the box's width / height.

    Returns:
        int64 `[B, 4]`.

    Raises:
        ValueError: A range is empty or out of (0, 1] for area, (0, infinity) for aspect.

    Example:
        >>> draw_random_resized_boxes(2, (60, 80), torch.Generator(), area=(1, 1), aspect=(4 / 3, 4 / 3)).tolist()
        [[0, 0, 80, 60], [0, 0, 80, 60]]
    """
    if not 0 < area[0] <= area[1] <= 1:
        raise ValueError(f"area ({area}) must be a range within (0, 1]")
    if not 0 < aspect[0] <= aspect[1] < math.inf:
        raise ValueError(f"aspect ({aspect}) must be a range of numbers > 0")
    height, width = frame_size
    tries = (batch_size, 10)
    pixels = height * width * _uniform(tries, generator, *area)  # [B, 10]
    ratio = _uniform(tries, generator, math.log(aspect[0]), math.log(aspect[1])).exp()
    sides = torch.stack([(pixels * ratio).sqrt(), (pixels / ratio).sqrt()], -1).round().long()  # [B, 10, 2] w, h
    fits = ((sides >= 1) & (sides <= torch.tensor([width, height]))).all(-1)
    first = fits.int().argmax(1)  # the first try that fits
    sides = sides[torch.arange(batch_size), first]  # [B, 2]
    nearest = min(max(width / height, aspect[0]), aspect[1])
    largest = torch.tensor([min(width, round(height * nearest)), min(height, round(width / nearest))]).clamp(min=1)
    any_fits = fits.any(1, keepdim=True)  # [B, 1]
    sides = torch.where(any_fits, sides, largest)
    room = torch.tensor([width, height]) - sides
    share = torch.rand((batch_size, 2), generator=generator, dtype=torch.float64)
    corner = torch.where(any_fits, (share * (room + 1)).long(), room // 2)
    return torch.cat([corner, corner + sides], 1)  # [B, 4]


def draw_multi_scale_boxes(
    batch_size: int,
    frame_size: tuple[int, int],
    size: int,
    generator: Generator,
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66),
) -> Tensor:
    """Draws the multi-scale crops of the VideoMAE family, for `crop_and_resize`.

    Width and height are each a scale times the short side of the frame, and the two scales are at most one step apart;
    a side less than 3 pixels away from `size` becomes `size`. The place is one of 13: corners, centre, middles of the
    edges, and the quarter points. All choices are uniform.

    Args:
        batch_size: Number of clips `B`.
        frame_size: Height and width of the clips.
        size: Pixels that the crops will be resized to.
        generator: On the CPU.
        scales: Falling, each in (0, 1].

    Returns:
        int64 `[B, 4]`.

    Raises:
        ValueError: A scale is out of its range.

    Example:
        >>> x0, y0, x1, y1 = draw_multi_scale_boxes(1, (60, 80), 56, torch.Generator(), scales=(1.0,))[0].tolist()
        >>> x1 - x0, y1 - y0
        (60, 60)
    """
    if not all(0 < scale <= 1 for scale in scales):
        raise ValueError(f"scales ({scales}) must each be > 0 and <= 1")
    height, width = frame_size
    sides = [max(1, int(min(frame_size) * scale)) for scale in scales]
    sides = [min(size, *frame_size) if abs(side - size) < 3 else side for side in sides]
    pairs = [(w, h) for i, w in enumerate(sides) for j, h in enumerate(sides) if abs(i - j) <= 1]
    sides = torch.tensor(pairs)[_choices(batch_size, len(pairs), generator)]  # [B, 2]
    ends, quarters = (0, 2, 4), (1, 3)
    places = [(x, y) for x in ends for y in ends] + [(x, y) for x in quarters for y in quarters]
    quarter = (torch.tensor([width, height]) - sides) // 4
    corner = torch.tensor(places)[_choices(batch_size, len(places), generator)] * quarter
    return torch.cat([corner, corner + sides], 1)  # [B, 4]


def draw_chosen(batch_size: int, probability: float, generator: Generator) -> Tensor:
    """Draws which clips `flip` or `grayscale` changes, each with `probability`: bool `[B]`."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability ({probability}) must be between 0 and 1")
    return _uniform((batch_size,), generator, 0, 1) < probability


def flip(clips: Tensor, chosen: Tensor) -> Tensor:
    """Mirrors the chosen clips left to right; `chosen` is bool `[B]`.

    Example:
        >>> clips = torch.arange(4.0).reshape(2, 1, 1, 1, 2)
        >>> flip(clips, torch.tensor([True, False])).flatten().tolist()
        [1.0, 0.0, 2.0, 3.0]
    """
    _size_of(clips)
    return torch.where(_per_clip(chosen, clips), clips.flip(-1), clips)


def grayscale(clips: Tensor, chosen: Tensor) -> Tensor:
    """Makes the chosen clips grey (BT.601 luma in all three channels); `chosen` is bool `[B]`."""
    luma = torch.einsum("btchw,c->bthw", clips, clips.new_tensor(LUMA))[:, :, None]  # [B, T, 1, H, W]
    return torch.where(_per_clip(chosen, clips), luma, clips)


class ColourJitter(NamedTuple):
    """Colour changes of `B` clips, float32 `[B]` each: factors with 1 for no change, `hue` in turns with 0."""

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    order: Tensor  # int64 [B, 4]: a permutation of the four, as numbered here


def draw_colour_jitter(
    batch_size: int,
    generator: Generator,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    probability: float = 1.0,
) -> ColourJitter:
    """Draws colour changes: factors uniform in `[max(0, 1 - x), 1 + x]`, hue in `[-hue, hue]` turns, in random order.

    Args:
        batch_size: Number of clips `B`.
        generator: On the CPU.
        brightness: Strength, >= 0, as are contrast and saturation.
        contrast: Strength.
        saturation: Strength.
        hue: Strength in turns of the colour circle, in [0, 0.5].
        probability: Of a clip to be changed at all.

    Raises:
        ValueError: A strength is out of its range.
    """
    if min(brightness, contrast, saturation) < 0 or not 0 <= hue <= 0.5:
        raise ValueError(f"strengths ({brightness, contrast, saturation, hue}) must be >= 0, the last one, hue, <= 0.5")
    chosen = draw_chosen(batch_size, probability, generator)
    factors = [_uniform((batch_size,), generator, max(0, 1 - x), 1 + x) for x in (brightness, contrast, saturation)]
    turns = _uniform((batch_size,), generator, -hue, hue)
    order = _uniform((batch_size, 4), generator, 0, 1).argsort(1)
    return ColourJitter(*(torch.where(chosen, f, 1.0) for f in factors), torch.where(chosen, turns, 0.0), order)


def colour_jitter(clips: Tensor, jitter: ColourJitter) -> Tensor:
    """Changes brightness, contrast, saturation and hue in the drawn order; the result is clamped to [0, 1] once.

    All four are affine in RGB, so each clip gets one 3x4 matrix. Contrast is around the mean luma of the whole clip, so
    a fade stays a fade; saturation around each pixel's luma; hue turns the plane of YIQ, red to yellow to green.

    Example:
        >>> clips = torch.full((1, 1, 3, 2, 2), 0.5)
        >>> one, turn = torch.ones(1), torch.zeros(1)
        >>> order = torch.arange(4)[None]
        >>> colour_jitter(clips, ColourJitter(one * 0.5, one, one, turn, order)).unique().tolist()
        [0.25]
    """
    _size_of(clips)
    brightness, contrast, saturation, hue = (f.to(clips)[:, None, None] for f in jitter[:4])  # [B, 1, 1]
    eye, luma = torch.eye(3).to(clips), clips.new_tensor(LUMA)
    steps = [brightness * eye, contrast * eye, saturation * eye + (1 - saturation) * luma, _hue_matrix(hue)]
    steps = torch.stack(steps, 1)  # [B, 4, 3, 3]
    mean = clips.mean((1, 3, 4))  # [B, C]
    matrix, offset = eye.expand(len(clips), 3, 3), torch.zeros_like(mean)
    for step in jitter.order.to(clips.device).unbind(1):
        chosen = steps[torch.arange(len(clips), device=clips.device), step]  # [B, 3, 3]
        centre = (torch.einsum("bij,bj->bi", matrix, mean) + offset) @ luma  # [B] mean luma so far
        pull = torch.where(step == 1, (1 - contrast[:, 0, 0]) * centre, 0)
        matrix, offset = chosen @ matrix, torch.einsum("bij,bj->bi", chosen, offset) + pull[:, None]
    # a product of matrices for each frame [C, H * W]: 2.5 times faster than the same as an einsum
    return (matrix[:, None] @ clips.flatten(3)).add_(offset[:, None, :, None]).clamp_(0, 1).view(clips.shape)


def _hue_matrix(turns: Tensor) -> Tensor:
    """Rotation of the IQ plane, as a matrix on RGB: `[B, 1, 1]` -> `[B, 3, 3]`, exactly the identity at 0."""
    to_yiq = torch.tensor(RGB_TO_YIQ, dtype=torch.float64)
    angle = turns * (2 * math.pi)
    cos, sin, none = angle.cos() - 1, angle.sin(), torch.zeros_like(angle)
    rows = [torch.cat(row, 2) for row in ((none, none, none), (none, cos, sin), (none, -sin, cos))]
    change = torch.cat(rows, 1)  # [B, 3, 3] rotation minus identity
    return torch.eye(3).to(turns) + to_yiq.inverse().to(turns) @ change @ to_yiq.to(turns)


def draw_sigmas(
    batch_size: int, generator: Generator, sigma_pixels: tuple[float, float] = (0.1, 2.0), probability: float = 0.5
) -> Tensor:
    """Draws widths for `gaussian_blur`, float32 `[B]`: uniform in a range for a clip that is chosen, else 0."""
    if not 0 < sigma_pixels[0] <= sigma_pixels[1] < math.inf:
        raise ValueError(f"sigma_pixels ({sigma_pixels}) must be a range of numbers > 0")
    chosen = draw_chosen(batch_size, probability, generator)
    return torch.where(chosen, _uniform((batch_size,), generator, *sigma_pixels), 0.0)


def gaussian_blur(clips: Tensor, sigmas_pixels: Tensor) -> Tensor:
    """Blurs each clip with its own sigma, float `[B]` on the CPU; 0 leaves a clip as it is.

    Weights of pixels outside of the frame are left out and the rest sum to one, so a flat picture stays flat.

    Example:
        >>> gaussian_blur(torch.full((1, 2, 3, 8, 8), 0.5), torch.tensor([3.0])).allclose(torch.tensor(0.5))
        True
    """
    height, width = _size_of(clips)
    blurred = []
    for clip, sigma in zip(clips, sigmas_pixels.tolist(), strict=True):
        if sigma > 0:  # two small matrix products: 4 times faster than a separable convolution
            clip = _blur_matrix(height, sigma).to(clip) @ clip @ _blur_matrix(width, sigma).to(clip).T
        blurred.append(clip)
    return torch.stack(blurred)


def _blur_matrix(length: int, sigma: float) -> Tensor:
    position = torch.arange(length, dtype=torch.float64)
    return (-((position[:, None] - position) ** 2) / (2 * sigma**2)).softmax(1)  # [length, length], rows sum to 1


def normalise(clips: Tensor, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> Tensor:
    """`(clips - mean) / std` for each channel."""
    return (clips - clips.new_tensor(mean)[:, None, None]) / clips.new_tensor(std)[:, None, None]


def denormalise(
    clips: Tensor, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
) -> Tensor:
    """The inverse of `normalise`: `clips * std + mean` for each channel."""
    return clips * clips.new_tensor(std)[:, None, None] + clips.new_tensor(mean)[:, None, None]


def _size_of(clips: Tensor) -> tuple[int, int]:
    if clips.ndim != 5 or not clips.is_floating_point() or clips.numel() == 0:
        raise ValueError(f"clips ({clips.dtype} {list(clips.shape)}) must be float [B, T, C, H, W] in [0, 1]")
    return clips.shape[-2], clips.shape[-1]


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _crop_room(clips: Tensor, size: Size) -> tuple[int, int, int, int]:
    """Height and width of a crop, and how far it can move down and to the right."""
    (frame_height, frame_width), (height, width) = _size_of(clips), _pair(size)
    if not (0 < height <= frame_height and 0 < width <= frame_width):
        raise ValueError(
            f"size ({height} x {width}) must be > 0 and within {frame_height} x {frame_width}; resize first"
        )
    return height, width, frame_height - height, frame_width - width


def _per_clip(chosen: Tensor, clips: Tensor) -> Tensor:
    if chosen.dtype != torch.bool or chosen.shape != clips.shape[:1]:
        raise ValueError(f"chosen ({chosen.dtype} {list(chosen.shape)}) must be bool [{len(clips)}], one for each clip")
    return chosen.to(clips.device)[:, None, None, None, None]


def _uniform(shape: tuple[int, ...], generator: Generator, low: float, high: float) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _choices(count: int, options: int, generator: Generator) -> Tensor:
    return torch.randint(options, (count,), generator=generator)
