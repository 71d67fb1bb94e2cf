#!/usr/bin/env bash
# Run the tests. Without paths: all of them, in parallel, with the coverage gate. With paths: just those.
set -euo pipefail
python=${1:?usage: scripts/test.sh PYTHON [pytest arguments]}
shift

for argument in "$@"; do
    if [ -e "${argument%%::*}" ]; then
        exec "$python" -m pytest "$@"
    fi
done
exec "$python" -m pytest -n "${JOBS:-2}" --dist loadgroup --cov --cov-report=term:skip-covered --cov-fail-under=95 "$@"
