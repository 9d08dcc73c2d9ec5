"""What the demo's training reaches: seeds x (default world, cut link, harder worlds), as a page with intervals.

Resumable: what is there is not made again. One seed trains twice and renders six worlds: plan half an hour on two cores.

Example: python tools/measure_demo.py work/ --seeds 0 1 2 --steps 500 --page docs/results/demo.md
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pages import arguments, figure, head

from mmssl.data.toyworld import make_toyworld
from mmssl.demo import HELD_OUT_CLIPS, TRAIN_CLIPS, demo_config
from mmssl.files import write_aside
from mmssl.run import CONFIG_FILE, checkpoint_step, start_run
from mmssl.usage import evaluate_run

CUT = "sound_from_other_clip"
HARDER = ("twins", "two_sounders", "noisy", "hard")
HARDER_CLIPS = 420  # a quarter is muted: at least 300 remain
ELSEWHERE = 100_000  # added to the seed of test worlds, which share no clip with training


def measure(root: Path, seed: int, steps: int) -> dict[str, Any]:
    """Train and evaluate one seed; name of the condition -> objective -> figures."""
    found: dict[str, Any] = {}
    for name, cut in (("default", None), ("cut link", CUT)):
        world, run = root / f"world-{seed}-{name.replace(' ', '-')}", root / f"run-{seed}-{name.replace(' ', '-')}"
        make_toyworld(world, clips=TRAIN_CLIPS + HELD_OUT_CLIPS, seed=seed, cut=cut)
        if checkpoint_step(run) != steps:
            start_run(demo_config(world, steps=steps, seed=seed), run, resume=(run / CONFIG_FILE).is_file())
        if not (run / "evaluation.json").is_file():
            evaluate_run(run)
        found[name] = json.loads((run / "evaluation.json").read_text())["objectives"]
        if cut:
            continue
        for preset in HARDER:
            world = root / f"world-{seed}-{preset}"
            make_toyworld(world, clips=HARDER_CLIPS, seed=seed + ELSEWHERE, difficulty=preset)
            saved = run / f"evaluation-{world.name}.json"
            if not saved.is_file():
                evaluate_run(run, world)
            found[preset] = json.loads(saved.read_text())["objectives"]
    return found


def page(found: dict[int, dict[str, Any]], steps: int, command: str) -> str:
    """The figures as Markdown."""
    lines = [
        *head("What the demo reaches", command, more=f"{steps} steps of 64 cuts"),
        "Each figure with its 95 % interval over held-out clips. Correspondence: own sound against those of all other clips, balanced; each clip is judged by a threshold fitted on other held-out clips,",
        "and in the next column by one fitted on training clips (whose own scores may be memorised). Pointing is strict: the map's maximum lies on the mask of a thing that sounds. The last",
        "columns are what a guess reaches that hears nothing (the better of the picture's centre and whatever moves), and the model's own map under a wrong sound. Harder worlds are tests only: the model is",
        "the one trained on the default world. Cut link: trained and tested where every sound is another clip's. Chance: 0.5 for correspondence, 0.01 for R@1. What was tried on the way: [demo-trials.md](demo-trials.md).",
        "",
        "| seed | world | objective | clips | correspondence | training threshold | v→a R@1 of 100 | pointing | centre or motion | wrong sound |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for seed, conditions in found.items():
        for world, objectives in conditions.items():
            for name, figures in objectives.items():
                lines.append(_row(seed, world, name, figures))
    return "\n".join(lines) + "\n"


def _row(seed: int, world: str, name: str, figures: dict[str, Any]) -> str:
    pointing = figures.get("localization", {}).get("pointing")
    cells = [
        str(seed),
        world,
        name,
        str(figures["sources"]),
        figure(figures["accuracy"]),
        f"{figures['accuracy_training_threshold']['value']:.3f}",
        figure(figures["retrieval"]["video_to_audio"]["R@1"]),
    ]
    if pointing:
        deaf = max((pointing["centre"], pointing["motion"]), key=lambda entry: entry["value"])
        cells += [figure(pointing["model"]), figure(deaf), figure(pointing["wrong_sound"])]
    else:
        cells += ["", "", ""]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Command line."""
    parser = arguments(__doc__ or "", "for worlds and runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=500)
    given = parser.parse_args()
    command = f"python tools/measure_demo.py work/ --seeds {' '.join(map(str, given.seeds))} --steps {given.steps}"
    found: dict[int, dict[str, Any]] = {}
    out = given.page or given.folder / "demo.md"
    for seed in given.seeds:
        found[seed] = measure(given.folder, seed, given.steps)
        write_aside(out, page(found, given.steps, command).encode())
    print(out.read_text())


if __name__ == "__main__":
    main()
