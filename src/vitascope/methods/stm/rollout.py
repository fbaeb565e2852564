"""What training does with a clip: memorise, segment, memorise what was said, segment again."""

from __future__ import annotations

import torch
from torch import Tensor

from vitascope.methods.stm.model import MaskNetwork, aggregate
from vitascope.methods.stm.targets import one_hot


def roll_out(network: MaskNetwork, frames: Tensor, labels: Tensor, max_objects: int) -> Tensor:
    """Segment all frames of clips but the first, by the first's labels alone.

    Each frame is memorised: the first with its labels, the others with what was said of them, softly. Gradients flow
    through memory and through those predicted masks (paper, section 3.4; the author: one backward pass for all frames).

    Args:
        network: Any size.
        frames: uint8 `[B, T, 3, H, W]`, H and W multiples of 16.
        labels: uint8 `[B, T, H, W]`, of which only `[:, 0]` is looked at.
        max_objects: `O`, the largest label but void.

    Returns:
        Logits `[B, T - 1, O + 1, H, W]`, aggregated.
    """
    t = frames.shape[1]
    images = frames.flatten(0, 1).float() / 255
    images = images.contiguous(memory_format=torch.channels_last)  # a quarter faster on CPUs
    query = network.encode_query(images)
    masks = one_hot(labels[:, 0], max_objects)  # [B, O, H, W]
    is_live = masks.flatten(2).any(2)
    is_live[:, 0] = True  # a clip without an object has an empty one: an empty mask must stay empty
    clips, slots = is_live.nonzero(as_tuple=True)  # P pairs
    keys, values, outputs = [], [], []
    for step in range(1, t):
        before, now = clips * t + step - 1, clips * t + step
        others = (masks.sum(1, keepdim=True) - masks).clamp(0, 1)
        own, rest = masks[clips, slots, None], others[clips, slots, None]  # [P, 1, H, W]
        key, value = network.encode_memory(images[before], own, rest, query.take(before))
        keys.append(key.flatten(2))
        values.append(value.flatten(2))
        seen = query.take(now)
        read = network.read(torch.cat(keys, 2), torch.cat(values, 2), seen.key)
        said = network.decode(read, seen).float().softmax(1)[:, 1]  # [P, H, W]
        outputs.append(aggregate(masks.new_zeros(masks.shape).index_put((clips, slots), said)))
        masks = outputs[-1].softmax(1)[:, 1:]
    return torch.stack(outputs, 1)
