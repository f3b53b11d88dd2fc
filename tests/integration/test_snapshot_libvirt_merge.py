"""History and the layer above it become one file below a domain of a real libvirtd: what libvirt, QEMU and the names of files say of it, also
when moultd, QEMU or libvirtd ends at any step. No guest runs in it; the disk is written to through QEMU's own block layer."""

import os

import pytest

import libvirt
import moult
from disk_machine import qemu_img
from domain_machine import DomainMachine, add
from snapshot_lab import SOAK, rows, settled, until
from snapshot_lab import create_here as create


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
    m.has_own_name()
    yield m
    m.drop()


@pytest.fixture
def host(tmp_path, machine):
    with moult.Host(tmp_path / "host") as h:
        add(h, machine)
        yield h


def merge(host):
    return host.json("snapshot", "merge", "web-1")["result"]["merged"]


def layer_file(host, name):
    """Where the restore point is the newest."""
    [s] = [s for s in host.json("snapshot", "list", "web-1") if s["name"] == name]
    layer = s["disks"][0]["layer"].split(".moult-")[1].removesuffix(".layer")
    [[file]] = rows(host, "SELECT file FROM layers WHERE id = ?", layer)
    return file


def swept(host, machine, count):
    until(lambda: len(machine.layers()) == count, f"only {count} files to be left", host)
    return machine.layers()


def two_layers(host, machine):
    """base, history, layer, top; what each restore point holds."""
    references = {}
    machine.write(0, 1)
    machine.write(1, 1)
    for n, name in enumerate(("one", "two")):
        references[name] = dict(machine.written)
        create(host, name)
        machine.write(1, 2 + n)
        machine.write(2 + n, 2 + n)
    assert len(machine.check() and machine.files()) == 4
    return references


def expect_points(host, machine, references):
    for name, written in references.items():
        machine.expect(layer_file(host, name), written)


def test_libvirt_knows_the_merged_chain_and_all_its_ways_go_on(host, machine, libvirtd):
    references = two_layers(host, machine)
    top = machine.files()[0]
    assert merge(host) == 1
    machine.check()
    assert machine.running() and len(machine.files()) == 3 and machine.files()[0] != top
    assert not os.path.exists(top)
    # Nothing is in a store: the older restore point keeps its file; what is above it is in the new one.
    assert layer_file(host, "two") == machine.files()[1]
    assert len(swept(host, machine, 3)) == 3
    expect_points(host, machine, references)
    for name in machine.layers():
        qemu_img("check", "-q", "-U", "-f", "qcow2", machine.dir / name)
    assert merge(host) == 0
    machine.write(4, 4)
    libvirtd.end()
    libvirtd.start()
    machine.check()
    # The chain has room again: creates, with merges where there is none, a managed save, a new start.
    for n, name in enumerate(("three", "four")):
        references[name] = dict(machine.written)
        create(host, name)
        machine.write(5 + n, 5 + n)
        machine.check()
        assert len(machine.files()) <= 4
    libvirtd.virsh("managedsave", "s")
    machine.start()
    machine.check()
    machine.again()
    machine.check()
    expect_points(host, machine, references)
    # And one that is off.
    machine.kill()
    assert merge(host) == 1
    machine.check()
    machine.start()
    machine.check()
    assert len(machine.files()) == 3
    code, _, err = host.run("snapshot", "rollback", "web-1", "--to", "two", "--restart")
    assert code != 0 and "libvirt" in err, err
    machine.kill()
    before = dict(machine.written)
    code, _, err = host.run("snapshot", "rollback", "web-1", "--to", "three")
    assert code == 0, err
    machine.written = dict(references["three"])
    machine.check()
    machine.start()
    machine.write(9, 9)
    machine.check()
    [back] = [s for s in host.json("snapshot", "list", "web-1") if s["name"].startswith("before-")]
    machine.expect(layer_file(host, back["name"]), before)


POINTS = ("merge-make", "merge-compared", "merge-next", "merge-next-copy", "merge-next-ready", "merge-stop", "merge-pivot", "merge-define",
          "merge-place", "merge-go-on", "merge-remove-top", "merge-record", "merge-recorded")
ENDS = ("", "again", "off", "libvirtd")
KILLS = [(point, ends) for point in POINTS for ends in ENDS] if SOAK else [
    ("merge-next-copy", "off"), ("merge-next-ready", ""), ("merge-pivot", "libvirtd"), ("merge-define", "again"), ("merge-go-on", ""),
    ("merge-place", "off")]


def begin_and_die(host):
    """moultd dies at its fault point; the command that waits for it is ended."""
    command = host.spawn("snapshot", "merge", "web-1")
    host.process.wait(120)
    command.kill()
    command.wait()


@pytest.mark.parametrize("point, ends", KILLS)
def test_moultd_is_killed_at_each_point(tmp_path, machine, libvirtd, point, ends):
    """The domain goes on as it is, is started anew from its definition, or is off; or libvirtd is started anew."""
    host = moult.Host(tmp_path / "host")
    host.start({"MOULT_FAULT": f"{point}=kill"})
    try:
        add(host, machine)
        references = two_layers(host, machine)
        begin_and_die(host)
        if not ends:
            machine.write(4, 4)  # QEMU does it also while its guest stands
        if ends == "libvirtd":
            libvirtd.process.kill()
            libvirtd.process.wait()
            libvirtd.start()
        elif ends:
            machine.kill()
            [defined] = machine.files("--inactive")[:1]
            machine.expect(defined, machine.written)
        if ends == "again":
            machine.start()
            machine.write(4, 4)
        host.start()
        settled(host)
        machine.check()
        if not machine.is_on():
            machine.start()
        machine.write(10, 60)
        machine.check()
        assert machine.running()
        merge(host)
        machine.check()
        assert len(machine.files()) == 3
        expect_points(host, machine, references)
        swept(host, machine, 3)
    finally:
        host.stop()
