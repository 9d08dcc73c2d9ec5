"""The one way to files of the corpus: an id that stands in the index's table, and a place within the folder that was indexed."""

from __future__ import annotations

from pathlib import Path

from mmssl.data.container import open_media, picture_stream, sound_stream
from mmssl.data.shards import find_member
from mmssl.downstream.search.filters import one_of
from mmssl.downstream.search.store import FILES, Store
from mmssl.types import MediaError

# What browsers play: containers as libav names them, and codecs in them.
_MP4 = ({"h264"}, {"aac", "mp3"})
_WEBM = ({"vp8", "vp9", "av1"}, {"opus", "vorbis"})
_PLAYED = {
    ".mp4": ("video/mp4", *_MP4),
    ".m4v": ("video/mp4", *_MP4),
    ".m4a": ("audio/mp4", set(), {"aac"}),
    ".webm": ("video/webm", *_WEBM),
    ".mp3": ("audio/mpeg", set(), {"mp3"}),
    ".wav": ("audio/wav", set(), {"pcm_s16le", "pcm_u8"}),
    ".ogg": ("audio/ogg", set(), {"vorbis", "opus"}),
    ".opus": ("audio/ogg", set(), {"opus"}),
    ".flac": ("audio/flac", set(), {"flac"}),
}
_PIXELS = {"yuv420p", "yuvj420p"}
LATE = 0.02  # seconds: a browser counts from the first stamp as written, the index from where the film begins


class NotServed(Exception):  # noqa: N818 - says what happens
    """The file is not one that may be seen."""


class Corpus:
    """The files of an index."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.root = Path(store.about["root"]).resolve()

    def place(self, name: str) -> Path:
        """Where the file of an id lies, links followed.

        Raises:
            NotServed: no such id in the index, the file is gone, or it lies outside of the folder that was indexed.
        """
        rows = self._store.table(FILES).search().where(one_of("id", [name])).limit(1).to_list()
        if not rows:
            raise NotServed("no such file in the index")
        path = (self.root / rows[0]["path"]).resolve()
        if not path.is_relative_to(self.root):
            raise NotServed("the file is a link that leads out of the folder of the index")
        member = find_member(path)
        if not (path if member is None else member.shard).is_file():
            raise NotServed("the file is gone since it was indexed")
        return path


def media_type(path: Path) -> str | None:
    """The type of a file that browsers play as it is; None where they do not, or where their clock would not be the index's.

    Raises:
        MediaError: it cannot be read.
    """
    known = _PLAYED.get(path.suffix.lower())
    if known is None or not path.is_file():
        return None
    kind, pictures, sounds = known
    with open_media(path) as container:
        if abs(container.start_time or 0) / 1_000_000 > LATE:
            return None
        video, audio = picture_stream(container), sound_stream(container)
        if video is None and audio is None:
            return None
        if video is not None:
            context = video.codec_context
            if context.codec.canonical_name not in pictures or context.pix_fmt not in _PIXELS:
                return None
        if audio is not None and audio.codec_context.codec.canonical_name not in sounds:
            return None
        return kind if video is not None or not kind.startswith("video") else kind.replace("video", "audio")


def playable(path: Path) -> str | None:
    """`media_type`, and None for what cannot be read."""
    try:
        return media_type(path)
    except MediaError:
        return None
