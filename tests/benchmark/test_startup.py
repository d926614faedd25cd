"""The benchmark of importing the package."""

from benchmark.startup import start_up


def test_every_component_is_registered_by_the_import():
    (row,) = start_up('cpu', quick=True)
    assert row.details['unregistered'] == []
    assert row.equal
