# The steps of tools/install.sh, which sources this file.

# Fails without torch and with one older than mmrefine/dependencies.py allows.
TORCH_WILL_DO='import sys, torch; sys.exit(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6))'

clock() { printf '%d:%02d' $(((SECONDS - BEGAN) / 60)) $(((SECONDS - BEGAN) % 60)); }
say() { printf '[%s] %s\n' "$(clock)" "$*"; }

# fail WHAT FIX: end with a message that says what to do
fail() {
    printf '\n[%s] FAILED: %s\n' "$(clock)" "$1" >&2
    printf '  -> %s\n' "${@:2}" >&2
    exit 1
}

# step TITLE COMMAND...: run quietly into the log, with a sign of life every 15 seconds
step() {
    local title=$1 start=$SECONDS status=0 pid waited=0
    shift
    say "$title"
    printf '\n==== %s\n' "$title" >> "$LOG"
    local from
    from=$(wc -l < "$LOG")
    "$@" >> "$LOG" 2>&1 < /dev/null &
    pid=$!
    trap 'kill "$pid" 2> /dev/null || true' INT TERM
    while kill -0 "$pid" 2> /dev/null; do
        sleep 1
        if ((++waited % 15 == 0)); then
            say "  ... $((SECONDS - start)) s $(tail -n "+$from" "$LOG" | progress $((SECONDS - start)))"
        fi
    done
    trap - INT TERM
    wait "$pid" || status=$?
    if ((status)); then
        tail -n "+$from" "$LOG" | grep -v 'is ignored: it is neither' | tail -n 25 >&2
        fail "$title (exit status $status)" "$(tail -n "+$from" "$LOG" | advice)" "full log: $LOG"
    fi
}

# progress SECONDS: how far the step is whose log comes in, "compiled 12 of 57 files, about 4 min left", or the
# last thing pip began
progress() {
    local text files left
    text=$(cat)
    files=$(grep -oE '^ *\[[0-9]+/[0-9]+\]' <<< "$text" | tail -n 1 | tr -dc '0-9/' || true)
    if [[ -n $files ]]; then
        left=$(($1 * (${files#*/} - ${files%/*}) / ${files%/*}))
        echo "compiled ${files%/*} of ${files#*/} files, about $(((left + 59) / 60)) min left"
    else
        grep -E '^ *(Collecting|Downloading|Building|Installing)' <<< "$text" | tail -n 1 | cut -c 1-70 || true
    fi
}

# what to do about the failure whose log comes in
advice() {
    local text
    text=$(cat)
    case $text in
        *"No module named 'pkg_resources'"*) echo "setuptools is too new: $PYTHON -m pip install 'setuptools<80.9'" ;;
        *'Python.h: No such file'*) echo 'the headers of Python are missing: install python3-dev (Debian, Ubuntu) or python3-devel (Fedora)' ;;
        *'Killed signal'* | *'Killed'*'cc1plus'* | *'virtual memory exhausted'* | *'Cannot allocate memory'*)
            echo 'the compiler ran out of memory: MAX_JOBS=1 bash tools/install.sh' ;;
        *'unsupported GNU version'*) echo 'nvcc refuses this host compiler: CXX=g++-12 CC=gcc-12 bash tools/install.sh' ;;
        *'CUDA version'*'mismatches'*) echo 'nvcc and torch are of different CUDA releases: put the matching nvcc first in PATH, or build CPU operators only: FORCE_CUDA=0 bash tools/install.sh' ;;
        *'No space left on device'*) echo 'the disk is full: free some space (about 4 GB are needed), or set TMPDIR and MMREFINE_CACHE to another disk' ;;
        *'DO NOT MATCH THE HASHES'*)
            echo 'a package is not the file that PyPI serves: PIP_INDEX_URL=https://pypi.org/simple bash tools/install.sh' ;;
        *'No matching distribution'* | *'Failed to establish a new connection'* | *'Name or service not known'* | *'Temporary failure in name resolution'* | *'ReadTimeout'*)
            echo 'pip did not get a package: check the network, or name an index: PIP_INDEX_URL=... bash tools/install.sh' ;;
        *'fatal error:'*'file not found'* | *'compilation terminated'* | *'error: command'*'failed'*)
            echo 'the compiler failed, see the lines above; a C++17 compiler is needed (g++ >= 9 or clang >= 10)' ;;
        *) echo 'see the lines above' ;;
    esac
}

