"""A release that brings a new agent (docs/upgrade-transaction.md): it is tried before it is in its place, takes over in the same process, and the
host confirms to it; one that is not fit takes the release back; killed anywhere, all is old or all is new."""

import pathlib

import pytest

import agent_lab
import moult

OLD, NEW = "0.1.0", "0.1.0+next"


@pytest.fixture
def host(tmp_path):
    with moult.Host(tmp_path / "host", tls=True) as daemon:
        daemon.public = daemon.new_key()
        yield daemon


@pytest.fixture
def machine(host, tmp_path):
    with agent_lab.Machine(tmp_path / "guest", host, "web-1") as guest:
        guest.wait_for(" agent-connected:")
        yield guest


def pushes(host):
    return [(push["state"], push.get("error_text") or push.get("text") or "") for job in host.json("jobs", "--all") if job["kind"] == "push"
            for push in host.json("jobs", "show", job["id"])["pushes"]]


def test_a_new_agent_takes_over_in_the_same_process_and_is_the_one_that_the_host_confirms(host, machine, tmp_path):
    pid = machine.process.pid
    host.moult("push", agent_lab.release(host, tmp_path, agent_lab.NEXT), "web-1")
    assert machine.runs() == (NEW, NEW) and machine.version() == "2"
    assert machine.process.pid == pid and machine.starts == 1 and not machine.ended
    # The old one has never been told to confirm: what was committed, was by the new one.
    assert "PHASE_COMMITTED" in machine.text().split("gives way")[1] and "PHASE_COMMITTED" not in machine.text().split("gives way")[0]
    assert [state for state, _ in pushes(host)] == ["done"]
    assert host.json("vm", "show", "web-1")["software"] == f"moult-agent {NEW}"
    # The way back leads to the old agent, which runs again then.
    host.moult("rollback", "web-1")
    assert machine.version() == "1"
    machine.wait_for(f"moult-agent {OLD} serves", 2)
    assert machine.runs() == (OLD, OLD) and machine.starts == 1


@pytest.mark.parametrize("agent,says", [
    ("#!/bin/sh\necho it is broken; exit 3\n", "it is broken"),
    ("#!/bin/sh\nkill -SEGV $$\n", "killed by signal 11"),
    ("#!/bin/sh\nexit 0\n", "does not say that it is good"),
    ("#!/nowhere/interpreter\n", "could not be started"),
    (pathlib.Path("/bin/true").read_bytes()[:18] + b"\xb7\0" + pathlib.Path("/bin/true").read_bytes()[20:], "another kind of machine"),
    ("no program at all\n", "it is no program"),
], ids=["fails", "crashes", "is-another-program", "misses-its-loader", "of-another-machine", "is-text"])
def test_an_agent_that_is_not_fit_takes_the_release_back(host, machine, tmp_path, agent, says):
    code, out, err = host.run("push", agent_lab.release(host, tmp_path, agent), "web-1")
    assert code == 5 and says in out, out + err
    assert machine.runs() == (OLD, OLD) and machine.version() == "1"
    assert machine.starts == 1 and "gives way" not in machine.text()
    # Nothing is broken by it.
    host.moult("push", agent_lab.release(host, tmp_path, agent_lab.NEXT, version="3"), "web-1")
    assert machine.runs() == (NEW, NEW) and machine.version() == "3"


# Where the old agent is killed, and what must be the end of it: the host goes on with the push in every case.
@pytest.mark.parametrize("fault", ["switch", "switched-all", "sync-journal-switched", "sync-journal-health", "try-agent", "switch-agent", "switched-agent",
                                   "sync-journal-active"])
def test_killed_at_each_step_all_is_new_in_the_end(host, machine, tmp_path, fault):
    name = agent_lab.release(host, tmp_path, agent_lab.NEXT)
    machine.restart(f"{fault}=kill")
    host.moult("push", name, "web-1")
    assert -9 in machine.ended[1:], "it was killed in the push"
    assert machine.runs() == (NEW, NEW) and machine.version() == "2"
    assert [state for state, _ in pushes(host)] == ["done"]


def test_an_agent_that_does_not_reach_the_host_takes_the_release_back(host, machine, tmp_path):
    machine.restart("trial-patience=skip")
    mute = f'#!/bin/sh\nexec {agent_lab.NEXT} "$@" --host=127.0.0.1:1\n'
    code, out, err = host.run("push", agent_lab.release(host, tmp_path, mute), "web-1")
    assert code == 5 and "the host did not answer its hello within 1 s" in out, out + err
    assert machine.runs() == (OLD, OLD) and machine.version() == "1"


def test_an_agent_that_dies_at_each_start_after_its_trial_takes_the_release_back_in_the_fourth(host, machine, tmp_path):
    machine.always = "start-agent=kill"  # the old one does not come by there
    machine.restart(machine.always)
    name = agent_lab.release(host, tmp_path, agent_lab.NEXT)
    code, out, err = host.run("push", name, "web-1")
    assert code == 5 and "started 3 times" in out, out + err
    machine.wait_for(f"moult-agent {OLD} serves", 3)
    assert machine.runs() == (OLD, OLD) and machine.version() == "1"
