"""The published lists: read as they are written, held to their published sizes; and how sets are cut without tearing groups."""

import json
import re
from dataclasses import replace

import pytest

from mmssl.downstream.probe import lists_audio, lists_video
from mmssl.downstream.probe.folds import cross_validation, validation_cut
from mmssl.downstream.probe.labelled import Item, Listing, Split, check_splits, keep
from mmssl.downstream.probe.lists_own import Cutting, csv_classes, folder_classes
from mmssl.downstream.probe.protocols import Request, _Finder, recognize
from mmssl.types import InputError


def ucf_lists(folder, *, lost=0):
    """Lists of the published sizes: 101 classes, 25 groups; `lost` lines too few to test on in split 2."""
    names = [f"Class{n % 101:03d}/v_Class{n % 101:03d}_g{n // 101 % 25 + 1:02d}_c{n // 2525 + 1:02d}.avi" for n in range(13_320)]
    for number, (train, test) in lists_video.UCF101_SIZES.items():
        (folder / f"trainlist{number:02d}.txt").write_text("".join(f"{name} 1\r\n" for name in names[:train]))
        last = len(names) - (lost if number == 2 else 0)
        assert len(names[train:]) == test
        (folder / f"testlist{number:02d}.txt").write_text("".join(f"{name}\n" for name in names[train:last]))
    return folder


def test_ucf101_has_three_splits_of_the_published_sizes(tmp_path):
    found = lists_video.ucf101(ucf_lists(tmp_path), [])
    assert found.problems == ()
    assert len(found.items) == 13_320
    assert [(len(split.train), len(split.test)) for split in found.splits] == [(9537, 3783), (9586, 3734), (9624, 3696)]
    item = found.items[0]
    assert (item.group, found.classes[item.labels[0]]) == ("Class000/g01", "Class000")


def test_a_list_that_is_short_is_no_protocol(tmp_path):
    found = lists_video.ucf101(ucf_lists(tmp_path, lost=1), [])
    assert found.problems == ("the lists of split 2 name 3733 clips to test on, UCF101 has 3734",)
    (tmp_path / "testlist03.txt").unlink()
    assert "split 3 of UCF101 are not there" in lists_video.ucf101(tmp_path, []).problems[-1]


def hmdb_lists(folder):
    for number in (1, 2, 3):
        for name in [f"class{n:02d}" for n in range(51)]:
            roles = ["1"] * 70 + ["2"] * 30 + ["0"] * 5
            lines = [f"Film{clip}_{name}_f_cm_np1_fr_med_{clip % 4}.avi {role} \n" for clip, role in enumerate(roles)]
            (folder / f"{name}_test_split{number}.txt").write_text("".join(lines))
    return folder


def test_hmdb51_leaves_out_what_no_split_uses_and_groups_by_film(tmp_path):
    found = lists_video.hmdb51(hmdb_lists(tmp_path), [])
    assert found.problems == ()
    assert [(len(split.train), len(split.test)) for split in found.splits] == [(3570, 1530)] * 3
    assert len(found.items) == 5100
    assert found.items[3].name == "class00/Film3_class00_f_cm_np1_fr_med_3.avi"
    assert found.items[3].group == "class00/Film3_class00"
    (tmp_path / "class00_test_split1.txt").write_text("x.avi 7\n")
    with pytest.raises(InputError, match="0, 1 or 2"):
        lists_video.hmdb51(tmp_path, [])


def test_a_group_on_both_sides_is_refused_of_ones_own_clips_and_told_of_published_ones():
    """Groups are told from names; lists that were published with such names could not be probed at all."""
    items = tuple(Item(f"{n}.mp4", (n % 2,), group) for n, group in enumerate(("a", "b", "a", "c")))
    published = Listing("hmdb51", "HMDB51", ("run", "sit"), items, (Split("1", (0, 1), (2, 3)),))
    told = "split 1 of HMDB51 has 1 group both to learn from and to test on (a)"
    check_splits(published)
    assert published.shared_groups == (told,)
    with pytest.raises(InputError, match=re.escape(f"{told}: clips of one recording would give the answer away")):
        check_splits(replace(published, protocol="csv"))


