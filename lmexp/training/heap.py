"""What malloc holds beyond the tensors: holes that are free and yet too small for what is wanted next.

Torch asks for tensors on a cache line. glibc before 2.38 takes the smallest hole that has room for the tensor and for
moving it to the line, so a tensor does not fit where the same one lay a step before. The events of a step are played
to a heap that does the same; where nothing else was measured, its size was.
Source: glibc 2.36, malloc/malloc.c (_int_malloc, _int_memalign, _int_free).
"""

import bisect
from dataclasses import dataclass, field

HEADER_BYTES = 8
GRAIN_BYTES = 16
CACHE_LINE_BYTES = 64
SLACK_BYTES = CACHE_LINE_BYTES + 2 * GRAIN_BYTES
SMALLEST_HOLE_BYTES = 2 * GRAIN_BYTES
LARGEST_IN_HEAP_BYTES = 32 * 2**20
"""glibc lets no larger block be kept in the heap; `resident.set_up_malloc` asks for that much."""
STEPS = 3
"""So many times a step is played: the heap grows in the first two."""


@dataclass(frozen=True)
class Event:
    """A block of memory is born, or freed where `is_end` is set."""

    block: int
    size: int
    is_end: bool = False


def peak_bytes(events: list[Event]) -> int:
    """Return the most that the heap and what is mapped beside it come to in some steps."""
    freed = {event.block for event in events if event.is_end}
    heap = Heap()
    for step in range(STEPS):
        for event in events:
            if step and event.block not in freed:
                continue  # weights and the optimizer's state are born once
            if event.is_end:
                heap.free(event.block)
            else:
                heap.allocate(event.block, event.size)
    return heap.peak


def born_for_good(events: list[Event]) -> list[Event]:
    """Return the births of the blocks that are not freed: weights and the optimizer's state."""
    freed = {event.block for event in events if event.is_end}
    return [event for event in events if event.block not in freed]


@dataclass
class Heap:
    """Blocks and holes between address 0 and `top`, and blocks that are mapped on their own."""

    top: int = 0
    highest: int = 0
    mapped: int = 0
    peak: int = 0
    _blocks: dict[int, tuple[int, int]] = field(default_factory=dict)
    _mapped: dict[int, int] = field(default_factory=dict)
    _holes: list[tuple[int, int]] = field(default_factory=list)
    """(size, address), the smallest first."""
    _size_at: dict[int, int] = field(default_factory=dict)
    _start_of_end: dict[int, int] = field(default_factory=dict)

    def allocate(self, block: int, size: int) -> None:
        """Place a block: alone where it is large, else in the smallest hole with room, else at the top."""
        need = _rounded(size + HEADER_BYTES)
        ask = need + SLACK_BYTES
        if ask >= LARGEST_IN_HEAP_BYTES:
            self._mapped[block] = size
            self.mapped += size
        else:
            address, room = self._take(ask)
            lead = -(address + GRAIN_BYTES) % CACHE_LINE_BYTES
            if 0 < lead < SMALLEST_HOLE_BYTES:
                lead += CACHE_LINE_BYTES
            if lead:
                self._release(address, lead)
            rest = room - lead - need
            if rest >= SMALLEST_HOLE_BYTES:
                self._release(address + lead + need, rest)
                rest = 0
            self._blocks[block] = address + lead, need + rest
        self.peak = max(self.peak, self.highest + self.mapped)

    def free(self, block: int) -> None:
        """Give a block back."""
        if block in self._mapped:
            self.mapped -= self._mapped.pop(block)
        else:
            self._release(*self._blocks.pop(block))

    def _take(self, size: int) -> tuple[int, int]:
        index = bisect.bisect_left(self._holes, (size, 0))
        if index < len(self._holes):
            room, address = self._holes[index]
            self._forget(address)
            return address, room
        address, self.top = self.top, self.top + size
        self.highest = max(self.highest, self.top)
        return address, size

    def _release(self, address: int, size: int) -> None:
        """Make a hole, and one of it and the holes beside it."""
        if address in self._start_of_end:
            before = self._start_of_end[address]
            address, size = before, size + self._forget(before)
        if address + size in self._size_at:
            size += self._forget(address + size)
        if address + size == self.top:
            self.top = address
            return
        self._size_at[address] = size
        self._start_of_end[address + size] = address
        bisect.insort(self._holes, (size, address))

    def _forget(self, address: int) -> int:
        """Remove a hole and return its size."""
        size = self._size_at.pop(address)
        del self._start_of_end[address + size]
        del self._holes[bisect.bisect_left(self._holes, (size, address))]
        return size


def _rounded(size: int) -> int:
    return -(-size // GRAIN_BYTES) * GRAIN_BYTES
