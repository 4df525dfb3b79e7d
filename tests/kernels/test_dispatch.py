"""Which room computes: the device decides, the environment overrides, nothing switches silently."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from maxsight.errors import BackendError, UsageError
from maxsight.kernels import dispatch


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAXSIGHT_KERNELS", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def room(*tensors: torch.Tensor | None) -> str:
    return dispatch.room_of("similarity", *tensors).__name__.rpartition(".")[2]


def on(device: str) -> torch.Tensor:
    return torch.empty(1, device=device)


def test_the_device_decides() -> None:
    assert room(on("cpu"), None, on("cpu")) == "cpu"
    assert room(on("meta")) == "reference"


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_the_environment_overrides(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXSIGHT_KERNELS", name)
    assert room(on("cpu")) == name


def test_reference_computes_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXSIGHT_KERNELS", "reference")
    assert room(on("meta")) == "reference"


@pytest.mark.parametrize(
    ("forced", "device", "hint"),
    [("gpu", "cpu", "TRITON_INTERPRET"), ("gpu", "meta", "CUDA"), ("cpu", "meta", "meta")],
)
def test_a_room_that_cannot_take_the_tensors_says_so(
    forced: str, device: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAXSIGHT_KERNELS", forced)
    with pytest.raises(BackendError, match=hint):
        room(on(device))


def test_the_interpreter_takes_tensors_on_the_cpu() -> None:
    program = (
        "import torch; from maxsight.kernels.dispatch import room_of; "
        "print(room_of('similarity', torch.empty(1)).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"MAXSIGHT_KERNELS": "gpu", "TRITON_INTERPRET": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "maxsight.kernels.similarity.gpu", done.stderr


def test_an_unknown_room_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXSIGHT_KERNELS", "abacus")
    with pytest.raises(UsageError, match="abacus"):
        room(on("cpu"))


def test_tensors_on_two_devices_or_none() -> None:
    with pytest.raises(BackendError, match="cpu, meta"):
        room(on("cpu"), on("meta"))
    with pytest.raises(BackendError, match="none"):
        room(None)
