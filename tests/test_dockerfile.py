"""The Dockerfile's stages, paths and commands; building it takes a machine with Docker."""

import re
import subprocess
from fnmatch import fnmatch

from locations import ROOT

# Instructions with their continuation lines joined: (name, text).
TEXT = re.sub(r'(?m)^#.*\n', '', (ROOT / 'Dockerfile').read_text()).replace('\\\n', ' ')
INSTRUCTIONS = [tuple(line.split(None, 1)) for line in TEXT.splitlines() if line.strip()]


def of(name: str) -> list[str]:
    return [text for found, text in INSTRUCTIONS if found == name]


def test_there_is_a_stage_for_each_device() -> None:
    assert [text.split(' AS ')[1] for text in of('FROM')] == ['cpu', 'cuda']
    assert all(':' in text and ':latest' not in text for text in of('FROM'))
    known = {'FROM', 'RUN', 'COPY', 'ENV', 'WORKDIR', 'CMD', 'ARG'}
    assert {name for name, _ in INSTRUCTIONS} == known


def test_commands_parse_and_the_script_is_there() -> None:
    for command in of('RUN'):
        assert subprocess.run(['bash', '-n', '-c', command]).returncode == 0
    scripts = re.findall(r'bash /mmrefine/(\S+)', TEXT)
    assert scripts == ['tools/install.sh'] * 2 and (ROOT / scripts[0]).is_file()
    assert all(folder == '/mmrefine' for folder in re.findall(r'COPY \. (\S+)', TEXT))


def test_what_the_installation_reads_is_not_left_out() -> None:
    left_out = (ROOT / '.dockerignore').read_text().split()
    needed = (
        'tools/install-lock.txt',
        'setup.cfg',
        'pyproject.toml',
        'mmrefine',
        'configs',
        'README.md',
    )
    for path in needed:
        assert (ROOT / path).exists()
        assert not any(fnmatch(path, pattern) or path == pattern for pattern in left_out)
    assert {'.git', '.venv*', 'work_dirs', 'data'} <= set(left_out)
