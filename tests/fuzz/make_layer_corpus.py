#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/layer_map: maps of layers without their digest, which the fuzz target puts behind them.
docs/decisions/0033-the-map-of-a-layer.md."""

import pathlib
import struct

OUT = pathlib.Path(__file__).parent / "corpus/layer_map"
ZEROS = 0xffffffff


def layer(extents, chunks=(), size=64, version=1, flags=0, counts=None, magic=b"moultmap", more=0):
    """@extents: (gap, sectors, chunk, sector in it); @chunks: sectors of each."""
    n, k = counts or (len(chunks), len(extents))
    data = magic + struct.pack("<IIQIIQ", version, flags, size * 512, n, k, more)
    data += b"".join(bytes([i + 1]) * 32 + struct.pack("<I", c * 512) for i, c in enumerate(chunks))
    return data + b"".join(struct.pack("<QQII", g * 512 % 2**64, s * 512 % 2**64, c, o * 512) for g, s, c, o in extents)


CASES = {
    "nothing": layer([]),
    "data-zeros-and-a-chunk-twice": layer([(0, 8, 0, 0), (8, 8, ZEROS, 0), (0, 4, 0, 0), (0, 2, 1, 2)], [8, 4]),
    "largest-disk": layer([(2**37 - 1, 1, ZEROS, 0)], size=2**37),
    "refuse-chunk-not-yet": layer([(0, 1, 1, 0)], [1, 1]),
    "refuse-chunk-unnamed": layer([(0, 1, 0, 0)], [1, 1]),
    "refuse-could-be-one": layer([(0, 1, ZEROS, 0), (0, 1, ZEROS, 0)]),
    "refuse-counts": layer([(0, 1, 0, 0)], [1], counts=(2, 1)),
    "refuse-flags": layer([], flags=1),
    "refuse-gap-wraps": layer([(0, 8, ZEROS, 0), (2**55 - 8, 8, ZEROS, 0)]),
    "refuse-leaves-chunk": layer([(0, 2, 0, 7)], [8]),
    "refuse-leaves-disk": layer([(60, 5, ZEROS, 0)]),
    "refuse-many-chunks": layer([], counts=(2**32 - 1, 0)),
    "refuse-more": layer([], more=1),
    "refuse-no-magic": layer([], magic=b"moultmop"),
    "refuse-no-size": layer([], size=0),
    "refuse-version": layer([], version=2),
    "refuse-zeros-in-chunk": layer([(0, 1, ZEROS, 1)]),
}

if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for name, data in CASES.items():
        (OUT / f"{name}.bin").write_bytes(data)
