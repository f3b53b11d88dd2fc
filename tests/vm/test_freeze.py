"""A running guest is brought to rest over its virtio port, and comes back, whoever dies meanwhile. tests/integration/test_freeze.py has the rest."""

import agent_host
import pytest

WRITER = "while echo x >>/srv/ticks; do sleep 0.01 2>/dev/null || usleep 10000; done"


def ident(n):
    return bytes([n]) * 16


@pytest.fixture
def guest(guests):
    """With a hook, and somebody who writes all the time."""
    machine = guests.new()
    for stage in ("pre-freeze.d", "post-thaw.d"):
        machine.write_file(f"/etc/moult/{stage}/10-app", f"#!/bin/sh\necho {stage} $1 >>/run/hooks\n", mode=0o755)
    machine.exec(f"mkdir -p /srv; sh -c '{WRITER}' >/dev/null 2>&1 & echo $! >/run/writer")
    machine.wait_for("[ -s /srv/ticks ]")
    return machine


def ticks(guest):
    return int(guest.exec("stat -c %s /srv/ticks").text)


def assert_still(guest):
    guest.wait_for("grep -q '^State:.D' /proc/$(cat /run/writer)/status", timeout=120)


def assert_goes_on(guest):
    before = ticks(guest)
    guest.wait_for(f"[ $(stat -c %s /srv/ticks) -gt {before} ]", timeout=120)


def freeze(port, n, lease_ms=60000):
    port.freeze(ident(n), "BEGIN", lease_ms, timeout=120)
    state = port.wait_freeze(ident(n), "FROZEN", timeout=120)
    assert state.mounts >= 1 and state.hooks_run == 1
    return state


def kill_agent(guest):
    old = guest.agent_pid()
    guest.exec(f"kill -9 {old}")
    guest.wait_for(f"[ ! -e /proc/{old} ]", timeout=120)


def test_a_guest_stands_still_and_comes_back_whoever_dies(guest):
    port = agent_host.connect(guest.agent_socket)
    port.wait_session(timeout=120)

    # by THAW
    freeze(port, 1)
    assert_still(guest)
    before = ticks(guest)
    assert port.freeze(ident(1), "RENEW", 60000).lease_left_ms > 0
    assert port.ask(status_query=agent_host.pb.StatusQuery()).software  # the agent answers
    assert ticks(guest) == before
    port.freeze(ident(1), "THAW")
    state = port.wait_freeze(ident(1), "THAWED", timeout=120)
    assert state.held and not state.error and state.frozen_us > 0
    assert_goes_on(guest)

    # with the agent killed: the next one goes on
    freeze(port, 2)
    assert_still(guest)
    kill_agent(guest)
    port.wait_session(2, timeout=120)
    assert_still(guest)
    assert port.freeze(ident(2), "RENEW", 60000, timeout=120).phase == agent_host.pb.FREEZE_PHASE_FROZEN
    port.freeze(ident(2), "THAW")
    assert port.wait_freeze(ident(2), "THAWED", timeout=120).held
    assert_goes_on(guest)
    guest.wait_for("moult-agent status")

    # with the holder killed as well: the next agent thaws what it finds
    freeze(port, 3)
    assert_still(guest)
    guest.exec(f"kill -STOP {guest.agent_pid()}; kill -9 $(for p in $(pidof moult-agent); do grep -q freezer /proc/$p/cmdline && echo $p; done)")
    assert_still(guest)
    kill_agent(guest)
    assert_goes_on(guest)
    port.wait_session(3, timeout=120)
    state = port.freeze(ident(3), "QUERY", timeout=120)
    assert state.phase >= agent_host.pb.FREEZE_PHASE_THAWING and not state.held
    guest.wait_for("moult-agent freeze-status | grep -q 'thawed.*did not hold'", timeout=120)

    # by the lease, with nobody at the other end
    freeze(port, 4, lease_ms=2000)
    port.close()
    guest.wait_for("moult-agent freeze-status | grep -q 'did not hold'", timeout=120)
    assert_goes_on(guest)
    assert guest.exec("cat /run/hooks").text.split("\n") == ["pre-freeze.d freeze", "post-thaw.d thaw"] * 4


def test_what_systemd_does_to_the_agent_leaves_nothing_frozen(guests):
    """The holder's scope outlives a restart; without one the unit thaws before the holder is killed."""
    guest = guests.new("debian")
    port = agent_host.connect(guest.agent_socket)
    port.wait_session(timeout=120)

    def rest(n):
        port.freeze(ident(n), "BEGIN", 60000, timeout=120)
        port.wait_freeze(ident(n), "FROZEN", timeout=120)

    rest(1)
    guest.exec("systemctl restart --no-block moult-agent", timeout=120)
    port.wait_session(2, timeout=120)
    assert port.freeze(ident(1), "RENEW", 60000, timeout=120).phase == agent_host.pb.FREEZE_PHASE_FROZEN
    port.freeze(ident(1), "THAW", timeout=120)
    assert port.wait_freeze(ident(1), "THAWED", timeout=120).held
    guest.wait_for("moult-agent status", timeout=120)

    guest.exec("mv /usr/bin/systemd-run /usr/bin/systemd-run.away")
    rest(2)
    guest.exec("systemctl stop --no-block moult-agent", timeout=120)
    guest.wait_for("! pidof moult-agent && touch /srv/thawed", timeout=120)
    assert "thawed 1 file systems" in guest.exec("journalctl -u moult-agent --no-pager").text
