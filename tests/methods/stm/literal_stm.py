"""The paper's network as slow, literal formulas on a state dict: object by object, memory padded to `K` slots and
concatenated anew for every frame, nothing shared. Tests and `benchmarks/bench_stm.py` compare ours with it.
"""

import math

import torch
from torch.nn.functional import batch_norm, conv2d, interpolate, max_pool2d, pad, relu, softmax

STAGES = {"res2": (3, 64, 1), "res3": (4, 128, 2), "res4": (6, 256, 2)}  # blocks, width, stride


def official_shapes():
    """Names and shapes of the released file, without `module.`, spelt out."""
    shapes = {}

    def norm(name, width):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()

    def conv(name, *shape):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    for side in "MQ":
        encoder = f"Encoder_{side}"
        shapes[f"{encoder}.mean"] = shapes[f"{encoder}.std"] = (1, 3, 1, 1)
        shapes[f"{encoder}.conv1.weight"] = (64, 3, 7, 7)
        if side == "M":
            shapes[f"{encoder}.conv1_m.weight"] = shapes[f"{encoder}.conv1_o.weight"] = (64, 1, 7, 7)
        norm(f"{encoder}.bn1", 64)
        wide = 64
        for stage, (blocks, width, _) in STAGES.items():
            for i in range(blocks):
                block = f"{encoder}.{stage}.{i}"
                shapes[f"{block}.conv1.weight"] = (width, wide, 1, 1)
                shapes[f"{block}.conv2.weight"] = (width, width, 3, 3)
                shapes[f"{block}.conv3.weight"] = (4 * width, width, 1, 1)
                for j, w in ((1, width), (2, width), (3, 4 * width)):
                    norm(f"{block}.bn{j}", w)
                if i == 0:
                    shapes[f"{block}.downsample.0.weight"] = (4 * width, wide, 1, 1)
                    norm(f"{block}.downsample.1", 4 * width)
                wide = 4 * width
        conv(f"KV_{side}_r4.Key", 128, 1024, 3, 3)
        conv(f"KV_{side}_r4.Value", 512, 1024, 3, 3)
    conv("Decoder.convFM", 256, 1024, 3, 3)
    conv("Decoder.RF3.convFS", 256, 512, 3, 3)
    conv("Decoder.RF2.convFS", 256, 256, 3, 3)
    for unit in ("ResMM", "RF3.ResFS", "RF3.ResMM", "RF2.ResFS", "RF2.ResMM"):
        for i in (1, 2):
            conv(f"Decoder.{unit}.conv{i}", 256, 256, 3, 3)
    conv("Decoder.pred2", 2, 256, 3, 3)
    return shapes


SHARPER = {  # factors on weights: masks are seen, attention has peaks, probabilities reach 0 and 1, as in a trained network
    "conv1_m.weight": 8,
    "conv1_o.weight": 8,
    "Key.weight": 4,
    "pred2.weight": 5,
}


def calm_weights(seed=0, dtype=torch.float32, prefix=""):
    """A state dict of the released shapes whose activations neither vanish nor explode, spec section 5."""
    random = torch.Generator().manual_seed(seed)
    normal = lambda shape: torch.randn(shape, generator=random, dtype=torch.float64)  # noqa: E731
    state = {}
    for name, shape in official_shapes().items():
        if name.endswith("num_batches_tracked"):
            state[prefix + name] = torch.tensor(1000)
            continue
        is_norm = ".bn" in name or ".downsample.1." in name
        if name.endswith((".mean", ".std")):
            value = torch.tensor([0.485, 0.456, 0.406] if name.endswith("mean") else [0.229, 0.224, 0.225]).double()
            value = value.float().double().view(shape)  # as they are stored
        elif len(shape) == 4:
            value = normal(shape) / math.sqrt(shape[1] * shape[2] * shape[3])
        elif is_norm and name.endswith("running_var"):
            value = 1 + 0.2 * normal(shape).abs()
        elif is_norm and name.endswith("weight"):
            value = (0.3 if ".bn3." in name else 1.0) + 0.05 * normal(shape)
        else:
            value = 0.1 * normal(shape)
        factor = next((factor for end, factor in SHARPER.items() if name.endswith(end)), 1)
        state[prefix + name] = (factor * value).to(dtype)
    return state


