"""The paper's network against its formulas written out slowly, in `literal_stm.py` and here (spec stm.md, section 5)."""

import math

import pytest
import torch
from literal_stm import LiteralSTM, aggregate, calm_weights, literal_clip, official_shapes, padding, scene
from torch.nn.functional import pad as zero_pad

from vitascope.methods.stm import load_official, model
from vitascope.methods.stm.read import attend
from vitascope.methods.stm.resnet50 import STM


@pytest.fixture(scope="module")
def single():
    return load_official(calm_weights(prefix="module."))


@pytest.fixture(scope="module")
def double():
    """Ours and the literal one, in float64, the literal one's weights rounded to float32 like ours."""
    network = load_official(calm_weights())
    state = {name: t.double() if t.is_floating_point() else t for name, t in network.state_dict().items()}
    return network.double(), LiteralSTM(state)


def our_clip(network, frames, first_masks, num_objects, every=5):
    """As `literal_clip`, by the public calls, memory without slots for objects that do not exist."""
    estimates, kept = [first_masks], []
    for t in range(1, len(frames)):
        previous = network.memorize(frames[t - 1 : t], estimates[-1], num_objects)
        keys, values = (torch.stack(tensors, 2) for tensors in zip(*kept, previous))
        logits = network.segment(frames[t : t + 1], keys, values, num_channels=first_masks.shape[1])
        estimates.append(logits.softmax(1))
        if (t - 1) % every == 0:
            kept.append(previous)
    return torch.cat(estimates)


# names -------------------------------------------------------------------------------------------------------------


def test_names_and_shapes_are_those_of_the_released_file():
    ours = {name: tuple(tensor.shape) for name, tensor in STM().state_dict().items()}
    assert ours == official_shapes()
    assert len(ours) == 558
    counts = {top: sum(name.startswith(f"{top}.") for name in ours) for top in ("Encoder_M", "Encoder_Q", "Decoder")}
    assert counts == {"Encoder_M": 262, "Encoder_Q": 260, "Decoder": 28}
    assert sum(name.endswith("num_batches_tracked") for name in ours) == 86


def test_parameter_counts_are_those_of_the_paper():
    def millions(module):
        return round(sum(p.numel() for p in module.parameters()) / 1e6, 2)

    network = STM()
    parts = (network.Encoder_M, network.Encoder_Q, network.KV_M_r4, network.KV_Q_r4, network.Decoder)
    assert [millions(part) for part in (network, *parts)] == [38.93, 8.55, 8.54, 5.9, 5.9, 10.03]


# read --------------------------------------------------------------------------------------------------------------


def slow_read(keys, values, query, scale, bias):
    """One query token and one memory token at a time: `[Ck, N]`, `[Cv, N]`, `[Ck, M]`, `[N]`."""
    result = torch.zeros(len(values), query.shape[1], dtype=torch.float64)
    for i in range(query.shape[1]):
        scores = [float((keys[:, j] * query[:, i]).sum() * scale + bias[j]) for j in range(keys.shape[1])]
        weights = [math.exp(score - max(scores)) for score in scores]
        for j, weight in enumerate(weights):
            result[:, i] += weight / sum(weights) * values[:, j]
    return result


@pytest.mark.parametrize(
    "key_rows, query_rows, bias_rows", [(2, 1, 0), (2, 2, 2), (1, 1, 0), (1, 1, 1), (1, 1, 2), (1, 2, 1)]
)
def test_read_is_the_softmax_over_all_memory_tokens(key_rows, query_rows, bias_rows):
    generator = torch.Generator().manual_seed(0)
    keys, values, query, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((key_rows, 4, 19), (2, 5, 19), (query_rows, 4, 7), (max(bias_rows, 1), 19))
    )
    read = attend(keys, values, query, 0.7, bias if bias_rows else None)
    for o in range(2):
        own = bias[o % bias_rows] if bias_rows else torch.zeros(19)
        expected = slow_read(keys[o % key_rows], values[o], query[o % query_rows], 0.7, own)
        torch.testing.assert_close(read[o], expected, rtol=0, atol=1e-12)


def test_read_in_chunks_equals_the_read_at_once_and_takes_a_slice_of_a_larger_bank():
    generator = torch.Generator().manual_seed(1)
    bank_keys, bank_values = torch.randn(3, 8, 900, generator=generator), torch.randn(3, 16, 900, generator=generator)
    keys, values, query = bank_keys[..., :700], bank_values[..., :700], torch.randn(1, 8, 600, generator=generator)
    at_once = values @ torch.softmax((keys.transpose(1, 2) @ query) * 0.3, 1)
    torch.testing.assert_close(attend(keys, values, query, 0.3), at_once, rtol=0, atol=1e-5)


