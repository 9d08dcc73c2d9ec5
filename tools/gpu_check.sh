#!/usr/bin/env bash
# What can only be checked where there is a CUDA device: the tests marked gpu, then the benchmarks that use it.
# Usage: bash tools/gpu_check.sh [FOLDER FOR THE RESULTS]. PYTHON overrides the interpreter (default: uv's environment).
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/gpu_check}
mkdir -p "$out"
export HF_HUB_OFFLINE=1 MMSSL_CACHE=${MMSSL_CACHE:-$PWD/$out/cache}
read -r -a python <<<"${PYTHON:-uv run python}"

"${python[@]}" - <<'PY'
import sys

import torch

if not torch.cuda.is_available():
    sys.exit("torch sees no CUDA device here; `mmssl doctor` says more")
print(torch.cuda.get_device_name(), "with torch", torch.__version__)
PY

"${python[@]}" -m mmssl doctor --json >"$out/doctor.json"
"${python[@]}" -m pytest -m gpu --durations=10
for suite in step augment decode audio loader; do
  echo "== bench $suite"
  "${python[@]}" -m mmssl bench "$suite" --reps "${REPS:-7}" --json >"$out/bench-$suite.json"
done
echo "results are in $out"
