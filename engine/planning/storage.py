"""Bytes that a run writes: downloaded weights, checkpoints, the finished model and its conversions, the rows."""

from engine.planning.memory import Setup, optimizer_bytes, trainable_params
from engine.planning.plan import DiskEstimate
from engine.planning.profiles import DataProfile, ModelProfile
from engine.recipe.schema import DeliverySection

MIB = 2**20
_SMALL_FILES_BYTES = 16 * MIB
"""Tokenizer, events, evaluation, report: measured below this for vocabularies up to 152 k."""
_WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}


def checkpoint_bytes(model: ModelProfile, setup: Setup) -> int:
    """Return the size of one checkpoint: the weights that learn, the optimizer's states and a little more."""
    trainable = trainable_params(model, setup)
    return 4 * trainable + optimizer_bytes(setup.optimizer, trainable) + MIB


def estimate_disk(
    model: ModelProfile,
    setup: Setup,
    data: DataProfile,
    *,
    keep: int,
    delivery: DeliverySection,
    free_bytes: int | None,
    download_free_bytes: int | None = None,
) -> DiskEstimate:
    """Return what a run writes.

    Args:
        model: Facts of the base model.
        setup: Method and optimizer.
        data: Facts of the data; the rows in use are copied into the run.
        keep: Checkpoints kept; one more is there while the next is written.
        delivery: Whether an adapter is also delivered merged, copied to a folder, and converted to what.
        free_bytes: Free space where the run is written; None when unknown.
        download_free_bytes: Free space where downloads are kept, when that is another disk.
    """
    checkpoints = checkpoint_bytes(model, setup) * (keep + 1)
    whole = model.num_params * _WIDTH.get(model.weights_dtype, 2)
    if setup.facts.trains_base:
        export = model.num_params * max(4, _WIDTH.get(model.weights_dtype, 4))
    else:
        export = 4 * trainable_params(model, setup) + (whole if delivery.merge and setup.facts.mergeable else 0)
    export *= 2 if delivery.output is not None else 1
    # A conversion is written beside the merged model, in its number format, and is there before the other may go.
    export += whole * len(set(delivery.formats))
    here = model.download_bytes if download_free_bytes is None else 0
    return DiskEstimate(
        checkpoints_bytes=checkpoints,
        export_bytes=export,
        download_bytes=model.download_bytes,
        total_bytes=checkpoints + export + data.bytes + _SMALL_FILES_BYTES + here,
        free_bytes=free_bytes,
        download_free_bytes=download_free_bytes,
    )
