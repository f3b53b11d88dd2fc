#!/usr/bin/python3
"""How long the switch of a merge takes, by how much it brings. Needs root; no virtual machine.

/usr is a read-only ext4 with N files; two releases that replace all of them are applied in turn, each over the
other. Before each, everything is read through the merge that goes, so the kernel has all of it in its caches.
Readers open files of the merge all the time. The rounds that are traced, for the mount operations alone, have no
part in the other figures.

    switch.py BUILD [--counts 100,1000,10000,50000] [--rounds N]
"""

import argparse
import statistics
import subprocess

import natively

TRACED = 5


def measure(machine, count, rounds):
    """{figure: list of seconds}, and what the readers have counted."""
    source = machine.dir / "original"
    packs = []
    natively.files(source, count, 0, at="lib/bench")
    for version in (1, 2):
        tree = machine.dir / f"tree-{version}"
        natively.files(tree, count, version)
        packs.append(machine.pack(tree, str(version)))
    machine.mount_usr(source)
    seconds = {"whole": [], "switch": [], "first": [], "operations": []}
    watched = [machine.usr / f"lib/bench/{i // 100:03d}/file{i:05d}" for i in (0, count - 1)]

    def switch(number, **options):
        subprocess.run(["grep", "-rq", "no such line", machine.usr], check=False)
        return machine.apply(packs[number % 2], **options)

    with machine.watched(*watched) as counts:
        seconds["first"].append(switch(0)[1])
        for number in range(1, rounds + 1):
            whole, switched = switch(number)
            seconds["whole"].append(whole)
            seconds["switch"].append(switched)
        expected = f"version {1 + rounds % 2} of"
        for path in watched:
            if not path.read_text(encoding="utf-8").startswith(expected):
                raise RuntimeError(f"{path} is not what was released last")
        trace = machine.dir / "trace"
        for number in range(rounds + 1, rounds + TRACED + 1):
            switch(number, trace=trace)
            seconds["operations"].append(machine.mount_operations(trace))
    return seconds, counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--counts", default="100,1000,10000,50000")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    natively.enter_own_mounts()
    print("| entries | apply, s | switch, ms | worst | first switch | mount operations, ms | least | opens meanwhile | failed |\n|---|---|---|---|---|---|---|---|---|")
    for count in map(int, options.counts.split(",")):
        with natively.folder() as directory:
            seconds, counts = measure(natively.Machine(options.build, directory), count, options.rounds)
        ms = {name: [s * 1000 for s in values] for name, values in seconds.items()}
        print(f"| {count:,} | {statistics.median(seconds['whole']):.2f} | {statistics.median(ms['switch']):.1f} | {max(ms['switch']):.1f} "
              f"| {ms['first'][0]:.1f} | {statistics.median(ms['operations']):.2f} | {min(ms['operations']):.2f} | {sum(c[0] for c in counts):,} | {sum(c[1] for c in counts)} |",
              flush=True)


if __name__ == "__main__":
    main()
