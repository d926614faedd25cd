"""Make the components known to MMDetection's registries without importing them.

A registry imports its *locations* at its first look-up; ours join that list. A registry that has
had its first look-up gets the components at once: what they build on is then imported anyway.
"""

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from mmdet import registry as mmdet_registry
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry


def registries() -> list[Registry]:
    """All registries of MMDetection."""
    return [node for node in vars(mmdet_registry).values() if isinstance(node, Registry)]


def announce(package: str, components: Iterable[str]) -> None:
    """Add modules to the places where MMDetection's registries look for components.

    Args:
        package: Import name whose configs ``package::folder/config`` shall address.
        components: Names of the modules that register something when imported.
    """
    # Bases of other projects and `get_config` resolve only packages of this table.
    MODULE2PACKAGE.setdefault(package, package)
    modules = list(components)
    seen_use = False
    for registry in registries():
        locations = getattr(registry, '_locations', None)
        if locations is None or getattr(registry, '_imported', True):
            seen_use = True
        else:
            locations.extend(module for module in modules if module not in locations)
    if seen_use:
        for module in modules:
            import_module(module)


def load_public(package: str, components: Mapping[str, tuple[str, ...]], name: str) -> Any:
    """Import the public class ``name`` and keep it as an attribute of ``package``.

    Raises:
        AttributeError: No component module lists ``name``.
    """
    for module, names in components.items():
        if name in names:
            value = getattr(import_module(module), name)
            setattr(sys.modules[package], name, value)
            return value
    raise AttributeError(f'module {package!r} has no attribute {name!r}')
