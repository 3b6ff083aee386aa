# SPDX-License-Identifier: GPL-2.0-or-later
"""A driver of labnic's rings in Python, for tests that have no guest kernel.

It does what the Linux driver does (publish, ring, collect, arm) one step at a time, and lets a test do each step wrong.
All names come from the hardware map. Counts run freely and are kept modulo 2**32, as the device keeps them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from labnic.hwmap import HwMap, Structure
from labnic.qtest import Qtest, wait_until
from labnic.registers import COUNT_MASK, Access, RingError


def passed(event: int, old: int, new: int) -> bool:
    """Whether a count that went from ``old`` to ``new`` has passed ``event``, as the map defines it."""
    return (new - event - 1) & COUNT_MASK < (new - old) & COUNT_MASK


def distance(old: int, new: int) -> int:
    """How far a count has gone from ``old`` to ``new``, over the wrap at 2**32 if need be."""
    return (new - old) & COUNT_MASK


def phase_of(index: int, size: int) -> int:
    """The phase bit of the entry with the free-running ``index`` in a ring of ``size``: one in the first lap."""
    return index // size & 1 ^ 1


def with_bits(layout: Structure, raw: bytes, extra: Mapping[str, int]) -> bytes:
    """``raw`` with bits set that the map does not name; ``extra`` has them by the name of the word."""
    changed = bytearray(raw)
    for word, bits in extra.items():
        at = layout.word(word).offset
        value = int.from_bytes(changed[at : at + 4], "little") | bits
        changed[at : at + 4] = value.to_bytes(4, "little")
    return bytes(changed)


@dataclass(frozen=True)
class Piece:
    """One TX descriptor: where its bytes are, how many there are, and its flags.

    ``fields`` are those of an offload, by their names in the map; ``extra`` is or-ed into each word.
    """

    address: int
    length: int
    last: bool = True
    extra: Mapping[str, int] | None = None
    fields: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Coalesced:
    """Of what segments a received frame is: bytes of payload of each but the last, bytes before the TCP header."""

    mss: int
    tcp_start: int
    ipv6: bool


@dataclass(frozen=True)
class Completion:
    """One RX completion as the device wrote it."""

    index: int
    buffer: int
    length: int
    last: bool
    hash: int
    hash_type: int
    verdict: int
    coalesced: Coalesced | None = None


@dataclass(frozen=True)
class Received:
    """One received frame with its completions, in order."""

    data: bytes
    completions: tuple[Completion, ...]

    @property
    def hash(self) -> int:
        """RSS hash; zero when the type is NONE."""
        return self.completions[-1].hash

    @property
    def hash_type(self) -> int:
        """A ``HASH`` value."""
        return self.completions[-1].hash_type

    @property
    def verdict(self) -> int:
        """A ``VERDICT`` value."""
        return self.completions[-1].verdict

    @property
    def coalesced(self) -> Coalesced | None:
        """Of what segments it is; None for a frame as it came."""
        return self.completions[-1].coalesced


def _coalesced(words: Mapping[str, int]) -> Coalesced | None:
    parts = [words[f"COALESCED.{name}"] for name in ("MSS", "TCP_START", "IPV6")]
    return Coalesced(parts[0], parts[1], bool(parts[2])) if any(parts) else None


class StatusBlock:
    """The words that the two sides of a queue pair tell each other in memory."""

    def __init__(self, qtest: Qtest, hw: HwMap, address: int) -> None:
        self._qtest = qtest
        self._struct = hw.struct("STATUS_BLOCK")
        self.address = address

    def word(self, name: str) -> int:
        """Read one word."""
        return self._qtest.readl(self.address + self._struct.word(name).offset)

    def put(self, name: str, value: int) -> None:
        """Write one word."""
        self._qtest.writel(self.address + self._struct.word(name).offset, value & COUNT_MASK)

    def put_fields(self, name: str, **fields: int) -> None:
        """Write one word that has fields; what is not named is zero."""
        word, value = self._struct.word(name), 0
        for field, content in fields.items():
            value = word.field(field).put(content, value)
        self.put(name, value)


class TxQueue:
    """The driver's side of one TX ring. ``arena`` bytes of memory hold the frames in flight."""

    def __init__(self, access: Access, number: int, size: int, status: StatusBlock, arena: int = 1 << 18) -> None:
        self.access = access
        self.number = number
        self.size = size
        self.status = status
        self._desc = access.hw.struct("TX_DESC")
        self.ring = access.memory.take(size * self._desc.size, access.hw.constants.RING_ALIGN)
        self._arena = access.memory.take(arena, 4096, clear=False)
        self._arena_size = arena
        self._reset()

    def _reset(self) -> None:
        self.published = 0
        self._done = 0  # as last seen; the device may be further
        self._rung = 0
        self._next = 0
        self._flight: deque[tuple[int, int]] = deque()  # index after each frame, bytes of the arena
        self._in_flight = 0

    def jump(self, count: int) -> None:
        """Go on at another count, because the device does."""
        self._reset()
        self.published = self._done = self._rung = count

    def configure(self) -> None:
        """Write the queue's registers, and clear the ring; the queue must be disabled."""
        self._reset()
        registers = self.access.registers
        self.access.qtest.fill(self.ring, self.size * self._desc.size)
        registers.write("TX_BASE", self.ring, self.number)
        registers.put("TX_SIZE", self.number, ENTRIES=self.size)

    def enable(self, enabled: bool = True) -> None:
        """Start the queue at index 0, or stop it."""
        self.access.registers.put("TX_CTRL", self.number, ENABLE=int(enabled))

    @property
    def enabled(self) -> bool:
        """What the register says."""
        return bool(self.access.registers.field("TX_CTRL", "ENABLE", self.number))

    @property
    def error(self) -> int:
        """Why the queue stopped, an ``ERR`` value."""
        return self.access.registers.field("TX_STATUS", "ERROR", self.number)

    @property
    def head(self) -> int:
        """Descriptors consumed, from the register."""
        return self.access.registers.read("TX_HEAD", self.number)

    @property
    def consumed(self) -> int:
        """Descriptors consumed, from the status block."""
        return self.status.word("TX_CONSUMED")

    def stage(self, data: bytes, cuts: Sequence[int] = (), offload: Mapping[str, int] | None = None) -> list[Piece]:
        """Put a frame into memory, one piece for each part between ``cuts`` (offsets into ``data``, rising).

        The first piece has the fields of ``offload``.
        """
        ends = [*cuts, len(data)]
        starts = [0, *cuts]
        address = self._place(len(data))
        self.access.qtest.write(address, data)
        return [
            Piece(address + start, end - start, last=end == len(data), fields=None if start else offload)
            for start, end in zip(starts, ends, strict=True)
        ]

    def _place(self, length: int) -> int:
        """Room in the arena that no frame in flight uses."""
        at_end = self._arena_size - self._next
        skip = at_end if length > at_end else 0
        if self._in_flight + skip + length > self._arena_size:
            self._retire()
            if self._in_flight + skip + length > self._arena_size:
                raise RingError(f"TX queue {self.number}: no room for {length} bytes beside those in flight")
        address = self._arena + (self._next + skip) % self._arena_size
        self._next = (self._next + skip + length) % self._arena_size
        # The frame is over when the device has consumed its last descriptor, which post() numbers.
        self._flight.append((-1, skip + length))
        self._in_flight += skip + length
        return address

    def _retire(self) -> None:
        self._done = self.consumed
        while self._flight and self._flight[0][0] >= 0 and distance(self._flight[0][0], self._done) <= self.size:
            self._in_flight -= self._flight.popleft()[1]

    def push(self, data: bytes, cuts: Sequence[int] = (), offload: Mapping[str, int] | None = None) -> None:
        """Publish one frame without ringing; ``cuts`` are where it is split over descriptors."""
        self.post(self.stage(data, cuts, offload))

    def post(self, pieces: Sequence[Piece]) -> None:
        """Publish descriptors: the flags of the first are written last, so that all of them are there at once."""
        if distance(self._done, self.published) + len(pieces) > self.size:
            self._retire()
            if distance(self._done, self.published) + len(pieces) > self.size:
                raise RingError(f"TX queue {self.number}: no room for {len(pieces)} descriptors")
        with self.access.qtest.batch():
            for offset, piece in reversed(list(enumerate(pieces))):
                self._describe(self.published + offset, piece)
        self.published += len(pieces)
        for number in reversed(range(len(self._flight))):
            end, size = self._flight[number]
            if end >= 0:
                break
            self._flight[number] = (self.published, size)

    def _describe(self, index: int, piece: Piece) -> None:
        values = {
            "ADDR_LO": piece.address & COUNT_MASK,
            "ADDR_HI": piece.address >> 32,
            "LEN.BYTES": piece.length,
            "FLAGS.PHASE": phase_of(index, self.size),
            "FLAGS.EOP": int(piece.last),
            **(piece.fields or {}),
        }
        raw = self._desc.pack(values)
        raw = with_bits(self._desc, raw, piece.extra or {})
        address = self.ring + index % self.size * self._desc.size
        flags = self._desc.word("FLAGS").offset
        self.access.qtest.write(address, raw[:flags])
        self.access.qtest.writel(address + flags, int.from_bytes(raw[flags:], "little"))

    def ring_doorbell(self, value: int | None = None) -> None:
        """Write the doorbell, with another count than the true one if ``value`` is given."""
        self._rung = self.published
        count = self.published if value is None else value
        self.access.registers.write("TX_DOORBELL", count & COUNT_MASK, self.number)

    def kick(self) -> bool:
        """Ring the doorbell if the device's event asks for it; returns whether it did."""
        wanted = passed(self.status.word("TX_DOORBELL_EVENT"), self._rung, self.published)
        if wanted:
            self.ring_doorbell()
        else:
            self._rung = self.published
        return wanted

    def send(self, data: bytes, cuts: Sequence[int] = (), offload: Mapping[str, int] | None = None) -> None:
        """Publish one frame and ring if the device asks for it."""
        self.push(data, cuts, offload)
        self.kick()

    def wait_consumed(self, *, limit: float = 5.0) -> None:
        """Wait until the device has consumed everything that was published."""
        wait_until(
            lambda: self.consumed == self.published & COUNT_MASK,
            f"TX queue {self.number} to consume {self.published} descriptors",
            limit=limit,
        )

    def arm(self, event: int | None = None) -> None:
        """Ask for an interrupt when the count passes ``event``, by default at the next descriptor consumed."""
        self.status.put("TX_IRQ_EVENT", self.consumed if event is None else event)

    def hold(self, usecs: int, count: int = 0) -> None:
        """Have the interrupt wait for so many microseconds from the last one, or until the count is so far beyond."""
        self.status.put_fields("TX_IRQ_HOLD", USECS=usecs, COUNT=count)


