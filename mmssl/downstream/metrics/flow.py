"""How far estimated optical flow is from the true one: end-point error and KITTI's outliers, and the files that true flow comes in.

End-point error: Otte and Nagel, ECCV 1994; as Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011, use it. Fl:
Menze and Geiger, "Object Scene Flow for Autonomous Vehicles", CVPR 2015, section 5.

A field is float32 (2, H, W): pixels to the right, pixels down.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmssl.data.toyworld.truth import Truth
from mmssl.types import MediaError

FLO_MARK = 202021.25  # the number that a .flo file begins with: "PIEH" as float32
FLO_UNKNOWN = 1e9  # larger values mark pixels whose motion is not known
LARGEST = 1 << 14  # pixels; a larger side in a file's head is damage
OUTLIER_PIXELS, OUTLIER_SHARE = 3.0, 0.05


class TrueFlow(NamedTuple):
    """A true field, and where it is known."""

    flow: NDArray[np.float32]  # (2, H, W)
    valid: NDArray[np.bool_]  # (H, W)


def endpoint_errors(flow: NDArray[np.floating], true: TrueFlow) -> NDArray[np.float64]:
    """Distance in pixels between estimated (2, H, W) and true flow at each pixel that is known, (n,)."""
    apart = np.asarray(flow, np.float64) - true.flow
    return np.hypot(apart[0], apart[1])[true.valid]


def endpoint_error(flow: NDArray[np.floating], true: TrueFlow) -> float:
    """Mean of `endpoint_errors`; nan where nothing is known."""
    errors = endpoint_errors(flow, true)
    return float(errors.mean()) if len(errors) else float("nan")


def outliers(flow: NDArray[np.floating], true: TrueFlow) -> float:
    """KITTI's Fl: the share of known pixels that are off by more than 3 pixels and by more than 5 % of the true motion; nan without any."""
    errors = endpoint_errors(flow, true)
    speed = np.hypot(true.flow[0], true.flow[1])[true.valid]
    bad = (errors > OUTLIER_PIXELS) & (errors > OUTLIER_SHARE * speed)
    return float(bad.mean()) if len(errors) else float("nan")


def read_flo(path: Path) -> TrueFlow:
    """Middlebury's .flo: a mark, width and height as little-endian int32, then rows of (right, down) as float32.

    Raises:
        MediaError: no such file, or not one of this format.
    """
    content = _bytes(path)
    if len(content) < 12 or np.frombuffer(content, "<f4", 1)[0] != np.float32(FLO_MARK):
        raise MediaError(f"{path} is no .flo file: it does not begin with {FLO_MARK}")
    width, height = np.frombuffer(content, "<i4", 2, offset=4).tolist()
    if not (0 < width <= LARGEST and 0 < height <= LARGEST) or len(content) != 12 + 8 * width * height:
        raise MediaError(f"{path} claims {width} x {height} pixels of flow and holds {len(content)} bytes; it is damaged")
    flow = np.frombuffer(content, "<f4", offset=12).reshape(height, width, 2).transpose(2, 0, 1)
    valid = np.abs(np.nan_to_num(flow, nan=np.inf)).max(axis=0) <= FLO_UNKNOWN
    return TrueFlow(np.where(valid, flow, 0.0).astype(np.float32), valid)


def read_kitti_flow(path: Path) -> TrueFlow:
    """KITTI's flow png: 16 bits a channel; red and green are (flow + 512) * 64, blue is 1 where it is known.

    Raises:
        MediaError: no such file, or not one of this format.
    """
    image = cv2.imdecode(np.frombuffer(_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint16:
        raise MediaError(f"{path} is no KITTI flow: those are png files of three channels with 16 bits each")
    valid = image[..., 0] > 0  # OpenCV gives blue first
    flow = (image[..., [2, 1]].astype(np.float32) - 2**15) / 64.0
    return TrueFlow(np.ascontiguousarray(np.where(valid[..., None], flow, 0.0).transpose(2, 0, 1)), valid)


def toy_flow(truth: Truth, frame: int, ahead: int = 1) -> TrueFlow:
    """The toy world's exact flow from `frame` to the one `ahead` of it; known where a point stays in view (matching cannot find others).

    Raises `IndexError` where there is no such frame.
    """
    return TrueFlow(truth.flow(frame, ahead), truth.stays_visible(frame, ahead))


def _bytes(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror or error}") from error
