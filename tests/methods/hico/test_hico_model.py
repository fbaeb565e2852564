"""The heads' sizes and what is said of pairs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitascope.engine.configure import override
from vitascope.methods.hico import model as module
from vitascope.methods.hico.method import HiCo
from vitascope.methods.hico.model import BACKBONES, HiCoModel, projection_head
from vitascope.nn.tiny3d import Tiny3D
from vitascope.nn.vit import VisionTransformer
from vitascope.structures import Record


def count(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())


def tiny(seed: int = 0, **changes) -> HiCoModel:
    torch.manual_seed(seed)
    return HiCoModel(Tiny3D(width=8), dim=64, **(dict(hidden_dim=32, projection_dim=16) | changes))


def test_heads_of_the_paper_have_4_54_million_parameters_and_files_570_tensors():
    with torch.device("meta"):
        model = HiCoModel(BACKBONES["s3dg"](), dim=1024)
    assert count(model.visual_head) == count(model.topical_head) == 2_234_496
    assert count(model.predictor) == 66_049
    assert count(model) - count(model.encoder) == 4_535_041
    assert len(model.state_dict()) == 570


def test_both_heads_are_three_layers_with_norms_after_the_first_two():
    head = projection_head(1024)
    linear = [part for part in head if isinstance(part, nn.Linear)]
    assert [(part.in_features, part.out_features) for part in linear] == [(1024, 1024), (1024, 1024), (1024, 128)]
    assert all(part.bias is not None for part in linear)
    norms = [part for part in head if isinstance(part, nn.BatchNorm1d)]
    assert len(norms) == 2 and {norm.eps for norm in norms} == {1e-3} and {norm.momentum for norm in norms} == {0.1}
    names = ["linear_a", "linear_a_bn", "relu_a", "linear_b", "linear_b_bn", "relu_b", "logits_out_b2"]
    assert [name for name, _ in head.named_children()] == names


def test_embeddings_have_length_one_and_both_heads_read_the_same_features():
    model, clips = tiny().double(), torch.rand(6, 4, 3, 32, 32, dtype=torch.float64)
    out = model(clips)
    assert {name: tuple(value.shape) for name, value in out.items()} == {
        "pooled": (6, 64),
        "visual": (6, 16),
        "topical": (6, 16),
    }
    for name, head in (("visual", model.visual_head), ("topical", model.topical_head)):
        torch.testing.assert_close(out[name].norm(dim=1), torch.ones(6, dtype=torch.float64))
        torch.testing.assert_close(out[name], F.normalize(head(out["pooled"]), dim=1))
    assert not torch.allclose(out["visual"], out["topical"])


def test_without_topics_there_is_one_head():
    model = tiny(topical=False)
    assert set(model(torch.rand(2, 4, 3, 32, 32))) == {"pooled", "visual"}
    assert not [name for name in model.state_dict() if name.startswith(("topical_head", "predictor"))]
    with pytest.raises(ValueError, match=r"topical \(False\) must be True for pairs to be predicted"):
        model.pair_logits(torch.rand(2, 16))


def literal_logits(model: HiCoModel, topical: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.stack([model.predictor(torch.cat([r, c]))[0] for c in topical]) for r in topical])


@pytest.mark.parametrize("pair_values", [module.PAIR_VALUES, 7 * 32 * 3, 1])
def test_pair_logits_are_those_of_the_pairs_written_out(monkeypatch, pair_values):
    monkeypatch.setattr(module, "PAIR_VALUES", pair_values)  # all rows, three, or one at a time
    model, topical = tiny(1).double(), torch.randn(7, 16, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(7, 7, dtype=torch.float64)
    watched = [topical, *model.predictor.parameters()]
    said, expected = model.pair_logits(topical), literal_logits(model, topical)
    torch.testing.assert_close(said, expected, atol=1e-12, rtol=0)
    assert (said - said.T).abs().max() > 1e-3  # the order of a pair counts
    theirs = torch.autograd.grad((expected * weights).sum(), watched)
    for mine, other in zip(torch.autograd.grad((said * weights).sum(), watched), theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_pairs_of_many_clips_take_little_memory(monkeypatch):
    monkeypatch.setattr(module, "PAIR_VALUES", 2**14)
    model, topical = tiny(2), torch.randn(128, 16, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        model.pair_logits(topical)
    assert max(saved) <= 2**14 < 128 * 128 * 32


def test_predictor_tells_pairs_apart_from_the_start():
    torch.manual_seed(0)
    model, topical = HiCoModel(Tiny3D(width=8), 64), torch.nn.functional.normalize(torch.randn(64, 128), dim=1)
    assert 0.2 < model.pair_logits(topical).std().item() < 2  # of linear layers as they are drawn by default: 0.02


def test_layer_norm_makes_a_clip_independent_of_its_batch():
    clips = torch.rand(4, 4, 3, 32, 32)
    for head_norm, is_independent in (("layer", True), ("batch", False)):
        model = tiny(3, head_norm=head_norm)
        model.encoder.eval()  # whose norms are of the batch otherwise
        whole, half = model(clips)["visual"][:2], model(clips[:2])["visual"]
        assert torch.allclose(whole, half, atol=1e-5) == is_independent, head_norm
    with pytest.raises(ValueError, match=r"norm \(group\) must be batch or layer"):
        tiny(head_norm="group")


def test_chunks_change_no_gradient():
    model, clips = tiny(4).double(), torch.rand(6, 4, 3, 32, 32, dtype=torch.float64)
    model.encoder.eval()  # whose norms are of the batch otherwise

    def gradients(chunk):
        out = model(clips, chunk)
        loss = (out["visual"][::2] * out["topical"][1::2]).sum() + model.pair_logits(out["topical"]).sin().sum()
        return torch.autograd.grad(loss, list(model.parameters()))

    for whole, parts in zip(gradients(None), gradients(4), strict=True):
        torch.testing.assert_close(parts, whole, atol=1e-10, rtol=1e-8)


def test_a_transformer_gives_the_mean_of_its_tokens():
    torch.manual_seed(5)
    encoder = VisionTransformer(grid=(2, 2, 2), embed_dim=32, depth=1, num_heads=2)
    model, clips = HiCoModel(encoder, dim=32, hidden_dim=16), torch.rand(3, 4, 3, 32, 32)
    torch.testing.assert_close(model(clips)["pooled"], encoder(clips).mean(1))
    assert "encoder.blocks.0.attn.q_bias" in model.state_dict()  # as runs of the other methods name it


def test_embeddings_are_single_precision_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        out = tiny(6)(torch.rand(4, 4, 3, 32, 32))
    assert out["visual"].dtype == out["topical"].dtype == torch.float32
    torch.testing.assert_close(out["visual"].norm(dim=1), torch.ones(4))


def test_one_video_alone_is_refused():
    method = HiCo(HiCo.recipes["hico-tiny"]())
    with pytest.raises(ValueError, match="the data hold 1 video; at least 2 are needed"):
        method.samples(method.stages()[0], [Record("a.mp4"), Record("a.mp4", start_seconds=3.0)])


def test_features_are_of_the_pixels_that_are_read_and_of_no_enlarged_ones():
    method = HiCo(override(HiCo.recipes["hico-tiny"](), ["tiny_width=8"])).eval()
    side, size = method.snippet.size, method.config.size
    assert abs(size / side - 0.875) < 0.01
    clips = torch.randint(0, 256, (1, 8, 3, side, side + 20), dtype=torch.uint8)
    top, left = (side - size) // 2, (side + 20 - size) // 2
    seen = clips[..., top : top + size, left : left + size].float() / 255
    with torch.no_grad():
        torch.testing.assert_close(method.features(clips), method.model.encode((seen - 0.45) / 0.225))


def test_clips_to_embed_last_as_long_as_those_it_learned_from():
    for recipe in ("hico", "hico-tiny"):
        config = HiCo.recipes[recipe]()
        with torch.device("meta"):
            clip = HiCo(config).snippet
        assert clip.num_frames * clip.stride_frames / clip.fps == config.clip_seconds
