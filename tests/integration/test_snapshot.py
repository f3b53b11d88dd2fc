"""Snapshots of a real QEMU's disks: what is in which file, what QEMU has open, and what is left when moultd or QEMU
is killed at any step. No guest runs in it; the disk is written to through QEMU's own block layer."""

import json
import os
import shutil

import pytest

from disk_machine import qemu_img
from snapshot_lab import SOAK, add, begin_and_die, create_here as create, held, settled, until

KINDS = ("drive", "blockdev")


def test_each_layer_holds_what_was_there_and_the_path_always_names_the_top(host, machine):
    machine.write(0, 1)
    references = []
    for n, name in enumerate(("one", "two")):
        references.append(dict(machine.written))
        taken = create(host, name)
        assert taken["state"] == "taken" and taken["grade"] == "crash" and "no agent is connected" in taken["why"]
        assert machine.running()
        top = machine.drive()["inserted"]["image"]["filename"]
        assert os.path.samefile(top, machine.disk) and top != str(machine.disk)
        assert str(machine.disk) not in machine.node_files()
        assert machine.chain_length() == n + 3
        machine.write(n + 1, n + 2)
        machine.write(0, 10 + n)
    listed = host.json("snapshot", "list", "web-1")
    assert [s["name"] for s in listed] == ["two", "one"]
    for s, reference in zip(reversed(listed), references):
        machine.expect(machine.dir / s["disks"][0]["layer"], reference)
    machine.kill()
    machine.expect(machine.disk, machine.written)
    machine.start()
    machine.write(5, 5)
    machine.expect(machine.disk, machine.written)


def test_a_block_job_finds_the_right_file(host, machine):
    """QEMU remembers names. Decoys have the names that it must not use; a commit writes into none of them."""
    machine.write(0, 1)
    layer = machine.dir / create(host, "one")["disks"][0]["layer"]
    machine.write(1, 2)
    top = machine.drive()["inserted"]
    kept = machine.dir / "kept.qcow2"
    os.rename(machine.disk, kept)  # QEMU does not need this name
    shutil.copy(machine.base, machine.disk)
    decoy = machine.disk.read_bytes()
    written = dict(machine.written)
    # The present top is committed into the layer below.
    machine.qmp.command("block-commit", **{"job-id": "j", "device": top["node-name"]})
    machine.qmp.wait_event("BLOCK_JOB_READY", match=lambda d: d["device"] == "j")
    machine.qmp.command("block-job-complete", device="j")
    machine.qmp.wait_event("BLOCK_JOB_COMPLETED", match=lambda d: d["device"] == "j")
    assert machine.disk.read_bytes() == decoy
    machine.expect(layer, written)
    assert json.loads(qemu_img("info", "-U", "--output=json", layer))["backing-filename"] == str(machine.base)
    machine.kill()


def test_names_disks_and_refusals(host, machine):
    assert create(host, "a")["name"] == "a"
    code, _, err = host.run("snapshot", "create", "web-1", "--name", "a")
    assert code != 0 and "has a snapshot named" in err
    code, _, err = host.run("snapshot", "create", "web-1", "--disk", "nothing")
    assert code != 0 and "has no disk nothing" in err and "disk0" in err
    code, _, err = host.run("snapshot", "create", "web-1", "--require-quiesce", "--name", "q")
    assert code != 0 and "no agent is connected" in err
    assert [s["name"] for s in host.json("snapshot", "list")] == ["a"]
    machine.write(3, 3)
    # What was refused after it was begun has gone back, in QEMU too.
    assert len(machine.layers()) == 2 and machine.chain_length() == 3
    assert not [n for n in machine.qmp.command("query-named-block-nodes", flat=True)
                if n["node-name"].startswith("moult-n-") and n["node-name"] != machine.drive()["inserted"]["node-name"]]
    os.rename(machine.disk, machine.dir / "moved")
    shutil.copy(machine.dir / "moved", machine.disk)
    code, _, err = host.run("snapshot", "create", "web-1", "--name", "b")
    assert code != 0 and "no QEMU holds its lock" in err
    host.moult("vm", "add", "domain-1", "--libvirt", "qemu+ssh://elsewhere/system", "--domain", "domain-1")
    code, _, err = host.run("snapshot", "create", "domain-1")
    assert code != 0 and "by a moultd there" in err
    machine.kill()
    code, _, err = host.run("snapshot", "create", "web-1", "--name", "c")
    assert code != 0 and "somebody else has changed it" in err


POINTS = ("snapshot-make", "layer-made", "snapshot-place", "layer-place", "layer-placed", "snapshot-freeze", "snapshot-stop",
          "snapshot-switch", "snapshot-switched", "snapshot-go-on")


def die_in(host, name):
    return begin_and_die(host, "snapshot", "create", "web-1", "--name", name, "--no-upload")


