"""Run a script that MMDetection ships, on either line of distributions."""

import argparse
import runpy
import sys
import tempfile
from pathlib import Path

import mmrefine  # noqa: F401  (checks the dependencies and bridges torch and NumPy first)


def run_mmdet_tool(name: str) -> None:
    """Run ``mmdet/.mim/tools/<name>`` with this process's arguments.

    Raises:
        SystemExit: The script is not there, the config is YAML, or the work directory cannot be
            written.
    """
    import mmdet

    script = Path(mmdet.__file__).parent / '.mim' / 'tools' / name
    if not script.is_file():
        raise SystemExit(
            f'{script} is missing: this mmdet was not installed from a wheel. '
            '`pip install --force-reinstall --no-deps mmdet==3.3.0`, or run its own tools instead'
        )
    refuse_yaml(sys.argv[1:])
    folder = work_directory(sys.argv[1:])
    if folder is not None:
        require_writable(folder)
    sys.argv[0] = str(script)
    runpy.run_path(str(script), run_name='__main__')


def refuse_yaml(arguments: list[str]) -> None:
    """Stop at a YAML config: MMEngine's loader runs code that it may hold.

    Raises:
        SystemExit: One is given.
    """
    for argument in arguments:
        if argument.endswith(('.yml', '.yaml')):
            raise SystemExit(
                f'{argument} is refused: MMEngine runs code that YAML files may hold; write the '
                'config as Python (.py)'
            )


def work_directory(arguments: list[str]) -> Path | None:
    """The folder that ``--work-dir`` names, if it is given."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--work-dir', type=Path)
    return parser.parse_known_args(arguments)[0].work_dir


def require_writable(folder: Path) -> None:
    """Try to write into ``folder``, making it if need be.

    Raises:
        SystemExit: It cannot be written; the message names the folder and the reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SystemExit(
            f'cannot write to the output folder {folder} ({error.strerror}): '
            'name another one with --work-dir'
        ) from None
