import re
from html.parser import HTMLParser

import pytest

from mmssl.downstream import report
from mmssl.downstream.evaluate import evaluate
from mmssl.downstream.evaluation_file import read_calibration, write_evaluation
from mmssl.downstream.examples import gather
from mmssl.downstream.plots import Line, curves, intervals
from mmssl.downstream.report import Examples, data_rows, headline, read_data, speed, training_charts, write_report
from tests.fake_world import fake_pairing
from tests.test_evaluate import corpus

METRICS = [
    *(
        {
            "step": step,
            "loss": 4 - step / 50,
            "colour_pitch/loss": 4 - step / 50,
            "colour_pitch/loss/chance": 3.9,
            "colour_pitch/accuracy": 0.5 + step / 500,
            "colour_pitch/accuracy/chance": 0.5,
            "colour_pitch/spread/video": 0.8,
            "lr": 1e-3,
            "grad_norm": None if step == 20 else 1.0,
            "speed/clips_per_second": 100.0 + step,
            "speed/data_wait": 0.02,
            "replaced": 3.0,
        }
        for step in range(10, 101, 10)
    ),
    {"step": 100, "eval/colour_pitch/loss": 2.5, "eval/colour_pitch/accuracy": 0.66, "eval/colour_pitch/accuracy/chance": 0.5},
]
DATA = {
    "stream 0": {
        "sources": 12,
        "train": 9,
        "usable": 7,
        "held_out": 3,
        "index_rejected": {"truncated": 1},
        "rejected": {"colour_pitch": {"silent": 2}, "other": {}},
    }
}


class Reader(HTMLParser):
    """Collects what a page would load and whether its elements close."""

    def __init__(self):
        super().__init__()
        self.loads, self.open, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset") and value]
        if tag not in ("meta", "img", "br", "link", "use", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("use", "path"):
            return
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    sources, pairing = corpus(folder, 20), fake_pairing()
    figures = evaluate([pairing], sources[:10], sources[10:], seed=0)
    write_evaluation(folder / "evaluation.json", {"step": 100, "objectives": figures})
    scale = read_calibration(folder, "colour_pitch")
    shown = Examples(*gather(pairing, sources[:10], scale, seed=0, localized=3, retrieved=2))
    path = write_report(
        folder / "report.html",
        title="<b>my run</b> & more",
        step=100,
        config="seed: 0\nstreams: [<script>alert(1)</script>]",
        metrics=METRICS,
        data=DATA,
        evaluation={"objectives": figures},
        examples={"colour_pitch": shown},
    )
    return path.read_text(), shown, figures


def test_the_page_loads_nothing_from_outside(page):
    reader = Reader()
    reader.feed(page[0])
    assert all(load.startswith(("data:", "#")) for load in reader.loads)
    assert not re.search(r"url\((?!#)", page[0])
    assert "@import" not in page[0]


def test_the_page_is_well_formed_and_escapes_what_it_shows(page):
    reader = Reader()
    reader.feed(page[0])
    assert reader.open == []
    assert "<script" not in page[0]
    assert "<b>my run" not in page[0]
    assert any("<b>my run</b> & more" in text for text in reader.text)


def test_the_page_shows_figures_examples_curves_data_and_config(page):
    text, shown, figures = page
    assert f"{figures['colour_pitch']['accuracy']['value']:.3f}" in text
    assert text.count("<svg") == 1 + 3 + 3  # intervals; loss, accuracy, spread; rate, norm, clips
    assert len(shown.located) == 3
    assert len(shown.found) == 2
    assert text.count("its own sound") == 3
    for words in ("silent: 2", "truncated: 1", "seed: 0", "clips a second", "rank", "torch", "prefers-color-scheme"):
        assert words in text
    assert 'class="own"' in text


def test_examples_are_the_queries_with_their_own_sound_marked(page):
    for one in page[1].found:
        assert len(one.best) == 5
        assert one.gallery == 10
        assert any(own for _, own in one.best) == (one.rank <= 5) or one.rank <= 5  # equal scores may fall outside


def test_a_run_without_an_evaluation_says_how_to_get_one(tmp_path):
    path = write_report(tmp_path / "r.html", title="r", step=0, config="", metrics=[], data={}, evaluation=None, examples={})
    assert "mmssl evaluate" in path.read_text()
    assert "<svg" not in path.read_text()


def test_headline_takes_the_best_objective_and_the_strongest_baseline():
    entry = {"low": 0.1, "high": 0.9, "n": 9}
    near = {"model": {"value": 0.8, **entry}, "centre": {"value": 0.1, **entry}, "motion": {"value": 0.3, **entry}}
    figures = {
        "a": {"accuracy": {"value": 0.7, "chance": 0.5, **entry}, "localization": {"pointing": near}},
        "b": {"accuracy": {"value": 0.9, "chance": 0.5, **entry}},
    }
    cards = headline(figures)
    assert [card.value for card in cards] == [0.9, 0.8]
    assert (cards[1].against, cards[1].against_name) == (0.3, "motion alone")


def test_charts_follow_the_page_and_are_left_out_where_empty():
    chart = curves("loss", [Line("training", [1, 2], [3.0, 1.0]), Line("chance", [], [], "chance")])
    assert "var(--ink)" in chart
    assert "var(--train)" in chart
    assert "#010203" not in chart
    assert curves("nothing", [Line("a", [], [])]) == ""
    assert intervals([]) == ""
    assert training_charts([]) == []
    assert len(training_charts(METRICS)) == 6
    assert chart == curves("loss", [Line("training", [1, 2], [3.0, 1.0]), Line("chance", [], [], "chance")])


def test_speed_and_data_are_told_in_words(tmp_path):
    assert dict(speed(METRICS))["clips a second"] == "155.0"
    assert dict(speed(METRICS))["rows replaced (files that broke)"] == "3"
    assert data_rows(DATA)[0]["rejected"] == {"index": "truncated: 1", "colour_pitch": "silent: 2"}
    assert read_data(tmp_path) == {}
    (tmp_path / "data.json").write_text("{")
    assert read_data(tmp_path) == {}


def test_objectives_that_are_judged_row_by_row_have_a_card_and_a_chart_of_shares_only():
    accuracy = {"value": 0.53, "low": 0.5, "high": 0.55, "n": 300, "chance": 0.09}
    nll = {"value": 1.8, "low": 1.7, "high": 1.9, "n": 300, "chance": 5.5}
    figures = {"sources": 300, "cuts_of_each": 1, "failed": {}, "judged": {"accuracy": accuracy, "nll": nll}}
    (card,) = headline({"masked_lm": figures})
    assert (card.title, card.value, card.against) == ("masked_lm: right answers", 0.53, 0.09)
    shown = report._objective("masked_lm", figures)
    assert [row["what"] for row in shown["rows"]] == ["accuracy", "nll"]
    assert ">accuracy<" in shown["chart"] and ">nll<" not in shown["chart"]
    assert not shown["compares"]
