"""Trainers on another device: nothing of a run lies elsewhere, and without the device they say so.

No GPU is needed for what is here but the last part, which is skipped where there is none.
"""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
import torch

import lockstep
from lockstep import backends
from lockstep.backends.errors import DeviceUnavailableError
from lockstep.backends.jax_haiku import devices as jax_devices
from lockstep.backends.problem import Optimizer
from lockstep.backends.pytorch import backend as torch_backend
from lockstep.backends.pytorch import devices as torch_devices
from lockstep.backends.pytorch.backend import TorchTrainer
from lockstep.backends.pytorch.modes import ForeachTrainer
from lockstep.harness.conformance.problems import PROBLEMS
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.environment import doctor
from lockstep.harness.problems import catalogue, find
from tests.backends.pretended import DEVICE, drive, pretended
from tests.conftest import BACKENDS, available, square_problem

ROOT = Path(__file__).parents[2]
CUDA = ("jax:cuda", "torch:cuda")


@pytest.mark.parametrize(
    "problems", [["seed"], pytest.param(["modes", "surrounded"], marks=pytest.mark.sweep)], ids=" ".join
)
def test_jax_trains_on_the_second_of_two_devices_alone_what_it_trains_on_the_first(problems):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-m", "tests.backends.second_device", *problems],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "2", "XLA_FLAGS": flags},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert set(facts["same"]) == set(problems)
    assert all(all(same) and len(same) > 5 for same in facts["same"].values())
    # What forgets its device is found; before JAX 0.10 the first one is called TFRT_CPU_0.
    assert re.search(r"cpu:0|CPU_0", facts["fault"])


@pytest.mark.parametrize("kind", [TorchTrainer, ForeachTrainer])
@pytest.mark.parametrize("name", ["seed", "modes", "surrounded", "clipped by norm, accumulated"])
def test_torch_mixes_no_devices(name, kind, monkeypatch):
    """The foreach form is what torch takes by itself on a GPU."""
    with pretended(monkeypatch):
        drive(lambda: kind(PROBLEMS[name](), DEVICE))


@pytest.mark.sweep
@pytest.mark.parametrize("name", catalogue())
def test_torch_mixes_no_devices_on_any_problem(name, monkeypatch):
    problem = find(name).replace(dtype="float32", epochs=2)
    with pretended(monkeypatch):
        drive(lambda: TorchTrainer(problem, DEVICE))


def forget_the_tensor(patch):
    patch.setattr(TorchTrainer, "_tensor", lambda self, array: torch.tensor(array))


def forget_the_module(patch):
    move = torch.nn.Module.to
    patch.setattr(torch.nn.Module, "to", lambda self, device, dtype: move(self, dtype))


def forget_the_masks(patch):
    deal = torch_backend._dealt

    def dealt(*args):
        for x, y, masks in deal(*args):
            yield x, y, {name: torch.zeros_like(one, device="cpu") for name, one in masks.items()}

    patch.setattr(torch_backend, "_dealt", dealt)


@pytest.mark.parametrize("forget", [forget_the_tensor, forget_the_module, forget_the_masks])
def test_what_forgets_the_device_is_found(forget, monkeypatch):
    forget(monkeypatch)
    with (
        pytest.raises(AssertionError, match=r"on two devices|read from cpu"),
        pretended(monkeypatch),
    ):
        drive(lambda: TorchTrainer(PROBLEMS["modes"](), DEVICE))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "nadam", "rmsprop"])
def test_a_step_of_torch_waits_for_nothing_from_the_device(optimizer, monkeypatch):
    """What is read of a tensor in a step is a count, which stands on the CPU."""
    with pretended(monkeypatch) as watched:
        trainer = TorchTrainer(square_problem(optimizer=Optimizer(optimizer, learning_rate=0.01)), DEVICE)
        batch = next(iter(square_problem().batches()))
        state, _ = trainer.step(trainer.init(), batch)
        trainer.step(state, batch)
    assert not watched.reads


@pytest.fixture
def without_gpu(monkeypatch):
    """As on a machine that has none, wherever the tests run."""

    def only_cpu(platform=None):
        if platform == "cuda":
            raise RuntimeError("Unknown backend cuda. Available backends are ['cpu']")
        return found(platform)

    found = jax.devices
    monkeypatch.setattr(jax, "devices", only_cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("name", "got", "fix"),
    [
        (
            "jax:cuda",
            f"jax {jax.__version__}, no CUDA device: Unknown backend cuda",
            r'pip install "jax\[cuda\]"',
        ),
        ("torch:cuda", f"torch {torch.__version__}, no CUDA device", "CUDA"),
    ],
)
def test_without_the_device_a_backend_says_so(name, got, fix, without_gpu):
    with pytest.raises(DeviceUnavailableError, match=rf"backend '{name}' cannot run here") as raised:
        backends.load(name)
    assert got in raised.value.got
    assert re.search(fix, raised.value.fix)


