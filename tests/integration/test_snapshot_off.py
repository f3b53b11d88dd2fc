"""Snapshots of VMs that are off: the top of each disk is copied. What the copies hold, what is left when moultd is killed at any step, and
what becomes of a VM that is started meanwhile. A real QEMU without a guest; what a guest would have written is written by qemu-io."""

import contextlib
import os
import pathlib
import shutil

import pytest

from disk_machine import SIZE, qemu_img, qemu_io
from snapshot_lab import SOAK, add, begin_and_die, create_here as create, held, layer_path, release, rows, settled, wait_jobs

KINDS = ("drive",)
WHY = "the VM was off"


def write(machine, at, pattern):
    """By a guest that ran in between."""
    qemu_io(machine.disk, f"write -q -P {pattern} {at}M 1M")
    machine.written[at] = pattern


def refused(host, text, *more):
    code, _, err = host.run("snapshot", "create", "web-1", "--no-upload", *more)
    assert code != 0 and text in err, err


def test_every_restore_point_is_what_the_disk_was_whether_the_vm_ran_or_not(host, machine, tmp_path):
    references, taken = {}, {}

    def snapshot(name):
        references[name] = dict(machine.written)
        taken[name] = host.json("snapshot", "create", "web-1", "--name", name)["result"]
        wait_jobs(host)

    machine.write(0, 1)
    snapshot("running")
    machine.write(1, 2)
    machine.kill()
    top = os.stat(machine.disk).st_ino
    snapshot("off")
    assert taken["off"]["grade"] == "crash" and WHY in taken["off"]["why"] and not taken["off"]["running"]
    write(machine, 1, 3)
    write(machine, 2, 3)
    snapshot("off-again")
    # The disk is the same file; the copies stand beside it, on what it stands on.
    assert os.stat(machine.disk).st_ino == top
    machine.start()
    assert machine.chain_length() == 3
    machine.write(3, 4)
    snapshot("running-again")
    machine.write(0, 5)
    assert machine.chain_length() == 4
    for name, reference in references.items():
        machine.expect(layer_path(machine, taken[name]), reference)
        host.moult("snapshot", "export", "web-1", name, "--output", tmp_path / f"{name}.qcow2")
        machine.expect(tmp_path / f"{name}.qcow2", reference)
    assert all(s["uploaded"] for s in host.json("snapshot", "list", "web-1"))
    # From the store alone: none of the files is here.
    machine.kill()
    host.stop()
    rows(host, "UPDATE layers SET file = NULL, file_on = NULL WHERE vm IS NOT NULL")
    host.start()
    for name, reference in references.items():
        done = host.json("snapshot", "export", "web-1", name, "--output", tmp_path / f"{name}-store.qcow2")["result"]
        assert done["from"] == "store"
        machine.expect(tmp_path / f"{name}-store.qcow2", reference)


def test_back_to_a_copy_and_back_from_there(host, machine):
    machine.write(0, 1)
    create(host, "one")
    machine.write(1, 2)
    machine.kill()
    off = dict(machine.written)
    create(host, "off")
    write(machine, 1, 3)
    last = dict(machine.written)
    before = host.json("snapshot", "rollback", "web-1", "--to", "off")["result"]["before"]
    machine.expect(machine.disk, off)
    machine.written = dict(off)
    write(machine, 4, 4)
    # A copy of a disk that was rolled back.
    branch = dict(machine.written)
    create(host, "branch")
    wait_jobs(host)
    host.moult("snapshot", "rollback", "web-1", "--to", before)
    machine.expect(machine.disk, last)
    wait_jobs(host)
    host.moult("snapshot", "rollback", "web-1", "--to", "branch")
    machine.expect(machine.disk, branch)
    machine.written = dict(branch)
    machine.start()
    assert machine.chain_length() <= 4
    machine.write(5, 5)
    running = dict(machine.written)
    taken = create(host, "running")
    machine.expect(layer_path(machine, taken), running)
    machine.kill()


