#!/usr/bin/env bash
# Step 0: the environment, in ./.venv (conda where it is on the PATH, else venv).
# Runs on Linux, on macOS and in Git Bash on Windows, where install_env.bat does the same.
#
# Run     bash install_env.sh          (again at any time; quick when nothing changed)
# Then    source .venv/bin/activate    (conda: conda activate ./.venv), or ./.venv/bin/python x.py
#         on Windows: source .venv/Scripts/activate, or .venv/Scripts/python.exe x.py
set -euo pipefail
cd "$(dirname "$0")"

fail() { echo "install_env.sh: $1" >&2; exit 1; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; }
is_known() { "$1" -c 'import sys; sys.exit(sys.version_info >= (3, 15))'; }

# Python in ./.venv: on Linux and macOS, on Windows by venv, on Windows by conda.
python_of_environment() {
    local python
    for python in .venv/bin/python .venv/Scripts/python.exe .venv/python.exe; do
        if [ -x "$python" ]; then echo "$python"; return; fi
    done
}

# Windows has no python3, or one that opens a shop and tells no version.
python_of_system() {
    local python version
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python py; fi
    for python; do
        if version=$("$python" --version 2>/dev/null) || [ -n "$version" ]; then
            echo "$python"
            return
        fi
    done
    fail "$1 not found: install Python 3.11 to 3.14"
}

make_environment() {
    local python
    if command -v conda >/dev/null; then
        echo "creating ./.venv with conda"
        conda create --yes --quiet --prefix ./.venv python=3.11 pip
    else
        python=$(python_of_system)
        is_new_enough "$python" ||
            fail "$("$python" --version) is too old: install Python 3.11 or newer, or set PYTHON"
        is_known "$python" ||
            fail "$("$python" --version) is too new: install Python 3.11 to 3.14, or set PYTHON"
        echo "creating ./.venv with $("$python" --version)"
        "$python" -m venv .venv || {
            rm -rf .venv
            fail "venv is missing: install it (Debian: apt install python3-venv)"
        }
    fi
}

gpu=
if command -v nvidia-smi >/dev/null; then
    gpu=$(nvidia-smi --query-gpu=name,memory.total --format=csv,noheader 2>/dev/null) || gpu=
    gpu=${gpu%%$'\n'*}
fi

# A stamp says which requirements were installed; an interrupted install leaves none.
stamp=.venv/requirements.installed
if ! cmp -s requirements.txt "$stamp"; then
    [ -n "$(python_of_environment)" ] || make_environment
    python=$(python_of_environment)
    [ -n "$python" ] || fail "no Python came into ./.venv: remove that folder and run again"
    is_new_enough "$python" ||
        fail "the Python in ./.venv is too old: remove that folder and run again"
    "$python" -m pip install --quiet --disable-pip-version-check -r requirements.txt ||
        fail "pip could not install requirements.txt: see above"
    if [ -n "$gpu" ] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
        echo "torch does not use the GPU: install the version that requirements.txt names, for CUDA:"
        echo "https://pytorch.org/get-started/locally (on Windows pip brings the one for the CPU)"
    fi
    cp requirements.txt "$stamp"
fi
if [ -n "$gpu" ]; then
    echo "environment ready in ./.venv; CUDA GPU found: $gpu"
else
    echo "environment ready in ./.venv; no CUDA GPU found: models run on the CPU"
fi