def test_kinetics_is_known_by_its_classes_and_tested_on_validation(tmp_path):
    rows = [f"class {n % 400},id{n:09d},{n % 7},{n % 7 + 10},train,0" for n in range(900)]
    (tmp_path / "train.csv").write_text("\n".join(["label,youtube_id,time_start,time_end,split,is_cc", *rows[:800]]))
    (tmp_path / "validate.csv").write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows[800:]]))
    found = lists_video.kinetics(tmp_path, [])
    assert found.title == "Kinetics-400"
    assert [item.name for item in found.items[:2]] == ["id000000000_000000_000010", "id000000001_000001_000011"]
    assert (len(found.splits[0].train), len(found.splits[0].test)) == (800, 100)
    assert "246534" in found.problems[0] and "19906" in found.problems[1]
    assert "validation part" in found.notes[0]


def test_something_something_reads_templates_and_is_not_mirrored(tmp_path):
    labels = {"Pushing something from left to right": "1", "Pushing something from right to left": "0"}
    (tmp_path / "something-something-v2-labels.json").write_text(json.dumps(labels))
    row = {"id": "74225", "label": "pushing a cup from left to right", "template": "Pushing [something] from left to right"}
    (tmp_path / "something-something-v2-train.json").write_text(json.dumps([row]))
    (tmp_path / "something-something-v2-validation.json").write_text(json.dumps([{**row, "id": "7"}]))
    found = lists_video.ssv2(tmp_path, [])
    assert not found.mirrored
    assert found.classes[found.items[0].labels[0]] == "Pushing something from left to right"
    assert any("168913" in problem for problem in found.problems)
    (tmp_path / "something-something-v2-train.json").write_text(json.dumps([{**row, "template": "Eating [something]"}]))
    with pytest.raises(InputError, match="none of"):
        lists_video.ssv2(tmp_path, [])


def test_esc50_has_five_folds_of_400_grouped_by_recording(tmp_path):
    lines = [f"{fold}-{n}-A-{n % 50}.wav,{fold},{n % 50},name{n % 50},False,{n},A" for fold in range(1, 6) for n in range(400)]
    (tmp_path / "esc50.csv").write_text("\n".join(["filename,fold,target,category,esc10,src_file,take", *lines]))
    found = lists_audio.esc50(tmp_path, [])
    assert found.problems == ()
    assert [(split.name, len(split.train), len(split.test)) for split in found.splits] == [
        (str(n), 1600, 400) for n in range(1, 6)
    ]
    assert found.items[7].group == "7"


def test_audioset_has_several_labels_a_clip(tmp_path):
    (tmp_path / "class_labels_indices.csv").write_text('index,mid,display_name\n0,/m/1,"Speech"\n1,/m/2,"Bark, loud"\n')
    head = "# Segments csv created\n# num_ytids=2\n# YTID, start_seconds, end_seconds, positive_labels\n"
    (tmp_path / "balanced_train_segments.csv").write_text(head + '--aaaaaaaaa, 30.000, 40.000, "/m/1,/m/2"\n')
    (tmp_path / "eval_segments.csv").write_text(head + '--bbbbbbbbb, 0.000, 10.000, "/m/2"\n')
    found = lists_audio.audioset(tmp_path, [])
    assert found.multi_label and found.classes == ("Speech", "Bark, loud")
    assert found.items[0] == Item("--aaaaaaaaa_000030_000040", (0, 1), "--aaaaaaaaa")
    assert any("AudioSet has 20371" in problem for problem in found.problems)
    (tmp_path / "eval_segments.csv").write_text(head + '--bbbbbbbbb, 0.000, 10.000, "/m/9"\n')
    with pytest.raises(InputError, match="does not know"):
        lists_audio.audioset(tmp_path, [])


