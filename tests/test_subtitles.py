from __future__ import annotations

import math
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl.data.subtitle_text import parse_ass, parse_srt, parse_vtt, plain_text
from mmssl.data.subtitle_tracks import TrackReader, text_tracks
from mmssl.data.subtitles import LARGEST, decode_text, parse_align, read_subtitles, tidy
from mmssl.types import Cue, MediaError


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# --- SubRip ----------------------------------------------------------------------------------------------------------------


def test_srt_with_markup_settings_and_blank_lines(tmp_path):
    path = write(
        tmp_path,
        "a.srt",
        '1\r\n00:00:01,000 --> 00:00:02,500 X1:40 X2:600\r\n<i>Hello</i> <font color="#ff0000">you</font>\r\nthere\r\n\r\n'
        "2\r\n00:00:03,000 --> 00:00:04,000\r\n{\\an8}first\r\n\r\nafter an empty line\r\n\r\n"
        "3\r\n00:00:05,000 --> 00:00:06,000\r\n5 &lt; 6 &amp; 3 > 2\r\n",
    )
    assert read_subtitles(path) == (
        Cue(1.0, 2.5, "Hello you there"),
        Cue(3.0, 4.0, "first after an empty line"),
        Cue(5.0, 6.0, "5 < 6 & 3 > 2"),
    )


def test_srt_tells_counters_from_numbers_that_are_said():
    text = "1\n00:00:01,000 --> 00:00:02,000\n1984\n\n2\n00:00:03,000 --> 00:00:04,000\nThe year\n3\n00:00:05,000 --> 00:00:06,000\n\n4\n00:00:07,000 --> 00:00:08,000\n2001\n"
    assert parse_srt(text) == [Cue(1, 2, "1984"), Cue(3, 4, "The year"), Cue(5, 6, ""), Cue(7, 8, "2001")]


@pytest.mark.parametrize(
    ("line", "times"),
    [
        ("00:00:5,000 --> 00:00:6,000", (5.0, 6.0)),
        ("00:00:00,1 --> 00:00:04", (0.1, 4.0)),  # a fraction is a decimal fraction; it may be missing
        ("0:0:1.5-->0:0:2.25", (1.5, 2.25)),
        ("01:02.500 --> 01:03.000", (62.5, 63.0)),
        ("100:00:00,000 --> 100:00:01,000", (360000.0, 360001.0)),
        ("-00:00:01,000 --> 00:00:01,000", (-1.0, 1.0)),
    ],
)
def test_times_that_are_written_loosely(line, times):
    (cue,) = parse_srt(f"1\n{line}\nx\n")
    assert (cue.start, cue.end) == times


def test_a_cue_with_unreadable_times_goes_alone():
    text = "1\n00:00:01,000 --> 00:00:02,000\nfirst\n\n2\n00:0x:03,000 --> 00:00:04,000\nlost\n\n3\n00:00:05,000 --> 00:00:06,000\nthird\n"
    assert parse_srt(text) == [Cue(1, 2, "first"), Cue(5, 6, "third")]
    assert parse_vtt("WEBVTT\n\n" + text.replace(",", ".")) == [Cue(1, 2, "first"), Cue(5, 6, "third")]


def test_webvtt_under_the_wrong_suffix():
    assert parse_srt("\ufeffWEBVTT\n\n00:01.000 --> 00:02.000\na\n\nNOTE b\n\n00:03.000 --> 00:04.000\nc\n") == [
        Cue(1, 2, "a"),
        Cue(3, 4, "c"),
    ]


# --- WebVTT ----------------------------------------------------------------------------------------------------------------


def test_vtt_without_header_notes_styles_identifiers_settings_tags(tmp_path):
    path = write(
        tmp_path,
        "a.vtt",
        "WEBVTT - a title\nKind: captions\nLanguage: en\n\nSTYLE\n::cue { color: red }\n\nREGION\nid:fred\n\n"
        "NOTE a comment\nover two lines\n\nintro-1\n00:01.000 --> 00:02.000 line:80% align:start\n<v Mary Ann>Hello</v> &amp; <c.loud.x>welcome</c>\n\n"
        "00:00:02.500 --> 00:00:03.500\n- One\n- <b>Two</b>\n\nNOTE 00:00 is not a time\n\n"
        "00:00:04.000 --> 00:00:05.000\n<ruby>漢<rt>kan</rt>字<rt>ji</rt></ruby>&lrm;\n",
    )
    assert read_subtitles(path) == (Cue(1.0, 2.0, "Hello & welcome"), Cue(2.5, 3.5, "- One - Two"), Cue(4.0, 5.0, "漢字"))