def padding(height, width):
    """Left, right, top, bottom: the smaller half on the low side."""
    new_height = height if height % 16 == 0 else height + 16 - height % 16
    new_width = width if width % 16 == 0 else width + 16 - width % 16
    low_h, low_w = int((new_height - height) / 2), int((new_width - width) / 2)
    return low_w, new_width - width - low_w, low_h, new_height - height - low_h


class LiteralSTM:
    def __init__(self, state):
        self.w = {name.removeprefix("module."): tensor for name, tensor in state.items()}

    def conv(self, name, x, stride=1, pad=1):
        return conv2d(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"), stride, pad)

    def norm(self, name, x):
        mean, var, weight, bias = (
            self.w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return batch_norm(x, mean, var, weight, bias, False, 0.0, 1e-5)

    def trunk(self, side, x):
        x = max_pool2d(relu(self.norm(f"{side}.bn1", x)), 3, 2, 1)
        levels = []
        for stage, (blocks, _, first_stride) in STAGES.items():
            for i in range(blocks):
                block, stride = f"{side}.{stage}.{i}", first_stride if i == 0 else 1
                y = relu(self.norm(f"{block}.bn1", self.conv(f"{block}.conv1", x, pad=0)))
                y = relu(self.norm(f"{block}.bn2", self.conv(f"{block}.conv2", y, stride)))
                y = self.norm(f"{block}.bn3", self.conv(f"{block}.conv3", y, pad=0))
                if i == 0:
                    x = self.norm(f"{block}.downsample.1", self.conv(f"{block}.downsample.0", x, stride, 0))
                x = relu(y + x)
            levels.append(x)
        return levels  # r2, r3, r4

    def normalised(self, side, frame):
        return (frame - self.w[f"{side}.mean"]) / self.w[f"{side}.std"]

    def encode_query(self, frame):
        r2, r3, r4 = self.trunk("Encoder_Q", self.conv("Encoder_Q.conv1", self.normalised("Encoder_Q", frame), 2, 3))
        return r4, r3, r2

    def encode_memory(self, frame, mask, other):
        x = self.conv("Encoder_M.conv1", self.normalised("Encoder_M", frame), 2, 3)
        x = x + self.conv("Encoder_M.conv1_m", mask, 2, 3) + self.conv("Encoder_M.conv1_o", other, 2, 3)
        return self.trunk("Encoder_M", x)[2]

    def memorize(self, frame, masks, num_objects):
        """Keys `[1, K, 128, 1, h, w]` and values, zero in the slots of no object and of the background."""
        sides = padding(*frame.shape[-2:])
        frame, masks = pad(frame, sides), pad(masks, sides)
        num_slots, (h, w) = masks.shape[1], (frame.shape[2] // 16, frame.shape[3] // 16)
        keys, values = frame.new_zeros(1, num_slots, 128, 1, h, w), frame.new_zeros(1, num_slots, 512, 1, h, w)
        for o in range(1, num_objects + 1):
            other = sum(
                (masks[:, i : i + 1] for i in range(1, num_objects + 1) if i != o), torch.zeros_like(masks[:, :1])
            )
            r4 = self.encode_memory(frame, masks[:, o : o + 1], other.clamp(0, 1))
            keys[0, o, :, 0], values[0, o, :, 0] = self.conv("KV_M_r4.Key", r4)[0], self.conv("KV_M_r4.Value", r4)[0]
        return keys, values

    def read(self, keys, values, query_key):
        """`[Ck, T, h, w]`, `[Cv, T, h, w]`, `[Ck, h, w]` to `[Cv, h, w]`: softmax over all memory tokens jointly."""
        affinity = keys.flatten(1).T @ query_key.flatten(1) / math.sqrt(keys.shape[0])  # [N, M]
        return (values.flatten(1) @ softmax(affinity, 0)).unflatten(1, query_key.shape[1:])

    def residual(self, name, x):
        return x + self.conv(f"{name}.conv2", relu(self.conv(f"{name}.conv1", relu(x))))

    def refine(self, name, features, coarse):
        s = self.residual(f"{name}.ResFS", self.conv(f"{name}.convFS", features))
        s = s + interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        return self.residual(f"{name}.ResMM", s)

    def decode(self, read_and_value, r3, r2):
        m4 = self.residual("Decoder.ResMM", self.conv("Decoder.convFM", read_and_value))
        m2 = self.refine("Decoder.RF2", r2, self.refine("Decoder.RF3", r3, m4))
        quarter = self.conv("Decoder.pred2", relu(m2))
        return interpolate(quarter, scale_factor=4, mode="bilinear", align_corners=False)

    def segment(self, frame, keys, values, num_objects):
        height, width = frame.shape[-2:]
        left, right, top, bottom = padding(height, width)
        r4, r3, r2 = self.encode_query(pad(frame, (left, right, top, bottom)))
        query_key, query_value = self.conv("KV_Q_r4.Key", r4), self.conv("KV_Q_r4.Value", r4)
        own = []
        for o in range(1, num_objects + 1):
            read = self.read(keys[0, o], values[0, o], query_key[0])[None]
            own.append(softmax(self.decode(torch.cat([read, query_value], 1), r3, r2), 1)[0, 1])
        logits = aggregate(own, keys.shape[1])
        return logits[None, :, top : top + height, left : left + width]


def aggregate(own, num_channels):
    """Logits `[K, H, W]` of each object's probability `[H, W]`, spec 1.7, channel by channel."""
    background = torch.ones_like(own[0])
    for p in own:
        background = background * (1 - p)
    empty = [torch.zeros_like(background)] * (num_channels - 1 - len(own))
    odds = [p.clamp(1e-7, 1 - 1e-7) / (1 - p.clamp(1e-7, 1 - 1e-7)) for p in (background, *own, *empty)]
    return torch.stack([torch.log(each) for each in odds])


def literal_clip(network, frames, first_masks, num_objects, every=5):
    """Probabilities `[T, K, H, W]`: frames 0, 5, 10, ... stay in memory, the previous one is there besides."""
    estimates = [first_masks]
    kept = None
    for t in range(1, len(frames)):
        keys, values = network.memorize(frames[t - 1 : t], estimates[-1], num_objects)
        bank = (keys, values) if kept is None else tuple(torch.cat(pair, 3) for pair in zip(kept, (keys, values)))
        if (t - 1) % every == 0:
            kept = bank
        estimates.append(softmax(network.segment(frames[t : t + 1], *bank, num_objects), 1))
    return torch.cat(estimates)


def scene(num_frames, height, width, num_objects, num_channels, dtype=torch.float32, seed=0):
    """A smooth random texture that drifts, and one-hot masks `[1, K, H, W]` of discs on its first frame."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 8, generator=random, dtype=torch.float64)
    texture = interpolate(coarse, (height + num_frames, width + num_frames), mode="bicubic").clamp(0, 1)
    frames = torch.cat([texture[..., t : t + height, t : t + width] for t in range(num_frames)])
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    labels = torch.zeros(height, width, dtype=torch.long)
    for o in range(1, num_objects + 1):
        y, x = torch.rand(2, generator=random).tolist()
        labels[(rows - y * height) ** 2 + (columns - x * width) ** 2 < (0.2 * min(height, width)) ** 2] = o
    masks = torch.nn.functional.one_hot(labels, num_channels).permute(2, 0, 1)[None]
    return frames.to(dtype), masks.to(dtype)
