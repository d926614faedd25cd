"""The installer's own logic: choices, messages, the cached wheel, the check of the operators."""

import os
import re
import stat
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from locations import ROOT
from tiny_training import run

from mmrefine.dependencies import MINIMUM

sys.path.insert(0, str(ROOT / 'tools'))
import check_install


def shell(lines: str, expect: int = 0, **extra: str) -> str:
    """Run lines of bash with the installer's functions at hand."""
    stack = 'MMCV_NAME=mmcv MMCV=2.1.0 LOCKS=tools/install-lock.txt'
    variables = f'BEGAN=$SECONDS PYTHON={sys.executable} VENV=1 {stack}'
    files = '. tools/install_steps.sh; . tools/install_headers.sh'
    code = f'set -euo pipefail; cd {ROOT}; {variables}\n{files}\n{lines}'
    return run('bash', '-c', code, expect=expect, **{'FORCE_CUDA': '', **extra})


def program(folder: Path, name: str, text: str) -> Path:
    """An executable script."""
    path = folder / name
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ('log', 'advice'),
    [
        ("ModuleNotFoundError: No module named 'pkg_resources'", "pip install 'setuptools<80.9'"),
        ('x.cpp:1:10: fatal error: Python.h: No such file or directory', 'python3-dev'),
        ('g++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('#error -- unsupported GNU version! gcc later than 12', 'CXX=g++-12'),
        ('The detected CUDA version (11.8) mismatches the version', 'nvcc and torch'),
        (
            'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM',
            'PIP_INDEX_URL=https://pypi.org/simple',
        ),
        ('OSError: [Errno 28] No space left on device', 'the disk is full'),
        ('ERROR: No matching distribution found for mmcv', 'check the network'),
        ("error: command '/usr/bin/g++' failed with exit code 1", 'C++17 compiler'),
        ('something else', 'see the lines above'),
    ],
)
def test_failures_come_with_advice(tmp_path: Path, log: str, advice: str) -> None:
    (tmp_path / 'log').write_text(f'Building wheel\n{log}\nmore\n')
    assert advice in shell(f'advice < {tmp_path}/log')


def test_failing_step_shows_its_end_and_the_log(tmp_path: Path) -> None:
    log = tmp_path / 'log'
    failing = program(tmp_path, 'failing', 'echo No module named pkg_resources; exit 3')
    printed = shell(f"LOG={log}; touch {log}; step 'a step' {failing}", expect=1)
    assert 'No module named pkg_resources' in printed
    assert 'FAILED: a step (exit status 3)' in printed and f'full log: {log}' in printed


def test_progress_reads_the_build_log(tmp_path: Path) -> None:
    (tmp_path / 'log').write_text('  [1/57] c++ a\n  [12/57] c++ b\nnote\n')
    expected = 'compiled 12 of 57 files, about 8 min left'  # 120 s for 12 files: 450 s for 45
    assert shell(f'progress 120 < {tmp_path}/log').strip() == expected
    (tmp_path / 'log').write_text('Collecting six\n')
    assert shell(f'progress 15 < {tmp_path}/log').strip() == 'Collecting six'


def test_the_compiler_is_called_through_ccache(tmp_path: Path) -> None:
    (tmp_path / 'bin').mkdir()
    program(tmp_path / 'bin', 'ccache', 'echo "ccache as $(basename "$0")"')
    path = f'{tmp_path}/bin:{os.environ["PATH"]}'
    lines = f'CACHE={tmp_path}; CUDA= CXX_FOUND=c++; use_ccache; "$CXX_FOUND"'
    printed = shell(lines, PATH=path)
    assert 'compiling through ccache' in printed and 'ccache as c++' in printed
    printed = shell(
        f'CACHE={tmp_path}; CUDA=130 NVCC=/c/nvcc CXX_FOUND=c++; use_ccache; env', PATH=path
    )
    assert 'PYTORCH_NVCC=ccache /c/nvcc' in printed
    untouched = f'CACHE={tmp_path}; CUDA=; CXX_FOUND="ccache g++"; use_ccache; echo "$CXX_FOUND"'
    assert shell(untouched, PATH=path) == 'ccache g++\n'


