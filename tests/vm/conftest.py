"""Fixtures of the tests with real guests: a moultd, guests that are new for each test, releases."""

import dataclasses
import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import moult  # noqa: E402
import saved  # noqa: E402
import trees  # noqa: E402
import vm as vms  # noqa: E402


# Modules that take minutes begin first, so that no worker is left with one of them when the others are done. The first one makes
# the Debian image that three of them need; meanwhile the other worker has something else to do.
LONG_FIRST = ("test_debian", "test_push", "test_snapshot_databases", "test_readonly_usr", "test_images", "test_packages", "test_interrupted", "test_walk_through", "test_template")


def pytest_collection_modifyitems(items):
    order = {name: n for n, name in enumerate(LONG_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what the machines had to say."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for value in item.funcargs.values():
            if isinstance(value, moult.Host):
                report.sections.append(("moultd's log", value.log_text()))
            if isinstance(value, Guests):
                report.sections += value.sections()


class Guests:
    """Makes guests for one test and takes them away afterwards."""

    def __init__(self):
        self.machines = []

    def new(self, image="tiny", public_key=b"", tls_port=None, relayed_port=None, **options):
        machine = vms.Vm(image, network=bool(tls_port or relayed_port), **options)
        self.machines.append(machine)
        saved.start(machine)
        settings = "[agent]\nlog-level=debug\n"
        if tls_port or relayed_port:
            # Of user-mode networking, 10.0.2.2 is the host's own loopback.
            settings += f"[network]\nhost=10.0.2.2:{relayed_port or tls_port}\n"
        machine.write_file("/etc/moult/moult-agent.conf", settings)
        machine.write_file("/etc/moult/trusted.d/test.pub", public_key)
        restart_agent(machine)
        return machine

    def sections(self):
        result = []
        for n, machine in enumerate(self.machines):
            try:
                log = machine.exec("tail -c 5000 /run/moult-agent.log 2>/dev/null || journalctl -u moult-agent | tail -60",
                                   check=False, timeout=10).out.decode(errors="replace")
            except (vms.VmError, OSError) as error:
                log = str(error)
            result += [(f"guest {n}: the agent's log", log),
                       (f"guest {n}: console", machine.log_tail("console.log", 1500)),
                       (f"guest {n}: QEMU", machine.log_tail("qemu.log", 1500))]
        return result

    def stop(self):
        for machine in self.machines:
            machine.stop()


HOLD = "/run/moult-hold"


def arm_fault(machine, fault, trace=""):
    """The agent is started again with these fault points; its next start has none. A point that holds makes HOLD, and waits until it
    is gone."""
    machine.write_file("/run/moult-fault", f"export MOULT_FAULT='{fault}' MOULT_FAULT_TRACE='{trace}' MOULT_FAULT_HOLD={HOLD}\n")
    restart_agent(machine)


def the_push(host):
    """What moultd has on record of the only push, to the only VM."""
    [job] = [job for job in host.json("jobs", "--all") if job["kind"] == "push"]
    [push] = host.json("jobs", "show", job["id"])["pushes"]
    return push


def window(guest):
    """The id of the ivshmem device that moultd has plugged."""
    def walk(devices):
        for device in devices:
            if device["id"]["device"] == 0x1110:
                yield device["qdev_id"]
            yield from walk(device.get("pci_bridge", {}).get("devices", ()))
    found = [d for bus in guest.qmp.command("query-pci") for d in walk(bus["devices"])]
    assert len(found) == 1, found
    return found[0]


def pull_out_window(guest):
    device = window(guest)
    guest.qmp.command("device_del", id=device)
    guest.qmp.wait_event("DEVICE_DELETED", match=lambda data: data.get("device") == device)


def wait_stopped(guest):
    """Until the agent has stopped itself at a fault point."""
    guest.wait_for("for p in $(pidof moult-agent); do grep -q '^State:.*T' /proc/$p/status && exit 0; done; exit 1", timeout=120)


def _wait_gone(machine, pid):
    try:
        machine.wait_for(f"[ ! -e /proc/{pid} ]", timeout=120)
    except vms.VmError as error:
        state = machine.exec(f"cd /proc/{pid} && tr '\\0' ' ' <cmdline; cat status wchan stack; ls -l fd; ps", check=False)
        raise AssertionError(f"process {pid} did not end when asked to: {error}\n{state.out.decode(errors='replace')}") from None


def restart_agent(machine):
    """A new agent, which has read the configuration and answers. Works with busybox's init and with systemd."""
    if machine.exec("command -v systemctl", check=False).code == 0:
        machine.exec("systemctl restart moult-agent")
    else:
        old = machine.agent_pid()
        if old:
            machine.exec(f"kill {old}; true")
            _wait_gone(machine, old)
    machine.wait_for("moult-agent status")


@pytest.fixture
def guests():
    made = Guests()
    yield made
    made.stop()


@pytest.fixture
def workdir():
    """Short, since Unix socket paths are."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="moult-t-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def host(workdir):
    """A running moultd with TLS on a port of its own, and a signing key; host.public is the key's public half."""
    daemon = moult.Host(workdir / "host", tls=True)
    daemon.start()
    try:
        daemon.public = daemon.new_key()
        yield daemon
    finally:
        daemon.stop()


@dataclasses.dataclass
class Reference:
    """Two versions of an application, and what a guest looks like with each: put there by tar, not by moult."""

    old: pathlib.Path
    new: pathlib.Path
    before: dict
    after: dict


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    old, new = trees.application(tmp_path_factory.mktemp("app"))
    with vms.Vm("tiny") as guest:
        guest.copy_tree(old, "/")
        before = guest.tree("/srv/app")
        guest.exec("rm -rf /srv/app")
        guest.copy_tree(new, "/")
        after = guest.tree("/srv/app")
    return Reference(old, new, before, after)


@pytest.fixture
def prepared(host, guests, reference):
    """A guest "web-1" with the old application, known to moultd, and the release "app=2" that makes it the new one."""
    guest = guests.new(public_key=host.public, tls_port=host.tls_port)
    guest.copy_tree(reference.old, "/")
    guest.exec("sync")  # what was there before a test is not lost by a reset in it
    host.add("web-1", guest)
    host.release(reference.new, reference.old)
    return guest
