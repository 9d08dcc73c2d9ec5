"""The chart of a probe: drawn where the values lie, and in whose colour."""

import numpy as np
from PIL import Image, ImageColor

from mmssl.downstream.probe.chart import TRAINED, write_chart


def test_a_chart_has_the_trained_figure_in_its_own_colour_where_its_value_is(tmp_path):
    def centre_of_the_colour(value):
        """Where, as a share of the width, the pixels of the trained encoder's colour lie in the middle."""
        entry = {"value": value, "low": value - 0.1, "high": value + 0.1}
        contenders = [{"name": name, "variant": "", "figures": {"top1": entry}} for name in ("trained", "random init")]
        found = {"probe": "knn", "set": "x", "classes": 2, "views": 1, "splits": [{"tested_on": 9}], "contenders": contenders}
        pixels = np.asarray(Image.open(write_chart(found, tmp_path / "chart.png")).convert("RGB")).astype(int)
        return np.median(np.nonzero(np.abs(pixels - np.array(ImageColor.getrgb(TRAINED))).sum(2) < 12)[1]) / pixels.shape[1]

    low, high = centre_of_the_colour(0.2), centre_of_the_colour(0.7)
    scale = 0.8  # of the width, at least, is the scale from 0 to 1
    assert 0.5 * scale * 0.9 < high - low < 0.5
