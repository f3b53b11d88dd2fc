"""The time line of a VM: its restore points, and what was pushed between them. The guest is an agent beside us, whose disk is a file."""

import datetime

import pytest

import agent_lab
import moult
from disk_machine import qemu_img


@pytest.fixture
def host(tmp_path):
    with moult.Host(tmp_path / "host", tls=True) as daemon:
        daemon.public = daemon.new_key()
        yield daemon


@pytest.fixture
def machine(host, tmp_path):
    with agent_lab.Machine(tmp_path / "guest", host, "web-1") as guest:
        guest.wait_for(" agent-connected:")
        yield guest


def create(host, name, *more):
    return host.json("snapshot", "create", "web-1", "--name", name, "--no-upload", *more)["result"]


def test_what_was_pushed_is_between_the_restore_points(host, machine, tmp_path):
    disk = tmp_path / "web-1.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", disk, "3M")
    tree = tmp_path / "tree-of-2"
    (tree / "srv").mkdir(parents=True)
    (tree / "srv/version").write_text("2\n")
    before = host.release(tree, None, name="app", version="2")
    host.moult("push", before, "web-1")  # older than the first restore point: between none
    assert host.json("snapshot", "list", "web-1") == []
    create(host, "one", "--disk", disk)
    host.moult("push", before, "web-1", "--dry-run")
    host.moult("rollback", "web-1")
    two = create(host, "two")
    broken = agent_lab.release(host, tmp_path, "#!/bin/sh\nexit 3\n", version="3")
    assert host.run("push", broken, "web-1")[0] != 0
    host.moult("push", before, "web-1")
    lines = host.json("snapshot", "list", "web-1")
    seen = [(e["kind"], e.get("name") or e["version"], e["state"]) for e in reversed(lines)]
    assert seen == [("snapshot", "one", "taken"), ("rollback", None, "done"), ("snapshot", "two", "taken"),
                    ("push", "3", "rolled-back"), ("push", "2", "done")], seen
    times = [datetime.datetime.fromisoformat(e["time"]) for e in lines]
    assert times == sorted(times, reverse=True)
    assert {k: lines[2][k] for k in two} == two and lines[2]["size_bytes"] == 3 << 20 and lines[2]["stored_bytes"] == 0
    assert lines[1]["error"]["text"]
    assert lines[0]["release"] == "app" and lines[0]["error"] is None and lines[0]["final"]
    table = host.moult("snapshot", "list", "web-1")
    rows = [line.split() for line in table.splitlines()]
    assert [row[1:4] for row in rows[1:]] == [["push", "app=2", "done"], ["push", "app=3", "rolled-back"], ["snapshot", "two", "taken"],
                                              ["rollback", "generation", rows[4][3]], ["snapshot", "one", "taken"]], table
    assert "3.0 MiB" in table
    assert [s["name"] for s in host.json("snapshot", "list")] == ["two", "one"]  # of all VMs: restore points only
    host.moult("vm", "remove", "web-1")
    assert host.json("snapshot", "list", "web-1") == lines  # they outlive it
