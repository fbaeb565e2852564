import json
import os
from pathlib import Path

import pytest

from vitascope.datasets.folder import find_videos, folder_of_classes
from vitascope.datasets.hmdb51 import read_hmdb51
from vitascope.datasets.kinetics import read_kinetics, read_path_list
from vitascope.datasets.load import load_data, load_labelled, load_records
from vitascope.datasets.manifest import read_manifest
from vitascope.datasets.ucf101 import read_ucf101
from vitascope.structures import Record


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# Folders


def test_videos_are_found_at_any_depth_whatever_their_names(tmp_path):
    odd = ["a b/c d.mp4", "new\nline.mkv", "film 🎬.WEBM", "-rf.mp4", "x/y/z/deep.Mov", "été.avi", "two..dots.mp4"]
    touch(tmp_path, *odd, "notes.txt", "no_extension", "x/mp4")
    assert {record.id for record in find_videos(tmp_path)} == set(odd)
    assert all(os.path.exists(record.path) and record.labels == () for record in find_videos(tmp_path))


def test_the_order_is_that_of_the_bytes_whatever_the_order_on_disk(tmp_path):
    names = ["b.mp4", "B.mp4", "a/z.mp4", "a.mp4", "ä.mp4"]
    touch(tmp_path, *names)
    assert [record.id for record in find_videos(tmp_path)] == sorted(names, key=os.fsencode)


def test_a_name_that_is_not_utf8_is_found_and_opens(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    os.close(os.open(raw, os.O_CREAT))
    (record,) = find_videos(tmp_path)
    assert os.fsencode(record.path) == raw
    assert os.path.getsize(record.path) == 0


def test_hidden_files_folders_and_the_library_are_left_out(tmp_path):
    touch(tmp_path, ".vitascope/a.mp4", "sub/.git/b.mp4", "._c.mp4", "sub/d.mp4")
    assert [record.id for record in find_videos(tmp_path)] == ["sub/d.mp4"]


def test_a_link_that_leaves_the_root_is_refused_with_a_warning(tmp_path):
    root = tmp_path / "root"
    touch(tmp_path, "outside/secret.mp4", "root/in.mp4")
    (root / "file.mp4").symlink_to(tmp_path / "outside/secret.mp4")
    (root / "folder").symlink_to(tmp_path / "outside")
    with pytest.warns(UserWarning, match="leaves") as caught:
        assert [record.id for record in find_videos(root)] == ["in.mp4"]
    assert len(caught) == 2


def test_links_inside_the_root_neither_loop_nor_count_twice(tmp_path):
    touch(tmp_path, "sub/a.mp4", "blobs/0123")
    (tmp_path / "sub/loop").symlink_to(tmp_path)
    (tmp_path / "sub/b.mp4").symlink_to(tmp_path / "blobs/0123")
    assert [record.id for record in find_videos(tmp_path)] == ["sub/a.mp4", "sub/b.mp4"]


def test_a_very_deep_nesting_is_walked(tmp_path):
    deep = tmp_path.joinpath(*["d"] * 400)
    touch(deep, "a.mp4")
    assert len(find_videos(tmp_path)) == 1


def test_a_folder_that_is_none_is_an_error(tmp_path):
    touch(tmp_path, "a.mp4")
    for name, told in (("a.mp4", "must be a folder"), ("absent", "does not exist; give the folder")):
        with pytest.raises(ValueError, match=rf"{name} {told}"):
            find_videos(tmp_path / name)


def test_the_class_is_the_first_folder(tmp_path):
    touch(tmp_path, "jump/a.mp4", "high jump/more/b.mp4")
    found = {record.id: record.labels for record in folder_of_classes(tmp_path)}
    assert found == {"jump/a.mp4": ("jump",), "high jump/more/b.mp4": ("high jump",)}
    touch(tmp_path, "stray.mp4")
    with pytest.raises(ValueError, match=r"stray\.mp4 lies in no class folder"):
        folder_of_classes(tmp_path)


# Manifests


def test_csv_and_jsonl_manifests_give_the_same_records(tmp_path):
    text = 'video,labels,start,end,split\n"a, b.mp4",jump|high jump,1.5,4,train\nsub/c.mp4,run;walk,,,\n'
    rows = [
        {"video": "a, b.mp4", "labels": ["jump", "high jump"], "start": 1.5, "end": 4, "split": "train"},
        {"video": "sub/c.mp4", "labels": ["run", "walk"]},
    ]
    from_csv = read_manifest(written(tmp_path, "m.csv", "\ufeff" + text.replace("\n", "\r\n")))
    from_json = read_manifest(written(tmp_path, "m.jsonl", "\n".join(map(json.dumps, rows))))
    path = str(tmp_path / "a, b.mp4")
    assert from_csv[0] == Record(path, "a, b.mp4@1.5-4", ("jump", "high jump"), 1.5, 4.0, "train")
    assert from_csv[1] == Record(str(tmp_path / "sub/c.mp4"), "sub/c.mp4", ("run", "walk"))
    assert from_csv == from_json


def test_a_manifest_lists_any_file_name(tmp_path):
    names = ["new\nline.mp4", 'quo"te.mp4', "emoji 🎬.mp4", "sep\u2028arator.mp4", "form\x0cfeed.mp4"]
    quoted = "".join('"' + name.replace('"', '""') + '",\n' for name in names)
    assert [r.id for r in read_manifest(written(tmp_path, "m.csv", "video,labels\n" + quoted))] == names
    lines = "\n".join(json.dumps({"video": name}, ensure_ascii=False) for name in names)
    assert [r.id for r in read_manifest(written(tmp_path, "m.jsonl", lines))] == names
    (record,) = read_manifest(written(tmp_path, "m.csv", b"video\ncaf\xe9.mp4\n"))
    assert os.fsencode(record.path).endswith(b"/caf\xe9.mp4")


def test_one_video_may_have_many_stretches_but_each_once(tmp_path):
    text = "video,start,end\na.mp4,0,2\na.mp4,2,4\na.mp4,2,\na.mp4,,\n"
    ids = [record.id for record in read_manifest(written(tmp_path, "m.csv", text))]
    assert len(set(ids)) == 4
    with pytest.raises(ValueError, match=r"line 6: video \('a\.mp4@0-2'\) is in line 2 already"):
        read_manifest(written(tmp_path, "m.csv", text + "a.mp4,0,2\n"))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("/etc/passwd", "absolute"),
        ("C:\\a.mp4", "absolute"),
        ("\\\\server\\a.mp4", "absolute"),
        ("../a.mp4", "'..'"),
        ("sub/../../a.mp4", "'..'"),
        ("http://example.org/a.mp4", "URL"),
        ("file:///a.mp4", "URL"),
        ("", "empty"),
        ("a\0.mp4", "null byte"),
        ("link/a.mp4", "link"),
    ],
)
def test_a_list_names_nothing_outside_its_root(tmp_path, name, fault):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    lists = written(root, "m.jsonl", json.dumps({"video": "fine.mp4"}) + "\n" + json.dumps({"video": name}))
    with pytest.raises(ValueError, match=rf"m\.jsonl, line 2: video \(.*\) .*{fault}.*; give a relative path below"):
        read_manifest(lists)


