"""Between pixels and cells: points go there and back, heat says where a point is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl.downstream.cells import Cells, hottest, point_heat
from mmssl.downstream.palette import voc_palette, write_mask

CELLS = Cells(grid=(20, 30), offset=1.5, stride=4.0, seen=(80, 120), shown=(240, 480))  # squeezed: 3 to 1 down, 4 to 1 across


def test_points_go_into_the_grid_and_back():
    points = np.array([[0.0, 0.0], [479.0, 239.0], [100.3, 77.7]])
    np.testing.assert_allclose(CELLS.to_points(CELLS.of_points(points)), points, atol=1e-9)
    # By hand: pixel p shows (p + 0.5) / 4 - 0.5 of the input's columns, and cell 0 is centred on 1.5 of them.
    np.testing.assert_allclose(CELLS.of_points(np.array([[7.5, 5.5]])), [[0.0, 0.0]], atol=1e-9)
    np.testing.assert_allclose(CELLS.to_points(np.array([[2.0, 1.0]])), [[39.5, 17.5]])


@pytest.mark.parametrize(("rule", "off"), [("peak", 0.25), ("strongest", 0.5)])
def test_heat_tells_where_a_point_is(rule, off):
    rng = np.random.default_rng(0)
    places = rng.uniform((1, 1), (28, 18), (40, 2))
    heat = torch.from_numpy(point_heat(CELLS.to_points(places), CELLS))
    found, most = hottest(heat, rule)
    assert np.abs(found - places).max() < off
    assert (most <= 1).all() and (most > 0.3).all()
    on_cell, most = hottest(torch.from_numpy(point_heat(CELLS.to_points(np.array([[5.0, 7.0]])), CELLS)), "peak")
    np.testing.assert_allclose(on_cell, [[5.0, 7.0]], atol=1e-6)
    assert most[0] == pytest.approx(1)


def test_the_two_rules_by_hand():
    heat = torch.zeros(2, 5, 6)
    heat[0, 1, 1], heat[0, 1, 2], heat[0, 4, 5], heat[0, 3, 3] = 0.6, 0.2, 0.4, 0.1
    peak, most = hottest(heat, "peak")
    np.testing.assert_allclose(peak[0], [(0.6 * 1 + 0.2 * 2) / 0.8, 1.0])
    strongest, _ = hottest(heat, "strongest")
    np.testing.assert_allclose(
        strongest[0], [(0.6 * 1 + 0.4 * 5 + 0.2 * 2) / 1.2, (0.6 * 1 + 0.4 * 4 + 0.2 * 1) / 1.2], rtol=1e-6
    )
    assert most == pytest.approx([0.6, 0.0])
    assert np.isnan(peak[1]).all() and np.isnan(strongest[1]).all(), "what has no heat lies nowhere"


def test_points_outside_lie_on_the_border_and_unknown_ones_nowhere():
    heat = point_heat(np.array([[-20.0, 100.0], [np.nan, np.nan]]), CELLS)
    assert heat[0].max() > 0.5 and heat[0, :, 3:].max() == 0
    assert heat[1].max() == 0


def test_the_palette_is_the_published_one(tmp_path):
    from PIL import Image

    # As PASCAL VOC lists its classes' colours.
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        8: (64, 0, 0),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    for number, colour in known.items():
        assert tuple(voc_palette()[number].tolist()) == colour
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_mask(tmp_path / "mask.png", mask)
    with Image.open(tmp_path / "mask.png") as file:
        assert file.mode == "P"
        np.testing.assert_array_equal(np.asarray(file), mask)
        np.testing.assert_array_equal(np.array(file.getpalette()).reshape(-1, 3), voc_palette())
