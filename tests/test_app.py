"""The page's rooms without a browser: what is taken, what is served, what is shown. The page itself is driven by test_app_browser.py."""

import asyncio
import base64
import io
import json
import re
import shutil
import threading
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmssl.app.corpus import Corpus, NotServed, playable
from mmssl.app.cuts import Cuts
from mmssl.app.drawn_mask import painter, save_drawn
from mmssl.app.following import Wanted, first_frame, follow
from mmssl.app.heat_view import Maps
from mmssl.app.jobs import Cancelled, Jobs
from mmssl.app.limits import Limits, look_at_upload
from mmssl.app.localizing import find_source, moment
from mmssl.app.models import load_models
from mmssl.app.players import Card, cards
from mmssl.app.results import Results
from mmssl.app.room import Room
from mmssl.app.searching import OTHER, Asked, search
from mmssl.data.playback import play_frames
from mmssl.downstream.given import read_mask
from mmssl.downstream.localize import Options
from mmssl.search import search_index
from mmssl.types import InputError, Span
from tests.media_makers import make_film, numbers_in
from tests.page_of_app import make_corpus, outside_link
from tests.untrained_run import FRAMES, SOUNDS, run_of, text_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    objective = {"name": "av_nce", "dim": 16, "views": {"frames": 1, "seconds": 0.5}}
    return run_of(tmp_path_factory.mktemp("app") / "run", {"video": FRAMES, "audio": SOUNDS}, [objective])


