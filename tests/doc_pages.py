"""The documentation as data: pages, code blocks, commands, tables, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from locations import ROOT

FENCE = re.compile(r'^```(\w*)\n(.*?)^```', re.M | re.S)
LINK = re.compile(r'\]\(([^)\s]+)\)')


@dataclass(frozen=True)
class Block:
    """A fenced code block."""

    page: Path
    line: int
    language: str
    text: str


def pages() -> list[Path]:
    """README, docs, the model card and the READMEs of the families."""
    found = [
        ROOT / 'README.md',
        ROOT / 'demo/README.md',
        *(ROOT / 'docs').glob('*.md'),
        *ROOT.glob('configs/*/README.md'),
    ]
    return sorted(found)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[Block]:
    """The code blocks of a page in some languages, in order."""
    text = page.read_text()
    return [
        Block(page, text[: found.start()].count('\n') + 1, *found.groups())
        for found in FENCE.finditer(text)
        if found[1] in languages
    ]


def commands(text: str) -> list[str]:
    """The commands of a block: without comments, lines joined, variables filled in."""
    text = re.sub(r'\\\n\s*', '', text)
    variables: dict[str, str] = {}
    found = []
    for line in text.splitlines():
        line = re.sub(r'(^|\s)#.*$', '', line)
        for part in line.split(';'):
            if assignment := re.fullmatch(r'([A-Z]+)=(\S+)', part.strip()):
                variables[assignment[1]] = assignment[2]
            elif part.strip():
                filled = re.sub(r'\$([A-Z]+)', lambda v: variables.get(v[1], v[0]), part)
                found.append(' '.join(filled.split()))
    return found


def all_commands() -> list[tuple[Block, str]]:
    return [
        (block, command)
        for page in pages()
        for block in blocks(page, 'bash', 'shell', 'sh', 'console')
        for command in commands(block.text)
    ]


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub('', page.read_text())


def tables(page: Path) -> Iterator[list[list[str]]]:
    """Tables of a page as rows of cells; the ruling line is left out."""
    rows: list[list[str]] = []
    for line in [*prose(page).splitlines(), '']:
        if line.startswith('|'):
            cells = re.split(r'(?<!\\)\|', line.strip().strip('|'))
            rows.append([cell.strip() for cell in cells])
        elif rows:
            yield [row for i, row in enumerate(rows) if i != 1]
            rows = []


def links(page: Path) -> list[str]:
    return LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """Names of the headings of a page, as GitHub makes them."""
    heads = re.findall(r'^#+ (.*)$', prose(page), re.M)
    return {re.sub(r'[^\w\- ]', '', head.lower()).replace(' ', '-') for head in heads}
