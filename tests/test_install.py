"""Step 0: what install_env.sh does where a new environment is wanted, without installing one.

And whether the lock files, which it installs, have what requirements.txt asks for.
"""

import os
import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

PIP = '#!/bin/sh\ncase "$*" in *"-m pip install"*) echo "pip $*" >> calls;; esac\nexit 0\n'
LISTS = ("requirements.txt", "requirements.lock", "requirements-torch.lock")
QUIET = "pip -m pip install --quiet --disable-pip-version-check "
CHECKED = f"{QUIET}--no-deps --require-hashes -r requirements.lock"
ALL_CHECKED = f"{CHECKED} -r requirements-torch.lock"


def calls():
    """Return how pip was called, a line each."""
    path = Path("calls")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.fixture
def project():
    """Copy the script beside fake commands that note how they were called."""
    for name in ("install_env.sh", *LISTS):
        Path(name).write_bytes((ROOT / name).read_bytes())
    for tool in ("bash", "dirname", "cmp", "cp", "mkdir", "chmod", "cat", "env", "sh"):
        Path("bin").mkdir(exist_ok=True)
        source = subprocess.run(["which", tool], capture_output=True, text=True).stdout.strip()
        os.symlink(source, f"bin/{tool}")
    return Path("bin").resolve()


def fake(path, script):
    Path(path).write_text(script, encoding="utf-8")
    Path(path).chmod(0o755)


def install(bin_folder, **env):
    return subprocess.run(
        ["bash", "install_env.sh"],
        env={"PATH": str(bin_folder)} | env,
        capture_output=True,
        text=True,
    )


def test_a_python_too_old_is_told_in_one_line(project):
    fake(project / "python3", '#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.1"\nexit 1\n')
    done = install(project)
    assert done.returncode == 1
    assert done.stderr == (
        "install_env.sh: Python 3.8.1 is too old: install Python 3.11 or newer, or set PYTHON\n"
    )
    assert not Path(".venv").exists()


def test_a_venv_that_could_not_be_made_leaves_nothing_behind(project):
    fake(
        project / "python3",
        '#!/bin/sh\ncase "$*" in *venv*) mkdir -p .venv/bin; exit 1;; esac\nexit 0\n',
    )
    os.symlink("/usr/bin/rm", project / "rm")
    done = install(project)
    assert done.returncode == 1 and "venv is missing" in done.stderr
    assert not Path(".venv").exists()


def test_conda_makes_the_environment_where_it_is_on_the_path(project):
    fake("fake_python", PIP)
    make = "mkdir -p .venv/bin && cp fake_python .venv/bin/python"
    fake(project / "conda", f'#!/bin/sh\necho "conda $*" >> calls\n{make}\n')
    done = install(project)
    assert done.returncode == 0, done.stderr
    assert calls() == [
        "conda create --yes --quiet --prefix ./.venv python=3.11 pip",
        ALL_CHECKED,
    ]
    assert "no CUDA GPU found" in done.stdout


@pytest.mark.parametrize("changed", ["requirements.lock", "requirements-torch.lock"])
def test_a_second_run_installs_nothing_and_a_changed_lock_file_installs_again(project, changed):
    Path(".venv/bin").mkdir(parents=True)
    fake(".venv/bin/python", PIP)
    for expected in (1, 1):
        assert install(project).returncode == 0
        assert len(calls()) == expected
    with Path(changed).open("a", encoding="utf-8") as file:
        file.write("more==1.0\n")
    install(project)
    assert calls() == [ALL_CHECKED] * 2


def test_a_gpu_that_nvidia_smi_shows_is_told(project):
    Path(".venv/bin").mkdir(parents=True)
    fake(".venv/bin/python", PIP)
    fake(project / "nvidia-smi", '#!/bin/sh\necho "NVIDIA A100, 40960 MiB"\n')
    os.symlink("/usr/bin/head", project / "head")
    assert "CUDA GPU found: NVIDIA A100, 40960 MiB" in install(project).stdout


def test_an_install_that_failed_is_not_taken_for_done(project):
    Path(".venv/bin").mkdir(parents=True)
    fake(".venv/bin/python", '#!/bin/sh\ncase "$*" in *pip*) exit 1;; esac\n')
    done = install(project)
    assert done.returncode == 1
    assert "pip could not install the packages of the lock files" in done.stderr
    assert not Path(".venv/requirements.installed").exists()


def test_a_python_too_new_for_the_packages_is_told_in_one_line(project):
    newer = '#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.15.0" && exit 0\n'
    newer += 'case "$2" in *"3, 15"*) exit 1;; esac\n'
    fake(project / "python3", newer)
    done = install(project)
    assert done.returncode == 1
    assert done.stderr == (
        "install_env.sh: Python 3.15.0 is too new: install Python 3.11 to 3.14, or set PYTHON\n"
    )


