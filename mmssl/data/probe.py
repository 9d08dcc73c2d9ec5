"""Probing one file: which streams can be decoded, when they really begin and end, how loud the sound is, what is said.

Headers are not believed: a file of ours claims 143,165 s and holds four. The file is read once from beginning to end; the first
picture and all of the sound are decoded, of other pictures only the time stamps are read, unless motion is measured. Runs in a worker
(`probe_pool`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import av.error
from av.container import InputContainer

from mmssl.data.container import clock_start, open_media, picture_stream, sound_stream
from mmssl.data.probe_streams import PictureProbe, SoundProbe
from mmssl.data.shards import look_up
from mmssl.data.subtitle_tracks import TrackReader, text_tracks
from mmssl.data.subtitles import read_subtitles, tidy
from mmssl.data.walk import EMPTY, reason_of
from mmssl.types import Cue, MediaError, Span

PROBE_VERSION = 1  # part of what a manifest's row was made from: raise it when facts change
WHOLE_BELOW = 256 << 20  # bytes up to which a file is read to its end even where neither loudness, motion nor captions ask for it
TAIL_SECONDS = 20.0  # how far before the end that the header claims the tail of a larger file is looked at

NOT_MEDIA = "not media, encrypted, or its header is damaged"
CUT_OFF = "cut off: it ends before its header does"
NO_STREAM = "neither picture nor sound in it"
UNDECODABLE = "neither picture nor sound can be decoded"
PICTURE_UNDECODABLE = "the picture cannot be decoded"


@dataclass(slots=True)
class Facts:
    """What a manifest's row says about a file's content. Times in seconds on the presentation clock."""

    reason: str | None = None
    notes: list[str] = field(default_factory=list)
    fps: float = 0.0
    width: int = 0
    height: int = 0
    video: tuple[float, float] | None = None
    audio: tuple[float, float] | None = None
    cues: tuple[Cue, ...] = ()
    cues_from: str = ""
    loudness: list[float] = field(default_factory=list)
    motion: list[float] = field(default_factory=list)


def probe(path: str, sidecars: Sequence[str] = (), loudness: bool = True, motion: bool = False) -> dict[str, Any]:
    """Facts of the file at `path` as JSON values. What is wrong with a file is a `reason`, never an exception.

    Args:
        path: the media file.
        sidecars: paths of its subtitle files, best first; the first that holds any cue is taken, before embedded tracks.
        loudness: decode all of the sound and measure its level; otherwise one second of it is decoded as a trial.
        motion: decode all of the picture and measure how much it changes; otherwise one frame of it is decoded as a trial.
    """
    try:
        facts = _probe(Path(path), [Path(sidecar) for sidecar in sidecars], loudness, motion)
    except MediaError as error:
        facts = Facts(reason=_reason(error))
    except OSError as error:
        facts = Facts(reason=reason_of(error))
    return asdict(facts)


def _probe(path: Path, sidecars: Sequence[Path], loudness: bool, motion: bool) -> Facts:
    size = look_up(path).size
    if size == 0:
        return Facts(reason=EMPTY)
    facts = Facts()
    with open_media(path) as container:
        start = clock_start(container)
        picture = PictureProbe.of(picture_stream(container), start, motion=motion)
        sound = SoundProbe.of(sound_stream(container), start, measure=loudness)
        _note_streams_without_decoder(container, facts)
        if picture is None and sound is None:
            return Facts(reason=UNDECODABLE if facts.notes else NO_STREAM, notes=facts.notes)
        given = _read_sidecars(sidecars, facts)
        tracks = [] if given else [TrackReader(track, start) for track in text_tracks(container)]
        whole = loudness or motion or bool(tracks) or size <= WHOLE_BELOW
        if not (whole or _read_ends(container, picture, sound)):
            whole = True
        if whole:
            _read_whole(container, picture, sound, tracks, facts)
        _conclude(facts, container, picture, sound)
    if facts.reason is None:
        end = max(span[1] for span in (facts.video, facts.audio) if span is not None)
        _choose_cues(facts, given, tracks, end)
    return facts


def _read_whole(
    container: InputContainer, picture: PictureProbe | None, sound: SoundProbe | None, tracks: Sequence[TrackReader], facts: Facts
) -> None:
    readers = {reader.stream.index: reader for reader in (picture, sound, *tracks) if reader is not None}
    try:
        for packet in container.demux(*[reader.stream for reader in readers.values()]):
            readers[packet.stream.index].take(packet)
    except av.error.FFmpegError as error:
        # What came before is good. ffmpeg, too, stops reading at such an error.
        facts.notes.append(f"damaged: reading stops early ({type(error).__name__})")
        for reader in (picture, sound):
            if reader is not None:
                reader.damaged = True


def _read_ends(container: InputContainer, picture: PictureProbe | None, sound: SoundProbe | None) -> bool:
    """Read the beginning and the tail of a large file. False where the tail cannot be found: its header's duration is no guide."""
    readers = {reader.stream.index: reader for reader in (picture, sound) if reader is not None}
    streams = [reader.stream for reader in readers.values()]
    if container.duration is None:
        return False

    def read(packets: int) -> int:
        count = 0
        for packet in container.demux(*streams):
            if packet.size:
                readers[packet.stream.index].take(packet)
                count += 1
            if count >= packets and all(reader.decided for reader in readers.values()):
                break
        return count

    try:
        read(200)
        for reader in readers.values():
            reader.skipped = True
        claimed = (container.start_time or 0) + container.duration
        container.seek(max(0, claimed - int(TAIL_SECONDS * 1e6)))
        return read(1 << 62) > 0
    except av.error.FFmpegError:
        return False
    finally:
        container.seek(container.start_time or 0)


