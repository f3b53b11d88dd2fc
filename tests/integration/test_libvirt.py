"""moultd and moult with a real libvirtd; its domains are there, and do nothing. tests/vm/test_libvirt.py has guests in them."""

import json
import re
import sys
import pathlib
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import libvirt  # noqa: E402
import moult  # noqa: E402
import vm as vms  # noqa: E402

USAGE, NOT_FOUND, CONFLICT, UNSUPPORTED = 2, 3, 8, 15


@pytest.fixture(scope="module")
def libvirtd(tmp_path_factory):
    daemon = libvirt.Libvirtd(tmp_path_factory.mktemp("lv"))
    try:
        yield daemon.start()
    finally:
        daemon.stop()


@pytest.fixture
def host(tmp_path):
    with moult.Host(tmp_path / "host") as daemon:
        yield daemon


@pytest.fixture
def define(libvirtd):
    """Makes a domain "d" of these devices; it goes after the test."""
    def new(devices="", **options):
        libvirtd.define(libvirt.domain_xml("d", devices=devices, **options))
    yield new
    if "d" in libvirtd.virsh("list", "--name").split():
        libvirtd.virsh("destroy", "d")
    if "d" in libvirtd.virsh("list", "--all", "--name").split():
        libvirtd.virsh("undefine", "d", "--managed-save")


def definition(libvirtd):
    return libvirtd.virsh("dumpxml", "--inactive", "d")


def wait(condition, what, timeout=60):
    deadline = vms.Deadline(timeout, what)
    while not condition():
        deadline.left()
        time.sleep(0.05)  # moultd announces it in its log only


def logged(host, event):
    return host.log_text(1 << 20).count(f" {event}:")


def test_prepare_shows_asks_and_is_done_once(host, libvirtd, define):
    define()
    before = definition(libvirtd)
    code, out, err = host.run("vm", "prepare", "d", "--libvirt", libvirtd.local)
    assert code == USAGE and "--yes" in err, err
    assert re.search(r'^\+.*name="org.moult.agent.0"', out, re.M) and not re.search(r"^-[^-].*(channel|controller)", out, re.M), out
    assert "--dry-run" in host.moult("vm", "prepare", "d", "--libvirt", libvirtd.local, "--dry-run")
    assert definition(libvirtd) == before

    told = json.loads(host.moult("vm", "prepare", "d", "--libvirt", libvirtd.local, "--yes", "--json"))
    assert told["changed"] and told["prepared"] and not told["restart_needed"]
    after = definition(libvirtd)
    assert after.count("ua-moult-rp") == 4 and after.count("org.moult.agent.0") == 1, after  # each port: its alias, its reserve
    assert "nothing to change" in host.moult("vm", "prepare", "d", "--libvirt", libvirtd.local)
    assert definition(libvirtd) == after


@pytest.mark.parametrize("devices, words", [
    ("<channel type='pty'><target type='virtio' name='org.moult.agent.0'/></channel>", "type unix"),
])
def test_prepare_refuses_what_it_does_not_understand(host, libvirtd, define, devices, words):
    define(devices)
    before = definition(libvirtd)
    code, _, err = host.run("vm", "prepare", "d", "--libvirt", libvirtd.local, "--yes")
    assert code == UNSUPPORTED and words in err, err
    assert definition(libvirtd) == before
    assert host.run("vm", "prepare", "nobody", "--libvirt", libvirtd.local, "--yes")[0] == NOT_FOUND


def test_domains_are_discovered_and_added_once(host, libvirtd, define):
    define()
    assert host.json("vm", "discover", "--libvirt", libvirtd.local) == []
    [other] = host.json("vm", "discover", "--libvirt", libvirtd.local, "--all")
    assert (other["domain"], other["channel"], other["state"]) == ("d", False, "off")
    host.moult("vm", "prepare", "d", "--libvirt", libvirtd.local, "--yes")
    for _ in range(2):
        [found] = host.json("vm", "discover", "--libvirt", libvirtd.local, "--add")
        assert (found["vm"], found["channel"], found["ports"]) == ("d", True, 2)
    [vm] = host.json("vm", "list")
    assert (vm["name"], vm["libvirt"], vm["domain"], vm["qmp"]) == ("d", libvirtd.local, "d", None)
    code, _, err = host.run("vm", "add", "again", "--libvirt", libvirtd.local, "--domain", "d")
    assert code == CONFLICT and '"d"' in err, err


@pytest.mark.parametrize("words", [
    ("--libvirt", "qemu:///system", "--agent", "/run/x"),
    ("--domain", "d", "--agent", "/run/x"),
    ("--libvirt", "qemu+ssh://host/system?command=/bin/evil"),
    ("--libvirt", "qemu+ext:///system?command=/bin/evil"),
    ("--libvirt", "qemu+ssh://-oProxyCommand=evil/system"),
    ("--libvirt", "xen:///system"),
    ("--libvirt", "qemu:///system", "--domain", "a/b"),
])
def test_what_cannot_be_is_refused(host, words):
    code, _, err = host.run("vm", "add", "web-1", *words)
    assert code == USAGE, (code, err)
    assert host.json("vm", "list") == []


