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

# What nvidia-smi says of each GPU, a line each; nothing where it knows none, or not the question.
ask_gpu() {
    local said
    if said=$(nvidia-smi "--query-gpu=$1" --format=csv,noheader 2>/dev/null); then echo "$said"; fi
}
is_number() { case ${1:-x} in *[!0-9]*) return 1 ;; esac; }

gpu='' driver='' capability=''
if command -v nvidia-smi >/dev/null; then
    gpu=$(ask_gpu name,memory.total)
    gpu=${gpu%%$'\n'*}
    driver=$(ask_gpu driver_version)
    driver=${driver%%$'\n'*}
    for each in $(ask_gpu compute_cap); do # of the oldest GPU: 75 for 7.5
        each=${each/./}
        if is_number "$each" && [ "$each" -lt "${capability:-1000}" ]; then capability=$each; fi
    done
fi
is_number "${driver%%.*}" || driver=''

# A driver runs CUDA 13 from 580 on and CUDA 12 from 525 on:
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
# The CUDA of torch's packages for Linux on x86, as their metadata say, and the GPUs that they have
# code for (RELEASE.md of pytorch/pytorch, "PyTorch CUDA Support Matrix"):
#     as in requirements.txt    CUDA 13.0    compute capability 7.5 and newer (T4, RTX 20)
#     2.10.0                    CUDA 12.8    7.0 and newer (V100)
#     2.7.1                     CUDA 12.6    5.0 to 9.0 (GTX 9 and 10, P100)
# On Windows pip brings a torch for the CPU, and the last lines say what to do.
torch='' why='' cuda=13.0
if [ -n "$driver" ] && [ "${driver%%.*}" -lt 525 ]; then
    why="driver $driver runs no torch of today on the GPU: update it to 580 or newer"
elif [ "${capability:-1000}" -lt 70 ]; then
    torch=2.7.1 cuda=12.6
    why="that torch has no code for a GPU of compute capability ${capability%?}.${capability#?}"
elif [ "${capability:-1000}" -lt 75 ]; then
    torch=2.10.0 cuda=12.6
    why="that torch has no code for a GPU of compute capability 7.${capability#?}"
elif [ -n "$driver" ] && [ "${driver%%.*}" -lt 580 ]; then
    torch=2.10.0 cuda=12.6
    why="that torch is for CUDA 13, and driver $driver runs CUDA 12: 580 and newer run 13"
fi
case "${OSTYPE:-} ${HOSTTYPE:-}" in linux*x86_64) ;; *) torch='' ;; esac

# The lock files have each package that comes with those of requirements.txt, with its hash, those
# that differ between the builds of torch in the second. They are complete, so pip looks for no more.
locks=(-r requirements.lock -r requirements-torch.lock)
pinned=''
while read -r line; do
    case $line in torch==*) pinned=${line#torch==} ;; esac
done <requirements.txt

# A build of torch with a label, such as 2.13.0+cpu, is none of PyPI's, which takes no labels: it was
# installed by hand, or comes from a place that pip's settings on this machine name.
torch_has_a_label() {
    local installed='from importlib.metadata import version; print(version("torch"))'
    case $("$python" -c "$installed" 2>/dev/null) in
        "$pinned"+*) return ;;
        "$pinned") return 1 ;;
    esac
    case $("$python" -m pip config list 2>/dev/null) in
        *find-links* | *extra-index-url*) ;;
        *) return 1 ;;
    esac
    case $("$python" -m pip install --dry-run --no-deps "torch==$pinned" 2>/dev/null) in
        *"torch-$pinned+"*) ;;
        *) return 1 ;;
    esac
}

pip_install() {
    "$python" -m pip install --quiet --disable-pip-version-check "$@" ||
        fail "pip could not install the packages of the lock files: see above"
}

# A stamp says what was installed; an interrupted install leaves none.
stamp=.venv/requirements.installed
used=.venv/gpu.used # the GPU and driver that torch was seen to use
wanted=$(
    cat requirements.lock
    if [ -n "$torch" ]; then echo "torch==$torch"; else cat requirements-torch.lock; fi
)
if [ "$wanted" != "$(cat "$stamp" 2>/dev/null)" ]; then
    [ -n "$(python_of_environment)" ] || make_environment
    python=$(python_of_environment)
    [ -n "$python" ] || fail "no Python came into ./.venv: remove that folder and run again"
    is_new_enough "$python" ||
        fail "the Python in ./.venv is too old: remove that folder and run again"
    without_hash=$torch
    if [ -n "$torch" ]; then
        echo "torch $torch in place of the one in requirements.txt: $why"
        echo "(torch $torch was not tried with the other packages; it has no hash in a lock file)"
    elif torch_has_a_label; then
        without_hash=$pinned
        echo "torch $pinned on this machine is another build than that of requirements-torch.lock"
        echo "(pip's settings name it, or it was installed by hand; its hash is not checked)"
    fi
    [ -z "$without_hash" ] || locks=(-r requirements.lock)
    pip_install --no-deps --require-hashes "${locks[@]}"
    [ -z "$without_hash" ] || pip_install "torch==$without_hash"
    echo "$wanted" >"$stamp"
    : >"$used"
fi

python=$(python_of_environment)
torch_uses_gpu() {
    [ "$(cat "$used" 2>/dev/null)" = "$gpu, driver $driver" ] && return
    "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null &&
        echo "$gpu, driver $driver" >"$used"
}

if [ -z "$gpu" ]; then
    echo "environment ready in ./.venv; no CUDA GPU found: models run on the CPU"
elif torch_uses_gpu; then
    echo "environment ready in ./.venv; CUDA GPU found: $gpu"
else
    echo "environment ready in ./.venv"
    echo "WARNING: models run on the CPU, as torch does not use the GPU: $gpu"
    [ -n "$torch" ] || [ -z "$why" ] || echo "$why"
    "$python" -W ignore -c 'from pipeline.common.unused_gpu import why_unused; print(why_unused())' ||
        true
    echo "A torch for CUDA $cuda, of the version in requirements.txt, comes by the command of"
    echo "https://pytorch.org/get-started/locally (on Windows pip brings one for the CPU)"
fi
