"""Step 0: what install_env.sh does where a new environment is wanted, without installing one."""

import os
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

PIP = '#!/bin/sh\ncase "$*" in *"-m pip"*) echo "pip $*" >> calls;; esac\nexit 0\n'


@pytest.fixture
def project():
    """Copy the script beside fake commands that note how they were called."""
    for name in ("install_env.sh", "requirements.txt"):
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
    calls = Path("calls").read_text(encoding="utf-8").splitlines()
    assert calls[0] == "conda create --yes --quiet --prefix ./.venv python=3.11 pip"
    assert calls[1].endswith("-r requirements.txt")
    assert "no CUDA GPU found" in done.stdout


def test_a_second_run_installs_nothing_and_a_changed_list_installs_again(project):
    Path(".venv/bin").mkdir(parents=True)
    fake(".venv/bin/python", PIP)
    for expected in (1, 1):
        assert install(project).returncode == 0
        assert len(Path("calls").read_text(encoding="utf-8").splitlines()) == expected
    with Path("requirements.txt").open("a", encoding="utf-8") as file:
        file.write("more==1.0\n")
    install(project)
    assert len(Path("calls").read_text(encoding="utf-8").splitlines()) == 2


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
    assert "pip could not install requirements.txt" in done.stderr
    assert not Path(".venv/requirements.installed").exists()
