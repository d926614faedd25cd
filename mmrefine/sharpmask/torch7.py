"""Read binary files of Torch7 (``.t7``) without running anything they contain.

Origin:   the binary serialisation of torch/torch7 (File.lua), described from the format alone
Changes:  sizes are checked against what is left of the file before anything is allocated, tensors
          are views of the file, code is skipped, reference cycles and deep nesting are refused.

Layout:   little-endian; every value starts with an int32 tag, tables and objects carry an id for
          back-references.
"""

import math
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_NIL, _NUMBER, _STRING, _TABLE, _OBJECT, _BOOLEAN = range(6)
_FUNCTIONS = (6, 7, 8)

# the object model of a released network nests about 15 deep, each level costing two reads
MAX_DEPTH = 128

_ELEMENT_TYPES = {
    'Float': '<f4', 'Double': '<f8', 'Half': '<f2', 'Long': '<i8', 'Int': '<i4', 'Short': '<i2',
    'Char': '<i1', 'Byte': '<u1', 'Cuda': '<f4', 'CudaDouble': '<f8', 'CudaHalf': '<f2',
    'CudaLong': '<i8', 'CudaInt': '<i4', 'CudaShort': '<i2', 'CudaChar': '<i1', 'CudaByte': '<u1',
}  # fmt: skip
_ARRAY_CLASS = re.compile(r'torch\.(\w+?)(Tensor|Storage)$')


class Torch7Error(ValueError):
    """The file is damaged, cut off, or no Torch7 file."""


@dataclass
class Torch7Object:
    """An object of a Lua class such as ``nn.Linear``, with its table."""

    class_name: str
    fields: dict[Any, Any] = field(repr=False)

    def __getitem__(self, key: Any) -> Any:
        return self.fields[key]


_OPEN = object()  # marks an id whose payload is still being read


