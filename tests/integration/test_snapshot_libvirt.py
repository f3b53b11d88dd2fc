"""Snapshots of domains of a real libvirtd: what libvirt believes of their disks after each step, and after kills. No guest runs in
them; the disks are written to through QEMU's own block layer."""

import os

import pytest

import libvirt
import moult
from disk_machine import qemu_img
from domain_machine import DomainMachine, add
from snapshot_lab import create_here as create
from snapshot_lab import settled


@pytest.fixture(scope="module")
def libvirtd(tmp_path_factory):
    daemon = libvirt.Libvirtd(tmp_path_factory.mktemp("lv"))
    try:
        yield daemon.start()
    finally:
        daemon.stop()


@pytest.fixture
def machine(libvirtd, tmp_path):
    m = DomainMachine(tmp_path, libvirtd).start()
    yield m
    m.drop()


@pytest.fixture
def host(tmp_path, machine):
    with moult.Host(tmp_path / "host") as h:
        add(h, machine)
        yield h


def prepare(host, machine):
    """The first one is refused, and needs one new start."""
    code, _, err = host.run("snapshot", "create", "web-1", "--name", "refused")
    assert code != 0 and "virsh shutdown" in err, err
    machine.again()
    return machine.check()


def test_a_domain_is_started_anew_once_and_libvirt_knows_each_new_top(host, machine, libvirtd):
    machine.write(0, 1)
    code, _, err = host.run("snapshot", "create", "web-1", "--name", "one")
    assert code != 0 and "virsh shutdown" in err, err
    assert machine.files()[0] == str(machine.disk) and os.path.samefile(machine.files("--inactive")[0], machine.disk)
    assert len(machine.layers()) == 1
    assert host.run("snapshot", "create", "web-1", "--name", "one")[0] != 0
    assert len(machine.layers()) == 1  # it has one name, however often that is asked
    machine.again()
    machine.check()
    references = {}
    for n, name in enumerate(("one", "two")):
        references[name] = dict(machine.written)
        taken = create(host, name)
        assert taken["state"] == "taken" and [d["device"] for d in taken["disks"]] == ["vda"]
        machine.check()
        machine.write(n + 1, n + 2)
        machine.write(0, 10 + n)
        libvirtd.end()
        libvirtd.start()
        machine.check()
    for s in host.json("snapshot", "list", "web-1"):
        machine.expect(machine.dir / s["disks"][0]["layer"], references[s["name"]])
    # libvirt's own ways go on: a saved image, a new start, a snapshot of its own and back from it.
    libvirtd.virsh("managedsave", "s")
    machine.start()
    machine.check()
    machine.again()
    machine.check()
    top = machine.files()[0]
    libvirtd.virsh("snapshot-create-as", "s", "--disk-only", "--no-metadata", "own", "--diskspec", "vdb,snapshot=no")
    machine.write(7, 7)
    libvirtd.virsh("blockcommit", "s", "vda", "--base", top, "--active", "--pivot", "--wait")
    machine.check()
    create(host, "three")  # history is merged first, for the room
    machine.check()
    assert len(machine.files()) == 4
    machine.kill()
    taken = create(host, "off")
    machine.expect(machine.dir / taken["disks"][0]["layer"], machine.written)
    machine.start()
    machine.check()


def test_refusals(host, machine, libvirtd):
    prepare(host, machine)
    host.moult("vm", "add", "remote", "--libvirt", libvirtd.tcp, "--domain", "s")
    code, _, err = host.run("snapshot", "create", "remote")
    assert code != 0 and "by a moultd there" in err, err
    # Somebody has QEMU's disk switched past libvirt.
    other = machine.dir / "other.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", machine.files()[0], "-F", "qcow2", other)
    node = machine.drive()["inserted"]["node-name"]
    libvirtd.monitor("s", "blockdev-snapshot-sync", **{"node-name": node, "snapshot-file": str(other), "snapshot-node-name": "o", "mode": "existing"})
    code, _, err = host.run("snapshot", "create", "web-1")
    assert code != 0 and "past libvirt" in err, err
    # The definition is another's.
    machine.again()
    xml = libvirtd.virsh("dumpxml", "--inactive", "s")
    libvirtd.define(xml.replace(machine.files("--inactive")[0], str(other)))
    before = machine.layers()
    code, _, err = host.run("snapshot", "create", "web-1", "--name", "changed")
    assert code != 0 and "somebody else has changed it" in err, err
    assert machine.layers() == before and os.path.samefile(machine.files()[0], machine.disk)
    libvirtd.define(xml)
    machine.check()


