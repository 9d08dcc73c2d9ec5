"""Human pose on JHMDB (test videos of split 1): the joints of the first frame are given and followed, measured by PCK.

Jhuang et al., ICCV 2013 (the data); the task is that of Wang, Jabri and Efros, CVPR 2019 (arXiv:1903.07593), Li et al., NeurIPS 2019 (arXiv:1909.11895) and Jabri,
Owens and Efros, NeurIPS 2020 (arXiv:2006.14613): frames squeezed to 320 x 320, a Gaussian of half a cell around each joint, the three hottest cells averaged.
Definitions of PCK in `mmssl.downstream.metrics.keypoints`. The benchmark's name is only given to figures of all of its videos.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmssl.downstream.footage import Footage, open_footage
from mmssl.downstream.metrics.keypoints import THRESHOLDS, joint_distances, pck
from mmssl.downstream.probe.trackers import Tracker
from mmssl.types import InputError, MediaError

FRAMES, JOINTS_FOLDER, JOINTS_FILE, SPLITS = "Rename_Images", "joint_positions", "joint_positions.mat", "splits"
SPLIT = 1
VIDEOS = 268  # test videos of that split
TEST = "2"  # in a split's file, after a video's name
JOINTS = (
    "neck", "belly", "face", "right shoulder", "left shoulder", "right hip", "left hip", "right elbow", "left elbow",
    "right knee", "left knee", "right wrist", "left wrist", "right ankle", "left ankle",
)  # fmt: skip
# The published code gives a joint where the square of three standard deviations around it touches its grid of 40 x 40 cells.
GRID, MARGIN = 40, 1.5


@dataclass(frozen=True, slots=True)
class Posed:
    """One video and where its joints are: (T, 15, 2) pixels, x before y; which of them are given in the first frame, (15,)."""

    name: str
    footage: Footage
    joints: NDArray[np.float64]
    given: NDArray[np.bool_]

    def play(self) -> Iterator[NDArray[np.uint8]]:
        """The frames (H, W, 3) that joints are known of."""
        for _, (_, picture) in zip(range(len(self.joints)), self.footage.play(), strict=False):
            yield picture


@dataclass(frozen=True, slots=True)
class Jhmdb:
    """What of the benchmark there is; videos as CLASS/NAME."""

    root: Path
    videos: tuple[str, ...]
    problems: tuple[str, ...] = ()  # why this is not the benchmark; empty where it is

    @property
    def name(self) -> str:
        """The benchmark's name, or what these are instead."""
        if not self.problems:
            return f"JHMDB test split {SPLIT}"
        return f"{len(self.videos)} videos of JHMDB test split {SPLIT} (it has {VIDEOS}), not the benchmark"


