"""What every network of this method is made of: the shape of a query, padding, soft aggregation, and the public calls.

`resnet50.py` holds the paper's network, `light.py` the one for CPUs. Both are a `MaskNetwork`: they encode a frame as a
query, encode frame and mask as memory, and decode what was read. Objects and frames lie along one axis of pairs, `P`.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitascope.methods.stm.read import at_least_single, attend

STRIDE = 16  # pixels of a token's side
EPSILON = 1e-7  # probabilities are kept this far from 0 and 1 before the log (released code)


class Query:
    """One frame, or several, as the reading side sees it.

    What only the decoder takes may be given as a `partial` of feature maps, which runs when it is first asked for: a frame
    whose objects are all absent costs no more than its key.

    Attributes:
        key: `[B, Ck, h, w]`.
        value: `[B, Cq, h, w]`, given to the decoder beside what was read.
        trunk: Features of the frame at 1/4, 1/8, 1/16, as far as the memory encoder takes them; the coarsest is last.
        skips: Finer features as the decoder takes them: the same for every object, computed once.
    """

    def __init__(
        self,
        key: Tensor,
        value: Tensor | partial[Tensor],
        trunk: tuple[Tensor, ...],
        skips: tuple[Tensor, ...] | partial[tuple[Tensor, ...]],
    ) -> None:
        self.key, self.trunk, self._value, self._skips = key, trunk, value, skips

    @property
    def value(self) -> Tensor:
        if isinstance(self._value, partial):
            self._value = self._value()
        return self._value

    @property
    def skips(self) -> tuple[Tensor, ...]:
        if isinstance(self._skips, partial):
            self._skips = self._skips()
        return self._skips

    def take(self, rows: Tensor) -> Query:
        """The frames of these rows, which may repeat."""
        trunk = tuple(level[rows] for level in self.trunk)
        return Query(self.key[rows], self.value[rows], trunk, tuple(skip[rows] for skip in self.skips))

    def window(self, rows: slice, columns: slice) -> Query:
        """These rows and columns of tokens; what has not been computed yet will be computed for them alone."""
        height = self.key.shape[-2]

        def cut(x: Tensor) -> Tensor:
            fine = x.shape[-2] // height
            part = x[..., rows.start * fine : rows.stop * fine, columns.start * fine : columns.stop * fine]
            return part.contiguous(memory_format=torch.channels_last)

        def cut_each(given: tuple[Tensor, ...] | partial) -> tuple[Tensor, ...] | partial:
            if isinstance(given, partial):
                return partial(given.func, *(cut(x) for x in given.args))
            return tuple(cut(x) for x in given)

        value = cut_each(self._value) if isinstance(self._value, partial) else cut(self._value)
        return Query(cut(self.key), value, cut_each(self.trunk), cut_each(self._skips))


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Left, right, top, bottom padding to a multiple of 16; the low side gets the smaller half.

    Example:
        >>> padding(480, 854)
        (5, 5, 0, 0)
    """
    more_high, more_wide = -height % STRIDE, -width % STRIDE
    return more_wide // 2, more_wide - more_wide // 2, more_high // 2, more_high - more_high // 2


def pad(images: Tensor) -> Tensor:
    """Zero-pad `[..., H, W]` to multiples of 16, frames before they are normalised: the border is black, and no object."""
    sides = padding(*images.shape[-2:])
    return functional.pad(images, sides) if any(sides) else images


def crop(images: Tensor, height: int, width: int) -> Tensor:
    """Undo `pad`."""
    left, _, top, _ = padding(height, width)
    return images[..., top : top + height, left : left + width]


def aggregate(probabilities: Tensor, num_channels: int | None = None) -> Tensor:
    """Merge each object's own foreground probability into logits over background and objects (released code; spec 1.7).

    The background's probability is the product of what the objects leave. Softmax of the result over the channels is
    the distribution that is fed back to memory. Always float32 or wider: in 16 bits `1 - 1e-7` is 1 and its odds infinite.

    Args:
        probabilities: `[B, O, H, W]` in [0, 1].
        num_channels: Channels of the result, by default `O + 1`; the rest are empty objects.

    Returns:
        `[B, num_channels, H, W]`, the background first.

    Example:
        >>> aggregate(torch.tensor([0.8]).view(1, 1, 1, 1)).softmax(1).flatten()  # not 0.2 and 0.8
        tensor([0.0588, 0.9412])
    """
    p = at_least_single(probabilities)
    num_objects = p.shape[1]
    num_channels = num_objects + 1 if num_channels is None else num_channels
    if num_channels <= num_objects:
        raise ValueError(f"num_channels ({num_channels}) must be > the number of objects ({num_objects})")
    background = (1 - p).prod(1, keepdim=True)
    empty = p.new_zeros(len(p), num_channels - num_objects - 1, *p.shape[2:])
    each = torch.cat([background, p, empty], 1).clamp(EPSILON, 1 - EPSILON)
    return torch.log(each / (1 - each))


