"""The page: three tabs, its own style and script, nothing from anywhere else."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import Any

import gradio as gr
from gradio.themes import Base

from mmssl.app.limits import Limits
from mmssl.app.localize_tab import localize_tab
from mmssl.app.room import Room
from mmssl.app.search_tab import search_tab
from mmssl.app.track_tab import track_tab

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "monospace")
WAITING = 20  # jobs in the queue
SWEEP, OLD = 600, 3600  # seconds: how often uploads are looked over, and how old they get


def build_page(room: Room, title: str) -> gr.Blocks:
    """The tabs, in the order in which most people will want them."""
    with gr.Blocks(title=f"mmssl – {title}", analytics_enabled=False, delete_cache=(SWEEP, OLD)) as page:
        gr.HTML(
            f'<header class="mm-head"><h1>mmssl</h1><p>Model {html.escape(title)}. Files up to {room.limits.max_mb:g} MB and '
            f"{room.limits.max_seconds:g} s; uploads and results are deleted when the server stops.</p></header>"
        )
        with gr.Tabs():
            with gr.Tab("Search", id="search"):
                search_tab(room)
            with gr.Tab("Localize", id="localize"):
                localize_tab(room)
            with gr.Tab("Track", id="track"):
                track_tab(room)

        def leave(request: gr.Request) -> None:
            room.jobs.cancel(str(request.session_hash))

        page.unload(leave)
    page.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    return page


def dressing(limits: Limits) -> dict[str, Any]:
    """Style and script, as `gradio.mount_gradio_app` takes them."""
    here = files("mmssl.app")
    settings = json.dumps({"maxBytes": limits.max_bytes, "maxMb": limits.max_mb})
    script = f"<script>window.mmssl = {settings};\n{(here / 'page.js').read_text(encoding='utf-8')}</script>"
    theme = Base(font=FONTS, font_mono=MONO, primary_hue="indigo", neutral_hue="slate")
    return {"theme": theme, "css": (here / "page.css").read_text(encoding="utf-8"), "head": script}
