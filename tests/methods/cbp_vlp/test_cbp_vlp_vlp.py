"""The branch of vision and language: zero-shot at first, local, calibrated; and the learned vectors of its prompts."""

import pytest
import torch
import torch.nn.functional as F

from vitascope.methods.cbp_vlp.loss import contrast_loss, kd_loss
from vitascope.methods.cbp_vlp.model import probabilities
from vitascope.methods.cbp_vlp.vlp import Prompts, Vlp, quick_gelu

DIM = 16


def make(**how):
    torch.manual_seed(0)
    return Vlp(DIM, num_heads=2, **how)


def real(*lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("length", [0.1, 1.0, 30.0])
def test_at_first_it_says_what_each_frame_says_by_itself(length):
    branch = make()
    frames, text = F.normalize(torch.randn(2, 50, DIM), dim=-1) * length, torch.randn(5, DIM)
    mask = real(50, 20)
    out = branch(frames, mask, text)
    cosines = F.cosine_similarity(frames[:, :, None], text, dim=-1)
    assert torch.allclose(out["logits"][mask] * 0.01, cosines[mask], atol=1e-6)
    assert torch.allclose(out["features"][mask], F.normalize(frames, dim=-1)[mask], atol=1e-6)


def test_at_first_background_is_what_the_best_class_of_the_average_snippet_has():
    branch, mask = make(background=True), real(30, 12)
    frames, text = torch.randn(2, 30, DIM), torch.randn(3, DIM)
    logits = branch(frames, mask, text)["logits"]
    for i, length in enumerate((30, 12)):
        level = logits[i, :length, :3].amax(1).mean()
        assert torch.allclose(logits[i, :length, 3], level.expand(length), atol=1e-4)


def test_one_class_is_told_from_background_without_training():
    branch, mask = make(background=True), torch.ones(1, 20, dtype=torch.bool)
    text = F.normalize(torch.randn(1, DIM), dim=-1)
    frames = torch.randn(1, 20, DIM)
    frames[:, :5] += 6 * text
    p = probabilities(branch(frames, mask, text), 1, "class")[0, :, 0]
    assert p[:5].min() > 0.5 and p[5:].median() < 0.1


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("filling", [0.0, 1e3, float("nan")])
def test_padding_changes_nothing(background, filling):
    branch = make(window=3, background=background)
    with torch.no_grad():
        for p in branch.parameters():  # as after training
            p.add_(torch.randn_like(p) * 0.1)
        branch.log_temperature.fill_(-2.5)
    text, frames, mask = torch.randn(3, DIM), torch.randn(2, 11, DIM), real(11, 4)
    frames[~mask] = filling
    wide = torch.cat([frames, torch.full((2, 9, DIM), filling)], 1)
    wide_mask = F.pad(mask, (0, 9))
    out, other = branch(frames, mask, text), branch(wide, wide_mask, text)
    for key in out:
        assert torch.allclose(out[key][mask], other[key][:, :11][mask], atol=1e-5 if key == "logits" else 1e-6), key


@pytest.mark.parametrize(("background", "num_classes"), [(False, 3), (True, 3), (True, 1)])
def test_every_parameter_learns_from_the_first_step_on_and_all_is_finite(background, num_classes):
    branch, mask = make(background=background, temperature=0.05), real(20, 1)
    text = torch.randn(num_classes, DIM, requires_grad=True)
    out = branch(torch.randn(2, 20, DIM), mask, text)
    labels = torch.randint(0, 2, (2, 20, num_classes)).masked_fill(~mask[..., None], -1)
    p = probabilities(out, num_classes, "class" if background else "none")
    (kd_loss(p, labels) + 0.05 * contrast_loss(out["features"], labels, mask)).backward()
    lacking = [n for n, q in branch.named_parameters() if q.grad is None or not q.grad.any()]
    assert not lacking
    assert text.grad.any() and all(q.grad.isfinite().all() for q in (*branch.parameters(), text))


def test_only_near_frames_are_looked_at():
    branch = make(window=2, depth=2, max_snippets=0)
    with torch.no_grad():
        for block in branch.blocks:
            block.proj.weight.normal_()
    frames = torch.randn(1, 30, DIM, requires_grad=True)
    branch(frames, torch.ones(1, 30, dtype=torch.bool), torch.randn(2, DIM))["logits"][0, 15].sum().backward()
    assert frames.grad[0].abs().sum(1).nonzero().flatten().tolist() == list(range(11, 20))


def test_the_temperature_is_held_in_its_range_and_comes_back():
    branch = make(temperature=0.1)
    for log, held in ((0.0, 0.1), (-9.0, 0.005), (-4.0, 0.0183156)):
        with torch.no_grad():
            branch.log_temperature.fill_(log)
        assert branch.temperature.item() == pytest.approx(held, rel=1e-4)
        assert torch.autograd.grad(branch.temperature, branch.log_temperature)[0] > 0
    with pytest.raises(ValueError, match=r"temperature \(0.5\) must be from 0.005 to 0.1"):
        make(temperature=0.5)


def test_quick_gelu_is_clips():
    x = torch.linspace(-3, 3, 7)
    assert torch.allclose(quick_gelu(x), x / (1 + (-1.702 * x).exp()))


def test_prompts_are_small_and_shared_or_by_place():
    torch.manual_seed(0)
    shared = Prompts(64)
    prefix, postfix = shared()
    assert prefix.shape == postfix.shape == (16, 64) and not shared.positional
    assert torch.cat([prefix, postfix]).std().item() == pytest.approx(0.01, rel=0.1)
    by_place = Prompts(64, num_prefix=4, num_postfix=2, postfix="positional")
    prefix, postfix = by_place()
    assert by_place.positional and by_place.num_postfix == 2 and postfix.shape == (77, 64)
    assert torch.equal(prefix, postfix[1:5])
    assert len(list(by_place.parameters())) == 1


def test_prompts_may_be_without_vectors():
    for postfix in ("shared", "positional"):
        assert Prompts(8, num_prefix=0, num_postfix=0, postfix=postfix)() == (None, None)
    with pytest.raises(ValueError, match=r"postfix \(after\) must be shared or positional"):
        Prompts(8, postfix="after")
