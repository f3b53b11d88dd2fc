"""Crash states of a disk, from the log that QEMU's blklogwrites driver wrote.

The log is that of the kernel's dm-log-writes target (Documentation/admin-guide/device-mapper/log-writes.rst):
a superblock sector, then one header sector for each write, flush or discard, followed by the data.

A disk with a volatile write cache promises this much: what was written before a completed flush is there; of what
was written since, any subset may be there, in any order. So a power cut just before flush number K leaves the disk
in the state "everything up to flush K-1, and some of the writes after it". crash_states() walks through
all K and yields, for each, the subsets that file systems and programs get wrong most often, and seeded random ones.
"""

import os
import random
import struct
from dataclasses import dataclass

MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


@dataclass(frozen=True)
class Entry:
    """One logged operation; offset and length in bytes, data_at is its place in the log file."""
    index: int
    offset: int
    length: int
    flags: int
    data_at: int


class LogFormatError(Exception):
    pass


def read_log(path):
    """All entries of the log at path, in the order in which the guest issued them."""
    entries = []
    with open(path, "rb") as f:
        magic, version, count, sector = struct.unpack("<QQQI", f.read(28))
        if magic != MAGIC or version != 1:
            raise LogFormatError(f"{path}: not a write log (magic {magic:#x}, version {version})")
        end = os.fstat(f.fileno()).st_size
        at = sector
        for index in range(count):
            f.seek(at)
            head = f.read(32)
            if len(head) < 32:
                raise LogFormatError(f"{path}: entry {index} of {count} lies beyond the end of the file")
            where, number, flags, _ = struct.unpack("<QQQQ", head)
            entry = Entry(index, where * sector, number * sector, flags, at + sector)
            at += sector
            if not flags & DISCARD:
                at += entry.length
            if at > end + sector:
                raise LogFormatError(f"{path}: entry {index} is cut off")
            entries.append(entry)
    return entries


class Disk:
    """A raw image that log entries are applied to."""

    def __init__(self, path, log_path):
        self.fd = os.open(path, os.O_RDWR)
        self.log = os.open(log_path, os.O_RDONLY)
        self.size = os.fstat(self.fd).st_size

    def apply(self, entry):
        if entry.flags & DISCARD or not entry.length:
            return                      # a discard may or may not zero: leaving the bytes is a legal outcome
        at, left, source = entry.offset, min(entry.length, max(0, self.size - entry.offset)), entry.data_at
        while left > 0:
            data = os.pread(self.log, min(left, 1 << 20), source)
            os.pwrite(self.fd, data, at)
            at, source, left = at + len(data), source + len(data), left - len(data)

    def close(self):
        os.close(self.fd)
        os.close(self.log)


def epochs(entries):
    """Splits the log at flushes: lists of the writes that lie between one completed flush and the next."""
    current, result = [], []
    for e in entries:
        if e.flags & FLUSH:
            result.append(current)
            current = []
        if e.length:
            current.append(e)
    result.append(current)
    return result


def subsets(writes, how_many, rng):
    """Up to how_many different sets of the writes that reached the disk, as tuples of indices into writes.

    FUA writes are durable when they complete, and whoever waited for one went on only then: a subset that lacks an
    FUA write holds nothing that was issued after it."""
    n = len(writes)
    fua = [i for i, e in enumerate(writes) if e.flags & FUA]

    def legal(keep):
        for i in fua:
            if i not in keep:
                return frozenset(k for k in keep if k < i)
        return frozenset(keep)

    wanted = [frozenset(), frozenset(range(n))]
    if n > 1:
        wanted += [frozenset([n - 1]), frozenset(range(n)) - {0}, frozenset(range(n - 1)), frozenset(range(1, n, 2))]
    seen, result = set(), []
    for keep in wanted:
        keep = legal(keep)
        if keep not in seen:
            seen.add(keep)
            result.append(keep)
    for _ in range(how_many * 3):
        if len(result) >= how_many:
            break
        p = rng.choice([0.1, 0.5, 0.9])
        keep = legal({i for i in range(n) if rng.random() < p})
        if keep not in seen:
            seen.add(keep)
            result.append(keep)
    return [tuple(sorted(k)) for k in result[:how_many]]


@dataclass(frozen=True)
class CrashState:
    epoch: int
    kept: int               # writes of the open epoch that reached the disk
    pending: int            # writes of the open epoch
    mark: int               # the last acknowledgement that lies before this state (see marks_of)


def crash_states(entries, base, log_path, work, mark_offset, per_epoch, seed, first_epoch=0, only=None):
    """Yields CrashState after making the raw image `work` that state. `base` (raw image) is advanced in place.
    `only`: a set of epochs, if not all from first_epoch on are wanted.

    A write at or beyond mark_offset is an acknowledgement by the guest: its first 8 bytes are a number (little
    endian). Acknowledgements count from the moment they were issued: what they acknowledge must be durable by then."""
    rng = random.Random(seed)
    durable = Disk(base, log_path)
    mark = 0
    try:
        for number, writes in enumerate(epochs(entries)):
            data = [e for e in writes if e.offset < mark_offset]
            marks = [e for e in writes if e.offset >= mark_offset]
            # The cut comes at the end of the epoch, so whatever was acknowledged in it binds all of its states:
            # an acknowledged step that a lost write can take away was acknowledged too early.
            bound = max([mark] + [mark_number(m, log_path) for m in marks])
            if number >= first_epoch and data and (only is None or number in only):
                for keep in subsets(data, per_epoch, rng):
                    copy_sparse(base, work)
                    state = Disk(work, log_path)
                    for i in keep:
                        state.apply(data[i])
                    state.close()
                    yield CrashState(number, len(keep), len(data), bound)
            for e in writes:
                if e.offset >= mark_offset:
                    mark = max(mark, mark_number(e, log_path))
                else:
                    durable.apply(e)
    finally:
        durable.close()


def marks_of(runs, numbers, mark_offset, log_path):
    """Of each of these runs of epochs(): the highest acknowledgement that lies in it or before it, as in CrashState."""
    wanted, mark, result = set(numbers), 0, []
    for number, writes in enumerate(runs):
        mark = max([mark] + [mark_number(e, log_path) for e in writes if e.offset >= mark_offset])
        if number in wanted:
            result.append(mark)
    return result


def mark_number(entry, log_path):
    with open(log_path, "rb") as f:
        f.seek(entry.data_at)
        return struct.unpack("<Q", f.read(8))[0]


def copy_sparse(source, target, offset=None):
    """Copies only the data of a sparse image: target becomes a copy of it, or has one from @offset on."""
    src = os.open(source, os.O_RDONLY)
    dst = os.open(target, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if offset is None else 0), 0o600)
    try:
        size = os.fstat(src).st_size
        if offset is None:
            os.ftruncate(dst, size)
        at = 0
        while at < size:
            try:
                at = os.lseek(src, at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(src, at, os.SEEK_HOLE)
            while at < end:
                data = os.pread(src, min(1 << 20, end - at), at)
                os.pwrite(dst, data, (offset or 0) + at)
                at += len(data)
    finally:
        os.close(src)
        os.close(dst)
