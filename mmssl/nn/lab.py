"""RGB to CIE Lab on the device, and pictures in Lab as an encoder takes them.

sRGB (IEC 61966-2-1), white point D65, CIE 1976 L*a*b*. OpenCV's
COLOR_RGB2LAB reads its cube roots off a table and differs by up to a quarter of a unit.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Rows: X / Xn, Y / Yn, Z / Zn of linear sRGB, for the white of D65.
_TO_XYZ = (
    (0.412453 / 0.950456, 0.357580 / 0.950456, 0.180423 / 0.950456),
    (0.212671, 0.715160, 0.072169),
    (0.019334 / 1.088754, 0.119193 / 1.088754, 0.950227 / 1.088754),
)
L_WHOLE, AB_WHOLE = 100.0, 127.0  # MAST's normalisation divides by such numbers; a and b lie in -AB_WHOLE .. AB_WHOLE


def rgb_to_lab(x: Tensor) -> Tensor:
    """Pictures (..., 3, H, W), uint8 or floating point in 0..1 -> float32 Lab of the same shape: L in 0..100, a and b about -127..127."""
    with torch.autocast(x.device.type, enabled=False):
        rgb = x.float() / 255.0 if x.dtype == torch.uint8 else x.float()
        linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055).clamp(min=0.0) ** 2.4)
        xyz = torch.einsum("kc,...chw->...khw", linear.new_tensor(_TO_XYZ), linear)
        root = torch.where(xyz > 0.008856, xyz.clamp(min=1e-6) ** (1 / 3), 7.787 * xyz + 16 / 116)
        fx, fy, fz = root.unbind(-3)
        return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=-3)


def lightness_picture(lab: Tensor) -> Tensor:
    """Lab (..., 3, H, W) -> lightness alone as a grey picture (..., 3, H, W) in 0..1: what is seen where all colour is hidden."""
    grey = (lab[..., :1, :, :] / L_WHOLE).clamp(0.0, 1.0)
    return grey.expand(*grey.shape[:-3], 3, *grey.shape[-2:])


def lab_picture(lab: Tensor) -> Tensor:
    """Lab (..., 3, H, W) -> a picture of three channels in 0..1 that holds L, a and b; no colour is 0.5 in the last two."""
    lightness = lab[..., :1, :, :] / L_WHOLE
    colour = lab[..., 1:, :, :] / (2 * AB_WHOLE) + 0.5
    return torch.cat([lightness, colour], dim=-3).clamp(0.0, 1.0)
