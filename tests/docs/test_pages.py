"""What the pages say exists: links, files, configs, options with their defaults, versions."""

import ast
import re
from pathlib import Path

import doc_pages
import pytest
import yaml
from doc_options import REQUIRED, UnknownOption, lookup
from locations import ROOT

import mmrefine

PAGES = doc_pages.pages()
CONFIGS = {path.stem for path in (ROOT / 'configs').rglob('*.py')}
SOURCES = {
    path.name
    for folder in ('mmrefine', 'tools', 'configs', 'tests')
    for path in (ROOT / folder).rglob('*.py')
}
# Files that a reader writes, and files of other projects.
FOREIGN = {'youtubevis2coco.py', 'cityscapes.py', 'ytvos.py', 'test_video.py', 'cocofied_lvis.py'}
FOREIGN |= {'boundary_f1_score.py', 'train.py'}
SYSTEMS = r'(?:refinemask|sipmask|embedmask|deepmask|sharpmask|mask-rcnn|fast-rcnn)'
SPAN = re.compile(r'(?<!`)`([^`\n]+)`(?!`)')
PLAIN = (int, float, str, bool, type(None))

by_page = pytest.mark.parametrize('page', PAGES, ids=doc_pages.name)


def test_all_systems_and_tasks_have_a_page() -> None:
    found = {page.name for page in PAGES if page.parent.name == 'docs'}
    assert found >= {
        *('install.md', 'tour.md', 'own_data.md', 'evaluation.md', 'adding_a_head.md'),
        *('refinemask.md', 'sipmask.md', 'embedmask.md', 'sharpmask.md'),
        *('migration.md', 'faq.md'),
    }


@by_page
def test_prose_fits_into_120_columns(page: Path) -> None:
    lines = doc_pages.prose(page).splitlines()
    assert [x for x in lines if len(x) > 120 and not x.startswith(('|', '!['))] == []


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    readme = ROOT / 'README.md'
    assert len(readme.read_text().splitlines()) <= 200
    linked = {target.partition('#')[0] for target in doc_pages.links(readme)}
    assert {f'docs/{page.name}' for page in PAGES if page.parent.name == 'docs'} <= linked


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in doc_pages.links(page):
        if re.match(r'https?://', link):
            continue
        target, _, anchor = link.partition('#')
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or anchor and anchor not in doc_pages.anchors(path):
            broken.append(link)
    assert broken == []


def written_by_the_reader(page: Path) -> set[str]:
    """Names of the files in the titles of code blocks: a comment or a sentence names them."""
    return set(re.findall(r'`?\b(my_\w+\.py|test_my_\w+\.py)\b', page.read_text()))


@by_page
def test_files_that_are_named_exist(page: Path) -> None:
    text = [
        *SPAN.findall(doc_pages.prose(page)),
        *(c for b, c in doc_pages.all_commands() if b.page == page),
    ]
    named = {word for span in text for word in re.findall(r'[\w{}./+-]+\.(?:py|sh)\b', span)}
    scripts = {script.name for script in (ROOT / 'tools').glob('*.sh')}
    known = SOURCES | written_by_the_reader(page) | scripts
    missing = []
    for word in sorted(named):
        name = Path(word).name
        if name in FOREIGN or re.match('CONFIG|CFG', name):
            continue
        ours = word.startswith(('configs/', 'tools/', 'mmrefine/', 'tests/'))
        if name not in known or (ours and not (ROOT / word).exists()):
            missing.append(word)
    assert missing == []


@by_page
def test_configs_that_are_named_exist(page: Path) -> None:
    text = ' '.join(SPAN.findall(doc_pages.prose(page)))
    sets = 'coco|coco2014|lvis-v1|cityscapes|shapes|nuclei|coco-mini|fruit-nuts|photo-clips'
    ending = rf'(?:{sets}|youtubevis20\d\d)'
    named = set(re.findall(rf'(?<![\w/.-])({SYSTEMS}[\w+.-]*_{ending})(?![\w-])', text))
    assert sorted(named - CONFIGS) == []
    for pattern in re.findall(rf'(?<![\w/.-])({SYSTEMS}[\w+.-]*)\*', text):
        assert any(stem.startswith(pattern) for stem in CONFIGS), f'{pattern}*'


def option_rows(page: Path) -> list[tuple[str, str]]:
    """(``Class.option``, text of the default) of all option tables of a page.

    The first cell of the head is 'option', with rows ``Class.option``, or the class itself.
    """
    rows = []
    for head, *body in doc_pages.tables(page):
        owner = re.fullmatch(r'`(\w+)`', head[0])
        if head[0] != 'option' and not owner:
            continue
        assert head[1] == 'default', f'{page.name}: the second column of {head[0]} is its default'
        for row in body:
            names = SPAN.findall(row[0])
            assert names, f'{page.name}: no option in {row[0]!r}'
            rows += [(f'{owner[1]}.{name}' if owner else name, row[1]) for name in names]
    return rows


