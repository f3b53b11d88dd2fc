"""moult-agent as a process beside us, with a tree of its own and no virtio port, that is in its own tree: so a release can replace it. Init is
a loop here: an agent that ends is started again from its path, as `respawn` and `Restart=always` do."""

import os
import re
import shutil
import subprocess
import threading

import moult
import vm as vms

AGENT = moult.HOST_BUILD / "guest-agent/moult-agent"
NEXT = moult.HOST_BUILD / "guest-agent/moult-agent-next"
PLACE = "usr/sbin/moult-agent"


class Machine:
    """A guest in a folder: its tree, its agent, its init. `fault`: of the next start only; `always`: of every other."""

    def __init__(self, directory, host, name):
        self.dir, self.host, self.name = directory, host, name
        self.root = directory / "root"
        for part in ("root/usr/sbin", "root/srv", "trust"):
            (directory / part).mkdir(parents=True)
        shutil.copy(AGENT, self.root / PLACE)
        (self.root / "srv/version").write_text("1\n")
        (directory / "trust/test.pub").write_bytes(host.public)
        printed = host.moult("vm", "add", name, "--network", "--token")
        token = re.search(r"moult1:\S+", printed).group(0)
        self.words = [str(self.root / PLACE), "run", "--channel=none", f"--host=127.0.0.1:{host.tls_port}", f"--token={token}", "--log-level=debug",
                      f"--socket={directory / 'agent.sock'}", *(f"--{n}={directory / n}" for n in ("root", "state", "trust"))]
        self.log, self.fault, self.always, self.starts, self.ended = [], "", "", 0, []
        self.changed, self.stopping, self.process = threading.Condition(), False, None

    def __enter__(self):
        self.init = threading.Thread(target=self._respawn, daemon=True)
        self.init.start()
        return self

    def __exit__(self, *exc):
        with self.changed:
            self.stopping = True
            if self.process:
                self.process.kill()
        self.init.join()

    def _respawn(self):
        while True:
            with self.changed:
                if self.stopping:
                    return
                environment = os.environ | {"NOTIFY_SOCKET": ""} | ({"MOULT_FAULT": self.fault or self.always} if self.fault or self.always else {})
                self.fault = ""
                self.starts += 1
                try:
                    self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                                    text=True, errors="replace", env=environment)
                except OSError as error:  # what is there cannot be executed
                    self.log.append(f"init: {error}\n")
                    self.ended.append(error)
                    self.changed.notify_all()
                    self.changed.wait(0.2)
                    continue
            for line in self.process.stderr:
                with self.changed:
                    self.log.append(line)
                    self.changed.notify_all()
            with self.changed:
                self.ended.append(self.process.wait())
                self.changed.notify_all()

    def text(self):
        with self.changed:
            return "".join(self.log)

    def wait_for(self, text, times=1):
        """Until the log has it so often."""
        deadline = vms.Deadline(120, f"{text!r} in the agent's log")
        with self.changed:
            while sum(text in line for line in self.log) < times:
                try:
                    self.changed.wait(deadline.left())
                except vms.VmError as error:
                    raise AssertionError(f"{error}:\n{''.join(self.log)}") from None

    def restart(self, fault):
        """A new agent, with a fault point armed."""
        n = self.text().count(" agent-connected:")
        with self.changed:
            self.fault = fault
            self.process.kill()
        self.wait_for(" agent-connected:", n + 1)

    def version(self):
        return (self.root / "srv/version").read_text().strip()

    def runs(self):
        """The version that the daemon says it is, and that of the program at its path."""
        said = re.findall(r"moult-agent (\S+) serves", self.text())[-1]
        there = subprocess.run([str(self.root / PLACE), "version"], check=False, capture_output=True, text=True).stdout.split()
        return said, there[-1] if there else None


def release(host, directory, agent, name="app", version="2"):
    """With a file beside the agent, so that it is seen what is old and what is new."""
    tree = directory / f"tree-{version}"
    (tree / "usr/sbin").mkdir(parents=True)
    (tree / "srv").mkdir()
    if isinstance(agent, (str, bytes)):
        (tree / PLACE).write_bytes(agent.encode() if isinstance(agent, str) else agent)
    else:
        shutil.copy(agent, tree / PLACE)
    (tree / PLACE).chmod(0o755)
    (tree / "srv/version").write_text(f"{version}\n")
    return host.release(tree, None, name=name, version=version)
