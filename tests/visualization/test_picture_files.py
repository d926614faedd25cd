"""Pictures in files."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmrefine.visualization.picture_files import write_bgr


@pytest.mark.parametrize(
    ('size', 'written'),
    [((3, 65_500), (3, 65_500)), ((8, 131_000), (4, 65_500)), ((131_000, 1), (65_500, 1))],
)
def test_a_picture_longer_than_a_jpeg_is_reduced(
    tmp_path: Path, size: tuple[int, int], written: tuple[int, int]
) -> None:
    picture = np.zeros((*size, 3), np.uint8)
    picture[: (size[0] + 1) // 2, : (size[1] + 1) // 2] = 200
    write_bgr(tmp_path / 'a.jpg', picture)
    read = cv2.imread(str(tmp_path / 'a.jpg'))
    assert read.shape[:2] == written
    shown = cv2.resize(picture, written[::-1], interpolation=cv2.INTER_NEAREST)
    assert np.abs(read.astype(int) - shown).mean() < 1
    write_bgr(tmp_path / 'a.png', picture)  # which knows no such limit
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'a.png')), picture)
