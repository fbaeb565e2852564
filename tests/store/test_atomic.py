"""Files are there whole or not at all, and what killed processes leave is cleared."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from vitascope.store import atomic
from vitascope.store.atomic import WriteError, remove_stray, replace_dir, temp_name, write_bytes, write_json, writing


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def of_process(path, pid: int):
    """The temporary name as the process `pid` would have made it."""
    return path.with_name(path.name.replace(f"-{os.getpid()}-", f"-{pid}-"))


def test_a_failed_write_keeps_the_old_file_and_leaves_no_temp(tmp_path):
    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(RuntimeError), writing(tmp_path / "a") as temp:
        temp.write_bytes(b"half")
        raise RuntimeError
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_full_disk_is_named_and_leaves_no_temp(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "sync", full)
    with pytest.raises(WriteError, match="cannot write .*a.json: the disk is full; free some space") as caught:
        write_json(tmp_path / "a.json", {"x": 1})
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(WriteError, match="the folder does not exist"):
        write_bytes(tmp_path / "no" / "a", b"")


def test_the_longest_name_is_written_and_its_stray_name_goes(tmp_path):
    path = tmp_path / ("ü" * 125 + ".json")  # 255 bytes
    write_bytes(path, b"whole")
    assert path.read_bytes() == b"whole" and os.listdir(tmp_path) == [path.name]
    stray = of_process(temp_name(path), dead_pid())
    stray.write_bytes(b"half")
    assert remove_stray(tmp_path) == [stray] and os.listdir(tmp_path) == [path.name]


def test_too_long_a_name_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(WriteError, match="the name is too long; choose a shorter one"):
        write_bytes(tmp_path / ("a" * 256), b"")
    assert os.listdir(tmp_path) == []
    final = tmp_path / ("a" * 222)  # what is set aside keeps its name
    final.mkdir()
    temp = temp_name(final)
    temp.mkdir()
    with pytest.raises(WriteError, match="the name is too long; choose a shorter one"):
        replace_dir(temp, final)
    assert os.listdir(tmp_path) == [final.name]


def test_replace_dir_replaces_and_leaves_nothing_else(tmp_path):
    for content in ("one", "two"):
        temp = temp_name(tmp_path / "final")
        temp.mkdir()
        (temp / content).write_text(content)
        replace_dir(temp, tmp_path / "final")
    assert os.listdir(tmp_path) == ["final"]
    assert os.listdir(tmp_path / "final") == ["two"]


def test_replace_dir_that_fails_keeps_the_old_folder(tmp_path):
    final = tmp_path / "final"
    final.mkdir()
    with pytest.raises(WriteError):
        replace_dir(tmp_path / "absent", final)
    assert os.listdir(tmp_path) == ["final"]


def test_stray_names_of_dead_processes_go_and_of_living_ones_stay(tmp_path):
    mine, living = temp_name(tmp_path / "a"), of_process(temp_name(tmp_path / "a"), os.getppid())
    dead = of_process(temp_name(tmp_path / "a"), dead_pid())
    earlier = mine.with_name(mine.name.replace(atomic._LAUNCH, "0" * 8))  # a dead process that had our id
    for path in (mine, living, dead, earlier, tmp_path / ".hidden"):
        path.write_bytes(b"")
    assert set(remove_stray(tmp_path)) == {dead, earlier}
    assert set(tmp_path.iterdir()) == {mine, living, tmp_path / ".hidden"}


def test_a_folder_set_aside_by_a_killed_process_comes_back(tmp_path):
    aside = of_process(temp_name(tmp_path / "final", "old"), dead_pid())
    aside.mkdir()
    (aside / "a").write_text("old")
    remove_stray(tmp_path)
    assert (tmp_path / "final" / "a").read_text() == "old"


WRITER = """
import sys, itertools
from vitascope.store.atomic import write_bytes
for i in itertools.count():
    write_bytes(sys.argv[1], bytes([i % 256]) * 300_000)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a"
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        while not path.exists():
            time.sleep(0.005)
        time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        data = path.read_bytes()
        assert len(data) == 300_000 and len(set(data)) == 1
        path.unlink()
    remove_stray(tmp_path)
    assert os.listdir(tmp_path) == []
