"""The encoder's parts against slow loops and torch's own layers."""

import math

import pytest
import torch
import torch.nn.functional as F

from vitascope.nn.vit import (
    Attention,
    Block,
    TubeletEmbed,
    VisionTransformer,
    patchify,
    resample_positions,
    select_tokens,
    sinusoid_table,
    token_grid,
    unpatchify,
)


def tiny_encoder(grid=(4, 3, 3)) -> VisionTransformer:
    return VisionTransformer(grid, embed_dim=24, depth=2, num_heads=3, patch_size=8)


def test_the_table_equals_the_formula_in_float64():
    table, dim = sinusoid_table(1568, 768), 768
    for n, j in [(0, 0), (1, 0), (1, 1), (1567, 0), (1567, 1), (1567, 2), (1000, 500), (777, 767), (1567, 766)]:
        angle = n / 10000 ** (2 * (j // 2) / dim)
        expected = torch.tensor(math.sin(angle) if j % 2 == 0 else math.cos(angle), dtype=torch.float64).float()
        assert table[n, j] == expected, (n, j)


@pytest.mark.parametrize(("num_positions", "dim"), [(1568, 768), (1568, 192), (392, 96)])
def test_the_table_equals_that_of_transformers_exactly(num_positions, dim):
    videomae = pytest.importorskip("transformers.models.videomae.modeling_videomae")
    assert torch.equal(sinusoid_table(num_positions, dim), videomae.get_sinusoid_encoding_table(num_positions, dim)[0])


def test_a_table_in_float32_would_be_wrong():
    j = torch.arange(768)
    angles = torch.arange(1568).float()[:, None] / 10000 ** (2 * (j // 2) / 768)
    low = torch.where(j % 2 == 0, angles.sin(), angles.cos())
    assert (low - sinusoid_table(1568, 768)).abs().max() > 1e-5


def test_tokens_run_over_time_then_height_then_width():
    clips = torch.arange(4 * 4 * 6).reshape(1, 4, 1, 4, 6)
    patches = patchify(clips, tubelet_frames=2, patch_size=2)  # grid (2, 2, 3)
    assert torch.equal(patches[0, 1 * 6 + 1 * 3 + 2, ..., 0], clips[0, 2:4, 0, 2:4, 4:6])
    assert torch.equal(unpatchify(patches, (2, 2, 3)), clips)


def test_embedding_equals_the_convolution():
    embed, clips = TubeletEmbed(20, 2, 8), torch.rand(2, 4, 3, 16, 24)
    expected = embed.proj(clips.transpose(1, 2)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(clips), expected, atol=1e-6, rtol=1e-5)
    visible = torch.zeros(2, 12, dtype=torch.bool)
    visible[0, [1, 5]] = visible[1, [0, 11]] = True
    assert torch.equal(embed(clips, visible)[1, 1], embed(clips)[1, 11])


def test_attention_equals_the_formula_with_biases_on_queries_and_values_only():
    torch.manual_seed(0)
    attention, x = Attention(12, 3), torch.randn(2, 5, 12)
    torch.nn.init.normal_(attention.q_bias)
    torch.nn.init.normal_(attention.v_bias)
    wq, wk, wv = attention.qkv.weight.chunk(3)
    q, k, v = x @ wq.T + attention.q_bias, x @ wk.T, x @ wv.T + attention.v_bias
    heads = []
    for h in range(3):
        part = slice(4 * h, 4 * h + 4)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / 2.0
        heads.append(scores.softmax(-1) @ v[..., part])
    torch.testing.assert_close(attention(x), attention.proj(torch.cat(heads, -1)), atol=1e-6, rtol=1e-5)


def test_block_is_pre_norm_with_exact_gelu():
    torch.manual_seed(0)
    block, x = Block(12, 3, mlp_ratio=2.0), torch.randn(1, 4, 12)
    middle = x + block.attn(F.layer_norm(x, (12,), block.norm1.weight, block.norm1.bias, 1e-6))
    hidden = block.mlp.fc1(F.layer_norm(middle, (12,), block.norm2.weight, block.norm2.bias, 1e-6))
    gelu = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    assert hidden.shape[-1] == 24
    torch.testing.assert_close(block(x), middle + block.mlp.fc2(gelu), atol=1e-6, rtol=1e-5)


def test_masked_pixels_do_not_reach_the_visible_tokens():
    torch.manual_seed(0)
    encoder, clips = tiny_encoder(), torch.rand(2, 8, 3, 24, 24)
    mask = torch.arange(36).expand(2, -1) % 3 != 0
    changed = patchify(clips, 2, 8).clone()
    changed[mask] = 7.0
    seen = encoder(clips, mask)
    assert seen.shape == (2, 12, 24)
    assert torch.equal(seen, encoder(unpatchify(changed, (4, 3, 3)), mask))
    changed[~mask] += 1.0
    assert not torch.equal(seen, encoder(unpatchify(changed, (4, 3, 3)), mask))


def test_an_empty_mask_sees_everything():
    encoder, clips = tiny_encoder(), torch.rand(2, 8, 3, 24, 24)
    none = torch.zeros(2, 36, dtype=torch.bool)
    torch.testing.assert_close(encoder(clips, none), encoder(clips), atol=1e-6, rtol=1e-5)


def test_positions_tell_equal_tokens_apart():
    tokens = tiny_encoder()(torch.ones(1, 8, 3, 24, 24))[0]
    assert torch.pdist(tokens).min() > 1e-4


@pytest.mark.parametrize("shape", [(4, 24, 24), (16, 24, 24), (8, 48, 32)])
def test_other_lengths_and_sizes_than_the_trained_ones_are_encoded(shape):
    frames, height, width = shape
    tokens = tiny_encoder()(torch.rand(1, frames, 3, height, width))
    assert tokens.shape == (1, frames // 2 * (height // 8) * (width // 8), 24)
    assert tokens.isfinite().all()


def test_positions_of_the_trained_grid_are_the_table_itself():
    table = sinusoid_table(36, 24)
    assert resample_positions(table, (4, 3, 3), (4, 3, 3)) is table


def test_positions_of_a_finer_grid_keep_the_trained_places():
    table = sinusoid_table(27, 8)
    fine = resample_positions(table, (3, 3, 3), (9, 9, 9)).reshape(9, 9, 9, 8)
    # with a factor of 3, the middle of every three fine places is a coarse one
    torch.testing.assert_close(fine[1::3, 1::3, 1::3].reshape(27, 8), table)


def test_tables_are_not_in_the_state_dict():
    assert not [name for name in tiny_encoder().state_dict() if "position" in name]


def test_linear_weights_start_xavier_uniform_and_biases_at_zero():
    encoder = tiny_encoder()
    weight = encoder.blocks[0].attn.qkv.weight
    bound = math.sqrt(6 / (24 + 72))
    assert bound * 0.95 < weight.abs().max() <= bound
    assert all(
        (p == 0).all() for name, p in encoder.named_parameters() if name.endswith("bias") and "embed" not in name
    )


def test_uneven_masks_are_refused():
    mask = torch.tensor([[True, False, False], [True, True, False]])
    with pytest.raises(ValueError, match=r"mask chooses \[1, 2\] tokens; every sample of a batch must have as many"):
        select_tokens(torch.zeros(2, 3, 4), mask)


def test_masks_of_numbers_are_refused():
    with pytest.raises(ValueError, match=r"must be bool \[2, 3\]"):
        select_tokens(torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 3, 16, 16), r"frames \(3\) of the clips must be a multiple of 2"),
        ((1, 2, 3, 20, 16), r"height \(20\) of the clips must be a multiple of 16"),
        ((1, 2, 3, 16, 0), r"width \(0\) of the clips must be a multiple of 16"),
        ((2, 3, 16, 16), r"must have 5 axes \[B, T, C, H, W\]"),
    ],
)
def test_clips_that_do_not_divide_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        token_grid(torch.zeros(shape), 2, 16)


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"dim \(10\) must be a multiple of num_heads \(3\)"):
        Attention(10, 3)


def test_drop_path_changes_nothing_in_evaluation_and_keeps_the_mean_in_training():
    torch.manual_seed(0)
    plain, dropping = Block(32, 2), Block(32, 2, drop_path=0.4)
    dropping.load_state_dict(plain.state_dict())
    x = torch.randn(4000, 3, 32)
    assert torch.equal(plain.eval()(x), dropping.eval()(x)) and torch.equal(plain.train()(x), plain.eval()(x))
    with torch.no_grad():
        change = dropping.train()._kept(torch.ones(4000, 1, 1))
    assert change.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert abs(change.mean() - 1) < 0.05
    with pytest.raises(ValueError, match=r"drop_path \(1.0\) must be >= 0 and < 1"):
        Block(32, 2, drop_path=1.0)


def test_drop_path_rises_from_the_first_block_to_the_last():
    encoder = VisionTransformer((1, 2, 2), embed_dim=32, depth=5, num_heads=2, drop_path=0.2)
    assert [block.drop_path for block in encoder.blocks] == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])
    assert VisionTransformer((1, 2, 2), embed_dim=32, depth=1, num_heads=2).blocks[0].drop_path == 0
    assert encoder.state_dict().keys() == VisionTransformer((1, 2, 2), 32, 5, 2).state_dict().keys()
