"""The page in a real headless Chromium: each tab is driven with a real file, and what comes back is looked at. Nothing is learnt here."""

import io
import json
import math
import urllib.error
import urllib.request
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from mmssl.data.playback import play_frames
from mmssl.data.toyworld import PRESETS
from mmssl.data.toyworld.corpus import make_clip
from mmssl.downstream.heatmap import Placement, overlay
from mmssl.search import search_index
from tests.media_makers import make_film, stream_copy
from tests.page_of_app import QUIET, find_chromium, make_corpus, outside_link, server
from tests.untrained_run import FRAMES, SOUNDS, STEP, run_of

SOON = 120_000  # milliseconds; the machine may be busy
MOMENT = 1.25  # seconds: the middle of the last whole window of a clip


@pytest.fixture(scope="module")
def world(toy, tmp_path_factory):
    """A corpus of clips, one in a container that browsers do not play, one that is a link to outside; a run; its index."""
    find_chromium()
    folder = tmp_path_factory.mktemp("browser")
    clips = make_corpus(toy, folder / "clips", count=5)
    names = sorted(clips.glob("*.mp4"))
    stream_copy(names[4], names[4].with_suffix(".mkv"), start=0.0)
    names[4].unlink()
    outside_link(toy, clips)
    (clips / "secret.txt").write_text("secret")
    objective = {"name": "av_nce", "dim": 16, "views": {"frames": 1, "seconds": 0.5}}
    run = run_of(folder / "run", {"video": FRAMES, "audio": SOUNDS}, [objective])
    search_index(run, clips, folder / "db", progress=False)
    # Nothing was learnt: a scale by which all cells are warm, and every sound has its source in view.
    scale = {"threshold": -2.0, "spread": 1.0, "low": -1.0, "high": 1.0}
    (run / "evaluation.json").write_text(json.dumps({"step": STEP, "objectives": {"av_nce": {"calibration": scale}}}))
    return SimpleNamespace(
        folder=folder, clips=clips, run=run, db=folder / "db", clip=names[2], foreign=names[4].with_suffix(".mkv")
    )


@pytest.fixture(scope="module")
def address(world):
    scratch = world.folder / "scratch"
    limits = ("--max-mb", "1", "--max-seconds", "40")
    with server(str(world.run), "--search", str(world.db), *limits, scratch=scratch) as found:
        yield found
    left = [path.name for path in scratch.iterdir() if path.name.startswith("mmssl-app-")]
    assert left == [], "uploads and results stay behind"
    log = (world.folder / "server.log").read_text()
    assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def page(address, tmp_path_factory):
    """One browser for all tests; at the end, every address that it asked for was the server's."""
    from playwright.sync_api import sync_playwright

    asked, wrong = [], []
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=find_chromium(),
            headless=True,
            viewport={"width": 1400, "height": 1000},
            args=list(QUIET),
        )
        context.set_default_timeout(SOON)
        tab = context.pages[0]
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(address)
        tab.get_by_role("tab", name="Search").wait_for()
        yield tab
        context.close()
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((address, "data:", f"blob:{address}"))] == []
    assert wrong == []