def test_the_root_may_be_given(tmp_path):
    lists = written(tmp_path, "m.csv", "video\na.mp4\n")
    assert read_manifest(lists, root="/data")[0].path == "/data/a.mp4"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a.mp4,jump\n", r"line 1: unknown column 'a\.mp4'; the columns are video, labels"),
        ("video,label\na.mp4,x\n", "line 1: unknown column 'label'"),
        ("labels\nx\n", "line 1: no column 'video'"),
        ("", "line 1: no column 'video'"),
        ("video,video\na,b\n", "names a column twice"),
        ("video,labels\na.mp4\n", "line 2: 1 values, but the header has 2 columns"),
        ("video,start\n\na.mp4,soon\n", r"line 3: start \('soon'\) must be seconds >= 0"),
        ("video,start\na.mp4,-1\n", r"line 2: start \('-1'\)"),
        ("video,end\na.mp4,nan\n", r"line 2: end \('nan'\)"),
        ("video,start,end\na.mp4,3,3\n", r"line 2: end \(3\.0\) must be > start \(3\.0\)"),
        ('video\n"a.mp4\n', "not CSV"),
    ],
)
def test_a_faulty_csv_row_is_named_with_its_line(tmp_path, text, fault):
    with pytest.raises(ValueError, match=rf"m\.csv.*{fault}"):
        read_manifest(written(tmp_path, "m.csv", text))


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("3", "not an object"),
        ('{"video": 3}', "must be text"),
        ('{"video": "a.mp4", "labels": "jump"}', "must be a list of texts"),
        ('{"video": "a.mp4", "labels": [""]}', "none of them empty"),
        ('{"video": "a.mp4", "start": true}', r"start \(True\)"),
        ('{"video": "a.mp4", "start": 1' + "0" * 400 + "}", "must be seconds"),
        ('{"video": "a.mp4", "from": 1}', "unknown column 'from'"),
    ],
)
def test_a_faulty_json_row_is_named_with_its_line(tmp_path, row, fault):
    with pytest.raises(ValueError, match=rf"m\.jsonl, line 2: .*{fault}"):
        read_manifest(written(tmp_path, "m.jsonl", '{"video": "fine.mp4"}\n' + row))


