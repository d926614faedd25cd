"""Torch7 files: real ones are read, bad ones refused quickly with bounded memory."""

import contextlib
import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrefine.sharpmask.torch7 import MAX_DEPTH, Torch7Error, Torch7Object, load_torch7, lookup

DATA = Path(__file__).parents[1] / 'data' / 'golden'
FIXTURES = ('sharpmask_t7_fixture_float.t7', 'sharpmask_t7_fixture_cuda.t7')


def number(value: float) -> bytes:
    return struct.pack('<id', 1, value)


def text(value: bytes) -> bytes:
    return struct.pack('<i', len(value)) + value


def table(key: int, *pairs: bytes) -> bytes:
    return struct.pack('<iii', 3, key, len(pairs) // 2) + b''.join(pairs)


def storage(key: int, values: list[float], count: int | None = None) -> bytes:
    head = struct.pack('<ii', 4, key) + text(b'V 1') + text(b'torch.FloatStorage')
    return (
        head
        + struct.pack('<q', len(values) if count is None else count)
        + np.float32(values).tobytes()
    )


def tensor(key: int, sizes: list[int], strides: list[int], offset: int, content: bytes) -> bytes:
    head = struct.pack('<ii', 4, key) + text(b'V 1') + text(b'torch.FloatTensor')
    ints = struct.pack(f'<{2 * len(sizes)}q', *sizes, *strides)
    return head + struct.pack('<i', len(sizes)) + ints + struct.pack('<q', offset) + content


def read(tmp_path: Path, content: bytes) -> object:
    path = tmp_path / 'file.t7'
    path.write_bytes(content)
    return load_torch7(path)


@pytest.mark.parametrize('name', FIXTURES)
def test_files_of_a_real_torch7_give_the_recorded_tensors(name):
    root = load_torch7(DATA / name)
    recorded = json.loads((DATA / 'sharpmask_t7_fixture.json').read_text())
    assert len(recorded) > 5
    for path, record in recorded.items():
        value = lookup(root['model'], path)
        assert list(value.shape) == record['shape']
        np.testing.assert_allclose(value.ravel(), record['values'], atol=1e-6)


def test_class_names_and_options_survive():
    root = load_torch7(DATA / FIXTURES[0])
    trunk = root['model']['trunk']
    assert isinstance(trunk, Torch7Object) and trunk.class_name == 'nn.Sequential'
    assert root['config']['iSz'] == 160 and isinstance(root['config']['iSz'], int)


def test_strided_views_of_one_storage_are_honoured(tmp_path):
    content = tensor(1, [2, 2], [1, 2], 2, storage(2, [9, 1, 2, 3, 4]))
    np.testing.assert_array_equal(read(tmp_path, content), [[1, 3], [2, 4]])


def test_a_shared_table_is_one_object(tmp_path):
    shared = table(2, number(1), number(7))
    value = read(tmp_path, table(1, number(1), shared, number(2), struct.pack('<ii', 3, 2)))
    assert value[1] is value[2]


def test_functions_are_skipped_without_running(tmp_path):
    function = struct.pack('<ii', 8, 5) + text(b'\x1bLJ code') + table(6)
    value = read(tmp_path, table(1, number(1), function, number(2), number(3)))
    assert value[2] == 3


def test_missing_paths_are_named():
    root = load_torch7(DATA / FIXTURES[0])
    with pytest.raises(KeyError, match='nowhere'):
        lookup(root['model'], 'trunk.nowhere.weight')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'empty'),
        (b'\x89PNG\r\n\x1a\n' + bytes(40), 'unknown type tag'),
        (b'PK\x03\x04' + bytes(60), 'unknown type tag'),
        (struct.pack('<ii', 2, 1 << 30), 'needs 1073741824 bytes'),
        (struct.pack('<ii', 2, -5), 'needs -5 bytes'),
        (struct.pack('<iii', 3, 1, 1 << 30), 'claims 1073741824 entries'),
        (storage(1, [1.0], count=1 << 60), 'a storage of'),
        (storage(1, [1.0], count=-1), 'a storage of'),
        (tensor(1, [1 << 40], [0], 1, storage(2, [1.0])), 'does not fit'),
        (tensor(1, [4], [1], 1, storage(2, [1.0, 2.0])), 'does not fit'),
        (tensor(1, [2], [-1], 1, storage(2, [1.0, 2.0])), 'does not fit'),
        (tensor(1, [2], [1], 0, storage(2, [1.0, 2.0])), 'does not fit'),
        (tensor(1, [2], [1], 1, number(3)), 'without a storage'),
        (table(1, number(1), struct.pack('<ii', 3, 1)), 'contains itself'),
        (table(1, table(2), number(1)), 'table key'),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_a_reason(tmp_path, content, message):
    with pytest.raises(Torch7Error, match=message):
        read(tmp_path, content)


def test_deep_nesting_is_refused_before_the_stack_ends(tmp_path):
    content = number(1)
    for key in range(MAX_DEPTH + 50, 0, -1):
        content = table(key, number(1), content)
    with pytest.raises(Torch7Error, match='nest deeper'):
        read(tmp_path, content)


def test_huge_claims_cost_no_memory(tmp_path):
    tracemalloc.start()
    for content in (storage(1, [1.0], 1 << 60), struct.pack('<iii', 3, 1, (1 << 31) - 1)):
        with pytest.raises(Torch7Error):
            read(tmp_path, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize('name', FIXTURES)
def test_every_truncation_is_refused(tmp_path, name):
    content = (DATA / name).read_bytes()
    for end in [*range(1, 60), *range(60, len(content), 97)]:
        with pytest.raises(Torch7Error):
            read(tmp_path, content[:end])


@settings(max_examples=150)
@given(st.data())
def test_flipped_bytes_never_raise_anything_else(tmp_path_factory, data):
    content = bytearray((DATA / FIXTURES[0]).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp('t7') / 'flipped.t7'
    path.write_bytes(content)
    with contextlib.suppress(Torch7Error):
        load_torch7(path)
