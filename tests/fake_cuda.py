"""Tensors that call themselves ``cuda`` on a machine without a GPU.

They compute on the CPU, so that code which depends on values runs and results can be compared. An
operation on tensors of two devices is an error, as on a GPU, and every wait for the device is
counted.
"""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmcv._ext
import mmdet
import mmengine
import pytest
import torch
from mmengine.structures import instance_data
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

import mmrefine

aten = torch.ops.aten
CUDA = torch.device('cuda', 0)
# Results whose size only the device knows. A boolean index is one as well.
WAITING = {
    aten._local_scalar_dense, aten._unique2, aten.bincount, aten.equal, aten.masked_select,
    aten.nonzero, aten.unique_consecutive, aten.unique_dim,
    aten.unique_dim_consecutive,
}  # fmt: skip
INDEXING = {aten.index, aten.index_put, aten.index_put_}
# What takes tensors of two devices.
MIXING = {aten.copy_, *INDEXING}
# mmcv's kernels that wait.
WAITING_KERNELS = ('nms', 'softnms')


class CudaTensor(Tensor):
    """A tensor of device ``cuda`` whose values lie on the CPU.

    To C++, which knows no CUDA here, it is of device ``meta``.

    Attributes:
        values: The CPU tensor.
    """

    values: Tensor
    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = is_meta = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: Tensor) -> 'CudaTensor':
        made = Tensor._make_wrapper_subclass(
            cls, values.size(), strides=values.stride(), storage_offset=values.storage_offset(),
            dtype=values.dtype, device='meta',
        )  # fmt: skip
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Outside of the context, as when results are read.
        return FakeCuda().__torch_dispatch__(func, types, args, kwargs)

    # What C++ refuses to subclasses, or makes without values on ``meta``.

    def tolist(self) -> list:
        return self.cpu().tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f'CudaTensor({self.values})'

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(as_index(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(as_index(index), value)

    def new_tensor(self, data: Any, dtype: Any = None, device: Any = CUDA) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=device)


class FakeCuda(TorchDispatchMode):
    """Context in which tensors can be of device ``cuda``.

    Attributes:
        waits: How often each function waited for the device, by ``module.function`` of the
            package; what MMDetection's own parts do counts for ``mmdet``.
    """

    # Under this key torch does not try to start CUDA.
    _mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.before: list[bool] = []

    def __enter__(self) -> 'FakeCuda':
        self.before.append(torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(self.before.pop())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet, device = func.overloadpacket, kwargs.get('device')
        on_cuda = require_one_device(func, (args, kwargs), mixing=packet in MIXING)
        if packet is aten.copy_:
            on_cuda = isinstance(args[0], CudaTensor)
        # C++ asks for ``meta`` where it means the device of a CudaTensor.
        wanted = on_cuda if device is None else torch.device(device).type != 'cpu'
        fetched = packet is aten._local_scalar_dense or (device is not None and not wanted)
        if any(isinstance(x, CudaTensor) for x in args) and (
            fetched or waits(packet, args, kwargs)
        ):
            self.waits[waiting_function()] += 1
        if func.namespace == 'mmrefine':
            # The operator's own code, since it may tell devices apart.
            with self:
                return OPDEFS[func._schema.name]._init_fn(*args, **kwargs)
        if device is not None:
            kwargs = {**kwargs, 'device': torch.device('cpu')}
        result = func(*pytree.tree_map(inner, args), **pytree.tree_map(inner, kwargs))
        if not wanted or packet is aten._local_scalar_dense:
            return result
        return return_and_correct_aliasing(func, args, kwargs, pytree.tree_map(outer, result))


def as_index(index: Any) -> Any:
    """An index whose lists are tensors."""
    if isinstance(index, tuple):
        return tuple(map(as_index, index))
    return torch.tensor(list(index), device=CUDA) if isinstance(index, (list, range)) else index


def inner(node: Any) -> Any:
    return node.values if isinstance(node, CudaTensor) else node


def outer(node: Any) -> Any:
    return CudaTensor(node) if type(node) is Tensor else node


def require_one_device(func: Any, values: Any, mixing: bool = False) -> bool:
    """Whether tensors of an operation are on the GPU; an error if only some of them are.

    Single numbers on the CPU go with either device.
    """
    tensors = [x for x in pytree.tree_leaves(values) if isinstance(x, Tensor)]
    on_cuda = [x for x in tensors if isinstance(x, CudaTensor)]
    if on_cuda and not mixing and any(x.device.type == 'cpu' and x.dim() for x in tensors):
        raise RuntimeError(f'{func} got tensors on cuda:0 and on the CPU')
    return bool(on_cuda)


def waits(packet: Any, args: tuple, kwargs: dict) -> bool:
    """Whether an operation on the GPU makes the host wait."""
    if packet is aten.repeat_interleave:
        return kwargs.get('output_size') is None
    if packet in INDEXING:
        return any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])
    return packet in WAITING


def waiting_function() -> str:
    """The innermost function of this package, or ``mmdet``, among the callers."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if PACKAGES[0] in path.parents:
            name = frame.f_code.co_qualname if sys.version_info >= (3, 11) else frame.f_code.co_name
            return f'{path.relative_to(PACKAGES[0]).with_suffix("")}: {name}'
        if any(package in path.parents for package in PACKAGES[1:]):
            return 'mmdet'
        frame = frame.f_back
    return 'autograd'


PACKAGES = [Path(package.__file__).parent for package in (mmrefine, mmdet, mmengine)]


def fake_kernel(name: str, kernel: Callable, mode: FakeCuda) -> Callable:
    """A kernel of mmcv that takes CudaTensors."""

    def call(*args: Any, **kwargs: Any) -> Any:
        on_cuda = require_one_device(name, (args, kwargs))
        if on_cuda and name in WAITING_KERNELS:
            mode.waits[waiting_function()] += 1
        result = kernel(*pytree.tree_map(inner, args), **pytree.tree_map(inner, kwargs))
        return pytree.tree_map(outer, result) if on_cuda else result

    return call


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """The context; inside, mmcv's kernels work as well."""
    mode = FakeCuda()
    # mmengine tells indices by their C++ type.
    indices = instance_data.IndexType | CudaTensor
    monkeypatch.setattr(instance_data, 'IndexType', indices)
    for name, kernel in list(vars(mmcv._ext).items()):
        if callable(kernel) and not name.startswith('_'):
            monkeypatch.setattr(mmcv._ext, name, fake_kernel(name, kernel, mode))
    return mode
