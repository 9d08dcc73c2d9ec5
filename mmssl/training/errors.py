"""How a run can end before its last step."""

from __future__ import annotations

from pathlib import Path


class RunError(Exception):
    """The run cannot go on, for a reason that lies in the run (not in its input): what happened, since when, the next move."""


class Interrupted(Exception):  # noqa: N818 - it is no error
    """SIGTERM or Ctrl-C came; the step was finished and `checkpoint` holds it. Not an error: `--resume` goes on bit for bit."""

    def __init__(self, step: int, steps: int, checkpoint: Path) -> None:
        super().__init__(
            f"stopped after step {step} of {steps}; {checkpoint} holds it, and the same command with --resume goes on from there"
        )
        self.step = step
        self.checkpoint = checkpoint