def get(address, path, body=None, **headers):
    """(status, body, headers) of a request that urllib does not tidy up."""
    request = urllib.request.Request(
        address.rstrip("/") + path, body, headers={key.replace("_", "-"): value for key, value in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()


def empty(page, where):
    """Take away what is in an upload field."""
    remove = page.locator(f"#{where} button[aria-label='Clear']")
    if remove.count():
        remove.click()
        page.locator(f"#{where} input[type=file]").wait_for(state="attached")


def choose(page, where, path):
    """Put a file into an upload field, in place of what is there, and wait until it has arrived."""
    empty(page, where)
    page.locator(f"#{where} input[type=file]").set_input_files(str(path))
    page.locator(f"#{where}").get_by_text(path.name.split(".")[0]).first.wait_for()
    page.locator(f"#{where} button[aria-label='Clear']").wait_for()  # the name is there from the start, this once it arrived


def pixels(path, fps=10.0):
    return [picture.astype(int) for _, picture in play_frames(path, fps=fps)]


def save(address, source, target):
    status, body, _ = get(address, source if source.startswith("/") else f"/{source}")
    assert status == 200
    target.write_bytes(body)
    return target


def test_a_picture_finds_its_own_clip_which_plays_from_its_second(page, address, world, tmp_path):
    frame = next(picture for moment, picture in play_frames(world.clip, fps=100, start=MOMENT))
    Image.fromarray(frame).save(tmp_path / "frame.png")
    open_tab(page, "Search")
    choose(page, "search-file", tmp_path / "frame.png")
    page.locator("#search-into").get_by_text("pictures", exact=True).click()
    page.locator("#search-go").click()
    page.locator(".mm-card").first.wait_for()
    cards = page.locator(".mm-card").all()
    assert len(cards) == 6
    assert cards[0].locator(".mm-card-name").inner_text() == world.clip.name
    player = cards[0].locator("video")
    source = player.get_attribute("src")
    start = float(source.split("#t=")[1].split(",")[0])
    assert start == pytest.approx(MOMENT - 0.25, abs=0.26)
    assert start > 0.5
    page.wait_for_function("(v) => v.readyState >= 1", arg=player.element_handle())
    assert player.evaluate("(v) => v.currentTime") == pytest.approx(start, abs=0.05)
    player.evaluate("(v) => { v.muted = true; return v.play(); }")
    page.wait_for_function("([v, t]) => v.currentTime > t + 0.1", arg=[player.element_handle(), start])
    assert player.get_attribute("poster").startswith("data:image/jpeg")
    # A container that browsers do not play comes as a stretch of its own, from second 0; a link to outside not at all.
    foreign = page.locator(f".mm-card[data-id='{world.foreign.stem}'] video")
    assert "/corpus/cut" in foreign.evaluate("(v) => v.currentSrc || v.src")
    page.wait_for_function("(v) => v.readyState >= 1", arg=foreign.element_handle())
    assert foreign.evaluate("(v) => [v.currentTime, v.videoWidth, v.error]") == [0, 64, None]
    assert "leads out of the folder" in page.locator(".mm-card[data-id='zz_link']").inner_text()


def test_a_film_is_asked_by_its_sound(page, world):
    open_tab(page, "Search")
    choose(page, "search-file", world.clip)
    page.locator("#search-part").get_by_text("its sound").click()
    page.locator("#search-into").get_by_text("sound", exact=True).click()
    page.locator("#search-go").click()
    page.get_by_text(f"sound of {world.clip.name} → sound").wait_for()
    assert page.locator(".mm-card-name").first.inner_text() == world.clip.name


def test_a_film_comes_back_as_heatmap_film_and_map(page, address, world, tmp_path):
    open_tab(page, "Localize")
    choose(page, "localize-file", world.clip)
    page.locator("#localize-go").click()
    page.locator("#localize-view .mm-heat").wait_for()
    player = page.locator("#localize-out video")
    page.wait_for_function("(v) => v.readyState >= 1", arg=player.element_handle())
    assert player.evaluate("(v) => v.duration") == pytest.approx(1.6, abs=0.15)
    heat = save(address, player.get_attribute("src"), tmp_path / "heat.mp4")
    with av.open(str(heat)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        sound = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
        assert np.abs(sound).max() > 0.01
    assert "in 100% of the moments with sound" in page.locator("#localize-out").inner_text()
    maps = save(address, page.locator("#localize-out a", has_text="maps").get_attribute("href"), tmp_path / "heat.npz")
    _heat_is_drawn(world.clip, heat, maps)
    _point_and_compare(page, maps)
    findings = save(address, page.locator("#localize-out a", has_text="findings").get_attribute("href"), tmp_path / "heat.json")
    assert len(json.loads(findings.read_text())["windows"]) == len(np.load(maps)["times"])


def _heat_is_drawn(clip, heat, maps):
    """The film that came back is the clip with the heat of its maps laid over, and not the clip."""
    drawn, plain = pixels(heat), pixels(clip)
    assert abs(len(drawn) - len(plain)) <= 1
    with np.load(maps) as file:
        number = int(np.flatnonzero(file["states"] == "seen")[-1])  # pictures and maps come ten a second
        values = (file["maps"][number].astype(np.float32) - file["heat_from"]) / (file["heat_full"] - file["heat_from"])
        side = drawn[0].shape[1]
        geometry = {"offset": float(file["grid_offset"]), "stride": float(file["grid_stride"])}
        place = Placement(values.shape, **geometry, seen=tuple(file["input_size"]), shown=(side, side))
    large = cv2.resize(plain[number].astype(np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
    wanted = overlay(large, place(np.clip(values, 0, 1))).astype(int)
    shown = drawn[number][:side]
    assert np.abs(shown - wanted).mean() < 8
    assert np.abs(shown - large).mean() > 3 * np.abs(shown - wanted).mean()


def _point_and_compare(page, maps):
    """Move the slider and the mouse; what is shown is what the file of maps holds, by the formula of the cells' places."""
    with np.load(maps) as file:
        told = {key: file[key] for key in file.files}
    page.locator("#localize-moment input[type=number]").fill("0.8")
    page.keyboard.press("Enter")
    page.get_by_text("Frame at 0:00.8").first.wait_for()
    number = int(np.abs(told["times"] - 0.8).argmin())
    picture = page.locator(".mm-heat-picture img")
    picture.scroll_into_view_if_needed()
    box, grid = picture.bounding_box(), told["maps"].shape[1:]
    output, seen = page.locator(".mm-heat-value"), set()
    for share_x, share_y in ((0.02, 0.03), (0.31, 0.52), (0.77, 0.4), (0.98, 0.97)):
        page.mouse.move(box["x"] + share_x * box["width"], box["y"] + share_y * box["height"])
        row, column = (
            min(max(round((share * size - 0.5 - float(told["grid_offset"])) / float(told["grid_stride"])), 0), cells - 1)
            for share, size, cells in zip((share_y, share_x), told["input_size"], grid, strict=True)
        )
        cosine = float(told["maps"][number, row, column])
        heat = min(max((cosine - float(told["heat_from"])) / (float(told["heat_full"]) - float(told["heat_from"])), 0.0), 1.0)
        page.get_by_text(f"Row {row + 1}, column {column + 1}:").wait_for()
        words = output.inner_text()
        assert float(words.split("heat ")[1].split(",")[0]) == pytest.approx(heat, abs=1.1e-3)
        assert float(words.split("similarity ")[1]) == pytest.approx(cosine, abs=1.1e-3)
        seen.add((row, column))
    assert len(seen) == 4
    page.locator(".mm-heat-picture").focus()
    page.keyboard.press("ArrowUp")
    page.get_by_text(f"Row {grid[0] - 1}, column {grid[1]}:").wait_for()


def capsule(height, width, a, b, radius):
    """Pixels whose centre lies within `radius` of the line from a to b (x, y): the definition, point by point."""
    mask = np.zeros((height, width), np.uint8)
    across, down = b[0] - a[0], b[1] - a[1]
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5 - a[0], row + 0.5 - a[1]
            part = min(max((x * across + y * down) / (across**2 + down**2), 0.0), 1.0)
            mask[row, column] = math.hypot(x - part * across, y - part * down) <= radius
    return mask


def test_what_the_mouse_paints_is_followed_to_the_pixel(page, address, world, tmp_path):
    open_tab(page, "Track")
    choose(page, "track-file", world.clip)
    canvas = page.locator("#track-canvas canvas")
    canvas.wait_for()
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()

    def drag(a, b):
        scale = box["width"] / 64
        page.mouse.move(box["x"] + a[0] * scale, box["y"] + a[1] * scale)
        page.mouse.down()
        page.mouse.move(box["x"] + b[0] * scale, box["y"] + b[1] * scale)
        page.mouse.up()

    page.locator(".mm-size").evaluate("(input) => { input.value = 5; }")
    drag((2.3, 50.1), (60.2, 50.1))
    page.locator(".mm-undo").click()
    drag((16.3, 20.6), (40.2, 26.1))
    page.locator(".mm-object").select_option("2")
    drag((30.4, 45.2), (50.7, 45.2))
    page.locator("#track-go").click()
    player = page.locator("#track-out video")
    player.wait_for()
    archive = save(address, page.locator("#track-out a", has_text="masks").get_attribute("href"), tmp_path / "masks.zip")
    with zipfile.ZipFile(archive) as held:
        masks = [Image.open(io.BytesIO(held.read(name))) for name in sorted(held.namelist())]
        arrays = [np.asarray(mask) for mask in masks]
    assert {mask.mode for mask in masks} == {"P"}
    assert len(arrays) == len(pixels(world.clip, fps=25.0))
    wanted = np.maximum(capsule(64, 64, (16.3, 20.6), (40.2, 26.1), 5), 2 * capsule(64, 64, (30.4, 45.2), (50.7, 45.2), 5))
    assert (arrays[0] != wanted).sum() <= 2, "a pixel centre may lie on the edge, where the screen's own rounding decides"
    assert set(np.unique(arrays[0])) == {0, 1, 2}
    overlay = save(address, player.get_attribute("src"), tmp_path / "overlay.mp4")
    painted, plain = pixels(overlay)[0], pixels(world.clip)[0]
    moved = np.abs(painted - plain).max(axis=2)
    assert np.median(moved[wanted > 0]) > 4 * np.median(moved[wanted == 0]) + 10
    with av.open(str(overlay)) as container:
        assert len(container.streams.audio) == 1


def problem(page, where):
    alert = page.locator(f"#{where} [role=alert]")
    alert.wait_for()
    return alert.inner_text()


def test_a_job_is_cancelled_and_the_next_begins_at_once(page, world, tmp_path):
    """Time and again: a click right after "Cancelled." was passed over where the cancelled job had not come to its end.

    The film is long, so that its job cannot have ended by itself before a click of a slow browser arrives.
    """
    make_clip(tmp_path / "long.mp4", seed=3, index=0, difficulty=replace(PRESETS["easy"], size=64, seconds=30.0))
    open_tab(page, "Localize")
    choose(page, "localize-file", tmp_path / "long.mp4")
    page.locator("#localize-sources input[type=number]").fill("4")
    page.keyboard.press("Enter")
    out = page.locator("#localize-out")
    for _ in range(4):
        page.locator("#localize-go").click()
        out.get_by_text("listening").or_(out.get_by_text("drawing")).first.wait_for()
        page.locator("#localize-stop").click()
        out.get_by_text("Cancelled.").wait_for()
        assert out.locator("video").count() == 0
    choose(page, "localize-file", world.clip)
    page.locator("#localize-go").click()
    out.locator("video").wait_for()
    page.locator("#localize-stop").click()  # nothing is under way: what was found stays
    page.wait_for_timeout(1000)
    assert out.locator("video").count() == 1


def test_bad_files_are_told_in_words(page, world, tmp_path):
    (tmp_path / "text.mp4").write_text("this is no film")
    make_film(tmp_path / "mute.mp4", frames=10)
    open_tab(page, "Localize")
    for name, why in (
        ("text.mp4", "It is no picture, film or sound that can be read"),
        ("mute.mp4", "has no sound; there is nothing to localize"),
    ):
        choose(page, "localize-file", tmp_path / name)
        page.locator("#localize-go").click()
        page.locator("#localize-out [role=alert]").get_by_text(why).wait_for()
    Image.new("L", (10, 10), 1).save(tmp_path / "small.png")
    open_tab(page, "Track")
    choose(page, "track-file", world.clip)
    choose(page, "track-mask", tmp_path / "small.png")
    page.locator("#track-go").click()
    assert "small.png is 10 x 10 pixels, the frames are 64 x 64" in problem(page, "track-out")
    for name, content, why in (
        ("large.mp4", bytes(1_100_000), "large.mp4 has 1.1 MB, this page takes up to 1; cut the file"),
        ("zero.mp4", b"", "zero.mp4 is empty (0 bytes)"),
    ):
        (tmp_path / name).write_bytes(content)
        empty(page, "track-mask")
        page.locator("#track-mask input[type=file]").set_input_files(str(tmp_path / name))
        page.locator("#mm-upload-problem").get_by_text(why).wait_for()


def test_fields_have_names_and_the_page_works_by_keyboard(page):
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('input, select, textarea, canvas')].filter((field) => !(
            field.getAttribute('aria-label') || field.labels?.length || field.title || field.type === 'file' || field.hidden)).map((field) => field.outerHTML)"""
    )
    assert nameless == []
    open_tab(page, "Search")
    page.locator("#search-file button, #search-file [tabindex]").first.focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#search-go') !== null"):
            break
    else:
        raise AssertionError("the button cannot be reached by the Tab key")


OUTSIDE = [
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=../../../../etc/passwd",
    "/gradio_api/file=%2e%2e/%2e%2e/etc/passwd",
    "/gradio_api/file=//etc/passwd",
    "/gradio_api/file=FOLDER/run/config.yaml",
    "/gradio_api/file=FOLDER/clips/secret.txt",
    "/gradio_api/file=FOLDER/clips/clip_000000.mp4",
    "/gradio_api/file=server.log",
    "/gradio_api/file=.bashrc",
    "/file=/etc/passwd",
    "/assets/..%2f..%2f..%2fetc/passwd",
    "/static/..%2f..%2f..%2fetc/passwd",
    "/corpus/file?id=../run/config.yaml",
    "/corpus/file?id=secret",
    "/corpus/file?id=secret.txt",
    "/corpus/file?id=/etc/passwd",
    "/corpus/file?id=nothing",
    "/corpus/file?id=zz_link",
    "/corpus/cut?id=nothing&start=0&end=1",
    "/corpus/cut?id=zz_link&start=0&end=1",
    "/results/x/heat.mp4",
    "/results/../results/x/heat.mp4",
    "/results/..%2f..%2fetc/passwd",
]


def test_nothing_outside_of_the_corpus_is_served(address, world):
    for path in OUTSIDE:
        status, body, _ = get(address, path.replace("FOLDER", str(world.folder)))
        assert status in (403, 404), path
        assert b"root:" not in body and b"secret" not in body.replace(b"secret.txt", b""), path
    name = world.clip.stem
    status, body, headers = get(address, f"/corpus/file?id={name}", Range="bytes=4-7")
    assert (status, body) == (206, b"ftyp")
    assert headers["content-type"] == "video/mp4"
    assert get(address, f"/corpus/file?id={name}")[1] == world.clip.read_bytes()
    assert get(address, f"/corpus/file?id={name}", Host="evil.example")[0] == 400
    assert get(address, f"/corpus/file?id={name}", Origin="http://evil.example")[0] == 403
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n' + bytes(1_100_000) + b"\r\n--x--\r\n"
    assert get(address, "/gradio_api/upload", form, Content_Type="multipart/form-data; boundary=x")[0] == 413
    for path in ("/etc/passwd", str(world.clips / "secret.txt"), str(world.clip)):  # as a request that the page never makes
        for number in range(12):
            forged = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}], "fn_index": number, "session_hash": "me"}
            assert get(address, "/gradio_api/queue/join", json.dumps(forged).encode(), Content_Type="application/json")[0] == 403
    for start, end in (("0", "1000"), ("2", "1"), ("nan", "nan"), ("-1", "1"), ("1e9", "1e9")):
        assert get(address, f"/corpus/cut?id={name}&start={start}&end={end}")[0] in (400, 422)