def test_a_disk_that_no_snapshot_was_taken_of(tmp_path, host, machine):
    machine.kill()
    before = machine.layers()
    refused(host, "which disks it has is not known")
    # What stands on another image is known by its QEMU alone.
    refused(host, "stands on another image", "--disk", machine.disk)
    raw = tmp_path / "raw.img"
    raw.write_bytes(bytes(SIZE))
    refused(host, "is no qcow2 image", "--disk", raw)
    refused(host, "no-such-disk", "--disk", tmp_path / "no-such-disk.qcow2")
    refused(host, "nobody to quiesce", "--require-quiesce", "--disk", machine.disk)
    assert machine.layers() == before
    # One that stands alone.
    machine.disk.unlink()
    qemu_img("create", "-q", "-f", "qcow2", machine.disk, str(SIZE))
    machine.written = {}
    write(machine, 0, 1)
    reference = dict(machine.written)
    taken = create(host, "first", "--disk", machine.dir / "." / machine.disk.name)
    assert taken["disks"][0]["path"] == str(machine.disk)
    write(machine, 0, 2)
    again = dict(machine.written)
    second = create(host, "second")  # it is known now
    machine.expect(layer_path(machine, taken), reference)
    machine.expect(layer_path(machine, second), again)
    host.moult("snapshot", "upload", "web-1", "second")
    host.moult("snapshot", "rollback", "web-1", "--to", "first")
    machine.expect(machine.disk, reference)
    machine.written = dict(reference)
    machine.start()
    machine.write(1, 3)
    running = dict(machine.written)
    third = create(host, "third")
    assert third["disks"][0]["device"] == "disk0"
    machine.expect(layer_path(machine, third), running)
    machine.kill()
    code, _, err = host.run("snapshot", "create", "web-1", "--disk", "other")
    assert code != 0 and "has no disk other" in err and "disk0" in err


def test_refusals_change_nothing(host, machine):
    machine.write(0, 1)
    create(host, "one")
    machine.write(1, 2)
    machine.kill()
    before, inode = machine.layers(), os.stat(machine.disk).st_ino
    # Somebody has it open, whose monitor nobody knows.
    with vms_holder(machine):
        refused(host, "is in use")
    # Another file at the path.
    moved = machine.dir / "moved"
    os.rename(machine.disk, moved)
    shutil.copy(moved, machine.disk)
    refused(host, "somebody else has changed it")
    os.rename(moved, machine.disk)
    # Another chain below.
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", machine.base, "-F", "qcow2", machine.disk)
    refused(host, "stands on another file")
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", layer_path(machine, host.json("snapshot", "list", "web-1")[0]), "-F", "qcow2", machine.disk)
    assert machine.layers() == before and os.stat(machine.disk).st_ino == inode
    machine.expect(machine.disk, machine.written)
    create(host, "two")


@contextlib.contextmanager
def vms_holder(machine):
    """A QEMU that moultd does not know."""
    kept, machine.qmp_socket = machine.qmp_socket, f"{machine.sockets.name}/unknown"
    machine.start()
    yield
    machine.kill()
    machine.qmp_socket = kept


def test_no_space_leaves_nothing(machine, new_host):
    host = new_host
    host.start({"MOULT_FAULT": "layer-copy=enospc"})
    add(host, machine)
    machine.write(0, 1)
    create(host, "one")
    machine.kill()
    before = machine.layers()
    refused(host, "No space left", "--name", "two")
    assert machine.layers() == before
    assert [s["name"] for s in host.json("snapshot", "list")] == ["one"]
    taken = create(host, "two")
    machine.expect(layer_path(machine, taken), machine.written)


def held_in_create(host, hold, name):
    return held(host, hold, "snapshot", "create", "web-1", "--no-upload", "--name", name)


@pytest.mark.parametrize(("point", "stays"), [
    *((p, s) for p in ("layer-copy", "layer-copying", "layer-copied", "snapshot-copied") for s in (True, False)
      if SOAK or (p, s) in (("layer-copying", True), ("layer-copied", False), ("snapshot-copied", False)))])
def test_a_vm_that_is_started_meanwhile_is_not_kept_from_it(tmp_path, machine, point, stays, new_host):
    hold = tmp_path / "hold"
    host = new_host
    host.start({"MOULT_FAULT": f"{point}=hold", "MOULT_FAULT_HOLD": str(hold)})
    add(host, machine)
    machine.write(0, 1)
    create(host, "one")
    machine.write(1, 2)
    machine.kill()
    before = machine.layers()
    command = held_in_create(host, hold, "two")
    machine.start()
    machine.write(2, 3)
    if not stays:
        machine.kill()
    release(host, hold, command)
    assert machine.layers() == before
    assert [s["name"] for s in host.json("snapshot", "list", "web-1")] == ["one"]
    [failed] = [j for j in host.json("jobs", "--all") if j["kind"] == "snapshot-create" and j["state"] == "failed"]
    assert "ask again" in failed["error"]["text"]
    reference = dict(machine.written)
    taken = create(host, "three")
    machine.expect(layer_path(machine, taken), reference)
    assert taken["running"] == stays


def two_disks(machine):
    """The second one's path."""
    second = machine.dir / "data.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", second, str(SIZE))
    machine.kill()
    machine.more = ["-drive", f"file={second},format=qcow2,if=virtio,id=disk1"]
    machine.start()
    return second


