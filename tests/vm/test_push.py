"""A release is pushed into a running tiny guest: over each transport, end to end, and taken back."""

import hashlib
import json
import subprocess

import pytest

from conftest import the_push

TRANSPORTS = ("ivshmem", "pmem", "virtio-serial", "tls", "auto")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_each_transport_gives_the_same_tree_without_a_reboot_and_back(host, prepared, reference, transport):
    boot = prepared.boot_id()

    host.moult("push", "app=2", "web-1", "--transport", transport)
    assert prepared.tree("/srv/app") == reference.after

    host.moult("rollback", "web-1")
    assert prepared.tree("/srv/app") == reference.before
    assert prepared.boot_id() == boot


def test_a_dry_run_tells_the_plan_and_touches_nothing(host, prepared, reference):
    out = host.moult("push", "app=2", "web-1", "--dry-run")
    assert "srv/app/obsolete" in out and "srv/app/big" in out
    assert prepared.tree("/srv/app") == reference.before
    assert prepared.exec("find / -xdev -name .moult | xargs -r ls -A").text in ("", "lost+found")


def test_the_new_version_is_there_after_a_reboot_and_the_way_back_too(host, prepared, reference):
    host.moult("push", "app=2", "web-1")
    prepared.reboot()
    assert prepared.tree("/srv/app") == reference.after
    host.moult("rollback", "web-1")
    assert prepared.tree("/srv/app") == reference.before


def test_a_power_cut_right_after_the_push_keeps_it(host, prepared, reference):
    host.moult("push", "app=2", "web-1")
    prepared.reboot(hard=True)
    assert prepared.tree("/srv/app") == reference.after


def test_a_second_push_of_the_same_release_changes_nothing(host, prepared, reference):
    host.moult("push", "app=2", "web-1")
    first = prepared.exec("find /srv/app -exec stat -c '%i %z %n' {} +").text
    host.moult("push", "app=2", "web-1")
    assert prepared.exec("find /srv/app -exec stat -c '%i %z %n' {} +").text == first
    assert prepared.tree("/srv/app") == reference.after


def test_the_guest_can_ask_for_a_file(host, prepared, reference):
    prepared.wait_for("moult-agent status | grep -q 'connected over'")
    prepared.exec("moult-agent request /srv/app/version")
    prepared.wait_for("[ \"$(cat /srv/app/version)\" = 2 ]", timeout=120)
    # Only that was asked for: everything else is as it was.
    tree = prepared.tree("/srv/app")
    assert tree["/srv/app/version"] == reference.after["/srv/app/version"]
    assert tree == reference.before | {"/srv/app/version": reference.after["/srv/app/version"]}


IVSHMEM = (0x1AF4, 0x1110)


def test_the_window_is_gone_after_the_push(host, prepared):
    host.moult("push", "app=2", "web-1", "--transport", "ivshmem")
    assert the_push(host)["transport"] == "ivshmem", "there was one"
    found = [d for bus in prepared.qmp.command("query-pci") for d in _devices(bus["devices"])]
    assert found, "a machine without devices"
    assert not [d for d in found if (d["id"]["vendor"], d["id"]["device"]) == IVSHMEM], found
    objects = [o["name"] for o in prepared.qmp.command("qom-list", path="/objects")]
    assert not [o for o in objects if o.startswith("moult-pack")], objects


def _devices(devices):
    for device in devices:
        yield device
        if "pci_bridge" in device:
            yield from _devices(device["pci_bridge"].get("devices", ()))


def test_the_guest_and_the_host_tell_the_same_story(host, prepared):
    host.moult("push", "app=2", "web-1")
    assert json.loads(prepared.exec("moult-agent status --json").text)["release"] == "app 2"
    assert "app 2" in prepared.exec("moult-agent history").text
    assert host.json("vm", "show", "web-1")["last_release"] == "app 2"


def test_several_guests_take_one_push(host, guests, reference):
    names = []
    for n in range(2):
        guest = guests.new(public_key=host.public)
        guest.copy_tree(reference.old, "/")
        host.add(f"vm-{n}", guest)
        names.append(f"vm-{n}")
    host.release(reference.new, reference.old)
    host.moult("push", "app=2", *names)
    for guest in guests.machines:
        assert guest.tree("/srv/app") == reference.after


def test_over_virtio_serial_a_delta_and_the_old_file_are_enough(host, prepared, reference, tmp_path):
    new = tmp_path / "new"
    subprocess.run(["cp", "-a", reference.old, new], check=True)
    changed = [p for p in sorted((new / "srv/app/lib").iterdir()) if p.stat().st_size > 5000]
    for path in changed:
        data = bytearray(path.read_bytes())
        data[1000] ^= 255
        path.write_bytes(data)
    host.release(new, reference.old, version="3")
    deltas = host.json("push", "app=3", "web-1", "--transport", "virtio-serial")["pushes"][0]["deltas"]
    assert deltas["files"] == len(changed) and deltas["failed"] == deltas["unsuited"] == 0
    assert 0 < deltas["bytes"] < 20_000 < deltas["saved_bytes"]
    sums = prepared.exec("cd /srv/app/lib && sha256sum *").text
    for path in changed:
        assert f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" in sums
    host.moult("rollback", "web-1")
    again = host.json("push", "app=3", "web-1", "--transport", "ivshmem")["pushes"][0]
    assert again["transport"] == "ivshmem" and again["deltas"]["files"] == 0, "a window is read faster than a delta"
    assert prepared.exec("cd /srv/app/lib && sha256sum *").text == sums
