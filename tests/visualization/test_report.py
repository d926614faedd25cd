"""The report page: numbers, order, pictures, and nothing from outside."""

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from locations import ROOT
from report_data import write_report_data

from mmrefine.evaluation import GroundTruth, evaluate, load_results
from mmrefine.visualization.report import write_report


class Page(HTMLParser):
    """Elements, texts of table cells, and every address on the page."""

    VOID = frozenset({'meta', 'img', 'br', 'link', 'input'})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.images: list[dict] = []
        self.cards: list[dict] = []
        self.rows: list[list[str]] = []
        self.titles: list[str] = []
        self.feed(path.read_text())
        assert not self.open, f'not closed: {self.open}'

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.addresses += [v for k, v in attrs if k in ('src', 'href', 'action', 'data', 'srcset')]
        if tag == 'img':
            self.images.append(values)
        if tag == 'article':
            self.cards.append(values)
        if tag == 'tr':
            self.rows.append([])
        if tag in ('th', 'td'):
            self.rows[-1].append('')
        if tag == 'h3':
            self.titles.append('')

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ('th', 'td'):
            self.rows[-1][-1] += data
        if self.open and self.open[-1] == 'h3':
            self.titles[-1] += data


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, Path]:
    return write_report_data(tmp_path_factory.mktemp('report'))


