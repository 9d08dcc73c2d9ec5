"""`mmssl search` and the retrieval probe on a real (hardly trained) run with sound and text: everything fits together, nothing is learnt here."""

import errno
import json
import shutil
from types import SimpleNamespace

import pytest
from PIL import Image

from mmssl.cli import main
from mmssl.config import resolve
from mmssl.data.index import open_corpus
from mmssl.downstream.search.store import create_store, open_store
from mmssl.run import start_run
from mmssl.search import Searcher, retrieval_run, search_index
from mmssl.types import InputError
from tests.tiny_text import tokenizer_of


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    words = tokenizer_of(toy, folder / "words.json")
    objectives = [{"name": "av_nce", "views": {"frames": 1}}, {"name": "mil_nce", "dim": 32, "views": {"frames": 2, "fps": 4.0}}]
    config = resolve(
        {
            "encoders": {
                "video": {"name": "frame_resnet", "size": "tiny"},
                "audio": {"name": "audio_cnn", "size": "tiny"},
                "text": {"name": "text_bert", "size": "tiny", "tokenizer": str(words), "tokens": 16},
            },
            "streams": [{"data": str(toy), "batch": 4, "min_usable": 0.1, "objectives": [one]} for one in objectives],
            "train": {"steps": 1, "workers": 0, "save_every": 1, "log_every": 1, "dtype": "float32"},
        }
    )
    start_run(config, folder / "run", display=False)
    return folder / "run"


@pytest.fixture(scope="module")
def dbs(run, toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dbs")
    for name in ("av_nce", "mil_nce"):
        search_index(run, toy, folder / name, objective=name, progress=False)
    return folder


def mmssl(*arguments):
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return left.value.code or 0


def test_index_and_query_by_sound_image_and_film(run, toy, dbs, tmp_path, capsys):
    assert mmssl("search", "index", run, toy, tmp_path / "db", "--stride", 0.8, "--modality", "video,audio") == 0
    said = capsys.readouterr().out
    assert said.startswith("24 files (24 new); rows: ")
    clip = next(source for source in open_corpus(toy) if source.audio is not None and max(source.loudness) > -40.0)
    sheet = tmp_path / "sheet.png"
    place = f"{clip.path}:0.2-1.2"
    assert mmssl("search", "query", dbs / "av_nce", "--audio", place, "--in", "audio", "-k", 3, "--sheet", sheet, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["query"]["in"] == "audio"
    assert len(found["hits"]) == 3
    assert found["hits"][0]["score"] >= found["hits"][1]["score"]
    with Image.open(sheet) as image:
        assert image.height > 4 * 120
    assert mmssl("search", "query", dbs / "av_nce", "--video", clip.path, "--in", "video", "--exact") == 0
    assert clip.path.name in capsys.readouterr().out
    assert mmssl("search", "query", dbs / "av_nce", "--image", tmp_path / "sheet.png", "--path", "nothing*") == 0
    assert "nothing passes the conditions" in capsys.readouterr().out


def test_text_finds_its_own_caption_and_films(run, toy, dbs, capsys):
    searcher = Searcher(dbs / "mil_nce")
    caption = open_corpus(toy)[3].cues[0].text
    own = searcher.find(searcher.query(text=caption), into="text", k=1).hits[0]
    assert own.score == pytest.approx(1.0, abs=1e-4)
    assert own.text == caption
    films = searcher.find(searcher.query(text=caption), k=30)
    assert films.kind == "video"
    assert len({hit.id for hit in films.hits}) == len(films.hits) == 24
    assert {hit.kind for hit in searcher.find(searcher.query(video=str(open_corpus(toy)[0].path))).hits} == {"text"}
    assert mmssl("search", "query", dbs / "mil_nce", "--text", caption, "--in", "text", "--per-file", 2) == 0
    assert "score" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("av_nce", "--text", "a dog barks"), "joins pictures and sound, so nothing of it can be compared with text"),
        (("mil_nce", "--audio", "x.wav"), "joins pictures and text, so nothing of it can be compared with sound"),
        (("av_nce",), "give exactly one query; this index can be asked by --image or --video, --audio"),
        (("av_nce", "--image", "a.png", "--video", "b.mp4"), "give exactly one query"),
        (("av_nce", "--motion", "b.mp4"), "nothing of it can be compared with motion"),
        (("av_nce", "--image", "none.png"), "there is no file none.png"),
        (("av_nce", "--image", "none.png", "--sheet", "a.jpg"), "ends in .png, got a.jpg"),
        (("none", "--text", "x"), "is no search index"),
        (("mil_nce", "--text", " "), "--text is empty"),
        (("mil_nce", "--text", "x", "--in", "smell"), "'smell' is no modality"),
    ],
)
def test_queries_that_cannot_be_are_status_2_and_a_sentence(dbs, capsys, arguments, why):
    name, *asked = arguments
    assert mmssl("search", "query", dbs / name, *asked) == 2
    said = capsys.readouterr().err
    assert why in said
    assert "Traceback" not in said


