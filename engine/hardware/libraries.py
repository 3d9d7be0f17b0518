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
)
_CUDA_LINE = re.compile(r"^cuda(?:\s*:[^=]*)?\s*=\s*(?:'([^']*)'|\"([^\"]*)\"|None)\s*$", re.MULTILINE)


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
