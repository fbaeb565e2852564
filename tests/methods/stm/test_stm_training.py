"""Training: what one step looks at, and that a tiny network can learn to follow blobs."""

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from vitascope.methods.base import Draw
from vitascope.methods.stm.config import STMConfig, stm, stm_small, stm_tiny
from vitascope.methods.stm.light import LightSTM
from vitascope.methods.stm.method import STM
from vitascope.methods.stm.rollout import roll_out
from vitascope.structures import Record
from vitascope.video.writer import VideoWriter


def clip(seed: int = 0, b: int = 2, t: int = 3, size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (b, t, 3, size, size), dtype=torch.uint8, generator=generator)
    labels = torch.zeros(b, t, size, size, dtype=torch.uint8)
    labels[:, :, 8:24, 8:24], labels[0, :, 30:44, 20:40] = 1, 2  # the first clip has two objects, the second one
    return frames, labels


@pytest.fixture
def network() -> LightSTM:
    torch.manual_seed(0)
    return LightSTM(16, 24, 16, (24, 16, 8)).eval()


def test_a_roll_out_equals_the_public_calls_one_clip_at_a_time(network):
    frames, labels = clip()
    with torch.no_grad():
        rolled = roll_out(network, frames, labels, max_objects=2)
        for b, count in ((0, 2), (1, 1)):
            masks = torch.stack([(labels[b, 0] == k).float() for k in range(3)])[None]
            keys, values = [], []
            for step in (1, 2):
                key, value = network.memorize(frames[b, step - 1][None] / 255, masks, count)
                keys.append(key)
                values.append(value)
                said = network.segment(frames[b, step][None] / 255, torch.stack(keys, 2), torch.stack(values, 2), 3)
                torch.testing.assert_close(rolled[b, step - 1], said[0], rtol=1e-4, atol=2e-4)
                masks = said.softmax(1)


def test_only_the_first_labels_are_looked_at(network):
    frames, labels = clip()
    other = labels.clone()
    other[:, 1:] = 0
    with torch.no_grad():
        assert torch.equal(roll_out(network, frames, labels, 2), roll_out(network, frames, other, 2))


def test_the_gradient_flows_back_through_memory_and_the_predicted_mask(network):
    frames, labels = clip()
    logits = roll_out(network, frames, labels, 2)
    logits[:, 1].sum().backward()  # the last frame's alone
    assert network.mask_encoder.masks.weight.grad.abs().sum() > 0
    first = network.mask_encoder.masks.weight.grad.clone()
    network.zero_grad()
    roll_out(network, frames[:, :2], labels[:, :2], 2)[:, 0].sum().backward()
    assert not torch.equal(first, network.mask_encoder.masks.weight.grad)


def test_a_clip_without_objects_has_a_finite_loss(network):
    frames, labels = clip()
    logits = roll_out(network, frames, torch.zeros_like(labels), 2)
    assert logits.isfinite().all()


def test_norms_keep_their_statistics_unless_told_otherwise():
    for is_frozen in (True, False):
        torch.manual_seed(0)
        method = STM(stm_tiny().model_copy(update={"frozen_norms": is_frozen}))
        before = method.network.trunk.stem[2].running_mean.clone()
        frames, labels = clip(size=96)
        method.train()
        method.training_step({"frames": frames, "labels": labels})
        assert torch.equal(before, method.network.trunk.stem[2].running_mean) == is_frozen
        assert method.network.trunk.stem[2].weight.requires_grad


def test_a_frozen_stem_does_not_learn_and_the_rest_does():
    method = STM(stm_tiny().model_copy(update={"frozen_stem": True}))
    still = {name for name, p in method.named_parameters() if not p.requires_grad}
    assert still and all(
        name.startswith(("network.trunk.stem", "network.trunk.stages.0", "network.trunk.stages.1")) for name in still
    )