DOCS = [page for page in PAGES if page.parent.name == 'docs']


@pytest.mark.parametrize('page', DOCS, ids=doc_pages.name)
def test_options_and_defaults_are_those_of_the_code(page: Path) -> None:
    wrong = []
    for option, text in option_rows(page):
        try:
            defaults = lookup(option)
        except UnknownOption:
            wrong.append(f'{option} does not exist')
            continue
        if text == 'required':
            if REQUIRED not in defaults and defaults:
                wrong.append(f'{option} has the default {defaults[0]!r}')
        elif match := SPAN.fullmatch(text):
            if not any(same(ast.literal_eval(match[1]), default) for default in defaults):
                wrong.append(f'{option} is {defaults}, not {match[1]}')
        elif all(isinstance(default, PLAIN) for default in defaults):
            wrong.append(f'{option} has a plain default, {defaults}: write it')
    assert wrong == []


@by_page
def test_options_named_by_their_class_exist(page: Path) -> None:
    wrong = []
    for span in SPAN.findall(doc_pages.prose(page)):
        if not re.fullmatch(r'[A-Z]\w+(\.\w+)+(?<!\.tar)', span):
            continue
        if span.partition('.')[0] in mmrefine.__all__:
            try:
                lookup(span)
            except UnknownOption:
                wrong.append(span)
    assert wrong == []


def same(said: object, default: object) -> bool:
    if isinstance(default, list | tuple) and isinstance(said, list | tuple):
        return list(default) == list(said)
    return type(said) is type(default) and said == default


def test_every_system_lists_options_and_parity_switches() -> None:
    for system in ('refinemask', 'sipmask', 'embedmask', 'sharpmask'):
        page = ROOT / 'docs' / f'{system}.md'
        assert len(option_rows(page)) >= 15, page.name
        heads = [rows[0] for rows in doc_pages.tables(page)]
        assert ['option', 'default', 'official', 'why'] in heads, page.name


def test_an_option_that_does_not_exist_is_found() -> None:
    assert lookup('RefineMaskHead.num_convs_semantic') == [4]
    assert lookup('EmbedMaskHead.loss.box_padding') == [None]
    assert lookup('DeepMask.test_cfg.mask_thr') == [0.2]
    for wrong in (
        'RefineMaskHead.no_such',
        'EmbedMaskHead.loss.no_such',
        'SipMask.test_cfg.no_such',
        'NoSuch.x',
    ):
        with pytest.raises(UnknownOption):
            lookup(wrong)


def test_pins_are_those_of_the_lock() -> None:
    lock = dict(
        re.findall(
            r'^([\w.-]+)==([\w.+-]+)', (ROOT / 'tools' / 'install-lock.txt').read_text(), re.M
        )
    )
    script = (ROOT / 'tools' / 'install.sh').read_text()
    lock |= {
        name.lower(): version  # the first counts, which is OpenMMLab's
        for name, version in reversed(re.findall(r'\b(TORCH|MMCV)=([\d.]+)', script))
    }
    page = ROOT / 'docs' / 'install.md'
    installed = [
        word.strip('"')
        for block, command in doc_pages.all_commands()
        if block.page == page and command.startswith('pip install') and 'onedl' not in command
        for word in command.split()[2:]
        if word != '.' and not word.startswith('-')
    ]
    pins = [word.split('==') for word in installed if '==' in word]
    assert {'torch', 'mmcv', 'mmengine', 'mmdet', 'openmim'} == {name for name, _ in pins}
    assert [(name, version) for name, version in pins if lock.get(name) != version] == []
    assert {re.split('[<=]', word)[0] for word in installed} <= {*lock, 'setuptools'}


def test_pythons_of_the_workflow_and_of_the_metadata_were_seen_to_work() -> None:
    page = (ROOT / 'docs' / 'install.md').read_text()
    seen = set(re.findall(r'^\| (3\.\d+)\.\d+ \| (openmmlab|onedl) \|', page, re.M))
    workflow = yaml.safe_load((ROOT / '.github' / 'workflows' / 'test.yml').read_text())
    matrix = workflow['jobs']['cpu']['strategy']['matrix']
    tested = {(python, stack) for python in matrix['python'] for stack in matrix['stack']}
    tested |= {(job['python'], job['stack']) for job in matrix['include']}
    assert tested <= seen and {stack for _, stack in tested} == {'openmmlab', 'onedl'}
    claimed = re.findall(r'Python :: (3\.\d+)', (ROOT / 'setup.cfg').read_text())
    assert set(claimed) == {python for python, _ in seen}
