"""Device, precision and memory of a run, GPUs that stay unused, numbers that are not finite."""

import json
import math
import os
import re
import shutil
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, write_splits
from safetensors.torch import load_file, save_file
from transformers import TrainerState

import bert_eval
import bert_tune
import finetune
import local_inference
from pipeline.common import machine, unused_gpu
from pipeline.common.cgroup import NO_LIMIT, free_in_cgroup
from pipeline.common.cli import UserError, settings_block
from pipeline.common.files import write_json
from pipeline.common.finite import LOGITS, FiniteLogits, StopWhereNotFinite, check_finite
from pipeline.common.machine import cpu_has_bf16
from pipeline.evaluation.calibration import fit_temperature
from pipeline.models import training
from pipeline.models.training import TrainingOptions, claim_output, trainer_arguments

GIB = 2**30


@pytest.fixture(autouse=True)
def no_precision_asked_for():
    asked = machine._asked
    yield
    asked.clear()


@pytest.fixture
def gpu(monkeypatch):
    """Return a function that makes torch say it has a GPU, of which so much is free."""

    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)

    def show(kind, name, *, bf16, count=1, free=14, total=16, reserved=2, allocated=1):
        monkeypatch.setattr(
            torch.accelerator,
            "current_accelerator",
            lambda check_available=False: torch.device(kind),
        )
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
        module = SimpleNamespace(
            get_device_name=lambda place: name,
            mem_get_info=lambda place: (free * GIB, total * GIB),
            memory_reserved=lambda place: reserved * GIB,
            memory_allocated=lambda place: allocated * GIB,
        )
        monkeypatch.setattr(machine, "module_of", lambda place: module)
        monkeypatch.setattr(machine, "refuse_gpu_too_old", lambda place: None)
        monkeypatch.setattr(torch.backends.mps, "get_name", lambda: name)
        monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: total * GIB)
        monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: allocated * GIB)
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *version: bf16)
        for of in (torch.cuda, torch.xpu):
            monkeypatch.setattr(of, "is_bf16_supported", lambda **how: bf16)

    return show


def test_a_run_on_a_cpu_says_so_with_precision_and_memory(capsys, monkeypatch):
    monkeypatch.setattr(machine, "why_unused", lambda: "")
    machine.start_run()
    line = r"device: CPU \(\S+, \d+ threads?\), float32, \d+\.\d of \d+\.\d GiB of memory free\n"
    assert re.fullmatch(line, capsys.readouterr().out)


def test_a_gpu_of_nvidia_computes_in_bfloat16_where_it_can(gpu, capsys):
    gpu("cuda", "NVIDIA A100", bf16=True, free=30, total=40)
    machine.start_run()
    said = capsys.readouterr().out
    assert said == "device: NVIDIA A100, bfloat16, 31.0 of 40.0 GiB of memory free\n"
    assert machine.device() == torch.device("cuda", 0)
    assert machine.free_memory() == 31 * GIB


def test_a_gpu_that_computes_in_float16_says_what_is_known_to_overflow(gpu, capsys):
    gpu("cuda", "Tesla T4", bf16=False)
    machine.start_run()
    first, second = capsys.readouterr().out.splitlines()
    assert first == "device: Tesla T4, float16, 15.0 of 16.0 GiB of memory free"
    assert "Qwen2.5, Gemma 3" in second and "--dtype float32" in second
    machine.start_run("float32")
    assert capsys.readouterr().out == (
        "device: Tesla T4, float32, 15.0 of 16.0 GiB of memory free\n"
    )
    assert machine.compute_dtype() == torch.float32