def roll_back(host, name):
    return host.run("snapshot", "rollback", "web-1", "--to", name)


@pytest.mark.parametrize("point", ["rollback-define", "rollback-place"] if os.environ.get("MOULT_SOAK") else ["rollback-place"])
def test_a_domain_is_rolled_back_in_one_step(tmp_path, machine, libvirtd, point):
    """Its definition is what counts: moultd is killed before, or after it was changed, and the domain started meanwhile."""
    machine.has_own_name()
    with moult.Host(tmp_path / "host") as host:
        add(host, machine)
        machine.write(0, 1)
        reference = dict(machine.written)
        create(host, "one")
        machine.write(0, 2)
        code, _, err = roll_back(host, "one")
        assert code != 0 and "runs: shut it down" in err, err
        libvirtd.virsh("managedsave", "s")
        code, _, err = roll_back(host, "one")
        assert code != 0 and "managedsave-remove" in err, err
        libvirtd.virsh("managedsave-remove", "s")
        host.stop()
        host.start({"MOULT_FAULT": f"{point}=kill"})
        command = host.spawn("snapshot", "rollback", "web-1", "--to", "one")
        host.process.wait(60)
        command.kill()
        command.wait()
        later = dict(machine.written)
        [defined] = machine.files("--inactive")
        machine.start()
        if point == "rollback-place":
            machine.expect(defined, reference)
            machine.written = dict(reference)
        machine.write(3, 3)
        host.start()
        settled(host)
        machine.check()
        listed = {s["name"]: s for s in host.json("snapshot", "list", "web-1")}
        [before] = [s for name, s in listed.items() if name.startswith("before-") and s["state"] == "taken"] or [None]
        assert (before is not None) == (point == "rollback-place"), listed
        if before:
            machine.expect(machine.dir / before["disks"][0]["layer"], later)
        machine.kill()
        code, _, err = roll_back(host, "one")
        assert code == 0, err
        machine.written = reference
        machine.check()
        machine.start()
        machine.write(4, 4)
        machine.check()


POINTS = ("snapshot-make", "snapshot-place", "layer-placed", "snapshot-define", "snapshot-freeze", "snapshot-switch", "snapshot-switched")
AFTER_DEFINE = ("snapshot-freeze", "snapshot-switch")  # a new start is one from the new top
KILLS = [(point, ends) for point in POINTS for ends in ("", "again", "off")] if os.environ.get("MOULT_SOAK") else [
    ("snapshot-define", "off"), ("snapshot-switch", "again"), ("snapshot-switched", "")]


def begin_and_die(host, name):
    """moultd dies at its fault point; the command that waits for it is ended."""
    command = host.spawn("snapshot", "create", "web-1", "--name", name, "--no-upload")
    host.process.wait(60)
    command.kill()
    command.wait()


@pytest.mark.parametrize("point, ends", KILLS)
def test_killed_at_each_point(tmp_path, machine, point, ends):
    """moultd is killed; the domain runs on, is started anew from its definition, or is off and was written to after that."""
    machine.has_own_name()
    host = moult.Host(tmp_path / "host")
    host.start({"MOULT_FAULT": f"{point}=kill"})
    try:
        add(host, machine)
        machine.write(0, 20)
        reference = dict(machine.written)
        begin_and_die(host, "killed")
        if ends:
            machine.again()
            machine.write(9, 40)
        if ends == "off":
            machine.kill()
        host.start()
        settled(host)
        machine.check()
        if not machine.is_on():
            machine.start()
        machine.write(10, 60)
        machine.check()
        [s] = [s for s in host.json("snapshot", "list", "web-1") if s["name"] == "killed"] or [None]
        switched = point == "snapshot-switched" or (ends != "" and point in AFTER_DEFINE)
        assert bool(s and s["state"] == "taken") == switched, s
        if switched and not ends:
            machine.expect(machine.dir / s["disks"][0]["layer"], reference)
    finally:
        host.stop()
