"""Videos of a data set: kept in memory or read anew, their frames are the same."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from video_cases import number_in, write, x264

import vitascope.video.footage as footage_module
from vitascope.structures import Record, VideoError
from vitascope.video.container import OpenVideo
from vitascope.video.footage import MAX_INDICES, Film, Footage

NUM_FRAMES, HEIGHT, WIDTH = 50, 96, 160
VIDEO_BYTES = NUM_FRAMES * 3 * HEIGHT * WIDTH


@pytest.fixture(scope="module")
def counting(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("video") / "counting.mp4"
    write(path, NUM_FRAMES, WIDTH, HEIGHT, options=x264(keyint=10, min_keyint=10, bframes=0, scenecut=0))
    return str(path)


@pytest.fixture(scope="module")
def damaged(counting) -> str:
    """The same with frames 40 to 49 overwritten."""
    path = Path(counting).with_name("damaged.mp4")
    opened = OpenVideo(counting)
    places = [(packet.pos, packet.size) for packet in opened.packets()]
    opened.close()
    data = bytearray(Path(counting).read_bytes())
    first, last = places[40][0], sum(places[-1])
    data[first:last] = np.random.default_rng(0).bytes(last - first)
    path.write_bytes(data)
    return str(path)


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The videos that are opened while a test runs."""
    paths, reader = [], footage_module.VideoReader
    monkeypatch.setattr(footage_module, "VideoReader", lambda path, **how: paths.append(path) or reader(path, **how))
    return paths


def frames(footage: Footage, path: str, *numbers: int) -> torch.Tensor:
    with footage.opened(Record(path)) as film:
        return film.frames(np.array(numbers))


def shown(footage: Footage, path: str, *numbers: int) -> list[int]:
    return [number_in(frame.numpy()) for frame in frames(footage, path, *numbers)]


@pytest.mark.parametrize("memory_mb", [0, 100])
def test_frames_come_in_the_order_and_the_shape_that_is_asked(counting, memory_mb):
    numbers = np.array([[7, 3, 3], [0, 49, 20]])
    with Footage(HEIGHT, memory_mb).opened(Record(counting)) as film:
        assert film.times_seconds[30] == pytest.approx(1.0) and film.size == (HEIGHT, WIDTH)
        given = film.frames(numbers)
    assert given.dtype == torch.uint8 and given.shape == (2, 3, 3, HEIGHT, WIDTH)
    assert [[number_in(frame.numpy()) for frame in row] for row in given] == numbers.tolist()


def test_what_memory_gives_is_what_a_reader_gives(counting):
    kept = Footage(64, 100)
    for _ in range(2):
        assert torch.equal(frames(kept, counting, 5, 41), frames(Footage(64), counting, 5, 41))
    with kept.opened(Record(counting)) as film:
        assert film.size == tuple(film.frames(np.arange(1)).shape[-2:]) == (64, 107)


def test_a_video_in_memory_is_opened_once_and_another_at_every_draw(counting, opened):
    kept, not_kept = Footage(HEIGHT, 100), Footage(HEIGHT)
    for _ in range(3):
        shown(kept, counting, 1)
    assert opened == [counting]
    for _ in range(3):
        shown(not_kept, counting, 1)
    assert opened == [counting] * 4


def test_a_video_of_more_than_a_quarter_of_the_memory_is_not_kept(counting, opened):
    just, too_little = (int(np.ceil(4 * VIDEO_BYTES / 2**20)) + more for more in (0, -1))
    for memory_mb, times in ((just, 1), (too_little, 4)):  # looked at once, and read three times
        opened.clear()
        footage = Footage(HEIGHT, memory_mb)
        assert [shown(footage, counting, 9) for _ in range(3)] == [[9]] * 3
        assert len(opened) == times