@pytest.mark.parametrize(("newer", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_of_apple_computes_in_bfloat16_from_macos_14_on(gpu, capsys, newer, dtype):
    gpu("mps", "Apple M3", bf16=newer)
    machine.start_run()
    name = machine.dtype_name(dtype)
    assert capsys.readouterr().out == (
        f"device: Apple M3 (mps), {name}, 15.0 of 16.0 GiB of memory free\n"
        "Apple's GPUs (mps) were not tried: compare some rows with a run on the CPU, with the "
        "environment variable ACCELERATE_USE_CPU=1\n"
    )
    assert (machine.device().type, machine.compute_dtype()) == ("mps", dtype)


def test_a_gpu_of_intel_is_used(gpu, capsys):
    gpu("xpu", "Intel Arc B580", bf16=True)
    machine.start_run()
    first, second = capsys.readouterr().out.splitlines()
    assert first == "device: Intel Arc B580, bfloat16, 15.0 of 16.0 GiB of memory free"
    assert second.startswith("Intel's GPUs (xpu) were not tried")


def test_one_process_on_several_gpus_says_how_to_use_all(gpu, capsys, monkeypatch):
    gpu("cuda", "NVIDIA A100", bf16=True, count=4)
    machine.start_run()
    assert "one of 4 GPUs: torchrun --nproc-per-node 4" in capsys.readouterr().out
    monkeypatch.setenv("WORLD_SIZE", "4")
    machine.start_run()
    assert capsys.readouterr().out.endswith("GiB of memory free, 4 processes\n")
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "2")
    machine.start_run()
    assert capsys.readouterr().out == ""
    assert machine.device() == torch.device("cuda", 2)


def test_a_user_may_compute_on_the_cpu_of_a_machine_with_a_gpu(
    gpu, nvidia_smi, capsys, monkeypatch
):
    gpu("cuda", "NVIDIA A100", bf16=True, count=2)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    machine.start_run()
    said = capsys.readouterr().out
    assert said.startswith("device: CPU") and said.endswith("GiB of memory free\n")
    assert said.count("\n") == 1


def test_more_processes_than_gpus_are_refused(gpu, monkeypatch):
    gpu("cuda", "NVIDIA A100", bf16=True, count=2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="this machine has 2 GPUs.*--nproc-per-node 2"):
        machine.start_run()


def test_a_torch_that_does_not_tell_what_the_cpu_can_computes_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert cpu_has_bf16()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not cpu_has_bf16()


def test_a_precision_that_is_unknown_or_not_the_device_s_is_refused():
    with pytest.raises(UserError, match="--dtype half: give auto, bfloat16, float16 or float32"):
        machine.start_run("half")
    with pytest.raises(UserError, match="--dtype float16: a CPU computes in float32 or bfloat16"):
        machine.start_run("float16")


def test_every_script_that_computes_with_a_model_lets_the_user_choose_the_precision():
    scripts = {path.stem: path.read_text(encoding="utf-8") for path in ROOT.glob("*.py")}
    models = {name for name, text in scripts.items() if "pipeline.llm" in text}
    models |= {name for name, text in scripts.items() if "pipeline.bert" in text}
    models |= {"label_audit", "code_comments", "plan_coding"}
    assert {name for name, text in scripts.items() if "DTYPE" in settings_block(text)} == models


def fails(said):
    """Return a function that raises a RuntimeError."""

    def raise_it():
        raise RuntimeError(said)

    return raise_it


@pytest.fixture
def nvidia_smi(monkeypatch):
    """Put an nvidia-smi on the path that shows a GPU, and let torch be a build for CUDA."""
    Path("bin").mkdir()
    Path("bin/nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA A100'\n", encoding="utf-8")
    Path("bin/nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(Path("bin").resolve()), prepend=":")
    for name in ("CUDA_VISIBLE_DEVICES", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "_is_compiled", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch, "__version__", "2.13.0")


def test_a_gpu_that_a_torch_for_cpus_leaves_unused_is_told(nvidia_smi, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "_is_compiled", lambda: False)
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    machine.start_run()
    assert capsys.readouterr().out.splitlines()[1] == (
        "WARNING: the GPU stays unused, NVIDIA A100: torch 2.13.0+cpu is a build for CPUs; install "
        "its build for CUDA, https://pytorch.org/get-started/locally"
    )


def test_a_gpu_that_a_variable_hides_is_told(nvidia_smi, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setattr(torch.cuda, "init", fails("No CUDA GPUs are available"))
    assert unused_gpu.why_unused().endswith(
        "the variable CUDA_VISIBLE_DEVICES is '-1'; remove it to compute on the GPU"
    )


def test_a_driver_too_old_for_torch_is_told_in_torch_s_words(nvidia_smi, monkeypatch):
    said = "The NVIDIA driver on your system is too old (found version 11040). Please update it"
    monkeypatch.setattr(torch.cuda, "init", fails(said))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # as a cluster sets it
    assert unused_gpu.why_unused().endswith(
        "torch 2.13.0 says: The NVIDIA driver on your system is too old (found version 11040); "
        "update the driver, or run install_env.sh again, which picks a torch for it"
    )


def test_a_machine_without_a_gpu_says_nothing_of_one(nvidia_smi):
    Path("bin/nvidia-smi").write_text("#!/bin/sh\nexit 6\n", encoding="utf-8")
    assert unused_gpu.why_unused() == ""


def test_an_nvidia_smi_that_fails_is_told(nvidia_smi):
    said = "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n"
    Path("bin/nvidia-smi").write_text(said, encoding="utf-8")
    assert unused_gpu.why_unused() == (
        "WARNING: a GPU may stay unused: nvidia-smi says 'Failed to initialize NVML: "
        "Driver/library version mismatch'; install the driver again, or restart the machine"
    )


def test_a_macos_that_is_too_old_for_the_gpu_is_told(monkeypatch):
    monkeypatch.setattr(unused_gpu.sys, "platform", "darwin")
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    assert unused_gpu.why_unused() == (
        "WARNING: the GPU stays unused: this macOS is too old for torch, update it"
    )
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: False)
    assert unused_gpu.why_unused() == ""


@pytest.mark.parametrize(
    ("capability", "fits"),
    [((7, 0), False), ((7, 5), True), ((8, 0), True), ((8, 9), True), ((12, 1), True)],
)
def test_a_gpu_that_torch_has_no_code_for_is_refused(monkeypatch, capability, fits):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda place: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: "Tesla V100")
    built = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "compute_120"]
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    if fits:
        unused_gpu.refuse_gpu_too_old(torch.device("cuda"))
    else:
        with pytest.raises(UserError, match=r"no code for Tesla V100 \(compute capability 7.0"):
            unused_gpu.refuse_gpu_too_old(torch.device("cuda"))


