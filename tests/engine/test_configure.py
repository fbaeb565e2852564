"""Overrides by dotted names."""

from typing import Literal

import pytest
from pydantic import Field, model_validator

from vitascope.engine.configure import choose, field_names, nearest, override
from vitascope.engine.settings import TrainSettings
from vitascope.methods.base import Frozen, Optim


class Encoder(Frozen):
    depth: int = Field(12, gt=0)
    width: int = 768
    title: str = "vit"


class Recipe(Frozen):
    encoder: Encoder = Encoder()
    optim: Optim = Optim()
    note: str | None = None
    names: tuple[str, ...] = ()

    @model_validator(mode="after")
    def fits(self):
        if self.encoder.width % self.encoder.depth:
            raise ValueError(f"width ({self.encoder.width}) must be a multiple of depth ({self.encoder.depth})")
        return self


@pytest.mark.parametrize(
    ("assignment", "read", "expected"),
    [
        ("encoder.depth=6", lambda c: c.encoder.depth, 6),
        ("optim.lr=3e-4", lambda c: c.optim.lr, 3e-4),
        ("optim.betas=[0.8, 0.9]", lambda c: c.optim.betas, (0.8, 0.9)),
        ("optim.betas=(0.8, 0.9)", lambda c: c.optim.betas, (0.8, 0.9)),
        ("optim.clip_norm=null", lambda c: c.optim.clip_norm, None),
        ("optim.clip_norm=None", lambda c: c.optim.clip_norm, None),
        ("optim.name=lars", lambda c: c.optim.name, "lars"),
        ("note=a = b", lambda c: c.note, "a = b"),
        ("encoder.title=12", lambda c: c.encoder.title, "12"),
        ('names=["a", "b"]', lambda c: c.names, ("a", "b")),
        ("names=a", lambda c: c.names, ("a",)),
        ("names=a, b", lambda c: c.names, ("a", "b")),
        ("note=a, b", lambda c: c.note, "a, b"),
        ('encoder={"depth": 4}', lambda c: c.encoder.depth, 4),
    ],
)
def test_a_value_is_read_as_the_field_wants_it(assignment, read, expected):
    before = Recipe()
    assert read(override(before, [assignment])) == expected
    assert before == Recipe()


def test_several_fields_are_validated_together():
    config = override(Recipe(), ["encoder.depth=7", "encoder.width=70"])
    assert (config.encoder.depth, config.encoder.width) == (7, 70)
    with pytest.raises(ValueError, match=r"Recipe: width \(768\) must be a multiple of depth \(7\)"):
        override(Recipe(), ["encoder.depth=7"])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("encoder.dept=6", "unknown field 'encoder.dept'; the nearest is 'encoder.depth'"),
        ("lr=1", "unknown field 'lr'; the nearest is 'optim.lr'"),
        ("zzzzzz=1", "unknown field 'zzzzzz'; the fields are encoder.depth, encoder.width"),
        ("optim.lr.x=1", "unknown field 'optim.lr.x'"),
        ("encoder.depth", r"assignment \('encoder.depth'\) must be of the form name=value"),
        ("encoder.depth=six", r"encoder.depth \('six'\): must be a valid integer"),
        ("encoder.depth=0", r"encoder.depth \('0'\): must be greater than 0"),
        ("optim.name=adma", r"optim.name \('adma'\): must be 'adamw', 'adam', 'lars' or 'sgd'"),
    ],
)
def test_a_mistake_is_named_in_one_sentence(assignment, message):
    with pytest.raises(ValueError, match=message) as caught:
        override(Recipe(), [assignment])
    assert "\n" not in str(caught.value)


def test_field_names_reach_into_groups():
    assert field_names(Recipe())[:4] == ["encoder.depth", "encoder.width", "encoder.title", "optim.name"]


def test_nearest_serves_recipes_too():
    assert nearest("video-mae", ["videomae", "mme_base"]) == "videomae"


def test_a_wrong_part_is_told_with_those_that_are_allowed():
    class Parts(Frozen):
        parts: tuple[Literal["shape", "position"], ...] = Field(("shape",), min_length=1)

    assert override(Parts(), ["parts=position,shape"]).parts == ("position", "shape")
    for text in ("motion", '["motion"]', "shape,motion"):
        with pytest.raises(ValueError, match="must be 'shape' or 'position'"):
            override(Parts(), [f"parts={text}"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp17"}, "precision ('fp17') must be 'fp32', 'bf16' or 'fp16'"),
        ({"seed": -1, "num_workers": -2}, "seed (-1) must be greater than or equal to 0; num_workers (-2) must be "),
        ({"device": "tpu"}, "device ('tpu') must be 'auto', 'cpu' or 'cuda'"),
        ({"sed": 1}, "sed: Extra inputs are not permitted"),
    ],
)
def test_settings_that_do_not_fit_are_told_in_one_sentence(settings, message):
    with pytest.raises(ValueError) as caught:
        TrainSettings(**settings)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_an_unknown_recipe_is_told_with_the_names_that_there_are():
    with pytest.raises(ValueError, match="unknown recipe 'zzz'; the recipes are mme, stm-tiny$"):
        choose("zzz", {"mme": 1, "stm-tiny": 2})
