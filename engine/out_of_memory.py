"""Tell a lack of memory from other errors, and give back what can be given back; the same words for every stage."""

import errno
import gc
import sys

from engine.recipe.problems import ProblemError

_TEXTS = (
    "out of memory",
    "cudaerrormemoryallocation",
    "_alloc_failed",
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "not enough memory",
    "bad_alloc",
)
"""How CUDA, cuBLAS, cuDNN, PyTorch's allocators, the C++ runtime and the system put it, in lower case."""
_MAX_CAUSES = 8


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or the error that it was made from, is a lack of memory of the device or of the host.

    A problem that was put into words already is what its words say, whatever caused it.
    """
    for _ in range(_MAX_CAUSES):
        if error is None or isinstance(error, ProblemError):
            return False
        if _is_lack(error):
            return True
        error = error.__cause__
    return False


def _is_lack(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # PyTorch raises RuntimeError and its subclasses, safetensors an exception of its own.
    if isinstance(error, RuntimeError) or type(error).__module__.startswith("safetensors"):
        text = str(error).lower()
        return type(error).__name__ == "OutOfMemoryError" or any(words in text for words in _TEXTS)
    return False


def give_back_memory() -> None:
    """Collect what nobody refers to any more and return the allocator's unused blocks to the device.

    To be called outside of an `except` block: the traceback refers to the tensors of what failed.
    """
    gc.collect()
    # Nothing was taken from a device by a process that has not imported PyTorch.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
