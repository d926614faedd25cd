"""Supply NumPy names that stock metrics still use inside these modules; NumPy is not touched.

Imported with the components, which is before any registry builds a metric. Who calls ``lvis`` or
``CityScapesMetric`` without a registry imports this module first.
"""

import sys
from types import ModuleType

import mmdet.evaluation  # noqa: F401  (imports the users below where they are installed)
import numpy as np

# Removed in NumPy 1.24 and 2.4.
NAMES = {'float': float, 'int': int, 'bool': bool, 'object': object, 'in1d': np.isin}
USERS = (
    'lvis.eval',
    'mmdet.evaluation.functional.ytviseval',
    'cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling',
)


def supply(module: ModuleType) -> None:
    """Give one module a NumPy namespace in which the removed names exist."""
    missing = {name: value for name, value in NAMES.items() if name not in vars(np)}
    if missing and getattr(module, 'np', None) is np:
        namespace = ModuleType('numpy', np.__doc__)
        vars(namespace).update(vars(np), **missing)
        module.np = namespace  # type: ignore[attr-defined]


for _name in USERS:
    if _name in sys.modules:
        supply(sys.modules[_name])
