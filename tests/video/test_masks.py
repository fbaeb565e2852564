"""Masks from PNG files, and COCO's run-length code."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from vitascope.video.masks import decode_rle, encode_rle, read_mask
from vitascope.video.writer import voc_palette, write_mask_png

IDS = np.array([[0, 1, 2, 3], [200, 255, 7, 0], [1, 1, 254, 0]], np.uint8)


def png(width: int, height: int, depth: int, colours: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG file from its raw rows, each with its filter byte 0."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_palette_png_keeps_its_indices(tmp_path):
    write_mask_png(tmp_path / "a.png", IDS)
    mask = read_mask(tmp_path / "a.png")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, IDS)


def test_equal_colours_in_a_palette_stay_different_ids(tmp_path):
    image = Image.fromarray(IDS)
    image.putpalette(bytes(768))
    image.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), IDS)


def test_a_grey_png_gives_its_values(tmp_path):
    Image.fromarray(IDS).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), IDS)


def test_white_of_a_one_bit_png_is_object_1(tmp_path):
    Image.fromarray(IDS > 3).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), IDS > 3)


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("is_palette", [False, True])
def test_pixels_of_few_bits_give_the_values_that_are_stored(tmp_path, depth, is_palette):
    values = np.arange(16).reshape(2, 8) % 2**depth
    bits = (values[..., None] >> np.arange(depth)[::-1]) & 1
    rows = b"".join(b"\0" + np.packbits(row.ravel()).tobytes() for row in bits)
    colours = bytes(3 * 2**depth)
    palette = struct.pack(">I", len(colours)) + b"PLTE" + colours + struct.pack(">I", zlib.crc32(b"PLTE" + colours))
    (tmp_path / "a.png").write_bytes(png(8, 2, depth, 3 if is_palette else 0, rows, palette if is_palette else b""))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), values)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_images_of_colours_are_refused(tmp_path, mode):
    Image.fromarray(IDS).convert(mode).save(tmp_path / "a.png")
    with pytest.raises(
        ValueError, match=r"a\.png: the PNG is (RGBA?|grey with alpha), an image of colours, not of ids"
    ):
        read_mask(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_of_the_davis_palette_are_refused_too(tmp_path, mode):
    Image.fromarray(voc_palette()[IDS]).convert(mode).save(tmp_path / "a.png")
    with pytest.raises(
        ValueError, match=r"palette \(indexed\) or 8-bit grey.*even if its colours are those of a palette"
    ):
        read_mask(tmp_path / "a.png")


def test_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(IDS.astype(np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: the PNG has 16 bits a pixel; save it with 8 bits"):
        read_mask(tmp_path / "a.png")


def test_sixteen_bit_colours_are_refused_as_colours(tmp_path):
    (tmp_path / "a.png").write_bytes(png(1, 1, 16, 2, bytes(7)))
    with pytest.raises(ValueError, match="an image of colours"):
        read_mask(tmp_path / "a.png")


def test_a_jpeg_is_refused_because_it_breeds_ids(tmp_path):
    Image.fromarray(IDS).save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(ValueError, match=r"a\.png: this is a JPEG, not a PNG; JPEG is lossy and breeds ids"):
        read_mask(tmp_path / "a.png")


@pytest.mark.parametrize(
    "data, told",
    [
        (b"", "the file has 0 bytes"),
        (b"hello", "this is no image that can hold ids, not a PNG"),
        (b"GIF89a....", "this is a GIF, not a PNG"),
        (b"\x89PNG\r\n\x1a\n", "the PNG is cut off within its header"),
        (png(64, 64, 8, 0, bytes(range(65)) * 64)[:100], r"the PNG cannot be decoded \(.+\); write it again"),
        (png(4, 4, 8, 0, bytes(3)), r"the PNG cannot be decoded"),
        (png(60000, 60000, 8, 0, bytes(3)), r"the PNG cannot be decoded"),
    ],
)
def test_what_is_no_whole_png_is_told(tmp_path, data, told):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=rf"a\.png: {told}"):
        read_mask(tmp_path / "a.png")


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"b\.png: no such file; name the PNG image that holds the mask"):
        read_mask(tmp_path / "b.png")
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read_mask(tmp_path)


def test_any_damage_is_a_value_error_or_a_mask(tmp_path):
    write_mask_png(tmp_path / "a.png", np.kron(IDS, np.ones((5, 5), np.uint8)))
    data, rng = (tmp_path / "a.png").read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        broken = bytearray(data)
        for position in rng.integers(8, len(data), rng.integers(1, 4)):
            broken[position] = rng.integers(256)
        (tmp_path / "b.png").write_bytes(bytes(broken[: rng.integers(len(data) // 2, len(data) + 1)]))
        try:
            assert read_mask(tmp_path / "b.png").dtype == np.uint8
        except ValueError:
            refused += 1
    assert refused > 300


def slow_code(mask: np.ndarray) -> dict:
    """COCO's code from its public definition, pixel by pixel and letter by letter."""
    runs, value, length = [], False, 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    runs.append(length)
    text = ""
    for position, run in enumerate(runs):
        number, more = run - (runs[position - 2] if position > 2 else 0), True
        while more:
            group, number = number & 31, number >> 5
            more = number != -1 if group & 16 else number != 0
            text += chr(group + 32 * more + 48)
    return {"size": list(mask.shape), "counts": text}


shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)


@given(hnp.arrays(bool, shapes, elements=st.booleans(), fill=st.booleans()))
@settings(max_examples=300, deadline=None)
def test_rle_is_that_of_the_definition_and_comes_back(mask):
    code = encode_rle(mask)
    assert code == slow_code(mask)
    np.testing.assert_array_equal(decode_rle(code), mask)


@pytest.mark.parametrize("seed", range(20))
def test_rle_of_large_masks_comes_back(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 1200), rng.integers(1, 1200))) < rng.choice([0.0, 1e-5, 0.01, 0.9999, 1.0])
    mask[: len(mask) // 2] = False
    code = encode_rle(mask)
    assert code == slow_code(mask)
    np.testing.assert_array_equal(decode_rle(code), mask)


def test_uncompressed_runs_are_read():
    np.testing.assert_array_equal(decode_rle({"size": [2, 3], "counts": [1, 2, 3]}), [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(decode_rle({"size": [1, 2], "counts": b"02"}), [[1, 1]])


@pytest.mark.parametrize(
    "code, told",
    [
        ({"size": [2, 2], "counts": "23"}, r"runs add up to 5 pixels, but size \[2, 2\] has 4"),
        ({"size": [2, 2], "counts": [5, -1]}, "runs add up to 4 pixels"),
        ({"size": [2, 2], "counts": ""}, "must be letters from '0' to 'o'"),
        ({"size": [2, 2], "counts": "2R"}, "must be letters from '0' to 'o'"),
        ({"size": [2, 2], "counts": "2 "}, "must be letters from '0' to 'o'"),
        ({"size": [2, 2], "counts": "Ü"}, "must be letters|add up"),
        ({"size": [2, 2], "counts": "o" * 20 + "0"}, "a number of more than 60 bits"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, r"size \[1000000, 1000000\] must have sides of 1 to 16384"),
        ({"size": [2], "counts": "4"}, r"must be \{'size': \[H, W\]"),
        ({"counts": "4"}, r"must be \{'size': \[H, W\]"),
    ],
)
def test_a_wrong_code_is_told(code, told):
    with pytest.raises(ValueError, match=told):
        decode_rle(code)


def test_only_masks_of_one_object_are_encoded():
    with pytest.raises(ValueError, match=r"mask \(uint8 \[3, 4\]\) must be bool \[H, W\]"):
        encode_rle(IDS)


def test_reading_does_not_depend_on_the_name(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(IDS).save(buffer, format="PNG")
    (tmp_path / "mask").write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(read_mask(tmp_path / "mask"), IDS)
