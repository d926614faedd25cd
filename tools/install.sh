#!/usr/bin/env bash
# Set up everything mmrefine needs. Safe to repeat: a second run takes seconds.
#
#   bash tools/install.sh                    virtual environment .venv in this checkout
#   bash tools/install.sh --python PYTHON    the same, made by this interpreter; a torch it has is used
#   bash tools/install.sh --no-venv          into the current environment (or the one of --python)
#   bash tools/install.sh --stack onedl      the maintained line of MMDetection, in .venv-onedl
#   bash tools/install.sh --check            print what is installed and which operators run where
#
# Variables: MMREFINE_CACHE  where built mmcv wheels are kept (default ~/.cache/mmrefine)
#            MAX_JOBS        compiler processes (default: cores, at most one per 2 GB of free memory)
#            FORCE_CUDA=0    operators for the CPU alone, although there is an nvcc that fits torch
set -euo pipefail

TORCH=2.13.0 SETUPTOOLS=80.8.0
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${MMREFINE_CACHE:-$HOME/.cache/mmrefine}
BEGAN=$SECONDS
cd "$ROOT"
. tools/install_steps.sh
. tools/install_headers.sh

BASE='' VENV=1 CHECK=0 STACK=openmmlab
while (($#)); do
    case $1 in
        --python) BASE=${2:?--python needs an interpreter}; shift ;;
        --python=*) BASE=${1#*=} ;;
        --no-venv) VENV=0 ;;
        --stack) STACK=${2:?--stack needs openmmlab or onedl}; shift ;;
        --stack=*) STACK=${1#*=} ;;
        --check) CHECK=1 ;;
        -h | --help) sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;;
        *) fail "unknown option $1" "bash tools/install.sh --help lists the options" ;;
    esac
    shift
done

# Distribution and version of mmcv, files of versions, and environment of each line of MMDetection.
case $STACK in
    openmmlab) MMCV_NAME=mmcv MMCV=2.1.0 LOCKS=(tools/install-lock.txt) ENVIRONMENT=$ROOT/.venv ;;
    onedl) MMCV_NAME=onedl-mmcv MMCV=2.3.6 LOCKS=(tools/install-lock{-onedl,}.txt) ENVIRONMENT=$ROOT/.venv-onedl ;;
    *) fail "unknown stack $STACK" '--stack openmmlab (default) or --stack onedl' ;;
esac

if ((VENV)) && [[ -x $ENVIRONMENT/bin/python && -z $BASE ]]; then
    BASE=$ENVIRONMENT/bin/python
else
    BASE=$(find_python "$BASE")
fi
if ((CHECK)); then
    exec "$BASE" tools/check_install.py
fi

mkdir -p "$CACHE/logs" 2> /dev/null && [[ -w $CACHE/logs ]] ||
    fail "cannot write to $CACHE" 'name another folder: MMREFINE_CACHE=/some/folder bash tools/install.sh'
LOG=$CACHE/logs/install-$(date +%Y%m%d-%H%M%S)-$$.log
one_at_a_time

if ((VENV)); then
    make_environment
    PYTHON=$ENVIRONMENT/bin/python
    STAMP=$ENVIRONMENT/mmrefine.stamp
    WANTED=$(cat tools/install*.sh tools/install-*.txt setup.cfg | cksum)
    if [[ -f $STAMP && $(< "$STAMP") == "$WANTED" ]] && works 2> /dev/null; then
        say "everything is in place in $ENVIRONMENT"
        exit
    fi
else
    PYTHON=$BASE
    STAMP=
fi
say "installing for $("$PYTHON" -c 'import platform, sys; print("Python", platform.python_version(), "at", sys.executable)'), log: $LOG"

install_build_tools
install_torch
install_packages
install_mmcv
install_torchvision
install_mmrefine
PROBLEM=$(works 2>&1) || fail 'the packages are installed but do not import' "$(tail -n 3 <<< "$PROBLEM")"
[[ -z $STAMP ]] || echo "$WANTED" > "$STAMP"
say "done in $(clock). Next: bash tools/demo.sh, bash tools/test.sh, bash tools/install.sh --check"
