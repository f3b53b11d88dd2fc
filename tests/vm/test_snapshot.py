"""Restore points of a running guest: frozen for the switch, each with all that was acknowledged before, and each boots."""

import pytest

# Each record is durable before the next one is begun, and before it counts in /run/written.
WRITER = """
i=0
while :; do
    i=$((i + 1))
    echo "$i $(echo $i | cksum)" | dd of=/srv/records oflag=append conv=notrunc,fsync 2>/dev/null && echo $i >/run/written
done
"""

CHECK = r"""
n=0
while read i sum; do
    n=$((n + 1))
    [ "$i" = $n ] && [ "$sum" = "$(echo $n | cksum)" ] || { echo "record $n is \"$i $sum\""; exit 1; }
done </srv/records
echo $n
"""


@pytest.fixture
def guest(guests):
    machine = guests.new()
    for stage in ("pre-freeze.d", "post-thaw.d"):
        machine.write_file(f"/etc/moult/{stage}/10-app", f"#!/bin/sh\necho {stage} $1 >>/run/hooks\n", mode=0o755)
    machine.write_file("/run/writer", WRITER)
    machine.exec("mkdir -p /srv; : >/srv/records; sh /run/writer >/dev/null 2>&1 &")
    machine.wait_for("[ -s /run/written ]")
    return machine


def written(guest):
    return int(guest.exec("cat /run/written").text)


def chain(guest):
    image, n = guest.qmp.command("query-block")[0]["inserted"]["image"], 0
    while image:
        image, n = image.get("backing-image"), n + 1
    return n


def test_each_restore_point_boots_and_holds_a_prefix(host, guest, guests):
    host.add("web-1", guest)
    host.moult("vm", "wait", "web-1")
    points = []
    for name in ("one", "two"):
        before = written(guest)
        taken = host.json("snapshot", "create", "web-1", "--name", name, "--require-quiesce", "--no-upload", timeout=120)["result"]
        assert taken["grade"] == "application" and taken["hooks"] == 1 and taken["frozen_us"] > 0 and not taken["why"], taken
        points.append((guest.dir / taken["disks"][0]["layer"], before))
        assert chain(guest) <= 4
        after = written(guest)
        guest.wait_for(f"[ $(cat /run/written) -gt {after} ]")
    assert guest.exec("cat /run/hooks").text.split("\n") == ["pre-freeze.d freeze", "post-thaw.d thaw"] * 2
    guest.stop(keep=True)
    records = []
    for layer, before in points:
        again = guests.new(base_disk=(layer, "qcow2"))
        assert "recover" not in again.exec("dmesg | grep -i ext4; true").text  # it was at rest: there is no journal to replay
        again.write_file("/run/check", CHECK)
        records.append(int(again.exec("sh /run/check").text))
        assert records[-1] >= before
        again.stop()
    assert records == sorted(records)


def goes_back(host, guest, to):
    """The guest starts again meanwhile, and its agent is there again."""
    boot = guest.boot_id()
    done = host.json("snapshot", "rollback", "web-1", "--to", to, "--restart", timeout=120)["result"]
    assert done["running"]
    guest.exec_channel.close()
    guest.wait_ready()
    assert guest.boot_id() != boot
    host.moult("vm", "wait", "web-1")
    return done["before"]


def test_a_running_guest_goes_back_and_forth(host, guest):
    host.add("web-1", guest)
    host.moult("vm", "wait", "web-1")
    guest.exec("echo kept >/srv/kept; sync")
    host.moult("snapshot", "create", "web-1", "--name", "one", timeout=120)
    guest.exec("echo later >/srv/later; echo changed >/srv/kept; sync")
    before = goes_back(host, guest, "one")
    assert guest.exec("cat /srv/kept; ls /srv").text.split() == ["kept", "kept", "records"]
    guest.exec("echo branch >/srv/branch; sync")
    goes_back(host, guest, before)
    assert guest.exec("cat /srv/kept /srv/later; ls /srv").text.split() == ["changed", "later", "kept", "later", "records"]
    host.moult("snapshot", "create", "web-1", "--name", "two", timeout=120)
    assert chain(guest) <= 4
