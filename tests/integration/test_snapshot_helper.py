"""Snapshots by a moultd that may not touch a disk's directory, as the packages set it up: moult-disks changes the files, as a user of
its own with two capabilities. The VM, its disk and its directory belong to a third user."""

import contextlib
import os
import pathlib
import subprocess
import tempfile
import time

import pytest

import moult
import snapshot_lab as lab
import vm as vms
from disk_machine import MIB, SIZE, Machine, qemu_img, qemu_io

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes processes of several users")

MOULTD_USER, QEMU_USER, HELPER_USER = 64701, 64702, 64703
CAPABILITIES = "+dac_override,+chown"


class Helper:
    """moult-disks behind its socket, as its units have it. What is in the file `fault` is the next process's MOULT_FAULT."""

    def __init__(self, directory, directories):
        self.dir, self.process = pathlib.Path(directory), None
        self.config, self.fault, self.log = self.dir / "disks.conf", self.dir / "fault", self.dir / "disks.log"
        self.socket = self.dir / "disks.sock"
        self.program, self.locks, self.hold = self.dir / "start", self.dir / "locks", self.dir / "hold"
        self.dir.chmod(0o777)
        self.locks.mkdir()
        os.chown(self.locks, HELPER_USER, HELPER_USER)
        self.list(directories)
        self.program.write_text(
            f"""#!/bin/sh
if [ -e {self.fault} ]; then MOULT_FAULT=$(cat {self.fault}) MOULT_FAULT_HOLD={self.hold} && export MOULT_FAULT MOULT_FAULT_HOLD && rm {self.fault}; fi
exec setpriv --reuid={HELPER_USER} --regid={HELPER_USER} --clear-groups --inh-caps=-all,{CAPABILITIES} --ambient-caps=-all,{CAPABILITIES} \\
        --bounding-set=-all,{CAPABILITIES} --no-new-privs {moult.MOULT_DISKS} --config {self.config} --run-dir {self.locks} --user {MOULTD_USER} 2>>{self.log}
""")
        self.program.chmod(0o755)

    def list(self, directories):
        self.config.write_text(f"[moult-disks]\ndirectories = {';'.join(map(str, directories))}\n")

    def start(self):
        self.process = subprocess.Popen(["systemd-socket-activate", "--seqpacket", "--accept", "--inetd", "-l", str(self.socket), str(self.program)],
                                        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=vms._die_with_parent,
                                        env={"PATH": os.environ["PATH"]})
        deadline = vms.Deadline(60, "the socket of moult-disks")
        while not self.socket.exists():
            assert self.process.poll() is None
            deadline.left()
            time.sleep(0.02)  # nobody announces a listening socket
        os.chown(self.socket, MOULTD_USER, MOULTD_USER)
        self.socket.chmod(0o600)
        return self

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()

    def is_waited_for(self):
        """One of its processes waits for a lock that another one has."""
        inodes = {str(p.stat().st_ino) for p in self.locks.iterdir()}
        waiters = [line.split() for line in pathlib.Path("/proc/locks").read_text().splitlines() if "-> FLOCK" in line]
        return any(words[-3].split(":")[-1] in inodes for words in waiters)

    def said(self):
        return self.log.read_text() if self.log.exists() else ""


@pytest.fixture
def place():
    """A directory that other users can reach."""
    with tempfile.TemporaryDirectory(prefix="moult-helper-", dir="/tmp") as d:
        os.chmod(d, 0o755)
        yield pathlib.Path(d)


@pytest.fixture
def machine(place):
    vms_dir = place / "vms"
    vms_dir.mkdir()
    m = Machine(vms_dir, "drive")
    m.user = QEMU_USER
    os.chmod(m.disk, 0o600)
    for path in (vms_dir, m.base, m.disk, m.sockets.name):
        os.chown(path, QEMU_USER, QEMU_USER)
    vms_dir.chmod(0o711)
    os.chmod(m.sockets.name, 0o711)
    start(m)
    yield m
    if m.process.poll() is None:
        m.kill()


def start(m):
    m.start()
    os.chmod(m.qmp_socket, 0o666)


@pytest.fixture
def helper(place, machine):
    (place / "helper").mkdir()
    h = Helper(place / "helper", [machine.dir])
    yield h.start()
    h.stop()
    assert "Sanitizer" not in h.said()


@pytest.fixture
def host(place, machine, helper):
    h = moult.Host(place / "host", options=("--disk-helper", helper.socket, "--shared-store", "none"), user=MOULTD_USER)
    h.start()
    lab.add(h, machine)
    yield h
    h.stop()


