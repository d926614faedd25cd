"""What a wheel carries, what an import costs, and that names resolve."""

import ast
import configparser
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from locations import ROOT
from mmengine.config import Config
from mmengine.registry import Registry
from tiny_training import run, write_config

import mmrefine
from mmrefine import registration

# Measuring and proving tools stay in the checkout.
UNSHIPPED = ('benchmark', 'check_install', 'learning_proof', 'mixing_table', 'parity')
LINKS = {'configs': 'configs', 'tools': 'tools', 'model-index.yml': 'model-index.yml'}


@pytest.fixture(scope='module')
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the repository, in a folder of their own: building leaves things behind."""
    copy = tmp_path_factory.mktemp('checkout')
    listed = run('git', 'ls-files', '--cached', '--others', '--exclude-standard').splitlines()
    for name in listed:
        source, target = ROOT / name, copy / name
        if source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.readlink())
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    return copy


@pytest.fixture(scope='module')
def wheel(checkout: Path) -> Path:
    """The wheel made from the source archive made from the checkout."""
    backend = 'from setuptools import build_meta as b; import sys; b.build_{}(sys.argv[1])'
    run(sys.executable, '-c', backend.format('sdist'), checkout / 'dist', folder=checkout)
    archive = next((checkout / 'dist').glob('mmrefine-*.tar.gz'))
    with tarfile.open(archive) as content:
        # patch releases before 2023 know no filters; the archive is our own
        safe = dict(filter='data') if hasattr(tarfile, 'data_filter') else {}
        content.extractall(checkout / 'unpacked', **safe)
    source = next((checkout / 'unpacked').iterdir())
    run(sys.executable, '-c', backend.format('wheel'), checkout / 'dist', folder=source)
    return next((checkout / 'dist').glob('mmrefine-*.whl'))


def repository_files(folder: str, *suffixes: str) -> Iterator[str]:
    for path in sorted((ROOT / folder).rglob('*')):
        if path.suffix in suffixes and '__pycache__' not in path.parts:
            yield path.relative_to(ROOT).as_posix()


def shipped_tools() -> list[str]:
    return sorted({path.stem for path in (ROOT / 'tools').glob('*.py')} - set(UNSHIPPED))


@pytest.fixture(scope='module')
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an empty environment with this wheel and the packages that the tests use.

    The packages come by a path, which leaves out the editable mmrefine of the tests' environment.
    """
    folder = tmp_path_factory.mktemp('environment')
    venv.create(folder, with_pip=False)
    site = Path(sysconfig.get_path('purelib', 'venv', vars={'base': str(folder)}))
    with zipfile.ZipFile(wheel) as content:
        content.extractall(site)
    (site / 'packages.pth').write_text(sysconfig.get_path('purelib') + '\n')
    mim = folder / 'bin' / 'mim'
    mim.write_text(f'#!{folder}/bin/python\nfrom mim.cli import cli\ncli()\n')
    mim.chmod(0o755)
    return folder / 'bin'


def from_wheel(programs: Path, *command: object, folder: Path) -> str:
    path = f'{programs}{os.pathsep}{os.environ["PATH"]}'
    return run(programs / 'mim', *command, folder=folder, PATH=path, PYTHONPATH='')


@pytest.mark.slow
def test_what_a_wheel_ships_runs_in_an_empty_environment(installed: Path, tmp_path: Path) -> None:
    code = 'import mmrefine; print(mmrefine.__file__)'
    found = run(installed / 'python', '-W', 'ignore', '-c', code, folder=tmp_path, PYTHONPATH='')
    assert str(installed.parent) in found.splitlines()[-1]
    for name in shipped_tools():
        if 'if __name__' not in (ROOT / 'tools' / f'{name}.py').read_text():
            continue  # what train.py and test.py share
        # Without the dashes mim keeps the option for itself.
        command = ('run', 'mmrefine', name, '--', '--help')
        assert f'usage: {name}.py' in from_wheel(installed, *command, folder=tmp_path)
    arguments = ('train', 'mmrefine', write_config(tmp_path), '--gpus', 0, '--work-dir', 'work')
    from_wheel(installed, *arguments, folder=tmp_path)
    assert (tmp_path / 'work' / 'epoch_1.pth').is_file()


