"""The work that is measured: 256 MiB in 2,000 files, and one file of 1 GiB; the same bytes for the same seed.

Sizes of the many follow a log-normal distribution (median 40 KiB, sigma 1.6), as file sizes on Linux roots roughly
do, scaled to the exact sum. Contents are half compressible, as binaries and libraries are."""

import os
import random


def content(rng, size):
    """Half random bytes, half repeats of a short text: zstd makes about 0.55 of it."""
    filler = (b"moult benchmark filler %016x " % rng.getrandbits(64)) * 60
    out = bytearray()
    while len(out) < size:
        out += rng.randbytes(2048) + filler[:2048]
    return bytes(out[:size])


def many(root, count=2000, total=256 << 20, seed=1):
    """2,000 files in directories of 50; returns the exact number of bytes."""
    rng = random.Random(seed)
    sizes = [min(rng.lognormvariate(10.6, 1.6), 16 << 20) for _ in range(count)]
    scale = total / sum(sizes)
    sizes = [max(1, int(s * scale)) for s in sizes]
    sizes[-1] += max(0, total - sum(sizes))
    for i, size in enumerate(sizes):
        directory = os.path.join(root, f"usr/lib/bench/{i // 50:03d}")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, f"file{i:04d}"), "wb") as f:
            f.write(content(rng, size))
    return sum(sizes)


def one(root, size=1 << 30, seed=2):
    """One file of 1 GiB."""
    rng = random.Random(seed)
    os.makedirs(os.path.join(root, "usr/lib/bench"), exist_ok=True)
    piece = content(rng, 4 << 20)
    with open(os.path.join(root, "usr/lib/bench/large"), "wb") as f:
        for i in range(size // len(piece)):
            f.write(i.to_bytes(8, "little") + piece[8:])
    return size
