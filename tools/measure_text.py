"""What the text objectives learn of a folder of texts, held out by section, beside models that count words and sentences that are copied.

For each objective: its config in configs/tiny/ trained on the texts, and on texts of the same sentence lengths whose words are shuffled over
the whole corpus (the control: what is left to learn are frequencies and the pieces of words, and sections no longer differ in subject).
masked_lm stands beside a unigram and a Kneser-Ney 5-gram under the
same tokenizer; they see what is left of a word only, masked_lm sees both sides but lacks the other hidden words, so the figures tell what is
learnt and do not rank the kinds of model. gap_sentences is told from the 5-gram on the same targets, and what it generates from copying
the first sentences that stayed (the lead).

Resumable: what is there is not made again. Training takes minutes a run on two cores.

Example: python tools/measure_text.py work/ texts/ --only masked_lm gap_sentences --steps 2000 --page docs/results/text.md
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmssl.bench.result import machine
from mmssl.config import load_config
from mmssl.data.index import open_corpus
from mmssl.data.texts import corpus_texts
from mmssl.data.tokens import load_tokenizer, train_tokenizer
from mmssl.downstream.metrics.intervals import bootstrap
from mmssl.downstream.metrics.language import KneserNey
from mmssl.encoders.text_seq2seq import TextSeq2Seq
from mmssl.files import write_aside
from mmssl.rng import rng_for
from mmssl.rouge import rouge_l, rouge_n, words_of
from mmssl.run import CONFIG_FILE, Run, checkpoint_step, load_run, start_run
from mmssl.types import Source, Text
from mmssl.usage import evaluate_run, parts_of
from mmssl.vocabulary import Vocabulary

CONFIGS = Path(__file__).parents[1] / "configs" / "tiny"
NAMES = ("masked_lm", "next_sentence", "gap_sentences", "denoise_text")
ORDERS = {"unigram": 1, "5-gram": 5}
DRAWS = 4  # cuts of each held-out section
SECTION = r"^(.*?#\d+)"  # parts of one section stay together when some are held out


def shuffled(texts: Path, out: Path, *, seed: int) -> Path:
    """A folder of texts with the sentence lengths of `texts`, their words shuffled over the whole corpus."""
    corpus = open_corpus(texts, kind="text")
    sentences = [[cue.text.split() for cue in source.cues] for source in corpus]
    words = [word.strip(".!?…\"'“”").lower() for some in sentences for sentence in some for word in sentence]
    order = iter(rng_for(seed, "shuffled words").permutation(len(words)).tolist())
    for source, some in zip(corpus, sentences, strict=True):
        lines = [" ".join(words[next(order)] or "and" for _ in sentence) for sentence in some]
        text = " ".join(f"And {line}." for line in lines)  # what ends and begins a sentence says nothing either
        path = out / f"{source.id.replace('/', '-').replace('#', '-')}.txt"
        if not path.is_file():
            write_aside(path, text.encode())
    return out


def trained(root: Path, name: str, data: Path, label: str, options: argparse.Namespace) -> tuple[Run, dict[str, Any]]:
    """Train and evaluate one config, or go on with what is there."""
    run = root / f"{name}-{label}-{options.steps}-{options.seed}"
    overrides = [
        f"streams.0.data={data}", "streams.0.kind=text", "streams.0.holdout=0.15", f"streams.0.holdout_by={SECTION}",
        f"encoders.text.tokenizer={root / 'words.json'}", f"encoders.text.tokens={options.tokens}", f"seed={options.seed}",
        f"train.steps={options.steps}", f"train.eval_every={max(1, options.steps // 4)}", f"train.save_every={max(1, options.steps // 2)}",
    ]  # fmt: skip
    config = load_config(CONFIGS / f"{name}.yaml", [o for o in overrides if not (label == "cut" and "holdout_by" in o)])
    if checkpoint_step(run) != options.steps:
        start_run(config, run, resume=(run / CONFIG_FILE).is_file())
    if not (run / "evaluation.json").is_file():
        evaluate_run(run)
    return load_run(run), json.loads((run / "evaluation.json").read_text())["objectives"]


def ordinary(words: Vocabulary, text: str) -> list[int]:
    """The ids of a text, without special tokens."""
    special = set(words.special)
    return [number for number in words.ids(text, 1 << 16) if number not in special]


def entry(values: Sequence[float]) -> dict[str, float]:
    """The mean over sections with its 95 % interval."""
    found = bootstrap(np.asarray(values, dtype=np.float64))
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def counted(training: Sequence[Source], texts: Sequence[Sequence[str]], words: Vocabulary) -> dict[str, dict[str, float]]:
    """Nats a token of the counting models on `texts` (some for each held-out section)."""
    passages = [ordinary(words, " ".join(cue.text for cue in source.cues)) for source in training]
    found = {}
    for name, order in ORDERS.items():
        model = KneserNey(passages, size=words.size, order=order)
        each = [[value for text in some for value in model.nll(ordinary(words, text))] for some in texts]
        found[name] = entry([float(np.mean(values)) for values in each if values])
    return found


def generated(run: Run, held_out: Sequence[Source], words: Vocabulary) -> dict[str, dict[str, float]]:
    """ROUGE F of generated gap sentences, of the lead, and of sentences drawn by lot, against those that were taken out."""
    views, encoder = run.objectives["gap_sentences"].views, run.encoders["text"]
    assert isinstance(encoder, TextSeq2Seq)
    scores: dict[str, list[list[float]]] = {}
    for place, source in enumerate(held_out):
        sums: dict[str, list[float]] = {}
        for draw in range(DRAWS):
            rng = rng_for(run.config.seed, "rouge", place, draw)
            document, target = (request for request in views.plan(source, rng).requests.values() if isinstance(request, Text))
            given, truth = (words.ids(request.texts[0], request.length) for request in (document, target))
            written = encoder.generate(torch.tensor([given]), length=target.length)[0].tolist()
            stayed = [word for word in words_of(words.words(given))]
            reference = words_of(words.words(truth))
            start = int(rng.integers(max(1, len(stayed) - len(reference) + 1)))
            candidates = {
                "generated": words_of(words.words(written)),
                "lead": stayed[: len(reference)],
                "by lot": stayed[start : start + len(reference)],
            }
            for name, candidate in candidates.items():
                for metric, value in (
                    ("ROUGE-1", rouge_n(candidate, reference)),
                    ("ROUGE-2", rouge_n(candidate, reference, 2)),
                    ("ROUGE-L", rouge_l(candidate, reference)),
                ):
                    sums.setdefault(f"{name} {metric}", []).append(value)
        for key, values in sums.items():
            scores.setdefault(key, []).append(values)
    return {key: entry([float(np.mean(values)) for values in rows]) for key, rows in scores.items()}


def targets(run: Run, held_out: Sequence[Source]) -> list[list[str]]:
    """The sentences that are taken out of each held-out section."""
    views = run.objectives["gap_sentences"].views
    found = []
    for place, source in enumerate(held_out):
        plans = [views.plan(source, rng_for(run.config.seed, "rouge", place, draw)) for draw in range(DRAWS)]
        found.append(
            [text for plan in plans if isinstance(request := plan.requests["target"], Text) for text in map(str, request.texts)]
        )
    return found


def measure(root: Path, texts: Path, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one objective."""
    words = load_tokenizer(root / "words.json")
    run, figures = trained(root, name, texts, "whole", options)
    _, cut = trained(root, name, shuffled(texts, root / "shuffled", seed=options.seed), "cut", options)
    found: dict[str, Any] = {"whole": figures, "cut": cut}
    part = parts_of(run)[name]
    usable = [source for source in part.held_out if run.objectives[name].views.reject(source) is None]
    if name == "masked_lm":
        found["counting"] = counted(part.training, [[" ".join(cue.text for cue in source.cues)] for source in usable], words)
    if name == "gap_sentences":
        found["counting"] = counted(part.training, targets(run, usable), words)
        found["rouge"] = generated(run, usable, words)
    return found


