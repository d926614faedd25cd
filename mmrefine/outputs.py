"""Keep a tool from writing over what it reads."""

from pathlib import Path


def refuse_overwriting(out: str | Path | None, **inputs: str | Path | None) -> None:
    """Make sure that an output is none of the inputs, whatever links lead there.

    Args:
        out: Where a tool will write; None if nowhere.
        inputs: Name of an argument -> the path it got, or None.

    Raises:
        ValueError: They are one file.
    """
    if out is None:
        return
    for name, path in inputs.items():
        if path is not None and _same(Path(out), Path(path)):
            option = name.replace('_', '-')
            raise ValueError(f'{out} is also --{option}, which is read: name another output')


def _same(one: Path, other: Path) -> bool:
    # Hard links, and letter case where the file system ignores it, resolve to different paths.
    both = one.exists() and other.exists()
    return one.resolve() == other.resolve() or (both and one.samefile(other))