# Named data sets


def test_the_official_kinetics_table(tmp_path):
    text = (
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        '"passing American football (in game)",-3B32lodo2M,59,69,train,0\n'
        "testifying,--07WQ2iBlw,1,11,validate,0\n"
    )
    first, second = read_kinetics(written(tmp_path, "train.csv", text), root="/k400")
    label = "passing American football (in game)"
    assert first.path == f"/k400/{label}/-3B32lodo2M_000059_000069.mp4"
    assert (first.labels, first.split, first.start_seconds) == ((label,), "train", None)
    assert second.id == "testifying/--07WQ2iBlw_000001_000011.mp4"
    test = "youtube_id,time_start,time_end,split\n--07WQ2iBlw,1,11,test\n"
    (record,) = read_kinetics(written(tmp_path, "test.csv", test))
    assert (record.id, record.labels) == ("--07WQ2iBlw_000001_000011.mp4", ())


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("jump,short,1,11,train", r"youtube_id \('short'\)"),
        ("jump,--07WQ2iBlw,x,11,train", r"time_start \('x'\)"),
        ("jump,--07WQ2iBlw,11,1,train", r"time_end \(1\) must be > time_start \(11\)"),
        ("../up,--07WQ2iBlw,1,11,train", "'..'"),
        ("jump,--07WQ2iBlw,1,11", "4 values"),
    ],
)
def test_a_faulty_kinetics_row_is_named_with_its_line(tmp_path, row, fault):
    lists = written(tmp_path, "k.csv", f"label,youtube_id,time_start,time_end,split\n{row}\n")
    with pytest.raises(ValueError, match=rf"k\.csv, line 2: .*{fault}"):
        read_kinetics(lists)


def test_path_lists_keep_paths_with_spaces(tmp_path):
    records = read_path_list(written(tmp_path, "train.csv", "a b/c.mp4 17\r\nd.mp4\t3\ne.mp4,0\n\n"))
    assert [(r.id, r.labels) for r in records] == [("a b/c.mp4", ("17",)), ("d.mp4", ("3",)), ("e.mp4", ("0",))]
    with pytest.raises(ValueError, match="line 1: 'alone.mp4' must be a path, a space and a label"):
        read_path_list(written(tmp_path, "bad.csv", "alone.mp4\n"))


def test_ucf101_train_and_test_lists(tmp_path):
    (train,) = read_ucf101(written(tmp_path, "trainlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\n"))
    (test,) = read_ucf101(written(tmp_path, "testlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\n"), "/ucf")
    assert (train.labels, train.split, test.split) == (("ApplyEyeMakeup",), "train", "test")
    assert test.path == "/ucf/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"
    with pytest.raises(ValueError, match="line 2: class A has the number 2, but 1 before"):
        read_ucf101(written(tmp_path, "trainlist02.txt", "A/x.avi 1\nA/y.avi 2\n"))
    with pytest.raises(ValueError, match="line 1: 'x.avi 1' must be Class/video.avi"):
        read_ucf101(written(tmp_path, "trainlist03.txt", "x.avi 1\n"))


def test_hmdb51_flags(tmp_path):
    written(tmp_path, "wave_test_split1.txt", "b.avi 1 \nc d.avi 2 \n#e!.avi 0 \n")
    written(tmp_path, "wave_test_split2.txt", "b.avi 2 \n")
    written(tmp_path, "climb_stairs_test_split1.txt", "a.avi 2 \n")
    records = read_hmdb51(tmp_path, root="/hmdb")
    assert [(r.id, r.split) for r in records] == [
        ("climb_stairs/a.avi", "test"),
        ("wave/b.avi", "train"),
        ("wave/c d.avi", "test"),
        ("wave/#e!.avi", "unused"),
    ]
    assert records[0].labels == ("climb_stairs",) and records[0].path == "/hmdb/climb_stairs/a.avi"
    with pytest.raises(ValueError, match="line 1: 'a.avi 3' must be a file name and 0"):
        read_hmdb51(written(tmp_path, "wave_test_split3.txt", "a.avi 3\n"))
    with pytest.raises(ValueError, match="must be named"):
        read_hmdb51(written(tmp_path, "wave.txt", "a.avi 1\n"))


