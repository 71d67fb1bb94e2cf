#!/usr/bin/env bash
# Make the virtual environment with the first Python >= 3.11 that can; PYTHON names one.
set -euo pipefail
venv=${1:?usage: scripts/venv.sh DIR}

able() {
    "$1" -c 'import sys, venv, ensurepip; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null
}

if ! [ -x "$venv/bin/python" ] || ! able "$venv/bin/python"; then
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if able "$python"; then
            echo "Creating $venv with $("$python" --version)"
            "$python" -m venv "$venv"
            break
        fi
    done
fi
if ! [ -x "$venv/bin/python" ]; then
    echo "No Python >= 3.11 with the venv module was found. Install one (Debian: python3-venv) or name it: PYTHON=... make" >&2
    exit 1
fi
# `--group` needs pip >= 25.1; the version is pinned with all the others.
"$venv/bin/python" -m pip install --quiet -c constraints.txt --upgrade pip
mkdir -p "$venv/.done"
