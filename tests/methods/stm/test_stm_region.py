"""A part of a frame, decoded by itself, shows what the whole frame shows there; the session uses it where that is safe."""

import numpy as np
import pytest
import torch
from literal_stm import calm_weights, scene

from vitascope.methods.stm import load_official, look
from vitascope.methods.stm.light import LightSTM
from vitascope.methods.stm.memory import Tokens
from vitascope.methods.stm.model import pad
from vitascope.methods.stm.region import around, decode_region, reaches_edge
from vitascope.methods.stm.session import VideoObjectSession


@pytest.fixture(params=["resnet50", "small"])
def network(request):
    torch.manual_seed(0)
    return load_official(calm_weights()) if request.param == "resnet50" else LightSTM().eval()


def memory_of(network, dtype=torch.float32, tokens=50):
    width = network.encode_query(torch.rand(1, 3, 32, 32, dtype=dtype)).key.shape[1]
    keys, values = torch.randn(1, width, tokens, dtype=dtype), torch.randn(1, network.value_width, tokens, dtype=dtype)
    return Tokens(keys, values, None, torch.ones(1, 1, tokens))


@pytest.mark.parametrize("box", [(40, 35, 90, 60), (0, 0, 16, 16), (100, 0, 192, 80)])
@torch.no_grad()
def test_a_region_with_all_its_context_is_decoded_exactly(network, box):
    network.double()
    frames, _ = scene(1, 160, 192, 1, 2, torch.float64)
    memory, query = memory_of(network, torch.float64), network.encode_query(frames)
    whole = network.foreground(network.read(memory.keys, memory.values, query.key), network.encode_query(frames))
    region = decode_region(network, memory, query, box, context=7)
    rough = decode_region(network, memory, network.encode_query(frames), box, context=2)
    x0, y0, x1, y1 = box[0] // 16 * 16, box[1] // 16 * 16, -(-box[2] // 16) * 16, -(-box[3] // 16) * 16
    inside = torch.zeros(160, 192, dtype=torch.bool)
    inside[y0:y1, x0:x1] = True
    torch.testing.assert_close(region[:, inside], whole[:, inside], rtol=0, atol=1e-9)
    assert not region[:, ~inside].any() and not rough[:, ~inside].any()
    assert 0 < (rough - whole)[:, inside].abs().mean() < 0.05


@torch.no_grad()
def test_a_region_computes_skips_for_itself_alone_unless_they_are_there():
    network, sizes = load_official(calm_weights()), []
    network.Decoder.RF2.convFS.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-2:]))
    memory, frame = memory_of(network), torch.rand(1, 3, 160, 192)
    decode_region(network, memory, network.encode_query(frame), (80, 80, 96, 96), context=1)
    query = network.encode_query(frame)
    assert query.skips[1].shape[-2:] == (40, 48)
    decode_region(network, memory, query, (80, 80, 96, 96), context=1)
    assert sizes == [(12, 12), (40, 48)]


@pytest.mark.parametrize("box", [(0, 0, 0, 16), (-1, 0, 16, 16), (0, 0, 16, 49)])
@torch.no_grad()
def test_a_box_outside_the_frame_is_refused(box):
    network = LightSTM().eval()
    query = network.encode_query(pad(torch.rand(1, 3, 40, 60)))
    with pytest.raises(ValueError, match="must lie within the padded frame, 64 x 48 pixels"):
        decode_region(network, memory_of(network), query, box)


def test_the_box_has_room_on_every_side_and_counts_from_the_padded_corner():
    mask = torch.zeros(315, 470, dtype=torch.bool)  # padded by 2 pixels above and 5 at the left
    mask[100:110, 200:210] = True
    x0, y0, x1, y1 = around(mask)
    assert (x0, y0, x1, y1) == (160, 64, 256, 144)
    assert x0 <= 205 - 32 and y0 <= 102 - 32 and x1 >= 215 + 32 and y1 >= 112 + 32
    wider = around(mask, frames=2)
    assert wider[0] < x0 and wider[1] < y0 and wider[2] > x1 and wider[3] > y1


def test_there_is_no_box_of_nothing_and_none_of_most_of_the_frame():
    mask = torch.zeros(320, 480, dtype=torch.bool)
    assert around(mask) is None
    mask[60:260, 100:400] = True
    assert around(mask) is None


@pytest.mark.parametrize(
    ("row", "column", "expected"), [(32, 60, True), (50, 79, True), (50, 60, False), (0, 60, False)]
)
def test_what_reaches_an_inner_edge_is_known_to_go_on(row, column, expected):
    box = (48, 32 if row else 0, 80, 64)
    found = torch.zeros(1, 96, 128)
    found[0, row, column] = 0.9
    assert reaches_edge(found, box) is expected


class Leaky(LightSTM):
    """Finds the object wherever the frame is bright."""

    def foreground(self, read, query):
        self.sizes.append(tuple(query.key.shape[-2:]))
        bright = query.trunk[0].mean(1, keepdim=True)
        bright = torch.nn.functional.interpolate(bright, scale_factor=4)[:, 0].expand(len(read), -1, -1)
        return (100 * (bright - 0.5)).sigmoid()

    def encode_query(self, frames):
        query = super().encode_query(frames)
        quarter = torch.nn.functional.avg_pool2d(frames[:, :1], 4)
        query.trunk = (quarter.expand(-1, 24, -1, -1), *query.trunk[1:])
        return query


def run(squares, size=(256, 320)):
    torch.manual_seed(0)
    network = Leaky().eval()
    network.sizes = []
    session = VideoObjectSession(network)
    masks = []
    for number, (top, left, side) in enumerate(squares):
        mask = np.zeros(size, bool)
        mask[top : top + side, left : left + side] = True
        frame = torch.from_numpy(np.where(mask, np.uint8(150), np.uint8(105))).expand(3, -1, -1).contiguous()  # no cut
        if number == 0:
            session.add_object(frame, mask, 1)
        else:
            masks.append((session.step(frame).masks[0] == 1, mask))
    return network.sizes, masks


def test_a_session_decodes_a_small_object_that_it_just_saw_in_its_box():
    sizes, masks = run([(100, 120, 32), (104, 124, 32), (108, 128, 32)])
    assert len(sizes) == 2 and all(h < 16 and w < 20 for h, w in sizes)
    for found, true in masks:
        assert (found == true).mean() > 0.99


def test_a_session_decodes_the_whole_frame_when_an_object_outgrows_its_box():
    sizes, masks = run([(100, 120, 32), (96, 116, 100)])
    assert len(sizes) == 2 and sizes[-1] == (16, 20)  # in its box first, which it reaches beyond
    assert (masks[0][0] == masks[0][1]).mean() > 0.98


def test_an_unwatched_policy_decodes_whole_frames(monkeypatch):
    monkeypatch.setattr(look, "decode_region", None)
    torch.manual_seed(0)
    session = VideoObjectSession(LightSTM().eval(), "paper")
    frame, mask = torch.randint(0, 255, (3, 256, 320), dtype=torch.uint8), np.zeros((256, 320), bool)
    mask[100:120, 100:120] = True
    session.add_object(frame, mask, 1)
    assert session.step(frame).masks.shape == (1, 256, 320)
