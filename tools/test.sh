#!/usr/bin/env bash
# Install what is missing, then run the tests; arguments go to pytest.
#
#   bash tools/test.sh                 everything but the slow tests
#   bash tools/test.sh -m slow         the slow ones
#   bash tools/test.sh tests/masks     one folder
#   bash tools/test.sh -n 0 -x         one process, stop at the first failure
#
# MMREFINE_PYTHON names the interpreter of an environment to use instead of .venv.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ -n ${MMREFINE_PYTHON:-} ]]; then
    bash tools/install.sh --no-venv --python "$MMREFINE_PYTHON"
else
    bash tools/install.sh
    MMREFINE_PYTHON=$PWD/.venv/bin/python
fi
# Two processes of one thread each: the tests are small, and a second thread would only spin.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
exec "$MMREFINE_PYTHON" -m pytest -q -n 2 --dist worksteal "$@"
