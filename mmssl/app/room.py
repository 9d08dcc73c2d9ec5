"""What all tabs share: models, limits, folders, jobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmssl.app.corpus import Corpus
from mmssl.app.jobs import Jobs
from mmssl.app.limits import Limits
from mmssl.app.models import Models
from mmssl.app.results import Results


@dataclass(frozen=True, slots=True)
class Room:
    """Handed to each tab as it is built."""

    models: Models
    limits: Limits
    uploads: Path  # folder
    results: Results
    corpus: Corpus | None
    jobs: Jobs
