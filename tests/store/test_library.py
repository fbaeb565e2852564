"""The library opens after any crash, for several processes, and says clearly when it cannot."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from vitascope.store.catalogue import Scanned
from vitascope.store.library import Library, run_folder
from vitascope.store.schema import SCHEMA_VERSION, LibraryError


def test_there_is_no_library_until_it_is_made(tmp_path):
    with pytest.raises(LibraryError, match="no library at .*; make one with `vitascope scan DIR --library"):
        Library(tmp_path / "library")
    assert os.listdir(tmp_path) == []
    Library(tmp_path / "library", create=True).close()
    with Library(tmp_path / "library") as library:
        assert library.data_root == tmp_path


def test_a_run_is_looked_for_in_the_only_library_here_and_of_several_one_must_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LibraryError, match="no library found here; .*, or make one with `vitascope scan DIR`"):
        run_folder("2026")
    with Library("films.vitascope", create=True) as library:
        run = library.runs.new_run("toy", "toy")
        library.runs.finish(run.id)
    assert run_folder(run.id[:-1]) == run.folder
    Library("more.vitascope", create=True).close()
    told = r"2 libraries \(films.vitascope, more.vitascope\) found here; name the one that is meant with --library$"
    with pytest.raises(LibraryError, match=told):
        run_folder(run.id)
    assert run_folder(run.id, "films.vitascope") == run_folder(run.folder) == run.folder


def test_a_newer_schema_is_refused(tmp_path):
    Library(tmp_path / "library", create=True).close()
    connection = sqlite3.connect(tmp_path / "library" / "library.sqlite")
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(
        LibraryError, match=f"schema version {SCHEMA_VERSION + 1} is newer than {SCHEMA_VERSION}.*update"
    ):
        Library(tmp_path / "library")


def test_a_damaged_catalogue_is_named(tmp_path):
    Library(tmp_path / "library", create=True).close()
    (tmp_path / "library" / "library.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(LibraryError, match="library.sqlite: the catalogue is damaged .*scan again"):
        Library(tmp_path / "library")


def test_damage_in_the_middle_of_the_catalogue_is_named(tmp_path):
    path = tmp_path / "library" / "library.sqlite"
    with Library(tmp_path / "library", create=True) as library:
        library.catalogue.add(Scanned(f"/v/{i}", 1, 1, "0" * 32, "done", metadata={"x": "y" * 500}) for i in range(500))
    data = bytearray(path.read_bytes())
    data[8192:-4096] = os.urandom(len(data) - 12288)
    path.write_bytes(data)
    with pytest.raises(LibraryError, match="the catalogue is damaged"), Library(tmp_path / "library") as library:
        library.catalogue.entries()


def test_a_library_in_a_file_is_refused(tmp_path):
    (tmp_path / "library").write_text("")
    with pytest.raises(OSError, match="cannot make the library's folder"):
        Library(tmp_path / "library", create=True)


def test_a_closed_library_says_so(tmp_path):
    library = Library(tmp_path / "library", create=True)
    library.close()
    library.close()
    with pytest.raises(LibraryError, match="is closed; open it again"):
        library.catalogue.counts()


def test_importing_the_store_brings_nothing_heavy():
    code = (
        "import sys, vitascope.store.library, vitascope.store.reports\n"
        "assert not {'torch', 'faiss', 'transformers', 'av', 'PIL'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def add_rows(path: str, first: int) -> None:
    with Library(path, create=True) as library:
        for i in range(first, first + 40):
            library.catalogue.add([Scanned(f"/v/{i}", 1, 1, "", "done")])


def test_processes_may_make_and_write_a_library_together(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_rows, args=(str(tmp_path / "library"), 100 * i)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with Library(tmp_path / "library") as library:
        assert library.catalogue.counts()["done"] == 120


def test_a_forked_child_has_a_connection_of_its_own(tmp_path):
    with Library(tmp_path / "library", create=True) as library:
        library.catalogue.add([Scanned("/v/1", 1, 1, "", "done")])

        def child():
            library.catalogue.add([Scanned("/v/2", 1, 1, "", "done")])
            library.close()

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        assert process.exitcode == 0
        assert library.catalogue.counts()["done"] == 2


WRITER = """
import sys
import numpy as np
from vitascope.store.catalogue import Scanned
from vitascope.store.library import Library
from vitascope.structures import Features

first = int(sys.argv[2])
with Library(sys.argv[1], create=True) as library:
    for i in range(first, first + 1_000_000):
        path = f"/v/{i}.mp4"
        library.catalogue.add([Scanned(path, 1, 1, str(i), "done")])
        print("row", i, flush=True)
        values = np.full((4000, 32), i % 1000, np.float16)
        times = np.stack([np.arange(4000.0), np.arange(4000.0) + 1], 1)
        library.features.put(library.catalogue.entry(path), "m", Features(values, times))
        print("features", i, flush=True)
"""


def killed_writer(path, first: int, seconds: float) -> list[list[str]]:
    """Run the writer, kill it some time after its first line, and return what it had said was committed."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(first)], stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline()]
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.wait()
    return [line.split() for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("num_kills", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_a_kill_at_any_time_loses_nothing_that_was_committed(tmp_path, num_kills):
    rows, features = set(), set()
    for kill in range(num_kills):
        for kind, number in killed_writer(tmp_path / "library", kill * 1_000_000, 0.02 + 0.013 * (kill % 7)):
            (rows if kind == "row" else features).add(f"/v/{number}.mp4")
    with Library(tmp_path / "library") as library:
        library.clean()
        there = {entry.path: entry for entry in library.catalogue.entries()}
        assert rows <= set(there) and len(there) <= len(rows) + num_kills
        for path, entry in there.items():
            if path in features:
                assert library.features.status(entry, "m") == "current"
            if library.features.status(entry, "m") == "current":
                values = library.features.get(path, "m").values
                assert values.shape == (4000, 32) and (values == int(entry.content_hash) % 1000).all()
        assert not [name for name in os.listdir(tmp_path / "library" / "features" / "m") if name.startswith(".")]
        assert np.prod(len(features)) > num_kills  # the kills did not all come before the first write