def test_read_has_the_gradient_of_its_formula():
    generator = torch.Generator().manual_seed(2)
    keys, values, query, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, 5), (2, 4, 5), (1, 3, 6), (2, 5))
    )
    assert torch.autograd.gradcheck(lambda k, v, q, b: attend(k, v, q, 0.5, b), (keys, values, query, bias))


def test_read_of_16_bit_memory_keeps_similarities_wide():
    keys = torch.tensor([[[300.0, 301.0]]])  # in bfloat16 both are 300, and so would their products be
    values = torch.tensor([[[0.0, 1.0]]], dtype=torch.bfloat16)
    read = attend(keys, values, torch.ones(1, 1, 1), 1.0)
    assert read.dtype == torch.bfloat16
    assert abs(read.item() - 1 / (1 + math.exp(-1))) < 3e-3


# padding and aggregation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(480, 854), (16, 16), (17, 32), (31, 33), (1, 15), (240, 427)])
def test_padding_is_even_with_the_smaller_half_on_the_low_side(size):
    assert model.padding(*size) == padding(*size)
    images = torch.rand(2, 3, *size)
    padded = model.pad(images)
    assert padded.shape[-2] % 16 == padded.shape[-1] % 16 == 0
    assert torch.equal(padded, zero_pad(images, padding(*size)))
    assert torch.equal(model.crop(padded, *size), images)