@dataclass(slots=True)
class JhmdbFigures:
    """Distances of each tracker in sizes of the person, by video, see `joint_distances`."""

    jhmdb: Jhmdb
    distances: dict[str, dict[str, NDArray[np.float64]]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values; PCK by threshold, over all joints and of each."""
        trackers = {}
        for name, by_video in self.distances.items():
            found = {f"{at:g}": pck(list(by_video.values()), at) for at in THRESHOLDS}
            trackers[name] = {
                "PCK": {at: mean for at, (mean, _) in found.items()},
                "joints": {
                    joint: {at: None if np.isnan(shares[k]) else float(shares[k]) for at, (_, shares) in found.items()}
                    for k, joint in enumerate(JOINTS)
                },
                "lost": int(sum(np.isinf(rows).sum() for rows in by_video.values())),
                "counted": int(sum((~np.isnan(rows)).sum() for rows in by_video.values())),
            }
        return {
            "data": self.jhmdb.name,
            "benchmark": not self.jhmdb.problems,
            "problems": list(self.jhmdb.problems),
            "videos": len(self.jhmdb.videos),
            "trackers": trackers,
        }

    def as_csv(self) -> str:
        """One row for each tracker and video."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["tracker", "video", "frames", "joints", *(f"PCK@{at:g}" for at in THRESHOLDS)])
        for name, by_video in self.distances.items():
            for video, rows in by_video.items():
                joints = int((~np.isnan(rows)).any(axis=0).sum())
                writer.writerow([name, video, len(rows), joints, *(f"{pck([rows], at)[0]:.6f}" for at in THRESHOLDS)])
        return text.getvalue()


def open_jhmdb(root: Path, *, allow_missing: bool = False) -> Jhmdb:
    """Look which test videos lie under `root`.

    It should hold `Rename_Images/CLASS/NAME/00001.png`, `joint_positions/CLASS/NAME/joint_positions.mat` and
    `splits/CLASS_test_split1.txt`, as downloaded.

    Args:
        root: folder.
        allow_missing: take what is there; the result then does not bear the benchmark's name.

    Raises:
        InputError: videos are missing or too many, or nothing is there.
    """
    lists = sorted((root / SPLITS).glob(f"*_test_split{SPLIT}.txt"))
    if not lists:
        raise InputError(
            f"{root} is no JHMDB: {root / SPLITS} should hold CLASS_test_split{SPLIT}.txt for each class, from the data set's splits"
        )
    listed: list[str] = []
    for path in lists:
        kind = path.name.removesuffix(f"_test_split{SPLIT}.txt")
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        listed += [f"{kind}/{row[0].removesuffix('.avi')}" for row in rows if row[-1] == TEST]
    there = tuple(
        name for name in listed if (root / FRAMES / name).is_dir() and (root / JOINTS_FOLDER / name / JOINTS_FILE).is_file()
    )
    problems: list[str] = []
    if len(listed) != VIDEOS:
        problems.append(f"its lists name {len(listed)} test videos instead of {VIDEOS}")
    if len(there) < len(listed):
        lacking = [name for name in listed if name not in set(there)]
        problems.append(
            f"{len(lacking)} of them lack frames or joints ({', '.join(lacking[:3])}{' ...' if len(lacking) > 3 else ''})"
        )
    if not there:
        raise InputError(f"{root} holds no video of JHMDB's test split {SPLIT}: {'; '.join(problems) or 'the lists are empty'}")
    if problems and not allow_missing:
        raise InputError(
            f"{root} is not JHMDB test split {SPLIT}: {'; '.join(problems)}; add --allow-missing to evaluate what is there, without the benchmark's name"
        )
    return Jhmdb(root, there, tuple(problems))


def read_posed(root: Path, name: str) -> Posed:
    """One video.

    Raises:
        MediaError: its joints or frames cannot be read or do not fit together.
    """
    joints = _read_joints(root / JOINTS_FOLDER / name / JOINTS_FILE)
    try:
        footage = open_footage(root / FRAMES / name)
    except InputError as error:
        raise MediaError(str(error)) from error
    if len(footage.pictures) < len(joints):
        raise MediaError(f"{name} has {len(footage.pictures)} frames, and joints of {len(joints)}")
    places = joints[0] * GRID / np.array([footage.size[1], footage.size[0]])
    given = ((places >= -MARGIN) & (places < GRID + MARGIN)).all(axis=1)
    return Posed(name, footage, joints, given)


def _read_joints(path: Path) -> NDArray[np.float64]:
    """(T, 15, 2), counted from 0, of a file of MATLAB that counts from 1."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(str(path), variable_names=["pos_img"])["pos_img"]
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, MatReadError, zlib.error) as error:
        raise MediaError(f"{path} holds no joints that can be read ({type(error).__name__}: {error})") from error
    if found.ndim != 3 or found.shape[:2] != (2, len(JOINTS)) or found.shape[2] < 2 or not np.isfinite(found).all():
        raise MediaError(
            f"{path} holds pos_img of {found.shape}; it should be finite, (2, {len(JOINTS)}, frames), of at least 2 frames"
        )
    return np.ascontiguousarray(found.transpose(2, 1, 0), dtype=np.float64) - 1.0


def evaluate_jhmdb(jhmdb: Jhmdb, trackers: Sequence[Tracker], *, on_video: Callable[[], object] = lambda: None) -> JhmdbFigures:
    """Measure trackers on all videos.

    Args:
        jhmdb: see `open_jhmdb`.
        trackers: by name.
        on_video: called for each video.

    Raises:
        MediaError: a video cannot be read, or none of its joints is in view in the first frame.
    """
    figures = JhmdbFigures(jhmdb, {tracker.name: {} for tracker in trackers})
    for name in jhmdb.videos:
        video = read_posed(jhmdb.root, name)
        if not video.given.any():
            raise MediaError(f"{name} has no joint in view in its first frame")
        first = np.where(video.given[:, None], video.joints[0], np.nan)
        for tracker in trackers:
            found = np.stack(list(tracker.points(video.play(), first)))
            figures.distances[tracker.name][name] = joint_distances(found, video.joints, video.given)
        on_video()
    return figures
