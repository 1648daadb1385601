#!/usr/bin/env bash
# Step 0: the environment, in ./.venv (conda where it is on the PATH, else venv).
#
# Run     bash install_env.sh          (again at any time; quick when nothing changed)
# Then    source .venv/bin/activate    (conda: conda activate ./.venv), or ./.venv/bin/python x.py
set -euo pipefail
cd "$(dirname "$0")"

fail() { echo "install_env.sh: $1" >&2; exit 1; }

make_environment() {
    if command -v conda >/dev/null; then
        echo "creating ./.venv with conda"
        conda create --yes --quiet --prefix ./.venv python=3.11 pip
    else
        local python=${PYTHON:-python3}
        command -v "$python" >/dev/null || fail "$python not found: install Python 3.11 or newer"
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            fail "$("$python" --version) is too old: install Python 3.11 or newer, or set PYTHON"
        echo "creating ./.venv with $("$python" --version)"
        "$python" -m venv .venv || {
            rm -rf .venv
            fail "venv is missing: install it (Debian: apt install python3-venv)"
        }
    fi
}

# A stamp says which requirements were installed; an interrupted install leaves none.
stamp=.venv/requirements.installed
if ! cmp -s requirements.txt "$stamp"; then
    [ -x .venv/bin/python ] || make_environment
    .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "the Python in ./.venv is too old: remove that folder and run again"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt ||
        fail "pip could not install requirements.txt: see above"
    cp requirements.txt "$stamp"
fi
if command -v nvidia-smi >/dev/null && gpu=$(nvidia-smi --query-gpu=name,memory.total --format=csv,noheader 2>/dev/null); then
    echo "environment ready in ./.venv; CUDA GPU found: $(echo "$gpu" | head -n 1)"
else
    echo "environment ready in ./.venv; no CUDA GPU found: models run on the CPU"
fi