def test_no_python_at_all_is_told_in_one_line(project):
    done = install(project)
    assert done.returncode == 1
    assert done.stderr == "install_env.sh: python3 not found: install Python 3.11 to 3.14\n"
    assert install(project, PYTHON="mine").stderr.startswith("install_env.sh: mine not found")


def test_in_git_bash_on_windows_venv_puts_python_into_scripts(project):
    fake(project / "python3", "#!/bin/sh\nexit 49\n")  # Windows: opens a shop
    fake("fake_python", PIP)
    make = "mkdir -p .venv/Scripts && cp fake_python .venv/Scripts/python.exe"
    version = '[ "$1" = --version ] && echo "Python 3.13.1"'
    fake(project / "python", f'#!/bin/sh\n{version}\ncase "$*" in *venv*) {make};; esac\nexit 0\n')
    done = install(project)
    assert done.returncode == 0, done.stderr
    assert "creating ./.venv with Python 3.13.1" in done.stdout
    assert calls() == [ALL_CHECKED]
    assert Path(".venv/requirements.installed").is_file()
    install(project)
    assert len(calls()) == 1


def test_conda_on_windows_puts_python_beside_scripts(project):
    fake("fake_python", PIP)
    make = "mkdir -p .venv && cp fake_python .venv/python.exe"
    fake(project / "conda", f"#!/bin/sh\n{make}\n")
    done = install(project)
    assert done.returncode == 0, done.stderr
    assert calls() == [ALL_CHECKED]


WITHOUT_GPU = (
    '#!/bin/sh\ncase "$*" in *"import sys, torch"*) exit 1;; *why_unused*) echo why;; esac\n'
)


def test_a_torch_that_does_not_use_the_gpu_is_told_on_every_run_until_it_does(project):
    Path(".venv/bin").mkdir(parents=True)
    fake(".venv/bin/python", WITHOUT_GPU)
    fake(project / "nvidia-smi", '#!/bin/sh\necho "NVIDIA A100, 40960 MiB"\necho "second"\n')
    for _ in range(2):
        assert install(project).stdout.splitlines() == [
            "environment ready in ./.venv",
            "WARNING: models run on the CPU, as torch does not use the GPU: NVIDIA A100, 40960 MiB",
            "why",
            "A torch for CUDA 13.0, of the version in requirements.txt, comes by the command of",
            "https://pytorch.org/get-started/locally (on Windows pip brings one for the CPU)",
        ]
    for python in (PIP, WITHOUT_GPU):  # the second is not asked again
        fake(".venv/bin/python", python)
        again = install(project).stdout
        assert again == "environment ready in ./.venv; CUDA GPU found: NVIDIA A100, 40960 MiB\n"
    nvidia_smi(project, "470.57.02")
    assert "WARNING: models run on the CPU" in install(project).stdout


def nvidia_smi(path, driver, *capabilities):
    """Write an nvidia-smi that shows a GPU for each compute capability; without: an older one."""
    shown = "\n".join(capabilities) or 'Field "compute_cap" is not a valid field to query.'
    answers = {"name,memory.total": "Tesla, 16 MiB", "driver_version": driver, "compute_cap": shown}
    cases = [f"--query-gpu={field}) echo '{answer}';;" for field, answer in answers.items()]
    fake(path / "nvidia-smi", "#!/bin/sh\ncase $1 in\n{}\nesac\n".format("\n".join(cases)))


def torch_installed(project, **env):
    """Return the torch that pip was asked for, and what was said."""
    Path(".venv/bin").mkdir(parents=True, exist_ok=True)
    fake(".venv/bin/python", PIP)
    Path("calls").unlink(missing_ok=True)
    done = install(project, **{"OSTYPE": "linux-gnu", "HOSTTYPE": "x86_64"} | env)
    assert done.returncode == 0, done.stderr
    if calls() == [ALL_CHECKED]:
        return OURS, done.stdout
    assert calls()[0] == CHECKED and calls()[1].startswith(f"{QUIET}torch==")
    return calls()[1].removeprefix(QUIET), done.stdout


OURS = next(
    line
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line.startswith("torch==")
)


@pytest.mark.parametrize(
    ("driver", "capabilities", "torch"),
    [
        ("580.65.06", ["9.0"], OURS),
        ("595.10", ["7.5", "12.0"], OURS),
        ("550.54.15", ["8.0"], "torch==2.10.0"),
        ("525.60.13", [], "torch==2.10.0"),
        ("580.65.06", ["7.0"], "torch==2.10.0"),
        ("580.65.06", ["9.0", "7.0"], "torch==2.10.0"),
        ("580.65.06", ["10.0", "6.1"], "torch==2.7.1"),
        ("470.57.02", ["8.0"], OURS),
        ("N/A", [], OURS),
    ],
)
def test_the_newest_torch_that_driver_and_gpu_run_is_installed(
    project, driver, capabilities, torch
):
    nvidia_smi(project, driver, *capabilities)
    assert torch_installed(project)[0] == torch


