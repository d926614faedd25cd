"""Class-wise mask logits that are computed for the one class asked for.

Stock RoI heads carry the mask head's output to its loss or prediction step without looking at it,
except that cascades average the sigmoid over stages. So the output may be a recipe: features and a
classifier, evaluated once the label of every RoI is known.

Shapes:   N RoIs, C channels, K classes, S grid side.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmrefine.layers import ClassLogits

Term = tuple[Tensor, ClassLogits]


class LazyClassLogits:
    """Stands for logits Tensor[N, K, S, S], or for an average of their sigmoids over stages.

    The operations that stock RoI heads apply between head and prediction (``split``, ``sigmoid``,
    ``detach``, adding and removing a leading axis, ``torch.cat`` over stages and ``mean``) stay
    lazy. Everything else computes all classes.

    Args:
        terms: Features Tensor[N, C, S, S] and classifier, one pair per averaged stage.
        activated: Whether the sigmoid was applied.
    """

    def __init__(self, terms: Sequence[Term], activated: bool = False) -> None:
        self.terms = tuple(terms)
        self.activated = activated

    def _map(self, change: Callable[[Tensor], Tensor]) -> 'LazyClassLogits':
        return LazyClassLogits([(change(x), layer) for x, layer in self.terms], self.activated)

    def _evaluate(self, labels: Tensor | None) -> Tensor:
        values = [layer(x, labels) for x, layer in self.terms]
        if not self.activated:
            return values[0]
        return torch.stack([v.float().sigmoid() for v in values]).mean(0)

    def of_class(self, labels: Tensor) -> Tensor:
        """Values of class ``labels[n]`` for RoI n: Tensor[N, 1, S, S]."""
        return self._evaluate(labels)

    def dense(self) -> Tensor:
        """Values of all classes: Tensor[N, K, S, S]."""
        return self._evaluate(None)

    @property
    def shape(self) -> torch.Size:
        """Size of the tensor that this stands for."""
        features, layer = self.terms[0]
        return torch.Size((len(features), layer.num_classes, *features.shape[2:]))

    def size(self, dim: int | None = None) -> Any:
        """As of a tensor."""
        return self.shape if dim is None else self.shape[dim]

    def __len__(self) -> int:
        return self.shape[0]

    def split(self, sizes: Sequence[int] | int, dim: int = 0) -> tuple['LazyClassLogits', ...]:
        """Split along the RoIs."""
        if dim != 0:
            return self.dense().split(sizes, dim)
        parts = [x.split(sizes) for x, _ in self.terms]
        layers = [layer for _, layer in self.terms]
        return tuple(LazyClassLogits(list(zip(p, layers)), self.activated) for p in zip(*parts))

    def sigmoid(self) -> 'LazyClassLogits':
        """Mark the values as probabilities."""
        return LazyClassLogits(self.terms, True)

    def detach(self) -> 'LazyClassLogits':
        """Cut the features from the graph."""
        return self._map(Tensor.detach)

    def __getitem__(self, index: Any) -> Any:
        # mask[None, :] is how stock code adds the axis over which stages are averaged
        if isinstance(index, tuple) and index == (None, slice(None)):
            return _Stages([self])
        return self.dense()[index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'terms':
            raise AttributeError(name)
        return getattr(self.dense(), name)

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return func(*_densify(args), **_densify(kwargs or {}))


class _Stages:
    """Lazy values with a leading axis over stages."""

    def __init__(self, stages: Sequence[LazyClassLogits]) -> None:
        self.stages = list(stages)

    def __mul__(self, weight: float) -> Any:
        return self if weight == 1 else torch.stack([s.dense() for s in self.stages]) * weight

    def mean(self, dim: int = 0) -> LazyClassLogits:
        """Average over stages."""
        return LazyClassLogits([t for s in self.stages for t in s.terms], activated=True)

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is torch.cat and all(isinstance(x, cls) for x in args[0]):
            return cls([stage for x in args[0] for stage in x.stages])
        return func(*_densify(args), **_densify(kwargs or {}))


def _densify(value: Any) -> Any:
    if isinstance(value, LazyClassLogits):
        return value.dense()
    if isinstance(value, _Stages):
        return torch.stack([stage.dense() for stage in value.stages])
    if isinstance(value, dict):
        return {key: _densify(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_densify(item) for item in value)
    return value