@pytest.fixture(scope="module")
def room(run, toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("room")
    clips = make_corpus(toy, folder / "clips", count=4)
    outside_link(toy, clips)
    search_index(run, clips, folder / "db", progress=False)
    models = load_models(run, search=folder / "db", device="cpu")
    uploads = folder / "uploads"
    uploads.mkdir()
    corpus = Corpus(models.search.store)
    return Room(models, Limits(max_mb=1, max_seconds=5), uploads, Results(folder / "results", keep=4), corpus, Jobs(60.0))


def put(room, source, name=None):
    """A file as Gradio leaves an upload: its path as text."""
    target = room.uploads / (name or source.name)
    if isinstance(source, bytes):
        target.write_bytes(source)
    else:
        shutil.copyfile(source, target)
    return str(target)


def said(html):
    """The text of a piece of HTML."""

    class Reader(HTMLParser):
        words = ""

        def handle_data(self, data):
            self.words += data

    reader = Reader()
    reader.feed(html)
    return reader.words


BAD = {
    "zero.mp4": (b"", "zero.mp4 is empty (0 bytes); choose another file"),
    "text.mp4": (b"this is a text file\n" * 50, "It is no picture, film or sound that can be read"),
    "large.mp4": (
        bytes(1_200_000),
        "large.mp4 has 1.2 MB, this page takes up to 1; cut the file, or start the page with a larger --max-mb",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_told_in_one_sentence_everywhere(room, name):
    content, why = BAD[name]
    path = put(room, content, name)
    for html in (
        search(room, room.models.search, Asked("", path, "", OTHER, 3), "me"),
        find_source(room, room.models.localize, path, Options(), "me").html,
        first_frame(room, path, 0.0),
        follow(room, room.models.track, Wanted(path, "", None, 0.0), "me"),
    ):
        assert 'role="alert"' in html
        assert why in said(html)
        assert str(room.uploads) not in html
    assert not list((room.results._root).iterdir())


def test_films_that_lack_what_a_tab_needs(room, toy, tmp_path):
    make_film(tmp_path / "mute.mp4", frames=10)
    make_film(tmp_path / "long.mp4", frames=60, rate=10)
    mute, long = put(room, tmp_path / "mute.mp4"), put(room, tmp_path / "long.mp4")
    Image.new("RGB", (40, 30)).save(tmp_path / "still.png")
    still = put(room, tmp_path / "still.png")
    listener, tracker = room.models.localize, room.models.track
    assert "mute.mp4 has no sound; there is nothing to localize" in said(find_source(room, listener, mute, Options(), "me").html)
    assert "long.mp4 lasts 6 s, this page takes up to 5 s" in said(find_source(room, listener, long, Options(), "me").html)
    assert "is a still picture" in said(find_source(room, listener, still, Options(), "me").html)
    assert "is a still picture" in said(first_frame(room, still, 0.0))
    assert "begin earlier than 3 s" in said(first_frame(room, mute, 3.0))
    assert "nothing is painted yet" in said(follow(room, tracker, Wanted(mute, "", None, 0.0), "me"))
    assert "still.png is 40 x 30 pixels, the frames are 96 x 64" in said(
        follow(room, tracker, Wanted(mute, "", still, 0.0), "me")
    )
    assert "did not arrive whole" in said(follow(room, tracker, Wanted(mute, "data:image/png;base64,%%%", None, 0.0), "me"))
    assert "drop a file" in said(search(room, room.models.search, Asked("", None, "", OTHER, 3), "me"))
    assert "ask by one of them" in said(search(room, room.models.search, Asked("ball", still, "", OTHER, 3), "me"))
    assert "compared with text" in said(search(room, room.models.search, Asked("ball", None, "", OTHER, 3), "me"))


def test_only_uploads_are_looked_at(room, toy, tmp_path):
    clip = min(toy.glob("*.mp4"))
    with pytest.raises(InputError, match="not here any more"):
        look_at_upload(clip, room.limits, room.uploads)
    (room.uploads / "link.mp4").symlink_to(clip)
    for named in (room.uploads / "link.mp4", room.uploads / ".." / "db" / "search.json", room.uploads):
        with pytest.raises(InputError, match="not here any more"):
            look_at_upload(named, room.limits, room.uploads)
    mask = tmp_path / "mask.png"
    Image.fromarray(np.ones((64, 64), np.uint8)).save(mask)
    assert "not here any more" in follow(room, room.models.track, Wanted(put(room, clip), "", str(mask), 0.0), "me")


def test_limits_must_be_possible():
    for values in ({"max_mb": 0}, {"max_seconds": float("nan")}, {"max_minutes": -1}):
        with pytest.raises(InputError, match="give a number above 0"):
            Limits(**values)


def test_jobs_end_when_asked_to_and_when_their_time_is_over():
    jobs = Jobs(1e-9)
    with jobs.job("me") as job, pytest.raises(InputError, match="larger --max-minutes"):
        job.tick()
    jobs = Jobs(60.0)
    with jobs.job("me") as mine, jobs.job("you") as yours:
        threading.Thread(target=jobs.cancel, args=("me",)).start()
        while not mine._cancelled.wait(1):
            pass
        yours.tick()
        with pytest.raises(Cancelled):
            mine.tick()
        assert jobs.cancel() == 2
        with pytest.raises(Cancelled):
            yours.tick()
    assert jobs.cancel("me") == 0


def test_a_cancelled_job_leaves_nothing(room, toy):
    path = put(room, min(toy.glob("*.mp4")))

    def report(*_, **__):
        room.jobs.cancel("me")

    assert "Cancelled." in find_source(room, room.models.localize, path, Options(), "me", report).html
    drawn = png(np.eye(64, dtype=np.uint8))
    assert "Cancelled." in follow(room, room.models.track, Wanted(path, drawn, None, 0.0), "me", report)
    assert "Cancelled." in search(room, room.models.search, Asked("", path, "its picture", OTHER, 3), "me", report)
    assert not list(room.results._root.iterdir())


def png(mask):
    held = io.BytesIO()
    Image.fromarray(np.repeat(mask[..., None], 3, axis=2)).save(held, format="PNG")
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()


def test_a_heat_view_holds_the_maps_that_localize_wrote(room, toy):
    path = put(room, min(toy.glob("*.mp4")))
    for sources in (0, 2):
        shown = find_source(room, room.models.localize, path, Options(sources=sources, fps=5.0), "me")
        folder = room.results.folder(shown.token)
        assert {"heat.mp4", "heat.npz", "heat.json"} <= {file.name for file in folder.iterdir()}
        html = moment(room, shown.token, shown.film, 0.61)
        told = json.loads(re.search('data-map="([^"]+)"', html)[1].replace("&quot;", '"'))
        with np.load(folder / "heat.npz") as file:
            number = int(np.abs(file["times"] - 0.61).argmin())
            several = "source_maps" in file
            maps = file["source_maps"][number] if several else file["maps"][number][None]
            low = np.atleast_1d(file["source_heat_from" if several else "heat_from"])
            high = np.atleast_1d(file["source_heat_full" if several else "heat_full"])
            assert told["time"] == pytest.approx(file["times"][number], abs=1e-3)
        assert told["grid"] == list(maps.shape[1:])
        assert len(told["names"]) == len(maps)
        for k, cosines in enumerate(maps):
            for place, cosine in enumerate(cosines.astype(float).ravel()):
                heat = min(1.0, max(0.0, (cosine - low[k]) / (high[k] - low[k])))
                assert told["similarity"][k][place] == pytest.approx(cosine, abs=6e-4)
                assert told["heat"][k][place] == pytest.approx(heat, abs=1e-3)
    assert "this result is gone" in moment(room, "none", shown.film, 0.0)


def test_the_first_moment_shown_is_the_best_that_is_not_silent():
    cosines = np.zeros((3, 1, 2, 2), np.float16)
    one = np.array([0.0])
    maps = Maps(
        np.arange(3.0),
        ("silent", "seen", "unseen"),
        np.array([9.0, 1.0, 2.0]),
        cosines,
        one,
        one + 1,
        ("",),
        None,
        (8, 8),
        0.0,
        4.0,
    )
    assert maps.best == 2
    assert maps.nearest(1.4) == 1


def test_what_is_painted_is_what_is_followed(room, toy):
    path = put(room, min(toy.glob("*.mp4")))
    page = first_frame(room, path, 0.0)
    assert '<canvas width="64" height="64" tabindex="0"' in page
    mask = np.zeros((64, 64), np.uint8)
    mask[20:31, 8:40] = 1
    mask[40:50, 40:60] = 3
    html = follow(room, room.models.track, Wanted(path, png(mask), None, 0.0), "me")
    assert "Followed through" in html
    token = re.search("results/([^/]+)/overlay.mp4", html)[1]
    with zipfile.ZipFile(room.results.find(token, "masks.zip")) as archive:
        names = archive.namelist()
        first = np.asarray(Image.open(io.BytesIO(archive.read(names[0]))))
    assert names[0] == "00000.png"
    assert len(names) == len(json.loads(room.results.find(token, "track.json").read_text())["frames"])
    np.testing.assert_array_equal(first, mask)
    file = room.uploads / "mask.png"
    Image.fromarray(mask).save(file)
    save_drawn(png(2 * (mask == 1).astype(np.uint8)), room.uploads / "alone.png")
    np.testing.assert_array_equal(read_mask(room.uploads / "alone.png", (64, 64)), 2 * (mask == 1), "its colour is its number")
    assert "Followed through" in follow(room, room.models.track, Wanted(path, "", str(file), 0.0), "me")


def test_a_painter_has_the_films_own_pixels():
    page = painter(np.zeros((6, 8, 3), np.uint8), moment=1.25)
    assert 'width="8" height="6"' in page
    with pytest.raises(InputError, match="nothing is painted yet"):
        save_drawn("", Path("nowhere.png"))


def test_results_are_found_by_token_and_listed_name_only(tmp_path):
    results = Results(tmp_path / "results", keep=2)
    (tmp_path / "results" / "secret.json").write_text("{}")
    token, folder = results.new()
    (folder / "a.json").write_text("{}")
    (folder / ".hidden.json").write_text("{}")
    (folder / "log.txt").write_text("")
    (folder / "out.json").symlink_to(tmp_path / "results" / "secret.json")
    assert results.find(token, "a.json") == folder / "a.json"
    for name in ("../secret.json", ".hidden.json", "log.txt", "out.json", "", ".", "..", "/etc/passwd", "b.json"):
        assert results.find(token, name) is None
    for other in ("", ".", "..", "nothing"):
        assert results.find(other, "secret.json") is None
    results.new(), results.new()
    assert results.find(token, "a.json") is None
    assert not folder.exists()


def test_the_corpus_gives_files_of_the_index_and_no_others(room):
    corpus = room.corpus
    names = sorted(corpus._store.files())
    assert "zz_link" in names  # the index follows links; the page does not
    assert corpus.place(names[0]).is_relative_to(corpus.root)
    with pytest.raises(NotServed, match="leads out of the folder"):
        corpus.place("zz_link")
    for name in ("", "..", "../db/search.json", "/etc/passwd", "' OR '1'='1", f"{names[0]}.mp4", "nothing"):
        with pytest.raises(NotServed, match="no such file"):
            corpus.place(name)
    html = search(room, room.models.search, Asked("", put(room, corpus.place(names[0])), "its picture", "pictures", 9), "me")
    assert "leads out of the folder" in html
    assert str(corpus.root) not in html


def test_what_browsers_do_not_play_is_cut_for_them(tmp_path):
    for name, codec, kind in (
        ("a.mp4", "libx264", "video/mp4"),
        ("b.avi", "mpeg4", None),
        ("c.mkv", "libx264", None),
        ("d.mp4", "mpeg4", None),
        ("e.webm", "libvpx-vp9", "video/webm"),
    ):
        make_film(tmp_path / name, codec=codec, frames=50)
        assert playable(tmp_path / name) == kind, name
    (tmp_path / "f.mp4").write_text("no film")
    assert playable(tmp_path / "f.mp4") is None
    cuts = Cuts(tmp_path / "cuts", keep=2)
    made = cuts.get(tmp_path / "b.avi", Span(0.8, 1.6))
    assert playable(made) == "video/mp4"
    shown = [picture for _, picture in play_frames(made, fps=25)]
    assert numbers_of(shown)[0] == 20  # 0.8 s at 25 frames a second
    assert 19 <= len(shown) <= 21
    assert cuts.get(tmp_path / "b.avi", Span(0.8, 1.6)) == made
    cuts.get(tmp_path / "b.avi", Span(0.0, 0.4)), cuts.get(tmp_path / "c.mkv", Span(0.0, 0.4))
    assert not made.exists()


def numbers_of(pictures):
    import torch

    return numbers_in(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))


def test_words_find_films_where_the_index_knows_words(toy, tmp_path):
    run = text_run(tmp_path / "run")
    clips = tmp_path / "clips"
    clips.mkdir()
    for path in toy.glob("clip_00000[0-3].*"):
        shutil.copyfile(path, clips / path.name)
    search_index(run, clips, tmp_path / "db", progress=False)
    models = load_models(run, search=tmp_path / "db", device="cpu")
    assert "compares picture and sound" in models.localize
    room = Room(models, Limits(), tmp_path, Results(tmp_path / "results"), Corpus(models.search.store), Jobs(60.0))
    html = search(room, models.search, Asked("a red ball", None, "", OTHER, 2), "me")
    assert "“a red ball” → pictures" in said(html)
    assert html.count("<video") == 2


def test_names_of_files_are_escaped():
    evil = '"><img src=x onerror=alert(1)>'
    html = cards(
        [Card(1, 0.5, evil, evil, evil, 1.0, 2.0, evil, "", "video/mp4"), Card(2, 0.4, "a&b c", "p", "", 1.0, 2.0, "", "", None)],
        evil,
    )
    assert "<img" not in html
    assert "corpus/file?id=%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E#t=1.000,2.000" in html
    assert "corpus/cut?id=a%26b%20c&amp;start=1.000&amp;end=2.000" in html


def test_a_tab_without_its_run_says_which_would_do(run, tmp_path):
    models = load_models(run, device="cpu")
    assert models.search == "no index was given"
    with pytest.raises(InputError, match="no search index"):
        load_models(run, search=tmp_path, device="cpu")
    with pytest.raises(InputError, match="--device is 'abacus'"):
        load_models(run, device="abacus")
    clips = {"name": "video_resnet", "size": "tiny"}
    mute = run_of(tmp_path / "mute", {"video": clips}, [{"name": "playback_rate"}])
    with pytest.raises(InputError, match=r"can neither localize .* nor track"):
        load_models(mute, device="cpu")
    with pytest.raises(InputError, match="needs an encoder of single frames"):
        load_models(run, track=mute, device="cpu")


GATE = [
    ("/", {}, 200),
    ("/assets/index.js", {}, 200),
    ("/gradio_api/queue/join", {"origin": "http://127.0.0.1:7860"}, 200),
    ("/gradio_api/queue/join", {"origin": "http://evil.example"}, 403),
    ("/gradio_api/queue/join", {"origin": "null"}, 403),
    ("/corpus/file", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
    ("/", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
    ("/", {"host": "evil.example:7860"}, 400),
    ("/", {"host": "127.0.0.1.evil.example"}, 400),
    ("/", {"host": "127.evil.example"}, 400),
    ("/", {"host": ""}, 400),
    ("/", {"host": "localhost:7860"}, 200),
    ("/", {"host": "[::1]:7860"}, 200),
    ("/gradio_api/file=/etc/passwd", {}, 404),
    ("/gradio_api/file=pyproject.toml", {}, 404),
    ("/gradio_api/file=.env", {}, 404),
    ("/gradio_api/file=UPLOADS/../secret.txt", {}, 404),
    ("/gradio_api/file=UPLOADS/%2e%2e/secret.txt", {}, 404),
    ("/gradio_api/file=UPLOADS/link.mp4", {}, 404),
    ("/gradio_api/file=UPLOADS/a.mp4", {}, 200),
    ("/gradio_api/file=http://evil.example/x", {}, 404),
    ("/file=/etc/passwd", {}, 404),
    ("/file/etc/passwd", {}, 404),
    ("/gradio_api/file/etc/passwd", {}, 404),
    ("/gradio_api/proxy=http://evil.example", {}, 404),
    ("/gradio_api/stream/a/b/1/playlist.m3u8", {}, 404),
    ("/gradio_api/component_server", {}, 404),
    ("/gradio_api/call/work", {}, 404),
    ("/gradio_api/info", {}, 404),
    ("/gradio_api/vibe-code", {}, 404),
    ("/gradio_api/mcp", {}, 404),
    ("/monitoring", {}, 404),
    ("/assets/../../etc/passwd", {}, 404),
    ("/static/..\\..\\secret", {}, 404),
    ("/.git/config", {}, 404),
    ("/docs", {}, 404),
]


@pytest.mark.parametrize(("path", "headers", "status"), GATE)
def test_the_gate(path, headers, status, tmp_path):
    from mmssl.app.gate import Gate

    uploads = tmp_path / "uploads"
    uploads.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (uploads / "a.mp4").write_bytes(b"mine")
    (uploads / "link.mp4").symlink_to(tmp_path / "secret.txt")
    sent = []

    async def behind(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    given = {"host": "127.0.0.1:7860", **headers}
    scope = {
        "type": "http",
        "method": "GET",
        "path": path.replace("UPLOADS", str(uploads)),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    asyncio.run(Gate(behind, uploads=uploads, host="127.0.0.1")(scope, None, send))
    assert sent[0]["status"] == status
    if status == 200:
        assert any(name == b"content-security-policy" for name, _ in sent[0]["headers"])


BODIES = [
    (b"", 200),
    (b'{"data": [null, 0, "path", "/etc/passwd"], "fn_index": 3}', 200),
    (b'{"data": [{"path": "UPLOADS/a.mp4", "meta": {"_type": "gradio.FileData"}}]}', 200),
    (b'{"data": [{"path": "UPLOADS/link.mp4"}]}', 403),
    (b'{"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]}', 403),
    (b'{"data": [{"video": {"path": "UPLOADS/../secret.txt"}}]}', 403),
    (b'{"data": [{"path": "http://evil.example/a.mp4"}]}', 403),
    (b'{"data": [{"path": {"path": "UPLOADS/a.mp4"}}]}', 403),
    (b'{"data": [{"p\\u0061th": "/etc/passwd"}]}', 403),
    (b"no json", 400),
    (b"[" * 200_000, 400),
]


@pytest.mark.parametrize(("body", "status"), BODIES)
def test_the_gate_reads_what_files_a_request_names(body, status, tmp_path):
    from mmssl.app import gate

    uploads = tmp_path / "uploads"
    uploads.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (uploads / "a.mp4").write_bytes(b"mine")
    (uploads / "link.mp4").symlink_to(tmp_path / "secret.txt")
    body = body.replace(b"UPLOADS", str(uploads).encode())
    halves = [
        {"type": "http.request", "body": body[:5], "more_body": True},
        {"type": "http.request", "body": body[5:], "more_body": False},
    ]
    sent, passed = [], []

    async def receive():
        return halves.pop(0) if halves else {"type": "http.disconnect"}

    async def behind(scope, receive, send):
        passed.append((await receive())["body"])
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "headers": [(b"host", b"localhost")]}
    asyncio.run(gate.Gate(behind, uploads=uploads, host="127.0.0.1")(scope, receive, send))
    assert sent[0]["status"] == status
    assert passed == ([body] if status == 200 else [])


def test_without_gradio_the_command_says_how_to_install_it(monkeypatch, capsys, tmp_path):
    import importlib.util

    from mmssl.cli import main

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    with pytest.raises(SystemExit) as stopped:
        main(["app", str(tmp_path)])
    assert stopped.value.code == 2
    assert 'pip install "mmssl[app]"' in capsys.readouterr().err


def test_the_command_warns_before_it_opens_to_the_network(monkeypatch, capsys, run):
    from mmssl.cli import main

    served = {}
    monkeypatch.setattr("mmssl.app.server.serve", lambda models, **options: served.update(options))
    for host, warned in (("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)):
        with pytest.raises(SystemExit) as stopped:
            main(["app", str(run), "--host", host, "--max-mb", "3", "--device", "cpu"])
        assert not stopped.value.code
        assert ("no password" in capsys.readouterr().err) is warned
        assert served["host"] == host
        assert served["limits"].max_bytes == 3_000_000
    with pytest.raises(SystemExit) as stopped:
        main(["app", str(run), "--max-seconds", "0"])
    assert stopped.value.code == 2
    assert "--max-seconds is 0" in capsys.readouterr().err


def test_a_port_in_use_is_one_sentence():
    import socket

    from mmssl.app.server import _listen

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="give another --port"):
            _listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InputError, match="nothing can be served"):
        _listen("127.0.0.1", 99999)
