"""Pictures that ``predict`` finds and reads."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from noise_pictures import photo
from PIL import Image

from mmrefine.apis import inputs
from mmrefine.apis.inputs import find_inputs
from mmrefine.results.image_files import read_picture


def test_a_picture_beyond_the_limits_of_opencv_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise cv2.error('pixels <= CV_IO_MAX_IMAGE_PIXELS')

    path = photo(tmp_path / 'a.png')
    monkeypatch.setattr(cv2, 'imdecode', refuse)
    with pytest.raises(ValueError, match='a.png cannot be read .*OPENCV_IO_MAX_IMAGE'):
        read_picture(path)


@pytest.mark.parametrize('kind', ['grey', 'alpha', '16 bit', 'cmyk', 'exif'])
def test_pictures_of_every_kind_are_read_upright_in_colour(tmp_path: Path, kind: str) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30], pixels[:, 30:] = (200, 30, 40), (20, 60, 180)
    path = tmp_path / ('a.jpg' if kind in ('cmyk', 'exif') else 'a.png')
    picture = Image.fromarray(pixels)
    if kind == 'grey':
        picture.convert('L').save(path)
    elif kind == 'alpha':
        picture.putalpha(0)
        picture.save(path)
    elif kind == '16 bit':
        cv2.imwrite(str(path), pixels[..., ::-1].astype(np.uint16) * 257)
    elif kind == 'cmyk':
        picture.convert('CMYK').save(path, quality=95)
    else:
        exif = picture.getexif()
        exif[0x112] = 6  # turn clockwise to show
        picture.save(path, exif=exif, quality=95)
    found = read_picture(path)
    expected = np.rot90(pixels, -1) if kind == 'exif' else pixels
    if kind == 'grey':
        expected = np.asarray(picture.convert('L'))[..., None].repeat(3, 2)
    assert found.shape == expected.shape
    assert np.abs(found[..., ::-1].astype(int) - expected).mean() < 3


def test_inputs_are_found_in_folders_patterns_and_lists(tmp_path: Path) -> None:
    files = [photo(tmp_path / name) for name in ('a.png', 'b/a.png', 'b/c d.jpg', 'b/ü.bmp')]
    (tmp_path / 'clip.mp4').write_bytes(b'')
    (tmp_path / 'list.txt').write_text('a.png\nb/a.png\n')
    pictures, videos = find_inputs([tmp_path])
    assert [p.path for p in pictures] == files and videos == [tmp_path / 'clip.mp4']
    assert [p.name.as_posix() for p in pictures] == ['a', 'b/a', 'b/c d', 'b/ü']
    pictures, _ = find_inputs([tmp_path / 'list.txt'])
    assert [p.name.as_posix() for p in pictures] == ['a', 'a_2']
    pictures, _ = find_inputs([f'{tmp_path}/b/*.[jb][pm][gp]', tmp_path / 'b' / 'c d.jpg'])
    assert [p.path for p in pictures] == files[2:]


def test_hidden_folders_are_folders(tmp_path: Path) -> None:
    photo(tmp_path / 'in' / '.cache' / 'b.png')
    (tmp_path / 'in' / '.cache' / 'v.mp4').write_bytes(b'')
    (tmp_path / 'in' / '._b.png').write_bytes(b'')  # what macOS puts beside a picture
    pictures, videos = find_inputs([tmp_path / 'in'])
    assert [p.path.name for p in pictures] == ['b.png'] and [v.name for v in videos] == ['v.mp4']


def test_what_inputs_leave_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(inputs, 'log_warning', told.append)
    photo(tmp_path / 'in' / 'a.png')
    assert find_inputs([tmp_path / 'in', f'{tmp_path}/*/*.png']) and told == []
    for name in ('b.jfif', 'c.txt', 'd', 'e.json'):
        (tmp_path / 'in' / name).write_bytes(b'')
    find_inputs([tmp_path / 'in'])
    assert 'neither pictures nor videos' in told[0] and 'b.jfif' in told[0]
    assert told.pop().endswith('and 1 more')
    photo(tmp_path / 'in' / 'sub' / 'b.png')
    find_inputs([f'{tmp_path}/in/[as]*'])
    assert 'matches folders' in told[0] and told.pop().endswith('sub')
    find_inputs([f'{tmp_path}/**/*.png'])
    pages = [Image.new('RGB', (9, 9), colour) for colour in ('red', 'blue')]
    pages[0].save(tmp_path / 'p.tif', save_all=True, append_images=pages[1:])
    assert told == [] and find_inputs([tmp_path / 'p.tif'])
    assert 'only the first page is read of' in told[0] and told[0].endswith('p.tif')


@pytest.mark.parametrize(
    ('given', 'message'),
    [('nowhere.jpg', 'there is no nowhere.jpg'), ('*.nothing', 'no file matches')],
)
def test_inputs_that_lead_nowhere(given: str, message: str) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        find_inputs([given])


def test_folders_and_lists_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='holds no pictures'):
        find_inputs([tmp_path])
    (tmp_path / 'list.txt').write_text('a.png\n')
    with pytest.raises(FileNotFoundError, match='of which 1 do not exist'):
        find_inputs([tmp_path / 'list.txt'])
    (tmp_path / 'list.txt').write_text('süß.png\n', encoding='latin-1')
    with pytest.raises(ValueError, match=r'list\.txt is no text in UTF-8: .*; save it as UTF-8'):
        find_inputs([tmp_path / 'list.txt'])