# keep two runs out of each other's way
one_at_a_time() {
    command -v flock > /dev/null || return 0
    exec 9> "$CACHE/install.lock"
    flock -n 9 || { say 'waiting for another tools/install.sh to finish'; flock 9; }
}

runs_python() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' > /dev/null 2>&1; }

# mmcv 2.1.0 does not build on Python 3.13: its setup.py reads a variable that exec() no longer sets
builds_line() {
    [[ $MMCV_NAME != mmcv ]] ||
        "$1" -c 'import sys; from importlib.util import find_spec; sys.exit(sys.version_info >= (3, 13) and not find_spec("mmcv"))'
}

# find_python NAMED: the interpreter to start from
find_python() {
    local candidate
    if [[ -n $1 ]]; then
        command -v "$1" > /dev/null || fail "there is no interpreter $1" 'name an existing one after --python'
        runs_python "$1" || fail "$1 is not Python 3.10-3.13 or does not run" 'name another one after --python'
        builds_line "$1" || fail "mmcv $MMCV does not build on Python 3.13" \
            'take the maintained line, which does: bash tools/install.sh --stack onedl' 'or name Python 3.10-3.12 after --python'
        command -v "$1"
        return
    fi
    for candidate in python3 python python3.12 python3.11 python3.10 python3.13; do
        if command -v "$candidate" > /dev/null && runs_python "$candidate" && builds_line "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail 'no Python 3.10-3.12 found (3.13 for --stack onedl alone)' 'install one (apt install python3 python3-venv python3-dev), or name it: bash tools/install.sh --python /path/to/python3'
}

pip_() { "$PYTHON" -m pip --disable-pip-version-check --no-input "$@"; }
ask() { "$PYTHON" -c "$1" 2> /dev/null; }
works() { "$PYTHON" -W ignore -c 'import cv2, mmcv._ext, mim, pytest, mmrefine'; }

