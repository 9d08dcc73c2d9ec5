"""Pictures of the page for docs/app.md: each tab driven in a headless Chromium with a clip, as a visitor would.

Example: python tools/picture_of_app.py runs/av clips.search runs/walk clips/clip_000003.mp4 --at 0.6 --thing 60 44 --out docs/pictures
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

MOST = 300_000  # bytes of a picture
WAIT = 600_000  # milliseconds for a job
QUIET = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="that localizes")
    parser.add_argument("db", type=Path, help="index of `mmssl search index`")
    parser.add_argument("track", type=Path, help="run that tracks")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--at", type=float, default=0.6, help="seconds at which the map is shown")
    parser.add_argument("--thing", type=float, nargs=2, default=(0.5, 0.5), help="where to paint, x and y as shares of the frame")
    parser.add_argument("--point", type=float, nargs=2, default=(0.5, 0.5), help="where to point in the map, as shares")
    parser.add_argument("--brush", type=int, default=12, help="radius in pixels of the film")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    given = parser.parse_args()
    command = [sys.executable, "-m", "mmssl", "app", str(given.run), "--search", str(given.db), "--track", str(given.track)]
    with (
        subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as server,
        sync_playwright() as playwright,
    ):
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found, "the server did not start"
            with tempfile.TemporaryDirectory() as profile:
                context = playwright.chromium.launch_persistent_context(
                    profile,
                    executable_path=shutil.which("chromium"),
                    headless=True,
                    viewport={"width": 1280, "height": 800},
                    args=QUIET,
                )
                context.set_default_timeout(WAIT)
                page = context.pages[0]
                page.goto(found[0])
                for draw in (search, localize, track):
                    draw(page, given)
                    shoot(page, given.out / f"app-{draw.__name__}.png")
                context.close()
        finally:
            server.terminate()


def search(page: Page, given: Any) -> None:
    """Sounds that go with a clip's picture."""
    begin(page, "Search", "search-file", given.clip)
    page.locator("#search-count input[type=number]").fill("6")
    page.locator("#search-go").click()
    page.locator(".mm-card video").first.wait_for()
    page.wait_for_function("() => [...document.querySelectorAll('.mm-card video')].every((video) => video.readyState >= 1)")
    page.wait_for_timeout(2000)  # until the players have taken their wheels away


def localize(page: Page, given: Any) -> None:
    """The heatmap film at a moment, and the pointer in the map of the same."""
    begin(page, "Localize", "localize-file", given.clip)
    page.locator("#localize-go").click()
    page.locator("#localize-view .mm-heat").wait_for()
    page.locator("#localize-moment input[type=number]").fill(str(given.at))
    page.keyboard.press("Enter")
    page.get_by_text(f"Frame at 0:0{given.at:.1f}").first.wait_for()
    show_moment(page, "#localize-out video", given.at)
    box = page.locator(".mm-heat-picture img").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + given.point[0] * box["width"], box["y"] + given.point[1] * box["height"])


def track(page: Page, given: Any) -> None:
    """A thing painted, and the film in which it is followed, half a second before its end."""
    begin(page, "Track", "track-file", given.clip)
    canvas = page.locator("#track-canvas canvas")
    canvas.wait_for()
    page.locator(".mm-object").select_option("2")
    page.locator(".mm-size").evaluate("(input, value) => { input.value = value; }", given.brush)
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + given.thing[0] * box["width"], box["y"] + given.thing[1] * box["height"])
    page.mouse.down()
    page.mouse.up()
    page.locator("#track-go").click()
    page.locator("#track-out video").wait_for()
    show_moment(page, "#track-out video", 1.0)


def begin(page: Page, tab: str, field: str, clip: Path) -> None:
    """Open a tab and choose the clip."""
    page.get_by_role("tab", name=tab).click()
    page.locator(f"#{field} input[type=file]").set_input_files(str(clip))
    page.locator(f"#{field} button[aria-label='Clear']").wait_for()


def show_moment(page: Page, where: str, seconds: float) -> None:
    """Let a player show a moment, without its buttons over the picture."""
    page.locator(where).evaluate(
        """(video, seconds) => new Promise((done) => {
            video.controls = false;
            video.onseeked = () => requestAnimationFrame(done);
            video.currentTime = seconds;
        })""",
        seconds,
    )


def shoot(page: Page, out: Path) -> None:
    """The whole page in few enough bytes."""
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)
    page.screenshot(path=out, full_page=True)
    image = np.asarray(Image.open(out).convert("RGB"))
    for step in (1, 2, 4, 8):  # fewer levels a colour: less to compress, and no palette that would fade the small coloured things
        fewer = np.where(image == 255, 255, image // step * step + step // 2).astype(np.uint8)
        Image.fromarray(fewer).save(out, optimize=True)
        if out.stat().st_size <= MOST:
            break
    print(f"{out}: {image.shape[1]} x {image.shape[0]}, {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
