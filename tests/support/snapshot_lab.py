"""What tests of snapshots have in common: a moultd that knows one VM, "web-1" (a disk_machine.Machine), its commands, and how it is waited for."""

import contextlib
import os
import pathlib
import select
import sqlite3
import time

import vm as vms

SOAK = bool(os.environ.get("MOULT_SOAK"))
SEED = os.environ.get("MOULT_SEED", "1")


def add(host, machine):
    host.moult("vm", "add", "web-1", "--qmp", machine.qmp_socket, "--agent", machine.no_agent)


# -- restore points

def create(host, name, *more):
    """What begins by itself after it (an upload, then a merge) goes on: wait_jobs()."""
    return host.json("snapshot", "create", "web-1", "--name", name, *more)["result"]


def create_here(host, name, *more):
    """It stays on this host: what is in a store is merged by itself, and is not kept here."""
    return create(host, name, "--no-upload", *more)


def layer_path(machine, snapshot, disk=0):
    return machine.dir / snapshot["disks"][disk]["layer"]


def objects(host, kind):
    return sorted(p for p in (pathlib.Path(host.state) / "objects" / kind).rglob("*") if p.is_file())


def rows(host, sql, *values):
    """Of the catalogue. Who changes it does so while moultd does not run, or knows what it does."""
    with contextlib.closing(sqlite3.connect(host.state / "catalogue.db")) as db:
        found = db.execute(sql, values).fetchall()
        db.commit()
        return found


# -- waiting

def until(condition, what, host=None):
    """For what nobody announces (a file that comes or goes)."""
    deadline = vms.Deadline(60, what)
    while not condition():
        assert host is None or host.process.poll() is None, f"moultd ended while the test waited for {what}"
        deadline.left()
        time.sleep(0.02)


def wait_jobs(host):
    """Everything that is under way has ended, and what that has begun."""
    while jobs := host.json("jobs"):
        for job in jobs:
            host.run("jobs", "wait", job["id"])


def settled(host, kind="snapshot-create"):
    """The jobs of this kind, once all of any kind have ended."""
    wait_jobs(host)
    return [j for j in host.json("jobs", "--all") if j["kind"] == kind]


def first_end(*processes, what="the end of a process", limit_s=120):
    """Until one of them has ended."""
    with contextlib.ExitStack() as stack:
        ends = select.poll()
        for p in processes:
            if p.poll() is not None:
                return
            fd = os.pidfd_open(p.pid)
            stack.callback(os.close, fd)
            ends.register(fd, select.POLLIN)
        if not ends.poll(limit_s * 1000):
            raise vms.VmError(f"no {what} within {limit_s} s")


def begin_and_die(host, *words):
    """Begins a command; whether moultd was killed in it, or it came to its end."""
    command = host.spawn(*words)
    first_end(host.process, command, what=f"end of moultd, or of `moult {' '.join(words)}`")
    died = host.process.poll() is not None
    if died:
        command.kill()  # it waits for a moultd that comes back
    command.communicate()
    return died


def held(host, hold, *words):
    """A command that stands at moultd's fault point (`=hold`), until the file @hold is removed."""
    command = host.spawn(*words)
    until(hold.exists, f"the held moment of `moult {' '.join(words)}`", host)
    return command


def release(host, hold, command):
    hold.unlink()
    command.wait(120)
    settled(host)
