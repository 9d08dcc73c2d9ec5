import json

import numpy as np
import pytest

from mmssl.downstream.annotations import Annotation, read_flickr_soundnet, read_vggss, truths
from mmssl.types import Box, InputError


def flickr(folder, name, *boxes, named=True):
    tags = ("xmin", "ymin", "xmax", "ymax") if named else ("a", "b", "c", "d")
    people = "".join(
        f"<person><bbox><name>someone</name>{''.join(f'<{t}>{v}</{t}>' for t, v in zip(tags, box, strict=True))}</bbox></person>"
        for box in boxes
    )
    (folder / f"{name}.xml").write_text(f"<annotation>{people}</annotation>")


@pytest.mark.parametrize("named", [True, False])
def test_flickr_consensus_is_the_published_map(tmp_path, named):
    flickr(tmp_path, "123", (64, 32, 192, 200), (100, 32, 220, 200), (101, 40, 130, 90), named=named)
    found = read_flickr_soundnet(tmp_path)
    votes = np.zeros((224, 224))
    for left, top, right, bottom in ((64, 32, 192, 200), (100, 32, 220, 200), (101, 40, 130, 90)):
        votes[int(224 * top / 256) : int(224 * bottom / 256), int(224 * left / 256) : int(224 * right / 256)] += 1
    assert np.array_equal(found["123"].truth(consensus=2), np.minimum(votes / 2, 1))


def test_vggss_is_the_union_and_drops_boxes_without_area(tmp_path):
    path = tmp_path / "vggss.json"
    rows = [
        {"file": "abc_000030", "class": "dog", "bbox": [[0.25, 0.5, 0.75, 1.0], [-0.1, 0.6, 0.5, 1.2], [0.2, 1.0, 0.7, 1.0]]},
        {"file": "def_000001", "class": "cat", "bbox": [[0.26875, 1.0, 0.753125, 1.0]]},
    ]
    path.write_text(json.dumps(rows))
    found = read_vggss(path)
    truth = found["abc_000030"].truth()
    assert found["abc_000030"].label == "dog"
    assert len(found["abc_000030"].boxes) == 2
    assert truth.max() == 1
    assert truth[112:, 56:168].all()
    assert truth[int(224 * 0.6) :, :112].all()
    assert not truth[:112].any()
    assert not found["def_000001"].truth().any()


def test_the_test_set_must_be_whole(tmp_path):
    marks = {"a": Annotation("a", (Box(0, 0, 0.5, 0.5),)), "b": Annotation("b", ())}
    assert truths(marks, ["b", "a"], consensus=1)[:, 0, 0].tolist() == [0.0, 1.0]
    with pytest.raises(InputError, match="1 of 2 clips have no annotation, the first is c"):
        truths(marks, ["a", "c"], consensus=1)


def test_what_is_no_annotation_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no \.xml"):
        read_flickr_soundnet(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        read_vggss(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('[{"file": "a", "bbox": 3}]')
    with pytest.raises(InputError, match="not VGG-SS"):
        read_vggss(tmp_path / "bad.json")
    (tmp_path / "bad.xml").write_text("<annotation><bbox><xmin>a")
    with pytest.raises(InputError, match=r"bad\.xml"):
        read_flickr_soundnet(tmp_path)
