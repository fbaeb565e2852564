import numpy as np
import pytest
import torch
from torch import nn

from vitascope import api
from vitascope.engine.extract import ExtractSettings, extract
from vitascope.methods.cbp_vlp.encoders import ClipEncoder, I3DEncoder, Lite0Encoder, make_encoder
from vitascope.nn.i3d import I3D
from vitascope.nn.lite0 import WholeLite0
from vitascope.store.library import Library
from vitascope.structures import Record
from vitascope.video.snippets import Snippets
from vitascope.video.writer import VideoWriter


class FakeI3D(nn.Module):
    """Stands for a network of 12 million weights: the mean and the spread of what it is shown."""

    def __init__(self, in_channels):
        super().__init__()
        self.in_channels, self.seen = in_channels, None

    def forward(self, clips):
        self.seen = clips
        return torch.stack([clips.mean((1, 2, 3, 4)), clips.std((1, 2, 3, 4))], 1)


class FakeClip(nn.Module):
    dim, token_width, max_tokens, image_size = 3, 4, 8, 20

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, dtype=torch.float16))

    def encode_image(self, frames):
        assert frames.dtype == torch.uint8 and frames.ndim == 4
        return (frames.float().mean((2, 3)) * self.scale).half()


def texture(height, width):
    noise = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0))
    return (nn.functional.interpolate(noise, (height, width), mode="bicubic") * 255).clamp(0, 255).to(torch.uint8)[0]


def test_rgb_is_scaled_cropped_in_the_middle_and_from_minus_one_to_one():
    network = FakeI3D(3)
    clips = torch.full((1, 16, 3, 256, 340), 255, dtype=torch.uint8)
    clips[..., 58:282] = 0  # the middle 224 columns
    I3DEncoder(rgb=network).features(clips)
    assert network.seen.shape == (1, 16, 3, 224, 224)
    assert network.seen.min() == network.seen.max() == -1
    I3DEncoder(rgb=network).features(torch.full((2, 16, 3, 120, 90), 255, dtype=torch.uint8))
    assert network.seen.shape == (2, 16, 3, 224, 224)
    torch.testing.assert_close(network.seen, torch.ones_like(network.seen))


@pytest.mark.parametrize("height, factor", [(256, 1.0), (128, 2.0)])
def test_flow_is_in_pixels_of_the_scaled_frame_cut_at_twenty(height, factor):
    picture, network = texture(height, height + 64), FakeI3D(2)
    clips = torch.stack([torch.roll(picture, 3 * i, dims=-1) for i in range(16)])[None]
    clips[0, 9:] = torch.roll(clips[0, 9:], -24, dims=-2)  # too far a jump to be more than cut off
    I3DEncoder(flow=network).features(clips)
    seen = network.seen
    assert seen.shape == (1, 16, 2, 224, 224) and seen.abs().max() <= 1
    x, y = seen[0, :8, 0].median(), seen[0, :8, 1].median()
    assert x * 20 == pytest.approx(3 * factor, abs=0.3) and y * 20 == pytest.approx(0, abs=0.3)
    assert torch.equal(seen[0, 15], seen[0, 14]) and not torch.equal(seen[0, 14], seen[0, 13])


def test_both_streams_are_side_by_side_rgb_first():
    clips = torch.randint(0, 256, (2, 16, 3, 256, 256), dtype=torch.uint8)
    rgb, flow = FakeI3D(3), FakeI3D(2)
    both = I3DEncoder(rgb, flow)
    torch.testing.assert_close(
        both.features(clips), torch.cat([I3DEncoder(rgb).features(clips), I3DEncoder(flow=flow).features(clips)], 1)
    )
    assert (
        both.dim == 2048
        and both.name == "i3d-dis-medium"
        and I3DEncoder(flow=flow, flow_method="tvl1").name == "i3d-flow-tvl1"
    )


def test_a_network_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="rgb takes 2 channels, must take 3"):
        I3DEncoder(rgb=FakeI3D(2))
    with pytest.raises(ValueError, match="both None"):
        I3DEncoder()
    with pytest.raises(ValueError, match="clips of 1 frame have no flow"):
        I3DEncoder(flow=FakeI3D(2)).features(torch.zeros(1, 1, 3, 256, 256, dtype=torch.uint8))


