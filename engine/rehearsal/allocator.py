"""CUDA's caching allocator, played on a trace: from what tensors occupy to what the device must give.

It follows `c10/cuda/CUDACachingAllocator.cpp` and `c10/core/AllocatorConfig.h` of torch 2.11 to 2.13 for one device,
one stream and PyTorch's default settings: sizes are rounded to 512 bytes, blocks of any size may be split, and garbage
collection is off. `expandable_segments` is the one setting that differs, because `engine.worker` turns it on.

What is not modelled: several streams (a block used on another stream is reused later), CUDA graphs, and the memory that
the driver, cuBLAS and kernels take without asking PyTorch.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

from engine.rehearsal.trace import Trace

MIB = 2**20
ROUND_BYTES = 512
SMALL_BYTES = MIB
"""Largest request that the small pool serves."""
SMALL_SEGMENT_BYTES = 2 * MIB
LARGE_SEGMENT_BYTES = 20 * MIB
MIN_LARGE_BYTES = 10 * MIB
"""From here on a request gets a segment of its own size."""
ROUND_LARGE_BYTES = 2 * MIB
UNLIMITED_BYTES = 2**48
SEARCH_SHARE = 1 / 512
"""How finely the smallest card is searched, as a share of its size."""
SEARCH_STRIDES = 8
"""Limits that are tried from above, before the search narrows."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What the allocator did with a trace.

    Attributes:
        peak_allocated_bytes: Peak of blocks in use, as `torch.cuda.max_memory_allocated` counts it.
        peak_reserved_bytes: Peak of memory taken from the device, as `torch.cuda.max_memory_reserved` counts it.
        reserved_bytes: Memory taken from the device at the end.
        num_retries: How often unused memory was given back and a request tried again.
        ran_out_at: Position in the trace's events of the request that failed even then; None when all went well.
    """

    peak_allocated_bytes: int
    peak_reserved_bytes: int
    reserved_bytes: int
    num_retries: int
    ran_out_at: int | None = None


class Block:
    """A range of addresses: in use, free, or (in an expandable segment) without memory behind it."""

    __slots__ = ("address", "allocated", "mapped", "next", "pool", "prev", "segment_bytes", "size")

    def __init__(self, pool: "Pool", address: int, size: int, segment_bytes: int | None = None) -> None:
        """Make a free block.

        Args:
            pool: The pool that it returns to.
            address: First byte.
            size: Bytes.
            segment_bytes: Size of its expandable segment; None in a segment of fixed size.
        """
        self.pool = pool
        self.address = address
        self.size = size
        self.segment_bytes = segment_bytes
        self.allocated = False
        self.mapped = True
        self.prev: Block | None = None
        self.next: Block | None = None

    @property
    def expandable_bytes(self) -> int:
        """Return the size that the block can grow to in place."""
        after = self.next
        return self.size + (after.size if after is not None and not after.mapped else 0)

    def put_before(self, after: "Block") -> None:
        """Link the block between another one and what came before that."""
        self.prev, self.next = after.prev, after
        if self.prev is not None:
            self.prev.next = self
        after.prev = self

    def put_after(self, before: "Block") -> None:
        """Link the block between another one and what came after that."""
        self.prev, self.next = before, before.next
        if self.next is not None:
            self.next.prev = self
        before.next = self


class Pool:
    """The unused blocks for small or for large requests.

    Attributes:
        page_bytes: What an expandable segment maps and unmaps at once.
    """

    def __init__(self, *, small: bool) -> None:
        """Make an empty pool."""
        self.small = small
        self.page_bytes = SMALL_SEGMENT_BYTES if small else LARGE_SEGMENT_BYTES
        self._free: list[tuple[int, int, Block]] = []
        self._unmapped: list[tuple[int, Block]] = []

    def add(self, block: Block) -> None:
        """Keep an unused block."""
        if block.mapped:
            insort(self._free, (block.size, block.address, block))
        else:
            insort(self._unmapped, (block.address, block))

    def remove(self, block: Block) -> None:
        """Forget an unused block; it must not have changed since it was added."""
        if block.mapped:
            del self._free[bisect_left(self._free, (block.size, block.address))]
        else:
            del self._unmapped[bisect_left(self._unmapped, (block.address,))]

    def take_best_fit(self, size: int) -> Block | None:
        """Remove and return the smallest free block of at least `size` bytes, the lowest one of several."""
        free = self._free
        position = bisect_left(free, (size,))
        if position == len(free):
            return None
        if free[position][2].segment_bytes is not None:
            # A block that can still grow counts with the size that it can grow to.
            while (
                position + 1 < len(free) and free[position + 1][2].expandable_bytes < free[position][2].expandable_bytes
            ):
                position += 1
        return free.pop(position)[2]

    def free_blocks(self) -> list[Block]:
        """Return the free blocks by size and address."""
        return [block for _, _, block in self._free]

    def unmapped_blocks(self) -> Iterator[Block]:
        """Yield address ranges without memory, lowest first."""
        return (block for _, block in self._unmapped)


class CachingAllocator:
    """One device's allocator.

    Attributes:
        allocated_bytes: Blocks in use, after rounding.
        reserved_bytes: Memory taken from the device.
        pools: Unused blocks for large and for small requests.
    """

    def __init__(self, limit_bytes: int | None = None, *, expandable_segments: bool = True) -> None:
        """Start with nothing.

        Args:
            limit_bytes: What the device can give, without the CUDA context; None for as much as is asked.
            expandable_segments: As `PYTORCH_ALLOC_CONF` sets it.
        """
        self.limit_bytes = UNLIMITED_BYTES if limit_bytes is None else limit_bytes
        self.expandable_segments = expandable_segments
        self.allocated_bytes = self.peak_allocated_bytes = 0
        self.reserved_bytes = self.peak_reserved_bytes = 0
        self.num_retries = 0
        self.pools = (Pool(small=False), Pool(small=True))
        # The driver's choice of addresses is not known; ascending ones keep the order of the requests.
        self._next_address = LARGE_SEGMENT_BYTES

    def allocate(self, num_bytes: int) -> Block | None:
        """Return a block of at least `num_bytes`, or None when the device cannot give it.

        Raises:
            ValueError: Nothing was asked for.
        """
        if num_bytes <= 0:
            raise ValueError(f"cannot allocate {num_bytes} bytes")
        size = -(-num_bytes // ROUND_BYTES) * ROUND_BYTES
        pool = self.pools[size <= SMALL_BYTES]
        block = pool.take_best_fit(size) or self._grow(pool, size)
        if block is None:
            self.num_retries += 1
            self.empty_cache()
            block = self._grow(pool, size)
            if block is None:
                return None
        return self._hand_out(block, size)

    def release(self, block: Block) -> None:
        """Take a block back and join it with the unused ones beside it."""
        block.allocated = False
        self.allocated_bytes -= block.size
        self._join(block)
        block.pool.add(block)

    def empty_cache(self) -> None:
        """Give all wholly unused segments and pages back to the device."""
        for pool in self.pools:
            for block in pool.free_blocks():
                if block.segment_bytes is not None:
                    self._unmap(block)
                elif block.prev is None and block.next is None:
                    pool.remove(block)
                    self.reserved_bytes -= block.size

    def _hand_out(self, block: Block, size: int) -> Block:
        rest = block.size - size
        splits = rest >= ROUND_BYTES if block.pool.small or self.expandable_segments else rest > SMALL_BYTES
        if splits:
            remaining = block
            block = Block(remaining.pool, remaining.address, size, remaining.segment_bytes)
            block.put_before(remaining)
            remaining.address += size
            remaining.size = rest
            remaining.pool.add(remaining)
        block.allocated = True
        self.allocated_bytes += block.size
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        return block

    def _join(self, block: Block) -> None:
        """Grow an unused block by its unused neighbours of the same kind; the caller adds it to the pool."""
        before, after = block.prev, block.next
        if before is not None and not before.allocated and before.mapped == block.mapped:
            block.pool.remove(before)
            block.address, block.size = before.address, block.size + before.size
            block.prev = before.prev
            if block.prev is not None:
                block.prev.next = block
        if after is not None and not after.allocated and after.mapped == block.mapped:
            block.pool.remove(after)
            block.size += after.size
            block.next = after.next
            if block.next is not None:
                block.next.prev = block

    def _reserve(self, num_bytes: int) -> bool:
        """Take memory from the device; return whether it had it."""
        if self.reserved_bytes + num_bytes > self.limit_bytes:
            return False
        self.reserved_bytes += num_bytes
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
        return True

    def _grow(self, pool: Pool, size: int) -> Block | None:
        """Return a block made of new memory, not in the pool; None when the device has none."""
        if self.expandable_segments:
            return self._grow_segment(pool, size)
        segment_bytes = _segment_bytes(size)
        if not self._reserve(segment_bytes):
            return None
        return Block(pool, self._place(segment_bytes), segment_bytes)

    def _place(self, num_bytes: int) -> int:
        address = self._next_address
        self._next_address += num_bytes
        return address

    # Expandable segments: one long range of addresses for each pool; memory is put behind it page by page.

    def _grow_segment(self, pool: Pool, size: int) -> Block | None:
        block = _find_room(pool, size) or self._open_segment(pool, size)
        if not block.mapped and not self._map(block, min(block.size, size)):
            return None
        while block.size < size:
            after = block.next
            if after is None:
                raise AssertionError("a run of unused blocks ended before it was large enough")
            if not self._map(after, min(size - block.size, after.size)):
                return None
            block = after
        pool.remove(block)
        return block

    def _open_segment(self, pool: Pool, size: int) -> Block:
        """Reserve addresses for more than the device has, so that gaps can be left behind."""
        wanted = max(self.limit_bytes + self.limit_bytes // 8, size)
        num_bytes = -(-wanted // pool.page_bytes) * pool.page_bytes
        self._next_address = -(-self._next_address // pool.page_bytes) * pool.page_bytes
        block = Block(pool, self._place(num_bytes), num_bytes, num_bytes)
        block.mapped = False
        pool.add(block)
        return block

    def _map(self, block: Block, size: int) -> bool:
        """Put whole pages of memory behind the first `size` bytes of an unmapped block; it becomes a free one."""
        pool = block.pool
        mapped_bytes = -(-size // pool.page_bytes) * pool.page_bytes
        if not self._reserve(mapped_bytes):
            return False
        pool.remove(block)
        block.mapped = True
        if mapped_bytes < block.size:
            rest = Block(pool, block.address + mapped_bytes, block.size - mapped_bytes, block.segment_bytes)
            rest.mapped = False
            rest.put_after(block)
            pool.add(rest)
            block.size = mapped_bytes
        self._join(block)
        pool.add(block)
        return True

    def _unmap(self, block: Block) -> None:
        """Give back the whole pages inside a free block of an expandable segment."""
        pool = block.pool
        first = -(-block.address // pool.page_bytes) * pool.page_bytes
        end = (block.address + block.size) // pool.page_bytes * pool.page_bytes
        if first >= end:
            return
        pool.remove(block)
        self.reserved_bytes -= end - first
        if first > block.address:
            before = Block(pool, block.address, first - block.address, block.segment_bytes)
            before.put_before(block)
            pool.add(before)
        if end < block.address + block.size:
            after = Block(pool, end, block.address + block.size - end, block.segment_bytes)
            after.put_after(block)
            pool.add(after)
        block.address, block.size, block.mapped = first, end - first, False
        self._join(block)
        if block.prev is not None or block.next is not None:
            # Otherwise the segment is empty, and its addresses are given back too.
            pool.add(block)


def _segment_bytes(size: int) -> int:
    """Return how much the allocator asks the device for to serve a request."""
    if size <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if size < MIN_LARGE_BYTES:
        return LARGE_SEGMENT_BYTES
    return -(-size // ROUND_LARGE_BYTES) * ROUND_LARGE_BYTES


def _find_room(pool: Pool, size: int) -> Block | None:
    """Return the lowest unused block from which `size` bytes of unused or unmapped addresses follow."""
    for unmapped in pool.unmapped_blocks():
        start = unmapped
        if unmapped.prev is not None and not unmapped.prev.allocated:
            start = unmapped.prev
        room, block = 0, start
        while room < size:
            room += block.size
            if block.next is None or block.next.allocated:
                break
            block = block.next
        if room >= size:
            return start
    return None


def replay(trace: Trace, *, limit_bytes: int | None = None, expandable_segments: bool = True) -> Replay:
    """Play a trace through the allocator, up to the first request that the device cannot serve.

    Args:
        trace: Storages that came and went.
        limit_bytes: What the device can give, without the CUDA context; None for as much as is asked.
        expandable_segments: As the worker sets it; False is PyTorch's default.

    Raises:
        ValueError: The trace releases a storage that is not alive, or allocates one that is.
    """
    allocator = CachingAllocator(limit_bytes, expandable_segments=expandable_segments)
    ran_out_at = _play(trace, allocator)
    return Replay(
        peak_allocated_bytes=allocator.peak_allocated_bytes,
        peak_reserved_bytes=allocator.peak_reserved_bytes,
        reserved_bytes=allocator.reserved_bytes,
        num_retries=allocator.num_retries,
        ran_out_at=ran_out_at,
    )


def _play(trace: Trace, allocator: CachingAllocator) -> int | None:
    blocks: dict[int, Block] = {}
    cleared = frozenset(trace.cleared)
    for position, (storage, num_bytes) in enumerate(trace.events):
        if position in cleared:
            allocator.empty_cache()
        if num_bytes == 0:
            if storage not in blocks:
                raise ValueError(f"event {position} releases storage {storage}, which is not alive")
            allocator.release(blocks.pop(storage))
            continue
        if storage in blocks:
            raise ValueError(f"event {position} allocates storage {storage}, which is alive")
        block = allocator.allocate(num_bytes)
        if block is None:
            return position
        blocks[storage] = block
    return None


def smallest_card(trace: Trace, *, expandable_segments: bool = True) -> int:
    """Return the least memory, without the CUDA context, on which the trace does not run out; 0 for an empty trace.

    Giving unused memory back and trying again is allowed, as on a real device, where it costs time. The allocator is
    not monotone: a trace may hold on a card and run out on a slightly larger one, where other blocks are reused. So
    limits are tried from above, and the result is one that held, as did all larger ones that were tried.
    """
    roomy = replay(trace, expandable_segments=expandable_segments)
    holds, floor = roomy.peak_reserved_bytes, _round_up(roomy.peak_allocated_bytes)
    stride = max(ROUND_LARGE_BYTES, _round_up((holds - floor) // SEARCH_STRIDES))
    while holds > floor:
        limit = max(floor, holds - stride)
        if replay(trace, limit_bytes=limit, expandable_segments=expandable_segments).ran_out_at is not None:
            return _bisect(trace, limit, holds, expandable_segments=expandable_segments)
        holds = limit
    return holds


def _bisect(trace: Trace, fails: int, holds: int, *, expandable_segments: bool) -> int:
    step = max(ROUND_LARGE_BYTES, round(holds * SEARCH_SHARE))
    while holds - fails > step:
        limit = _round_up((fails + holds) // 2)
        if limit >= holds:
            break
        if replay(trace, limit_bytes=limit, expandable_segments=expandable_segments).ran_out_at is None:
            holds = limit
        else:
            fails = limit
    return holds


def _round_up(num_bytes: int) -> int:
    return -(-num_bytes // ROUND_LARGE_BYTES) * ROUND_LARGE_BYTES


def reserved_band(trace: Trace) -> tuple[int, int]:
    """Return the least and the most that the allocator holds at its peak where memory is plenty.

    Expandable segments mostly hold less, segments of fixed size more; which ones are in use depends on the platform and
    on what the person has set.
    """
    peaks = [replay(trace, expandable_segments=setting).peak_reserved_bytes for setting in (True, False)]
    return min(peaks), max(peaks)
