#!/usr/bin/env bash
# Write constraints.txt anew: the newest versions that pyproject.toml allows, in an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT

"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --upgrade pip
"$venv/bin/python" -m pip install --quiet ".[cpu,extensions,fastgrpc]" hatchling --group models --group lint --group test
{
    echo "# The versions that are tested together. Written by scripts/pin.sh."
    "$venv/bin/python" -m pip freeze --all --exclude model-gateway --exclude setuptools --exclude wheel
} >constraints.txt
