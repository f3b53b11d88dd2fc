"""Something dies or is cut in the middle of a push: agent, moultd, window, port, connection. The push goes on."""

import os
import select

import pytest

import relay
import trees
from conftest import arm_fault, pull_out_window, the_push, wait_stopped

BIG_MB = 24
SOAK = os.environ.get("MOULT_SOAK") == "1"
NO_DAEMON = 11


@pytest.fixture
def large(host, reference, tmp_path):
    """An application whose push takes long enough to be interrupted in the middle."""
    return trees.application(tmp_path / "large", size_mb=BIG_MB)


def fault_points(host, guest):
    """Every point that the agent passes during a push and a rollback, in order of first passing."""
    arm_fault(guest, "", trace="/run/trace")
    host.moult("push", "app=2", "web-1")
    host.moult("rollback", "web-1")
    names = list(dict.fromkeys(guest.read_file("/run/trace").decode().split()))
    assert len(names) >= 10, names
    # A guest is slow to kill. tests/integration/test_engine_kill.py takes every point without one; here an ordinary run
    # takes a sixth of them, evenly spread, and --soak takes all.
    return names if SOAK else names[1::6]


def test_the_agent_is_killed_at_fault_points_of_a_push(host, prepared, reference):
    points = fault_points(host, prepared)
    for point in points:
        arm_fault(prepared, f"{point}=kill")
        code, out, err = host.run("push", "app=2", "web-1")
        tree = prepared.tree("/srv/app")
        # Whatever the command says, the tree is all old or all new, and it says which.
        assert tree == (reference.after if code == 0 else reference.before), f"{point}: {out}{err}"
        assert code == 0, f"{point}: a push goes on after the agent was killed: {out}{err}"
        host.moult("rollback", "web-1")
        assert prepared.tree("/srv/app") == reference.before, point


def test_the_agent_is_killed_at_fault_points_of_a_rollback(host, prepared, reference):
    points = fault_points(host, prepared)
    for point in points:
        host.moult("push", "app=2", "web-1")
        arm_fault(prepared, f"{point}=kill")
        code, out, err = host.run("rollback", "web-1")
        assert code == 0, f"{point}: {out}{err}"
        assert prepared.tree("/srv/app") == reference.before, point


def first_to_end(*processes, timeout=300):
    """Whichever of the child processes ends first."""
    handles = {os.pidfd_open(p.pid): p for p in processes}
    try:
        ready = select.select(list(handles), [], [], timeout)[0]
        assert ready, "neither ended"
        return handles[ready[-1]]
    finally:
        for handle in handles:
            os.close(handle)


def test_moultd_is_killed_at_every_state_of_a_push_and_goes_on(host, prepared, reference):
    # push-stored: a state of the push is durable, the daemon has not acted on it yet. push-store: before.
    for point in ("push-stored", "push-store"):
        for passing in range(1, 40):
            host.stop()
            host.start({"MOULT_FAULT": f"{point}:{passing}=kill"})
            command = host.spawn("push", "app=2", "web-1")
            try:
                survived = first_to_end(command, host.process) is command
                if not survived:
                    host.start()
                # A command that follows a push waits for a daemon that is away, and follows on.
                code = command.wait(300)
            finally:
                command.kill()
                text = command.stdout.read()
            if survived:
                # The fault is still armed: the checks, and the rollback, are not to run into it.
                host.stop()
                host.start()
            for job in host.json("jobs"):
                host.run("jobs", "wait", job["id"])
            tree = prepared.tree("/srv/app")
            assert tree in (reference.after, reference.before), f"{point}:{passing}"
            if tree == reference.after:
                # Killed between record and answer, the command cannot know; the push goes on all the same.
                assert code == 0 or (passing == 1 and code == NO_DAEMON), f"{point}:{passing}: {text}"
                host.moult("rollback", "web-1")
                assert prepared.tree("/srv/app") == reference.before
            else:
                # Killed before the push was on record: it never was.
                assert passing == 1 and code != 0, f"{point}:{passing}: {text}{host.log_text()}"
            if survived:
                assert passing > 3, f"{point} was passed only {passing - 1} times"
                break
        else:
            pytest.fail(f"{point} is passed without end")