@pytest.mark.parametrize("way", ["local", "tcp", "tls"])
def test_a_domain_is_watched_through_a_restart_of_libvirtd(host, libvirtd, define, way):
    define(libvirt.channel())
    host.moult("vm", "add", "web-1", "--libvirt", getattr(libvirtd, way), "--domain", "d")
    assert not host.json("vm", "show", "web-1")["qmp_connected"]
    libvirtd.virsh("start", "--paused", "d")
    wait(lambda: host.json("vm", "show", "web-1")["qmp_connected"], "the domain answers")
    libvirtd.end()
    wait(lambda: logged(host, "libvirt-lost") == 1, "the loss is told")
    libvirtd.start()
    wait(lambda: logged(host, "libvirt-connected") == 2, "the connection is made again")
    wait(lambda: host.json("vm", "show", "web-1")["qmp_connected"], "the domain answers again")
    libvirtd.virsh("destroy", "d")
    wait(lambda: not host.json("vm", "show", "web-1")["qmp_connected"], "the stop is seen")
    host.moult("vm", "remove", "web-1")


def test_a_libvirt_that_is_not_there_is_said_once_and_found_when_it_comes(host, libvirtd, tmp_path):
    host.moult("vm", "add", "web-1", "--libvirt", f"qemu+unix:///system?socket={tmp_path}/none")
    host.moult("vm", "add", "web-2", "--libvirt", f"qemu+unix:///system?socket={tmp_path}/none", "--domain", "other")
    wait(lambda: logged(host, "libvirt-unreachable"), "it is told")
    (tmp_path / "none").symlink_to(libvirtd.socket)
    wait(lambda: logged(host, "libvirt-connected") == 1, "it is found")
    assert logged(host, "libvirt-unreachable") == 1


def test_a_remote_libvirt_that_is_not_the_one_it_should_be_is_not_talked_to(host, libvirtd, tmp_path):
    """Another authority than the one that signed its certificate."""
    libvirt.make_certificates(tmp_path / "other")
    uri = libvirtd.tls.replace(str(libvirtd.root / "pki"), str(tmp_path / "other"))
    code, _, err = host.run("vm", "discover", "--libvirt", uri)
    assert code != 0 and re.search("certificate|TLS", err), err
    host.moult("vm", "add", "web-1", "--libvirt", uri, "--domain", "d")
    wait(lambda: logged(host, "libvirt-unreachable") == 1, "it is told")
    assert not host.json("vm", "show", "web-1")["qmp_connected"] and not logged(host, "libvirt-connected")


@pytest.fixture
def second(tmp_path_factory):
    """Another host."""
    daemon = libvirt.Libvirtd(tmp_path_factory.mktemp("lw"))
    try:
        yield daemon.start()
    finally:
        daemon.stop()


@pytest.fixture
def release(host, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    (new / "file").write_text("new")
    host.new_key()
    host.release(new)


def test_a_domain_that_goes_to_another_host_while_a_push_waits_for_it(host, libvirtd, second, define, release):
    """The push says so and ends, long before its patience would; on the other host the VM is added, with its name, and all is as before."""
    define(libvirt.channel())
    host.moult("vm", "add", "web-1", "--libvirt", libvirtd.tls, "--domain", "d")
    libvirtd.virsh("start", "--paused", "d")
    wait(lambda: host.json("vm", "show", "web-1")["qmp_connected"], "the domain answers")
    operation = json.loads(host.moult("push", "app=2", "web-1", "--detach", "--json"))["id"]
    libvirtd.virsh("migrate", "--live", "d", second.tcp, "tcp:127.0.0.1")
    wait(lambda: logged(host, "vm-migrated-away") == 1, "the migration is seen")
    wait(lambda: host.json("jobs", "show", operation)["final"], "the push ends")
    [push] = host.json("jobs", "show", operation)["pushes"]
    assert push["state"] == "failed" and push["error"]["code"] == "timeout", push
    for words in ("Nothing was touched", "domain d was migrated to another host", "add it again"):
        assert words in push["error"]["text"], push

    host.moult("vm", "remove", "web-1")
    host.moult("vm", "add", "web-1", "--libvirt", second.tls, "--domain", "d")
    wait(lambda: host.json("vm", "show", "web-1")["qmp_connected"], "the domain answers there")
    host.moult("vm", "remove", "web-1")
    second.virsh("destroy", "d")


def test_a_domain_that_is_removed_while_a_push_waits_for_it(host, libvirtd, define, release):
    define(libvirt.channel())
    host.moult("vm", "add", "web-1", "--libvirt", libvirtd.local, "--domain", "d")
    wait(lambda: logged(host, "libvirt-connected") == 1, "libvirt is there")
    operation = json.loads(host.moult("push", "app=2", "web-1", "--detach", "--json"))["id"]
    libvirtd.virsh("undefine", "d")
    wait(lambda: host.json("jobs", "show", operation)["final"], "the push ends")
    [push] = host.json("jobs", "show", operation)["pushes"]
    assert push["state"] == "failed" and "domain d was removed from libvirt" in push["error"]["text"], push