def test_headers_of_torch_are_compiled_once(tmp_path: Path) -> None:
    """GCC marks a precompiled header that it takes by ! and one that it cannot take by x."""
    if 'Free Software' not in run('c++', '--version'):
        pytest.skip('the compiler here is not GCC')
    files = {
        'torch/__init__.py': '',
        'torch/utils/__init__.py': '',
        'torch/utils/cpp_extension.py': f'include_paths = lambda: [{str(tmp_path)!r}]',
        'torch/types.h': 'struct Tensor {};\n',
        'csrc/pytorch/zeros.cpp': 'Tensor zeros() { return {}; }\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    source = f'-I{tmp_path} -H -c {tmp_path}/csrc/pytorch/zeros.cpp -o {tmp_path}/zeros.o'
    pythons_own = '$(ask "import sysconfig as s; print(s.get_config_var(\'CFLAGS\'))")'
    lines = f"""LOG={tmp_path}/log CXX_FOUND=c++
        precompile_torch {tmp_path}
        "$CXX_FOUND" {pythons_own} -g0 -fPIC -std=c++17 {source} 2>&1 | grep ^!
        "$CXX_FOUND" -std=c++20 {source} 2>&1 | grep ^x
        CXX_FOUND="ccache g++"; precompile_torch {tmp_path}; echo "$CXX_FOUND" """
    header = f'{tmp_path}/torch.h.gch'
    printed = shell(lines, PYTHONPATH=str(tmp_path))
    assert printed == f'! {header}\nx {header}\nccache g++\n'


def test_prebuilt_operators_are_for_the_line_that_accepts_them(tmp_path: Path) -> None:
    """The name has the releases of CUDA and torch; mmdet 3.3 refuses the mmcv inside."""
    (tmp_path / 'torch.py').write_text(
        'class version:\n    cuda = "12.8"\n__version__ = "2.8.0+cu128"\n'
    )
    # -S leaves out the packages of this environment, of whichever line they are
    python = program(tmp_path, 'python', f'exec {sys.executable} -S "$@"')
    pip = 'pip_() { echo "pip $*"; return 1; }'
    lines = f'PYTHON={python} LOG={tmp_path}/log; {pip}; prebuilt_mmcv || cat $LOG'
    (tmp_path / 'log').touch()
    assert 'pip' not in shell(lines, PYTHONPATH=str(tmp_path))
    metadata = tmp_path / 'onedl_mmdetection-3.5.1.dist-info' / 'METADATA'
    metadata.parent.mkdir()
    metadata.write_text('Metadata-Version: 2.1\nName: onedl-mmdetection\nVersion: 3.5.1\n')
    printed = shell(lines, PYTHONPATH=str(tmp_path))
    assert printed.endswith('--only-binary :all: onedl-mmcv-cu128-torch2-8\n')


def test_an_old_torch_is_told_with_the_least_version_of_the_package(tmp_path: Path) -> None:
    least = tuple(map(int, MINIMUM['torch'].split('.')))
    older = f'{least[0]}.{least[1] - 1}.9'
    for version, expect in ((older, 1), (f'{MINIMUM["torch"]}.0+cpu', 0)):
        (tmp_path / 'torch.py').write_text(f'__version__ = {version!r}\n')
        printed = shell('install_torch', expect=expect, PYTHONPATH=str(tmp_path))
        assert f'torch {version}' in printed
        assert (f'mmrefine needs {MINIMUM["torch"]} or newer' in printed) == bool(expect)


def test_missing_compiler_is_told(tmp_path: Path) -> None:
    program(tmp_path, 'no_compiler', 'exit 1')
    assert 'does not compile a small C++17 program' in shell(
        'require_compiler', expect=1, CXX=str(tmp_path / 'no_compiler')
    )
    without = 'command() { [ "$1" != -v ]; }; require_compiler'
    assert 'apt install g++' in shell(without, expect=1)


def test_missing_python_headers_are_told(tmp_path: Path) -> None:
    python = program(tmp_path, 'python', f'echo {tmp_path}/include')
    printed = shell(f'PYTHON={python}; require_compiler', expect=1, CXX='true')
    assert 'headers of Python are missing' in printed and 'python3-dev' in printed


def test_compiler_and_headers_here_pass() -> None:
    shell('require_compiler; [[ -n $CXX_FOUND ]]')


@pytest.mark.parametrize(
    ('wanted', 'nvcc', 'cuda'),
    [
        ('', '13.0', ''),
        ('13.0', '13.0', '130'),
        ('13.0', '13.2', '132'),
        ('12.8', '13.0', ''),
        ('13.0', '', ''),
    ],
)
def test_cuda_operators_need_an_nvcc_of_torchs_release(
    tmp_path: Path, wanted: str, nvcc: str, cuda: str
) -> None:
    python = program(tmp_path, 'python', f'echo "{wanted}"')
    line = f'echo "Cuda compilation tools, release {nvcc}, V{nvcc}.88"' if nvcc else 'exit 1'
    program(tmp_path, 'nvcc', line)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    printed = shell(f'PYTHON={python}; find_cuda; echo "CUDA=$CUDA"', PATH=path)
    assert f'CUDA={cuda}\n' in printed
    assert ('building CPU operators only' in printed) == bool(wanted and not cuda)
    printed = shell(f'PYTHON={python}; find_cuda; echo "CUDA=$CUDA"', PATH=path, FORCE_CUDA='0')
    assert printed == 'CUDA=\n'


def test_unfit_interpreters_are_refused(tmp_path: Path) -> None:
    old = program(tmp_path, 'python3.8', 'exit 1')
    assert 'is not Python 3.10-3.13' in shell(f'find_python {old}', expect=1)
    assert 'there is no interpreter' in shell('find_python nowhere/python', expect=1)
    assert shell(f'find_python {sys.executable}').strip() == sys.executable


def test_python_3_13_is_for_the_line_that_builds_there(tmp_path: Path) -> None:
    """mmcv 2.1.0 does not; where an mmcv is there already, none is built."""

    def python(name: str, minor: int, folder: str = '') -> Path:
        """An interpreter that believes to be 3.minor, with the modules of a folder."""
        code = f'sys.version_info = (3, {minor}, 0); sys.path.append({folder!r})'
        code = f'import sys; {code}; exec(sys.argv.pop(1))'
        return program(tmp_path, name, f'shift; exec {sys.executable} -SIc "{code}" "$@"')

    new, older = python('python3', 13), python('python3.12', 12)
    message = shell(f'find_python {new}', expect=1)
    assert 'mmcv 2.1.0 does not build on Python 3.13' in message and '--stack onedl' in message
    assert shell(f'MMCV_NAME=onedl-mmcv; find_python {new}').strip() == str(new)
    assert shell(f'PATH={tmp_path}; find_python ""').strip() == str(older)
    (tmp_path / 'mmcv.py').touch()
    python('python3', 13, str(tmp_path))
    assert shell(f'find_python {new}').strip() == str(new)


def test_lock_is_satisfied_here() -> None:
    locks = ['tools/install-lock.txt']
    if any(found.name == 'onedl-mmdetection' for found in metadata.distributions()):
        locks.insert(0, 'tools/install-lock-onedl.txt')
    assert shell(f'LOCKS=({" ".join(locks)}); lacking').strip() == ''


@pytest.mark.parametrize(
    ('lock', 'mmcv'),
    [('install-lock.txt', 'mmcv==2.1.0'), ('install-lock-onedl.txt', 'onedl-mmcv==2.3.6')],
)
def test_every_package_of_a_lock_is_installed_by_its_hashes(lock: str, mmcv: str) -> None:
    lines = (ROOT / 'tools' / lock).read_text().splitlines()
    wanted = [line.split(';')[0].strip() for line in lines if not line.startswith('#')]
    wanted.append(mmcv)
    found = shell(f'cat "$(with_hashes {" ".join(wanted)})"')
    blocks = re.findall(r'^(\S+) \\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)', found, re.M)
    assert {name for name, _ in blocks} == {w.lower().replace('_', '-') for w in wanted}
    assert ''.join(f'{name} \\\n{hashes}' for name, hashes in blocks) == found
    assert shell('cat "$(with_hashes numpy==0.1)"') == ''


def test_environment_of_another_line_is_left_alone(tmp_path: Path) -> None:
    """Where onedl's distributions are, those of the same import names are not laid over them."""
    for name in ('onedl-mmengine', 'onedl-mmdetection', 'onedl-mim', 'opencv-python'):
        metadata = tmp_path / f'{name.replace("-", "_")}-9.9.dist-info' / 'METADATA'
        metadata.parent.mkdir()
        metadata.write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n')
    hidden = tmp_path / 'sitecustomize.py'
    hidden.write_text(
        'import importlib.metadata as m\n'
        'found = m.version\n'
        'def version(name):\n'
        '    if name in ("mmengine", "mmdet", "openmim", "opencv-python-headless", "tabulate"):\n'
        '        raise m.PackageNotFoundError(name)\n'
        '    return found(name)\n'
        'm.version = version\n'
    )
    lacking = shell('VENV=0; lacking', PYTHONPATH=str(tmp_path)).split()
    assert lacking == ['tabulate==0.10.0']


def test_second_run_takes_no_step() -> None:
    printed = shell('works && echo complete')
    assert printed.strip().endswith('complete')


def test_check_reports_operators_by_running_them() -> None:
    assert check_install.operators().keys() >= {'RoIAlign', 'NMS', 'DeformConv2d', 'CARAFE'}
    states = {
        name: check_install.run_operator(call, 'cpu')
        for name, call in check_install.operators().items()
    }
    assert states['RoIAlign'] == states['NMS'] == states['DeformConv2d'] == 'ok'
    assert states['CARAFE'] == 'CUDA only'

    def broken(device: str) -> None:
        raise RuntimeError('kernel image is invalid\nmore')

    assert check_install.run_operator(broken, 'cuda') == 'kernel image is invalid'


def test_check_runs() -> None:
    printed = run('bash', ROOT / 'tools' / 'install.sh', '--python', sys.executable, '--check')
    # PyPI's CUDA build calls itself 2.13.0+cu130 once it is imported
    assert f'torch         {metadata.version("torch")}' in printed
    assert 'mmcv._ext     loads' in printed and 'RoIAlign' in printed


def test_help_lists_the_options() -> None:
    printed = run('bash', ROOT / 'tools' / 'install.sh', '--help')
    assert all(option in printed for option in ('--python', '--no-venv', '--check'))
    assert 'unknown option' in run('bash', ROOT / 'tools' / 'install.sh', '--what', expect=1)


@pytest.mark.parametrize('name', ['demo', 'test'])
def test_help_does_not_install(name: str) -> None:
    printed = run('bash', ROOT / 'tools' / f'{name}.sh', '--help', PATH='/bin')
    assert f'bash tools/{name}.sh' in printed and 'MMREFINE_PYTHON' in printed


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_the_check_of_a_gpu_refuses_to_run_without_one(tmp_path: Path) -> None:
    report = tmp_path / 'report.md'
    command = ('bash', ROOT / 'tools' / 'check_gpu.sh', report)
    printed = run(*command, expect=1, MMREFINE_PYTHON=sys.executable)
    assert 'sees no CUDA device; install a CUDA build of torch' in printed
    assert not report.exists()


def test_the_check_of_a_gpu_names_tests_that_are_there() -> None:
    script = (ROOT / 'tools' / 'check_gpu.sh').read_text()
    named = re.findall(r'pytest -q (\S+)(?: -k (\w+))?', script)
    assert len(named) == 4
    for path, words in named:
        assert words in (ROOT / path).read_text()
