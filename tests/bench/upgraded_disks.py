"""Disks that have received real upgrades of Debian packages, day by day: of one VM, and of siblings from one golden image.

The golden disk is the debian guest's, made smaller, with every package put back to the oldest version that the archive has. A day's upgrades are
dpkg's, in a chroot on the mounted disk, so blocks are allocated, journalled and overwritten as ext4 of this machine's kernel does it. Versions are
installed in the order of their own dates (of the newest file in them). Needs root, loop devices, and the packages, which apt downloads."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import subprocess
import tarfile
import tempfile

import updates
import vm as vms

SIZE = 2 << 30
BLOCK = 4096
DPKG = ["dpkg", "--force-confold", "--force-downgrade", "--force-depends", "--force-breaks", "--force-unsafe-io", "-i"]


@dataclasses.dataclass
class Step:
    """One package in one version that the archive has after another one."""

    name: str
    version: str
    date: int


def run(*words, **options):
    done = subprocess.run([str(w) for w in words], check=False, stdin=subprocess.DEVNULL, capture_output=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


def copy(source, target):
    run("cp", "--sparse=always", source, target)
    os.chmod(target, 0o600)
    return target


@contextlib.contextmanager
def mounted(disk):
    """The disk's file system, on this host's kernel; when it ends everything is in the file."""
    with tempfile.TemporaryDirectory(prefix="moult-bench-") as point:
        run("mount", "-o", "loop", disk, point)
        try:
            yield pathlib.Path(point)
        finally:
            run("umount", point)


def install(root, packages):
    """@packages: [(name, version)]"""
    if not packages:
        return
    folder = root / "var/cache/apt/archives"
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, version in packages:
        file = updates.download(name, version)
        run("cp", file, folder)
        names.append(f"/var/cache/apt/archives/{file.name}")
    run("chroot", root, *DPKG, *names, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"})
    run("chroot", root, "rm", *names)


def _date(file):
    """When a version was built: the time of the newest file in the package."""
    with tempfile.TemporaryFile() as archive:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", str(file)], check=True, stdout=archive)
        archive.seek(0)
        return max(int(member.mtime) for member in tarfile.open(fileobj=archive))


def _kernels():
    """The archive's two newest kernels for clouds: a new one comes beside the old one, under a name of its own."""
    names = run("apt-cache", "pkgnames", "linux-image-6.1.0-").decode().split()
    names = sorted((n for n in names if n.endswith("-cloud-amd64")), key=lambda n: int(n.split("-")[3]))
    return [(name, updates.versions(name)[-1]) for name in names if updates.versions(name)][-2:]


def _with_versions(names):
    """Those that the archive has more than one version of: one question for all."""
    found = {}
    for line in run("apt-cache", "madison", *names).decode().splitlines():
        name, version = (word.strip() for word in line.split("|")[:2])
        found.setdefault(name, set()).add(version)
    return [name for name in names if len(found.get(name, ())) > 1]


def steps_of(installed):
    """(what the golden disk gets, [Step] that follow, by date)."""
    old, steps = [], []
    for name in _with_versions(installed):
        versions = updates.versions(name)
        old.append((name, versions[0]))
        steps += [Step(name, v, _date(updates.download(name, v))) for v in versions[1:]]
    kernels = _kernels()
    old += [("linux-base", updates.versions("linux-base")[-1]), kernels[0]]
    steps += [Step(name, v, _date(updates.download(name, v))) for name, v in kernels[1:]]
    return old, sorted(steps, key=lambda s: (s.date, s.name))


def days_of(steps, days):
    """Each day has about the same number; versions of one date (packages of one source) are not taken apart if that can be had."""
    groups = [[s for s in steps if s.date == date] for date in sorted({s.date for s in steps})]
    while len(groups) < days:
        longest = max(groups, key=len)
        if len(longest) < 2:
            raise RuntimeError(f"the archive has {len(steps)} newer versions: not one for each of {days} days")
        at = groups.index(longest)
        groups[at:at + 1] = [longest[:len(longest) // 2], longest[len(longest) // 2:]]
    while len(groups) > days:
        at = min(range(len(groups) - 1), key=lambda i: len(groups[i]) + len(groups[i + 1]))
        groups[at:at + 2] = [groups[at] + groups[at + 1]]
    return groups


def golden(directory):
    """(the golden disk in that folder, what gives the steps that follow it)"""
    image, disk = vms.image_dir("debian"), directory / "golden.raw"

    @functools.cache
    def steps():
        return steps_of(sorted(line.split("=", 1)[0] for line in (image / "packages").read_text().split()))

    if not disk.exists():
        part = copy(image / "disk.img", directory / "golden.part")
        # Smaller than a VM's disk is, for the peers that read all of it.
        run("e2fsck", "-fy", part)
        run("resize2fs", part, f"{SIZE // 1024}K")
        os.truncate(part, SIZE)
        with mounted(part) as root:
            install(root, steps()[0])
        part.rename(disk)
    return disk, lambda: steps()[1]


def upgraded(disk, steps):
    with mounted(disk) as root:
        # One version of a package at a time, as apt would.
        install(root, [(s.name, s.version) for s in {s.name: s for s in steps}.values()])


def personal(disk, number):
    """What makes one of many VMs of a golden image itself."""
    with mounted(disk) as root:
        (root / "etc/hostname").write_text(f"web-{number}\n")
        (root / "etc/machine-id").write_bytes(os.urandom(16).hex().encode() + b"\n")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / "etc/ssh/ssh_host_ed25519_key")


def changes(before, after):
    """[(offset, bytes)] of the blocks of file @after that are not those of @before, neighbours together."""
    piece = 1 << 20
    found = []
    with open(before, "rb") as a, open(after, "rb") as b:
        for at in range(0, os.path.getsize(after), piece):
            x, y = a.read(piece), b.read(piece)
            if x == y:
                continue
            for i in range(0, len(y), BLOCK):
                if x[i:i + BLOCK] == y[i:i + BLOCK]:
                    continue
                if found and found[-1][0] + found[-1][1] == at + i:
                    found[-1][1] += BLOCK
                else:
                    found.append([at + i, BLOCK])
    return found
