"""The replay of CUDA's caching allocator: cases worked out by hand from its rules, and what must hold for any trace."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.rehearsal.allocator import Block, CachingAllocator, replay, reserved_band, smallest_card
from engine.rehearsal.trace import Trace

KIB, MIB = 2**10, 2**20
BOTH = pytest.mark.parametrize("expandable", [True, False])


def made_trace(*events, cleared=()):
    return Trace(events=list(events), cleared=list(cleared))


# Segments of fixed size.


@pytest.mark.parametrize(
    ("request_bytes", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        # From 10 MiB on the segment is the request rounded to 2 MiB; up to 1 MiB left over is not split off.
        (10 * MIB, 10 * MIB, 10 * MIB),
        (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),
        (11 * MIB, 12 * MIB, 12 * MIB),
        (11 * MIB - 512, 11 * MIB - 512, 12 * MIB),
    ],
)
def test_a_single_request_is_rounded_and_gets_a_segment_by_its_size(request_bytes, allocated, reserved):
    result = replay(made_trace((0, request_bytes)), expandable_segments=False)
    assert (result.peak_allocated_bytes, result.peak_reserved_bytes) == (allocated, reserved)


def test_small_requests_share_a_segment_of_two_mebibytes():
    trace = made_trace(*((storage, 512 * KIB) for storage in range(5)))
    result = replay(trace, expandable_segments=False)
    assert (result.peak_allocated_bytes, result.peak_reserved_bytes) == (5 * 512 * KIB, 4 * MIB)


def test_requests_below_ten_mebibytes_share_a_segment_of_twenty():
    # 6 + 6 + 6 MiB fill 18 of 20; the fourth finds 2 MiB only and opens the next segment.
    trace = made_trace(*((storage, 6 * MIB) for storage in range(4)))
    assert replay(trace, expandable_segments=False).peak_reserved_bytes == 40 * MIB


def test_the_smallest_block_that_fits_is_reused():
    # Free blocks of 30 and 20 MiB: 18 MiB takes the one of 20 and leaves the one of 30 for the request of 30.
    trace = made_trace((0, 30 * MIB), (1, 20 * MIB), (0, 0), (1, 0), (2, 18 * MIB), (3, 30 * MIB))
    assert replay(trace, expandable_segments=False).peak_reserved_bytes == 50 * MIB


def test_a_larger_block_is_split_and_its_rest_serves_the_next_request():
    trace = made_trace((0, 64 * MIB), (0, 0), (1, 24 * MIB), (2, 40 * MIB))
    result = replay(trace, expandable_segments=False)
    assert (result.peak_allocated_bytes, result.peak_reserved_bytes) == (64 * MIB, 64 * MIB)


def test_neighbours_join_again_when_both_are_free():
    split = [(0, 64 * MIB), (0, 0), (1, 32 * MIB), (2, 32 * MIB)]
    joined = made_trace(*split, (1, 0), (2, 0), (3, 64 * MIB))
    apart = made_trace(*split, (1, 0), (3, 64 * MIB))
    assert replay(joined, expandable_segments=False).peak_reserved_bytes == 64 * MIB
    assert replay(apart, expandable_segments=False).peak_reserved_bytes == 128 * MIB


def test_a_lack_of_memory_gives_whole_unused_segments_back_and_tries_again():
    trace = made_trace((0, 40 * MIB), (1, 40 * MIB), (0, 0), (1, 0), (2, 60 * MIB))
    result = replay(trace, limit_bytes=80 * MIB, expandable_segments=False)
    assert (result.ran_out_at, result.num_retries, result.reserved_bytes) == (None, 1, 60 * MIB)


def test_a_segment_that_is_partly_in_use_cannot_be_given_back():
    # 40 MiB are split in two; the half in use holds the whole segment, so 50 MiB more do not fit in 80.
    trace = made_trace((0, 40 * MIB), (0, 0), (1, 20 * MIB), (2, 50 * MIB))
    assert replay(trace, limit_bytes=80 * MIB, expandable_segments=False).ran_out_at == 3
    assert replay(trace, limit_bytes=90 * MIB, expandable_segments=False).ran_out_at is None


def test_clearing_the_cache_gives_unused_segments_back_before_that_event():
    events = [(0, 100 * MIB), (0, 0), (1, 120 * MIB)]
    assert replay(made_trace(*events), expandable_segments=False).reserved_bytes == 220 * MIB
    assert replay(made_trace(*events, cleared=[2]), expandable_segments=False).reserved_bytes == 120 * MIB


# Expandable segments.


@pytest.mark.parametrize(
    ("request_bytes", "reserved"),
    [(1, 2 * MIB), (MIB, 2 * MIB), (MIB + 1, 20 * MIB), (20 * MIB, 20 * MIB), (20 * MIB + 1, 40 * MIB)],
)
def test_an_expandable_segment_maps_whole_pages(request_bytes, reserved):
    assert replay(made_trace((0, request_bytes))).peak_reserved_bytes == reserved


def test_an_expandable_segment_grows_by_what_is_missing():
    # 30 MiB map two pages, of which 10 MiB stay free at the end; 50 MiB more need two further pages, not three.
    trace = made_trace((0, 30 * MIB), (1, 50 * MIB))
    result = replay(trace)
    assert (result.peak_allocated_bytes, result.peak_reserved_bytes) == (80 * MIB, 80 * MIB)


def test_growing_lengths_do_not_leave_slivers_in_an_expandable_segment():
    events = []
    for step in range(10):
        for layer in range(4):
            events.append((10 * step + layer, (40 + 4 * step) * MIB))
        events += [(10 * step + layer, 0) for layer in range(4)]
    expandable, fixed = replay(made_trace(*events)), replay(made_trace(*events), expandable_segments=False)
    assert expandable.peak_reserved_bytes <= 4 * 76 * MIB + 20 * MIB
    assert fixed.peak_reserved_bytes > 1.5 * expandable.peak_reserved_bytes


def test_only_pages_that_are_wholly_free_are_unmapped():
    # Layout in pages of 20 MiB: 0 in use up to 30 MiB, 1 free from 30 to 90 MiB, 2 in use from 90 to 120 MiB.
    allocator = CachingAllocator(expandable_segments=True)
    blocks = [allocator.allocate(size * MIB) for size in (30, 60, 30)]
    allocator.release(blocks[1])
    allocator.empty_cache()
    # The free range holds the pages from 40 to 80 MiB.
    assert allocator.reserved_bytes == 80 * MIB


def test_a_hole_that_was_unmapped_is_filled_first():
    allocator = CachingAllocator(expandable_segments=True)
    blocks = [allocator.allocate(40 * MIB) for _ in range(3)]
    allocator.release(blocks[1])
    allocator.empty_cache()
    assert allocator.reserved_bytes == 80 * MIB
    again = allocator.allocate(40 * MIB)
    assert again.address == blocks[0].address + 40 * MIB
    assert allocator.reserved_bytes == 120 * MIB


def test_an_emptied_expandable_segment_is_given_up():
    allocator = CachingAllocator(expandable_segments=True)
    allocator.release(allocator.allocate(64 * MIB))
    allocator.empty_cache()
    assert allocator.reserved_bytes == 0
    assert [list(pool.unmapped_blocks()) for pool in allocator.pools] == [[], []]
    assert allocator.allocate(64 * MIB) is not None


# Any trace.

SIZES = st.one_of(st.integers(1, 4 * KIB), st.integers(1, 3 * MIB), st.integers(1, 90 * MIB))
ACTIONS = st.lists(st.one_of(SIZES, st.integers(-30, 0)), max_size=60)


def as_trace(actions):
    """Return a trace: a positive number allocates, 0 clears the cache, a negative one releases one of the living."""
    trace, alive = Trace(), []
    for storage, action in enumerate(actions):
        if action > 0:
            alive.append(storage)
            trace.events.append((storage, action))
        elif action == 0:
            trace.cleared.append(len(trace.events))
        elif alive:
            trace.events.append((alive.pop(-action % len(alive)), 0))
    return trace


def check_books(allocator: CachingAllocator, in_use: list[Block], asked: dict[int, int]) -> None:
    """Fail unless addresses, sums and links agree."""
    free = [block for pool in allocator.pools for block in pool.free_blocks()]
    unmapped = [block for pool in allocator.pools for block in pool.unmapped_blocks()]
    everything = sorted([*in_use, *free, *unmapped], key=lambda block: block.address)
    assert all(before.address + before.size <= after.address for before, after in pairwise(everything))
    assert sum(block.size for block in in_use) == allocator.allocated_bytes
    assert sum(block.size for block in [*in_use, *free]) == allocator.reserved_bytes
    assert allocator.allocated_bytes <= allocator.reserved_bytes <= allocator.limit_bytes
    assert allocator.peak_allocated_bytes <= allocator.peak_reserved_bytes <= allocator.limit_bytes
    for block in everything:
        assert block.allocated == (block in in_use)
        assert block.size > 0
        if block.next is not None:
            assert block.next.prev is block
            assert block.address + block.size == block.next.address
            # Unused neighbours of one kind are always one block.
            assert block.allocated or block.next.allocated or block.mapped != block.next.mapped
    for block in in_use:
        assert 0 <= block.size - asked[id(block)] < MIB + 512


@BOTH
@settings(max_examples=60, deadline=None)
@given(actions=ACTIONS, limit_mib=st.one_of(st.none(), st.integers(2, 1500)))
def test_books_balance_after_every_event(expandable, actions, limit_mib):
    allocator = CachingAllocator(limit_mib and limit_mib * MIB, expandable_segments=expandable)
    alive: list[Block] = []
    asked: dict[int, int] = {}
    for action in actions:
        if action > 0:
            block = allocator.allocate(action)
            if block is not None:
                alive.append(block)
                asked[id(block)] = action
        elif action == 0:
            allocator.empty_cache()
        elif alive:
            allocator.release(alive.pop(-action % len(alive)))
        check_books(allocator, alive, asked)
    while alive:
        allocator.release(alive.pop())
    allocator.empty_cache()
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (0, 0)


@BOTH
@settings(max_examples=60, deadline=None)
@given(actions=ACTIONS)
def test_enough_memory_changes_nothing_and_too_little_runs_out(expandable, actions):
    trace = as_trace(actions)
    roomy = replay(trace, expandable_segments=expandable)
    just_enough = replay(trace, limit_bytes=roomy.peak_reserved_bytes, expandable_segments=expandable)
    assert just_enough == roomy
    assert roomy.num_retries == 0
    largest = max((size for _, size in trace.events), default=0)
    if largest:
        assert replay(trace, limit_bytes=largest - 1, expandable_segments=expandable).ran_out_at is not None


@BOTH
@settings(max_examples=40, deadline=None)
@given(actions=ACTIONS)
def test_the_smallest_card_holds_and_lies_between_allocated_and_reserved(expandable, actions):
    trace = as_trace(actions)
    roomy = replay(trace, expandable_segments=expandable)
    card = smallest_card(trace, expandable_segments=expandable)
    assert roomy.peak_reserved_bytes >= card
    # The last block of a trace may keep up to 1 MiB that was not asked for; a tighter card splits it otherwise.
    assert card >= peak_asked(trace)
    assert replay(trace, limit_bytes=card, expandable_segments=expandable).ran_out_at is None


def peak_asked(trace: Trace) -> int:
    alive: dict[int, int] = {}
    peak = 0
    for storage, size in trace.events:
        if size:
            alive[storage] = size
        else:
            del alive[storage]
        peak = max(peak, sum(alive.values()))
    return peak


def test_the_smallest_card_is_found_where_giving_back_saves_memory():
    trace = made_trace((0, 400 * MIB), (0, 0), (1, 600 * MIB), (1, 0), (2, 800 * MIB))
    assert replay(trace, expandable_segments=False).peak_reserved_bytes == 1800 * MIB
    assert smallest_card(trace, expandable_segments=False) == 800 * MIB
    assert smallest_card(trace) == 800 * MIB


def test_the_band_reaches_from_expandable_to_fixed_segments():
    trace = made_trace((0, 400 * MIB), (0, 0), (1, 600 * MIB), (1, 0), (2, 800 * MIB))
    assert reserved_band(trace) == (800 * MIB, 1800 * MIB)


def test_an_empty_trace_needs_nothing():
    assert smallest_card(Trace()) == 0
    assert reserved_band(Trace()) == (0, 0)


@pytest.mark.parametrize("events", [[(0, 0)], [(0, 1), (0, 0), (0, 0)], [(0, 1), (0, 1)], [(0, -1)]])
def test_a_trace_that_contradicts_itself_is_refused(events):
    with pytest.raises(ValueError, match=r"event \d+|cannot allocate"):
        replay(made_trace(*events))


@BOTH
def test_a_long_trace_is_played_whole(expandable):
    """Two hundred thousand events of a shape that real steps have: layers forward, then backward in reverse."""
    events, storage = [], 0
    for _ in range(500):
        forward = []
        for layer in range(100):
            events += [(storage, (3 + layer % 7) * MIB), (storage + 1, 40 * KIB)]
            forward += [storage, storage + 1]
            storage += 2
        events += [(alive, 0) for alive in reversed(forward)]
    result = replay(Trace(events=events), expandable_segments=expandable)
    assert len(events) == 200_000
    assert result.ran_out_at is None
    # Every step asks for the same, so that later steps need nothing new.
    assert (
        result.peak_reserved_bytes == replay(Trace(events=events[:400]), expandable_segments=expandable).reserved_bytes
    )