@pytest.mark.parametrize("num_objects, num_channels", [(1, 2), (1, 11), (3, 4), (3, 11), (10, 11), (5, 20)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_aggregation_is_the_written_formula(num_objects, num_channels, dtype, tolerance):
    own = torch.rand(num_objects, 6, 7, dtype=torch.float64).to(dtype)
    own[0, 0], own[0, 1] = 0, 1
    logits = model.aggregate(own[None], num_channels)
    assert logits.dtype == dtype
    torch.testing.assert_close(logits[0], aggregate(list(own), num_channels), rtol=0, atol=tolerance)


def test_aggregation_of_one_object_sharpens_it():
    p = 0.8
    merged = model.aggregate(torch.full((1, 1, 1, 1), p, dtype=torch.float64)).softmax(1)[0, 1].item()
    assert abs(merged - p**2 / (p**2 + (1 - p) ** 2)) < 1e-12


def test_aggregation_of_certain_16_bit_probabilities_stays_finite():
    logits = model.aggregate(torch.tensor([0.0, 1.0], dtype=torch.bfloat16).view(1, 2, 1, 1), 11)
    assert logits.dtype == torch.float32 and logits.isfinite().all()
    assert abs(logits.max().item() - 15.942) < 1e-3 and abs(logits.min().item() + 16.118) < 1e-3


def test_too_few_channels_are_refused():
    with pytest.raises(ValueError, match=r"num_channels \(2\) must be > the number of objects \(2\)"):
        model.aggregate(torch.rand(1, 2, 3, 3), 2)


# memory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, num_objects, num_channels", [((32, 48), 1, 2), ((33, 49), 3, 11), ((31, 16), 2, 4), ((20, 37), 10, 11)]
)
def test_memory_is_that_of_the_literal_encoder(double, size, num_objects, num_channels):
    network, literal = double
    frames, _ = scene(1, *size, num_objects, num_channels, torch.float64)
    generator = torch.Generator().manual_seed(3)  # soft masks that overlap, and something in channels of no object
    masks = torch.rand(1, num_channels, *size, generator=generator, dtype=torch.float64)
    masks[:, 1] = 0  # an object that is not there
    keys, values = network.memorize(frames, masks, num_objects)
    expected = literal.memorize(frames, masks, num_objects)
    h, w = -(-size[0] // 16), -(-size[1] // 16)
    assert keys.shape == (num_objects, 128, h, w) and values.shape == (num_objects, 512, h, w)
    for ours, theirs in zip((keys, values), expected):
        torch.testing.assert_close(ours, theirs[0, 1 : num_objects + 1, :, 0], rtol=0, atol=1e-10)


def test_the_background_and_unused_channels_of_masks_change_nothing(single):
    frames, masks = scene(1, 32, 32, 2, 5)
    other = masks.clone()
    other[:, 0], other[:, 3:] = 0.3, 0.7
    for one, two in zip(single.memorize(frames, masks, 2), single.memorize(frames, other, 2)):
        assert torch.equal(one, two)


def test_objects_in_one_batch_give_what_they_give_one_by_one(double):
    network, _ = double
    frames, masks = scene(1, 32, 48, 3, 4, torch.float64)
    own, others = masks[0, 1:, None], torch.rand(3, 1, 32, 48, dtype=torch.float64)
    with torch.no_grad():
        together = network.encode_memory(frames.expand(3, -1, -1, -1), own, others, None)
        each = [network.encode_memory(frames, own[o, None], others[o, None], None) for o in range(3)]
        for at_once, parts in zip(together, zip(*each)):
            torch.testing.assert_close(at_once, torch.cat(parts), rtol=0, atol=1e-10)
        query = network.encode_query(frames)
        logits = network.decode(together[1], query)
        torch.testing.assert_close(
            logits, torch.cat([network.decode(value[None], query) for value in together[1]]), rtol=0, atol=1e-10
        )
        torch.testing.assert_close(
            network.decode(together[1], query.take(torch.zeros(3, dtype=torch.long))), logits, rtol=0, atol=1e-10
        )


@pytest.mark.parametrize("num_objects", [0, 4])
def test_a_wrong_number_of_objects_is_refused(single, num_objects):
    frames, masks = scene(1, 16, 16, 1, 4)
    with pytest.raises(ValueError, match=rf"num_objects \({num_objects}\) must be between 1 and 3"):
        single.memorize(frames, masks, num_objects)


# decoder and segment -----------------------------------------------------------------------------------------------


def test_decoder_with_shared_parts_is_the_literal_decoder(double):
    network, literal = double
    frames, _ = scene(1, 48, 32, 1, 2, torch.float64)
    read = torch.randn(2, 512, 3, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    with torch.no_grad():
        logits = network.decode(read, network.encode_query(frames))
    r4, r3, r2 = literal.encode_query(frames)
    value = literal.conv("KV_Q_r4.Value", r4)
    for o in range(2):
        expected = literal.decode(torch.cat([read[o : o + 1], value], 1), r3, r2)
        torch.testing.assert_close(logits[o : o + 1], expected, rtol=0, atol=1e-10)


def test_the_decoders_part_of_a_query_runs_once_and_only_when_asked_for(single):
    calls = []
    handle = single.Decoder.RF2.convFS.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        query = single.encode_query(torch.rand(1, 3, 32, 32))
        assert calls == []
        single.foreground(torch.randn(3, 512, 2, 2), query)
    handle.remove()
    assert calls == [1]


@pytest.mark.parametrize(
    "size, num_objects, num_channels, num_frames",
    [((32, 48), 1, 11, 1), ((33, 48), 2, 11, 3), ((32, 49), 4, 5, 2), ((31, 47), 10, 11, 1), ((17, 18), 3, 13, 2)],
)
def test_segment_is_the_literal_one(double, size, num_objects, num_channels, num_frames):
    network, literal = double
    frames, _ = scene(num_frames + 1, *size, num_objects, num_channels, torch.float64)
    masks = torch.rand(num_frames, num_channels, *size, dtype=torch.float64).softmax(1)
    ours = [network.memorize(frames[t : t + 1], masks[t : t + 1], num_objects) for t in range(num_frames)]
    theirs = [literal.memorize(frames[t : t + 1], masks[t : t + 1], num_objects) for t in range(num_frames)]
    logits = network.segment(frames[-1:], *(torch.stack(each, 2) for each in zip(*ours)), num_channels=num_channels)
    expected = literal.segment(frames[-1:], *(torch.cat(each, 3) for each in zip(*theirs)), num_objects)
    assert logits.shape == (1, num_channels, *size)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size, num_objects, num_channels", [((33, 49), 3, 11), ((48, 32), 1, 2)])
def test_a_clip_in_float64_has_the_same_probabilities_and_labels(double, size, num_objects, num_channels):
    frames, masks = scene(8, *size, num_objects, num_channels, torch.float64)
    ours = our_clip(double[0], frames, masks, num_objects)
    with torch.no_grad():
        expected = literal_clip(double[1], frames, masks, num_objects)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)
    assert torch.equal(ours.argmax(1), expected.argmax(1))
    assert (expected[1:].argmax(1) > 0).any()  # else it would say little


def test_a_clip_in_float32_has_the_same_labels(single):
    frames, masks = scene(8, 81, 113, 3, 11)
    ours = our_clip(single, frames, masks, 3)
    with torch.no_grad():
        expected = literal_clip(LiteralSTM(calm_weights()), frames, masks, 3)
    assert (ours.argmax(1) != expected.argmax(1)).double().mean() < 1e-3
    assert (ours - expected).abs().max() < 1e-2


# training ----------------------------------------------------------------------------------------------------------


def test_every_weight_gets_a_gradient_through_memory_and_shared_parts():
    network = STM().train()
    assert not any(m.training for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    frames, masks = scene(2, 32, 32, 1, 2)
    keys, values = network.encode_memory(frames[:1], masks[:, 1:], torch.zeros(1, 1, 32, 32), None)
    query = network.encode_query(frames[1:])
    network.decode(network.read(keys.flatten(2), values.flatten(2), query.key), query).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == ["Encoder_M.conv1_o.weight"]  # there is no other object here