def refused(host, *texts):
    code, _, err = host.run("snapshot", "create", "web-1")
    assert code != 0 and all(t in err for t in texts), err


def test_a_snapshot_of_a_disk_of_somebody_elses(host, machine, helper):
    machine.write(0, 1)
    references = []
    for n, name in enumerate(("one", "two")):
        references.append(dict(machine.written))
        assert lab.create_here(host, name)["state"] == "taken"
        assert machine.running() and machine.chain_length() == n + 3
        machine.write(n + 1, n + 2)
    for s, reference in zip(reversed(host.json("snapshot", "list", "web-1")), references):
        machine.expect(machine.dir / s["disks"][0]["layer"], reference)
    files = [machine.disk, *(machine.dir / name for name in machine.layers())]
    assert len(files) == 4
    assert {(f.stat().st_uid, f.stat().st_gid, f.stat().st_mode & 0o7777) for f in files} == {(QEMU_USER, QEMU_USER, 0o600)}
    assert "the new top was made" in helper.said()
    machine.kill()
    machine.expect(machine.disk, machine.written)


def test_without_it_or_where_it_may_not_nothing_changes_and_it_is_said_what_to_do(host, machine, helper, place):
    machine.write(0, 1)
    names = sorted(os.listdir(machine.dir))
    helper.list([place / "elsewhere"])
    refused(host, f"moult-disks may not change files in {machine.dir}", "disks.conf", "ReadWritePaths=")
    helper.list([])
    refused(host, f"moult-disks may not change files in {machine.dir}")
    helper.config.write_text("[moult-disks]\nwrong = 1\n")
    refused(host, str(helper.config), "there is only the setting")
    helper.list([machine.dir])
    helper.config.chmod(0o666)
    refused(host, "others than root can change it")
    helper.config.chmod(0o644)
    helper.stop()
    refused(host, f"moultd may not open or change files in {machine.dir} itself", "systemctl enable --now moult-disks.socket")
    assert sorted(os.listdir(machine.dir)) == names and machine.running()
    # None of it is left to be settled.
    assert all(j["final"] for j in host.json("jobs", "--all"))
    assert host.json("snapshot", "list", "web-1") == []
    helper.start()
    lab.create_here(host, "one")


def test_a_moultd_that_may_do_it_asks_nobody(place, machine, helper):
    """One of the disks' owner; its helper is never asked."""
    h = moult.Host(place / "own", options=("--disk-helper", helper.socket, "--shared-store", "none"), user=QEMU_USER)
    with h:
        lab.add(h, machine)
        lab.create_here(h, "one")
    assert helper.said() == ""


def test_nobody_else_is_served(machine, helper):
    # Past the socket's mode: whoever has got a connection all the same.
    helper.socket.chmod(0o666)
    words = ("import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.connect(sys.argv[1])\n"
             "s.settimeout(60)\nsys.stdout.buffer.write(s.recv(65536))\nassert s.recv(65536) == b''\n")
    done = subprocess.run(["/usr/bin/python3", "-c", words, str(helper.socket)], check=True, capture_output=True, user=QEMU_USER, group=QEMU_USER,
                          extra_groups=[])
    assert b"works for moultd's user" in done.stdout
    helper.socket.chmod(0o600)
    done = subprocess.run(["/usr/bin/python3", "-c", words, str(helper.socket)], check=False, capture_output=True, user=QEMU_USER, group=QEMU_USER,
                          extra_groups=[])
    assert done.returncode != 0 and b"PermissionError" in done.stderr


def test_it_needs_no_more_than_it_is_given(machine, helper, host, place):
    """Without CAP_CHOWN it fails, with the reason, and goes back: the test above would see a capability too few."""
    helper.program.write_text(helper.program.read_text().replace(",+chown", ""))
    refused(host, "giving", "the owner of the disk", "Operation not permitted")
    assert machine.layers() == [] and machine.running()


