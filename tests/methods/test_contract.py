"""What every method keeps, over all of `METHODS`: each is built from its tiny recipes and fed from real files."""

import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils.data import default_collate

from vitascope.methods import METHODS
from vitascope.methods.base import Draw, Frozen, Method, Stage
from vitascope.store.feature_files import write_features
from vitascope.structures import Features, Figure, Record
from vitascope.video.writer import VideoWriter, write_mask_png

OVERFIT_STEPS = 450
WIDTHS = (32, 128)  # of the features for CBP as the tiny recipe wants them, and of the tiny CLIP
CLASSES = ("left", "right")  # words that the tiny CLIP knows


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> list[Record]:
    """Two short videos of smooth colours that drift, each its own way and of its own class, with a disc's mask."""
    folder, records = tmp_path_factory.mktemp("videos"), []
    rows, columns = np.mgrid[0:120, 0:160] / 20.0
    for i in range(2):
        shift = np.arange(40)[:, None, None] * (0.2 + 0.1 * i)
        planes = [np.sin(rows * a + shift) + np.cos(columns * b - shift) for a, b in ((1, 2), (2, 1), (1, 1 + i))]
        frames = (np.stack(planes, 1) * 60 + 128).astype(np.uint8)  # [T, C, H, W]
        with VideoWriter(folder / f"{i}.mp4", 25) as writer:
            writer.write(frames)
        discs = np.stack([np.hypot(rows - 3 - t / 40, columns - 4 + i) < 1.5 for t in range(40)]).astype(np.uint8)
        np.savez_compressed(folder / f"{i}.masks.npz", masks=discs)
        Image.fromarray(frames[0].transpose(1, 2, 0)).save(folder / f"{i}.jpg")
        write_mask_png(folder / f"{i}.png", discs[0])
        masks = str(folder / f"{i}.masks.npz")
        features = tuple(write_vectors(folder / f"{i}.{width}.safetensors", width, i) for width in WIDTHS)
        records.append(Record(str(folder / f"{i}.mp4"), labels=(CLASSES[i],), masks=masks, features=features))
    return records


def write_vectors(path: Path, width: int, seed: int) -> str:
    """Features of 70 snippets, more than the tiny recipe takes; those of a few are large, as of an action."""
    values = np.random.default_rng([seed, width]).normal(size=(70, width)).astype(np.float32)
    values[20:30, seed] += 8
    edges = np.arange(71) * 0.64
    write_features(path, Features(values, np.stack([edges[:-1], edges[1:]], 1)))
    return str(path)


class Tiny(NamedTuple):
    """A method as one of its recipes makes it."""

    cls: type[Method]
    recipe: str

    @property
    def config(self) -> Frozen:
        config = self.cls.recipes[self.recipe]()
        return config.model_copy(update={"classes": CLASSES}) if "classes" in type(config).model_fields else config


def build(tiny: Tiny, seed: int = 0) -> Method:
    torch.manual_seed(seed)
    return tiny.cls(tiny.config)


def of_stage(stage: Stage, records: list[Record]) -> list[Record]:
    """The videos, or for a stage on stills their first frames."""
    if stage.data != "stills":
        return records
    stems = [record.path.removesuffix(".mp4") for record in records]
    return [Record(f"{stem}.jpg", masks=f"{stem}.png") for stem in stems]


def read(method: Method, stage: Stage, records: list[Record], seeds=(1, 2)) -> dict[str, torch.Tensor]:
    samples = method.samples(stage, of_stage(stage, records))
    return default_collate([samples[Draw(index, seed, 0.0)] for index, seed in enumerate(seeds)])


TINY = [Tiny(cls, recipe) for cls in METHODS.values() for recipe in cls.recipes if recipe.endswith("-tiny")]


@pytest.fixture(params=TINY, ids=[tiny.recipe for tiny in TINY])
def tiny(request) -> Tiny:
    return request.param


@pytest.mark.parametrize("cls", METHODS.values(), ids=METHODS)
def test_every_recipe_makes_a_valid_configuration_with_its_own_stages(cls):
    for name, make in cls.recipes.items():
        config = make()
        assert isinstance(config, Frozen), name
        assert type(config).model_validate_json(config.model_dump_json()) == config, name
    assert any(name.endswith("-tiny") for name in cls.recipes)


def test_every_field_says_what_it_is_and_the_papers_value(tiny):
    for name, field in type(tiny.config).model_fields.items():
        assert field.description and "Paper:" in field.description, name


def test_it_builds_with_stages_and_a_snippet(tiny):
    method = build(tiny)
    assert method.config == tiny.config
    assert method.snippet.num_frames > 0
    names = {name for name, _ in method.named_parameters()}
    stages = method.stages()
    assert len({stage.name for stage in stages}) == len(stages) > 0
    for stage in stages:
        assert all(any(name.startswith(prefix) for name in names) for prefix in stage.learns)
    assert set(method.no_decay) <= names
    assert all(isinstance(method.layer_of(name), int) and method.layer_of(name) >= 0 for name in names)


