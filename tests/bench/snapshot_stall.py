#!/usr/bin/python3
"""How long a guest stands still when a snapshot is taken, seen from the host: moult, `blockdev-snapshot` by hand, virsh, and savevm. Needs root.

    snapshot_stall.py BUILD [--rounds N] [--parts own,libvirt]

The guest writes and turns all the time and counts both in shared memory (heartbeat.c); the host looks 5,000 times a second, in real-time priority,
and keeps the longest time in which a count stood still: from before the command until it has ended, and SETTLE seconds more. What the machine
does to the guest without any command is measured in the same way, in each round ("nothing").

"own": a guest of our own QEMU: nothing, by hand, moult (quiesced), moult --no-quiesce, in turn; then savevm. "libvirt": the same image as a domain of a libvirtd: nothing,
by hand, `virsh snapshot-create-as --disk-only --quiesce` (qemu-guest-agent). By hand is `blockdev-add` and `blockdev-snapshot`, of a file that was
made before. What a snapshot has left is taken back, or merged, outside of what is measured. The first snapshot of a QEMU is a row of its own: it
stops the VM for a moment (docs/snapshots.md)."""

import argparse
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[0] / "support"), str(HERE)]

from upgraded_disks import run

SETTLE = 1.0  # seconds in which a late effect is still seen
IDLE = 3.0


def compile_heartbeat(work):
    run("cc", "-O2", "-static", "-pthread", "-o", work / "heartbeat", HERE / "heartbeat.c")
    return work / "heartbeat"


def measured(watch, act, undo=None):
    watch.mark()
    start = time.monotonic()
    more = act()
    seconds = time.monotonic() - start
    time.sleep(SETTLE)  # it is this time that is measured
    gaps = watch.mark()
    if undo:
        undo()
    return {"writes": gaps[0], "ticks": gaps[1], "seconds": seconds, "load": os.getloadavg()[0], **(more or {})}


def top(command):
    """The guest's disk, as `query-block` has it."""
    return next(d for d in command("query-block") if d.get("inserted") and not d["inserted"]["ro"])


class ByHand:
    """The top node gets an overlay, which is committed and taken away afterwards."""

    def __init__(self, command, folder):
        self.command, self.file, self.below = command, folder / "by-hand.qcow2", None
        self.size = top(command)["inserted"]["image"]["virtual-size"]

    def make(self):
        run("qemu-img", "create", "-q", "-f", "qcow2", self.file, str(self.size))
        self.below = top(self.command)["inserted"]["node-name"]

    def act(self):
        self.command("blockdev-add", **{"node-name": "by-hand", "driver": "qcow2", "backing": None,
                                        "file": {"driver": "file", "filename": str(self.file)}})
        self.command("blockdev-snapshot", node=self.below, overlay="by-hand")

    def undo(self):
        # Without a base node all of the chain would be committed into the golden image.
        self.command("block-commit", **{"job-id": "back", "device": "by-hand", "base-node": self.below})
        while True:
            job = next((j for j in self.command("query-jobs") if j["id"] == "back"), None)
            if job is None:
                break
            if job["status"] == "ready":
                self.command("job-complete", id="back")
            time.sleep(0.05)  # outside of what is measured
        self.command("blockdev-del", **{"node-name": "by-hand"})
        self.file.unlink()