@pytest.mark.parametrize(
    ("built", "fix"), [(None, "https://pytorch.org/get-started"), ("13.0", "nvidia-smi, the driver")]
)
def test_torch_tells_a_build_without_cuda_from_a_machine_without_a_gpu(built, fix, without_gpu, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(DeviceUnavailableError, match=fix):
        torch_devices.require("torch:cuda", "cuda")


def test_jax_told_of_no_cpu_says_how_to_name_it(monkeypatch):
    def devices(platform):
        raise RuntimeError(f"Unknown backend {platform}")

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(DeviceUnavailableError, match="JAX_PLATFORMS=cuda,cpu"):
        backends.load("jax")


def test_verification_skips_what_has_no_device_and_judges_the_others(without_gpu):
    result = lockstep.verify("seed", backends=["numpy", "torch", *CUDA], dtypes=["float64"])
    assert result.verdict is Verdict.SKIPPED
    runs = {run.backend: run for run in result.runs}
    assert {name for name, run in runs.items() if run.verdict is Verdict.SKIPPED} == set(CUDA)
    assert all("no CUDA device" in runs[name].reason and runs[name].fix for name in CUDA)
    assert {one.verdict for one in result.comparisons} == {Verdict.AGREE}


def test_an_absent_device_is_told_by_the_doctor_and_is_no_fault(without_gpu):
    found = {one.backend: one for one in doctor.examine()}
    assert all(found[name].absent and "no CUDA device" in found[name].problem for name in CUDA)
    assert not any(found[name].problem for name in BACKENDS)


def gpu_of_torch(patch, capability=(9, 0)):
    """What torch would tell of a GPU; the precision switches are its own and real."""
    patch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    patch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    patch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1 << 20)
    return torch.device("cuda")


@pytest.fixture
def switched():
    """Sets precision switches of torch.backends; afterwards what each stands for is as it was."""

    def switch(name, value):
        *path, last = name.split(".")
        setattr(functools.reduce(getattr, path, torch.backends), last, value)

    yield switch
    for name, value in {
        "cuda.matmul.fp32_precision": "none",
        "mkldnn.matmul.fp32_precision": "none",
        "cudnn.conv.fp32_precision": "tf32",
        "cudnn.allow_tf32": True,
        "cuda.matmul.allow_tf32": False,
    }.items():
        switch(name, value)
    assert torch_devices.may_use_tf32()
    assert torch.get_float32_matmul_precision() == "highest"


FULL = {"cudnn.allow_tf32": False}


@pytest.mark.parametrize(
    ("switches", "capability", "override", "reduced"),
    [
        ({}, (9, 0), None, True),  # by torch's defaults convolutions may round to TF32
        ({}, (9, 0), "0", False),
        ({}, (7, 5), None, False),
        (FULL, (9, 0), None, False),
        ({**FULL, "cuda.matmul.allow_tf32": True}, (9, 0), None, True),
        ({"cudnn.conv.fp32_precision": "ieee"}, (9, 0), None, False),
        ({"cudnn.conv.fp32_precision": "ieee", "cuda.matmul.fp32_precision": "tf32"}, (9, 0), None, True),
    ],
    ids=str,
)
def test_torch_tells_whether_a_gpu_may_round_to_less(
    switches, capability, override, reduced, switched, monkeypatch
):
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if override is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    for name, value in switches.items():
        switched(name, value)
    facts = torch_devices.describe(gpu_of_torch(monkeypatch, capability))
    assert facts["reduced_precision"] is reduced
    assert (facts["device"], facts["device_peak_bytes"]) == ("NVIDIA H200", 1 << 20)
    assert facts["capability"] == ".".join(map(str, capability))
    assert all(isinstance(value, (str, int)) for value in facts.values())


def test_torch_tells_of_a_cpus_precision_by_the_newer_switch_too(switched):
    assert torch_devices.describe(torch.device("cpu"))["reduced_precision"] is False
    switched("mkldnn.matmul.fp32_precision", "bf16")
    assert torch_devices.describe(torch.device("cpu"))["reduced_precision"] is True


def gpu_of_jax(**memory):
    """What JAX tells of a GPU, as far as it is asked."""
    return SimpleNamespace(
        platform="gpu",
        device_kind="NVIDIA H200",
        compute_capability="9.0",
        client=SimpleNamespace(platform_version="PJRT C API\ncuda 13000"),
        memory_stats=lambda: memory or None,
    )


def test_jax_tells_of_a_gpu_what_its_numbers_depend_on(full_precision):
    facts = jax_devices.describe(gpu_of_jax(peak_bytes_in_use=1 << 20))
    assert facts == {
        "device": "NVIDIA H200",
        "matmul_precision": "highest",
        "reduced_precision": False,
        "driver": "PJRT C API cuda 13000",
        "capability": "9.0",
        "device_peak_bytes": 1 << 20,
    }


def test_jax_rounds_to_less_on_a_gpu_unless_it_is_told_otherwise():
    facts = jax_devices.describe(gpu_of_jax())
    assert facts["reduced_precision"] is True
    assert "device_peak_bytes" not in facts


@pytest.mark.parametrize("name", CUDA)
def test_on_a_gpu_memory_of_the_device_is_used(name):
    backend = available(name)
    before = backend.environment()["device_peak_bytes"]
    run = lockstep.verify(PROBLEMS["square"](), backends=["numpy", backend], dtypes=["float64"]).runs[1]
    assert run.environment["device_peak_bytes"] >= max(before, 1)
    assert run.environment["device"] not in ("cpu", "")


@pytest.mark.parametrize("name", CUDA)
def test_on_a_gpu_every_kind_of_problem_is_trained_as_the_reference_trains_it(name, full_precision):
    backend = available(name)
    for problem in ("modes", "surrounded", "clipped by norm, accumulated"):
        result = lockstep.verify(PROBLEMS[problem](), backends=["numpy", backend])
        assert result.verdict is Verdict.AGREE, result.census()
