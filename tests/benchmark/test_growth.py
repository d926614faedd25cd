"""The growth of time and memory with a number."""

import pytest
from benchmark import growth
from benchmark.report import growth as growth_table


@pytest.fixture
def sweep(monkeypatch):
    """A row of times and memory that grow with powers of the number."""
    monkeypatch.setattr(growth, 'interleave', lambda calls, *_: [[c()[0], 99.0] for c in calls])
    monkeypatch.setattr(growth, 'peak_memory', lambda call, _: call()[1])

    def make(time, memory, quick=False):
        numbers = (1, 2, 4)
        calls = [lambda n=n: (n**time, 1000 * n**memory) for n in numbers]
        return growth.grow('things', 'power', numbers, calls, 'cpu', quick)

    return make


def test_what_grows_with_the_work_or_slower_is_kept(sweep):
    row = sweep(0.5, 1)
    assert row.equal
    assert row.details['times'] == pytest.approx([1, 2**0.5, 2])
    assert (row.time_ratio, row.memory_ratio) == pytest.approx((1 / 2, 1 / 4))


@pytest.mark.parametrize('powers', [(2, 1), (1, 2)])
def test_what_grows_faster_is_not(sweep, powers):
    assert not sweep(*powers).equal
    assert sweep(*powers, quick=True).equal


def test_the_table_and_the_plots_show_every_row(sweep, tmp_path):
    rows = [sweep(power, power).as_dict() for power in (0.5, 2)]
    lines = growth_table(rows).splitlines()
    assert lines[2] == '| things | power | 1, 2, 4 | 4.00 | 2.00 | 2.00 | never faster |'
    assert lines[3] == '| things | power | 1, 2, 4 | 4.00 | 16 | 16 | **faster** |'
    growth.draw(rows, tmp_path / 'growth.png')
    assert (tmp_path / 'growth.png').stat().st_size > 5000
