"""A freeze with a real agent, real file systems in loop devices, and a host that speaks the protocol: in a mount namespace of its own, and with
a list of mounts that has nothing of this machine."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

import agent_host
import moult
import vm as vms

AGENT = moult.HOST_BUILD / "guest-agent/moult-agent"
ID, OTHER = bytes(range(16)), bytes(range(1, 17))

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="needs root and loop devices")


def wait_until(condition, what, timeout=60):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Machine:
    """Two file systems, the second in a file on the first; an agent; its host."""

    def __init__(self, directory, kind="ext4"):
        self.dir, self.kind, self.agent, self.host = directory, kind, None, None
        self.hooks = directory / "hooks"
        for part in ("root", "trust", "run", "outer", "hooks/pre-freeze.d", "hooks/post-thaw.d"):
            (directory / part).mkdir(parents=True)
        self.log = directory / "log"
        script = (f"cd {directory} && truncate -s 320M a && mkfs.{kind} -q a && mount -o loop a outer && mkdir outer/inner outer/state && truncate -s 20M outer/b && "
                  "mkfs.ext4 -q outer/b && mount -o loop outer/b outer/inner && echo ready && exec cat")
        self.place = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", script], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True, preexec_fn=vms._die_with_parent)
        assert self.place.stdout.readline() == "ready\n"
        self.outer, self.inner = directory / "outer", directory / "outer/inner"
        table = pathlib.Path(f"/proc/{self.place.pid}/mountinfo").read_text().splitlines()
        (directory / "mountinfo").write_text("".join(line + "\n" for line in table if str(directory) in line.split()[4] and " - tmpfs " not in line))
        self.port = socket.socket(socket.AF_UNIX)
        self.port.bind(str(directory / "host.sock"))
        self.port.listen()
        self.start()

    def inside(self, *command, **options):
        return subprocess.Popen(["nsenter", f"--mount=/proc/{self.place.pid}/ns/mnt", *map(str, command)], stdin=subprocess.DEVNULL,
                                preexec_fn=vms._die_with_parent, **options)

    def start(self):
        d = self.dir
        with open(self.log, "ab") as log:
            self.agent = self.inside(AGENT, "run", f"--channel=unix:{d}/host.sock", f"--socket={d}/run/agent.sock", f"--hooks={self.hooks}",
                                     "--hook-timeout-s=20", f"--mountinfo={d}/mountinfo", "--log-level=debug",
                                     f"--state={self.outer}/state", *(f"--{n}={d / n}" for n in ("root", "trust")), stdout=log, stderr=log)
        self.port.settimeout(60)
        self.host = agent_host.AgentHost(self.port.accept()[0])
        self.host.wait_session()

    def kill_agent(self):
        self.agent.kill()
        self.agent.wait()
        self.host.close()

    def holder(self):
        """The process that holds the freeze."""
        for p in pathlib.Path("/proc").iterdir():
            try:
                words = (p / "cmdline").read_bytes().split(b"\0") if p.name.isdigit() else []
            except OSError:
                continue
            if b"freezer" in words and f"--directory={self.dir}/run".encode() in words:
                return int(p.name)
        return None

    def freeze(self, lease_ms=30000, ident=ID, **options):
        self.host.freeze(ident, "BEGIN", lease_ms, **options)
        return self.host.wait_freeze(ident, "FROZEN")

    def command(self, *words):
        return subprocess.run(["nsenter", f"--mount=/proc/{self.place.pid}/ns/mnt", AGENT, *words, f"--socket={self.dir}/run/agent.sock"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60)

    def write(self, place):
        """Begins to write a file there."""
        return self.inside("sh", "-c", f"echo x >{place}/written-{time.monotonic_ns()}")

    def assert_thawed(self):
        for place in (self.inner, self.outer):
            assert self.write(place).wait(60) == 0

    def hook(self, stage, name, text):
        path = self.hooks / stage / name
        path.write_text(f"#!/bin/sh\necho {stage} {name} $1 >>{self.dir}/ran\n{text}\n")
        path.chmod(0o755)

    def ran(self):
        return (self.dir / "ran").read_text().splitlines() if (self.dir / "ran").exists() else []

    def stop(self):
        self.host.close()
        if self.agent.poll() is None:
            self.agent.kill()
        self.agent.wait()
        for place in (self.outer, self.inner):
            self.inside("fsfreeze", "-u", place, stderr=subprocess.DEVNULL).wait()
        holder = self.holder()
        if holder:
            os.kill(holder, signal.SIGTERM)
            wait_until(lambda: not self.holder(), "the holder does not end")
        self.place.stdin.close()
        self.place.wait()
        self.port.close()


@pytest.fixture
def directory():
    made = pathlib.Path(tempfile.mkdtemp(prefix="moult-f-", dir="/dev/shm"))  # in memory, as /run is
    yield made
    shutil.rmtree(made)


@pytest.fixture
def machine(directory):
    made = Machine(directory)
    yield made
    made.stop()
    print(made.log.read_text(errors="replace"))


def is_still(writer):
    """It waits in the kernel, and will until somebody thaws."""
    state = pathlib.Path(f"/proc/{writer.pid}/stat").read_text().rsplit(") ", 1)[1][0]
    return writer.poll() is None and state == "D"


def test_everything_stands_still_until_it_is_asked_to_thaw_and_the_agent_answers_meanwhile(machine):
    assert b"freeze" in machine.host.hello.capabilities
    state = machine.freeze()
    assert state.mounts == 2 and 0 < state.lease_left_ms <= 30000
    writers = [machine.write(machine.outer), machine.write(machine.inner)]
    wait_until(lambda: all(is_still(w) for w in writers), "a writer does not stand still")
    assert machine.host.freeze(ID, "QUERY").phase == agent_host.pb.FREEZE_PHASE_FROZEN
    assert machine.host.freeze(ID, "RENEW", 60000).lease_left_ms > 30000
    assert machine.host.ask(status_query=agent_host.pb.StatusQuery()).software
    assert "frozen, 2 file systems" in machine.command("freeze-status").stdout
    with pytest.raises(agent_host.AgentError) as refused:
        machine.host.freeze(OTHER, "BEGIN", 1000)
    assert refused.value.name == "BUSY"
    with pytest.raises(agent_host.AgentError) as refused:
        machine.host.ask(rollback=agent_host.pb.RollbackGeneration(push_id=ID))
    assert refused.value.name == "BUSY" and "snapshot" in str(refused.value)
    machine.host.freeze(ID, "THAW")
    state = machine.host.wait_freeze(ID, "THAWED")
    assert state.held and not state.error and state.frozen_us > 0 and not state.text
    assert [w.wait(60) for w in writers] == [0, 0]
    again = machine.host.freeze(ID, "BEGIN", 1000)  # known, and over: nothing begins
    assert again.phase == agent_host.pb.FREEZE_PHASE_THAWED and again.held
    assert machine.host.freeze(OTHER, "QUERY").phase == agent_host.pb.FREEZE_PHASE_NONE
    machine.freeze(ident=OTHER)
    assert machine.command("thaw").returncode == 0
    assert machine.host.wait_freeze(OTHER, "THAWED").held


def test_a_lease_that_ends_thaws_and_says_that_it_did_not_hold(machine):
    machine.freeze(lease_ms=300)
    state = machine.host.wait_freeze(ID, "THAWED")
    assert not state.held and state.error == agent_host.pb.ERROR_TIMEOUT and b"lease" in state.text
    machine.assert_thawed()
    assert not machine.host.freeze(ID, "THAW").held


def test_an_agent_that_comes_up_in_a_freeze_goes_on_with_it(machine):
    machine.hook("pre-freeze.d", "10-db", "")
    machine.hook("post-thaw.d", "10-db", "")
    machine.freeze()
    writer = machine.write(machine.outer)
    wait_until(lambda: is_still(writer), "the writer does not stand still")
    machine.kill_agent()
    assert is_still(writer)
    machine.start()
    state = machine.host.freeze(ID, "RENEW", 30000)
    assert state.phase == agent_host.pb.FREEZE_PHASE_FROZEN and state.hooks_run == 1 and state.mounts == 2
    machine.host.freeze(ID, "THAW")
    assert machine.host.wait_freeze(ID, "THAWED").held
    assert writer.wait(60) == 0
    assert machine.ran() == ["pre-freeze.d 10-db freeze", "post-thaw.d 10-db thaw"]


def test_a_freeze_whose_holder_is_killed_is_thawed_by_the_agent_that_runs(machine):
    machine.freeze()
    os.kill(machine.holder(), signal.SIGKILL)
    state = machine.host.wait_freeze(ID, "THAWED")
    assert not state.held and b"killed" in state.text and state.mounts == 2
    machine.assert_thawed()


def test_a_freeze_whose_holder_and_agent_are_killed_is_thawed_by_the_next_agent(machine):
    machine.hook("post-thaw.d", "20-tell", "")
    machine.freeze()
    machine.agent.send_signal(signal.SIGSTOP)
    os.kill(machine.holder(), signal.SIGKILL)
    machine.kill_agent()
    writer = machine.write(machine.outer)
    wait_until(lambda: is_still(writer), "the writer does not stand still")
    machine.start()
    assert writer.wait(60) == 0
    wait_until(lambda: machine.host.freeze(ID, "QUERY").phase == agent_host.pb.FREEZE_PHASE_THAWED, "it is not over")
    assert not machine.host.freeze(ID, "QUERY").held
    assert machine.ran() == ["post-thaw.d 20-tell thaw"]


def test_what_the_agent_cannot_thaw_is_not_said_to_be_thawed_and_is_tried_again(machine):
    machine.freeze()
    assert machine.inside("mount", "-t", "tmpfs", "cover", machine.outer).wait() == 0  # neither can be opened any more
    os.kill(machine.holder(), signal.SIGKILL)
    state = machine.host.wait_freeze(ID, "THAWING")
    assert b"covered" in state.text and b"tried again" in state.text
    with pytest.raises(agent_host.AgentError) as refused:
        machine.host.freeze(OTHER, "BEGIN", 1000)
    assert refused.value.name == "BUSY"
    assert machine.inside("umount", "-l", machine.outer).wait() == 0
    state = machine.host.wait_freeze(ID, "THAWED")
    assert not state.held and b"2 file systems were thawed" in state.text
    machine.assert_thawed()


@pytest.fixture
def systemd(directory, monkeypatch):
    """A systemd that never answers, until it fails."""
    tool = directory / "bin/systemd-run"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n: >{directory}/asked\ncat {directory}/gate\nexit 1\n")
    tool.chmod(0o755)
    os.mkfifo(directory / "gate")
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    return directory


def test_a_thaw_before_the_holder_is_heard_starts_no_second_one(systemd, machine):
    assert machine.inside("sh", "-c", "mount -t tmpfs run /run && mkdir -p /run/systemd/system").wait() == 0
    machine.host.freeze(ID, "BEGIN", 10000)
    wait_until((systemd / "asked").exists, "systemd is not asked")
    machine.host.freeze(ID, "THAW")
    (systemd / "gate").write_text("")
    state = machine.host.wait_freeze(ID, "THAWED")
    assert state.error == agent_host.pb.ERROR_CANCELLED and not state.held and state.mounts == 0
    machine.assert_thawed()


def test_the_command_thaws_without_an_agent(machine):
    machine.freeze()
    machine.kill_agent()
    assert machine.command("thaw", "--left-over").returncode == 0 and machine.holder()
    assert "thawed 2 file systems" in machine.command("thaw").stdout
    machine.assert_thawed()
    machine.start()
    assert machine.host.freeze(b"", "QUERY").phase == agent_host.pb.FREEZE_PHASE_THAWED


def test_what_somebody_else_has_frozen_is_left_alone(machine):
    assert machine.inside("fsfreeze", "-f", machine.inner).wait() == 0
    machine.host.freeze(ID, "BEGIN", 10000)
    state = machine.host.wait_freeze(ID, "THAWED")
    assert not state.held and state.error == agent_host.pb.ERROR_BUSY and str(machine.inner).encode() in state.text
    writer = machine.write(machine.inner)
    wait_until(lambda: is_still(writer), "it was thawed")
    assert machine.inside("fsfreeze", "-u", machine.inner).wait() == 0
    assert writer.wait(60) == 0
    machine.assert_thawed()


def test_a_freeze_that_hangs_ends_with_its_lease_and_is_thawed_when_it_comes_back(machine):
    # The inner one cannot be frozen while the one that its file lies on stands still.
    assert machine.inside("fsfreeze", "-f", machine.outer).wait() == 0
    machine.host.freeze(ID, "BEGIN", 300)
    assert machine.host.wait_freeze(ID, "THAWING").phase == agent_host.pb.FREEZE_PHASE_THAWING
    assert machine.inside("fsfreeze", "-u", machine.outer).wait() == 0
    state = machine.host.wait_freeze(ID, "THAWED")
    assert not state.held and state.error == agent_host.pb.ERROR_TIMEOUT and str(machine.inner).encode() in state.text
    machine.assert_thawed()


def test_what_somebody_else_thaws_is_not_said_to_have_held(machine):
    machine.freeze()
    assert machine.inside("fsfreeze", "-u", machine.outer).wait() == 0  # the inner one could not be thawed before it
    machine.host.freeze(ID, "THAW")
    state = machine.host.wait_freeze(ID, "THAWED")
    assert not state.held and str(machine.outer).encode() in state.text
    machine.assert_thawed()


def test_hooks_run_by_name_and_back_and_a_failing_one_keeps_it_from_freezing(machine):
    for name in ("10-a", "20-b"):
        machine.hook("pre-freeze.d", name, "sleep 300 & echo $! >>" + f"{machine.dir}/left")
        machine.hook("post-thaw.d", name, "")
    machine.hook("post-thaw.d", "15-only-after", "")
    assert machine.freeze().hooks_run == 2
    assert all(os.path.exists(f"/proc/{pid}") for pid in (machine.dir / "left").read_text().split())  # what a hook leaves behind lives
    machine.host.freeze(ID, "THAW")
    assert machine.host.wait_freeze(ID, "THAWED").held
    for pid in (machine.dir / "left").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    assert machine.ran() == ["pre-freeze.d 10-a freeze", "pre-freeze.d 20-b freeze", "post-thaw.d 20-b thaw", "post-thaw.d 15-only-after thaw",
                             "post-thaw.d 10-a thaw"]
    (machine.dir / "ran").unlink()
    machine.hook("pre-freeze.d", "10-a", "echo no room; exit 3")
    machine.host.freeze(OTHER, "BEGIN", 10000)
    state = machine.host.wait_freeze(OTHER, "THAWED")
    assert not state.held and state.error == agent_host.pb.ERROR_HOOK and state.hook == b"10-a" and state.hook_output == b"no room\n"
    assert state.mounts == 0 and state.frozen_us == 0 and state.hooks_run == 0
    assert machine.ran() == ["pre-freeze.d 10-a freeze", "post-thaw.d 15-only-after thaw", "post-thaw.d 10-a thaw"]


def test_a_hook_that_others_can_write_is_an_error_and_nothing_is_frozen(machine):
    machine.hook("pre-freeze.d", "10-a", "")
    (machine.hooks / "pre-freeze.d/10-a").chmod(0o777)
    machine.host.freeze(ID, "BEGIN", 10000)
    state = machine.host.wait_freeze(ID, "THAWED")
    assert state.error == agent_host.pb.ERROR_HOOK and b"10-a" in state.text and not state.held and machine.ran() == []
    assert machine.freeze(ident=OTHER, no_hooks=True).hooks_run == 0
    machine.host.freeze(OTHER, "THAW")
    assert machine.host.wait_freeze(OTHER, "THAWED").held


def test_a_freeze_is_given_up_while_a_hook_runs(machine):
    os.mkfifo(machine.dir / "gate")
    machine.hook("pre-freeze.d", "10-a", f"cat {machine.dir}/gate")
    machine.hook("pre-freeze.d", "20-b", "")
    machine.hook("post-thaw.d", "10-a", "")
    machine.host.freeze(ID, "BEGIN", 10000)
    wait_until(lambda: machine.host.freeze(ID, "QUERY").hook == b"10-a", "the hook does not run")
    machine.host.freeze(ID, "THAW")
    threading.Thread(target=(machine.dir / "gate").write_text, args=("",)).start()
    state = machine.host.wait_freeze(ID, "THAWED")
    assert not state.held and state.error == agent_host.pb.ERROR_CANCELLED
    assert machine.ran() == ["pre-freeze.d 10-a freeze", "post-thaw.d 10-a thaw"]


def test_the_hook_for_sqlite_holds_its_databases_over_the_freeze(machine):
    database, others = f"{machine.inner}/app.db", f"{machine.inner}/missing.db"

    def sql(text):
        return machine.inside("sqlite3", "-cmd", ".timeout 100", database, text, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL).wait()
    assert sql("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1);") == 0
    for stage in ("pre-freeze.d", "post-thaw.d"):
        machine.hook(stage, "50-sqlite", f"MOULT_SQLITE_DATABASES={machine.dir}/databases MOULT_SQLITE_RUN={machine.dir}/held "
                                         f"exec {moult.TOP}/guest-agent/hooks/sqlite $1")
    (machine.dir / "databases").write_text(f"# ours\n{database}")  # a last line without an end counts
    # The one after it finds the database busy; while it is frozen, who opens it stands still.
    machine.hook("pre-freeze.d", "60-look", f"! sqlite3 -cmd '.timeout 100' {database} 'INSERT INTO t VALUES(2)' 2>/dev/null && "
                                            f"sqlite3 {database} 'SELECT count(*) FROM t' >{machine.dir}/count")
    assert machine.freeze().hooks_run == 2
    assert (machine.dir / "count").read_text() == "1\n" and not os.path.getsize(f"/proc/{machine.place.pid}/root{database}-wal")
    machine.host.freeze(ID, "THAW")
    state = machine.host.wait_freeze(ID, "THAWED")
    assert state.held and not state.error
    wait_until(lambda: sql("INSERT INTO t VALUES(2)") == 0, "the database is still held")
    (machine.dir / "databases").write_text(f"{database}\n{others}\n")
    machine.host.freeze(OTHER, "BEGIN", 10000)
    state = machine.host.wait_freeze(OTHER, "THAWED")
    assert state.error == agent_host.pb.ERROR_HOOK and b"missing.db: there is no such database" in state.hook_output
    wait_until(lambda: sql("INSERT INTO t VALUES(3)") == 0, "the database is still held")
