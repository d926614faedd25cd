#!/usr/bin/env bash
# Check this package on a GPU and write one report.
#
#   bash tools/check_gpu.sh [REPORT.md]
#
# Recordings of the original code without TF32 (MMREFINE_GOLDEN names their folder; default the small ones of the
# tests), every model against the CPU, mixed precision, torch.compile, two GPUs where there are two, and the
# benchmarks B1-B4 and B7. MMREFINE_PYTHON names the interpreter of an environment to use instead of .venv.
set -uo pipefail
case ${1:-} in -h | --help) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;; esac
REPORT=$(realpath "${1:-gpu_report.md}")
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
PYTHON=${MMREFINE_PYTHON:-$PWD/.venv/bin/python}
if ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "error: $PYTHON sees no CUDA device; install a CUDA build of torch, then bash tools/install.sh" >&2
    exit 1
fi
export MMREFINE_TEST_DEVICE=cuda PYTHONPATH=$PWD FAILED=0
LOG=$(mktemp)

# check TITLE COMMAND...: run it, and report its exit status and last lines
check() {
    local title=$1 status=0
    shift
    echo "== $title"
    "$@" > "$LOG" 2>&1 || status=$?
    ((status)) && FAILED=1
    tail -n 3 "$LOG"
    { echo "## $title: $( ((status)) && echo "FAILED ($status)" || echo passed)"; echo '```'; tail -n 40 "$LOG"; echo '```'; } >> "$REPORT"
}

{ echo '# mmrefine on a GPU'; echo '```'; nvidia-smi -L; "$PYTHON" tools/check_install.py; echo '```'; } > "$REPORT" 2>&1
check 'Recordings' "$PYTHON" tools/parity.py "${MMREFINE_GOLDEN:-tests/data/golden}" --device cuda --quiet
check 'Every model against the CPU' "$PYTHON" -m pytest -q tests/test_devices.py -k of_the_cpu
check 'bfloat16 and float16' "$PYTHON" -m pytest -q tests/test_devices.py -k mixed_precision
check 'torch.compile' "$PYTHON" -m pytest -q tests/test_devices.py -k compiled
if "$PYTHON" -c 'import sys, torch; sys.exit(torch.cuda.device_count() < 2)'; then
    check 'Two GPUs' "$PYTHON" -m pytest -q tests/test_distributed.py -m 'slow or not slow'
else
    echo '## Two GPUs: one GPU only, not run' >> "$REPORT"
fi
check 'Benchmarks' "$PYTHON" tools/benchmark.py B1 B2 B3 B4 B7 --device cuda
echo "report: $REPORT"
exit "$FAILED"
