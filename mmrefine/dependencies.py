"""Check at import that the packages below us are there, new enough and complete.

Only lower bounds: an upper bound refuses combinations that nobody has tried. Both lines of
distributions count, OpenMMLab's and the maintained ``onedl-*`` forks, since they carry the same
import names.
"""

import re
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

MINIMUM = {'torch': '2.6', 'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmdet': '3.3.0'}

# mmcv 2.1.0 does not build on Python 3.13.
STACK = ' --stack onedl' if sys.version_info >= (3, 13) else ''
INSTALL = f'`bash tools/install.sh{STACK}` in a checkout of mmrefine sets up a complete environment'
REMEDY = {
    'torch': '`pip install torch==2.13.0`',
    'mmengine': '`pip install "mmengine>=0.10.7"`',
    'mmcv': '`pip install --no-build-isolation mmcv==2.1.0` (compiles for about ten minutes)',
    'mmdet': '`pip install "mmdet>=3.3.0"`',
}


def require_dependencies() -> None:
    """Import torch, mmengine, mmcv with its compiled operators, and mmdet.

    Raises:
        ImportError: One is missing, broken, too old, or refused by another; it names the fix.
    """
    for name, minimum in MINIMUM.items():
        module = _import(name)
        found = str(getattr(module, '__version__', '0'))
        if _numbers(found) < _numbers(minimum):
            raise ImportError(
                f'mmrefine needs {name} >= {minimum}, this is {found}: {_remedy(name)}'
            )
        if name == 'mmcv':
            _require_operators(found)


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except AssertionError as error:
        # mmdet caps the versions of mmcv and mmengine by bare assertions.
        raise ImportError(
            f'{name} refuses the packages beside it ("{error}"): install the versions it accepts, '
            f'{REMEDY["mmcv"]} and {REMEDY["mmengine"]}, or use the maintained line instead '
            f'(onedl-mmengine, onedl-mmcv, onedl-mmdetection); {INSTALL}'
        ) from error
    except ModuleNotFoundError as error:
        if error.name == name:
            raise ImportError(f'mmrefine needs {name}: {_remedy(name)}') from error
        raise ImportError(
            f'{name} is installed but its dependency {error.name} is not: '
            f'`pip install -r requirements.txt`; {INSTALL}'
        ) from error
    except ImportError as error:
        raise ImportError(f'{name} is installed but does not load ({error}): {INSTALL}') from error


def _require_operators(found: str) -> None:
    try:
        import_module('mmcv._ext')
    except ModuleNotFoundError as error:
        raise ImportError(
            f'mmcv {found} has no compiled operators (mmcv._ext is missing): this is {_lite()}. '
            f'`pip uninstall mmcv mmcv-lite`, then {_remedy("mmcv")}'
        ) from error
    except ImportError as error:
        raise ImportError(
            f'the compiled operators of mmcv {found} do not load ({error}): they were built for '
            f'another torch. `pip install --force-reinstall --no-deps --no-build-isolation '
            f'--no-cache-dir --no-binary mmcv mmcv==2.1.0` builds them anew; {INSTALL}'
        ) from error


def _lite() -> str:
    try:
        return f'the lite build (mmcv-lite {version("mmcv-lite")})'
    except PackageNotFoundError:
        return 'the lite build, or one made without MMCV_WITH_OPS=1'


def _remedy(name: str) -> str:
    return f'{REMEDY[name]}; {INSTALL}'


def _numbers(text: str) -> tuple[int, ...]:
    """Leading numbers of a version, without trailing zeros: ``2.1.0rc1+cu130`` -> ``(2, 1)``."""
    numbers = [int(part) for part in re.match(r'[\d.]*', text)[0].split('.') if part]  # type: ignore[index]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
