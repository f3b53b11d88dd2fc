"""The trees of the power-cut campaign: version 1 that the disk begins with, and what releases make of it.

Small, so that a state can be checked in a tenth of a second, but with each kind of entry and of change."""

import os
import random


def write(root, path, data, mode=0o644, owner=(0, 0), mtime=1_700_000_000):
    full = os.path.join(root, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "wb") as f:
        f.write(data)
    os.chown(full, *owner)
    os.chmod(full, mode)
    os.utime(full, (mtime, mtime))
    return full


def make(root, version, seed=7):
    """Makes version 1, 2 or 3 at root (an empty directory)."""
    make_program(root, "usr", version, seed)
    for i in range(6):
        write(root, f"etc/app/{i}.conf", f"version = {version}\nnumber = {i}\n".encode(), mtime=1_700_000_000 + version)


def make_program(root, top, version, seed=7):
    """The part of a version that lies below root/top."""
    def data(name, changes):
        rng = random.Random(f"{seed} {name} {version if changes else 0}")
        return rng.randbytes(rng.choice([0, 1, 700, 4096, 5000, 40_000, 150_000]) or rng.randrange(3000))

    when = 1_700_000_000 + version
    for i in range(24):
        name = f"{top}/lib/app/lib{i:02d}.so"
        changes = i % 3 != 0
        write(root, name, data(name, changes), mtime=when if changes else 1_700_000_000)
    write(root, f"{top}/bin/app", data("app", True) + b"#", 0o755, mtime=when)
    write(root, f"{top}/bin/app-su", data("su", True) + b"#", 0o4755, owner=(0, 33), mtime=when)
    tagged = write(root, f"{top}/bin/app-tagged", data("tagged", True) + b"#", 0o755, mtime=when)
    os.setxattr(tagged, "user.moult.test", f"v{version}".encode())
    twin = write(root, f"{top}/share/app/twin-a", data("twin", True) + b"#", mtime=when)
    os.link(twin, os.path.join(root, f"{top}/share/app/twin-b"))
    # Its text changes with each version, so its time does; a link of equal text is left alone, whatever its time.
    os.symlink(f"lib{version:02d}.so", os.path.join(root, f"{top}/lib/app/current"))
    os.utime(os.path.join(root, f"{top}/lib/app/current"), (when, when), follow_symlinks=False)
    if version == 1:                            # goes away in 2
        write(root, f"{top}/share/app/old/only-in-1", b"one\n")
        write(root, f"{top}/share/app/becomes-link", b"a file at first\n")
    else:                                       # comes in 2
        write(root, f"{top}/share/app/new/only-in-{version}", b"new\n", 0o600, owner=(1, 1))
        os.symlink("twin-a", os.path.join(root, f"{top}/share/app/becomes-link"))
        os.utime(os.path.join(root, f"{top}/share/app/becomes-link"), (1_700_000_002,) * 2, follow_symlinks=False)
    os.chmod(os.path.join(root, f"{top}/share/app"), 0o755 if version < 3 else 0o750)
