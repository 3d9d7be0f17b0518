"""Python, libraries and what they can do on this machine."""

import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement

from engine.hardware.checks import Check, Status, listed
from engine.hardware.devices import Gpu, Hardware
from engine.hardware.readings import Unavailable, known
from engine.hardware.torch_process import TorchReport, runs_on
from engine.text import clean_line

MIN_PYTHON = (3, 11)
BFLOAT16_CAPABILITY = (8, 0)
FLASH_CAPABILITY = (8, 0)
QUANTISATION_CAPABILITY = (6, 0)
"""Oldest compute capability of bitsandbytes' 4-bit kernels and 8-bit optimizers, after its installation guide."""
_SOFTWARE: Literal["Software"] = "Software"
_START = "https://pytorch.org/get-started/locally"


def software_checks(hardware: Hardware, torch: TorchReport | Unavailable | None) -> Iterator[Check]:
    """Yield the checks of the installation.

    Args:
        hardware: What the machine has.
        torch: What torch says of the GPUs; None when it was not asked.
    """
    yield _python()
    yield from _libraries(hardware)
    yield _torch(hardware)
    yield from _kernels(hardware, torch)
    yield _formats(hardware)
    yield from _attention(hardware)
    yield _quantisation(hardware)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= MIN_PYTHON:
        return Check("python", "ok", version, group=_SOFTWARE)
    fix = "Install Python 3.11 or newer and set ftwizard up again."
    return Check("python", "error", version, fix, _SOFTWARE)


def required_ranges() -> list[Requirement]:
    """Return the libraries that ftwizard declares, with their version ranges; empty when it is not installed."""
    try:
        declared = importlib.metadata.requires("ftwizard") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    requirements: list[Requirement] = []
    for line in declared:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            requirements.append(requirement)
    return requirements


def _libraries(hardware: Hardware) -> Iterator[Check]:
    requirements = required_ranges()
    wrong = [check for requirement in requirements if (check := _library(requirement, hardware.libraries))]
    if not requirements:
        value = "ftwizard is not installed as a package, so no ranges are known"
        yield Check("libraries", "warning", value, "Set ftwizard up again: make setup", _SOFTWARE)
    elif not wrong:
        value = f"{len(requirements)} libraries, all in the supported ranges"
        yield Check("libraries", "ok", value, group=_SOFTWARE)
    yield from wrong


def _library(requirement: Requirement, installed: Mapping[str, str]) -> Check | None:
    name = requirement.name
    fix = f'Run: pip install "{requirement}"'
    version = installed.get(name)
    if version is None:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return Check(name, "error", "not installed", fix, _SOFTWARE)
    if requirement.specifier.contains(version, prereleases=True):
        return None
    value = f"{clean_line(version, max_chars=40)}, outside the supported range {requirement.specifier}"
    return Check(name, "warning", value, fix, _SOFTWARE)


def _torch(hardware: Hardware) -> Check:
    status, value, fix = _torch_build(hardware)
    return Check("torch build", status, value, fix, _SOFTWARE)


def _torch_build(hardware: Hardware) -> tuple[Status, str, str]:
    version = hardware.libraries.get("torch")
    if version is None:
        return "error", "not installed", "Set ftwizard up again: make setup"
    built = hardware.torch_cuda
    if isinstance(built, Unavailable):
        if hardware.gpus:
            return "warning", f"{version}: {built.reason}, and there is a GPU", f"Install a CUDA build; see {_START}."
        return "ok", f"{version}, for the processor", ""
    newest = known(hardware.cuda)
    if newest is not None and version_of(built)[0] > version_of(newest)[0]:
        value = f"{version} is built for CUDA {built}, and the driver runs CUDA {newest}"
        return "warning", value, "Update the NVIDIA driver, or install a torch for an older CUDA."
    if newest is not None and version_of(built) > version_of(newest):
        value = f"{version}, built for CUDA {built}; the driver's {newest} runs it in compatibility mode"
        return "ok", value, ""
    return "ok", f"{version}, built for CUDA {built}", ""


def version_of(text: str) -> tuple[int, int]:
    """Return major and minor number of a version; what is no number counts as 0."""
    numbers = [int(part) if part.isdecimal() else 0 for part in text.split(".")[:2]]
    return numbers[0], numbers[1] if len(numbers) > 1 else 0