def cgroup(folder, limit, used, inactive, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used, f"anon 5\n{inactive}"), strict=True):
        (folder / name).write_text(f"{value}\n", encoding="utf-8")


V2 = ("memory.max", "memory.current", "memory.stat")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")


def test_the_tightest_limit_of_the_control_groups_above_a_job_counts(tmp_path):
    Path("proc/self").mkdir(parents=True)
    Path("proc/self/cgroup").write_text("0::/slurm/job_1/task_0\n", encoding="utf-8")
    mount = tmp_path / "sys/fs/cgroup"
    cgroup(mount / "slurm", 900, 100, "inactive_file 0", V2)
    cgroup(mount / "slurm/job_1", 500, 300, "inactive_file 100", V2)
    cgroup(mount / "slurm/job_1/task_0", "max", 300, "inactive_file 100", V2)
    assert free_in_cgroup(tmp_path) == (300, 500)


def test_a_container_s_limit_counts_by_control_groups_of_version_1(tmp_path):
    Path("proc/self").mkdir(parents=True)
    Path("proc/self/cgroup").write_text(
        "5:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n0::/\n", encoding="utf-8"
    )
    mount = tmp_path / "sys/fs/cgroup/memory"
    cgroup(mount, 2**63 - 4096, 10, "total_inactive_file 0", V1)
    assert free_in_cgroup(tmp_path) == (NO_LIMIT, NO_LIMIT)
    cgroup(mount, 800, 600, "total_inactive_file 50", V1)  # the container sees its own as the root
    assert free_in_cgroup(tmp_path) == (250, 800)


def test_without_control_groups_the_machine_s_memory_counts(tmp_path):
    assert free_in_cgroup(tmp_path) == (NO_LIMIT, NO_LIMIT)
    free, total = machine.memory()
    assert 0 < free <= total


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused_wherever_they_stand(bad):
    for values in (bad, np.array([[0.0, bad]]), torch.tensor([1.0, bad], dtype=torch.float16)):
        with pytest.raises(UserError, match="^the sums are not finite numbers in float32: clone"):
            check_finite(values, "the sums")
    check_finite(np.zeros((0, 4)), "the sums")
    check_finite(6e4, "the sums")


@pytest.mark.parametrize(
    ("dtype", "cure"),
    [(torch.float16, "give --dtype float32; an NVIDIA GPU from"), (torch.bfloat16, "give --dtype")],
)
def test_the_line_names_the_precision_to_try(monkeypatch, dtype, cure):
    monkeypatch.setattr(machine, "_asked", [dtype])
    with pytest.raises(UserError) as error:
        check_finite(math.nan, LOGITS)
    name = machine.dtype_name(dtype)
    assert str(error.value).startswith(f"the model's logits are not finite numbers in {name}: ")
    assert str(error.value).partition(": ")[2].startswith(cure)


