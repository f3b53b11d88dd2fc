#!/usr/bin/python3
"""Trees that releases are made of: a small one with every kind of entry (updates.py has the real ones).

As a program, for the tiny-ro guest:  trees.py application DIR PLACE"""

import os
import pathlib
import random
import shutil
import subprocess
import sys

def write(root, path, data, mode=0o644, mtime=1700000000):
    file = pathlib.Path(root) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    file.chmod(mode)
    os.utime(file, (mtime, mtime))
    return file


def set_times(root, mtime=1700000000):
    """The same time on everything, so that two trees compare equal when they are."""
    for directory, directories, files in os.walk(root, topdown=False):
        for name in files + directories:
            os.utime(os.path.join(directory, name), (mtime, mtime), follow_symlinks=False)
    os.utime(root, (mtime, mtime))


def application(directory, size_mb=2, seed=1, place="srv/app"):
    """(old, new): an application at `place` whose new version has every kind of entry and change. The old one is what
    the tiny-ro guest has below each /ro/KIND as `app`."""
    rng = random.Random(seed)
    old, new = pathlib.Path(directory) / "old", pathlib.Path(directory) / "new"
    for n in range(40):
        write(old, f"{place}/lib/{n:02}.so", rng.randbytes(rng.randrange(200000)))
    write(old, f"{place}/version", "1\n")
    write(old, f"{place}/obsolete", "to be deleted\n")
    write(old, f"{place}/attic/only/this", "to be deleted with its directory\n")
    write(old, f"{place}/same", "unchanged\n")
    write(old, f"{place}/mode", "content stays, mode changes\n", 0o600)
    write(old, f"{place}/becomes-link", "a file, then a link\n")
    (old / f"{place}/current").symlink_to("lib/00.so")
    subprocess.run(["cp", "-a", str(old), str(new)], check=True)

    for n in range(0, 40, 2):
        write(new, f"{place}/lib/{n:02}.so", rng.randbytes(rng.randrange(200000)), 0o755)
    write(new, f"{place}/version", "2\n", mtime=1710000000)
    write(new, f"{place}/big", rng.randbytes(size_mb << 20), 0o640)
    (new / f"{place}/obsolete").unlink()
    shutil.rmtree(new / f"{place}/attic")
    (new / f"{place}/mode").chmod(0o4750)
    os.chown(new / f"{place}/mode", 123, 456)
    (new / f"{place}/mode").chmod(0o4750)
    (new / f"{place}/becomes-link").unlink()
    (new / f"{place}/becomes-link").symlink_to("version")
    (new / f"{place}/current").unlink()
    (new / f"{place}/current").symlink_to("lib/02.so")
    write(new, f"{place}/empty", "")
    write(new, f"{place}/name with space & \u00e4\u00f6\u00fc", "odd name\n")
    write(new, f"{place}/first-name", "two names\n")
    os.link(new / f"{place}/first-name", new / f"{place}/second-name")
    with open(new / f"{place}/sparse", "wb") as f:
        f.seek(5 << 20)
        f.write(b"end of a hole")
    ping = write(new, f"{place}/capable", "#!/bin/sh\n", 0o755)
    subprocess.run(["setcap", "cap_net_raw+ep", str(ping)], check=True)
    os.setxattr(write(new, f"{place}/labelled", "x\n"), "user.moult.test", b"\x00\x01value")
    os.mkfifo(new / f"{place}/fifo", 0o600)
    (new / f"{place}/new directory").mkdir(mode=0o2770)
    (new / f"{place}/new directory").chmod(0o2770)
    os.chown(new / f"{place}/new directory", 7, 8)
    (new / f"{place}/new directory").chmod(0o2770)
    for tree in (old, new):
        for path in tree.rglob("*"):
            if path.is_symlink() or path.is_dir():
                os.utime(path, (1700000000, 1700000000), follow_symlinks=False)
    for name in ("empty", "first-name", "sparse", "capable", "labelled", "fifo"):
        os.utime(new / place / name, (1710000000, 1710000000))
    return old, new


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "application":
        sys.exit("usage: trees.py application DIR PLACE")
    application(sys.argv[2], place=sys.argv[3])
