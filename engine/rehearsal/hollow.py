"""Tensors with a shape, a device and an address, but no content: a program runs through them without computing.

A hollow tensor is a real CPU tensor whose storage lies in an address range that nothing ever writes, so it costs no
memory whatever its size. `HollowMode` sits below autograd and autocast, where every operation ends: what has a hollow
argument is not carried out, its results are made hollow in the shape that PyTorch's own shape functions give. What has
none is carried out for real as long as it is small, so that masks, labels and positions keep their content and
decisions that depend on them (a mask or none, which tokens count) are the real ones.

Against `torch.device("meta")` and fake tensors: autocast, in-place updates, tensor subclasses, weak references and
`is_cpu` are the real thing, and no library asks whether it is being traced.
"""

import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

MAX_WHOLE_NUMBERS = 1 << 22
"""Elements up to which integers and booleans keep their content: ids, masks and positions of a micro-batch."""
MAX_FRACTIONS = 1 << 14
_MAX_UNASKED = 1 << 12
"""Elements of the arguments up to which nothing is large enough to ask for its size first."""
_NO_RESERVE = 0x4000
_ARENA_BITS = (44, 42, 40, 38)
_ALIGNMENT = 512
_ATEN = torch.ops.aten
# Look at shapes and flags alone, or return their argument under another shape.
_HARMLESS = {_ATEN._fused_sdp_choice.default, _ATEN._unsafe_view.default, _ATEN.set_.source_Storage_storage_offset}


class CannotRehearseError(Exception):
    """Raised for an operation whose result's shape nobody knows without its content.

    Attributes:
        operation: Its name, such as `aten.unique`.
    """

    def __init__(self, operation: str, reason: str) -> None:
        super().__init__(f"{operation}: {reason}")
        self.operation = operation