def test_vtt_metadata_is_no_caption():
    text = 'WEBVTT\n\n00:01.000 --> 00:02.000\n{"lat": 1.5}\n\n00:02.000 --> 00:03.000\n{\n"title": "broken JSON",\n}\n\n00:03.000 --> 00:04.000\n{sighs}\n'
    assert parse_vtt(text) == [Cue(3, 4, "{sighs}")]


def test_rolling_captions_say_each_line_once():
    # The form of speech recognition on video sites: two lines, of which the first was shown before; inline times; holding cues.
    text = (
        "WEBVTT\nKind: captions\n\n"
        "00:00:00.000 --> 00:00:02.000 align:start position:0%\n \nso<00:00:00.500><c> today</c>\n\n"
        "00:00:02.000 --> 00:00:02.010 align:start position:0%\nso today\n \n\n"
        "00:00:02.010 --> 00:00:04.000 align:start position:0%\nso today\nwe<00:00:02.500><c> cook</c>\n\n"
        "00:00:04.000 --> 00:00:04.010 align:start position:0%\nwe cook\n \n\n"
        "00:00:09.000 --> 00:00:10.000\nwe cook\n"
    )
    assert tidy(parse_vtt(text)) == (Cue(0.0, 2.0, "so today"), Cue(2.01, 4.0, "we cook"), Cue(9.0, 10.0, "we cook"))


def test_repeats_in_a_file_without_inline_times_are_kept():
    text = "WEBVTT\n\n00:00.000 --> 00:01.000\nna na\n\n00:01.000 --> 00:02.000\nna na\n"
    assert parse_vtt(text) == [Cue(0, 1, "na na"), Cue(1, 2, "na na")]


