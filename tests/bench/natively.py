"""A machine without a machine: a root whose /usr cannot be written, in mounts of our own, and the agent's command on it.

What is measured here needs root, but no virtual machine: the switch of a merge, its gap, and peers that do the same.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
INSIDE = "MOULT_BENCH_INSIDE"
# What is measured comes before what else wants the CPU: the readers of a bench, and the neighbours.
FIRST = ["nice", "-n", "-20"]


def run(*words, **options):
    done = subprocess.run([str(w) for w in words], check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def enter_own_mounts():
    """This program again, in a mount namespace of its own. Its mounts are shared, as those of a machine with systemd are."""
    if os.environ.get(INSIDE) is None:
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    run("mount", "--make-rshared", "/")


@contextlib.contextmanager
def folder():
    """A folder on a disk. Nothing that was mounted below it is left, nor a server that it would keep."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="moult-bench-", dir=os.environ.get("MOULT_BENCH_DIR", "/var/tmp")))
    try:
        yield path
    finally:
        unmount_below(path)
        shutil.rmtree(path, ignore_errors=True)


def unmount_below(path):
    for line in reversed(pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()):
        point = line.split()[4]
        if point == str(path) or point.startswith(f"{path}/"):
            subprocess.run(["umount", "-l", point], check=False, stderr=subprocess.DEVNULL)


def files(root, count, version, size=1024, at="usr/lib/bench"):
    """`count` files in directories of a hundred; each says which version it is."""
    for i in range(count):
        directory = os.path.join(root, at, f"{i // 100:03d}")
        if i % 100 == 0:
            os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, f"file{i:05d}"), "wb") as f:
            f.write(f"version {version} of {i:05d}\n".encode().ljust(size, b"."))


class Machine:
    """DIR/root with a read-only /usr, the agent's state on DIR's own file system."""

    def __init__(self, build, directory):
        build = pathlib.Path(build).resolve()
        self.moult, self.agent = build / "host-service/moult", build / "guest-agent/moult-agent"
        self.dir = pathlib.Path(directory)
        self.root, self.state, self.usr = self.dir / "root", self.dir / "state", self.dir / "root/usr"
        (self.dir / "trust").mkdir(parents=True)
        self.usr.mkdir(parents=True)
        run(self.moult, "key", "new", "bench", cwd=self.dir)
        shutil.copy(self.dir / "bench.pub", self.dir / "trust")

    def mount_usr(self, source, kind="ext4"):
        """Read-only, made of a folder."""
        image = self.dir / f"usr.{kind}"
        image.unlink(missing_ok=True)
        if kind == "squashfs":
            run("mksquashfs", source, image, "-quiet", "-no-progress")
        else:
            used = sum(1 for _ in pathlib.Path(source).rglob("*"))
            size = int(run("du", "-sB1", source).split()[0]) * 5 // 4 + (64 << 20)
            run("truncate", "-s", size, image)
            run("mkfs.ext4", "-q", "-F", "-N", used + 1000, "-d", source, image)
        run("mount", "-o", "loop,ro", image, self.usr)

    def pack(self, tree, name):
        path = self.dir / f"{name}.moult"
        run(self.moult, "release", "build", tree, "--name", "bench", "--version", name, "--sign", self.dir / "bench.key",
            "--compress", "none", "-o", path)
        return path

    def apply(self, pack, *options, trace=None):
        """(seconds of the whole, seconds from the decision to "everything is switched") as the agent has measured it."""
        tracer = ["strace", "-f", "--seccomp-bpf", "-y", "-ttt", "-T", "-e", "trace=move_mount,umount2", "-o", trace] if trace else []
        started = time.monotonic()
        out = run(*FIRST, *tracer, self.agent, "apply", pack, "--root", self.root, "--state", self.state, "--trust", self.dir / "trust",
                  "--json", *options)
        took = time.monotonic() - started
        last = json.loads(out.splitlines()[-1])
        if last["phase"] != "committed":
            raise RuntimeError(f"{pack} is not committed: {last}")
        return took, int(last["switch_us"]) / 1e6

    def mount_operations(self, trace):
        """Seconds from the first mount operation that can be seen in /usr to the last, of the calls that were traced."""
        begin = end = None
        for line in pathlib.Path(trace).read_text(encoding="utf-8").splitlines():
            found = re.match(r"\d+ +([\d.]+) (?:move_mount\(.*, \d+<([^>]*)>, \"\", .*|umount2\(.*) = 0 <([\d.]+)>", line)
            if not found or not (found.group(2) or str(self.usr)).startswith(str(self.usr)):
                continue
            begin = float(found.group(1)) if begin is None else begin
            end = float(found.group(1)) + float(found.group(3))
        return end - begin

    @contextlib.contextmanager
    def watched(self, *paths):
        """Readers that open the files all the time. Yields what becomes (opens, failed, original content seen) of each."""
        program, counts = self.dir / "open_probe", []
        run("cc", "-O2", "-o", program, HERE / "open_probe.c")
        readers = [subprocess.Popen([program, path, "version 0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for path in paths]
        try:
            for reader in readers:
                if reader.stdout.readline() != "running\n":
                    raise RuntimeError("the readers do not run")
            yield counts
        finally:
            for reader in readers:
                reader.stdin.close()
            counts += [tuple(map(int, reader.stdout.read().split())) for reader in readers]
            for reader in readers:
                reader.wait()
