"""A real agent meets a real moultd over the network for the first time, by the token that `moult vm add` prints."""

import os
import re
import subprocess

import pytest

import moult
import vm as vms

AGENT = moult.HOST_BUILD / "guest-agent/moult-agent"


@pytest.fixture
def host(tmp_path):
    with moult.Host(tmp_path / "host", tls=True) as daemon:
        yield daemon


class Agent:
    """moult-agent as a process beside us, with a tree of its own and no virtio port."""

    def __init__(self, directory, host, token):
        for name in ("root", "trust"):
            (directory / name).mkdir(exist_ok=True)
        self.words = [str(AGENT), "run", "--channel=none", f"--host=127.0.0.1:{host.tls_port}", f"--token={token}",
                      f"--socket={directory / 'agent.sock'}",
                      *(f"--{name}={directory / name}" for name in ("root", "state", "trust"))]

    def __enter__(self):
        self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True, env=os.environ | {"NOTIFY_SOCKET": ""},
                                        preexec_fn=vms._die_with_parent)
        return self

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.communicate()

    def wait_for(self, event):
        """Reads its log up to the event; what was said."""
        said = []
        for line in self.process.stderr:
            said.append(line)
            if f" {event}:" in line:
                return "".join(said)
        raise AssertionError(f"the agent ended with {self.process.wait()} before {event}:\n{''.join(said)}")


def connected(host):
    """moultd may hear of it a little later than the agent."""
    deadline = vms.Deadline(60, "the VM is connected")
    while not host.json("vm", "show", "net-1")["connected"]:
        deadline.left()
    return True


def test_the_printed_token_lets_the_agent_in_once_and_its_key_from_then_on(host, tmp_path):
    printed = host.moult("vm", "add", "net-1", "--network", "--token")
    token = re.search(r"moult1:[0-9a-f]{64}:\S+", printed).group(0)
    with Agent(tmp_path, host, token) as agent:
        agent.wait_for("agent-connected")
        assert connected(host) and not host.json("vm", "show", "net-1")["join_pending"]
    with Agent(tmp_path, host, token) as agent:  # the setting stays in its file; the keys are pinned now
        agent.wait_for("agent-connected")
        assert connected(host)


def test_a_token_of_another_host_lets_nobody_in(host, tmp_path):
    host.moult("vm", "add", "net-1", "--network", "--token")
    with Agent(tmp_path, host, f"moult1:{'00' * 32}:{'x' * 48}") as agent:
        agent.wait_for("agent-host-unknown")
    assert host.json("vm", "show", "net-1")["join_pending"]
