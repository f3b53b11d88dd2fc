"""Guests that are domains of a real libvirtd: found, pushed to, stopped and their libvirtd restarted in the middle."""

import pytest

import libvirt
from conftest import arm_fault, restart_agent, the_push, wait_stopped

@pytest.fixture(scope="module")
def libvirtd(tmp_path_factory):
    # Short, since Unix socket paths are.
    daemon = libvirt.Libvirtd(tmp_path_factory.mktemp("lv", numbered=True))
    try:
        yield daemon.start()
    finally:
        daemon.stop()


@pytest.fixture
def domains(libvirtd):
    made = []

    def new(name, **options):
        made.append(libvirt.Domain(libvirtd, name, **options).define())
        return made[-1]
    yield new
    for domain in made:
        domain.stop()
        libvirtd.virsh("undefine", domain.name)


def equip(domain, host, reference):
    """What the guest of a template has: the key, the old application."""
    domain.write_file("/etc/moult/moult-agent.conf", "[agent]\nlog-level=debug\n")
    domain.write_file("/etc/moult/trusted.d/test.pub", host.public)
    restart_agent(domain)
    domain.copy_tree(reference.old, "/")
    return domain


def prepare(host, libvirtd, name, *options):
    return host.moult("vm", "prepare", name, "--libvirt", libvirtd.local, *options)


@pytest.fixture
def prepared(host, domains, libvirtd, reference, workdir):
    """A domain "web-1" as `moult vm prepare` and `moult vm discover --add` leave it, running, with the old application."""
    domain = domains("web-1", agent_path=workdir / "agent.sock")
    prepare(host, libvirtd, "web-1", "--yes")
    host.moult("vm", "discover", "--libvirt", libvirtd.local, "--add")
    domain.start()
    equip(domain, host, reference)
    host.release(reference.new, reference.old)
    return domain


def test_a_domain_is_found_by_its_channel_and_pushed_to_through_a_window(host, prepared, libvirtd, reference):
    [found] = host.json("vm", "discover", "--libvirt", libvirtd.local)
    assert (found["vm"], found["channel"], found["ports"]) == ("web-1", True, 2)
    boot = prepared.boot_id()

    host.moult("push", "app=2", "web-1")
    assert prepared.tree("/srv/app") == reference.after
    assert the_push(host)["transport"] == "ivshmem"
    assert libvirtd.windows("web-1") == []

    host.moult("rollback", "web-1")
    assert prepared.tree("/srv/app") == reference.before
    assert prepared.boot_id() == boot


def test_without_spare_ports_the_pack_goes_over_the_channel(host, domains, libvirtd, reference):
    domain = domains("web-1")
    prepare(host, libvirtd, "web-1", "--ports", "0", "--yes")
    # libvirt's own place for the socket, which only libvirtd sees here: so it carries the bytes, as it does for remote hosts.
    host.moult("vm", "add", "web-1", "--libvirt", libvirtd.tcp)
    domain.start()
    equip(domain, host, reference)
    host.release(reference.new, reference.old)
    host.moult("push", "app=2", "web-1")
    assert domain.tree("/srv/app") == reference.after
    assert the_push(host)["transport"] == "virtio-serial"


def test_libvirtd_is_restarted_in_the_middle_of_a_push(host, prepared, libvirtd, reference):
    arm_fault(prepared, "stage-file:2=stop")
    command = host.spawn("push", "app=2", "web-1")
    wait_stopped(prepared)
    assert libvirtd.windows("web-1"), "it is in the middle"
    libvirtd.end()
    libvirtd.start()
    prepared.exec(f"kill -CONT {prepared.agent_pid()}")
    out = command.communicate(timeout=600)[0]
    assert command.returncode == 0, out + host.log_text()
    assert prepared.tree("/srv/app") == reference.after
    assert libvirtd.windows("web-1") == []
    assert "libvirt-lost" in host.log_text(1 << 20)


def test_a_domain_that_is_stopped_in_the_middle_is_upgraded_when_it_is_back(host, prepared, libvirtd, reference):
    prepared.exec("sync")
    arm_fault(prepared, "stage-file:2=stop")
    command = host.spawn("push", "app=2", "web-1")
    wait_stopped(prepared)
    prepared.kill()
    prepared.start()
    restart_agent(prepared)
    out = command.communicate(timeout=600)[0]
    assert command.returncode == 0, out + host.log_text()
    assert prepared.tree("/srv/app") == reference.after
    assert libvirtd.windows("web-1") == []