class MaskNetwork(nn.Module):
    """A space-time memory network: memorises frames with masks, and segments frames by reading that memory.

    A size of it says its widths and has `encode_query`, `encode_memory` and `decode`; a query's similarity to a memory
    token is `scale * <key, query> + bias(key)`.
    """

    key_width: int
    value_width: int
    scale: float
    works_at: int | None = (
        None  # short side in pixels to which smaller frames are enlarged; None leaves them as they are
    )

    def short_side(self, size: tuple[int, int]) -> int:
        """The short side in pixels at which frames `(H, W)` are best looked at; never above 480, the paper's."""
        return min(480, max(min(size), self.works_at or 0))

    memory_takes_query = True  # whether `encode_memory` looks at the query of its frame

    def encode_query(self, frames: Tensor) -> Query:
        """`[B, 3, H, W]` in [0, 1], H and W multiples of 16, not normalised."""
        raise TypeError(f"{type(self).__name__} must have encode_query")

    def encode_memory(
        self, frames: Tensor, masks: Tensor, others: Tensor, query: Query | None
    ) -> tuple[Tensor, Tensor]:
        """Pairs of a frame `[P, 3, H, W]` and an object's mask `[P, 1, H, W]`, the other objects' masks beside it.

        `query` is that of the same frames (`P` rows, or one for all); it may be None where `memory_takes_query` is False.
        Returns keys `[P, Ck, h, w]`, values `[P, Cv, h, w]`.
        """
        raise TypeError(f"{type(self).__name__} must have encode_memory")

    def decode(self, read: Tensor, query: Query) -> Tensor:
        """`[P, Cv, h, w]` and the query of the same frames (`P` rows, or one for all) to logits `[P, 2, H, W]`."""
        raise TypeError(f"{type(self).__name__} must have decode")

    def bias(self, keys: Tensor) -> Tensor | None:
        """What a memory token's similarities gain, `[P, N]` from keys `[P, Ck, N]`; None for nothing."""
        return None

    def read(self, keys: Tensor, values: Tensor, query: Tensor, bias: Tensor | None = None) -> Tensor:
        """Read memory (paper, section 3.2): softmax over all tokens of all memory frames, for each query token.

        Args:
            keys: `[P, Ck, N]`.
            values: `[P, Cv, N]`.
            query: `[P, Ck, h, w]`, or `[1, Ck, h, w]` for all.
            bias: `[P, N]`, added to the similarities besides the network's own; None for nothing.

        Returns:
            `[P, Cv, h, w]`.
        """
        own = self.bias(at_least_single(keys))
        total = own if bias is None else bias if own is None else own + bias
        return attend(keys, values, query.flatten(2), self.scale, total).unflatten(2, query.shape[-2:])

    @torch.no_grad()
    def memorize(
        self, frame: Tensor, masks: Tensor, num_objects: int, query: Query | None = None
    ) -> tuple[Tensor, Tensor]:
        """Memory of one frame, for each of its objects.

        Args:
            frame: `[1, 3, H, W]` in [0, 1], any size, not normalised.
            masks: `[1, K, H, W]` probabilities, channel 0 the background, channels after `num_objects` ignored.
            num_objects: At least 1, at most `K - 1`.
            query: Of the same frame, if it is known already.

        Returns:
            keys `[num_objects, Ck, h, w]`, values `[num_objects, Cv, h, w]`; 128 and 512 wide in the paper's network.

        Raises:
            ValueError: Shapes or counts are not as said.
        """
        if frame.ndim != 4 or frame.shape[:2] != (1, 3) or masks.ndim != 4 or masks.shape[-2:] != frame.shape[-2:]:
            raise ValueError(
                f"frame {list(frame.shape)} and masks {list(masks.shape)} must be [1, 3, H, W] and [1, K, H, W]"
            )
        if not 1 <= num_objects < masks.shape[1]:
            raise ValueError(f"num_objects ({num_objects}) must be between 1 and {masks.shape[1] - 1}, K - 1")
        frame, own = pad(frame), pad(masks[0, 1 : num_objects + 1, None].to(frame.dtype))  # [O, 1, H, W]
        if query is None and self.memory_takes_query:
            query = self.encode_query(frame)
        # the sums leave each object out rather than subtract it again, which would round
        each = [own[:o].sum(0, keepdim=True) + own[o + 1 :].sum(0, keepdim=True) for o in range(num_objects)]
        others = torch.cat(each).clamp(0, 1)  # [O, 1, H, W]
        if frame.is_cuda:
            return self.encode_memory(frame.expand(num_objects, -1, -1, -1), own, others, query)
        each = [self.encode_memory(frame, own[o : o + 1], others[o : o + 1], query) for o in range(num_objects)]
        return torch.cat([keys for keys, _ in each]), torch.cat([values for _, values in each])

    @torch.no_grad()
    def segment(
        self, frame: Tensor, keys: Tensor, values: Tensor, num_channels: int, query: Query | None = None
    ) -> Tensor:
        """Segment a frame by what is in memory.

        Args:
            frame: `[1, 3, H, W]` in [0, 1], any size, not normalised.
            keys: `[O, Ck, T, h, w]`.
            values: `[O, Cv, T, h, w]`.
            num_channels: `K` of the result, more than `O`.
            query: Of the same frame, if it is known already.

        Returns:
            Logits `[1, K, H, W]`, float32; their softmax is what `memorize` takes for the next frame.
        """
        query = self.encode_query(pad(frame)) if query is None else query
        read = self.read(keys.flatten(2), values.flatten(2), query.key)
        probabilities = self.foreground(read, query)[None]  # [1, O, H, W]
        return crop(aggregate(probabilities, num_channels), *frame.shape[-2:])

    def foreground(self, read: Tensor, query: Query) -> Tensor:
        """Each object's own probability `[O, H, W]`, float32 or wider, of what was read `[O, Cv, h, w]` for one frame."""
        parts = [read] if read.is_cuda else read.split(1)  # on a CPU one object's activations stay in the cache
        logits = torch.cat([self.decode(part, query) for part in parts])  # [O, 2, H, W]
        return at_least_single(logits).softmax(1)[:, 1]