def test_a_vm_that_is_off_is_copied_by_it_killed_or_given_up_or_not(host, machine, helper):
    machine.write(0, 1)
    lab.create_here(host, "one")
    machine.write(1, 2)
    machine.kill()
    helper.fault.write_text("layer-copying=kill")  # and asked again
    taken = lab.create_here(host, "off")
    assert not helper.fault.exists() and "the top was copied" in helper.said()
    copy = machine.dir / taken["disks"][0]["layer"]
    machine.expect(copy, machine.written)
    assert (copy.stat().st_uid, copy.stat().st_mode & 0o7777) == (QEMU_USER, 0o600)
    names = sorted(os.listdir(machine.dir))
    helper.fault.write_text("layer-copying=hold")
    command = host.spawn("snapshot", "create", "web-1", "--name", "two")
    deadline = vms.Deadline(60, "a moult-disks that holds")
    while not helper.hold.exists():
        deadline.left()
        time.sleep(0.02)
    [job] = host.json("jobs")
    host.moult("jobs", "cancel", job["id"])
    helper.hold.unlink()
    command.wait(120)
    lab.settled(host)
    assert sorted(os.listdir(machine.dir)) == names
    assert "moultd has gone meanwhile" in helper.said()


POINTS = ("layer-made", "layer-place", "layer-placed")


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize("point", POINTS)
def test_one_that_is_killed_is_asked_again(host, machine, helper, point, first):
    machine.write(0, 1)
    if not first:
        lab.create_here(host, "before")
        machine.write(1, 2)
    reference = dict(machine.written)
    helper.fault.write_text(f"{point}=kill")
    taken = lab.create_here(host, "one")
    assert not helper.fault.exists()
    machine.write(2, 3)
    machine.expect(machine.dir / taken["disks"][0]["layer"], reference)
    machine.kill()
    machine.expect(machine.disk, machine.written)


@pytest.mark.parametrize("point", POINTS)
def test_moultd_settles_when_it_is_killed_and_gone(host, machine, helper, point, place):
    """It dies, and nobody starts it again for a while: moultd knows that it knows nothing, and settles later."""
    machine.write(0, 1)
    lab.create_here(host, "before")
    reference = dict(machine.written)
    program = helper.program.read_text()
    once = program.replace("exec setpriv", f"MOULT_FAULT={point}=kill; export MOULT_FAULT\necho >>{place}/helper/died\nexec setpriv")
    helper.program.write_text(once)
    command = host.spawn("snapshot", "create", "web-1", "--name", "one")
    deadline = vms.Deadline(60, "a moult-disks that dies twice")
    while command.poll() is None and "snapshot-unsettled" not in host.log_text(100000):
        deadline.left()
        time.sleep(0.05)
    assert machine.running() and len((place / "helper/died").read_text()) >= 2
    helper.program.write_text(program)
    command.wait(120)
    lab.settled(host)
    assert machine.running()
    machine.write(2, 3)
    listed = {s["name"]: s for s in host.json("snapshot", "list", "web-1")}
    if "one" in listed:
        machine.expect(machine.dir / listed["one"]["disks"][0]["layer"], reference)
    else:
        known = {s["disks"][0]["layer"] for s in listed.values()}
        assert not [n for n in machine.layers() if n not in known and not os.path.samefile(machine.dir / n, machine.disk)]
    machine.kill()
    machine.expect(machine.disk, machine.written)


def test_the_next_moultd_does_not_look_before_the_last_ones_helper_has_ended(host, machine, helper):
    """moultd is killed while its moult-disks is about to give the disk's path away; it does that when the next moultd asks already."""
    machine.write(0, 1)
    lab.create_here(host, "before")
    helper.fault.write_text("layer-place=hold")
    command = host.spawn("snapshot", "create", "web-1", "--name", "one")
    deadline = vms.Deadline(60, "a moult-disks that holds")
    while not helper.hold.exists():
        deadline.left()
        time.sleep(0.02)
    host.kill()
    host.start()
    deadline = vms.Deadline(60, "one that waits for it")
    while not helper.is_waited_for():
        deadline.left()
        time.sleep(0.02)
    assert len(machine.layers()) == 4  # and the link that is about to be renamed
    helper.hold.unlink()
    command.wait(120)
    lab.settled(host)
    machine.write(2, 3)
    listed = host.json("snapshot", "list", "web-1")
    assert len(listed) + 1 == len(machine.layers())
    machine.kill()
    machine.expect(machine.disk, machine.written)


# -- the disk itself, through moult-disks' qemu-nbd

def disk_cat(helper, *words, hold=None):
    return subprocess.Popen([str(moult.HOST_BUILD / "tests/disk_cat"), str(helper.socket), *map(str, words)], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, user=MOULTD_USER, group=MOULTD_USER, extra_groups=[],
                            env=os.environ | ({"DISK_CAT_HOLD": str(hold)} if hold else {}), preexec_fn=vms._die_with_parent)