def test_speech_commands_learns_from_what_neither_list_names(tmp_path):
    (tmp_path / "validation_list.txt").write_text("yes/aa_nohash_0.wav\nno/bb_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("yes/cc_nohash_0.wav\nno/cc_nohash_1.wav\n")
    every = [
        "yes/aa_nohash_0",
        "no/bb_nohash_0",
        "yes/cc_nohash_0",
        "no/cc_nohash_1",
        "yes/dd_nohash_0",
        "no/ee_nohash_3",
        "other/x",
    ]
    found = lists_audio.speech_commands(tmp_path, [f"sc/{name}" for name in every])
    named = [[found.items[place].name for place in part] for part in (found.splits[0].train, found.splits[0].validation)]
    assert named == [["no/ee_nohash_3", "yes/dd_nohash_0"], ["no/bb_nohash_0", "yes/aa_nohash_0"]]
    assert found.items[found.splits[0].test[0]].group == found.items[found.splits[0].test[1]].group == "cc"
    assert any("84843" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("UCF-101/HandstandPushups/v_HandstandPushups_g01_c01", "HandstandPushups/v_HandStandPushups_g01_c01.avi"),
        ("all/v_Diving_g01_c02", "Diving/v_Diving_g01_c02.avi"),
        ("video/74225", "74225"),
        ("train/abseiling/-3B32lodo2M_000059_000069", "-3B32lodo2M_000059_000069"),
        ("k/-3B32lodo2M", "-3B32lodo2M_000059_000069"),
        ("eval/Y--bbbbbbbbb", "--bbbbbbbbb_000030_000040"),
        ("eval/--bbbbbbbbb_30000_40000", "--bbbbbbbbb_000030_000040"),
        ("eval/--bbbbbbbbb_30.000_40.000", "--bbbbbbbbb_000030_000040"),
    ],
)
def test_files_are_found_by_the_names_they_go_by(name, file):
    assert _Finder([name, "other/x"]).find(file) == name
    assert _Finder(["other/x"]).find(file) is None


def test_a_name_that_fits_two_files_is_refused():
    with pytest.raises(InputError, match="any of a/74225, b/74225"):
        _Finder(["a/74225", "b/74225"]).find("74225")


def test_protocols_are_recognized_by_their_lists(tmp_path):
    lists = tmp_path / "data" / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    assert recognize(Request(tmp_path)).protocol == "folder"
    (lists / "trainlist01.txt").write_text("A/v_A_g01_c01.avi 1\n")
    found = recognize(Request(tmp_path))
    assert (found.protocol, found.lists) == ("ucf101", lists)
    assert "read as ucf101" in found.sentence
    assert recognize(Request(tmp_path, "folder")).protocol == "folder"
    with pytest.raises(InputError, match="holds no lists of hmdb51"):
        recognize(Request(tmp_path, "hmdb51"))
    with pytest.raises(InputError, match="no protocol 'ucf'"):
        recognize(Request(tmp_path, "ucf"))


def items_of(groups):
    """One item for each letter: capital letters are classes, the number behind is the group."""
    classes = sorted({name[0] for name in groups})
    return [Item(f"{n}", (classes.index(name[0]),), name) for n, name in enumerate(groups)], classes


def test_folds_test_each_clip_once_tear_no_group_and_hold_every_class():
    items, classes = items_of([f"{letter}{number}" for letter in "ABC" for number in range(7) for _ in range(3)])
    splits = cross_validation(items, classes, folds=5, seed=0)
    assert sorted(place for split in splits for place in split.test) == list(range(len(items)))
    for split in splits:
        assert not {items[p].group for p in split.train} & {items[p].group for p in split.test}
        assert {items[p].labels for p in split.test} == {(0,), (1,), (2,)}
    shuffled = items[::-1]
    again = cross_validation(shuffled, classes, folds=5, seed=0)
    assert {frozenset(items[p].name for p in s.test) for s in splits} == {
        frozenset(shuffled[p].name for p in s.test) for s in again
    }
    assert len(cross_validation(*items_of(["A1", "A2", "A3", "B1", "B2"]), folds=5, seed=0)) == 2


def test_a_class_of_one_group_cannot_be_probed():
    with pytest.raises(InputError, match=r"1 of the 2 classes has a single file .* B"):
        cross_validation(*items_of(["A1", "A2", "B1", "B1"]), folds=5, seed=0)