@torch.no_grad()
def test_lite0_is_the_mean_over_frames():
    encoder = Lite0Encoder(WholeLite0()).eval()
    clips = torch.randint(0, 256, (1, 4, 3, 96, 128), dtype=torch.uint8)
    each = torch.stack([encoder.features(clips[:, i : i + 1]) for i in range(4)])
    torch.testing.assert_close(encoder.features(clips), each.mean(0), rtol=1e-4, atol=1e-5)
    assert each.std(0).mean() > 0 and encoder.features(clips).shape == (1, encoder.dim)


def test_clip_sees_the_frame_in_the_middle():
    encoder = ClipEncoder(FakeClip())
    clips = torch.arange(6, dtype=torch.uint8).reshape(2, 3, 1, 1, 1).expand(2, 3, 3, 24, 30)
    found = encoder.features(clips)
    assert found.dtype == torch.float32 and found.tolist() == [[1.0] * 3, [4.0] * 3]
    assert not any(p.requires_grad for p in encoder.parameters())


@pytest.fixture
def video(tmp_path):
    """64 frames at 25 frames a second; the level of each is three times its number."""
    path = tmp_path / "a.mp4"
    with VideoWriter(path, fps=25) as writer:
        for i in range(64):
            writer.write(np.full((3, 32, 48), 3 * i, np.uint8))
    return path


@pytest.mark.parametrize(
    "encoder", [I3DEncoder(rgb=FakeI3D(3)), Lite0Encoder(WholeLite0()), ClipEncoder(FakeClip())], ids=lambda e: e.name
)
def test_snippets_of_all_kinds_are_sixteen_frames_end_to_end(video, encoder):
    snippets = Snippets(Record(str(video)), **encoder.snippet.model_dump())
    found = [times for times, _ in snippets]
    np.testing.assert_allclose(found, [[0, 0.64], [0.64, 1.28], [1.28, 1.92], [1.92, 2.56]], atol=1e-6)


def test_extraction_takes_an_encoder_as_it_takes_a_method(video, tmp_path):
    api.scan(video.parent, tmp_path / "library", num_workers=1)
    encoder = ClipEncoder(FakeClip())
    with Library(tmp_path / "library") as library:
        how = encoder.snippet.model_dump()
        settings = ExtractSettings(device="cpu", dtype="float32")
        result = extract(
            encoder, encoder.name, [Record(str(video))], lambda record: Snippets(record, **how), library, settings
        )
        assert result.problems == () and result.width == 3
        features = library.features.get(str(video), "clip")
    assert features.values[:, 0] == pytest.approx([3 * (16 * t + 8) for t in range(4)], abs=3)  # its middle frame


def test_weights_of_files_are_loaded(tmp_path):
    torch.save(I3D(3, 5).state_dict(), tmp_path / "rgb_imagenet.pt")
    torch.save(I3D(2, 5).state_dict(), tmp_path / "flow_imagenet.pt")
    both = make_encoder("i3d", tmp_path)
    assert both.dim == 2048 and not both.training and both.rgb.in_channels == 3 and both.flow.in_channels == 2
    assert make_encoder("i3d-flow", tmp_path / "flow_imagenet.pt", flow_method="dis-fast").name == "i3d-flow-dis-fast"
    with pytest.raises(ValueError, match="rgb takes 2 channels, must take 3"):
        make_encoder("i3d-rgb", tmp_path / "flow_imagenet.pt")
    (tmp_path / "flow_imagenet.pt").unlink()
    with pytest.raises(ValueError, match="it has 1 files rgb.* and 0 files flow"):
        make_encoder("i3d", tmp_path)


def test_kinds_and_weights_that_are_not_there_are_told():
    with pytest.raises(ValueError, match="kind .'r3d'. must be one of i3d-rgb, i3d-flow, i3d, lite0, clip"):
        make_encoder("r3d")
    for kind in ("i3d", "i3d-rgb", "lite0"):
        with pytest.raises(ValueError, match=f"weights .None. of {kind} do not come with this package"):
            make_encoder(kind)
