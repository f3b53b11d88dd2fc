"""Many simulated VMs: agent_fleet's agents behind Unix sockets, as QEMU's chardevs are, each known to a moultd as a VM."""

import json
import pathlib
import subprocess
import tempfile

import moult
import vm as vms

FLEET = moult.HOST_BUILD / "tests/agent_fleet"


def name(i):
    return f"sim-{i:04}"


class Agents:
    """COUNT agents that fetch what they are offered, and call it RELEASE; they remember as long as this object lives."""

    def __init__(self, count, release, pack, step_ms=0, unhealthy=0):
        self.count = count
        self.dir = tempfile.TemporaryDirectory(prefix="agents-", dir="/tmp")  # short: the paths are those of sockets
        self.process = subprocess.Popen([FLEET, self.dir.name, str(count), release, pack, "--step-ms", str(step_ms),
                                         "--unhealthy", str(unhealthy)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=vms._die_with_parent)
        if self.process.stdout.readline() != "ready\n":
            raise vms.VmError(f"agent_fleet ended with {self.process.wait()}")

    def add_to(self, host_socket):
        """Makes them known to the moultd behind this socket."""
        for i in range(self.count):
            body = {"name": name(i), "agent": str(pathlib.Path(self.dir.name) / f"{i}.sock")}
            api = moult.Connection(host_socket)
            api.request("POST", "/v1/vms", json.dumps(body), {"Content-Type": "application/json"})
            answer = api.getresponse()
            text = answer.read()
            api.close()
            if answer.status != 201:
                raise vms.VmError(f"adding {body}: {answer.status} {text}")

    def report(self):
        """What each has done, in their order: phase, release (None: what it began with), offers, commits, fetched bytes."""
        self.process.stdin.write("report\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.stdin.close()
        code = self.process.wait(60)
        self.process.stdout.close()
        self.dir.cleanup()
        if code != 0 and not exc[0]:
            raise vms.VmError(f"agent_fleet ended with {code}")