def test_a_nan_in_any_step_of_a_generation_is_noted():
    ids = torch.zeros(2, 3, dtype=torch.long)
    finite = FiniteLogits()
    scores = torch.tensor([[0.0, -math.inf], [1.0, 2.0]])
    assert finite(ids, scores) is scores
    finite.check()
    finite(ids, torch.tensor([[0.0, math.nan], [1.0, 2.0]]))
    finite(ids, scores)
    with pytest.raises(UserError, match=LOGITS):
        finite.check()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_splits(tmp_path_factory.mktemp("data"), 3, train=48, validation=16, test=12)


@pytest.fixture
def overflowing(tiny_qwen2, monkeypatch):
    """Return the folder of a Qwen2 whose residual stream exceeds float16, which is computed in."""
    shutil.copytree(tiny_qwen2, "overflowing")
    weights = load_file("overflowing/model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"] *= 3e6
    save_file(weights, "overflowing/model.safetensors", metadata={"format": "pt"})
    as_float16 = {"_asked": [torch.float16], "start_run": lambda dtype: None}
    for name, value in as_float16.items():
        monkeypatch.setattr(machine, name, value)
    return "overflowing"


def infer(model, data, *argv):
    paths = ["--model-path", model, "--test-file", f"{data}/test.csv", "--output-dir", "results"]
    local_inference.main([*paths, "--no-load-in-4bit", *argv])


def tune(main, model, data, *argv):
    paths = ["--model-path", model, "--output-dir", "tuned"]
    paths += ["--train-file", f"{data}/train.csv", "--validation-file", f"{data}/validation.csv"]
    main([*paths, "--num-train-epochs", "2", "--logging-steps", "1", *argv])


@pytest.mark.parametrize("decoding", ["score", "generate"])
@pytest.mark.parametrize("checked_before", [True, False])
def test_a_model_that_overflows_stops_its_evaluation(
    overflowing, data, decoding, checked_before, monkeypatch
):
    if not checked_before:  # as where the rows that packs are tried on do not overflow
        monkeypatch.setattr("pipeline.llm.scoring.choose_packing", lambda *args: False)
    with pytest.raises(UserError, match="logits are not finite numbers in float16: give --dtype"):
        infer(overflowing, data, "--decoding", decoding)
    assert not Path("results/metrics.json").exists()
    monkeypatch.setattr(machine, "_asked", [torch.float32])
    infer(overflowing, data, "--decoding", decoding)
    assert Path("results/metrics.json").exists()


def test_a_model_that_overflows_stops_its_training_before_a_step(overflowing, data):
    with pytest.raises(UserError, match="logits are not finite numbers in float16: give --dtype"):
        tune(finetune.main, overflowing, data, "--no-load-in-4bit")


def test_a_loss_that_overflows_stops_a_training_within_its_logging_steps(tiny_qwen2, data):
    with pytest.raises(UserError, match=r"^the losses of step [123] are not finite .* float32"):
        argv = ["--learning-rate", "1e38", "--warmup-steps", "1"]
        tune(finetune.main, tiny_qwen2, data, *argv, "--per-device-train-batch-size", "8")
    assert not list(Path("tuned").glob("checkpoint-*"))


def test_a_validation_that_overflows_stops_a_training_before_its_checkpoint(tiny_bert, data):
    argv = ["--learning-rate", "1e38", "--warmup-ratio", "0", "--per-device-train-batch-size", "64"]
    with pytest.raises(UserError, match="the model's logits are not finite numbers in float32"):
        tune(bert_tune.main, tiny_bert, data, *argv)
    assert not list(Path("tuned").glob("checkpoint-*"))


def test_a_gradient_that_overflows_alone_stops_no_training():
    """In float16 the gradient scaler skips such a step."""
    stop, where = StopWhereNotFinite().on_log, (Namespace(output_dir="tuned"), TrainerState(), None)
    logs = {"loss": 1.5, "grad_norm": math.nan}
    stop(*where, logs=logs)
    with pytest.raises(UserError, match="the losses of step 0"):
        stop(*where, logs=logs | {"loss": math.inf})


def test_a_training_whose_gradients_all_overflow_stops():
    callback, state = StopWhereNotFinite(), TrainerState(global_step=100)
    where = (Namespace(output_dir="tuned"), state, None)
    for state.global_step, norm in ((110, math.inf), (150, 2.0), (200, math.inf), (230, math.nan)):
        callback.on_log(*where, logs={"loss": 1.5, "grad_norm": norm})
    callback.on_log(*where, logs={"train_loss": 1.5})
    state.global_step = 250
    with pytest.raises(UserError, match="the gradients of steps 200 to 250 are not finite number"):
        callback.on_log(*where, logs={"loss": 1.5, "grad_norm": math.inf})