class _Reader:
    def __init__(self, data: memoryview, name: str) -> None:
        self.data, self.name = data, name
        self.position = self.depth = 0
        self.known: dict[int, Any] = {}

    def fail(self, message: str) -> Torch7Error:
        return Torch7Error(f'{self.name}: {message} (at byte {self.position})')

    def take(self, size: int, what: str) -> memoryview:
        left = len(self.data) - self.position
        if not 0 <= size <= left:
            raise self.fail(f'{what} needs {size} bytes, {left} are left')
        self.position += size
        return self.data[self.position - size : self.position]

    def number(self, code: str, what: str) -> Any:
        return struct.unpack(f'<{code}', self.take(struct.calcsize(f'<{code}'), what))[0]

    def text(self, what: str) -> str:
        return bytes(self.take(self.number('i', f'length of {what}'), what)).decode('latin-1')

    def value(self) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail(f'values nest deeper than {MAX_DEPTH} levels')
        tag = self.number('i', 'a type tag')
        result: Any = None
        if tag == _NUMBER:
            result = self.number('d', 'a number')
            if math.isfinite(result) and result == int(result):
                result = int(result)
        elif tag == _STRING:
            result = self.text('a string')
        elif tag == _BOOLEAN:
            result = self.number('i', 'a boolean') != 0
        elif tag in (_TABLE, _OBJECT, *_FUNCTIONS):
            result = self._shared(tag)
        elif tag != _NIL:
            raise self.fail(f'unknown type tag {tag}; is this a binary Torch7 file?')
        self.depth -= 1
        return result

    def _shared(self, tag: int) -> Any:
        # A file stores these once; later mentions give the id alone.
        key = self.number('i', 'an object id')
        if key not in self.known:
            self.known[key] = _OPEN
            self.known[key] = self._content(tag)
        if self.known[key] is _OPEN:
            raise self.fail(f'object {key} contains itself; cyclic files are refused')
        return self.known[key]

    def _content(self, tag: int) -> Any:
        if tag == _TABLE:
            return self._table()
        if tag == _OBJECT:
            return self._object()
        self.text('a function')  # its code is skipped, and so is what it captured
        self.value()
        return None

    def _table(self) -> dict[Any, Any]:
        count = self.number('i', 'the size of a table')
        # A pair takes at least two tags of four bytes.
        if not 0 <= count * 8 <= len(self.data) - self.position:
            raise self.fail(f'a table claims {count} entries, more than the file can hold')
        table: dict[Any, Any] = {}
        for _ in range(count):
            key, value = self.value(), self.value()
            if not isinstance(key, (str, int, float)):
                raise self.fail(f'a table key of type {type(key).__name__} is not supported')
            table[key] = value
        return table

    def _object(self) -> Any:
        version = self.text('a class version')
        # files older than versioning start with the class name itself
        class_name = self.text('a class name') if version.startswith('V ') else version
        match = _ARRAY_CLASS.match(class_name)
        if match is None:
            fields = self.value()
            if not isinstance(fields, dict):
                raise self.fail(f'object of class {class_name!r} holds no table')
            return Torch7Object(class_name, fields)
        if match[1] not in _ELEMENT_TYPES and not (match[1] == '' and match[2] == 'Tensor'):
            raise self.fail(f'unknown array class {class_name!r}')
        kind = np.dtype(_ELEMENT_TYPES[match[1]])
        return self._tensor(kind) if match[2] == 'Tensor' else self._storage(kind)

    def _storage(self, kind: np.dtype) -> np.ndarray:
        size = self.number('q', 'the size of a storage')
        raw = self.take(size * kind.itemsize, f'a storage of {size} elements')
        return np.frombuffer(raw, dtype=kind)

    def _tensor(self, kind: np.dtype) -> np.ndarray:
        ndim = self.number('i', 'the rank of a tensor')
        if not 0 <= ndim <= 16:
            raise self.fail(f'a tensor of rank {ndim}')
        sizes = struct.unpack(f'<{ndim}q', self.take(8 * ndim, 'tensor sizes'))
        strides = struct.unpack(f'<{ndim}q', self.take(8 * ndim, 'tensor strides'))
        offset = self.number('q', 'a tensor offset') - 1
        storage = self.value()
        if ndim == 0 or 0 in sizes:
            return np.empty(sizes if ndim else 0, kind)
        if not isinstance(storage, np.ndarray) or storage.dtype != kind:
            raise self.fail('a tensor without a storage of its own type')
        last = offset + sum((n - 1) * s for n, s in zip(sizes, strides))
        plain = min(sizes) > 0 and min(strides) >= 0 and offset >= 0 and last < storage.size
        if not plain or math.prod(sizes) > storage.size:
            raise self.fail(
                f'a tensor of size {sizes}, stride {strides}, offset {offset + 1} does not fit its '
                f'storage of {storage.size} elements'
            )
        steps = tuple(s * kind.itemsize for s in strides)
        return np.lib.stride_tricks.as_strided(storage[offset:], sizes, steps, writeable=False)


def load_torch7(path: str | Path) -> Any:
    """Read the first value of a file written by ``torch.save`` of Torch7 in its binary form.

    Tables become dicts (Lua indices stay 1-based ints), tensors read-only views of the mapped file,
    other objects ``Torch7Object``, functions None; damaged, cyclic and foreign files a Torch7Error.
    """
    path = Path(path)
    if path.stat().st_size == 0:
        raise Torch7Error(f'{path.name}: the file is empty')
    data = np.memmap(path, np.uint8, mode='r')
    return _Reader(memoryview(data), path.name).value()  # type: ignore[arg-type]


def lookup(root: Any, path: str) -> Any:
    """Follow a path such as ``model.trunk.modules[1].weight`` (1-based indices)."""
    for step in re.findall(r'[^.\[\]]+|\[\d+\]', path):
        key: str | int = int(step[1:-1]) if step.startswith('[') else step
        fields = root.fields if isinstance(root, Torch7Object) else root
        if not isinstance(fields, dict) or key not in fields:
            raise KeyError(f'no {step!r} on the way to {path!r}')
        root = fields[key]
    return root
