"""Restore points that are mounted: what is read over NBD is what the disk was, and nothing is left. A real QEMU without a guest; the store is
a directory."""

import json
import os
import pathlib
import sqlite3
import subprocess

import pytest

import moult
import vm as vms
from disk_machine import MIB, SIZE, Machine, qemu_img

REFUSED, NOT_FOUND = 4, 3


@pytest.fixture
def machine(tmp_path):
    m = Machine(tmp_path, "drive").start()
    yield m
    if m.process.poll() is None:
        m.kill()


@pytest.fixture
def host(tmp_path, machine):
    h = moult.Host(tmp_path / "host", options=("--merge-after-upload", "no"))
    h.start()
    h.moult("vm", "add", "web-1", "--qmp", machine.qmp_socket, "--agent", machine.no_agent)
    yield h
    h.stop()


def create(host, name, *words):
    return host.json("snapshot", "create", "web-1", "--name", name, *words)["result"]


def wait_jobs(host):
    while jobs := host.json("jobs"):
        for job in jobs:
            host.run("jobs", "wait", job["id"])


def bytes_of(written):
    return b"".join(bytes([written.get(at, 0)]) * MIB for at in range(SIZE // MIB))


def read_all(uri, to):
    """All of it, by QEMU's client: as the guest sees it."""
    qemu_img("convert", "-f", "raw", "-O", "raw", uri, to)
    return to.read_bytes()


def nbds():
    found = subprocess.run(["pgrep", "-f", "-a", "qemu-nbd.*persistent"], check=False, capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in found.splitlines()]


def nbds_of(machine):
    return [p for p in nbds() if str(machine.dir) in pathlib.Path(f"/proc/{p}/cmdline").read_text(errors="replace")]


def left(host):
    return sorted(p.name for d in (pathlib.Path(f"{host.socket}.mounts"), host.state / "scratch") if d.exists() for p in d.iterdir())


@pytest.fixture
def two(host, machine):
    """A restore point in the store and in files, and one on it, in files only; the guest has gone on."""
    machine.write(0, 1)
    machine.references = [dict(machine.written)]
    create(host, "one")
    wait_jobs(host)
    machine.write(1, 2)
    machine.references.append(dict(machine.written))
    create(host, "two", "--no-upload")
    machine.write(0, 3)
    return machine


def test_what_is_mounted_is_what_the_disk_was_and_the_vm_goes_on(host, two, tmp_path):
    result = {name: host.json("snapshot", "mount", "web-1", name)["result"] for name in ("one", "two")}
    for name, reference in zip(("one", "two"), two.references):
        [disk] = result[name]["disks"]
        assert (disk["device"], disk["from"], disk["size_bytes"], disk["alive"]) == ("disk0", "files", SIZE, True)
        assert read_all(disk["uri"], tmp_path / f"{name}.raw") == bytes_of(reference)
        info = json.loads(qemu_img("info", "--output=json", "-f", "raw", disk["uri"]))
        assert info["virtual-size"] == SIZE
        denied = subprocess.run(["qemu-io", "-f", "raw", disk["uri"], "-c", "write 0 64k"], check=False, capture_output=True, text=True)
        assert denied.returncode != 0 and "Permission denied" in denied.stderr, denied  # by the server
        assert os.stat(disk["socket"]).st_mode & 0o777 == 0o660
    assert os.stat(f"{host.socket}.mounts").st_mode & 0o777 == 0o750
    two.write(2, 4)
    assert two.running()
    table = host.moult("snapshot", "mounts")
    assert [line.split()[:3] for line in table.splitlines()[1:]] == [["web-1", "one", "disk0"], ["web-1", "two", "disk0"]]
    out = host.moult("snapshot", "mount", "web-1", "two")  # once more: a mount of its own
    uri = next(line.strip() for line in out.splitlines() if "nbd+unix" in line)
    assert read_all(uri, tmp_path / "again.raw") == bytes_of(two.references[1])
    assert "guestmount --ro --format=raw" in out and "qemu-nbd --read-only --format=raw" in out and "nbdfuse" in out
    host.moult("snapshot", "unmount", "web-1", "two")
    assert [m["snapshot"] for m in host.json("snapshot", "mounts")] == ["one"] and len(nbds_of(two)) == 1
    host.moult("snapshot", "unmount", "web-1")
    assert host.json("snapshot", "mounts") == [] and nbds_of(two) == [] and left(host) == []
    code, _, err = host.run("snapshot", "unmount", "web-1")
    assert code == NOT_FOUND, err


def forget_files(host, machine, name):
    """As if the layer's file had gone: it is in the store only."""
    host.stop()
    db = sqlite3.connect(next(host.state.glob("*.db")))
    db.execute("UPDATE layers SET file = NULL, file_on = NULL WHERE id || '.layer' = ?", (name.split(".moult-")[1],))
    assert db.total_changes == 1
    db.commit()
    db.close()
    host.start()


def test_what_is_not_here_is_fetched_and_its_file_is_nobodys(host, two, tmp_path):
    listed = {s["name"]: s for s in host.json("snapshot", "list", "web-1")}
    forget_files(host, two, listed["one"]["disks"][0]["layer"])
    at = listed["one"]["taken"]
    result = host.json("snapshot", "mount", "web-1", at)["result"]  # by its time
    [disk] = result["disks"]
    assert (result["snapshot"], disk["from"]) == ("one", "store")
    assert read_all(disk["uri"], tmp_path / "one.raw") == bytes_of(two.references[0])
    assert left(host) == [f"{result['id']}-0"]  # the socket, and no file
    host.moult("snapshot", "unmount", "web-1")
    assert left(host) == []


def test_a_restore_point_that_is_mounted_is_not_removed(host, two, tmp_path):
    create(host, "three", "--no-upload")
    [disk] = host.json("snapshot", "mount", "web-1", "one")["result"]["disks"]
    code, out, err = host.run("snapshot", "remove", "web-1", "one")
    assert code == REFUSED and "it is mounted, until 'moult snapshot unmount'" in out + err, out + err
    kept = host.json("snapshot", "prune", "web-1", "--keep-last", "1")["result"]["kept"]
    assert [s["name"] for s in kept] == ["three", "one"] and "mounted" in kept[1]["reasons"][0]
    # A merge makes one file of both; what is mounted goes on being read from its own.
    host.moult("snapshot", "merge", "web-1")
    assert read_all(disk["uri"], tmp_path / "one.raw") == bytes_of(two.references[0])
    files = set(two.layers())
    host.moult("snapshot", "unmount", "web-1")
    host.moult("snapshot", "remove", "web-1", "one")
    assert set(two.layers()) <= files
    assert [s["name"] for s in host.json("snapshot", "list", "web-1")] == ["three"]


def test_what_cannot_be_had_is_said_and_nothing_is_left(host, two):
    code, out, err = host.run("snapshot", "mount", "web-1", "two", "--disk", "cd0")
    assert code == NOT_FOUND and "has no disk cd0" in out + err, out + err
    code, out, err = host.run("snapshot", "mount", "web-1", "nothing")
    assert code == NOT_FOUND and "has no snapshot" in err
    listed = {s["name"]: s for s in host.json("snapshot", "list", "web-1")}
    forget_files(host, two, listed["two"]["disks"][0]["layer"])
    code, out, err = host.run("snapshot", "mount", "web-1", "two")
    assert code != 0 and "cannot be had" in out + err
    layer = two.dir / listed["one"]["disks"][0]["layer"]
    with open(layer, "r+b") as f:  # what a hostile guest could not, but a bad disk can
        f.write(b"\0" * 64)
    code, out, err = host.run("snapshot", "mount", "web-1", "one")
    assert code != 0 and str(layer) in out + err
    assert left(host) == [] and nbds_of(two) == [] and host.json("snapshot", "mounts") == []
    assert two.running()


def test_one_whose_server_dies_is_told(host, two):
    host.moult("snapshot", "mount", "web-1", "two")
    [pid] = nbds_of(two)
    os.kill(pid, 9)
    deadline = vms.Deadline(120, "the death to be seen")
    while host.json("snapshot", "mounts")[0]["disks"][0]["alive"]:
        deadline.left()
    host.moult("snapshot", "unmount", "web-1")
    assert left(host) == []


@pytest.mark.parametrize("point", ["mount-open", "mount-opened", "layer-chunk-got", None])
def test_a_moultd_that_is_killed_leaves_nothing(tmp_path, machine, point):
    """And what it was about to mount is mounted by the next one."""
    host = moult.Host(tmp_path / "host", options=("--merge-after-upload", "no"))
    host.start()
    try:
        host.moult("vm", "add", "web-1", "--qmp", machine.qmp_socket, "--agent", machine.no_agent)
        machine.write(0, 1)
        name = create(host, "one")["disks"][0]["layer"]
        wait_jobs(host)
        reference = dict(machine.written)
        forget_files(host, machine, name)
        if point is None:
            host.moult("snapshot", "mount", "web-1", "one")
            host.kill()
        else:
            host.kill()
            host.start({"MOULT_FAULT": f"{point}=kill"})
            waiting = host.spawn("snapshot", "mount", "web-1", "one", "--detach")
            host.process.wait(300)
            waiting.kill()
            waiting.wait()
        deadline = vms.Deadline(120, "the end of qemu-nbd")
        while nbds_of(machine):
            deadline.left()
        host.start()
        wait_jobs(host)
        mounts = host.json("snapshot", "mounts")
        assert [m["snapshot"] for m in mounts] == ([] if point is None else ["one"])
        for m in mounts:
            assert read_all(m["disks"][0]["uri"], tmp_path / "one.raw") == bytes_of(reference)
        assert left(host) == [f"{m['id']}-0" for m in mounts]
    finally:
        host.kill()