def _conclude(facts: Facts, container: InputContainer, picture: PictureProbe | None, sound: SoundProbe | None) -> None:
    if sound is not None:
        sound.finish()
        facts.notes += sound.notes
        if sound.span is not None:
            facts.audio, facts.loudness = _rounded(sound.span), sound.levels
    if picture is not None:
        picture.finish(container)
        facts.notes += picture.notes
        if picture.span is None:
            facts.reason = PICTURE_UNDECODABLE if facts.audio is not None or sound is None else UNDECODABLE
            return
        facts.video, facts.fps = _rounded(picture.span), picture.fps
        facts.width, facts.height = picture.size
        facts.motion = picture.motion
    if facts.video is None and facts.audio is None:
        facts.reason = UNDECODABLE


def _note_streams_without_decoder(container: InputContainer, facts: Facts) -> None:
    """Streams that this build of libav cannot decode: their file may look silent or blind, and someone will ask why."""
    for kind, word in (("video", "picture"), ("audio", "sound")):
        streams = [stream for stream in container.streams if stream.type == kind]
        if streams and all(stream.codec_context is None for stream in streams):
            facts.notes.append(f"no decoder for its {word}")


def _read_sidecars(sidecars: Sequence[Path], facts: Facts) -> tuple[str, tuple[Cue, ...]] | None:
    for sidecar in sidecars:
        try:
            cues = read_subtitles(sidecar)
        except MediaError:
            facts.notes.append("a subtitle file beside it cannot be read")
            continue
        if cues:
            return sidecar.name, cues
        facts.notes.append("a subtitle file beside it holds no caption")
    return None


def _choose_cues(facts: Facts, given: tuple[str, tuple[Cue, ...]] | None, tracks: Sequence[TrackReader], end: float) -> None:
    if given is not None:
        name, cues = given
        facts.cues, facts.cues_from = tidy(cues, end=end), name
        if len(facts.cues) < len(cues):
            facts.notes.append("captions outlast picture and sound")
    for track in tracks:
        facts.cues = track.cues(end)
        if facts.cues:
            facts.cues_from = "embedded"
            return


def _rounded(span: Span) -> tuple[float, float]:
    return round(span.start, 6), round(span.end, 6)


def _reason(error: MediaError) -> str:
    cause = error.__cause__
    if isinstance(cause, av.error.InvalidDataError):
        return NOT_MEDIA
    if isinstance(cause, EOFError):
        return CUT_OFF
    if isinstance(cause, MemoryError):
        return "damaged: it asks for more memory than there is"
    if isinstance(cause, OSError):
        return reason_of(cause)
    return f"cannot be decoded ({type(cause or error).__name__})"