def test_load_records_picks_the_reader_by_what_the_path_is(tmp_path):
    touch(tmp_path, "clips/jump/a.mp4")
    lists = {
        "m.csv": "video,labels\na.mp4,jump\n",
        "m.jsonl": '{"video": "a.mp4", "labels": ["jump"]}',
        "k.csv": "label,youtube_id,time_start,time_end,split\njump,--07WQ2iBlw,1,11,train\n",
        "v.csv": "a.mp4 jump\n",
        "v.txt": "a.mp4 jump\n",
        "trainlist01.txt": "jump/a.avi 1\n",
        "jump_test_split1.txt": "a.avi 1\n",
    }
    for name, text in lists.items():
        assert load_records(written(tmp_path, name, text))[0].labels == ("jump",), name
    assert load_records(tmp_path / "clips")[0].labels == ()
    for wrong, told in (
        ("absent.csv", "does not exist; give"),
        ("absent", "does not exist"),
        ("clips/jump/a.mp4", "must be"),
    ):
        for load in (load_records, load_labelled):
            with pytest.raises(
                ValueError, match=rf"{wrong} {told}.* a folder, or a list that ends in \.csv, \.jsonl or"
            ):
                load(tmp_path / wrong)


@pytest.mark.parametrize("name", ["m.csv", "m.txt"])
@pytest.mark.parametrize(
    "text",
    [
        "file,start,end,label\na.mp4,0,3,jump\n",
        "filename,label\na.mp4,jump\n",
        "path label\na.mp4 jump\n",
        "Video,Labels\na.mp4,jump\n",
        "video;labels\na.mp4;jump\n",
        "a.mp4,0,3,jump\n",
        "jump,a.mp4\n",
    ],
)
def test_a_table_of_other_columns_is_refused_and_not_taken_for_videos(tmp_path, name, text):
    touch(tmp_path, "a.mp4", "path/b.mp4")
    with pytest.raises(ValueError, match=rf"{name}, line 1: .*the columns video, labels, start, end, split"):
        load_records(written(tmp_path, name, text))


def test_a_path_list_may_name_files_of_any_extension_that_are_there(tmp_path):
    touch(tmp_path, "film.dav")
    assert load_records(written(tmp_path, "m.csv", "film.dav 3\nGONE.MP4 4\n"))[0].id == "film.dav"


def test_a_list_keeps_the_videos_that_are_missing(tmp_path):
    assert len(read_manifest(written(tmp_path, "m.csv", "video\nabsent.mp4\n"))) == 1


def test_labelled_data_are_a_folder_of_classes_a_list_or_the_split_files_of_hmdb51(tmp_path):
    for name in ("clips/run/a.mp4", "clips/jump/deep/b.mp4", "hmdb/run_test_split1.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [(r.id, r.labels) for r in load_labelled(tmp_path / "clips")] == [
        ("jump/deep/b.mp4", ("jump",)),
        ("run/a.mp4", ("run",)),
    ]
    (tmp_path / "hmdb/run_test_split1.txt").write_text("a.avi 1\nb.avi 2\nc.avi 0\n")
    assert [r.split for r in load_labelled(tmp_path / "hmdb")] == ["train", "test", "unused"]
    (tmp_path / "list.csv").write_text("clips/run/a.mp4 7\n")
    assert load_labelled(tmp_path / "list.csv")[0].labels == ("7",)
    assert load_records(tmp_path / "clips")[0].labels == ()  # training without labels stays as it is


def test_records_without_a_label_are_named(tmp_path):
    (tmp_path / "m.csv").write_text("video,labels\na.mp4,run\nb.mp4,\n")
    with pytest.raises(ValueError, match="1 of 2 records have no label, the first is b.mp4"):
        load_labelled(tmp_path / "m.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no video found in .*empty; files that end in .*\.mp4, .* are looked for"):
        load_labelled(tmp_path / "empty")
    (tmp_path / "m.csv").write_text("video,labels\n")
    with pytest.raises(ValueError, match=r"m\.csv: no video; give a folder of class folders, or a list"):
        load_labelled(tmp_path / "m.csv")


def test_a_classifier_learns_from_the_training_split_alone(tmp_path):
    (tmp_path / "m.csv").write_text("video,labels,split\na.mp4,run,train\nb.mp4,run,test\nc.mp4,jump,train\n")
    assert [r.id for r in load_data({"train": tmp_path / "m.csv"}, labelled=True)["train"]] == ["a.mp4", "c.mp4"]
    assert len(load_data({"train": tmp_path / "m.csv"})["train"]) == 3
    (tmp_path / "v.csv").write_text("video,labels,split\na.mp4,run,val\nb.mp4,jump,val\n")
    assert len(load_data({"train": tmp_path / "v.csv"}, labelled=True)["train"]) == 2
