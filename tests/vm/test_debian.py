"""The real thing: today's security update of OpenSSL, curl and the time zones goes into a running Debian 12."""

import pytest

import updates


@pytest.fixture
def update(tmp_path):
    """(old tree, new tree, versions, the packages' own checksums of what is new)."""
    old, new, versions = updates.debian_update(tmp_path)
    return old, new, versions, (tmp_path / "md5sums").read_bytes()


@pytest.fixture
def debian(host, guests):
    guest = guests.new("debian", public_key=host.public)
    guest.exec("systemctl is-system-running --wait", check=False, timeout=300)
    host.add("debian", guest)
    return guest


# Everything that a push may have changed, and some that it must not have.
PLACES = ("/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/ssl", "/usr/share/zoneinfo", "/usr/share/doc", "/etc/ssl")


def test_a_debian_security_update_without_a_reboot_checked_by_debians_own_sums_and_taken_back(host, debian, update):
    old, new, versions, md5sums = update
    before, boot = debian.tree(*PLACES), debian.boot_id()
    old_version = debian.exec("openssl version").text
    # The agent runs on the very library that it replaces.
    assert "libcrypto.so.3" in debian.exec(f"cat /proc/{debian.agent_pid()}/maps").text
    host.release(new, old, name="debian-security", version="1")

    host.moult("push", "debian-security=1", "debian")

    assert debian.boot_id() == boot
    new_version = debian.exec("openssl version").text
    assert new_version != old_version
    assert versions["openssl"][1].split("-")[0] in new_version
    debian.write_file("/run/md5sums", md5sums)
    debian.exec("cd / && md5sum -c --quiet /run/md5sums", timeout=300)
    # Modes, owners, links, attributes: as tar unpacks the same packages beside it. (A file whose time alone is new is
    # left as it is; `release build --mtime` would change that.)
    debian.copy_tree(new, "/srv/reference")
    wanted = {name.removeprefix("/srv/reference"): value for name, value in
              debian.tree("/srv/reference/usr", "/srv/reference/etc", times=False).items()}
    wanted = {name: value for name, value in wanted.items() if name.startswith(PLACES)}
    after = debian.tree(*PLACES)
    found = {name: value[:5] + ("",) + value[6:] for name, value in after.items() if name in wanted}
    for tree in (wanted, found):
        for name, value in tree.items():
            if value[3] == "-":
                tree[name] = value[:5] + ("",) + value[6:]
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    assert not differing, {name: (found.get(name), wanted[name]) for name in sorted(differing)[:5]}
    # What is gone in the new packages is gone here.
    gone = {"/" + str(p.relative_to(old)) for p in old.rglob("*")} - {"/" + str(p.relative_to(new)) for p in new.rglob("*")}
    assert not [name for name in gone if name in after]
    # And nothing else was touched.
    ours = set(wanted) | gone
    assert {n: v for n, v in after.items() if n not in ours} == {n: v for n, v in before.items() if n not in ours}

    host.moult("rollback", "debian")
    assert debian.tree(*PLACES) == before
    assert debian.exec("openssl version").text == old_version
    assert debian.boot_id() == boot


def test_the_agent_starts_on_the_library_that_it_has_replaced_and_the_update_survives_a_reboot(host, debian, update):
    old, new, versions, md5sums = update
    host.release(new, old, name="debian-security", version="1")
    host.moult("push", "debian-security=1", "debian")
    debian.exec("systemctl restart moult-agent")
    assert "debian-security 1" in debian.exec("moult-agent status").text
    assert "(deleted)" not in debian.exec(f"grep libcrypto /proc/{debian.agent_pid()}/maps").text
    debian.reboot()
    debian.write_file("/run/md5sums", md5sums)
    debian.exec("cd / && md5sum -c --quiet /run/md5sums", timeout=300)
    assert debian.exec("systemctl is-active moult-agent").text == "active"
    # Files are made whole before anything that could run from half of them.
    assert debian.exec("systemctl is-active moult-recover").text == "active"
    before = debian.exec("systemctl show -p Before --value moult-recover").text.split()
    assert {"sysinit.target", "basic.target", "moult-agent.service"} <= set(before)
    started = debian.exec("systemctl show -p ExecMainExitTimestampMonotonic --value moult-recover").text
    basic = debian.exec("systemctl show -p ActiveEnterTimestampMonotonic --value basic.target").text
    assert 0 < int(started) <= int(basic)
    host.moult("rollback", "debian")
    assert versions["openssl"][0].split("-")[0] in debian.exec("openssl version").text
