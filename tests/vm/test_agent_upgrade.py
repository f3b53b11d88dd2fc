"""A release that brings a new agent, in a real machine with busybox's init: over the virtio port, which one process at a time can have; with
a merge that goes on being served; with the machine's power cut where the old agent and the new one change over; and one that is not fit.
What each step does is tested without machines (tests/integration/test_agent_upgrade.py)."""

import os
import pathlib
import shutil

import pytest

import moult
import vm as vms
from conftest import HOLD, arm_fault, the_push

NEXT = pathlib.Path(os.environ.get("MOULT_BUILD", moult.TOP / "build/faults")) / "guest-agent/moult-agent-next"
PLACE = "usr/sbin/moult-agent"
OLD, NEW = "moult-agent 0.1.0", "moult-agent 0.1.0+next"


@pytest.fixture
def guest(host, guests):
    machine = guests.new(public_key=host.public)
    machine.exec("mkdir -p /srv/app && echo 1 >/srv/app/version; sync")
    host.add("web-1", machine)
    return machine


def release(host, directory, agent, version):
    tree = directory / version
    (tree / "usr/sbin").mkdir(parents=True)
    (tree / "srv/app").mkdir(parents=True)
    shutil.copy(agent, tree / PLACE)
    (tree / PLACE).chmod(0o755)
    (tree / "srv/app/version").write_text(f"{version}\n")
    return host.release(tree, None, version=version)


def state(guest):
    """What the daemon says it is, what is at its path, and which file is there."""
    said = guest.exec("grep -o 'moult-agent [^ ]* serves' /run/moult-agent.log | tail -n 1").text.removesuffix(" serves")
    return said, guest.exec("moult-agent version").text, guest.exec("cat /srv/app/version").text


def test_a_new_agent_takes_over_and_one_that_is_not_fit_does_not(host, guest, tmp_path):
    guest.exec("mkdir -p /ro/data && echo old >/ro/data/file && mount --bind /ro /ro && mount -o remount,bind,ro /ro")
    data = tmp_path / "data"
    (data / "ro/data").mkdir(parents=True)
    (data / "ro/data/file").write_text("new\n")
    host.moult("push", host.release(data, None, name="data", version="1"), "web-1", "--merge", "union")
    servers = guest.exec("pidof moult-targetfs").text
    guest.exec("(exec 3</ro/data/file; while [ ! -e /run/enough ]; do sleep 0.1; done; cat <&3 >/run/was-read) >/dev/null 2>&1 &")

    pid = guest.agent_pid()
    host.moult("push", release(host, tmp_path, NEXT, "2"), "web-1")
    assert state(guest) == (NEW, NEW, "2")
    assert guest.agent_pid() == pid, "in the same process: init has started nothing"
    assert guest.exec("pidof moult-targetfs").text == servers
    guest.exec("touch /run/enough")
    guest.wait_for("[ \"$(cat /run/was-read)\" = new ]")

    # Cut off after its headers (the second half is for debuggers): the kernel starts it, it dies of it.
    broken = tmp_path / "broken"
    broken.write_bytes(NEXT.read_bytes()[:50000])
    code, out, _ = host.run("push", release(host, tmp_path, broken, "3"), "web-1")
    assert code == 5 and "a new agent that is not fit" in out, out
    assert state(guest) == (NEW, NEW, "2") and guest.agent_pid() == pid
    host.moult("rollback", "web-1")
    guest.wait_for(f"grep '{OLD} serves' /run/moult-agent.log | tail -n 1 | grep . && [ \"$(moult-agent version)\" = '{OLD}' ] && moult-agent status")
    assert state(guest)[1:] == (OLD, "1")


@pytest.mark.parametrize("point", ["try-agent", "switched-agent"])
def test_the_power_goes_where_one_agent_follows_the_other(host, guest, tmp_path, point):
    name = release(host, tmp_path, NEXT, "2")
    arm_fault(guest, f"{point}=hold")
    push = host.spawn("push", name, "web-1")
    guest.wait_for(f"[ -e {HOLD} ]", timeout=120)
    assert guest.exec("moult-agent version").text == (OLD if point == "try-agent" else NEW)
    guest.reboot(hard=True)
    out, _ = push.communicate(timeout=vms.BOOT_TIMEOUT_S)
    assert push.returncode == 0, out
    assert the_push(host)["state"] == "done"
    assert state(guest) == (NEW, NEW, "2")
