"""Run as a program: localize a film with the planted link, every option on, and print the peak of resident memory in MiB as JSON."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path


def main() -> None:
    from mmssl.downstream.calibration import Calibration
    from mmssl.downstream.localize import Options, localize
    from tests.fake_world import fake_pairing

    film, out = map(Path, sys.argv[1:3])
    options = Options(fps=1.0, smooth=4.0, stereo=True, sources=2)
    scale = Calibration(threshold=0.8, spread=0.05, low=0.5, high=1.0)
    found = localize(film, out, fake_pairing(), calibration=scale, options=options, progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak": peak, "moments": len(found.times), "sources": len(found.sources), "notes": found.notes}))


if __name__ == "__main__":
    main()