def test_a_vm_that_stands_is_not_continued_before_its_path_is_right(new_host, machine):
    """Killed right after the first switch, and the disk's directory is not what it was: nothing is done on a guess."""
    host = new_host
    host.start({"MOULT_FAULT": "snapshot-switched=kill"})
    add(host, machine)
    machine.write(0, 1)
    reference = dict(machine.written)
    assert die_in(host, "one")
    assert not machine.running()
    hidden = machine.dir / "hidden"
    os.rename(machine.disk, hidden)
    host.start()
    until(lambda: "snapshot-unsettled" in host.log_text(100000), "a look at the disk", host)
    assert not machine.running()
    code, _, err = host.run("vm", "remove", "web-1")
    assert code != 0 and "a snapshot of VM" in err
    os.rename(hidden, machine.disk)
    settled(host)
    assert machine.running()
    machine.write(1, 2)
    [snapshot] = host.json("snapshot", "list")
    assert snapshot["state"] == "taken"
    machine.expect(machine.dir / snapshot["disks"][0]["layer"], reference)
    machine.kill()
    machine.expect(machine.disk, machine.written)


def test_a_vm_that_is_started_anew_between_switch_and_path_loses_nothing(tmp_path, new_host, machine):
    """At the first snapshot the path is still the old top's when QEMU has the new one: a QEMU that was started from it writes there.
    (The model of tests/spin found it.)"""
    if machine.kind == "drive" and not SOAK:
        pytest.skip("only with --soak; of the other kind in every run")
    host, hold = new_host, tmp_path / "hold"
    host.start({"MOULT_FAULT": "snapshot-switched=hold", "MOULT_FAULT_HOLD": str(hold)})
    add(host, machine)
    machine.write(0, 1)
    command = held(host, hold, "snapshot", "create", "web-1", "--name", "one")
    machine.kill()
    machine.start()
    machine.write(1, 2)
    hold.unlink()
    command.wait(120)
    settled(host)
    machine.write(2, 3)
    machine.expect(machine.disk, machine.written)
    assert "one" not in [s["name"] for s in host.json("snapshot", "list")], "what it is would have been written to"
    machine.kill()
    machine.expect(machine.disk, machine.written)


def test_a_vm_that_is_started_anew_in_the_middle_loses_nothing(tmp_path, new_host, machine):
    """QEMU ends when its path is the new top's already, and is started from there before the switch is asked for."""
    host, hold = new_host, tmp_path / "hold"
    host.start()
    add(host, machine)
    machine.write(0, 1)
    create(host, "one")
    machine.write(1, 2)
    reference = dict(machine.written)
    host.kill()
    host.start({"MOULT_FAULT": "snapshot-switch=hold", "MOULT_FAULT_HOLD": str(hold)})
    command = held(host, hold, "snapshot", "create", "web-1", "--name", "two", "--no-upload")
    machine.kill()
    machine.start()
    machine.write(2, 3)
    hold.unlink()
    command.wait(120)
    settled(host)
    assert machine.running()
    machine.expect(machine.disk, machine.written)
    [two] = [s for s in host.json("snapshot", "list") if s["name"] == "two"]
    machine.expect(machine.dir / two["disks"][0]["layer"], reference)
    machine.write(3, 4)
    machine.kill()
    machine.expect(machine.disk, machine.written)


@pytest.mark.parametrize("qemu_dies", [False, True], ids=["qemu-lives", "qemu-dies"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_killed_at_each_point(new_host, machine, first, qemu_dies):
    if (machine.kind == "blockdev" or first == qemu_dies) and not SOAK:
        pytest.skip("only with --soak; of the other kind, the other way about, in every run")
    host = new_host
    host.start()
    add(host, machine)
    counts = {"taken": 0, "went back": 0}
    points = 0
    for point in POINTS:
        machine.renew().start()  # so that the chain does not grow too long
        machine.write(0, 1)
        if not first:
            create(host, f"{point}-before")
            machine.write(1, 2)
        host.kill()
        host.start({"MOULT_FAULT": f"{point}=kill"})
        reference = dict(machine.written)
        reached = die_in(host, point)
        points += reached
        if qemu_dies:
            machine.kill()
            machine.expect(machine.disk, reference)
            machine.start()
        if not reached:
            host.kill()  # its fault is for this point only
        host.start()
        settled(host)
        assert machine.running(), point
        machine.write(2, 3)
        machine.expect(machine.disk, machine.written)
        listed = {s["name"]: s for s in host.json("snapshot", "list", "web-1")}
        if point in listed:
            assert listed[point]["state"] == "taken"
            machine.expect(machine.dir / listed[point]["disks"][0]["layer"], reference)
            counts["taken"] += 1
        else:
            counts["went back"] += 1
            known = {s["disks"][0]["layer"] for s in listed.values()}
            extra = [n for n in machine.layers() if n not in known and not os.path.samefile(machine.dir / n, machine.disk)]
            assert not extra, f"{point}: {extra}"
        machine.kill()
        machine.expect(machine.disk, machine.written)
    print(f"killed at {points} of {len(POINTS)} points: {counts}")
    assert points >= 8 and counts["taken"] > 0 and counts["went back"] > 0