def test_the_window_is_pulled_out_in_the_middle(host, guests, large, workdir):
    old, new = large
    guest = guests.new(public_key=host.public)
    guest.copy_tree(old, "/")
    with relay.Relay(guest.agent_socket, workdir / "port.sock") as cable:
        host.add("web-1", guest, agent_socket=cable.address)
        host.release(new, old, version="3")
        # The agent stops itself in the middle of staging, so that the middle is certain: 16 of 24 MiB are there.
        arm_fault(guest, "stage-write:16=stop")
        push = host.spawn("push", "app=3", "web-1", "--transport", "auto")
        wait_stopped(guest)
        pull_out_window(guest)
        guest.exec(f"kill -CONT {guest.agent_pid()}")
        assert push.wait(300) == 0, push.stdout.read()
        assert cable.to_target < (BIG_MB - 4) << 20, "what had come through the window came through the port again"
    push = the_push(host)
    assert (push["transport"], push["transport_changes"]) == ("virtio-serial", 1), push
    assert guest.tree("/srv/app") == _tree_of(guest, new, None)


# A cut comes after 16 MiB of 24. Up to 8 MiB were under way then and come again; to start over would take 40 MiB in all.
CUT = 16 << 20
WITHOUT_STARTING_OVER = (BIG_MB + 10) << 20


def test_the_port_is_closed_in_the_middle(host, guests, reference, large, workdir):
    old, new = large
    guest = guests.new(public_key=host.public)
    guest.copy_tree(old, "/")
    with relay.Relay(guest.agent_socket, workdir / "port.sock") as cable:
        host.add("web-1", guest, agent_socket=cable.address)
        host.release(new, old)
        cable.cut_after(CUT, direction="to_target")
        host.moult("push", "app=2", "web-1", "--transport", "virtio-serial")
        assert cable.cuts >= 1
        assert cable.to_target < WITHOUT_STARTING_OVER
    assert guest.tree("/srv/app") == _tree_of(guests.machines[0], new, None)


def test_the_connection_is_cut_in_the_middle(host, guests, reference, large):
    old, new = large
    with relay.Relay(("127.0.0.1", host.tls_port)) as cable:
        guest = guests.new(public_key=host.public, relayed_port=cable.address[1])
        guest.copy_tree(old, "/")
        host.add("web-1", guest)
        host.release(new, old)
        cable.cut_after(CUT, direction="to_client")
        host.moult("push", "app=2", "web-1", "--transport", "tls")
        assert cable.cuts >= 1
        assert cable.to_client < WITHOUT_STARTING_OVER
    assert guest.tree("/srv/app") == _tree_of(guest, new, None)


def test_the_connection_is_cut_for_good_and_the_port_takes_over(host, guests, reference, large, workdir):
    old, new = large
    with relay.Relay(("127.0.0.1", host.tls_port)) as network:
        # No root port of either kind: no window. So `auto` begins with the network.
        guest = guests.new(public_key=host.public, relayed_port=network.address[1], root_ports=0, pmem_ports=0)
        guest.copy_tree(old, "/")
        with relay.Relay(guest.agent_socket, workdir / "port.sock") as port:
            host.add("web-1", guest, agent_socket=port.address)
            host.release(new, old)
            guest.wait_for("moult-agent status | grep -q 'connected over.*tls'")
            network.cut_after(CUT, refuse=True, direction="to_client")
            host.moult("push", "app=2", "web-1", "--transport", "auto")
            assert network.cuts >= 1
            assert network.to_client + port.to_target < WITHOUT_STARTING_OVER
    assert the_push(host)["transport_changes"] == 1
    assert guest.tree("/srv/app") == _tree_of(guest, new, None)


def test_the_guest_is_reset_in_the_middle(host, prepared, reference):
    arm_fault(prepared, "stage-write:3=stop")
    push = host.spawn("push", "app=2", "web-1")
    wait_stopped(prepared)
    prepared.reboot(hard=True)
    assert push.wait(300) == 0, push.stdout.read()
    assert prepared.tree("/srv/app") == reference.after


def _tree_of(guest, new, old):
    """The tree as tar makes it, beside the real one: same names with another root."""
    guest.exec("rm -rf /reference && mkdir /reference")
    guest.copy_tree(new, "/reference")
    tree = {name.removeprefix("/reference"): value for name, value in guest.tree("/reference/srv/app").items()}
    guest.exec("rm -rf /reference")
    if old:
        guest.exec("rm -rf /srv/app")
        guest.copy_tree(old, "/")
    return tree
