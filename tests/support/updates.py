#!/usr/bin/python3
"""Releases from real Debian package updates: trees with what a debian guest has, and with what the archive has now.

As a program, for the demo:  updates.py debian-update DIR IMAGE   (with a change below /etc)"""

import dataclasses
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys

import vm as vms

CACHE = vms.TOP / "build" / "packages"
# The security update, and what follows on top of it. vm-images/debian/build.sh installs these as old as it can.
OPENSSL = ("openssl", "libssl3")
LATER = (("tzdata",), ("curl", "libcurl4"), ("rsync",))
DEBIAN_UPDATE = OPENSSL + ("tzdata", "curl", "libcurl4")
# The debian guests are installed without these (vm-images/debian/build.sh); so the updates leave them out too.
NOT_INSTALLED = ("usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian")
LOCAL_POLICY = "\n# Local policy, as an operator adds it.\n[ moult_local ]\nseclevel = 2\n"


@dataclasses.dataclass
class Update:
    """One release: the trees of some packages as the guest has them and as the archive has them now."""

    name: str
    old: pathlib.Path
    new: pathlib.Path
    versions: dict  # {package: (old, new)}
    md5sums: bytes  # the new packages' own list, for what is in `new`

    def changed(self):
        """Paths ("/usr/...") of what the release replaces, adds or takes away; directories left out."""
        result = []
        for path in sorted({p.relative_to(tree) for tree in (self.old, self.new) for p in tree.rglob("*")}):
            old, new = self.old / path, self.new / path
            if not (old.is_dir() and not old.is_symlink()) and not (new.is_dir() and not new.is_symlink()) \
                    and _content(old) != _content(new):
                result.append(f"/{path}")
        return result


def _content(path):
    """What tells two files or links apart; None where there is nothing."""
    if path.is_symlink():
        return os.readlink(path)
    return (path.stat().st_mode, path.read_bytes()) if path.exists() else None


def download(name, version):
    CACHE.mkdir(parents=True, exist_ok=True)
    have = list(CACHE.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"))
    if not have:
        scratch = CACHE / f".{os.getpid()}"
        scratch.mkdir()
        try:
            subprocess.run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", f"{name}={version}"],
                           check=True, cwd=scratch, stdout=subprocess.DEVNULL)
            for file in scratch.iterdir():
                file.rename(CACHE / file.name)
        finally:
            shutil.rmtree(scratch)
        have = list(CACHE.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"))
    return have[0]


@functools.cache
def versions(name):
    """What the archive has of a package, oldest first."""
    lines = subprocess.run(["apt-cache", "madison", name], check=True, capture_output=True, text=True).stdout
    found = {line.split("|")[1].strip() for line in lines.splitlines()}

    def order(a, b):
        return -1 if subprocess.run(["dpkg", "--compare-versions", a, "lt", b], check=False).returncode == 0 else 1
    return sorted(found, key=functools.cmp_to_key(order))


def _newest(name):
    """None where the archive has no such package."""
    return (versions(name) or [None])[-1]


def _merge_usr(tree):
    """Debian's guests have /lib and its like as links into /usr: what a package has in them lies there."""
    for name in ("bin", "sbin", "lib", "lib64"):
        if (tree / name).is_dir() and not (tree / name).is_symlink():
            subprocess.run(["cp", "-a", f"{tree}/{name}", f"{tree}/usr/"], check=True)
            shutil.rmtree(tree / name)


def update(directory, packages, image="debian", name=None):
    """The Update of some packages of an image to what the archive has now."""
    directory = pathlib.Path(directory)
    installed = dict(line.split("=", 1) for line in (vms.image_dir(image) / "packages").read_text().split())
    old, new = directory / "old", directory / "new"
    versions, sums = {}, []
    for package in packages:
        versions[package] = (installed[package], _newest(package))
        for tree, version in zip((old, new), versions[package]):
            tree.mkdir(parents=True, exist_ok=True)
            subprocess.run(["dpkg-deb", "-x", str(download(package, version)), str(tree)], check=True)
        control = directory / f"control-{package}"
        subprocess.run(["dpkg-deb", "-e", str(download(package, versions[package][1])), str(control)], check=True)
        sums += (control / "md5sums").read_text().splitlines()
    kept = []
    for tree in (old, new):
        for path in NOT_INSTALLED:
            shutil.rmtree(tree / path, ignore_errors=True)
        for file in list((tree / "usr/share/doc").rglob("*")):
            if not file.is_dir() and file.name != "copyright":
                file.unlink()
    kept = [line for line in sums if os.path.lexists(new / re.split(r"\s+", line, 1)[1])]
    for tree in (old, new):
        _merge_usr(tree)
    return Update(name or packages[0], old, new, versions, ("\n".join(kept) + "\n").encode())


def _change_configuration(old, new):
    """So that an update has a file below /etc as well. Debian's two versions of openssl.cnf are the same more often than
    not: then a local policy is the change."""
    conf = "etc/ssl/openssl.cnf"
    if (old / conf).read_bytes() == (new / conf).read_bytes():
        with open(new / conf, "a", encoding="ascii") as file:
            file.write(LOCAL_POLICY)


def openssl_update(directory, image):
    """The OpenSSL security update with binaries and libraries below /usr and a configuration below /etc."""
    result = update(directory, OPENSSL, image)
    _change_configuration(result.old, result.new)
    return result


def later_updates(directory, image):
    """Updates to go on top of the first, each of its own packages; those that the archive has nothing newer of are
    left out."""
    made = [update(pathlib.Path(directory) / packages[0], packages, image) for packages in LATER]
    return [u for u in made if any(before != now for before, now in u.versions.values())]


def debian_update(directory, image="debian"):
    """(old, new, versions) of all packages that the debian guests have old and nothing else depends on; versions maps
    a package to (old, new). Beside `new` lie the files `md5sums` and `versions`."""
    made = update(directory, DEBIAN_UPDATE, image)
    lines = [f"{name}: {before} -> {now}\n" for name, (before, now) in made.versions.items()]
    (pathlib.Path(directory) / "versions").write_text("".join(lines))
    (pathlib.Path(directory) / "md5sums").write_bytes(made.md5sums)
    return made.old, made.new, made.versions


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "debian-update":
        sys.exit("usage: updates.py debian-update DIR IMAGE")
    _change_configuration(*debian_update(sys.argv[2], sys.argv[3])[:2])