def test_stages_follow_the_lengths_and_rates():
    assert [(s.name, s.data, s.length) for s in STM(stm_tiny()).stages()] == [
        ("stills", "stills", 300), ("videos", "videos", 300)]  # fmt: skip
    stages = STM(stm_tiny().model_copy(update={"stills_length": 0, "videos_rate": 0.5})).stages()
    assert [s.name for s in stages] == ["videos"] and stages[0].optim.lr == pytest.approx(stm_tiny().optim.lr / 2)
    with pytest.raises(ValueError, match="no training"):
        STMConfig(stills_length=0, videos_length=0)
    with pytest.raises(ValueError, match="fits network small"):
        STMConfig(trunk_weights="a.pth")


def test_the_papers_recipe_is_the_papers():
    paper = stm()
    assert (paper.network, paper.size, paper.num_frames, paper.batch_size, paper.max_skip) == (
        "resnet50",
        384,
        3,
        4,
        25,
    )
    assert (paper.optim.name, paper.optim.lr, paper.loss, paper.frozen_norms) == ("adam", 1e-5, "cross_entropy", True)
    assert (paper.stills_length, paper.videos_length) == (500_000, 245_000)
    assert stm_small().network == "small"


@pytest.fixture(scope="module")
def blobs(tmp_path_factory) -> list[Record]:
    """Videos of two coloured discs that wander over a striped ground."""
    folder, records, rng = tmp_path_factory.mktemp("blobs"), [], np.random.default_rng(0)
    rows, columns = np.mgrid[0:96, 0:96]
    for i in range(4):
        ground = 90 + 40 * np.sin(columns / rng.uniform(3, 9) + rows / rng.uniform(3, 9))
        at, speed = rng.uniform(30, 66, (2, 2)), rng.uniform(-3, 3, (2, 2))
        colours, radii = rng.integers(0, 255, (2, 3)), rng.uniform(10, 18, 2)
        frames = np.repeat(ground[None, None], 3, 1).repeat(12, 0)  # [T, 3, H, W]
        masks = np.zeros((12, 96, 96), np.uint8)
        for t in range(12):
            for k in range(2):
                inside = np.hypot(rows - at[k, 0], columns - at[k, 1]) < radii[k]
                frames[t][:, inside] = colours[k][:, None]
                masks[t][inside] = k + 1
            at = np.clip(at + speed, 5, 91)
        with VideoWriter(folder / f"{i}.mp4", 12) as writer:
            writer.write(frames.astype(np.uint8))
        np.savez_compressed(folder / f"{i}.masks.npz", masks=masks)
        records.append(Record(str(folder / f"{i}.mp4"), masks=str(folder / f"{i}.masks.npz")))
    return records


@pytest.mark.slow
def test_a_tiny_network_overfits_videos_of_blobs_in_300_steps(blobs):
    config = stm_tiny().model_copy(update={"stills_length": 0, "max_skip": 1, "colour": 0.0, "min_pixels": 100})
    torch.manual_seed(0)
    method = STM(config)
    stage = method.stages()[0]
    samples = method.samples(stage, blobs)
    optimizer = torch.optim.AdamW(method.parameters(), lr=stage.optim.lr, betas=stage.optim.betas)
    for step in range(300):
        batch = default_collate(
            [samples[Draw((8 * step + i) % len(blobs), 8 * step + i, step / 300)] for i in range(8)]
        )
        optimizer.zero_grad()
        method.training_step(batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 5.0)
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = stage.optim.lr * min(1.0, step / 15) * (1 - step / 300)
    overlaps = []
    for seed in range(12):
        sample = samples[Draw(seed % len(blobs), 10_000 + seed, 1.0)]
        with torch.no_grad():
            said = roll_out(method.network, sample["frames"][None], sample["labels"][None], 2)[0].argmax(1)
        truth = sample["labels"][1:]
        for k in (1, 2):
            both, either = ((said == k) & (truth == k)).sum(), ((said == k) | (truth == k)).sum()
            overlaps += [float(both / either)] if either else []
    assert np.mean(overlaps) > 0.9, overlaps