def said(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err.decode()


def qemu_nbds(machine):
    """What moult-disks has started for this machine's images."""
    found = []
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            links = [os.readlink(f) for f in (p / "fd").iterdir()]
            if (p / "comm").read_text() == "qemu-nbd\n" and any(link.startswith(str(machine.dir)) for link in links):
                found.append(p)
    return found


def test_a_layer_is_read_while_the_vm_runs(host, machine, helper):
    machine.write(0, 1)
    layer = machine.dir / lab.create_here(host, "one")["disks"][0]["layer"]
    machine.write(0, 2)
    chain = (f"{layer}:qcow2", f"{machine.base}:qcow2")
    assert said(disk_cat(helper, "read", 0, 4096, *chain)) == (0, b"\1" * 4096, "")
    assert said(disk_cat(helper, "read", 8 * MIB, 4096, *chain)) == (0, b"\x09" * 4096, "")
    # The chain is what was asked for, and not what the header says.
    assert said(disk_cat(helper, "read", 8 * MIB, 4096, chain[0])) == (0, bytes(4096), "")
    code, _, err = said(disk_cat(helper, "read", 0, 1, f"{machine.disk}:qcow2", *chain))
    assert code == 1 and "a QEMU (a running VM, qemu-img, qemu-nbd) writes to it" in err
    code, _, err = said(disk_cat(helper, "write", 0, "x", f"{machine.base}:qcow2"))
    assert code == 1 and "no layer's name" in err
    code, _, err = said(disk_cat(helper, "read", 0, 1, "/etc/shadow:raw"))
    assert code == 1 and "moult-disks may not" in err


def test_a_restore_point_is_mounted_through_it(host, machine, helper, place):
    machine.write(0, 1)
    lab.create(host, "one")
    machine.write(0, 2)
    [disk] = host.json("snapshot", "mount", "web-1", "one")["result"]["disks"]
    assert disk["from"] == "files" and len(qemu_nbds(machine)) == 1
    for _ in range(2):  # it does not end with its first client
        qemu_img("compare", "-f", "raw", "-F", "qcow2", disk["uri"], machine.dir / host.json("snapshot", "list", "web-1")[0]["disks"][0]["layer"])
    host.moult("snapshot", "unmount", "web-1")
    deadline = vms.Deadline(30, "the end of qemu-nbd")
    while qemu_nbds(machine):
        deadline.left()
    assert not list(pathlib.Path(f"{host.socket}.mounts").iterdir())


def test_a_layer_of_nobodys_is_written(host, machine, helper):
    lab.create_here(host, "one")
    made = machine.dir / f"{machine.disk.name}.moult-01HF7YBKBWB2NZVZDMR1TRA8XA-0.layer"
    qemu_img("create", "-q", "-f", "qcow2", made, str(SIZE))
    os.chown(made, QEMU_USER, QEMU_USER)
    made.chmod(0o600)
    assert said(disk_cat(helper, "write", 0, "A" * 512, f"{made}:qcow2")) == (0, b"", "")
    qemu_io(made, "read -q -P 65 0 512")
    assert (made.stat().st_uid, made.stat().st_mode & 0o777) == (QEMU_USER, 0o600)


def test_its_qemu_nbd_has_one_capability_and_ends_with_moultd_or_moult_disks(host, machine, helper, place):
    machine.write(0, 1)
    layer = machine.dir / lab.create_here(host, "one")["disks"][0]["layer"]
    hold = place / "host/hold"
    for end in ("moultd", "moult-disks", "nobody"):
        reader = disk_cat(helper, "read", 0, 16, f"{layer}:qcow2", f"{machine.base}:qcow2", hold=hold)
        deadline = vms.Deadline(60, "an open disk")
        while not hold.exists():
            assert reader.poll() is None, said(reader)
            deadline.left()
            time.sleep(0.02)
        [nbd] = qemu_nbds(machine)
        status = dict(line.split(":\t", 1) for line in (nbd / "status").read_text().splitlines() if ":\t" in line)
        assert int(status["CapEff"], 16) == 1 << 1 and status["Uid"].split()[0] == str(HELPER_USER) and status["NoNewPrivs"] == "1"
        if end == "moultd":
            reader.kill()
        elif end == "moult-disks":
            os.kill(int(status["PPid"]), 9)
        deadline = vms.Deadline(60, "the end of qemu-nbd")
        while end != "nobody" and qemu_nbds(machine):
            deadline.left()
            time.sleep(0.02)
        hold.unlink()
        code, out, err = said(reader)
        assert (code, out) == ({"moultd": -9, "moult-disks": 1, "nobody": 0}[end], b"\1" * 16 if end == "nobody" else b""), err
        if end == "moult-disks":
            assert "qemu-nbd was killed" in err