def test_what_is_kept_stays_and_what_comes_when_memory_is_full_is_read_at_every_draw(counting, opened):
    paths = [counting]
    for name in "abcd":
        paths.append(str(Path(counting).with_name(f"{name}.mp4")))
        Path(paths[-1]).write_bytes(Path(counting).read_bytes())
    footage = Footage(HEIGHT, int(np.ceil(4 * VIDEO_BYTES / 2**20)))  # room for four of them
    for path in paths:
        shown(footage, path, 0)
    opened.clear()
    for path in (*paths, *paths):
        shown(footage, path, 0)
    assert opened == [paths[-1]] * 2


def test_what_is_kept_beside_a_video_is_made_once_and_counts(counting):
    made = []

    @dataclass
    class Beside:
        path: str
        nbytes: int = VIDEO_BYTES

    def beside(record: Record, whole: torch.Tensor) -> Beside:
        assert whole.shape == (NUM_FRAMES, 3, HEIGHT, WIDTH)
        made.append(record.path)
        return Beside(record.path)

    memory_mb = int(np.ceil(4 * VIDEO_BYTES / 2**20))
    footage = Footage(HEIGHT, 2 * memory_mb, beside, beside_bytes=3)
    for _ in range(2):
        with footage.opened(Record(counting)) as film:
            assert film.beside == Beside(counting)
    assert made == [counting]
    with Footage(HEIGHT, memory_mb, beside, beside_bytes=3).opened(Record(counting)) as film:
        assert film.beside is None  # with it, the video takes half of the memory
    copies = [str(Path(counting).with_name(f"{name}.mp4")) for name in "vwxyz"]
    for path in copies:
        Path(path).write_bytes(Path(counting).read_bytes())
        shown(footage, path, 0)
    assert made == [counting, *copies[:3]]  # there is room for four


def test_a_damaged_video_gives_what_is_whole_of_it_with_memory_too(damaged, opened):
    footage, plain = Footage(HEIGHT, 100), Footage(HEIGHT)
    numbers = (0, 13, 39, 5)
    for _ in range(3):
        assert torch.equal(frames(footage, damaged, *numbers), frames(plain, damaged, *numbers))
    assert shown(plain, damaged, *numbers) == list(numbers)
    with pytest.raises(VideoError, match="cannot be decoded") as error:
        frames(footage, damaged, 39, 49)
    assert error.value.reason == "damaged"


def test_a_damaged_video_is_decoded_as_a_whole_only_once(damaged, monkeypatch):
    reader, asked = footage_module.VideoReader, []

    class Counting(reader):
        def frames_at(self, indices, *how):
            asked.append(len(indices))
            return super().frames_at(indices, *how)

    monkeypatch.setattr(footage_module, "VideoReader", Counting)
    footage = Footage(HEIGHT, 100)
    for _ in range(3):
        shown(footage, damaged, 2, 3)
    assert asked == [NUM_FRAMES, 2, 2, 2]


def test_an_unreadable_video_is_an_error_at_every_draw_until_it_can_be_read(counting, tmp_path):
    footage, path = Footage(HEIGHT, 100), tmp_path / "late.mp4"
    for _ in range(2):
        with pytest.raises(VideoError, match="missing"):
            shown(footage, str(path), 0)
    path.write_bytes(Path(counting).read_bytes())
    assert shown(footage, str(path), 4) == [4]


def test_a_frame_index_is_made_once_a_video_and_their_number_is_bounded(counting, monkeypatch):
    import vitascope.video.reader as reader

    built, build = [], reader.build
    monkeypatch.setattr(reader, "build", lambda path: built.append(path) or build(path))
    footage = Footage(HEIGHT)
    for _ in range(3):
        shown(footage, counting, 1)
    assert built == [counting]
    footage._indices = {str(number): None for number in range(MAX_INDICES)}
    shown(footage, counting, 1)
    shown(footage, counting, 1)
    assert len(footage._indices) == MAX_INDICES and "0" not in footage._indices and "1" in footage._indices
    assert built == [counting] * 2


def test_a_film_in_memory_gives_copies():
    whole = torch.arange(3, dtype=torch.uint8)[:, None, None, None]
    film = Film(np.arange(3) / 25, (1, 1), whole)
    film.frames(np.array([0, 1]))[:] = 9
    assert whole.flatten().tolist() == [0, 1, 2]
