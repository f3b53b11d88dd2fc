#!/usr/bin/python3
"""Writes the seed corpora of the fuzz targets frame, message, session and facts.

Run it after a change of proto/channel.proto that a fuzzer should know of; the files are committed.
usage: make_proto_corpus.py [DIRECTORY]      (default: corpus/ beside this script)
"""
import pathlib
import struct
import subprocess
import sys
import zlib

PUSH_ID = bytes(range(16))
DIGEST = bytes(range(32))
NONCE = b"\x77" * 16


def varint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def msg(*fields):
    """Fields as (number, value): int is a varint, bytes are length-delimited."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def message(number, body, ident=1, reply_to=0):
    head = [(1, ident)] if ident else []
    if reply_to:
        head.append((2, reply_to))
    return msg(*head, (number, body))


def frame(payload, flags=0):
    head = b"MLT1" + struct.pack("<II", len(payload) | flags, zlib.crc32(payload))
    return head + struct.pack("<I", zlib.crc32(head)) + payload


def packed(payload):
    return subprocess.run(["zstd", "-q", "--no-check", f"--stream-size={len(payload)}"], input=payload, stdout=subprocess.PIPE, check=True).stdout


def step(op, data=b""):
    return bytes([op]) + struct.pack(">H", len(data)) + data


RAW, FRAMED, NUMBERED, TIME, AWAY_UP, HELLO, ASK, DRAIN, CLOSE = range(9)

ITEM = msg((1, b"usr/bin/a"), (2, 2), (4, b"why"), (5, b"/"), (6, 4096), (7, b"coreutils"))
STATE = msg((1, PUSH_ID), (2, DIGEST), (3, 3), (5, b"text"), (6, 1), (7, 10), (8, 5), (9, 3), (10, 2), (11, 1), (13, 1))
HELLO_BODY = msg((1, 1), (2, 1), (3, NONCE), (5, 2), (6, b"zstd"), (7, b"moult-agent 0.1.0"), (9, b"web-1"))
PLACE = msg((1, b"/"), (2, b"ext4"), (4, 1 << 30), (5, 1 << 20), (6, 65536), (7, 100), (8, 1))
FACTS = msg((1, b"moult-agent 0.1.0"), (2, 1), (3, 1700000000000000), (4, b"6.1.0"), (5, DIGEST), (6, b"x.pub: no key"), (7, PLACE),
            (7, msg((1, b"/usr"), (2, b"erofs"), (3, 1))), (8, 1), (9, 2), (10, 3), (11, 2), (12, 1), (13, 2), (14, 1), (15, b"integrity"),
            (16, 1), (17, 2), (18, 1), (19, 1), (20, 0), (21, 3), (22, 2), (24, b"generation 4\x1b[2J"), (26, b"enforcing"),
            (27, b"enabled"), (28, b"moult (enforce)"))

MESSAGES = {
    "hello": message(10, HELLO_BODY, ident=0),
    "hello-full": message(10, HELLO_BODY + msg((4, NONCE), (8, b"1-2-3"), (10, DIGEST), (11, b"token"),
                                               (12, b"10.0.0.1:7777"), (13, 1)), ident=0),
    "error": message(11, msg((1, 9), (2, b"hook \xff\x1b[31m failed\n"))),
    "ack": message(12, b"", reply_to=1),
    "ping": message(13, b""),
    "offer": message(20, msg((1, PUSH_ID), (2, DIGEST), (3, 1 << 20), (4, b"\x01\x02\x03"), (5, 1), (9, 60000),
                             (10, b"usr/bin/a"), (10, b"/etc/b"))),
    "command": message(21, msg((1, PUSH_ID), (2, 2))),
    "plan-query": message(22, msg((1, PUSH_ID), (2, 0), (3, 512))),
    "history-query": message(23, msg((1, 10))),
    "rollback": message(24, msg((1, PUSH_ID), (2, 3), (3, 1))),
    "state": message(30, STATE),
    "plan-page": message(31, msg((1, PUSH_ID), (2, 0), (3, 2), (4, ITEM), (4, ITEM)), reply_to=1),
    "history": message(32, msg((1, msg((1, 1), (2, b"openssl 3"), (3, DIGEST), (4, 7), (5, 1700000000)))), reply_to=1),
    "fetch": message(33, msg((1, DIGEST), (2, 4096), (3, 1 << 20))),
    "upgrade-request": message(34, msg((1, b"usr/lib/x"), (1, b"/etc/y"))),
    "data": message(40, msg((1, 4096), (2, b"bytes" * 20), (3, 1)), reply_to=1),
    "status-query": message(50, b""),
    "status": message(51, msg((1, b"moult-agent"), (3, 1), (4, b"unix"), (5, STATE), (7, 5)), reply_to=1),
    "facts-query": message(28, b""),
    "facts": message(38, FACTS, reply_to=1),
    "facts-key-size": message(38, msg((5, b"short")), reply_to=1),
    "facts-more-free": message(38, msg((7, msg((4, 1), (5, 2)))), reply_to=1),
    "facts-sight": message(38, msg((8, 9)), reply_to=1),
    "freeze": message(29, msg((1, PUSH_ID), (2, 1), (3, 10000), (4, 1))),
    "freeze-renew": message(29, msg((1, PUSH_ID), (2, 2), (3, 60000))),
    "freeze-thaw-whatever": message(29, msg((2, 3))),
    "freeze-no-lease": message(29, msg((1, PUSH_ID), (2, 1))),
    "freeze-query-lease": message(29, msg((1, PUSH_ID), (3, 60001))),
    "freeze-action": message(29, msg((1, PUSH_ID), (2, 4))),
    "freeze-state": message(39, msg((1, PUSH_ID), (2, 3), (6, 2), (7, 1), (10, 5000), (11, 9000))),
    "freeze-state-thawed": message(39, msg((1, PUSH_ID), (2, 5), (3, 10), (4, b"a hook\x1b[2J"), (5, 1), (6, 2), (7, 1), (8, b"10-db"),
                                           (9, b"no \xff\n"), (10, 5000)), reply_to=1),
    "freeze-state-held-early": message(39, msg((1, PUSH_ID), (2, 3), (5, 1))),
    "freeze-state-many-mounts": message(39, msg((1, PUSH_ID), (2, 3), (6, 257))),
    "empty": b"",
    "unknown-body": message(90, b"from the future"),
    "two-bodies": msg((1, 1), (13, b""), (20, msg((1, PUSH_ID))), (10, HELLO_BODY)),
    "body-merged": msg((1, 1), (30, STATE), (30, msg((5, b"merged")))),
    "many-empty-items": message(31, msg((1, PUSH_ID)) + msg(*[(4, b"")] * 3000)),
    "bad-enum": message(21, msg((1, PUSH_ID), (2, 77))),
    "short-id": message(21, msg((1, b"short"), (2, 1))),
    "dotdot": message(34, msg((1, b"../etc/passwd"))),
    "length-beyond-end": b"\xa2\x01\xff\xff\xff\xff\x0f",
    "field-number-0": msg((1, 1), (2, 1)) + b"\x82\x00\x02xx" + message(13, b""),
    "deep-garbage": bytes(range(256)),
}

FRAMES = {
    "one": b"\x00" + frame(MESSAGES["ping"]),
    "noise-between": b"\x06" + b"noise" + frame(MESSAGES["hello"]) + b"MLTMLT1 and so on" + frame(MESSAGES["ack"]),
    "half": b"\x40" + frame(MESSAGES["data"])[:40],
    "half-then-whole": b"\x40" + frame(MESSAGES["data"])[:40] + frame(MESSAGES["hello"]) * 3,
    "bad-payload": b"\xff" + frame(b"x" * 50)[:-1] + b"y" + frame(MESSAGES["ping"]),
    "bad-header": b"\x01" + frame(MESSAGES["ping"])[:15] + b"\0" + frame(MESSAGES["ping"]),
    "huge-length": b"\x10" + b"MLT1" + b"\xff" * 8
                   + struct.pack("<I", zlib.crc32(b"MLT1" + b"\xff" * 8)) + frame(MESSAGES["ping"]),
    "frame-in-frame": b"\xff" + frame(frame(MESSAGES["ping"])),
    "packed": b"\x20" + frame(packed(MESSAGES["many-empty-items"]), 1 << 31) + frame(MESSAGES["ping"]),
    "packed-bomb": b"\x20" + frame(packed(bytes(400000)), 1 << 31) + frame(MESSAGES["ping"]),
    "packed-cut": b"\x20" + frame(packed(MESSAGES["hello"])[:-1], 1 << 31) + frame(MESSAGES["ping"]),
    "packed-twice": b"\x20" + frame(packed(packed(MESSAGES["data"])), 1 << 31),
    "empty-payload": b"\x08" + frame(b"") * 3,
}

SESSIONS = {
    "all-messages": b"".join(step(NUMBERED, m) for m in MESSAGES.values()),
    "raw-frames": b"".join(step(RAW, frame(m)) for m in MESSAGES.values()),
    "gap": step(FRAMED, message(13, b"", ident=5)) + step(HELLO, b"\x01") + step(NUMBERED, MESSAGES["state"]),
    "noise": step(NUMBERED, MESSAGES["state"]) + step(RAW, b"noise") + step(TIME, b"\x02") + step(HELLO, b"\x02"),
    "restarts": b"".join(step(HELLO, bytes([i])) for i in range(1, 12)) + step(TIME, b"\x03"),
    "answers": step(ASK) * 3 + step(DRAIN) + b"".join(
        step(FRAMED, message(n, b, ident=i + 1, reply_to=i + 1)) for i, (n, b) in enumerate(
            [(31, msg((1, PUSH_ID), (3, 1), (4, ITEM))), (32, b""), (11, msg((1, 5), (2, b"no")))])),
    "parts": step(ASK) + b"".join(
        step(NUMBERED, message(40, msg((1, i), (2, b"x"), (3, i == 2)), reply_to=1)) for i in range(3)),
    "refused-part": step(ASK) + b"".join(
        step(NUMBERED, message(40, msg(*fields), reply_to=1)) for fields in ([(1, 0)], [(2, b"x")])) + step(AWAY_UP),
    "silence": step(ASK) + step(TIME, b"\x0b") + step(TIME, b"\x0b") + step(TIME, b"\x0b"),
    "half-frame": step(RAW, frame(MESSAGES["data"])[:30]) + step(TIME, b"\x0b") + step(HELLO, b"\x03"),
    "away": step(ASK) + step(AWAY_UP) + step(HELLO, b"\x04") + step(NUMBERED, MESSAGES["fetch"]),
    "close-in-lost": step(CLOSE) + step(RAW, b"noise"),
    "close-in-message": step(CLOSE) + step(NUMBERED, MESSAGES["state"]),
    "close-in-answer": step(ASK) * 2 + step(CLOSE) + step(AWAY_UP),
    "close-in-writable": step(CLOSE) + step(DRAIN),
    "version-refused": step(FRAMED, message(11, msg((1, 1), (2, b"too old")), ident=0)) + step(AWAY_UP)
                       + step(FRAMED, message(11, msg((1, 1), (2, b"too old")), ident=0)),
}

GUESTS = {
    "all": MESSAGES["facts"],
    "nothing": message(38, b"", reply_to=1),
    "well": message(38, msg((1, b"moult-agent 0.1.0"), (2, 1), (3, 1700000000050000), (5, bytes(32)), (7, PLACE), (8, 2), (9, 3), (10, 3),
                            (11, 2), (18, 2), (19, 2), (21, 3), (22, 1), (23, 1)), reply_to=1),
    "no-method": message(38, msg((7, msg((1, b"/usr"), (3, 1))), (8, 1), (9, 1)), reply_to=1),
    "last-year-of-all": message(38, msg((3, 253402300800000000)), reply_to=1),
    "many-places": message(38, msg(*[(7, PLACE)] * 17), reply_to=1),
    "no-text": message(38, msg((4, b"\xff\xfe\x1b[31m"), (28, b"\x00" * 255), (26, b"enforcing")), reply_to=1),
}


def main():
    base = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "corpus"
    for name, seeds in (("message", MESSAGES), ("frame", FRAMES), ("session", SESSIONS), ("facts", GUESTS)):
        directory = base / name
        directory.mkdir(parents=True, exist_ok=True)
        for seed, data in seeds.items():
            (directory / f"seed-{seed}").write_bytes(data)


if __name__ == "__main__":
    main()
