"""All benchmarks one after the other, and a page of their ratios and targets.

Resumable: a suite whose JSON is in the folder is not run again. Nothing else should run meanwhile.

Example: python tools/bench_page.py work/bench --page docs/results/speed.md
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pages import arguments, head

from mmssl.commands.bench import SUITES
from mmssl.files import write_aside

MET = {True: "met", False: "**missed**", None: "not measured"}


def measure(folder: Path, suite: str, *, reps: int, media: Path | None) -> dict[str, Any]:
    """The result of one suite, run in a process of its own."""
    path = folder / f"bench-{suite}.json"
    if not path.is_file():
        command = [
            sys.executable,
            "-m",
            "mmssl",
            "bench",
            suite,
            "--json",
            "--reps",
            str(reps),
            *(["--media", str(media)] if media else []),
        ]
        write_aside(path, subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return json.loads(path.read_text())


def page(results: dict[str, dict[str, Any]], command: str) -> str:
    """The figures as Markdown."""
    lines = [
        *head("Speed", command, here=next(iter(results.values()))["machine"]),
        "Ratios come from interleaved runs, one process for each contender, in shuffled order; medians, with quartiles. CPU time is the clock to trust; times in milliseconds hold for this machine and hour only.",
        "",
        "| suite | target | limit | measured | |",
        "|---|---|---|---|---|",
    ]
    for suite, result in results.items():
        lines += [f"| {suite} | {t['what']} | {t['limit']} | {t['measured']} | {MET[t['met']]} |" for t in result["targets"]]
    for suite, result in results.items():
        lines += ["", f"## {suite}", "", result["about"], ""]
        if result["rows"]:
            names = list(result["rows"][0])
            lines += [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
            lines += [f"| {' | '.join(_cell(row[name]) for name in names)} |" for row in result["rows"]]
        lines += ["", *result["notes"]] if result["notes"] else []
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def main() -> None:
    """Command line."""
    parser = arguments(__doc__ or "", "where the JSON of each suite goes")
    parser.add_argument("--only", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--media", type=Path, help="a folder of real clips, beside those that are made")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    out = given.page or given.folder / "speed.md"
    for suite in given.only:
        results[suite] = measure(given.folder, suite, reps=given.reps, media=given.media)
        command = f"python tools/bench_page.py work/bench --reps {given.reps}{f' --media {given.media}' if given.media else ''}"
        write_aside(out, page(results, command).encode())
    print(out.read_text())


if __name__ == "__main__":
    main()