def test_the_validation_part_is_cut_by_group_and_leaves_every_class():
    items, _ = items_of([f"{letter}{number}" for letter in "AB" for number in range(10) for _ in range(2)] + ["C0", "C0"])
    split = Split("1", tuple(range(42)), ())
    fit, validation = validation_cut(items, split)
    assert sorted((*fit, *validation)) == list(range(42))
    assert not {items[p].group for p in fit} & {items[p].group for p in validation}
    assert [sum(items[p].labels == (label,) for p in validation) for label in range(3)] == [
        4,
        4,
        0,
    ]  # 2 of 10 groups; C keeps its only one
    own = Split("1", (0, 1), (4,), (2, 3))
    assert validation_cut(items, own) == ((0, 1), (2, 3))


def test_a_class_that_is_tested_has_to_be_learnt():
    items, classes = items_of(["A1", "B1", "A2", "C1"])
    with pytest.raises(InputError, match="no clip to learn from: C"):
        check_splits(Listing("csv", "set", tuple(classes), tuple(items), (Split("1", (0, 1), (2, 3)),)))


def test_keeping_a_part_renumbers_it():
    items, classes = items_of(["A1", "B1", "A2", "B2", "A3", "B3"])
    listing = Listing("x", "X", tuple(classes), tuple(items), (Split("1", (0, 1, 2, 3), (4, 5)),))
    kept = keep(listing, [0, 3, 5])
    assert [item.group for item in kept.items] == ["A1", "B2", "B3"]
    assert kept.splits == (Split("1", (0, 1), (2,)),)


def test_folders_are_classes(tmp_path):
    names = [f"{label}/s{n}/clip" for label in ("cat", "dog") for n in range(4)]
    found = folder_classes(tmp_path, names, Cutting(folds=2))
    assert found.classes == ("cat", "dog")
    assert [split.name for split in found.splits] == ["fold 1", "fold 2"] and found.notes == ()
    parted = folder_classes(tmp_path, [f"{part}/{name}" for part in ("train", "test") for name in names], Cutting())
    assert [(len(split.train), len(split.test)) for split in parted.splits] == [(8, 8)]
    with pytest.raises(InputError, match="lie in no folder of a class"):
        folder_classes(tmp_path, ["a", "b"], Cutting())
    with pytest.raises(InputError, match=r"1 class.*cat"):
        folder_classes(tmp_path, ["cat/a", "cat/b"], Cutting())


def test_groups_of_ones_own(tmp_path):
    names = [f"{label}/v_{label}_g{group:02d}_c{clip:02d}" for label in ("cat", "dog") for group in (1, 2) for clip in (1, 2)]
    assert "too good" in folder_classes(tmp_path, names, Cutting(folds=2)).notes[0]
    found = folder_classes(tmp_path, names, Cutting(folds=2, group=r"([^/]+_g[0-9]+)_c"))
    assert {item.group for item in found.items} == {"v_cat_g01", "v_cat_g02", "v_dog_g01", "v_dog_g02"}
    with pytest.raises(InputError, match="does not match"):
        folder_classes(tmp_path, names, Cutting(group="session"))
    with pytest.raises(InputError, match="not a regular expression"):
        folder_classes(tmp_path, names, Cutting(group="("))
    few = folder_classes(tmp_path, [*names, "owl/x"], Cutting(folds=2, min_files=2))
    assert few.classes == ("cat", "dog")
    assert any("owl" in note for note in few.notes)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("file,label\na,b\n", "no column path"),
        ("path,label\n", "names no clip"),
        ("path,label\na,\n", "row 2: there is no label"),
        ("path,label,split\na,x,dev\n", "split is 'dev'"),
        ("path,label\na,x\na,y\n", "more than once"),
        ("path,label,split\na,x,train\nb,y,\n", "for some clips"),
    ],
)
def test_csv_files_that_make_no_sense(tmp_path, text, why):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=why):
        csv_classes(tmp_path / "labels.csv", tmp_path, Cutting())


def test_a_csv_may_give_splits_groups_and_several_labels(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,labels,split,group\nx/a.mp4,dog|rain,train,1\nx/b.mp4,rain,val,2\nx/c.mp4,dog,test,3\n")
    found = csv_classes(table, tmp_path / "x", Cutting())
    assert found.multi_label and found.classes == ("dog", "rain")
    assert [item.name for item in found.items] == ["a.mp4", "b.mp4", "c.mp4"]
    assert found.items[0].labels == (0, 1)
    assert found.splits == (Split("1", (0,), (2,), (1,)),)
