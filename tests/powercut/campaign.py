#!/usr/bin/python3
"""The power-cut campaign: every moment of pushes and rollbacks, with every kind of half-written disk.

1. A tiny guest runs upgrades on a disk of its own; QEMU's blklogwrites driver records each write and flush.
   After each command that succeeded the guest writes an acknowledgement past the end of the file system (O_DIRECT, no
   flush: nothing that the agent forgot to sync becomes durable by it).
2. blklog.py makes crash states of the record: each flush point, and at each one subsets of what was not flushed.
3. Each state is mounted, `moult-agent recover` runs as it does at a start, and the tree is compared:
     * it must be one of the trees between which the guest was then: all old or all new;
     * it must not be older than what was acknowledged;
     * what the agent says (committed, rolled back) must be what the tree shows.

scenarios.py says what is upgraded: with --merged a part of the tree is read-only, and each release is merged there.

    campaign.py [--fs ext4|btrfs] [--merged] [--states N] [--seed N] [--fault NAME=skip] [--keep DIR]

Ends with 0 when as many states as were asked for were judged and none was wrong; --fault turns that around: a sync that is left out must be noticed."""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[:0] = [str(HERE), str(TOP / "tests/support")]

import blklog  # noqa: E402
import scenarios  # noqa: E402
import tree  # noqa: E402
import vm as vms  # noqa: E402
from scenarios import STATE, run  # noqa: E402

# File system, its size, and the whole disk: acknowledgements are written behind the file system.
SIZES = {"ext4": (40 << 20, 41 << 20), "btrfs": (112 << 20, 113 << 20)}


def binary(name):
    for preset in (os.environ.get("MOULT_BUILD"), TOP / "build/faults", TOP / "build/release"):
        if preset:
            found = list(pathlib.Path(preset).rglob(name))
            if found and os.access(found[0], os.X_OK):
                return found[0]
    raise SystemExit(f"{name} is not built: cmake --preset faults && ninja -C build/faults")


def make_releases(work, scenario):
    moult = binary("moult")
    run(moult, "key", "new", "--out", work / "signing.key", stdout=subprocess.DEVNULL)
    (work / "trust").mkdir()
    shutil.copy(work / "signing.pub", work / "trust/signing.pub")
    for version in (1, 2, 3):
        (work / f"tree{version}").mkdir()
        scenario.make_tree(work / f"tree{version}", version)
    for version in (2, 3):
        run(moult, "release", "build", work / f"tree{version}", "--from", work / f"tree{version - 1}", "--name", "campaign",
            "--version", version, "--sign", work / "signing.key", "-o", work / f"release-{version}.moult",
            stdout=subprocess.DEVNULL)


def make_disk(work, fs, scenario):
    """The disk with tree 1 on it, made without mounting."""
    fs_size, disk_size = SIZES[fs]
    disk = work / "disk.raw"
    seed = scenario.seed(work)
    with open(disk, "wb") as f:
        f.truncate(fs_size)
    if fs == "ext4":
        run("mke2fs", "-q", "-t", "ext4", "-d", seed, disk)
    else:
        run("mkfs.btrfs", "-q", "--mixed", "--rootdir", seed, disk, stdout=subprocess.DEVNULL)
    with open(disk, "r+b") as f:
        f.truncate(disk_size)
    return disk


def guest_command(step, scenario):
    where = f"--root /mnt/t --state /mnt/t/{STATE}"
    if step == "rollback":
        return f"moult-agent rollback --offline {where}"
    if step == "start":
        return f"moult-agent recover --boot --count-boots {where} && moult-agent boot-ok {where}"
    return f"moult-agent apply /tmp/{step.split()[1]} --trust /tmp/trust {where} --merge {scenario.method}"


def record(work, fs, fault, scenario):
    """Runs the steps in a guest; returns the log's path and the disk as it was before."""
    disk = make_disk(work, fs, scenario)
    before = work / "before.raw"
    blklog.copy_sparse(disk, before)
    log = work / "writes.log"
    log.touch()
    qemu_args = ["-blockdev", f"driver=file,node-name=pc-file,filename={disk}",
                 "-blockdev", f"driver=file,node-name=pc-log,filename={log}",
                 "-blockdev", "driver=raw,node-name=pc-raw,file=pc-file",
                 "-blockdev", "driver=blklogwrites,node-name=pc,file=pc-raw,log=pc-log,log-sector-size=512,log-super-update-interval=1",
                 "-device", "virtio-blk-pci,drive=pc,serial=powercut"]
    with vms.Vm("tiny", qemu_args=qemu_args) as guest:
        guest.exec("touch /run/moult-agent-off; mkdir -p /mnt/t /tmp/trust")
        run("cc", "-static", "-O1", "-o", work / "mark", HERE / "mark.c")
        guest.write_file("/tmp/mark", (work / "mark").read_bytes(), 0o755)
        guest.write_file("/tmp/trust/signing.pub", (work / "signing.pub").read_bytes())
        for version in (2, 3):
            guest.write_file(f"/tmp/release-{version}", (work / f"release-{version}.moult").read_bytes())
        if fs == "btrfs":
            guest.exec("modprobe btrfs")
        device = guest.exec("for d in /sys/block/vd*; do [ \"$(cat $d/serial)\" = powercut ] && echo /dev/${d##*/}; done").text
        guest.exec(f"mount -t {fs} {device} /mnt/t")
        scenario.prepare_guest(guest, "/mnt/t", work)
        for number, (step, _) in enumerate(scenario.steps, 1):
            environment = f"export MOULT_FAULT='{fault}'; " if fault else ""
            guest.exec(environment + guest_command(step, scenario), timeout=120)
            guest.exec(f"/tmp/mark {device} {SIZES[fs][0]} {number}")
        # The record ends here: what an orderly end would flush must not hide what was not flushed.
    return log, before


