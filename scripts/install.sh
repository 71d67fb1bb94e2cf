#!/usr/bin/env bash
# Install the gateway in editable form, pinned. The optional extras come one by one, because a platform may lack
# their wheels: the gateway serves without them.
set -euo pipefail
python=${1:?usage: scripts/install.sh PYTHON cpu|gpu}
onnx=${2:-cpu}

echo "Installing (a few minutes the first time)"
"$python" -m pip install --quiet -c constraints.txt -e ".[$onnx]"
for extra in extensions fastgrpc; do
    if ! "$python" -m pip install --quiet --only-binary :all: -c constraints.txt -e ".[$extra]"; then
        echo "Optional extra '$extra' is not available here; going on without it." >&2
    fi
done
