"""The static agent in a guest that has no shared library at all: every way of a push, by a host's name that only /etc/hosts knows, with
an /etc/nsswitch.conf and an openssl.cnf that ask for modules; and a merge, whose server is static in every build but those with sanitizers."""

import hashlib
import subprocess

import pytest

import trees
from conftest import restart_agent

PLACES = ("srv/app", "ro/app")


def files(root):
    """{path in the guest: (mode, sha256)} of every regular file of a tree."""
    return {f"/{p.relative_to(root)}": (p.stat().st_mode, hashlib.sha256(p.read_bytes()).hexdigest())
            for p in root.rglob("*") if p.is_file() and not p.is_symlink()}


def seen(guest, wanted):
    """The same of the guest, of the files that are wanted."""
    tree = guest.tree(*(f"/{place}" for place in PLACES))
    return {path: (tree[path][0], tree[path][8]) for path in wanted if path in tree}


def used_ways(host):
    jobs = [job["id"] for job in host.json("jobs", "--all") if job["kind"] == "push"]
    return sorted(push["transport"] for job in jobs for push in host.json("jobs", "show", job)["pushes"])


@pytest.fixture
def guest(host, guests):
    """With /ro that cannot be written."""
    machine = guests.new("tiny-static", public_key=host.public, tls_port=host.tls_port)
    machine.exec("echo '10.0.2.2 hypervisor.example' >>/etc/hosts; mkdir -p /etc/ssl /usr/lib/ssl; sed -i s/10.0.2.2:/hypervisor.example:/ /etc/moult/moult-agent.conf")
    machine.write_file("/etc/nsswitch.conf", "hosts: mymachines resolve [!UNAVAIL=return]\npasswd: sss\ngroup: systemd\n")
    machine.write_file("/usr/lib/ssl/openssl.cnf", "openssl_conf=a\n[a]\nproviders=b\n[b]\nfips=c\n[c]\nactivate=1\n")
    restart_agent(machine)
    return machine


def test_a_guest_without_any_library_is_upgraded_every_way(host, guest, tmp_path):
    assert guest.exec("find / -xdev -name '*.so' -o -xdev -name '*.so.*'").text == ""
    releases = []
    for place in PLACES:
        releases.append(trees.application(tmp_path / place, place=place))
    old, new = tmp_path / "old", tmp_path / "new"
    for a, b in releases:
        subprocess.run(["cp", "-a", f"{a}/.", str(old)], check=True)
        subprocess.run(["cp", "-a", f"{b}/.", str(new)], check=True)
    archive = subprocess.run(["tar", "-C", str(old), "--numeric-owner", "-cf", "-", "."], check=True, stdout=subprocess.PIPE).stdout
    guest.exec("tar -C / -xpf - && mount --bind /ro /ro && mount -o remount,bind,ro /ro", stdin=archive, timeout=120)
    before = guest.tree("/srv/app", "/ro/app")
    host.add("web-1", guest)
    guest.wait_for("moult-agent status")
    maps = guest.exec(f"cat /proc/{guest.agent_pid()}/maps").text
    assert "/usr/sbin/moult-agent" in maps and ".so" not in maps
    host.release(new, old)

    for transport in ("ivshmem", "tls", "virtio-serial"):
        host.moult("push", "app=2", "web-1", "--transport", transport)
        assert seen(guest, files(new)) == files(new), transport
        host.moult("rollback", "web-1")
        assert guest.tree("/srv/app", "/ro/app") == before, transport
    assert used_ways(host) == ["ivshmem", "tls", "virtio-serial"]

    host.moult("push", "app=2", "web-1", "--instant")
    assert seen(guest, files(new)) == files(new)
    assert "2" in guest.exec("moult-agent which /ro/app/version && cat /ro/app/version").text