class RxQueue:
    """The driver's side of one RX buffer ring and its completion ring.

    Buffers are as long as the test asks, up to ``stride`` bytes; buffer n is n strides into the arena.
    """

    def __init__(self, access: Access, number: int, size: int, status: StatusBlock, stride: int = 2048) -> None:
        self.access = access
        self.number = number
        self.size = size
        self.status = status
        self.stride = stride
        self._buf = access.hw.struct("RX_BUF")
        self._cmpl = access.hw.struct("RX_CMPL")
        align = access.hw.constants.RING_ALIGN
        self.buffers = access.memory.take(size * self._buf.size, align)
        self.completions = access.memory.take(size * self._cmpl.size, align)
        self.arena = access.memory.take(size * stride, 4096, clear=False)
        self._reset()

    def _reset(self) -> None:
        self.published = 0
        self.collected = 0
        self._rung = 0
        self._begun: list[Completion] = []
        self._addresses: dict[int, int] = {}
        self._lengths: dict[int, int] = {}

    def jump(self, count: int) -> None:
        """Go on at another count, because the device does; no buffer is published then."""
        self._reset()
        self.published = self.collected = self._rung = count

    def configure(self) -> None:
        """Write the queue's registers, and clear both rings; the queue must be disabled."""
        self._reset()
        registers = self.access.registers
        self.access.qtest.fill(self.buffers, self.size * self._buf.size)
        self.access.qtest.fill(self.completions, self.size * self._cmpl.size)
        registers.write("RX_BUF_BASE", self.buffers, self.number)
        registers.write("RX_CMPL_BASE", self.completions, self.number)
        registers.put("RX_SIZE", self.number, ENTRIES=self.size)

    def enable(self, enabled: bool = True) -> None:
        """Start both rings at index 0, or stop them."""
        self.access.registers.put("RX_CTRL", self.number, ENABLE=int(enabled))

    @property
    def enabled(self) -> bool:
        """What the register says."""
        return bool(self.access.registers.field("RX_CTRL", "ENABLE", self.number))

    @property
    def error(self) -> int:
        """Why the queue stopped, an ``ERR`` value."""
        return self.access.registers.field("RX_STATUS", "ERROR", self.number)

    @property
    def head(self) -> int:
        """Buffers consumed, from the register."""
        return self.access.registers.read("RX_HEAD", self.number)

    def post(
        self,
        lengths: Iterable[int],
        *,
        address: int | None = None,
        extra: Mapping[str, int] | None = None,
    ) -> None:
        """Publish buffers of these lengths without ringing.

        ``address`` puts them elsewhere than into the arena, ``extra`` is or-ed into the words of each.
        """
        with self.access.qtest.batch():
            for length in lengths:
                if self.published - self.collected >= self.size:
                    raise RingError(f"RX queue {self.number}: all {self.size} buffers are the device's")
                self._publish(length, address, extra or {})

    def _publish(self, length: int, address: int | None, extra: Mapping[str, int]) -> None:
        index = self.published
        identifier = index % self.size
        place = self.arena + identifier * self.stride if address is None else address
        if address is None and length > self.stride:
            raise RingError(f"a buffer of {length} bytes does not fit into the stride of {self.stride}")
        self._addresses[identifier], self._lengths[identifier] = place, length
        raw = self._buf.pack(
            {
                "ADDR_LO": place & COUNT_MASK,
                "ADDR_HI": place >> 32,
                "LEN_ID.BYTES": length,
                "LEN_ID.ID": identifier,
                "FLAGS.PHASE": phase_of(index, self.size),
            }
        )
        flags = self._buf.word("FLAGS").offset
        at = self.buffers + index % self.size * self._buf.size
        raw = with_bits(self._buf, raw, extra)
        self.access.qtest.write(at, raw[:flags])
        self.access.qtest.writel(at + flags, int.from_bytes(raw[flags:], "little"))
        self.published += 1

    def fill(self, count: int | None = None, length: int | None = None) -> None:
        """Publish ``count`` buffers (all that there is room for) of ``length`` bytes (a stride each)."""
        room = self.size - (self.published - self.collected)
        self.post([self.stride if length is None else length] * (room if count is None else count))

    def ring_doorbell(self, value: int | None = None) -> None:
        """Write the doorbell, with another count than the true one if ``value`` is given."""
        self._rung = self.published
        count = self.published if value is None else value
        self.access.registers.write("RX_DOORBELL", count & COUNT_MASK, self.number)

    def kick(self) -> bool:
        """Ring the doorbell if the device's event asks for it; returns whether it did."""
        wanted = passed(self.status.word("RX_DOORBELL_EVENT"), self._rung, self.published)
        if wanted:
            self.ring_doorbell()
        else:
            self._rung = self.published
        return wanted

    def collect(self) -> list[Completion]:
        """The completions that the device has written since the last call; each gives its buffer's slot back."""
        found: list[Completion] = []
        while chunk := self._collect_chunk():
            found += chunk
        return found

    def _collect_chunk(self) -> list[Completion]:
        slot = self.collected % self.size
        count = min(16, self.size - slot)
        raw = self.access.qtest.read(self.completions + slot * self._cmpl.size, count * self._cmpl.size)
        found = []
        for number in range(count):
            words = self._cmpl.unpack(raw[number * self._cmpl.size : (number + 1) * self._cmpl.size])
            if words["FLAGS.PHASE"] != phase_of(self.collected, self.size):
                break
            found.append(
                Completion(
                    self.collected,
                    words["LEN_ID.ID"],
                    words["LEN_ID.BYTES"],
                    bool(words["FLAGS.EOP"]),
                    words["HASH"],
                    words["FLAGS.HASH_TYPE"],
                    words["FLAGS.VERDICT"],
                    _coalesced(words),
                )
            )
            self.collected += 1
        return found

    def frames(self) -> list[Received]:
        """The whole frames received since the last call; a frame's first part is kept until the rest comes."""
        result = []
        for completion in self.collect():
            self._begun.append(completion)
            if completion.last:
                data = b"".join(self.content(part) for part in self._begun)
                result.append(Received(data, tuple(self._begun)))
                self._begun = []
        return result

    def content(self, completion: Completion) -> bytes:
        """The bytes that a completion says its buffer has; raises :class:`RingError` for one that cannot be true."""
        identifier = completion.buffer
        if identifier not in self._addresses or completion.length > self._lengths[identifier]:
            raise RingError(f"RX queue {self.number}: impossible {completion}")
        return self.access.qtest.read(self._addresses[identifier], completion.length) if completion.length else b""

    def address_of(self, identifier: int) -> int:
        """Where the buffer with this identifier is."""
        return self._addresses[identifier]

    def receive(self, count: int = 1, *, limit: float = 5.0) -> list[Received]:
        """Wait for ``count`` frames, and give them with whatever else came with them."""
        got: list[Received] = []

        def enough() -> bool:
            got.extend(self.frames())
            return len(got) >= count

        wait_until(enough, f"{count} frames on RX queue {self.number}", limit=limit)
        return got

    def arm(self, event: int | None = None) -> None:
        """Ask for an interrupt when the count of completions passes ``event``, by default at the next one."""
        self.status.put("RX_IRQ_EVENT", self.collected if event is None else event)

    def hold(self, usecs: int, count: int = 0) -> None:
        """Have the interrupt wait for so many microseconds from the last one, or until the count is so far beyond."""
        self.status.put_fields("RX_IRQ_HOLD", USECS=usecs, COUNT=count)


class QueuePair:
    """TX and RX queue of one number, with the status block that they share."""

    def __init__(self, access: Access, number: int, *, tx_size: int, rx_size: int, stride: int) -> None:
        self.access = access
        self.number = number
        block = access.hw.struct("STATUS_BLOCK")
        self.status = StatusBlock(
            access.qtest, access.hw, access.memory.take(block.size, access.hw.constants.STATUS_BLOCK_ALIGN)
        )
        self.tx = TxQueue(access, number, tx_size, self.status)
        self.rx = RxQueue(access, number, rx_size, self.status, stride)

    def start(self) -> QueuePair:
        """Configure and enable both queues; buffers are not posted yet."""
        self.access.registers.write("STATUS_BASE", self.status.address, self.number)
        for queue in (self.tx, self.rx):
            queue.configure()
            queue.enable()
        return self

    def stop(self) -> None:
        """Disable both queues."""
        self.tx.enable(False)
        self.rx.enable(False)