def test_loss_is_finite_and_every_learning_parameter_gets_a_gradient(tiny, records):
    method = build(tiny)
    for stage in method.stages():
        method.zero_grad(set_to_none=True)
        scalars = method.training_step(read(method, stage, records))
        assert all(value.ndim == 0 and value.isfinite() for value in scalars.values()), stage.name
        scalars["loss"].backward()
        learning = {n: p for n, p in method.named_parameters() if p.requires_grad and n.startswith(stage.learns)}
        lacking = [n for n, p in learning.items() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
        assert not lacking, (stage.name, lacking)


def test_a_step_leaves_the_batch_unchanged(tiny, records):
    method = build(tiny)
    for stage in method.stages():
        batch = read(method, stage, records)
        before = copy.deepcopy(batch)
        method.training_step(batch)["loss"].backward()
        method.figures(batch)
        assert batch.keys() == before.keys()
        assert all(torch.equal(batch[key], before[key]) for key in batch), stage.name


def test_the_loss_is_a_mean_over_samples(tiny, records):
    method = build(tiny)
    if method.compares_samples:
        pytest.skip("the loss compares the samples of a batch")
    for stage in method.stages():
        batch = read(method, stage, records)
        whole = method.training_step(batch)["loss"]
        parts = [method.training_step({k: v[i : i + 1] for k, v in batch.items()})["loss"] for i in range(2)]
        torch.testing.assert_close(whole, sum(parts) / 2, rtol=1e-5, atol=1e-6)


def test_same_draw_same_sample_and_another_draw_another(tiny, records):
    method = build(tiny)
    for stage in method.stages():
        samples, again = (method.samples(stage, of_stage(stage, records)) for _ in range(2))
        again[Draw(1, 7, 0.0)]  # what was asked before must not matter
        first, second, other = samples[Draw(0, 5, 0.0)], again[Draw(0, 5, 0.0)], samples[Draw(0, 6, 0.0)]
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert any(not torch.equal(first[key], other[key]) for key in first)


def test_same_seed_same_loss(tiny, records):
    losses = []
    for _ in range(2):
        method = build(tiny, seed=3)
        batch = read(method, method.stages()[0], records)
        losses.append(method.training_step(batch)["loss"].item())
    assert losses[0] == losses[1]
    assert build(tiny, seed=4).training_step(batch)["loss"].item() != losses[0]


def test_it_saves_and_loads_to_equality(tiny, records, tmp_path):
    method, other = build(tiny, seed=0), build(tiny, seed=1)
    save_file(method.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    clips = random_clips(method)
    with torch.inference_mode():
        assert torch.equal(method.eval().features(clips), other.eval().features(clips))
    for stage in method.stages():
        batch = read(method, stage, records)
        assert torch.equal(method.training_step(batch)["loss"], other.training_step(batch)["loss"])


def test_it_overfits_two_samples(tiny, records):
    method = build(tiny)
    stage = method.stages()[0]
    batch = read(method, stage, records)
    learning = [p for name, p in method.named_parameters() if p.requires_grad and name.startswith(stage.learns)]
    optimizer = torch.optim.AdamW(learning, lr=stage.optim.lr, betas=stage.optim.betas)
    first = method.training_step(batch)["loss"].item()
    for _ in range(OVERFIT_STEPS):
        optimizer.zero_grad()
        loss = method.training_step(batch)["loss"]
        if loss.item() < 0.25 * first:
            return
        loss.backward()
        optimizer.step()
    raise AssertionError(f"the loss went from {first:.3g} to {loss.item():.3g} in {OVERFIT_STEPS} steps")


def random_clips(method: Method, batch_size: int = 2) -> torch.Tensor:
    shape = (batch_size, method.snippet.num_frames, 3, method.snippet.size + 20, method.snippet.size + 61)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_features_are_one_finite_float32_vector_a_clip_and_deterministic(tiny):
    method = build(tiny).eval()
    clips = random_clips(method)
    before = clips.clone()
    with torch.inference_mode():
        vectors = method.features(clips)
        assert vectors.dtype == torch.float32 and vectors.ndim == 2 and len(vectors) == 2
        assert vectors.isfinite().all()
        assert torch.equal(vectors, method.features(clips))
        torch.testing.assert_close(vectors[1:], method.features(clips[1:]), rtol=1e-4, atol=1e-5)
    assert torch.equal(clips, before)
    assert not torch.allclose(vectors[0], vectors[1])


def test_figures_are_rows_of_pictures(tiny, records):
    method = build(tiny).eval()
    for stage in method.stages():
        for figure in method.figures(read(method, stage, records)):
            assert isinstance(figure, Figure) and figure.title and figure.rows
            for name, row in figure.rows:
                assert name and row.dtype == np.uint8 and row.ndim == 4 and row.shape[1] == 3