@pytest.fixture(scope='module')
def page_path(data: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    gt, pictures, sharp, blunt = data
    out = tmp_path_factory.mktemp('out') / 'report.html'
    return write_report(gt, {'sharp': sharp, 'blunt': blunt}, out, pictures, worst=3)


def test_the_page_is_one_file_that_fetches_nothing(page_path: Path) -> None:
    page = Page(page_path)
    assert page.addresses and all(a.startswith('data:image/jpeg;base64,') for a in page.addresses)
    assert not re.search(r'https?://|url\(|@import', page_path.read_text())
    assert "default-src 'none'" in page_path.read_text()
    assert all(image['alt'] for image in page.images)


def test_the_table_holds_the_numbers_of_the_metric(page_path: Path, data: tuple) -> None:
    gt = GroundTruth.load(data[0])
    page = Page(page_path)
    head = next(row for row in page.rows if row[0] == 'results')
    for name, path in (('sharp', data[2]), ('blunt', data[3])):
        numbers = evaluate(gt, load_results(path, gt)).numbers
        row = next(row for row in page.rows if row[0] == name)
        shown = dict(zip(head, row))
        for key in ('bbox AP', 'segm AP', 'segm AP75', 'boundary AP'):
            assert shown[key] == f'{100 * numbers[key.replace(" ", "_")]:.1f}'
        difference = numbers['segm_AP'] - numbers['boundary_AP']
        assert shown['segm − boundary'] == f'{100 * difference:.1f}'
    assert next(row for row in page.rows if row[0] == 'sharp')[1] == '100.0'


def test_boxes_are_scored_only_if_the_results_have_them(data: tuple, tmp_path: Path) -> None:
    masks = [{k: v for k, v in e.items() if k != 'bbox'} for e in json.loads(data[3].read_text())]
    (tmp_path / 'masks.json').write_text(json.dumps(masks))
    results = {'boxes': data[3], 'masks': tmp_path / 'masks.json'}
    page = Page(write_report(data[0], results, tmp_path / 'page.html'))
    shown = {row[0]: row[1] for row in page.rows[:3]}
    assert shown['results'] == 'bbox AP' and float(shown['boxes']) > 0 and shown['masks'] == '–'


def test_images_come_worst_first(page_path: Path) -> None:
    page = Page(page_path)
    drops = [float(card['data-drop']) for card in page.cards]
    assert drops == sorted(drops, reverse=True) and drops[0] > 0
    assert [float(card['data-behind']) for card in page.cards][0] > 0
    # the deeper the points of a star, the more its blunt mask loses
    assert set(page.titles[:3]) == {'2.png', '3.png', '4.png'}


def test_the_furthest_behind_of_several_files_counts(data: tuple, tmp_path: Path) -> None:
    results = {'sharp': data[2], 'blunt': data[3], 'again': data[2]}
    page = Page(write_report(data[0], results, tmp_path / 'three.html', worst=3))
    assert float(page.cards[0]['data-behind']) > 0


def test_pictures_show_masks_and_errors(page_path: Path) -> None:
    page = Page(page_path)
    decoded = [
        cv2.imdecode(np.frombuffer(base64.b64decode(i['src'].split(',')[1]), np.uint8), 1)
        for i in page.images
    ]
    # precision and recall, and confusions, of both files
    charts, decoded = decoded[:4], decoded[4:]
    assert all(chart.std() > 5 for chart in charts)
    # masks, errors and a closer look; for the ground truth or picture and for both files
    assert len(decoded) == 9 * len(page.cards)
    assert all(picture.std() > 5 for picture in decoded)
    sharp, blunt = decoded[4], decoded[5]
    orange_or_blue = [(np.ptp(p.astype(int), axis=2) > 90).sum() for p in (sharp, blunt)]
    assert orange_or_blue[0] == 0 and orange_or_blue[1] > 100


def test_pictures_of_the_scores_can_be_had_as_files(data: tuple, tmp_path: Path) -> None:
    folder = tmp_path / 'pictures'
    write_report(data[0], {'blunt': data[3]}, tmp_path / 'one.html', data[1], pictures=folder)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ['confusion.png', 'precision_recall.png', 'sheet.jpg']
    assert all(cv2.imread(str(folder / name)).std() > 5 for name in names)


def test_names_from_files_are_escaped(page_path: Path) -> None:
    text = page_path.read_text()
    assert '<b>comet' not in text and 'star &amp; &lt;b&gt;comet' in text


def test_one_file_without_pictures(data: tuple, tmp_path: Path) -> None:
    page = Page(write_report(data[0], {'blunt': data[3]}, tmp_path / 'one.html', worst=99))
    assert len(page.cards) == 5
    assert 'id="order"' not in (tmp_path / 'one.html').read_text()


def test_missing_pictures_are_told(data: tuple, tmp_path: Path) -> None:
    (tmp_path / 'empty').mkdir()
    cv2.imwrite(str(tmp_path / 'empty' / '4.png'), np.zeros((5, 6, 3), np.uint8))
    write_report(data[0], {'blunt': data[3]}, tmp_path / 'one.html', tmp_path / 'empty', worst=5)
    text = (tmp_path / 'one.html').read_text()
    assert text.count('was not found or cannot be read') == 4
    assert 'The picture is 6 x 5, the annotations say 96 x 96.' in text


def test_images_without_predictions_or_objects(data: tuple, tmp_path: Path) -> None:
    content = json.loads(data[0].read_text())
    content['images'].append(dict(id=99, file_name='empty.png', height=50, width=50))
    (tmp_path / 'gt.json').write_text(json.dumps(content))
    few = [e for e in json.loads(data[3].read_text()) if e['image_id'] == 4]
    (tmp_path / 'few.json').write_text(json.dumps(few))
    (tmp_path / 'none.json').write_text('[]')
    results = {'few': tmp_path / 'few.json', 'none': tmp_path / 'none.json'}
    page = Page(write_report(tmp_path / 'gt.json', results, tmp_path / 'few.html', worst=99))
    assert len(page.cards) == 5 and page.titles[0] == '4.png'
    assert next(row for row in page.rows if row[0] == 'none')[2] == '0.0'


def test_a_data_set_without_objects_has_no_images_to_show(data: tuple, tmp_path: Path) -> None:
    content = json.loads(data[0].read_text())
    content['annotations'] = []
    (tmp_path / 'gt.json').write_text(json.dumps(content))
    page = Page(write_report(tmp_path / 'gt.json', {'a': data[3]}, tmp_path / 'none.html'))
    assert page.cards == []
    assert next(row for row in page.rows if row[0] == 'a')[1] == '–'


def test_lvis_files_show_rare_common_and_frequent(data: tuple, tmp_path: Path) -> None:
    content = json.loads(data[0].read_text())
    for image in content['images']:
        image.update(neg_category_ids=[], not_exhaustive_category_ids=[])
        image['coco_url'] = f'somewhere/{image.pop("file_name")}'
    content['categories'] = [
        dict(c, frequency='rc'[i]) for i, c in enumerate(content['categories'])
    ]
    (tmp_path / 'gt.json').write_text(json.dumps(content))
    out = tmp_path / 'lvis.html'
    page = Page(write_report(tmp_path / 'gt.json', {'a': data[3]}, out, data[1], format='lvis'))
    head = next(row for row in page.rows if row[0] == 'results')
    row = dict(zip(head, next(row for row in page.rows if row[0] == 'a')))
    assert 0 < float(row['boundary APr']) < float(row['boundary APc'])
    assert row['segm APf'] == '–'
    assert len(page.cards) == 5 and 'not found' not in out.read_text()


def test_pictures_of_lvis_lie_below_their_split_or_not(data: tuple, tmp_path: Path) -> None:
    content = json.loads(data[0].read_text())
    for image in content['images']:
        image['coco_url'] = f'http://images.org/val2017/{image.pop("file_name")}'
    (tmp_path / 'gt.json').write_text(json.dumps(content))
    (tmp_path / 'coco').mkdir()
    (tmp_path / 'coco' / 'val2017').symlink_to(data[1])
    pages = []
    for images in (tmp_path / 'coco', data[1]):
        out = write_report(tmp_path / 'gt.json', {'a': data[3]}, tmp_path / 'p.html', images)
        assert 'not found' not in out.read_text()
        pages.append(out.read_bytes())
    assert pages[0] == pages[1]
    assert {'val2017/3.png', 'val2017/4.png'} <= set(Page(out).titles)


def test_the_command_writes_the_page(data: tuple, tmp_path: Path, command: Callable) -> None:
    gt, pictures, sharp, blunt = data
    out = tmp_path / 'page.html'
    words = ['--gt', gt, '--images', pictures, '--results', f'a={sharp}', blunt, '--out', out]
    assert command('report', *words, '--worst', 2).status == 0
    assert {'a', 'blunt'} <= {row[0] for row in Page(out).rows}


def test_results_of_other_pictures_can_be_dropped(
    data: tuple, tmp_path: Path, command: Callable
) -> None:
    entries = json.loads(data[3].read_text())
    other = tmp_path / 'other.json'
    other.write_text(json.dumps([*entries, {**entries[0], 'image_id': 99}]))
    words = ['--gt', data[0], '--results', other, '--out', tmp_path / 'page.html']
    refused = command('report', *words)
    assert refused.status == 1 and '--unknown drop' in refused.err
    assert command('report', *words, '--unknown', 'drop').status == 0


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(results={}), 'no result file'),
        (dict(format='png'), "got 'png'"),
        (dict(worst=0), 'worst must be at least 1'),
        (dict(score_thr=float('nan')), 'score_thr must be a number, got nan'),
        (dict(images='/nowhere'), '/nowhere is no folder'),
        (dict(images=ROOT), r'none of the 5 pictures .*gt.json names is in .*, such as 0.png'),
    ],
)
def test_wrong_arguments_are_named(data: tuple, tmp_path: Path, change: dict, message: str) -> None:
    usual = dict(gt=data[0], results={'a': data[2]}, out=tmp_path / 'x.html')
    with pytest.raises(ValueError, match=message):
        write_report(**{**usual, **change})
    assert not (tmp_path / 'x.html').exists()


def test_results_without_masks_are_refused(data: tuple, tmp_path: Path) -> None:
    boxes = [dict(e) for e in json.loads(data[3].read_text())]
    for entry in boxes:
        del entry['segmentation']
    (tmp_path / 'boxes.json').write_text(json.dumps(boxes))
    with pytest.raises(ValueError, match='no segmentation'):
        write_report(data[0], {'a': tmp_path / 'boxes.json'}, tmp_path / 'x.html')
