"""moultd and moult as an operator has them: a daemon of the test's own, commands, keys and releases."""

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

import vm as vms

TOP = vms.TOP
# The host side runs with sanitizers even against real guests; MOULT_HOST_BUILD chooses another build.
HOST_BUILD = pathlib.Path(os.environ.get("MOULT_HOST_BUILD", TOP / "build/dev"))
MOULT, MOULTD = HOST_BUILD / "host-service/moult", HOST_BUILD / "host-service/moultd"
MOULT_DISKS = HOST_BUILD / "host-service/disk-helper/moult-disks"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class CommandError(Exception):
    """A `moult` command that had to work did not."""

    def __init__(self, words, code, out, err):
        super().__init__(f"`moult {' '.join(words)}` ended with {code}\n{out}{err}")
        self.code, self.out, self.err = code, out, err


class Connection(http.client.HTTPConnection):
    """HTTP/1.1 to a Unix socket."""

    def __init__(self, path, deadline_s=120):
        super().__init__("localhost", timeout=deadline_s)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)  # blocking: with a time-out a full backlog would be an error
        self.sock.settimeout(self.timeout)


class Host:
    """One moultd with its state, socket and trusted keys in a folder of its own."""

    def __init__(self, directory, tls=False, environment=None, options=(), user=None):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.state, self.trust = self.dir / "state", self.dir / "trust"
        # A socket's path has at most 107 bytes; a test's own folder may be longer than that.
        self.socket_dir = tempfile.TemporaryDirectory(prefix="moultd-", dir="/tmp")
        self.socket = pathlib.Path(self.socket_dir.name) / "moultd.sock"
        self.trust.mkdir(exist_ok=True)
        self.tls_port = free_port() if tls else None
        self.environment, self.options = environment or {}, [str(o) for o in options]
        self.process, self.log = None, self.dir / "moultd.log"
        self.user = user  # as whom moultd runs: as the test, or with this number
        if user is not None:
            for path in (self.dir, self.socket_dir.name):
                os.chown(path, user, user)

    def start(self, environment=None):
        words = [str(MOULTD), "--state-dir", str(self.state), "--socket", str(self.socket), "--trust", str(self.trust),
                 "--immutable-packs", "no"]  # so that the test's folder can be removed
        words += self.options
        if self.tls_port:
            words += ["--tls-listen", f"127.0.0.1:{self.tls_port}"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=os.environ | self.environment | (environment or {}),
                                            preexec_fn=vms._die_with_parent, user=self.user, group=self.user,
                                            extra_groups=None if self.user is None else [])
        deadline = vms.Deadline(60, "moultd's socket")
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self.socket))
                return self
            except OSError:
                if self.process.poll() is not None:
                    raise vms.VmError(f"moultd ended with {self.process.returncode}:\n{self.log_text()}") from None
                deadline.left()
                time.sleep(0.02)  # nobody announces a listening socket

    def log_text(self, size=6000):
        return self.log.read_bytes()[-size:].decode(errors="replace") if self.log.exists() else ""

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Orderly; anything but exit status 0 (a sanitizer's finding, say) is an error."""
        if not self.process or self.process.poll() is not None:
            code = self.process.returncode if self.process else 0
            if code not in (0, -signal.SIGKILL):
                raise vms.VmError(f"moultd had ended with {code}:\n{self.log_text()}")
            return
        self.process.terminate()
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise vms.VmError(f"moultd did not end:\n{self.log_text()}") from None
        if code != 0:
            raise vms.VmError(f"moultd ended with {code}:\n{self.log_text()}")

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    # -- commands

    def run(self, *words, timeout=600):
        """(exit code, standard output, standard error) of a moult command."""
        words = [str(w) for w in words]
        done = subprocess.run([str(MOULT), *words], check=False, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, errors="replace", timeout=timeout,
                              env=os.environ | {"MOULT_SOCKET": str(self.socket)})
        return done.returncode, done.stdout, done.stderr

    def moult(self, *words, timeout=600):
        words = [str(w) for w in words]
        code, out, err = self.run(*words, timeout=timeout)
        if code != 0:
            raise CommandError(words, code, out, err + f"--- moultd's log:\n{self.log_text(3000)}")
        return out

    def json(self, *words, timeout=600):
        return json.loads(self.moult(*words, "--json", timeout=timeout))

    def spawn(self, *words):
        """A command that the test goes on beside; its output is in the pipe."""
        return subprocess.Popen([str(MOULT), *[str(w) for w in words]], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                env=os.environ | {"MOULT_SOCKET": str(self.socket)},
                                preexec_fn=vms._die_with_parent)

    def new_key(self, name="test"):
        """A signing key that this host trusts; its public half, for guests."""
        self.moult("key", "new", "--out", self.dir / f"{name}.key")
        public = (self.dir / f"{name}.pub").read_bytes()
        (self.trust / f"{name}.pub").write_bytes(public)
        return public

    def build(self, new, old=None, name="app", version="2", key="test", options=()):
        """Builds a release from one or two trees; the pack's path. Its deltas are made in a hurry."""
        pack = self.dir / f"{name}-{version}.moult"
        self.moult("release", "build", new, *(["--from", old] if old else []), "--name", name, "--version", version,
                   *(["--sign", self.dir / f"{key}.key"] if key else []), "--delta-level", "6", *options, "-o", pack)
        return pack

    def release(self, new, old=None, name="app", version="2", key="test", options=()):
        """Builds and imports; how push names it."""
        self.moult("release", "import", self.build(new, old, name, version, key, options))
        return f"{name}={version}"

    def add(self, name, guest, agent_socket=None):
        self.moult("vm", "add", name, "--qmp", guest.qmp_socket, "--agent", agent_socket or guest.agent_socket)