def test_a_torch_in_place_of_the_one_of_the_requirements_is_told_with_the_reason(project):
    nvidia_smi(project, "550.54.15", "8.0")
    said = torch_installed(project)[1].splitlines()
    assert said[:2] == [
        "torch 2.10.0 in place of the one in requirements.txt: that torch is for CUDA 13, and "
        "driver 550.54.15 runs CUDA 12: 580 and newer run 13",
        "(torch 2.10.0 was not tried with the other packages; it has no hash in a lock file)",
    ]
    assert said[2:] == ["environment ready in ./.venv; CUDA GPU found: Tesla, 16 MiB"]


def test_a_driver_too_old_for_any_torch_is_told(project):
    nvidia_smi(project, "470.57.02", "7.5")
    Path(".venv/bin").mkdir(parents=True)
    fake(".venv/bin/python", WITHOUT_GPU)
    assert install(project).stdout.splitlines()[1:3] == [
        "WARNING: models run on the CPU, as torch does not use the GPU: Tesla, 16 MiB",
        "driver 470.57.02 runs no torch of today on the GPU: update it to 580 or newer",
    ]


def test_an_nvidia_smi_that_fails_is_no_gpu(project):
    Path(".venv/bin").mkdir(parents=True)
    fake(".venv/bin/python", PIP)
    fake(project / "nvidia-smi", "#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    said = install(project).stdout
    assert said == "environment ready in ./.venv; no CUDA GPU found: models run on the CPU\n"


def test_a_new_driver_brings_the_torch_of_the_requirements(project):
    nvidia_smi(project, "550.54.15", "8.0")
    assert torch_installed(project)[0] == "torch==2.10.0"
    Path("calls").unlink()
    install(project, OSTYPE="linux-gnu", HOSTTYPE="x86_64")
    assert calls() == []  # nothing changed
    nvidia_smi(project, "580.65.06", "8.0")
    assert torch_installed(project)[0] == OURS


def test_another_torch_is_picked_only_where_the_registry_has_it_for_cuda(project):
    nvidia_smi(project, "550.54.15", "8.0")
    for number, system in enumerate((("msys", "x86_64"), ("linux-gnu", "aarch64"))):
        Path(".venv/requirements.installed").unlink(missing_ok=True)
        env = dict(zip(("OSTYPE", "HOSTTYPE"), system, strict=True))
        assert (number, torch_installed(project, **env)[0]) == (number, OURS)


SERVED = """#!/bin/sh
case "$*" in
*"-m pip install --dry-run"*) echo "Would install torch-{}";;
*"-m pip install"*) echo "pip $*" >> calls;;
*"-m pip config list"*) echo "{}";;
*"version("*) echo "{}";;
esac
"""
ANOTHER = """\
torch {} on this machine is another build than that of requirements-torch.lock
(pip's settings name it, or it was installed by hand; its hash is not checked)
environment ready in ./.venv; no CUDA GPU found: models run on the CPU
"""


@pytest.mark.parametrize(
    ("served", "settings", "installed", "other"),
    [
        ("{}+cpu", "global.find-links='/wheels'", "", True),
        ("{}+cpu", ":env:.extra-index-url='https://example.org/simple'", "", True),
        ("{}", "global.find-links='/wheels'", "", False),
        ("{}+cpu", "global.index-url='https://example.org/simple'", "", False),
        ("{}", "", "{}+cu126", True),
        ("{}", "", "{}", False),
        ("{}+cpu", "global.find-links='/wheels'", "{}", False),
        ("{}", "", "2.0.1+cpu", False),
    ],
)
def test_only_a_torch_of_another_build_is_installed_without_its_hash(
    project, served, settings, installed, other
):
    version = OURS.removeprefix("torch==")
    Path(".venv/bin").mkdir(parents=True)
    served, installed = served.format(version), installed.format(version)
    fake(".venv/bin/python", SERVED.format(served, settings, installed))
    done = install(project)
    assert done.returncode == 0, done.stderr
    if other:
        assert calls() == [CHECKED, f"{QUIET}{OURS}"]
        assert done.stdout == ANOTHER.format(version)
    else:
        assert calls() == [ALL_CHECKED]
        assert done.stdout == ANOTHER.splitlines(keepends=True)[-1]


def test_a_package_whose_hash_differs_stops_the_install(project):
    Path(".venv/bin").mkdir(parents=True)
    fake(".venv/bin/python", '#!/bin/sh\ncase "$*" in *--require-hashes*) exit 1;; esac\n')
    assert install(project).returncode == 1
    assert not Path(".venv/requirements.installed").exists()


def locked(name):
    """Return a lock file's packages: name -> version, marker and hashes, for each that is named."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"://|--(?:extra-)?index|--find-links|^-[a-z]|^/", text, re.MULTILINE)
    found = {}
    for block in re.split(r"\n(?=\S)", text.rstrip("\n")):
        first, *lines = block.split(" \\\n")
        line = re.fullmatch(r"([a-z0-9-]+)==([\w.]+)(?: ; (.+))?", first)
        lines = "\n".join(lines).split("\n")
        hashes = [each.strip() for each in lines if not each.lstrip().startswith("#")]
        found.setdefault(line[1], []).append((line[2], line[3] or "", hashes))
    return found


def wanted():
    """Return the packages of requirements.txt with their versions."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower(): version for name, version in pairs}


def test_the_lock_files_have_each_package_once_with_hashes_and_those_of_the_list_as_it_says():
    rest, torch = locked("requirements.lock"), locked("requirements-torch.lock")
    assert not set(rest) & set(torch)
    both = rest | torch
    for name, versions in both.items():
        assert len({marker for _, marker, _ in versions}) == len(versions), name
        for _, _, hashes in versions:
            assert hashes and all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", h) for h in hashes)
    assert {name: [both[name][0][:2]] for name in wanted()} == {
        name: [(version, "")] for name, version in wanted().items()
    }


def test_what_a_build_of_torch_for_cuda_brings_is_apart_and_for_linux_alone():
    torch = locked("requirements-torch.lock")
    assert len(torch.pop("torch")[0][2]) > 12  # of Linux, macOS and Windows, Python 3.11 to 3.14
    assert {"triton", "nvidia-cudnn-cu13"} < set(torch)
    for [(_, marker, _)] in torch.values():
        assert "sys_platform == 'linux'" in marker and " or sys_platform" not in marker


def test_each_package_that_is_installed_by_the_list_is_locked_in_its_version():
    rest = locked("requirements.lock")
    reached, todo = set(), list(set(wanted()) - {"torch"})  # an older driver has an older torch
    while todo:
        name = re.sub("[._-]+", "-", todo.pop()).lower()
        if name not in reached and name != "torch":
            reached.add(name)
            needed = map(Requirement, metadata.requires(name) or [])
            todo += [each.name for each in needed if not each.marker or each.marker.evaluate()]
    for name in sorted(reached):
        versions = [version for version, _, _ in rest[name]]
        assert metadata.version(name) in versions, name
    assert len(reached) > 60


def test_the_shell_script_needs_no_newer_bash_than_that_of_macos():
    text = (ROOT / "install_env.sh").read_text(encoding="utf-8")
    newer = r"mapfile|readarray|declare -[An]|local -n|\$\{\w+(?:,,|\^\^|@)|&>>|\|&|\[\[.*-v "
    assert not re.search(newer, text)
    gnu = r"\b(?:sed -i|readlink -f|realpath|date -d|stat -c|grep -P|cp -t|mktemp --)"
    assert not re.search(gnu, text)


def test_the_batch_file_of_windows_installs_the_same_by_the_same_versions():
    text = (ROOT / "install_env.bat").read_text(encoding="ascii")
    shell = (ROOT / "install_env.sh").read_text(encoding="utf-8")
    assert f'"%INSTALLED%" {ALL_CHECKED.removeprefix("pip ")} && goto' in text
    assert f'{QUIET.removeprefix("pip ")}"$@"' in shell and ALL_CHECKED.startswith(QUIET)
    assert "LSS 580" in text and "-lt 580" in shell
    assert ".venv\\requirements.installed" in text and ".venv/requirements.installed" in shell
    assert "(3, 11) <= sys.version_info[:2] <= (3, 14)" in text
    assert "sys.version_info < (3, 11)" in shell and "sys.version_info >= (3, 15)" in shell
    assert "(3.11 3.12 3.13 3.14)" in text
    assert text.count("https://pytorch.org/get-started/locally") == 1


def test_every_jump_of_the_batch_file_has_a_target_and_every_end_waits_for_the_reader():
    text = (ROOT / "install_env.bat").read_text(encoding="ascii")
    jumps, labels = re.findall(r"goto (\w+)", text), re.findall(r"^:(\w+)", text, re.MULTILINE)
    assert set(jumps) == set(labels) and len(labels) == len(set(labels))
    assert (
        re.findall(r"pause\nexit /b (\d)", text) == ["0", "1"] == re.findall(r"exit /b (\d)", text)
    )


def test_line_ends_are_those_of_each_shell_on_every_system():
    for name, end in (("install_env.sh", "lf"), ("install_env.bat", "crlf")):
        command = ["git", "check-attr", "eol", name]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8").stdout
        assert shown == f"{name}: eol: {end}\n"
