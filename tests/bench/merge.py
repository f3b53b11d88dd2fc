#!/usr/bin/python3
"""Reading through a merge, side by side with other unions and with no merge at all. Needs root; no virtual machine.

The original is a copy of /usr/include and /usr/share/doc with a large file, bound read-only; the target brings
the Python library. Each method is mounted anew in each round, in turn, and every other round in reverse.

Before each piece of work the same is done on the original directly, so what lies below is in the page cache for
all of them alike (fuse-overlayfs moves pages from there into its own cache; whoever came after it would pay for
that). "First" means that nothing is in the kernel's caches of the merge; natively there is no such thing. fio
does not drop caches itself: that of the merge is dropped here, and for "from a disk" the one below as well.

Time on a shared machine says little, so the CPU time of the work and of the server is counted, too. The peers get
the options that their manuals recommend for content that does not change.

    merge.py BUILD [--rounds N] [--methods LIST] [--work LIST]
    merge.py BUILD --trace             requests and system calls of the servers, by strace
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

FOR_EVER = 86400
METHODS = ["native", "overlay", "union", "fuse-overlayfs", "bindfs"]
SERVED = {"union": "moult-targetfs", "fuse-overlayfs": "fuse-overlayfs", "bindfs": "bindfs"}
SOURCE = "#define FUSE_USE_VERSION 35\n" + "".join(f"#include <{h}>\n" for h in (
    "stdio.h", "stdlib.h", "string.h", "pthread.h", "netdb.h", "sys/mount.h", "sys/socket.h", "openssl/ssl.h", "openssl/x509v3.h",
    "openssl/evp.h", "fuse3/fuse_lowlevel.h"))
WORK = ["compile", "find", "grep -r", "sequential", "random 4 KiB"]
FROM_DISK = "sequential, from a disk"


def run(*words, **options):
    return subprocess.run([str(w) for w in words], check=True, stdout=subprocess.PIPE, **options).stdout


def drop(path):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def cpu_ms(pid):
    """Of a process with all its threads, also those that have ended; the clock's number is the kernel's affair."""
    return time.clock_gettime((~pid << 3) | 2) * 1000


class Bench:
    def __init__(self, build, folder):
        self.build, self.dir = pathlib.Path(build), pathlib.Path(folder)
        self.original, self.changes = self.dir / "original", self.dir / "changes"
        self.original.mkdir()
        run("cp", "-a", "/usr/include", "/usr/share/doc", self.original)
        with open(self.original / "large", "wb") as f:
            for _ in range(256):
                f.write(os.urandom(1 << 20))
            os.fsync(f.fileno())        # only clean pages can be dropped
        (self.changes / "usr").mkdir(parents=True)
        run("cp", "-a", "/usr/lib/python3", self.changes / "usr")
        (self.dir / "test.c").write_text(SOURCE + "int main(void) { return 0; }\n")
        self.inc = run("gcc", "-print-file-name=include", text=True).strip()
        for d in ("state", "run", "root/usr", "mnt"):
            (self.dir / d).mkdir(parents=True)
        run("mount", "--bind", self.original, self.dir / "root/usr")
        run("mount", "-o", "remount,bind,ro", self.dir / "root/usr")

    def mount(self, method):
        """Where the merge is seen."""
        usr, mnt = self.dir / "root/usr", self.dir / "mnt"
        if method == "native":
            return usr
        if method in ("union", "overlay"):
            run(self.build / "tests/merge_tool", "apply", self.dir / "root", self.dir / "state", self.dir / "run", method,
                f"new={self.changes}", "tree=usr@usr")
            return usr
        if method == "fuse-overlayfs":
            run("fuse-overlayfs", "-o", f"lowerdir={self.changes}/usr:{self.original},timeout={FOR_EVER}", mnt, stderr=subprocess.DEVNULL)
        else:
            run("bindfs", "--multithreaded", "-o", f"ro,kernel_cache,attr_timeout={FOR_EVER},entry_timeout={FOR_EVER},"
                f"negative_timeout={FOR_EVER}", self.original, mnt)
        return mnt

    def unmount(self, method):
        if method in ("union", "overlay"):
            run(self.build / "tests/merge_tool", "apply", self.dir / "root", self.dir / "state", self.dir / "run", "auto")
        elif method != "native":
            run("umount", self.dir / "mnt")

    def servers(self, method):
        found = []
        for p in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (p / "cmdline").read_bytes()
            except OSError:
                continue
            if method in SERVED and SERVED[method][1:].encode() in words.split(b"\0")[0] and os.fsencode(self.dir) in words:
                found.append(int(p.name))
        return found

    def words(self, work, at):
        if work == "find":
            return ["find", ".", "-path", "./python3", "-prune", "-o", "-printf", "%s %p\n"]
        if work == "grep -r":
            return ["grep", "-r", "no such line", "include", "doc"]
        if work == "compile":
            return ["gcc", "-fsyntax-only", "-nostdinc", "-isystem", self.inc, "-isystem", f"{at}/include",
                    "-isystem", f"{at}/include/x86_64-linux-gnu", self.dir / "test.c"]
        small = work == "random 4 KiB"
        return ["fio", "--name=r", f"--filename={at}/large", "--readonly", f"--rw={'randread' if small else 'read'}", "--ioengine=psync",
                "--invalidate=0", f"--bs={'4k' if small else '1M'}", f"--size={'64M' if small else '256M'}", "--randseed=1",
                "--output-format=json"]

    def measure(self, work, at, servers=()):
        """(milliseconds, milliseconds of CPU)"""
        before, served, started = resource.getrusage(resource.RUSAGE_CHILDREN), sum(map(cpu_ms, servers)), time.perf_counter()
        p = subprocess.run([str(w) for w in self.words(work, at)], cwd=at, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        wall = (time.perf_counter() - started) * 1000
        after, served = resource.getrusage(resource.RUSAGE_CHILDREN), sum(map(cpu_ms, servers)) - served
        assert p.returncode == (work == "grep -r"), (work, p.returncode)
        if self.words(work, at)[0] != "fio":
            return wall, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000 + served
        job = json.loads(p.stdout)["jobs"][0]   # without fio's own start, which takes longer than the reads
        return job["read"]["runtime"], (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] + served

    def prepare(self, work, at):
        """What is below is in the page cache, or not if it is to come from a disk; what is read of the merge is not."""
        is_fio = self.words(work, at)[0] == "fio"
        if is_fio:
            drop(at / "large")
        if work == FROM_DISK:
            drop(self.original / "large")
        elif is_fio:
            run("cat", self.original / "large", stderr=subprocess.DEVNULL)
        else:
            self.measure(work, self.original)

    def round(self, method, works, results):
        at, servers = self.mount(method), self.servers(method)
        for work in works:
            self.prepare(work, at)
            for again in ("",) if work == FROM_DISK else (", first", ", again"):
                results.setdefault(work + again, {}).setdefault(method, []).append(self.measure(work, at, servers))
        self.unmount(method)

    def trace(self, method, works):
        """Each work once: requests that the server answered, and all its system calls."""
        at, counts = self.mount(method), {}
        for work in works:
            self.prepare(work, at)
            for again in ", first", ", again":
                out = self.dir / "strace"
                tracer = subprocess.Popen(["strace", "-f", "-o", out, *(f"--attach={p}" for p in self.servers(method))],
                                          stderr=subprocess.PIPE, text=True)
                for _ in self.servers(method):
                    tracer.stderr.readline()    # "attached"
                self.measure(work, at)
                tracer.terminate()
                tracer.communicate()
                calls = [line.split(None, 1)[1] for line in out.read_text().splitlines() if "(" in line]
                # A spliced answer begins with its header, into the pipe.
                counts[work + again] = (sum(c.startswith(("writev(", "vmsplice(")) for c in calls), len(calls))
        self.unmount(method)
        return counts


def table(results, methods, which, title):
    print(f"\n| {title} | " + " | ".join(methods) + " |\n|---" + "|---" * len(methods) + "|")
    for work, of in results.items():
        cells = [statistics.median(x[which] for x in of[m]) for m in methods]
        base = cells[methods.index("native")] if "native" in methods else None
        print(f"| {work} | " + " | ".join(f"{c:.0f} ({base / max(c, 1):.2f})" if base else f"{c:.0f}" for c in cells) + " |")


def versus(results, ours, others):
    """How often we were faster in the same round, and by how much as a rule."""
    print(f"\n| {ours}'s time / the other's, median of rounds (CPU; rounds won) | " + " | ".join(others) + " |\n|---" + "|---" * len(others) + "|")
    for work, of in results.items():
        cells = []
        for other in others:
            ratios = [[a[k] / max(b[k], 1) for a, b in zip(of[ours], of[other])] for k in (0, 1)]
            cells.append(f"{statistics.median(ratios[0]):.2f} ({statistics.median(ratios[1]):.2f}; {sum(r < 1 for r in ratios[0])}/{len(ratios[0])})")
        print(f"| {work} | " + " | ".join(cells) + " |")


def measure_all(bench, options):
    results = {}
    works = options.work + ([FROM_DISK] if "sequential" in options.work else [])
    for i in range(options.rounds + 1):
        if i == 1:
            results.clear()             # the first round is for what else has to come from a disk
        for method in options.methods if i % 2 else options.methods[::-1]:
            bench.round(method, works, results)
    print(f"{options.rounds} rounds, load {', '.join(f'{x:.1f}' for x in os.getloadavg())} on {os.cpu_count()} CPUs")
    table(results, options.methods, 0, "milliseconds (native / this)")
    table(results, options.methods, 1, "CPU milliseconds (native / this)")
    if "union" in options.methods:
        versus(results, "union", [m for m in options.methods if m in ("fuse-overlayfs", "bindfs")])
    if {"overlay", "native"} <= set(options.methods):
        versus(results, "overlay", ["native"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", type=lambda s: s.split(","), default=METHODS)
    parser.add_argument("--work", type=lambda s: s.split(","), default=WORK)
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    if os.environ.get("MERGE_BENCH_INSIDE") is None:
        os.environ["MERGE_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    folder = tempfile.mkdtemp(prefix="moult-bench-")
    try:
        bench = Bench(os.path.abspath(options.build), folder)
        if options.trace:
            methods = [m for m in options.methods if m in SERVED]
            counts = {m: bench.trace(m, options.work) for m in methods}
            print("| requests (system calls of the server) | " + " | ".join(methods) + " |\n|---" + "|---" * len(methods) + "|")
            for work in counts[methods[0]]:
                print(f"| {work} | " + " | ".join(f"{counts[m][work][0]} ({counts[m][work][1]})" for m in methods) + " |")
        else:
            measure_all(bench, options)
    finally:
        for line in reversed(pathlib.Path("/proc/self/mountinfo").read_text().splitlines()):
            if folder in line.split()[4]:
                subprocess.run(["umount", "-l", line.split()[4]], check=False)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