def page(found: dict[str, dict[str, Any]], command: str, steps: int) -> str:
    """The figures as Markdown."""
    here = machine()
    lines = [
        "# Text objectives", "",
        f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {here['processor']}, {here['cores']} cores, torch {here['torch']}; {steps} steps of configs/tiny/. Command:",
        "", "```bash", command, "```", "",
        "Held-out sections, means with 95 % intervals over sections; nll in nats a token, perplexity = exp(nll). \"Chance\" as each objective's page says.",
        "", "| objective | figure | texts | chance | words shuffled | chance |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for conditions in found.values():
        for objective, figures in conditions["whole"].items():
            for question, value in figures["judged"].items():
                other = conditions["cut"][objective]["judged"][question]
                lines.append(
                    f"| {objective} | {question} | {told(value)} | {value.get('chance', float('nan')):.3f} | {told(other)} | {other.get('chance', float('nan')):.3f} |"
                )
    lines += ["", "| beside | figure | value |", "|---|---|---|"]
    for name, conditions in found.items():
        lines += [f"| {name} | nll of a {key} | {told(value)} |" for key, value in conditions.get("counting", {}).items()]
        lines += [f"| {name} | {key} | {told(value)} |" for key, value in conditions.get("rouge", {}).items()]
    return "\n".join(lines) + "\n"


def told(value: dict[str, float]) -> str:
    """A figure with its interval."""
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="where tokenizer, runs and figures go")
    parser.add_argument("texts", type=Path, help="folder of text files")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--size", type=int, default=4000, help="of the vocabulary")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    words = options.root / "words.json"
    if not words.is_file():
        train_tokenizer(corpus_texts([options.texts], kind="text"), words, size=options.size)
    found: dict[str, dict[str, Any]] = {}
    for name in options.only:
        print(f"{name}: training and evaluating", flush=True)
        found[name] = measure(options.root, options.texts, name, options)
        write_aside(options.root / "text.json", json.dumps(found, indent=2).encode())
    command = (
        f"python tools/measure_text.py {options.root} {options.texts} --only {' '.join(options.only)} --steps {options.steps}"
        f" --tokens {options.tokens} --size {options.size} --seed {options.seed}"
    )
    text = page(found, command, options.steps)
    print(text)
    if options.page:
        write_aside(options.page, text.encode())


if __name__ == "__main__":
    main()
