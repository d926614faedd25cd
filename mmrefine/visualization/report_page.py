"""HTML of a report: one file, nothing to download, readable without JavaScript."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from .report_pictures import COLOURS, EXTRA, FALSE_OBJECT, LOST_OBJECT, MISSED, Panel

LEGEND = {
    MISSED: 'missed: inside the object, not in its mask',
    EXTRA: 'extra: in the mask, outside the object',
    LOST_OBJECT: 'object without a prediction',
    FALSE_OBJECT: 'prediction without an object',
}
SHOWN = [  # columns of the table of all result files
    'bbox_AP',
    *(f'segm_{name}' for name in ('AP', 'AP50', 'AP75')),
    *(f'boundary_{name}' for name in ('AP', 'AP50', 'AP75', 'AP_s', 'AP_m', 'AP_l')),
    *(f'{kind}_AP{letter}' for kind in ('segm', 'boundary') for letter in 'rcf'),
]
# The browser itself then refuses to fetch anything.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; --good: #1a7f37; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1500px; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; } thead th { vertical-align: bottom; }
td.best { font-weight: 700; color: var(--good); }
.note { opacity: .75; max-width: 75ch; }
.key { display: inline-block; margin-right: 1.2rem; }
.key i { display: inline-block; width: .9rem; height: .9rem; margin-right: .35rem; }
article { border: 1px solid var(--line); border-radius: 8px; padding: 1rem; margin: 1rem 0; }
article h3 { margin: 0 0 .4rem; font-size: 1rem; overflow-wrap: anywhere; }
.row { display: flex; flex-wrap: wrap; gap: .8rem; margin-top: .8rem; }
figure { margin: 0; } figcaption { font-size: .85rem; opacity: .8; }
figure img { max-width: 100%; display: block; background: var(--soft); }
select { font: inherit; }
"""
SCRIPT = """
const list = document.getElementById('images');
document.getElementById('order').addEventListener('change', event => {
  const key = event.target.value;
  [...list.children].sort((a, b) => b.dataset[key] - a.dataset[key])
    .forEach(card => list.append(card));
});
"""


@dataclass
class Card:
    """One image on the page."""

    title: str  # file name or id
    drop: float  # largest mask AP minus boundary AP of any result file
    behind: float  # boundary AP of the first file minus the lowest of the others
    scores: Sequence[tuple[float, float]]  # mask AP and boundary AP of every result file, 0-1
    rows: list[list[Panel]]
    note: str = ''  # stands above the panels, e.g. that the picture is missing


def render(
    title: str,
    facts: Sequence[str],
    numbers: Mapping[str, dict[str, float]],
    categories: Sequence[tuple[str, Sequence[float]]],
    charts: list[list[Panel]],
    cards: Sequence[Card],
) -> str:
    """Write the page as a complete HTML document.

    Args:
        title: Heading.
        facts: Short sentences about the data.
        numbers: Name of every result file -> its numbers, 0-1 or -1.
        categories: Name of every category and its boundary AP in every file.
        charts: Rows of panels below the table.
        cards: The images, worst first.
    """
    names = list(numbers)
    several = len(names) > 1
    parts = [
        f'<h1>{escape(title)}</h1>',
        f'<p class="note">{" ".join(escape(fact) for fact in facts)}</p>',
        '<h2>Average precision (%)</h2>',
        _ap_table(numbers),
        '<details><summary>Boundary AP of every category</summary>',
        _table(['category', *names], [(name, _cells(v)) for name, v in categories]),
        '</details>',
        _rows(charts),
        '<h2>Images whose boundaries cost most</h2>',
        '<p class="note">Drop: mask AP minus boundary AP of an image, largest of all files.</p>',
        f'<p>{"".join(_key(kind) for kind in LEGEND)}</p>',
        _order(names) if several else '',
        '<section id="images">',
        *(_card(card, names) for card in cards),
        '</section>',
    ]
    script = f'<script>{SCRIPT}</script>' if several else ''
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>'
        + '\n'.join(parts)
        + f'{script}</body></html>\n'
    )


def _ap_table(numbers: Mapping[str, dict[str, float]]) -> str:
    shown = [key for key in SHOWN if any(key in values for values in numbers.values())]
    best = {key: max(values.get(key, -1.0) for values in numbers.values()) for key in shown}
    rows = []
    for name, values in numbers.items():
        cells = []
        for key in shown:
            value = values.get(key, -1.0)
            mark = ' class="best"' if len(numbers) > 1 and value == best[key] > 0 else ''
            cells.append(f'<td{mark}>{_percent(value)}</td>')
        difference = values['segm_AP'] - values['boundary_AP']
        rows.append((name, [*cells, f'<td>{_percent(difference)}</td>']))
    head = ['results', *(key.replace('_', ' ', 1) for key in shown), 'segm \N{MINUS SIGN} boundary']
    return _table(head, rows, ' id="ap"')


def _table(
    head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], attributes: str = ''
) -> str:
    """A table; each row is its heading and its ``<td>`` elements."""
    top = ''.join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = ''.join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>' for name, cells in rows
    )
    return (
        f'<div class="wide"><table{attributes}><thead><tr>{top}</tr></thead>'
        f'<tbody>{body}</tbody></table></div>'
    )


def _cells(values: Iterable[float]) -> list[str]:
    return [f'<td>{_percent(value)}</td>' for value in values]


def _key(kind: int) -> str:
    colour = '#{:02x}{:02x}{:02x}'.format(*COLOURS[kind])
    return f'<span class="key"><i style="background:{colour}"></i>{LEGEND[kind]}</span>'


def _order(names: Sequence[str]) -> str:
    return (
        '<p><label>Order: <select id="order">'
        '<option value="drop">largest mask AP &minus; boundary AP</option>'
        f'<option value="behind">boundary AP furthest below {escape(names[0])}</option>'
        '</select></label></p>'
    )


def _card(card: Card, names: Sequence[str]) -> str:
    head = ['', 'mask AP', 'boundary AP', 'drop']
    scores = [(name, _cells((m, b, m - b))) for name, (m, b) in zip(names, card.scores)]
    behind = f' data-behind="{card.behind:.6f}"' if len(names) > 1 else ''
    note = f'<p class="note">{escape(card.note)}</p>' if card.note else ''
    return (
        f'<article data-drop="{card.drop:.6f}"{behind}><h3>{escape(card.title)}</h3>'
        f'{note}{_table(head, scores)}{_rows(card.rows)}</article>'
    )


def _rows(rows: list[list[Panel]]) -> str:
    """Rows of pictures with their titles."""
    text = ''
    for row in rows:
        figures = ''.join(
            f'<figure><figcaption>{escape(p.title)}</figcaption>'
            f'<img src="{p.source}" alt="{escape(p.alt)}"></figure>'
            for p in row
        )
        text += f'<div class="row">{figures}</div>'
    return text


def _percent(value: float) -> str:
    # Differences may be negative; -1 stands for no ground truth.
    return '&ndash;' if value <= -1 else f'{100 * value:.1f}'
