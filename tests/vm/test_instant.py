"""Instant mode in a running guest: blocks come out of the shared memory before anything is copied; and what ends in the middle of the copying
(the window, the agent) does not end the push. tests/integration/test_instant.py has the rest."""

import pytest

import trees
from conftest import HOLD, arm_fault, pull_out_window, the_push, wait_stopped

PLACE = "ro/squashfs"
BLOCK = 4096


@pytest.fixture
def guest(host, guests):
    machine = guests.new("tiny-ro", public_key=host.public)
    host.add("web-1", machine)
    return machine


@pytest.fixture
def big(host, tmp_path):
    """The bytes of the large file of release "app=2", of which nothing can be written in the guest."""
    old, new = trees.application(tmp_path, place=f"{PLACE}/app")
    host.release(new, old)
    return (new / PLACE / "app/big").read_bytes()


def block(guest, n):
    return guest.exec(f"dd if=/{PLACE}/app/big bs={BLOCK} count=1 skip={n} 2>/dev/null", timeout=120).out


def wanted(big, n):
    return big[n * BLOCK:(n + 1) * BLOCK]


def merge(guest):
    """The place of the merge."""
    [line] = [line.split() for line in guest.read_file("/proc/self/mountinfo").decode().splitlines() if "moult-union-" in line]
    return line[4]


def sources(guest):
    """{way: bytes} that the merge's server has read of the pack."""
    text = guest.exec(f"getfattr -n trusted.moult.sources --only-values --absolute-names {merge(guest)}").text
    return {k: int(v) for k, v in (word.split("=") for word in text.split())}


def objects(guest):
    return guest.exec("find /var/lib/moult/target/objects -type f").text.split()


def assert_local(guest, big):
    assert "overlay" in guest.exec(f"moult-agent which /{PLACE}/app/version").text
    assert objects(guest) and guest.exec(f"cat /{PLACE}/app/version").text == "2"
    assert guest.read_file(f"/{PLACE}/app/big") == big


def test_blocks_come_out_of_the_shared_memory_before_anything_is_copied(host, guest, big):
    arm_fault(guest, "fill=hold")
    push = host.spawn("push", "app=2", "web-1", "--instant")
    guest.wait_for(f"test -e {HOLD}", timeout=120)
    assert sources(guest) == {"ivshmem": 0, "pmem": 0, "agent": 0}
    assert block(guest, 300) == wanted(big, 300)
    seen = sources(guest)
    assert 0 < seen["ivshmem"] < len(big) // 2 and seen["agent"] == 0, seen
    assert not objects(guest)
    guest.exec(f"rm {HOLD}")
    assert push.wait(300) == 0, push.stdout.read()
    assert the_push(host)["transport"] == "ivshmem"
    assert_local(guest, big)


def test_the_window_is_pulled_out_in_the_middle_of_the_copying(host, guest, big):
    arm_fault(guest, "fill=hold,stage-write:8=stop")
    push = host.spawn("push", "app=2", "web-1", "--instant")
    guest.wait_for(f"test -e {HOLD}", timeout=120)
    assert block(guest, 0) == wanted(big, 0) and sources(guest)["ivshmem"] > 0
    guest.exec(f"rm {HOLD}")
    wait_stopped(guest)
    pull_out_window(guest)
    # A reader does not hear of it: the server asks the agent, and the agent the host, over the port.
    guest.exec(f"(dd if=/{PLACE}/app/big bs={BLOCK} count=1 skip=400 of=/run/block 2>/dev/null; touch /run/block-read) >/dev/null 2>&1 &")
    guest.wait_for("grep -q source=agent /var/lib/moult/target/targetfs.log")
    guest.exec(f"kill -CONT {guest.agent_pid()}")
    guest.wait_for("test -e /run/block-read", timeout=120)
    assert guest.read_file("/run/block") == wanted(big, 400)
    assert push.wait(300) == 0, push.stdout.read()
    record = the_push(host)
    assert (record["transport"], record["transport_changes"]) == ("virtio-serial", 1), record
    assert_local(guest, big)
    log = guest.read_file("/var/lib/moult/target/targetfs.log").decode()
    assert log.count("source=ivshmem") == log.count("source=agent") == 1 and "targetfs-unreadable" not in log, log


def test_the_agent_is_killed_in_the_middle_of_the_copying_and_goes_on(host, guest, big):
    boot = guest.boot_id()
    arm_fault(guest, "stage-write:8=kill")
    host.moult("push", "app=2", "web-1", "--instant")
    assert guest.boot_id() == boot
    assert_local(guest, big)
    log = guest.read_file("/run/moult-agent.log").decode()
    assert log.count("agent-recovered") == 1 and "PHASE_ROLLING_BACK" not in log
    host.stop()
    guest.reboot()
    assert_local(guest, big)


def test_a_guest_that_is_reset_in_the_middle_of_the_copying_has_the_old_files(host, guest, big):
    arm_fault(guest, "stage-write:8=stop")
    push = host.spawn("push", "app=2", "web-1", "--instant")
    wait_stopped(guest)
    assert guest.exec(f"cat /{PLACE}/app/version").text == "2"
    guest.reboot(hard=True)
    assert guest.exec(f"cat /{PLACE}/app/version").text == "1"
    assert push.wait(300) == 5, push.stdout.read()
    assert "moult-" not in guest.exec("cat /proc/self/mountinfo").text
