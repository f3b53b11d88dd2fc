#!/usr/bin/python3
"""From a command to a running VM in an older state: `moult snapshot rollback --restart`, against a full backup that is copied to the disk. Needs root.

    snapshot_rollback.py BUILD [--rounds N] [--image debian] [--write MIB]

The guest writes WRITE MiB between two restore points. "here": the point's files are on this host. "store": they are not, only in the store (a
directory): all that was written is fetched, unpacked and compared with its digest; each round has a point of its own, because one that was fetched is here.
The peer: the VM is ended, `qemu-img convert` of a full backup (a qcow2 file in the page cache; compressed, or as it is) makes the disk, synced, and QEMU
is started. Two times of each: until the virtual CPUs run, and until the guest has booted and answers, most of which is the same for all."""

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

from snapshot_lab import wait_jobs
from upgraded_disks import run


def write(guest, name, mib):
    guest.exec(f"openssl rand {mib << 20} >/srv/data 2>/dev/null || dd if=/dev/urandom of=/srv/data bs=1M count={mib} 2>/dev/null; echo {name} >/srv/name; sync",
               timeout=600)


def answers(guest, name):
    guest.exec_channel.close()
    guest.wait_ready()
    found = guest.exec("cat /srv/name").text
    if found != name:
        raise RuntimeError(f"the guest is in the state {found!r}, not {name!r}")


def moult_back(host, guest, name):
    start = time.monotonic()
    host.moult("snapshot", "rollback", "web-1", "--to", name, "--restart")
    runs = time.monotonic() - start
    answers(guest, name)
    return runs, time.monotonic() - start


def copied_back(guest, backup, name):
    """What there was is given up, as by somebody who has that backup only."""
    disk, start = guest.dir / "disk.qcow2", time.monotonic()
    guest.kill()
    disk.unlink()
    run("qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", backup, disk)
    run("sync", disk)
    guest.start(wait=False)
    runs = time.monotonic() - start
    answers(guest, name)
    return runs, time.monotonic() - start


def in_the_store_only(host, guest, name):
    """Restore points that merges have taken out of the files here."""
    point = next(s for s in host.json("snapshot", "list", "web-1") if s["name"] == name)
    return point["uploaded"] and not (guest.dir / point["disks"][0]["layer"]).exists()


def measure(work, options):
    import moult
    import vm as vms
    rows = {}

    def note(name, times):
        rows.setdefault(name, []).append(times)
        print(f"{name}: runs after {times[0]:.2f} s, answers after {times[1]:.2f} s; load {os.getloadavg()[0]:.1f}", flush=True)

    with moult.Host(work / "host") as host, vms.Vm(options.image, work / "vm") as guest:
        host.add("web-1", guest)
        host.moult("vm", "wait", "web-1")
        names = [f"store-{n}" for n in range(options.rounds)] + ["last", "here"]
        for name in names:
            write(guest, name, options.write)
            host.moult("snapshot", "create", "web-1", "--name", name, timeout=1200)
            wait_jobs(host)
        for n in range(options.rounds):
            if not in_the_store_only(host, guest, f"store-{n}"):
                raise RuntimeError(f"store-{n} is still here")
            note("moult, here", moult_back(host, guest, "here"))
            wait_jobs(host)
            note("moult, from the store", moult_back(host, guest, f"store-{n}"))
            wait_jobs(host)
        for kind, words in (("full backup", ()), ("full backup, compressed", ("-c",))):
            guest.power_off()
            backup = work / "backup.qcow2"
            run("qemu-img", "convert", *words, "-f", "qcow2", "-O", "qcow2", guest.dir / "disk.qcow2", backup)
            print(f"{kind}: {backup.stat().st_size:,} bytes", flush=True)
            for _ in range(options.rounds):
                note(f"{kind}, qemu-img convert", copied_back(guest, backup, names[options.rounds - 1]))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--image", default="debian")
    parser.add_argument("--write", type=int, default=64, help="MiB between two restore points")
    options = parser.parse_args()
    os.environ["MOULT_HOST_BUILD"] = os.environ["MOULT_BUILD"] = os.path.abspath(options.build)
    work = pathlib.Path(tempfile.mkdtemp(prefix="moult-bench-", dir=os.environ.get("MOULT_BENCH_DIR", "/var/tmp")))
    try:
        rows = measure(work, options)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    best = [statistics.median(t[i] for t in rows["full backup, qemu-img convert"]) for i in (0, 1)]
    print("\n| what | rounds | runs after, s | of a full backup | answers after, s | of a full backup |\n|---|---|---|---|---|---|")
    for name, times in rows.items():
        median = [statistics.median(t[i] for t in times) for i in (0, 1)]
        print(f"| {name} | {len(times)} | {median[0]:.2f} | {median[0] / best[0]:.2f} | {median[1]:.2f} | {median[1] / best[1]:.2f} |")


if __name__ == "__main__":
    main()