def test_several_disks_are_of_one_instant(tmp_path, machine, new_host):
    """The second one is written to after the first was copied: there is no snapshot of such a state."""
    hold = tmp_path / "hold"
    second = two_disks(machine)
    host = new_host
    host.start({"MOULT_FAULT": "layer-copied=hold", "MOULT_FAULT_HOLD": str(hold)})
    add(host, machine)
    machine.write(0, 1)
    assert len(create(host, "one")["disks"]) == 2
    machine.kill()
    before = sorted(p.name for p in machine.dir.iterdir() if ".moult-" in p.name)
    command = held_in_create(host, hold, "two")
    qemu_io(second, "write -q -P 7 0 1M")
    release(host, hold, command)
    assert sorted(p.name for p in machine.dir.iterdir() if ".moult-" in p.name) == before
    assert [s["name"] for s in host.json("snapshot", "list", "web-1")] == ["one"]
    taken = create(host, "three")
    assert [d["device"] for d in taken["disks"]] == ["disk0", "disk1"]
    qemu_io(second, "write -q -P 8 0 1M")
    machine.expect(layer_path(machine, taken), machine.written)
    qemu_io(layer_path(machine, taken, 1), "read -q -P 7 0 1M", options=("-r", "-U"))
    # One of both.
    only = create(host, "four", "--disk", second)
    assert [d["device"] for d in only["disks"]] == ["disk1"]
    qemu_io(layer_path(machine, only), "read -q -P 8 0 1M", options=("-r", "-U"))
    # The VM does not have it any more.
    second.unlink()
    refused(host, "If the VM does not have the disk disk1 any more")
    assert [d["device"] for d in create(host, "five", "--disk", "disk0")["disks"]] == ["disk0"]


def test_a_copy_that_is_given_up(tmp_path, machine, new_host):
    hold = tmp_path / "hold"
    host = new_host
    host.start({"MOULT_FAULT": "layer-copying=hold", "MOULT_FAULT_HOLD": str(hold)})
    add(host, machine)
    machine.write(0, 1)
    create(host, "one")
    machine.write(1, 1)
    machine.kill()
    before = machine.layers()
    command = held_in_create(host, hold, "two")
    [job] = [j for j in host.json("jobs") if j["kind"] == "snapshot-create"]
    host.moult("jobs", "cancel", job["id"])
    release(host, hold, command)
    [ended] = [j for j in host.json("jobs", "--all") if j["id"] == job["id"]]
    assert ended["state"] == "cancelled" and machine.layers() == before


POINTS = ("snapshot-off", "layer-copy", "layer-copying", "layer-copied", "snapshot-copied")


@pytest.mark.parametrize("started", [False, True], ids=["stays-off", "is-started"])
def test_killed_at_each_point(machine, started, new_host):
    host = new_host
    host.start()
    add(host, machine)
    machine.write(0, 1)
    create(host, "one")
    for n, point in enumerate(POINTS if SOAK else POINTS[2:3] if started else POINTS[2:]):
        if machine.process.poll() is None:
            machine.kill()
        write(machine, n + 1, n + 2)
        before, reference = set(machine.layers()), dict(machine.written)
        host.kill()
        host.start({"MOULT_FAULT": f"{point}=kill"})
        assert begin_and_die(host, "snapshot", "create", "web-1", "--name", point, "--no-upload"), point
        if started:
            machine.start()
            machine.write(14, n)
        host.start()
        settled(host)
        listed = {s["name"]: s for s in host.json("snapshot", "list", "web-1")}
        if started:
            assert point not in listed and set(machine.layers()) == before, point
            assert machine.running()
        else:  # it is begun anew
            assert set(machine.layers()) == before | {listed[point]["disks"][0]["layer"]}, point
            machine.expect(layer_path(machine, listed[point]), reference)
        machine.expect(machine.disk, machine.written)


def test_killed_before_the_first_one_is_through(machine, new_host):
    """A disk gets a name of its own, and has none again when there is no snapshot."""
    machine.kill()
    machine.disk.unlink()
    qemu_img("create", "-q", "-f", "qcow2", machine.disk, str(SIZE))
    machine.written = {}
    host = new_host
    host.start({"MOULT_FAULT": "layer-copied=kill"})
    add(host, machine)
    assert begin_and_die(host, "snapshot", "create", "web-1", "--disk", str(machine.disk))
    assert len(machine.layers()) == 2
    machine.start()
    machine.write(0, 1)
    host.start()
    settled(host)
    assert machine.layers() == [] and host.json("snapshot", "list") == []
    assert pathlib.Path(machine.disk).stat().st_nlink == 1
    machine.expect(machine.disk, machine.written)