def agent_says(agent, root):
    """The version that the agent's history calls the present one; 1 when it knows of no release."""
    listed = subprocess.run([str(agent), "history", "--offline", "--json", "--root", str(root), "--state", f"{root}/{STATE}"],
                            check=True, capture_output=True, text=True)
    for item in json.loads(listed.stdout)["items"]:
        if item["phase"] in ("committed", "active", "committing"):
            return int(item["release"].split()[1])
    return 1


def judge(root, expected, state, scenario):
    """Recovers one state and returns (tree number, problem or None)."""
    agent = binary("moult-agent")
    done = subprocess.run([str(agent), *scenario.recover, "--root", str(root), "--state", f"{root}/{STATE}", "--json"],
                          check=False, capture_output=True, text=True, timeout=120)
    found = scenario.snapshot(root)
    if done.returncode != 0:
        return None, f"recover ended with {done.returncode}: {done.stderr.strip()}"
    if "at the start of the machine" in done.stderr:
        # A way out for damage and for releases that do not get healthy, and not for what was not synced in time.
        return None, f"a release was given up: {done.stderr.strip()}"
    matches = [n for n, snapshot in expected.items() if snapshot == found]
    if not matches:
        nearest = min(expected, key=lambda n: len(tree.difference(expected[n], found, 10_000)))
        return None, "a mixed tree; against the nearest:\n    " + "\n    ".join(tree.difference(expected[nearest], found))
    sequence = [1] + [after for _, after in scenario.steps]
    allowed = set(sequence[state.mark:state.mark + 2])
    if matches[0] not in allowed:
        return matches[0], f"tree {matches[0]}, but {state.mark} steps were acknowledged: one of {sorted(allowed)} expected"
    said = agent_says(agent, root)
    if said != matches[0]:
        return matches[0], f"the tree is {matches[0]}, the agent says {said}"
    return matches[0], None


def campaign(fs, wanted, seed, fault, work, scenario=None):
    """(states judged, how many of them had which tree, what was wrong)"""
    scenario = scenario or scenarios.Written()
    title = f"{fs}, {scenario.name}"
    make_releases(work, scenario)
    expected = {n: scenario.snapshot(work / f"tree{n}") for n in (1, 2, 3)}
    log, before = record(work, fs, fault, scenario)
    entries = blklog.read_log(log)
    flushes = sum(1 for e in blklog.epochs(entries) if e)
    per_epoch = max(2, -(-wanted // max(1, flushes)))
    print(f"{title}: recorded {len(entries)} operations, {flushes} runs of writes between flushes; "
          f"{per_epoch} states of each", flush=True)
    mnt = work / "mnt"
    mnt.mkdir()
    scenario.prepare_host()
    counts, wrong, total = {}, [], 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as fast:
        base, image = os.path.join(fast, "base"), os.path.join(fast, "state")
        blklog.copy_sparse(before, base)
        for state in blklog.crash_states(entries, base, log, image, SIZES[fs][0], per_epoch, seed):
            total += 1
            os.truncate(image, SIZES[fs][0])
            with scenario.mounted(image, mnt, fs, work) as root:
                number, problem = judge(root, expected, state, scenario)
            counts[number] = counts.get(number, 0) + 1
            if problem:
                wrong.append(f"run {state.epoch}, {state.kept} of {state.pending} writes kept, "
                             f"{state.mark} acknowledged: {problem}")
                if fault:
                    break
    summary = ", ".join(f"{n} x tree {k}" for k, n in sorted(counts.items(), key=str))
    print(f"{title}: {total} crash states: {summary}; {len(wrong)} wrong", flush=True)
    for line in wrong[:10]:
        print(f"  {line}")
    return total, counts, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fs", choices=SIZES, default="ext4")
    parser.add_argument("--merged", action="store_true", help="a part of the tree cannot be written, and is merged")
    parser.add_argument("--merge", default="auto", choices=("auto", "overlay", "union"), help="with --merged: by which method")
    parser.add_argument("--states", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", help="a sync call to leave out, as in common/fault.h: sync-NAME=skip")
    parser.add_argument("--keep", help="folder to work in, kept afterwards")
    options = parser.parse_args()
    work = pathlib.Path(options.keep or tempfile.mkdtemp(prefix="moult-powercut-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        total, _, wrong = campaign(options.fs, options.states, options.seed, options.fault, work,
                                  scenarios.Merged(options.merge) if options.merged else scenarios.Written())
    finally:
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)
    if options.fault:
        print("noticed" if wrong else "NOT noticed")
        return 0 if wrong else 1
    if total < options.states:
        # Short runs of writes have few subsets: a larger --states gets more out of the long ones.
        print(f"only {total} states were there, {options.states} were asked for")
    return 1 if wrong or total < options.states else 0


if __name__ == "__main__":
    sys.exit(main())