def _kernels(hardware: Hardware, torch: TorchReport | Unavailable | None) -> Iterator[Check]:
    """Yield whether the installed torch really computes on the GPUs that are here."""
    if torch is None:
        return
    if isinstance(torch, Unavailable):
        yield Check("torch kernels", "error", torch.reason, "Set ftwizard up again: make setup", _SOFTWARE)
    elif not torch.available:
        value = f"torch reaches no GPU: {torch.problem or 'it does not say why'}"
        fix = "Update the NVIDIA driver, or check that /dev/nvidia-uvm is there; then look again."
        yield Check("torch kernels", "error", value, fix, _SOFTWARE)
    else:
        yield _architectures(hardware, torch)


def _architectures(hardware: Hardware, torch: TorchReport) -> Check:
    found = [(gpu, capability) for gpu in hardware.usable_gpus() if (capability := known(gpu.compute_capability))]
    without = [(gpu, capability) for gpu, capability in found if not runs_on(torch.architectures, capability)]
    built_for = ", ".join(torch.architectures)
    if without:
        cards = listed(f"GPU {gpu.label} ({number[0]}.{number[1]})" for gpu, number in without)
        value = f"no kernels for {cards}; torch is built for {built_for}"
        fix = f"Install a torch build that has them; see {_START}."
        return Check("torch kernels", "error", value, fix, _SOFTWARE)
    return Check("torch kernels", "ok", f"for every GPU here: {built_for}", group=_SOFTWARE)


def _capabilities(hardware: Hardware) -> list[tuple[int, int]]:
    return [found for gpu in hardware.usable_gpus() if (found := known(gpu.compute_capability)) is not None]


def _formats(hardware: Hardware) -> Check:
    capabilities = _capabilities(hardware)
    flags = hardware.host.cpu_flags & {"avx512_bf16", "amx_bf16", "bf16"}
    if capabilities and max(capabilities) >= BFLOAT16_CAPABILITY:
        value = "computed natively by the GPU"
    elif capabilities:
        value = "not native to this GPU; float16 or float32 is used"
    elif flags:
        value = f"computed natively by the processor ({', '.join(sorted(flags))})"
    else:
        value = "not native to this processor; float32 is used"
    return Check("bfloat16", "ok", value, group=_SOFTWARE)


def _attention(hardware: Hardware) -> Iterator[Check]:
    capabilities = _capabilities(hardware)
    if not capabilities:
        return
    if max(capabilities) >= FLASH_CAPABILITY:
        value = "FlashAttention kernels of torch"
    else:
        value = "FlashAttention needs compute capability 8.0; torch's memory-efficient kernels are used"
    yield Check("attention", "ok", value, group=_SOFTWARE)


def _quantisation(hardware: Hardware) -> Check:
    version = hardware.libraries.get("bitsandbytes")
    if version is None:
        value = "bitsandbytes is not installed; no QLoRA, no 8-bit optimizers"
        return Check("quantisation", "warning", value, "Run: pip install bitsandbytes", _SOFTWARE)
    missing = _missing_backend(hardware)
    if missing:
        fix = "Run: pip install --upgrade bitsandbytes"
        return Check("quantisation", "warning", f"bitsandbytes {version} {missing}", fix, _SOFTWARE)
    old = [gpu for gpu in hardware.usable_gpus() if _too_old(gpu)]
    if old:
        value = f"bitsandbytes {version} needs compute capability 6.0; GPU {listed(gpu.label for gpu in old)} has less"
        return Check("quantisation", "warning", value, "Use LoRA without quantisation there.", _SOFTWARE)
    return Check("quantisation", "ok", f"bitsandbytes {version}: QLoRA and 8-bit optimizers work", group=_SOFTWARE)


def _too_old(gpu: Gpu) -> bool:
    capability = known(gpu.compute_capability)
    return capability is not None and capability < QUANTISATION_CAPABILITY


def _missing_backend(hardware: Hardware) -> str:
    """Return what bitsandbytes lacks for torch's CUDA; it takes any library of the same major version."""
    built, backends = known(hardware.torch_cuda), known(hardware.quantisation_cuda)
    if built is None or backends is None or any(version_of(name)[0] == version_of(built)[0] for name in backends):
        return ""
    return f"has no GPU library for CUDA {built}: {', '.join(backends) or 'none at all'}"
