"""Files that cannot be written, in a running guest: squashfs, erofs, a read-only ext4 and (where there is one) a dm-verity device, in one push with
files that can; over each way of merging, across a reboot, and back."""

import pytest

import trees
from conftest import the_push

METHODS = ("auto", "union")


@pytest.fixture(scope="module")
def application(tmp_path_factory):
    """(old, new) trees of an application below /srv, which can be written, and of the one that tiny-ro has below each /ro/KIND."""
    def make(place):
        return trees.application(tmp_path_factory.mktemp("app"), place=f"{place}/app")
    return make


@pytest.fixture
def guest(host, guests):
    machine = guests.new("tiny-ro", public_key=host.public)
    machine.kinds = [f"ro/{kind}" for kind in machine.exec("ls /ro").text.split()]
    host.add("web-1", machine)
    return machine


@pytest.fixture
def release(host, guest, application, tmp_path):
    """Release "app=2" for every place of the guest: {place: tree that is to be seen}."""
    old, new = tmp_path / "old", tmp_path / "new"
    for place in (*guest.kinds, "srv"):
        for version, into in zip(application(place), (old, new)):
            into.mkdir(exist_ok=True)
            trees.subprocess.run(["cp", "-a", f"{version}/.", str(into)], check=True)
    srv_old, _ = application("srv")
    guest.copy_tree(srv_old, "/")
    host.release(new, old)
    return old, new


def places(guest):
    return [f"/{kind}/app" for kind in guest.kinds] + ["/srv/app"]


def contents(guest):
    return {p: guest.exec(f"cd {p} && find . -type f -print0 | sort -z | xargs -0 sha256sum").text for p in places(guest)}


def versions(guest):
    return {guest.exec(f"cat {p}/version").text for p in places(guest)}


@pytest.mark.parametrize("method", METHODS)
def test_every_place_gets_the_new_version_keeps_it_and_gives_it_back(host, guest, release, method):
    boot = guest.boot_id()
    assert versions(guest) == {"1"}
    host.moult("push", "app=2", "web-1", "--merge", method)
    assert guest.boot_id() == boot
    assert versions(guest) == {"2"}
    for place in places(guest):
        assert guest.exec(f"ls {place}/obsolete {place}/attic 2>/dev/null || true").text == ""
        assert guest.exec(f"stat -c '%a %u %g' {place}/mode").text == "4750 123 456"
    sums = contents(guest)
    assert len(set(sums.values())) == 1, "every place looks alike"
    push = the_push(host)
    assert 0 < push["entries_merged"] < push["entries_change"]
    assert ("union" if method == "union" else "overlay") in guest.exec(f"moult-agent which /{guest.kinds[0]}/app/version").text

    guest.reboot()
    assert versions(guest) == {"2"}
    assert contents(guest) == sums

    host.moult("rollback", "web-1")
    assert versions(guest) == {"1"}
    mounts = guest.exec("cat /proc/self/mountinfo").text
    assert "moult-overlay" not in mounts and "moult-union" not in mounts


def test_instant_mode_is_filled_and_local_at_its_end(host, guest, release):
    host.moult("push", "app=2", "web-1", "--instant")
    assert versions(guest) == {"2"}
    # Filled: no server of a union is needed any more, and it is there again without the host.
    assert "overlay" in guest.exec(f"moult-agent which /{guest.kinds[0]}/app/version").text
    host.stop()
    guest.reboot()
    assert versions(guest) == {"2"}
