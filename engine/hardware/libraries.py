"""Which libraries are installed and what torch was built for, read from files: nothing heavy is imported."""

import importlib.metadata
import importlib.util
import re
from pathlib import Path

from engine.hardware.readings import Unavailable

ENGINE_LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "evaluate",
    "tokenizers",
    "safetensors",
    "huggingface_hub",
    "nvidia-ml-py",
    "numpy",
    "sacrebleu",
    "rouge-score",
    "scikit-learn",
    "jiwer",
    # Optional, and never asked for: a plan says what it could do with them.
    "flash-attn",
    "deepspeed",
)
_CUDA_LINE = re.compile(r"^cuda(?:\s*:[^=]*)?\s*=\s*(?:'([^']*)'|\"([^\"]*)\"|None)\s*$", re.MULTILINE)
# Two digits of the major version, the rest is the minor one: `libbitsandbytes_cuda128.so` is for CUDA 12.8.
_BACKEND = re.compile(r"libbitsandbytes_cuda(\d\d)(\d+)\.so")


def read_libraries() -> dict[str, str]:
    """Return `{distribution: version}` of the engine's libraries that are installed."""
    versions: dict[str, str] = {}
    for name in ENGINE_LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def read_torch_cuda() -> str | Unavailable:
    """Return the CUDA version that the installed torch was built for, or why it cannot use a GPU."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return Unavailable("torch is not installed")
    return torch_cuda_of(Path(spec.origin).with_name("version.py"))


def read_quantisation_cuda() -> tuple[str, ...] | Unavailable:
    """Return the CUDA versions, such as `13.0`, for which the installed bitsandbytes brings a library."""
    spec = importlib.util.find_spec("bitsandbytes")
    if spec is None or spec.origin is None:
        return Unavailable("bitsandbytes is not installed")
    return quantisation_cuda_of(Path(spec.origin).parent)


def quantisation_cuda_of(package: Path) -> tuple[str, ...]:
    """Return the CUDA versions of the libraries in the folder of bitsandbytes, oldest first."""
    found = [match for file in package.glob("libbitsandbytes_cuda*.so") if (match := _BACKEND.fullmatch(file.name))]
    return tuple(f"{major}.{minor}" for major, minor in sorted((int(match[1]), int(match[2])) for match in found))


def torch_cuda_of(version_file: Path) -> str | Unavailable:
    """Return the CUDA version named in torch's `version.py`, or why there is none."""
    try:
        text = version_file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Unavailable("torch/version.py cannot be read")
    found = _CUDA_LINE.search(text)
    if found is None:
        return Unavailable("torch/version.py does not name a CUDA version")
    return found[1] or found[2] or Unavailable("the installed torch is built for the CPU only")