@pytest.mark.parametrize(("dtype", "told"), [(torch.float16, True), (torch.float32, False)])
def test_a_training_that_overflows_after_a_checkpoint_says_how_it_goes_on(monkeypatch, dtype, told):
    monkeypatch.setattr(machine, "_asked", [dtype])
    where = (Namespace(output_dir="tuned"), TrainerState(), None)
    for saved in (False, True):
        if saved:
            Path("tuned/checkpoint-4").mkdir(parents=True)
        with pytest.raises(UserError) as error:
            StopWhereNotFinite().on_log(*where, logs={"eval_loss": math.nan})
        assert ("add --resume" in str(error.value)) == (told and saved)


@pytest.mark.parametrize("argv", [[], ["--untrained-head"]])
def test_an_encoder_with_weights_that_are_no_numbers_stops_its_evaluation(tiny_bert, data, argv):
    shutil.copytree(tiny_bert, "broken")
    weights = load_file("broken/model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    weights[name][:] = math.nan
    save_file(weights, "broken/model.safetensors", metadata={"format": "pt"})
    paths = ["--model-path", "broken", "--test-file", f"{data}/test.csv"]
    with pytest.raises(UserError, match="the encoder's numbers are not finite numbers in float32"):
        bert_eval.main([*paths, "--train-file", f"{data}/train.csv", *argv])


def test_a_precision_asked_for_is_the_model_s_and_the_record_s(tiny_qwen2, data, capsys):
    infer(tiny_qwen2, data, "--dtype", "bfloat16", "--decoding", "score")
    assert json.loads(Path("results/metrics.json").read_bytes())["dtype"] == "bfloat16"
    said = capsys.readouterr().out
    assert said.index("\ndevice: CPU") < said.index("shared-prefix packs")
    assert said.count(", bfloat16, ") == 1


OPTIONS = TrainingOptions(
    output_dir="tuned",
    num_train_epochs=1,
    learning_rate=1e-3,
    weight_decay=0.0,
    per_device_train_batch_size=32,
    per_device_eval_batch_size=16,
    early_stopping_patience=1,
    save_total_limit=1,
    logging_steps=1,
    seed=42,
)


def test_one_process_on_two_gpus_trains_on_as_many_rows_a_step_as_on_one(monkeypatch):
    monkeypatch.setattr(training, "device", lambda: Namespace(type="cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    arguments = trainer_arguments(OPTIONS)
    assert (arguments.n_gpu, arguments.train_batch_size, arguments.eval_batch_size) == (1, 32, 16)
    assert arguments.dataloader_pin_memory and not arguments.use_cpu


@pytest.mark.parametrize("fit", [True, False])
def test_cards_that_cannot_exchange_directly_are_let_go_without(monkeypatch, fit):
    names = ("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(training, "device", lambda: Namespace(type="cuda"))
    monkeypatch.setattr(training, "check_cuda_p2p_ib_support", lambda: fit)
    trainer_arguments(OPTIONS)
    assert [os.environ.get(name) for name in names] == ([None, None] if fit else ["1", "1"])


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_a_training_on_another_gpu_pins_no_memory(monkeypatch, kind):
    monkeypatch.setattr(training, "device", lambda: Namespace(type=kind))
    arguments = trainer_arguments(OPTIONS)
    assert not arguments.dataloader_pin_memory and not arguments.use_cpu


def test_a_training_that_overflowed_goes_on_in_another_precision():
    Path("tuned/checkpoint-1").mkdir(parents=True)
    write_json({}, "tuned/checkpoint-1/trainer_state.json")
    write_json({"files": {}}, "tuned/checkpoint-1/complete.json")
    record = {"settings": {"dtype": "auto"}, "base_fingerprint": "b", "codebook_sha256": "c"}
    record |= {"data_sha256": "d", "processes": 1}
    write_json(record, "tuned/training.json")
    other = record | {"settings": {"dtype": "float32"}}
    assert claim_output("tuned", other, resume=True) == str(Path("tuned/checkpoint-1"))


def test_json_holds_null_where_a_number_is_not_finite():
    write_json({"a": [1.5, math.nan], "b": {"c": (np.float64("inf"), 2)}}, "a.json")
    assert json.loads(Path("a.json").read_bytes()) == {"a": [1.5, None], "b": {"c": [None, 2]}}


def test_logits_that_are_not_finite_have_no_temperature():
    with pytest.raises(ValueError, match="no temperature"):
        fit_temperature(np.array([[0.0, math.nan], [1.0, 2.0]]), np.array([0, 1]))