def test_wheel_carries_modules_configs_tools_and_index(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
        top = content.read(next(name for name in names if name.endswith('top_level.txt')))
    assert top.split()[0] == b'mmrefine'
    expected = {name for name in repository_files('mmrefine', '.py') if '/.mim/' not in name}
    expected |= {f'mmrefine/.mim/{name}' for name in repository_files('configs', '.py', '.yml')}
    expected |= {f'mmrefine/.mim/tools/{name}.py' for name in shipped_tools()}
    # the generator behind make_shapes
    expected |= {f'mmrefine/.mim/{name}' for name in repository_files('tools/shapes', '.py')}
    expected.add('mmrefine/.mim/model-index.yml')
    assert expected <= names
    assert {name for name in names if name.startswith('mmrefine/.mim/tools')} <= expected
    assert not [name for name in names if name.startswith(('tests/', 'configs/', 'tools/'))]


def test_wheel_is_light_and_asks_for_no_openmmlab_package(wheel: Path) -> None:
    assert wheel.stat().st_size < 2_000_000
    with zipfile.ZipFile(wheel) as content:
        name = next(name for name in content.namelist() if name.endswith('METADATA'))
        lines = content.read(name).decode().splitlines()
    needed = [line for line in lines if line.startswith('Requires-Dist') and 'extra ==' not in line]
    wanted = ('numpy', 'pycocotools', 'safetensors', 'shapely>=2.1')
    assert needed == [f'Requires-Dist: {name}' for name in wanted]
    assert f'Version: {mmrefine.__version__}' in lines


def test_no_upper_bounds() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    asked = setup['options']['install_requires'] + setup['options.extras_require']['mim']
    assert '<' not in asked and '==' not in asked


def test_mim_links_point_into_the_repository() -> None:
    for name, target in LINKS.items():
        link = ROOT / 'mmrefine' / '.mim' / name
        assert link.is_symlink() and link.resolve() == ROOT / target


def test_every_metafile_of_the_index_exists_and_is_listed() -> None:
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    assert sorted(index) == sorted(repository_files('configs', '.yml'))


# A fresh interpreter, since this one has long imported everything. onedl's mmdet imports no mmcv.
PROBE = """
import json, sys
import mmcv, mmdet
from mmdet import registry
before = set(sys.modules)
import mmrefine
import torch
print(json.dumps(dict(new=sorted(set(sys.modules) - before), cuda=torch.cuda.is_initialized())))
"""


def test_import_is_lazy_and_leaves_cuda_alone() -> None:
    found = json.loads(run(sys.executable, '-W', 'ignore', '-c', PROBE).splitlines()[-1])
    assert found['cuda'] is False
    ours = {name for name in found['new'] if not name.startswith(('mmrefine', 'mmcv._ext'))}
    assert not {name.partition('.')[0] for name in ours} & {'mmdet', 'mmcv', 'matplotlib', 'cv2'}
    assert {name for name in found['new'] if name.startswith('mmrefine')} == {
        'mmrefine',
        'mmrefine.compat',
        'mmrefine.dependencies',
        'mmrefine.plain_arrays',
        'mmrefine.registration',
    }


def registered() -> dict[str, type]:
    """Our classes in mmdet's registries, by name."""
    found = {}
    for registry in registration.registries():
        registry.import_from_location()
        for value in registry.module_dict.values():
            if value.__module__.startswith('mmrefine.'):
                found[value.__name__] = value  # an alias counts as its class
    return found


def test_public_names_are_exactly_the_registered_ones() -> None:
    listed = {name for names in mmrefine.COMPONENTS.values() for name in names}
    assert listed == set(registered())
    for module, names in mmrefine.COMPONENTS.items():
        for name in names:
            assert getattr(mmrefine, name) is getattr(import_module(module), name)
            assert registered()[name].__module__ == module
    with pytest.raises(AttributeError, match="no attribute 'NoSuchHead'"):
        mmrefine.NoSuchHead  # noqa: B018


@pytest.mark.parametrize('used', [False, True], ids=['before first use', 'after first use'])
def test_components_join_a_registry_whenever_the_package_is_imported(
    used: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = {
        name: Registry(name, scope='toy', locations=['json']) for name in ('MODELS', 'METRICS')
    }
    monkeypatch.setattr(registration, 'mmdet_registry', type('Registries', (), nodes))
    module = f'late_component_{used}'
    (tmp_path / f'{module}.py').write_text('import builtins; builtins.late_components += 1')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr('builtins.late_components', 0, raising=False)
    if used:
        for node in nodes.values():
            node.import_from_location()
    registration.announce('mmrefine', [module])
    assert (module in sys.modules) is used
    nodes['METRICS'].import_from_location()
    assert module in sys.modules


def test_no_name_of_ours_hides_one_of_mmdet() -> None:
    """Registering a name twice raises, so reaching this with all of mmdet imported is the test."""
    for registry in registration.registries():
        parent = set(registry.parent.module_dict) if registry.parent else set()
        assert not parent & set(registered())


def test_configs_of_this_package_serve_as_bases(tmp_path: Path) -> None:
    """After the import, ``mmrefine::`` is a prefix for the configs of other projects."""
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    metafile = yaml.safe_load((ROOT / index[0]).read_text())
    name = metafile['Models'][0]['Config'].removeprefix('configs/')
    child = tmp_path / 'child.py'
    child.write_text(f"_base_ = 'mmrefine::{name}'\nwork_dir = 'elsewhere'")
    assert Config.fromfile(child).model == Config.fromfile(ROOT / 'configs' / name).model


def test_tools_are_documented_and_thin() -> None:
    for path in sorted((ROOT / 'tools').glob('*.py')):
        assert ast.get_docstring(ast.parse(path.read_text())), f'{path.name} has no docstring'


def test_unwritable_output_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    done = subprocess.run(
        [
            sys.executable,
            ROOT / 'tools' / 'train.py',
            'config.py',
            '--work-dir',
            tmp_path / 'file/x',
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f'cannot write to the output folder {tmp_path}/file/x' in done.stderr
    assert 'name another one with --work-dir' in done.stderr


def test_links_of_the_readmes_lead_somewhere() -> None:
    for page in [ROOT / 'README.md', *sorted((ROOT / 'configs').rglob('README.md'))]:
        for target in re.findall(r'\]\((?!https?://|#)([^)#]+)', page.read_text()):
            assert (page.parent / target).exists(), f'{page.relative_to(ROOT)}: {target}'


@pytest.mark.skipif(not (ROOT / '.git').exists(), reason='the checkout has no history')
def test_a_clone_holds_what_the_first_commands_need(tmp_path: Path) -> None:
    run('git', 'clone', '--quiet', '--depth', '1', f'file://{ROOT}', 'mmrefine', folder=tmp_path)
    clone = tmp_path / 'mmrefine'
    assert '--no-venv' in run('bash', clone / 'tools' / 'install.sh', '--help')
    assert (clone / 'tools' / 'predict.py').is_file() and (clone / 'Dockerfile').is_file()


def _project(requirement: str) -> str:
    return re.sub('[-_.]+', '-', re.match(r'[\w.-]+', requirement)[0]).lower()


def test_what_is_imported_comes_with_the_package_or_with_mmdetection() -> None:
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / 'setup.cfg')
    own = metadata['options']['install_requires'].split()
    projects, imported = packages_distributions(), set()
    wanted, here = [*own, 'opencv-python-headless'], set()
    for module in ('torch', 'mmcv', 'mmengine', 'mmdet'):  # onedl's have other distributions
        wanted += projects.get(module, [module])
    while wanted:
        name = _project(wanted.pop())
        if name not in here:
            here.add(name)
            try:
                wanted += [r for r in requires(name) or () if 'extra ==' not in r]
            except PackageNotFoundError:  # of other systems or Pythons
                continue
    for file in (ROOT / 'mmrefine').rglob('*.py'):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition('.')[0])
    foreign = imported - set(sys.stdlib_module_names) - {'mmrefine'}
    assert {'numpy', 'safetensors', 'torch'} <= foreign
    missing = [m for m in foreign if not here & {_project(p) for p in projects.get(m, [m])}]
    assert not missing