make_environment() {
    [[ ! -x $ENVIRONMENT/bin/python ]] || { runs_python "$ENVIRONMENT/bin/python" && return; }
    say "making the virtual environment $ENVIRONMENT with $BASE"
    "$BASE" -m venv --clear "$ENVIRONMENT" >> "$LOG" 2>&1 || { "$BASE" -m virtualenv --clear "$ENVIRONMENT" >> "$LOG" 2>&1; } ||
        fail "$BASE cannot make a virtual environment" \
            'install its venv module (apt install python3-venv), or use the current environment: bash tools/install.sh --no-venv' "log: $LOG"
    # A torch that the interpreter already has is used, unless it is too old: its packages are visible behind the new ones.
    local site
    if "$BASE" -c "$TORCH_WILL_DO" 2> /dev/null; then
        site=$("$ENVIRONMENT/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        "$BASE" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])' > "$site/interpreter_packages.pth"
    fi
}

install_build_tools() {
    "$PYTHON" -m pip --version >> "$LOG" 2>&1 || "$PYTHON" -m ensurepip >> "$LOG" 2>&1 ||
        fail "$PYTHON has no pip" 'install it (apt install python3-pip)'
    # mmengine and openmim import pkg_resources, which setuptools 82 dropped and 80.9 began to warn of on every start;
    # torch wants 77.0.3 or newer.
    if ! ask 'from importlib.metadata import version as v; import sys; n = tuple(map(int, v("setuptools").split(".")[:2])); sys.exit(not (77, 0) <= n < (80, 9))'; then
        step "setuptools $SETUPTOOLS" pip_ install "setuptools==$SETUPTOOLS"
    fi
    ask 'import wheel' || step 'wheel' pip_ install wheel
}

# neither a GPU nor a compiler for one, or FORCE_CUDA=0
no_cuda_wanted() { [[ ${FORCE_CUDA:-} == 0 ]] || ! { command -v nvidia-smi || command -v nvcc; } > /dev/null; }

install_torch() {
    if ask 'import torch'; then
        ask "$TORCH_WILL_DO" ||
            fail "torch $(ask 'import torch; print(torch.__version__)') is too old, mmrefine needs 2.6 or newer" 'upgrade it, or let tools/install.sh make its own environment (without --no-venv)'
        say "torch $(ask 'import torch; print(torch.__version__)') is there"
        return
    fi
    local cpu=https://download.pytorch.org/whl/cpu
    if [[ $(uname -s) == Linux ]] && no_cuda_wanted; then
        # Without a GPU, or a compiler for one elsewhere, the small CPU build will do, where an index offers it.
        if pip_ install --dry-run --no-deps "torch==$TORCH+cpu" >> "$LOG" 2>&1; then
            step "torch $TORCH+cpu" pip_ install "torch==$TORCH+cpu"
            return
        elif pip_ --retries 0 --timeout 8 install --dry-run --no-deps --index-url "$cpu" "torch==$TORCH+cpu" >> "$LOG" 2>&1; then
            step "torch $TORCH+cpu (about 200 MB)" pip_ install --extra-index-url "$cpu" "torch==$TORCH+cpu"
            return
        fi
        say 'no index in reach offers the CPU build of torch for this Python: taking the CUDA build (several GB)'
    fi
    step "torch $TORCH" pip_ install "torch==$TORCH"
}

# names and versions of the lock that this environment lacks; what is there stays as it is
lacking() {
    "$PYTHON" - "$VENV" "${LOCKS[@]}" << 'PYTHON_CODE'
import sys
from pathlib import Path
from importlib.metadata import PackageNotFoundError, version
from pip._vendor.packaging.requirements import Requirement

SAME = {
    'opencv-python-headless': ('opencv-python', 'opencv-contrib-python', 'opencv-contrib-python-headless'),
    'mmengine': ('onedl-mmengine',), 'mmdet': ('onedl-mmdetection',), 'openmim': ('onedl-mim',),
}
LEAST = {'mmengine': (0, 10, 7), 'mmdet': (3, 3)}


def found(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def fine(requirement):
    present = found(requirement.name)
    if present is None:
        others = SAME.get(requirement.name, ())
        return any(found(other) or other in locked for other in others)
    if sys.argv[1] == '1':
        return requirement.specifier.contains(present)
    least = LEAST.get(requirement.name, ())
    return not least or tuple(int(n) for n in present.split('.')[:3] if n.isdigit()) >= least


lines = [line.partition('#')[0].strip() for lock in sys.argv[2:] for line in Path(lock).read_text().splitlines()]
requirements = [Requirement(line) for line in lines if line]
locked = {requirement.name for requirement in requirements}
for requirement in requirements:
    if (not requirement.marker or requirement.marker.evaluate()) and not fine(requirement):
        print(f'{requirement.name}{requirement.specifier}')
PYTHON_CODE
}

# with_hashes NAME==VERSION...: a file of these requirements with the hashes that their files must have
with_hashes() {
    local file
    file=$(mktemp)
    printf '%s\n' "$@" | tr 'A-Z_' 'a-z-' |
        awk 'NR == FNR {wanted[$1]; next} /^[^ ]/ {listed = $1 in wanted} listed' - tools/install-hashes.txt > "$file"
    echo "$file"
}

install_packages() {
    local packages
    packages=$(lacking) || fail 'cannot read the installed packages' "$PYTHON -m pip list shows what is wrong"
    if [[ -z $packages ]]; then
        say 'all Python packages are there'
        return
    fi
    # shellcheck disable=SC2086  # one word per package
    step "$(wc -w <<< "$packages") Python packages" pip_ install --no-deps --require-hashes -r "$(with_hashes $packages)"
}

# a compiler and Python's headers, tried before ten minutes of building
require_compiler() {
    local include trial
    CXX_FOUND=${CXX:-$(command -v c++ || command -v g++ || command -v clang++ || true)}
    [[ -n $CXX_FOUND ]] ||
        fail 'no C++ compiler found' 'install one (apt install g++, dnf install gcc-c++, xcode-select --install), or name it: CXX=/path/to/g++'
    include=$(ask 'import sysconfig; print(sysconfig.get_path("include"))')
    [[ -f $include/Python.h ]] ||
        fail "the headers of Python are missing ($include/Python.h)" \
            'install them (apt install python3-dev, dnf install python3-devel), or use a Python that has them: --python'
    trial=$(mktemp -d)
    echo '#include <Python.h>
#include <optional>
int main() { return std::optional<int>(0).value(); }' > "$trial/trial.cpp"
    if ! $CXX_FOUND -std=c++17 -I"$include" -c "$trial/trial.cpp" -o "$trial/trial.o" > "$trial/log" 2>&1; then
        cat "$trial/log" >&2
        fail "$CXX_FOUND does not compile a small C++17 program" 'install a working C++17 compiler (g++ >= 9 or clang >= 10), or name it: CXX=/path/to/g++'
    fi
    rm -rf "$trial"
}

# sets CUDA: release of nvcc without dot where it fits torch ("130"), else empty; and NVCC
find_cuda() {
    local wanted nvcc release
    CUDA='' NVCC=''
    [[ ${FORCE_CUDA:-} != 0 ]] || return 0
    wanted=$(ask 'import torch; print(torch.version.cuda or "")')
    [[ -n $wanted ]] || return 0
    nvcc=${CUDA_HOME:+$CUDA_HOME/bin/nvcc}
    nvcc=$(command -v "${nvcc:-nvcc}" || command -v /usr/local/cuda/bin/nvcc || true)
    release=$([[ -z $nvcc ]] || "$nvcc" --version 2> /dev/null | sed -nE 's/.*release ([0-9]+\.[0-9]+).*/\1/p' || true)
    if [[ ${release%%.*} == "${wanted%%.*}" ]]; then
        CUDA=${release/./} NVCC=$nvcc
    else
        say "torch is built for CUDA $wanted but ${nvcc:-no nvcc} ${release:+is release $release }was found: building CPU operators only."
        say "  for CUDA operators install the CUDA $wanted toolkit and run: bash tools/install.sh"
    fi
}

# compiler processes: cores, but not more than one per 2 GB of free memory
jobs_() {
    local cores memory
    cores=$(nproc 2> /dev/null || sysctl -n hw.ncpu 2> /dev/null || echo 2)
    memory=$(awk '/MemAvailable/ {print int($2 / 2097152)}' /proc/meminfo 2> /dev/null || true)
    memory=${memory:-$cores}
    ((memory >= 1)) || memory=1
    echo $((cores < memory ? cores : memory))
}

# puts ccache, where there is one, before the compilers: by a link of the compiler's name, as its manual says,
# and by the variable that torch has for nvcc
use_ccache() {
    local real
    [[ $CXX_FOUND != *ccache* ]] && command -v ccache > /dev/null && real=$(command -v "$CXX_FOUND") || return 0
    mkdir -p "$CACHE/ccache"
    ln -sfn "$(command -v ccache)" "$CACHE/ccache/$(basename "$real")"
    PATH=$(dirname "$real"):$PATH  # where ccache finds the compiler itself
    CXX_FOUND=$CACHE/ccache/$(basename "$real")
    export CCACHE_BASEDIR=${TMPDIR:-/tmp} CCACHE_NOHASHDIR=1  # pip builds in a folder of another name each time
    [[ -z $CUDA ]] || export PYTORCH_NVCC="ccache $NVCC"
    say "compiling through ccache"
}

build_mmcv() { # build_mmcv FOLDER
    local cuda=(FORCE_CUDA=0 CUDA_VISIBLE_DEVICES=)
    [[ -z $CUDA ]] || cuda=(FORCE_CUDA=1 "TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-$ARCHITECTURE}")
    # Python's own flags ask for debug information (-g), which half of the time would go into: -g0 comes after them.
    env MMCV_WITH_OPS=1 MAX_JOBS="${MAX_JOBS:-$(jobs_)}" CXX="$CXX_FOUND" CPPFLAGS="${CPPFLAGS:-} -g0" "${cuda[@]}" \
        "$PYTHON" -m pip --disable-pip-version-check --no-input wheel -v --no-deps --no-build-isolation \
        --no-cache-dir --no-binary "$MMCV_NAME" -w "$1" --require-hashes -r "$(with_hashes "$MMCV_NAME==$MMCV")"
}

# A wheel of the maintained line for this CUDA torch, such as onedl-mmcv-cu128-torch2-8. Its mmcv is newer than
# mmdet 3.3 accepts, so it is taken beside onedl-mmdetection alone.
prebuilt_mmcv() {
    local name
    ask 'from importlib.metadata import version; version("onedl-mmdetection")' || return 1
    name=$(ask 'import torch; major, minor = torch.__version__.split(".")[:2]; print(f"onedl-mmcv-cu{torch.version.cuda.replace(chr(46), str())}-torch{major}-{minor}")') ||
        return 1
    pip_ install --no-deps --only-binary :all: "$name" >> "$LOG" 2>&1 || return 1
    if ask 'import mmcv._ext'; then
        say "prebuilt $name"
        return
    fi
    say "the prebuilt $name does not load here: building mmcv"
    pip_ uninstall -y "$name" >> "$LOG" 2>&1
    return 1
}

install_mmcv() {
    local minutes key target folder wheel built headers file=${MMCV_NAME//-/_}-$MMCV
    find_cuda
    if ask 'import mmcv._ext, mmcv, sys; n = tuple(int(x) for x in mmcv.__version__.split(".")[:2]); sys.exit(n < (2, 1))'; then
        if [[ -z $CUDA ]] || ask 'import mmcv.ops as o, sys; sys.exit(o.get_compiling_cuda_version() == "not available")'; then
            say "mmcv $(ask 'import mmcv; print(mmcv.__version__)') with compiled operators is there"
            return
        fi
    fi
    if prebuilt_mmcv; then return; fi
    ARCHITECTURE=$([[ -z $CUDA ]] || ask 'import torch; print("%d.%d" % torch.cuda.get_device_capability() if torch.cuda.is_available() else "8.0;9.0+PTX")')
    key=$(ask 'import sys, sysconfig, torch; print("%s-torch%s" % (sys.implementation.cache_tag, torch.__version__))')
    target=cpu
    [[ -z $CUDA ]] || target=cuda$CUDA-sm${ARCHITECTURE//[!0-9A-Za-z]/}
    key+=-$target-mmcv$MMCV-$(uname -m)
    folder=$CACHE/wheels/$key
    wheel=$(compgen -G "$folder/$file-*.whl" | head -n 1 || true)
    if [[ -n $wheel ]]; then
        say "mmcv $MMCV from the cache ($key)"
        if pip_ install --force-reinstall --no-deps "$wheel" >> "$LOG" 2>&1 && ask 'import mmcv._ext'; then return; fi
        say 'the cached wheel does not load here: building it anew'
    fi
    require_compiler
    use_ccache
    minutes=$([[ -z $CUDA ]] && echo 10 || echo 60)
    built=$(mktemp -d)
    headers=$(mktemp -d)
    precompile_torch "$headers"
    step "building mmcv $MMCV with ${CUDA:+CUDA and }CPU operators (about $minutes minutes on two cores; once)" build_mmcv "$built"
    mkdir -p "$folder"
    mv -f "$built/$file"-*.whl "$folder/"
    rm -rf "$built" "$headers"
    step 'mmcv' pip_ install --force-reinstall --no-deps "$folder/$file"-*.whl
    ask 'import mmcv._ext' || fail 'the built mmcv does not load' "$("$PYTHON" -c 'import mmcv._ext' 2>&1 | tail -n 1)" "full log: $LOG"
}

# torchvision is wanted only for addresses of newer weights; it must be the build of this very torch
install_torchvision() {
    if ask 'import torchvision'; then return; fi
    local version
    version=$(ask 'import re, torch; m = re.match(r"2\.(\d+)\.(\d+)(\+cpu)?", torch.__version__); print(f"0.{int(m[1]) + 15}.{m[2]}{m[3] or str()}")')
    if [[ -n $version ]] && pip_ install --no-deps --only-binary :all: "torchvision==$version" >> "$LOG" 2>&1; then
        if ask 'import torchvision'; then
            say "torchvision $version"
            return
        fi
        pip_ uninstall -y torchvision >> "$LOG" 2>&1
    fi
    say "no torchvision for this torch in reach: only the classic torchvision:// weights will be found"
}

# editable, plus a link beside the other packages: mim looks for the package's folder there
install_mmrefine() {
    local site
    step 'mmrefine (editable)' pip_ install --no-deps --no-build-isolation -e .
    site=$(ask 'import sysconfig; print(sysconfig.get_path("purelib"))')
    ln -sfn "$ROOT/mmrefine" "$site/mmrefine" ||
        say "cannot link mmrefine into $site: use 'mim train mmdet PATH' instead of 'mim train mmrefine NAME'"
}
