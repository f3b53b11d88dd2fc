#!/usr/bin/python3
"""moult beside systemd-sysext: the same content over a read-only /usr, two releases of it in turn. Needs root; no virtual machine.

Two readers open, read and close a file all the time: one that both releases bring and the original has not, and one that they replace.
What fails is counted, and how often the original's content comes back into view. systemd-sysext works on a root
of ours (--root=) in a mount namespace of ours; its /run is a tmpfs, as on every machine with systemd.

    sysext.py BUILD [--count N] [--size BYTES] [--switches N] [--runs directory,raw,moult]
"""

import argparse
import os
import shutil
import statistics
import time

import natively

RELEASE = "usr/lib/extension-release.d"


class Sysext:
    """Two extensions, one of which is in the place where they are looked for; systemd 252 follows no link there."""

    def __init__(self, machine, trees, kind):
        self.root, self.place, self.sources, self.kind = machine.root, machine.root / "var/lib/extensions", [], kind
        self.place.mkdir(parents=True)
        (self.root / "srv").mkdir()
        self.name, self.chosen = self.place / ("bench.raw" if kind == "raw" else "bench"), None
        for number, tree in enumerate(trees):
            extension = self.root / "srv" / f"extension-{number}"
            shutil.copytree(tree, extension)
            (extension / RELEASE).mkdir(parents=True)
            (extension / RELEASE / "extension-release.bench").write_text("ID=_any\n", encoding="ascii")
            if kind == "raw":
                image = extension.with_suffix(".raw")
                natively.run("mksquashfs", extension, image, "-quiet", "-no-progress")
                extension = image
            self.sources.append(extension)
        self.choose(0)
        natively.run("systemd-sysext", f"--root={self.root}", "merge")

    def choose(self, number):
        if self.chosen is not None:
            self.name.rename(self.sources[self.chosen])
        self.sources[number].rename(self.name)
        self.chosen = number

    def switch(self, number):
        """(seconds of the whole, seconds of the refresh): the whole begins with the content in another place, and is durable."""
        stored = self.sources[number].with_name("stored")
        started = time.monotonic()
        natively.run(*natively.FIRST, "cp", "-a", self.sources[number], stored)
        natively.run(*natively.FIRST, "sync", "-f", stored)
        copied = time.monotonic() - started
        shutil.rmtree(stored) if self.kind == "directory" else stored.unlink()
        self.choose(number)
        started = time.monotonic()
        natively.run(*natively.FIRST, "systemd-sysext", f"--root={self.root}", "refresh")
        refreshed = time.monotonic() - started
        return copied + refreshed, refreshed

    def close(self):
        natively.run("systemd-sysext", f"--root={self.root}", "unmerge")


class Moult:
    def __init__(self, machine, trees):
        self.machine, self.packs = machine, [machine.pack(tree, str(n)) for n, tree in enumerate(trees)]
        machine.apply(self.packs[0])

    def switch(self, number):
        return self.machine.apply(self.packs[number])

    def close(self):
        natively.run(self.machine.agent, "rollback", "--offline", "--root", self.machine.root, "--state", self.machine.state)


def measure(kind, options, directory):
    machine = natively.Machine(options.build, directory)
    trees = [machine.dir / "tree-1", machine.dir / "tree-2"]
    for version, tree in enumerate((machine.dir / "original/..", *trees)):
        where = machine.dir / "original" if version == 0 else tree
        natively.files(where, options.count, version, options.size, at="lib/bench" if version == 0 else "usr/lib/bench")
        if version > 0:
            (where / "usr/lib/bench/added").write_text(f"version {version}, added\n", encoding="ascii")
    (machine.dir / "original/lib/os-release").write_text("ID=bench\nVERSION_ID=1\n", encoding="ascii")
    (machine.root / "etc").mkdir()
    (machine.root / "etc/os-release").symlink_to("../usr/lib/os-release")
    machine.mount_usr(machine.dir / "original")
    peer = Moult(machine, trees) if kind == "moult" else Sysext(machine, trees, kind)
    watched, added = machine.usr / "lib/bench/000/file00000", machine.usr / "lib/bench/added"
    whole, switched = [], []
    with machine.watched(watched, added) as counts:
        for number in range(1, options.switches + 1):
            took, switch = peer.switch(number % 2)
            whole.append(took)
            switched.append(switch)
            expected = f"version {number % 2 + 1} of"
            if not watched.read_text(encoding="ascii").startswith(expected):
                raise RuntimeError(f"{kind}: after switch {number} {watched} does not begin with \"{expected}\"")
    peer.close()
    return whole, switched, counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--size", type=int, default=16384)
    parser.add_argument("--switches", type=int, default=50)
    parser.add_argument("--runs", default="directory,raw,moult")
    options = parser.parse_args()
    natively.enter_own_mounts()
    natively.run("mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run")
    print("| | whole, s | switch, ms | worst | opens of the new file | failed | of the replaced one | original seen |\n|---|---|---|---|---|---|---|---|")
    for kind in options.runs.split(","):
        with natively.folder() as directory:
            whole, switched, (replaced, added) = measure(kind, options, directory)
        name = "moult" if kind == "moult" else f"systemd-sysext, {kind}"
        print(f"| {name} | {statistics.median(whole):.2f} | {statistics.median(switched) * 1000:.1f} | {max(switched) * 1000:.0f} | {added[0]:,} "
              f"| {added[1]:,} | {replaced[0]:,} | {replaced[2]:,} |", flush=True)


if __name__ == "__main__":
    main()
