"""The house rules a machine can check: ruff, mypy, lengths, and nothing private in the files."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from locations import ROOT

SOURCES = ('mmrefine', 'tools', 'tests', 'configs')


def command(*arguments: str) -> None:
    """Run a checker; fail with what it found."""
    done = subprocess.run(
        [sys.executable, '-m', *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob('*.py')):
            if '.mim' not in path.parts and '__pycache__' not in path.parts:
                yield path


def test_ruff_finds_nothing() -> None:
    command('ruff', 'check', '--quiet', *SOURCES)


def test_files_are_formatted() -> None:
    command('ruff', 'format', '--check', '--diff', *SOURCES)


def test_types_agree() -> None:
    command('mypy', '--no-error-summary')


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def test_files_and_functions_stay_short() -> None:
    long = [
        f'{path.relative_to(ROOT)}: {lines} lines'
        for path in python_files('mmrefine', 'tools')
        if (lines := len(path.read_text().splitlines())) > 400
    ]
    for path in python_files('mmrefine', 'tools'):
        for node in functions(path):
            length = body_lines(node)
            if length > 60:
                long.append(f'{path.relative_to(ROOT)}: {node.name} has {length} lines')
    assert long == []


def body_lines(node: ast.FunctionDef) -> int:
    """Lines of a function without its signature and docstring."""
    first = (
        node.body[0] if ast.get_docstring(node) is None else node.body[min(1, len(node.body) - 1)]
    )
    return (node.end_lineno or 0) - first.lineno + 1


def test_public_classes_and_functions_say_what_they_do() -> None:
    silent = []
    for path in python_files('mmrefine', 'tools'):
        tree = ast.parse(path.read_text())
        if path.name != '__init__.py' and ast.get_docstring(tree) is None:
            silent.append(f'{path.relative_to(ROOT)} itself')
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != '_'
            if public and ast.get_docstring(node) is None:
                silent.append(f'{path.relative_to(ROOT)}: {node.name}')
    assert silent == []


@pytest.mark.parametrize('paper', ['refinemask', 'sharpmask', 'sipmask', 'embedmask'])
def test_papers_do_not_import_each_other(paper: str) -> None:
    others = {'refinemask', 'sharpmask', 'sipmask', 'embedmask'} - {paper}
    pattern = re.compile(rf'^\s*(?:from|import) mmrefine\.({"|".join(sorted(others))})\b', re.M)
    for path in python_files(f'mmrefine/{paper}'):
        assert not pattern.search(path.read_text()), path


@pytest.mark.parametrize('folder', ['masks', 'layers', 'points'])
def test_what_papers_share_imports_no_paper(folder: str) -> None:
    allowed = {'masks': (), 'layers': ('masks',), 'points': ('layers', 'masks')}[folder]
    for path in python_files(f'mmrefine/{folder}'):
        for module in re.findall(r'^\s*(?:from|import) mmrefine\.(\w+)', path.read_text(), re.M):
            assert module in (folder, *allowed), f'{path} imports mmrefine.{module}'


def test_shell_scripts_parse() -> None:
    bash = shutil.which('bash')
    for path in [*sorted((ROOT / 'tools').glob('*.sh')), ROOT / '.ci' / 'run']:
        assert subprocess.run([bash, '-n', path]).returncode == 0
