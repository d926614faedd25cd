"""The house rules a machine can check: ruff, mypy, lengths, and nothing private in the files."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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


# Room -> the rooms it may import. Papers do not know each other; what they share knows no paper.
SHARED = ('checkpoint', 'fcos', 'layers', 'masks')
PAPERS = ('embedmask', 'refinemask', 'sharpmask', 'sipmask')
ALLOWED: dict[str, tuple[str, ...]] = {
    'compat': ('plain_arrays',),
    'dependencies': (),
    'loading_errors': (),
    'plain_arrays': (),
    'registration': (),
    'safetensors_file': ('loading_errors', 'results'),
    'layers': (),
    'masks': ('layers',),
    'fcos': ('layers', 'masks'),
    'results': ('masks', 'plain_arrays'),
    'checkpoint': ('loading_errors', 'results', 'safetensors_file'),
    **dict.fromkeys(PAPERS, SHARED),
    'datasets': ('masks', 'results'),
    'backbones': ('loading_errors', 'results'),
    'evaluation': ('masks', 'results'),
    'visualization': ('evaluation', 'masks', 'results'),
    # Proposals know no classes, and SipMask-VIS takes videos: what runs models has to know these.
    'apis': ('checkpoint', 'datasets', 'masks', 'results', 'sharpmask', 'sipmask', 'visualization'),
    'hooks': ('datasets', 'evaluation', 'results', 'visualization'),
    'submission': ('apis', 'masks', 'results'),
    'export': (*PAPERS, 'apis', 'fcos', 'layers', 'masks', 'results'),
}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(level, absolute name) of every import of a file; level 0 is an absolute import."""
    package = path.relative_to(ROOT).with_suffix('').parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = '.'.join([*above, *([node.module] if node.module else [])])
            yield from ((node.level, f'{base}.{alias.name}') for alias in node.names)


def test_rooms_import_only_what_lies_below_them() -> None:
    wrong = []
    for path in python_files('mmrefine'):
        parts = path.relative_to(ROOT / 'mmrefine').with_suffix('').parts
        if parts[0] == '__init__':
            continue
        for _, name in imports(path):
            package, _, rest = name.partition('.')
            room = rest.partition('.')[0]
            outside = package in ('tools', 'tests', 'benchmark', 'learning', 'replay')
            ours = package == 'mmrefine' and room not in ('', '__version__')
            if outside or (ours and room not in (parts[0], *ALLOWED[parts[0]])):
                wrong.append(f'{path.relative_to(ROOT)} imports {name}')
    assert wrong == []


def test_imports_are_relative_within_a_folder_and_absolute_across() -> None:
    wrong = []
    for path in python_files('mmrefine', 'tools/benchmark', 'tools/learning', 'tests/replay'):
        folder = path.parent.relative_to(ROOT)
        package = '.'.join(folder.parts[0 if folder.parts[0] == 'mmrefine' else 1 :])
        if path.name.startswith('test_'):
            continue
        for level, name in imports(path):
            module = name.removeprefix(f'{package}.').partition('.')[0]
            beside = name.startswith(f'{package}.') and (path.parent / f'{module}.py').is_file()
            if level > 1 or (level == 0 and beside):
                wrong.append(f'{path.relative_to(ROOT)} imports {name}')
    assert wrong == []


def test_shell_scripts_parse() -> None:
    bash = shutil.which('bash')
    for path in [*sorted((ROOT / 'tools').glob('*.sh')), ROOT / '.ci' / 'run']:
        assert subprocess.run([bash, '-n', path]).returncode == 0