def own(work, heartbeat, rounds):
    import moult
    import stall_guest
    rows = {}

    def note(name, figures):
        rows.setdefault(name, []).append(figures)
        print(f"own: {name}: {figures}", flush=True)

    with moult.Host(work / "host") as host, stall_guest.own_machine(work / "beats") as guest:
        stall_guest.begin(guest, heartbeat)
        host.add("web-1", guest)
        host.moult("vm", "wait", "web-1")
        watch = stall_guest.Watch(heartbeat, work / "beats")
        hand = ByHand(guest.qmp.command, work)

        def create(*words):
            taken = host.json("snapshot", "create", "web-1", "--no-upload", *words)["result"]
            wanted = "crash" if "--no-quiesce" in words else "filesystem"
            if taken["grade"] != wanted:
                raise RuntimeError(f"the snapshot is {taken['grade']}: {taken['why']}")
            return {"frozen": taken["frozen_us"] / 1000}

        def merge():
            host.moult("snapshot", "merge", "web-1")

        note("moult, the first of this QEMU", measured(watch, create))
        for _ in range(rounds):
            note("nothing", measured(watch, lambda: time.sleep(IDLE)))
            hand.make()
            note("by hand", measured(watch, hand.act, hand.undo))
            note("moult", measured(watch, create, merge))
            note("moult --no-quiesce", measured(watch, lambda: create("--no-quiesce"), merge))
        for n in range(min(rounds, 3)):
            def save(n=n):
                said = guest.qmp.command("human-monitor-command", timeout=600, **{"command-line": f"savevm s{n}"})
                if said.strip():
                    raise RuntimeError(f"savevm: {said}")
            note("savevm", measured(watch, save, lambda n=n: guest.qmp.command("human-monitor-command", timeout=600,
                                                                              **{"command-line": f"delvm s{n}"})))
        watch.end()
    return rows


def as_domain(work, heartbeat, rounds):
    import libvirt
    import stall_guest
    rows = {}

    def note(name, figures):
        rows.setdefault(name, []).append(figures)
        print(f"libvirt: {name}: {figures}", flush=True)

    virt = libvirt.Libvirtd(work / "libvirt")
    name = f"stall-{os.getpid()}"
    try:
        virt.start()
        guest = stall_guest.Domain(virt, name, "debian")
        try:
            guest.start()
            stall_guest.begin(guest, heartbeat)
            guest.exec("systemctl start qemu-guest-agent")
            watch = stall_guest.Watch(heartbeat, guest.memory)
            command = lambda verb, **arguments: virt.monitor(name, verb, **arguments)
            hand = ByHand(command, work)
            for n in range(rounds):
                note("nothing", measured(watch, lambda: time.sleep(IDLE)))
                hand.make()
                note("by hand", measured(watch, hand.act, hand.undo))

                def snapshot(n=n):
                    virt.virsh("snapshot-create-as", name, "--name", f"s{n}", "--disk-only", "--quiesce", "--diskspec",
                               f"vda,file={guest.dir}/s{n}.qcow2", "--no-metadata")

                def back():
                    virt.virsh("blockcommit", name, "vda", "--active", "--pivot", "--wait")
                note("virsh", measured(watch, snapshot, back))
            watch.end()
        finally:
            guest.stop()
    finally:
        virt.stop()
    return rows


def table(part, rows):
    hand = {what: statistics.median(f[what] for f in rows["by hand"]) for what in ("writes", "ticks")}
    print(f"\n{part}, milliseconds: median (least to most)\n\n| what | rounds | longest gap of the writer | of by hand | longest gap of the ticker | of by hand | freeze to thaw | the command |\n|---|---|---|---|---|---|---|---|")

    def spread(values):
        return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
    for name, figures in rows.items():
        cells = [name, str(len(figures))]
        for what in ("writes", "ticks"):
            values = [f[what] for f in figures]
            cells += [spread(values), f"{statistics.median(values) / hand[what]:.2f}"]
        frozen = [f["frozen"] for f in figures if f.get("frozen")]
        cells += [spread(frozen) if frozen else "", spread([f["seconds"] * 1000 for f in figures])]
        print(f"| {' | '.join(cells)} |")
    loads = [f["load"] for figures in rows.values() for f in figures]
    print(f"\nload {min(loads):.1f} to {max(loads):.1f} on {os.cpu_count()} CPUs")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--parts", default="own,libvirt")
    options = parser.parse_args()
    os.environ["MOULT_HOST_BUILD"] = os.environ["MOULT_BUILD"] = os.path.abspath(options.build)
    work = pathlib.Path(tempfile.mkdtemp(prefix="moult-bench-", dir=os.environ.get("MOULT_BENCH_DIR", "/var/tmp")))
    parts = {"own": own, "libvirt": as_domain}
    try:
        heartbeat, results = compile_heartbeat(work), {}
        for part in options.parts.split(","):
            results[part] = parts[part](work, heartbeat, options.rounds)
        for part, rows in results.items():
            table(part, rows)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
