"""Guests that go on from a state in which one like them was saved, instead of booting: half of a short test's time is the boot.

The first test that wants a machine of some kind boots it, saves its memory and its disk, and every other machine of that kind in this run
starts from there. What makes machines differ is made new: the kernel's random numbers (it hears of the copy from the VM generation id) and
the time of day. The agent was stopped before, so each has an agent of its own that starts in it.

In use only where $MOULT_SAVED_GUESTS names a folder; tests/support/run.py does, with one that goes at the end of the run.
"""

import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import time

import vm as vms

FOLDER = os.environ.get("MOULT_SAVED_GUESTS")
LIMIT_S = 300
# On the kernel's own word that the boot is over, the agent is stopped; init of the tiny guests would start it again.
SETTLE = """if command -v systemctl >/dev/null
then systemctl is-system-running --wait >/dev/null; systemctl stop moult-agent
else
    while pidof moult-boot-ok >/dev/null; do sleep 0.1; done
    touch /run/moult-agent-off; kill $(pidof moult-agent)
    while pidof moult-agent >/dev/null; do sleep 0.1; done
fi
sync"""


def can_be_saved(machine):
    """Machines with disks of a test's own are not like any other, and the processor of the host may not be saved."""
    own = (machine.disks or machine.qemu_args or machine.base_disk[0] != machine.image / "disk.img"
           or (machine.dir / "disk.qcow2").exists())
    return bool(FOLDER) and not own and not vms.have_kvm()


def start(machine):
    """As machine.start(). The agent may be stopped; conftest.restart_agent starts it."""
    if not can_be_saved(machine):
        return machine.start()
    state = _saved(machine)
    shutil.copy(state / "disk.qcow2", machine.dir / "disk.qcow2")
    machine.start(wait=False, incoming=True)
    _move(machine, "migrate-incoming", f"exec:cat {state}/memory")
    machine.qmp.command("cont")
    machine.wait_ready()
    machine.exec(f"date -s @{time.time():.0f} >/dev/null; rm -f /run/moult-agent-off")
    return machine


def _kind(machine):
    """What has to be equal for a saved state to fit: all of the command line but the names of files and of ports on the host."""
    words = [re.sub(r"hostfwd=[^,]*,?", "", word.replace(str(machine.dir), "DIR")) for word in machine.command_line()]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def _saved(machine):
    state = pathlib.Path(FOLDER) / _kind(machine)
    state.mkdir(parents=True, exist_ok=True)
    with open(state / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (state / "disk.qcow2").exists():
            _save(machine.like(), state)
    return state


def _save(machine, state):
    try:
        machine.start()
        machine.exec(SETTLE, timeout=LIMIT_S)
        machine.exec_channel.close()
        machine.qmp.command("stop")
        _move(machine, "migrate", f"exec:cat >{state}/memory")
        machine.qmp.command("quit")
        machine.process.wait(LIMIT_S)
        os.rename(machine.dir / "disk.qcow2", state / "disk.qcow2")
    finally:
        machine.stop()


def _move(machine, command, uri):
    """The memory of a machine that stands still, out of QEMU or into it."""
    machine.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    machine.qmp.command("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
    machine.qmp.command(command, uri=uri)
    if machine.qmp.wait_event("MIGRATION", LIMIT_S, lambda data: data["status"] in ("completed", "failed"))["data"]["status"] == "failed":
        raise vms.VmError(f"{command} of a saved guest: {machine.qmp.command('query-migrate')} {machine.log_tail('qemu.log')}")