# --- SubStation ------------------------------------------------------------------------------------------------------------

ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname
Style: Default,Arial

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\i1}Hello{\\i0}, you\\Nthere\\hnow
Comment: 0,0:00:02.00,0:00:03.00,Default,,0,0,0,,not shown
Dialogue: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,{\\k20}ka{\\k30}ra{\\k25}oke
Dialogue: 0,0:00:04.00,0:00:05.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100{\\p0}
Dialogue: 0,0:00:0x.00,0:00:05.00,Default,,0,0,0,,broken
Dialogue: 1,0:00:06.00,0:00:06.04,Default,,0,0,0,,{\\pos(1,1)}SIGN
Dialogue: 0,0:00:06.00,0:00:06.04,Default,,0,0,0,,{\\pos(1,1)\\blur2}SIGN
Dialogue: 0,0:00:06.04,0:00:06.08,Default,,0,0,0,,{\\pos(2,1)}SIGN
Dialogue: 0,0:00:08.00,0:00:08.50,Default,,0,0,0,,SIGN
"""
ASS_CUES = [Cue(1.0, 2.5, "Hello, you there now"), Cue(3.0, 4.0, "karaoke"), Cue(6.0, 6.08, "SIGN"), Cue(8.0, 8.5, "SIGN")]


def test_ass_dialogue_without_tags_drawings_comments_and_typeset_repeats():
    assert parse_ass(ASS) == ASS_CUES


def test_ass_fields_go_by_the_format_line():
    text = "[Events]\nFormat: Marked, Start, End, Style, Text\nDialogue: Marked=0,0:00:01.00,0:00:02.00,Default,one, two\n"
    assert parse_ass(text) == [Cue(1.0, 2.0, "one, two")]


# --- GRID alignments -------------------------------------------------------------------------------------------------------


def test_align_gives_one_cue_for_each_word():
    text = "0 23750 sil\n23750 29500 bin\n29500 34000 blue\n34000 34500 sp\nbroken line here\n35500 41000 f\n41000 74500 sil\n"
    assert parse_align(text) == [Cue(0.95, 1.18, "bin"), Cue(1.18, 1.36, "blue"), Cue(1.42, 1.64, "f")]


# --- the rule --------------------------------------------------------------------------------------------------------------


def test_tidy_orders_clips_and_drops():
    cues = [
        Cue(5.0, 7.0, "two speak"),
        Cue(6.0, 8.0, "at once"),  # overlap: kept
        Cue(-1.0, 1.0, "before the beginning"),
        Cue(9.5, 12.0, "over the end"),
        Cue(10.0, 11.0, "after the end"),
        Cue(3.0, 3.0, "no length"),
        Cue(4.0, 3.0, "backwards"),
        Cue(5.0, 7.0, "two speak"),  # exact repeat
        Cue(2.0, 3.0, ""),
        Cue(math.nan, 3.0, "no time"),
        Cue(2.0, math.inf, "no end"),
    ]
    assert tidy(cues, end=10.0) == (
        Cue(0.0, 1.0, "before the beginning"),
        Cue(5.0, 7.0, "two speak"),
        Cue(6.0, 8.0, "at once"),
        Cue(9.5, 10.0, "over the end"),
    )


@given(st.text())
def test_any_text_is_read_without_an_error_and_comes_out_plain(text):
    for parse in (parse_srt, parse_vtt, parse_ass, parse_align):
        for cue in tidy(
            parse("1\n00:00:01,000 --> 00:00:02,000\n" + text + "\n[Events]\nDialogue: 0,0:00:01.00,0:00:02.00," + text)
        ):
            assert cue.text == " ".join(cue.text.split()) != ""
            assert 0 <= cue.start < cue.end


@given(st.binary())
def test_any_bytes_become_text_or_a_named_error(content):
    try:
        assert isinstance(decode_text(content), str)
    except ValueError as error:
        assert "binary" in str(error)


def test_plain_text_keeps_what_only_looks_like_markup():
    assert plain_text("I <3 you, 5 < 6 and a>b") == "I <3 you, 5 < 6 and a>b"
    assert plain_text("&lt;video&gt; &quot;x&quot;\u00a0y\u200b") == '<video> "x" y'


# --- encodings -------------------------------------------------------------------------------------------------------------

FRENCH = "Où êtes-vous allés cet été ? Près de la forêt, là-bas. Ça m'a plu, c'était très gai, même à Noël.\n" * 3
RUSSIAN = "Сегодня мы приготовим суп из свежих овощей. Сначала нарежьте лук и морковь, потом добавьте воду.\n" * 3
JAPANESE = "今日は新鮮な野菜でスープを作ります。まず玉ねぎと人参を切って、それから水を入れてください。\n" * 3
GERMAN = "Wir müssen über die Brücke gehen, sagte der Mann. Schöne Grüße an die Mädchen – sie dürfen später kommen.\n" * 3
SPANISH = "¿Qué te trae aquí? ¿Por qué? Mañana cocinaremos una sopa. El niño comió más de lo que debía según él.\n" * 3
POLISH = "Dzisiaj ugotujemy zupę ze świeżych warzyw. Najpierw pokrój cebulę i marchew, później dodaj łyżkę soli.\n" * 3
CZECH = "Dnes uvaříme polévku z čerstvé zeleniny. Nejdříve nakrájejte cibuli a mrkev, pak přidejte lžíci soli, až.\n" * 3
TURKISH = "Bugün taze sebzelerden çorba yapacağız. Önce soğanı ve havucu doğrayın, sonra su ekleyin, karıştırın.\n" * 3
CHINESE = "今天我们用新鲜蔬菜做汤。先切洋葱和胡萝卜，然后加水和一勺盐，最后煮二十分钟。\n" * 3
KOREAN = "오늘은 신선한 야채로 수프를 만들겠습니다. 먼저 양파와 당근을 썰고 물을 넣으세요.\n" * 3
ARABIC = "اليوم سنطبخ حساء من الخضار الطازجة. أولا قطع البصل والجزر ثم أضف الماء والملح.\n" * 3
HEBREW = "היום נבשל מרק מירקות טריים. קודם חותכים את הבצל והגזר ואחר כך מוסיפים מים ומלח.\n" * 3
GREEK = "Σήμερα θα μαγειρέψουμε μια σούπα με φρέσκα λαχανικά. Πρώτα κόψτε το κρεμμύδι και το καρότο.\n" * 3


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (FRENCH, "utf-8"),
        (FRENCH, "utf-8-sig"),
        (FRENCH, "latin-1"),
        (FRENCH, "utf-16"),
        (FRENCH, "utf-16-le"),
        (FRENCH, "utf-16-be"),
        (FRENCH, "utf-32"),
        ("Voilà, c'est été.", "latin-1"),  # too short to guess: Windows-1252
        ("“Quoted” – dashed…", "cp1252"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (RUSSIAN, "utf-16"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (GREEK, "iso8859-7"),
        (GREEK, "cp1253"),
        (GERMAN, "cp1252"),
        (SPANISH, "latin-1"),
        (POLISH, "cp1250"),
        (CZECH, "cp1250"),
        (TURKISH, "cp1254"),
        (CHINESE, "gb18030"),
        (KOREAN, "euc_kr"),
        (ARABIC, "cp1256"),
        (HEBREW, "cp1255"),
    ],
)
def test_encodings(tmp_path, text, encoding):
    path = write(tmp_path, "a.srt", f"1\n00:00:01,000 --> 00:00:02,000\n{text}".encode(encoding))
    (cue,) = read_subtitles(path)
    assert cue.text == " ".join(text.split())


def test_one_damaged_byte_does_not_change_the_encoding():
    content = bytearray(RUSSIAN.encode())
    content[40] = 0xFF
    assert decode_text(bytes(content)).count("\N{REPLACEMENT CHARACTER}") <= 2
    assert "приготовим суп" in decode_text(bytes(content))


# --- files -----------------------------------------------------------------------------------------------------------------


def test_files_that_are_no_subtitles(tmp_path):
    with pytest.raises(MediaError, match="no such subtitle file"):
        read_subtitles(tmp_path / "none.srt")
    with pytest.raises(MediaError, match="no suffix of subtitles"):
        read_subtitles(write(tmp_path, "a.txt", "x"))
    with pytest.raises(MediaError, match="binary data"):
        read_subtitles(write(tmp_path, "b.srt", bytes(range(256)) + bytes(200)))
    large = tmp_path / "c.srt"
    with large.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(MediaError, match=str(LARGEST)):
        read_subtitles(large)
    assert read_subtitles(write(tmp_path, "d.srt", "")) == ()


def test_real_subtitle_files(media):
    """Counts of cues are those of lines with an arrow, but for the two files of metadata; texts were read by eye."""
    for path in sorted((media / "subtitled" / "orphan_subs").iterdir()):
        cues = read_subtitles(path)
        if path.name in ("html5rocks__treeOfLife-metadata-en.vtt", "samdutton__gbike.vtt"):
            assert cues == ()
            continue
        assert len(cues) == path.read_bytes().count(b"-->"), path.name
        assert not any("<c" in cue.text or "</" in cue.text or "&lt;" in cue.text for cue in cues)
    sub = media / "subtitled" / "orphan_subs"
    assert read_subtitles(sub / "Zulko__subtitles.srt")[2] == Cue(5.0, 6.0, "Green!")
    assert read_subtitles(sub / "johndyer__mediaelement.srt")[0] == Cue(
        0.1, 4.0, "HTML5 <video> and <audio> was supposed to be awesome, powerful, and fun."
    )
    assert read_subtitles(sub / "iandevlin__sintel-en.vtt")[:2] == (
        Cue(0.0, 12.0, "[Test]"),
        Cue(18.7, 21.5, "This blade has a dark past."),
    )
    assert read_subtitles(media / "subtitled" / "friday.vtt")[2] == Cue(1.5, 2.999, "Tell me, is the lord of the universe in?")
    words = [cue.text for cue in read_subtitles(media / "grid" / "bbaf2n.align")]
    assert words == ["bin", "blue", "at", "f", "two", "now"]


def embedded(path: Path, end: float = math.inf) -> list[tuple[Cue, ...]]:
    """Cues of every text track, best track first."""
    with av.open(str(path)) as container:
        readers = {track.index: TrackReader(track, 0.0) for track in text_tracks(container)}
        for packet in container.demux(*[reader.stream for reader in readers.values()]):
            readers[packet.stream.index].take(packet)
    return [reader.cues(end) for reader in readers.values()]


def test_real_embedded_tracks(media):
    assert embedded(media / "odd/exoplayer/sample_with_srt.mkv") == [(Cue(0.0, 1.234, "This is the first subtitle."),)]
    assert embedded(media / "odd/exoplayer/sample_with_null_terminated_ssa_subtitles.mkv", end=0.4) == [
        (Cue(0.0, 0.4, "This is the first"),)
    ]
    first, second = embedded(media / "subtitled/nasa_13013_embedded_mov_text.mp4", end=13.0)
    assert first == second
    assert first[0] == Cue(0.21, 4.26, "NAR: This is the optical and science segment of the Webb")
    assert [round(cue.end, 2) for cue in first] == [4.26, 8.35, 12.47, 13.0]