class Arena:
    """A range of addresses that reads as zeros and costs nothing."""

    def __init__(self) -> None:
        self._memory, self._size = _reserve()
        view = torch.frombuffer(self._memory, dtype=torch.uint8, count=1)
        self.start = view.data_ptr()
        self.end = self.start + self._size
        self._next = 0
        self._keep = 0

    def keep(self) -> None:
        """Never give out again what is in use now; the rest is reused when the range is used up."""
        self._keep = self._next

    def tensor(self, size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Return a tensor without content."""
        count = 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        num_bytes = count * dtype.itemsize
        if self._next + num_bytes > self._size:
            self._next = self._keep
            if self._next + num_bytes > self._size:
                raise CannotRehearseError("allocation", f"{num_bytes} bytes are more than the address range")
        flat = torch.frombuffer(self._memory, dtype=dtype, count=count, offset=self._next)
        self._next += -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
        return flat.as_strided(size, stride)


def _reserve() -> tuple[mmap.mmap, int]:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
    failure: OSError | None = None
    for bits in _ARENA_BITS:
        try:
            return mmap.mmap(-1, 1 << bits, flags=flags), 1 << bits
        except OSError as error:  # a limit on the address space
            failure = error
    raise CannotRehearseError("allocation", f"no address range is free ({failure})")


@dataclass(frozen=True, slots=True)
class _Kind:
    """What an operation does to memory, read from its schema once."""

    view: bool
    writes: tuple[int, ...]
    written_names: tuple[str, ...]
    fresh_returns: bool
    needs_content: bool
    factory: bool


def _kind(func: OpOverload) -> _Kind:
    schema = func._schema
    writes = [
        index
        for index, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    aliased = [item.alias_info for item in schema.returns if item.alias_info is not None]
    tags = func.tags
    return _Kind(
        view=bool(aliased) and not writes,
        writes=tuple(index for index in writes if not schema.arguments[index].kwarg_only),
        written_names=tuple(schema.arguments[index].name for index in writes),
        fresh_returns=any(item.alias_info is None for item in schema.returns),
        needs_content=torch.Tag.dynamic_output_shape in tags or torch.Tag.data_dependent_output in tags,
        factory=any(argument.name == "device" for argument in schema.arguments),
    )


@dataclass(frozen=True, slots=True)
class _Spec:
    """Shape of one result."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def numel(self) -> int:
        count = 1
        for length in self.size:
            count *= length
        return count


Noter = Callable[[torch.Tensor], None]
Special = Callable[["HollowMode", OpOverload, tuple[Any, ...], dict[str, Any]], Any]


class HollowMode(TorchDispatchMode):
    """Carries out operations on hollow tensors by their shapes."""

    def __init__(self, note: Noter, *, special: dict[OpOverload, Special] | None = None) -> None:
        """Start a mode of its own address range.

        Args:
            note: Called with every tensor that an operation returned or made, also with views.
            special: Operations that are carried out otherwise.
        """
        super().__init__()
        self.arena = Arena()
        self._note = note
        self._special: dict[OpOverload, Special] = {**_SPECIAL, **(special or {})}
        self._kinds: dict[OpOverload, _Kind] = {}
        self._results: dict[Any, Any] = {}

    def is_hollow(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor has no content."""
        return self.arena.start <= tensor.data_ptr() < self.arena.end

    def hollow(self, size: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Return a contiguous hollow tensor."""
        meta = torch.empty(tuple(size), dtype=dtype, device="meta")
        return self._made(_Spec(tuple(meta.shape), meta.stride(), dtype))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out one operation."""
        kwargs = kwargs or {}
        special = self._special.get(func)
        if special is not None:
            return special(self, func, args, kwargs)
        kind = self._kinds.get(func)
        if kind is None:
            kind = self._kinds[func] = _kind(func)
        if kind.view or func in _HARMLESS:
            return self._noted(func(*args, **kwargs))
        hollow, numel = self._look(args, kwargs)
        if not hollow and self._small(func, kind, numel, args, kwargs):
            return self._noted(func(*args, **kwargs))
        if kind.writes or kind.written_names:
            return self._written(func, kind, args, kwargs)
        return self.by_shape(func, args, kwargs)

    def real(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        """Carry out an operation for real and take note of its results."""
        return self._noted(func(*args, **kwargs))

    def _look(self, args: Any, kwargs: Any) -> tuple[bool, int]:
        """Return whether an argument is hollow, and the elements of all."""
        numel = 0
        for value in (*args, *kwargs.values()):
            for tensor in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(tensor, torch.Tensor):
                    if self.is_hollow(tensor):
                        return True, 0
                    numel += tensor.numel()
        return False, numel

    def _small(self, func: OpOverload, kind: _Kind, numel: int, args: Any, kwargs: Any) -> bool:
        """Return whether real results of real arguments may be computed."""
        if kind.needs_content or kind.writes or kind.written_names:
            return True
        if numel <= _MAX_UNASKED and not kind.factory:
            return True
        specs = self._specs(func, args, kwargs)
        return all(
            spec.numel <= (MAX_FRACTIONS if spec.dtype.is_floating_point else MAX_WHOLE_NUMBERS)
            for spec in (specs if isinstance(specs, (list, tuple)) else [specs])
            if isinstance(spec, _Spec)
        )

    def _written(self, func: OpOverload, kind: _Kind, args: Any, kwargs: Any) -> Any:
        """Leave the contents as they are and return what the operation returns."""
        if func.__name__.startswith("resize"):
            raise CannotRehearseError(str(func), "it changes the size of a storage")
        targets = [args[index] for index in kind.writes if index < len(args)]
        targets += [kwargs[name] for name in kind.written_names if name in kwargs]
        if kind.fresh_returns:
            return self.by_shape(func, args, kwargs)
        num_returns = len(func._schema.returns)
        if num_returns == 0:
            return None
        return targets[0] if num_returns == 1 else tuple(targets[:num_returns])

    def by_shape(self, func: OpOverload, args: Any, kwargs: Any) -> Any:
        """Return hollow results of the shapes that an operation would give."""
        return self._filled(self._specs(func, args, kwargs))

    def _specs(self, func: OpOverload, args: Any, kwargs: Any) -> Any:
        key = (func, _key(args), tuple((name, _key(value)) for name, value in kwargs.items()))
        known = self._results.get(key)
        if known is None:
            known = self._results[key] = self._ask(func, args, kwargs)
        return known

    def _ask(self, func: OpOverload, args: Any, kwargs: Any) -> Any:
        """Return the shapes of an operation's results, from its shape function."""
        shapes_in = {name: _to_meta(value) for name, value in kwargs.items() if name != "pin_memory"}
        if any(argument.name == "device" for argument in func._schema.arguments):
            shapes_in["device"] = torch.device("meta")
        try:
            result = func(*_to_meta(args), **shapes_in)
        except (NotImplementedError, RuntimeError) as error:
            raise CannotRehearseError(str(func), str(error).split("\n", 1)[0]) from error
        return _spec(result)

    def _filled(self, spec: Any) -> Any:
        if isinstance(spec, _Spec):
            return self._made(spec)
        if isinstance(spec, (list, tuple)):
            return type(spec)(self._filled(item) for item in spec)
        return spec

    def _made(self, spec: _Spec) -> torch.Tensor:
        if spec.numel == 0:
            return torch.empty_strided(spec.size, spec.stride, dtype=spec.dtype)
        tensor = self.arena.tensor(spec.size, spec.stride, spec.dtype)
        self._note(tensor)
        return tensor

    def _noted(self, result: Any) -> Any:
        for item in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(item, torch.Tensor):
                self._note(item)
        return result


def _key(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (value.shape, value.stride(), value.dtype)
    if isinstance(value, (list, tuple)):
        return tuple(_key(item) for item in value)
    # 1, 1.0 and True are equal and hash alike, but give results of different types.
    return (value.__class__, value)


def _to_meta(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    if isinstance(value, (list, tuple)):
        return type(value)([_to_meta(item) for item in value])
    return value


def _spec(result: Any) -> Any:
    if isinstance(result, torch.Tensor):
        return _Spec(tuple(result.shape), result.stride(), result.dtype)
    if isinstance(result, (list, tuple)):
        return type(result)([_spec(item) for item in result])
    return result


def _scalar(mode: HollowMode, func: OpOverload, args: Any, kwargs: Any) -> Any:
    # Reads a zero from the untouched range: no loss, no overflow, nothing finished.
    return func(*args, **kwargs)


def _answer_all(mode: HollowMode, func: OpOverload, args: Any, kwargs: Any) -> Any:
    """Answer questions about contents as for a model whose numbers are in order."""
    if not mode.is_hollow(args[0]):
        return mode.real(func, *args, **kwargs)
    return mode.real(torch.tensor, func is _ATEN.all.default)


def _same(mode: HollowMode, func: OpOverload, args: Any, kwargs: Any) -> bool:
    # Evaluation compares two ways to the same logits; for families that it knows they agree.
    return mode.is_hollow(args[0]) or mode.is_hollow(args[1]) or bool(func(*args, **kwargs))


def _places(mode: HollowMode, func: OpOverload, args: Any, kwargs: Any) -> torch.Tensor:
    """Return where a mask is true; a mask without content is true everywhere."""
    mask = args[0]
    if not mode.is_hollow(mask):
        return mode.real(func, *args, **kwargs)
    return mode.hollow((mask.numel(), mask.dim()), torch.int64)


def _select(mode: HollowMode, func: OpOverload, args: Any, kwargs: Any) -> torch.Tensor:
    tensor, mask = args
    if not mode.is_hollow(tensor) and not mode.is_hollow(mask):
        return mode.real(func, *args, **kwargs)
    shape = torch.broadcast_shapes(tensor.shape, mask.shape)
    count = shape.numel() if mode.is_hollow(mask) else int(mask.expand(shape).sum())
    return mode.hollow((count,), tensor.dtype)


def _index(mode: HollowMode, func: OpOverload, args: Any, kwargs: Any) -> Any:
    """Turn masks among the indices into places, whose number the shape of the result depends on."""
    indices = args[1]
    hollow = mode.is_hollow(args[0]) or any(index is not None and mode.is_hollow(index) for index in indices)
    if not hollow:
        return mode.real(func, *args, **kwargs)
    places: list[torch.Tensor | None] = []
    for index in indices:
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            places.append(index)
        elif mode.is_hollow(index):
            places += [mode.hollow((index.numel(),), torch.int64)] * index.dim()
        else:
            places += list(index.nonzero().unbind(1))
    if func in (_ATEN.index_put_.default, _ATEN._index_put_impl_.default):
        return args[0]
    if func is _ATEN.index_put.default and (args[3:] == (True,) or kwargs.get("accumulate")):
        # The gradient of `x[mask]` is added up in place, and out of place only under a dispatch mode such as this one.
        return args[0]
    return mode.by_shape(func, (args[0], places, *args[2:]), kwargs)


def _both(mode: HollowMode, func: OpOverload, args: Any, kwargs: Any) -> Any:
    """Keep what is known of `a & b` and `a | b` from one side alone: a generation at its last token is finished."""
    settles = 0 if func is _ATEN.bitwise_and.Tensor else 1
    for side, other in (args, args[::-1]):
        # 1 settles an `or` of booleans only, 0 an `and` of anything.
        able = settles == 0 or side.dtype == torch.bool
        known = able and side.numel() <= MAX_FRACTIONS and not mode.is_hollow(side)
        if known and mode.is_hollow(other) and bool((side == settles).all()):
            shape = torch.broadcast_shapes(side.shape, other.shape)
            return mode.real(torch.full, shape, settles, dtype=torch.result_type(side, other))
    if mode.is_hollow(args[0]) or mode.is_hollow(args[1]):
        return mode.by_shape(func, args, kwargs)
    return mode.real(func, *args, **kwargs)


_SPECIAL: dict[OpOverload, Special] = {
    _ATEN.bitwise_and.Tensor: _both,
    _ATEN.bitwise_or.Tensor: _both,
    _ATEN._local_scalar_dense.default: _scalar,
    _ATEN.all.default: _answer_all,
    _ATEN.any.default: _answer_all,
    _ATEN.equal.default: _same,
    _ATEN.allclose.default: _same,
    _ATEN.nonzero.default: _places,
    _ATEN.masked_select.default: _select,
    _ATEN.index.Tensor: _index,
    _ATEN.index_put.default: _index,
    _ATEN.index_put_.default: _index,
    _ATEN._index_put_impl_.default: _index,
}
