"""Runs are listed with their true state, whatever became of their process."""

import os
import signal
import subprocess
import sys

import pytest

from vitascope.store.library import Library
from vitascope.store.schema import LibraryError


@pytest.fixture
def library(tmp_path):
    with Library(tmp_path / "library", create=True) as library:
        yield library


def test_a_run_has_a_row_and_a_folder(library):
    run = library.runs.new_run("videomae tiny!", "mme", {"width": 4}, command="train", data={"videos": 3})
    assert run.state == "running" and run.folder.is_dir() and run.folder.name == run.id
    assert "videomae-tiny" in run.id and run.config == {"width": 4} and run.data == {"videos": 3}
    done = library.runs.finish(run.id, metrics={"loss": 0.5})
    assert (done.state, done.metrics, done.command) == ("done", {"loss": 0.5}, "train")
    assert done.ended_at >= done.started_at


def test_the_newest_run_comes_first_and_may_be_asked_for(library):
    first, second = library.runs.new_run("a", "mme"), library.runs.new_run("b", "mme")
    library.runs.finish(first.id, "failed", detail="no video")
    assert [run.id for run in library.runs.list()] == [second.id, first.id]
    assert library.runs.latest().id == second.id
    assert library.runs.latest(recipe="a").detail == "no video"
    assert library.runs.latest(state="done") is None


def test_a_run_is_found_by_the_beginning_of_its_id(library):
    runs = [library.runs.new_run("a", "mme") for _ in range(2)]
    assert library.runs.find(runs[0].id[:-1] if runs[0].id[:-1] != runs[1].id[:-1] else runs[0].id).id == runs[0].id
    with pytest.raises(LibraryError, match="may be any of .*; give more of its id"):
        library.runs.find("2")
    with pytest.raises(LibraryError, match=f"no run whose id begins with .*; the nearest is {runs[0].id[:10]}"):
        library.runs.find("x" + runs[0].id)


def test_a_run_is_found_by_its_folder_and_one_of_another_library_is_told_how_it_comes_over(library, tmp_path):
    run = library.runs.new_run("a", "mme")
    assert library.runs.find(str(run.folder)) == library.runs.find(f"{run.folder}/") == run
    with pytest.raises(LibraryError, match=f"no run whose id begins with 'zz' in {library.path}; list them with"):
        library.runs.find("zz")
    told = f"is no run of {tmp_path}/other; .* name that with --library, or .*add_run"
    with Library(tmp_path / "other", create=True) as other, pytest.raises(LibraryError, match=told):
        other.runs.find(str(run.folder))


def test_a_run_tells_what_its_command_changed_and_what_goes_on_with_it(library):
    command = "vitascope train a --data '/my films' --set length=60 --set 'betas=[0.9,0.95]' --seed 3 --init /x/runs/b"
    run = library.runs.new_run("a", "mme", command=command, data={"num_videos": 3})
    assert run.changes == ("length=60", "betas=[0.9,0.95]", "seed=3", "init=b")
    assert run.go_on == f"{command} --library {library.path} --run {run.id}"
    given = library.runs.new_run("a", "mme", command="weights of it's.pth", data={"data": "it's.pth"})
    assert given.changes == () and given.go_on == ""


HOLDER = """
import sys, time
from vitascope.store.library import Library
library = Library(sys.argv[1])
run = library.runs.resume(sys.argv[2]) if len(sys.argv) > 2 else library.runs.new_run("a", "mme")
print(run.id, flush=True)
time.sleep(600)
"""


def holder(library, *args):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(library.path), *args], stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


def test_a_run_whose_process_was_killed_shows_as_interrupted_and_can_be_resumed(library):
    process, number = holder(library)
    assert library.runs.find(number).state == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert library.runs.find(number).state == "interrupted"
    assert library.runs.latest(state="interrupted").id == number
    assert library.runs.resume(number).state == "running"
    assert library.runs.finish(number).state == "done"


def test_a_run_of_another_process_cannot_be_taken_over(library, monkeypatch):
    monkeypatch.setattr("vitascope.store.runs.LOCK_SECONDS", 0.1)
    process, number = holder(library)
    with pytest.raises(LibraryError, match="is running in another process; wait for it, or stop it"):
        library.runs.resume(number)
    process.kill()
    process.wait()


def test_a_forked_child_does_not_keep_a_run_running(library):
    run = library.runs.new_run("a", "mme")
    reader, writer = os.pipe()
    began, begins = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.write(begins, b"1")
        os.read(reader, 1)
        os._exit(0)
    os.read(began, 1)  # the child lets go of the lock when it begins, which on a busy machine is later than the fork
    library.runs.finish(run.id, "interrupted")
    library._database.rows("UPDATE runs SET state='running'")
    assert library.runs.find(run.id).state == "interrupted"
    os.close(writer)
    os.waitpid(child, 0)