def test_the_run_that_made_an_index_is_looked_for(run, toy, dbs, tmp_path):
    shutil.copytree(run, tmp_path / "moved")
    shutil.copytree(dbs / "av_nce", tmp_path / "db")
    about = json.loads((tmp_path / "db" / "search.json").read_text())
    (tmp_path / "db" / "search.json").write_text(json.dumps(about | {"run": str(tmp_path / "gone")}))
    with pytest.raises(InputError, match="gone, which is not there; give its new place with --run"):
        Searcher(tmp_path / "db")
    assert Searcher(tmp_path / "db", run=tmp_path / "moved").store.about["digest"] == about["digest"]
    (tmp_path / "db" / "search.json").write_text(json.dumps(about | {"digest": "0" * 64}))
    with pytest.raises(
        InputError, match=r"made by model 000000000000 .* this is model .*cannot be compared; give the run that made it"
    ):
        Searcher(tmp_path / "db")
    (tmp_path / "db" / "search.json").write_text(json.dumps(about | {"dim": 64}))
    with pytest.raises(InputError, match=r"vectors of 64 dimensions .* this model gives 128"):
        Searcher(tmp_path / "db")
    assert search_index(tmp_path / "moved", toy, dbs / "av_nce", progress=False).unchanged == 24
    assert open_store(dbs / "av_nce").about["run"] == str(tmp_path / "moved")
    search_index(run, toy, dbs / "av_nce", progress=False)


def test_the_retrieval_probe_on_a_folder(run, toy, tmp_path, capsys):
    from mmssl.commands.probe_retrieval import retrieval

    rows = [f"ret{n},msr{n},{source.id},{source.cues[0].text}" for n, source in enumerate(open_corpus(toy)) if source.cues]
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join(["key,vid_key,video_id,sentence", *rows]) + "\n")
    with pytest.raises(InputError, match=r"the list has 24 clips and 24 captions, msrvtt-1ka has 1000 and 1000"):
        retrieval_run(run, "msrvtt-1ka", listed, toy, objective="mil_nce", progress=False)
    with pytest.raises(InputError, match="joins pictures and sound"):
        retrieval_run(run, "msrvtt-1ka", listed, toy, progress=False)
    retrieval(run, "msrvtt-1ka", listed, toy, objective="mil_nce", allow_missing=True, out=tmp_path / "figures.json")
    found = json.loads((tmp_path / "figures.json").read_text())
    assert (found["protocol"], found["clips"], found["objective"]) == (None, 24, "mil_nce")
    assert set(found["retrieval"]) == {"text_to_video", "video_to_text"}
    assert found["retrieval"]["text_to_video"]["R@1"]["chance"] == pytest.approx(1 / 24)
    assert "Not msrvtt-1ka: 24 of its 1000 clips" in capsys.readouterr().out


def test_a_full_disk_under_a_store_is_the_systems_own_error(tmp_path, monkeypatch):
    store = create_store(tmp_path / "db", {"dim": 4})

    def fail(words):
        def add(rows):
            raise RuntimeError(words)

        monkeypatch.setitem(store._tables, "files", SimpleNamespace(add=add))

    fail("lance error: LanceError(IO): No space left on device (os error 28), writer/structural.rs:191:9")
    with pytest.raises(OSError, match="No space left") as full:
        store.add("files", None)
    assert full.value.errno == errno.ENOSPC and full.value.filename == str(tmp_path / "db")
    fail("lance error: LanceError(IO): permission denied (os error 13)")
    with pytest.raises(RuntimeError, match="os error 13"):
        store.add("files", None)
