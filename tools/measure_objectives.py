"""What each objective learns of the toy world by its config in configs/tiny/, and the same run on a world whose link is cut.

Resumable: what is there is not made again.

Example: python tools/measure_objectives.py work/ --only l3 avts --page docs/results/objectives.md
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from pages import arguments, figure, head

from mmssl.config import load_config
from mmssl.data.toyworld import make_toyworld
from mmssl.files import write_aside
from mmssl.run import CONFIG_FILE, checkpoint_step, start_run
from mmssl.usage import evaluate_run

CONFIGS = Path(__file__).parents[1] / "configs" / "tiny"
CLIPS = 1420


class Proof(NamedTuple):
    """How an objective is proven."""

    cut: str  # the world in which there is nothing to learn
    figure: str  # key of the evaluation
    level: float  # what the whole world's figure must reach


PROOFS = {
    "l3": Proof("sound_from_other_clip", "accuracy", 0.60),
    "avenet": Proof("sound_from_other_clip", "accuracy", 0.60),
    "avol": Proof("sound_from_other_clip", "accuracy", 0.75),
    "av_nce": Proof("sound_from_other_clip", "accuracy", 0.75),
    "avts": Proof("sound_shifted", "synchronisation", 0.70),
}
NEAR_CHANCE = 0.05  # the cut link's figure may lie so far from 0.5


def measure(root: Path, name: str, *, seed: int) -> dict[str, Any]:
    """Train and evaluate one config on the whole world and on the cut one: condition -> figures."""
    proof = PROOFS[name]
    found: dict[str, Any] = {}
    for condition, cut in (("whole", None), ("cut", proof.cut)):
        # The demo's measurement has the same worlds, and may have made them already.
        label = {"sound_from_other_clip": "cut-link", None: "default"}.get(cut, cut)
        world, run = root / f"world-{seed}-{label}", root / f"tiny-{seed}-{name}-{condition}"
        make_toyworld(world, clips=CLIPS, seed=seed, cut=cut)
        config = load_config(CONFIGS / f"{name}.yaml", [f"streams.0.data={world}", f"seed={seed}"])
        if checkpoint_step(run) != config.train.steps:
            start_run(config, run, resume=(run / CONFIG_FILE).is_file())
        if not (run / "evaluation.json").is_file():
            evaluate_run(run)
        (figures,) = json.loads((run / "evaluation.json").read_text())["objectives"].values()
        found[condition] = figures | {"steps": config.train.steps}
    return found


def page(found: dict[str, dict[str, Any]], command: str) -> str:
    """The figures as Markdown."""
    lines = [
        *head("Each objective and its control", command),
        f"`configs/tiny/NAME.yaml` on the default toy world, and the same on a world of the same seed in which the link is cut ({CLIPS} clips each, 420 of them held out). The figure is an accuracy",
        f"with chance at 0.5 and its 95 % interval over held-out clips. It has to reach the level on the whole world, and lie within {NEAR_CHANCE} of 0.5 on the cut one.",
        "",
        "| objective | question | steps | level | whole world | link cut | how | holds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, conditions in found.items():
        proof = PROOFS[name]
        whole, cut = (conditions[condition][proof.figure] for condition in ("whole", "cut"))
        holds = whole["value"] >= proof.level and abs(cut["value"] - 0.5) <= NEAR_CHANCE
        question = (
            "own sound or the same clip's at another time?"
            if proof.figure == "synchronisation"
            else "own sound or another clip's?"
        )
        cells = [
            name,
            question,
            str(conditions["whole"]["steps"]),
            f"{proof.level:.2f}",
            figure(whole),
            figure(cut),
            f"`{proof.cut}`",
            "yes" if holds else "**no**",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = arguments(__doc__ or "", "for worlds and runs")
    parser.add_argument("--only", nargs="+", choices=list(PROOFS), default=list(PROOFS))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    only = "" if given.only == list(PROOFS) else f" --only {' '.join(given.only)}"
    found: dict[str, dict[str, Any]] = {}
    out = given.page or given.folder / "objectives.md"
    for name in given.only:
        found[name] = measure(given.folder, name, seed=given.seed)
        write_aside(out, page(found, f"python tools/measure_objectives.py work/{only} --seed {given.seed}").encode())
    print(out.read_text())


if __name__ == "__main__":
    main()
