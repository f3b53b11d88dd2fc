#!/usr/bin/python3
"""Reading through a merge, side by side with other unions and with no merge at all. Needs root; no virtual machine.

The original is a copy of /usr/include and /usr/share/doc with a large file, bound read-only; the target brings
the Python library. Each method is mounted anew in each round, in turn, so the kernel's cache of it is empty;
what lies below is in the page cache. The peers get the options that their manuals recommend for content that
does not change.

    merge.py BUILD [--rounds N]
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

FOR_EVER = 86400
SOURCE = "".join(f"#include <{h}>\n" for h in ("stdio.h", "stdlib.h", "string.h", "pthread.h", "netdb.h", "sys/mount.h", "sys/socket.h",
                                               "openssl/ssl.h", "openssl/x509v3.h", "openssl/evp.h", "fuse3/fuse_lowlevel.h"))


def run(*words, **options):
    return subprocess.run([str(w) for w in words], check=True, stdout=subprocess.PIPE, **options).stdout


class Bench:
    def __init__(self, build, folder):
        self.build, self.dir = pathlib.Path(build), pathlib.Path(folder)
        self.original, self.changes = self.dir / "original", self.dir / "changes"
        self.original.mkdir()
        run("cp", "-a", "/usr/include", "/usr/share/doc", self.original)
        with open(self.original / "large", "wb") as f:
            for _ in range(256):
                f.write(os.urandom(1 << 20))
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

    def seconds(self, words, at):
        started = time.perf_counter()
        subprocess.run([str(w) for w in words], cwd=at, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - started

    def fio(self, at, pattern):
        out = run("fio", "--name=r", f"--filename={at}/large", "--readonly", f"--rw={pattern}", "--ioengine=psync", "--bs=4k" if
                  pattern == "randread" else "--bs=1M", "--size=64M" if pattern == "randread" else "--size=256M", "--randseed=1",
                  "--output-format=json", stderr=subprocess.DEVNULL)
        return json.loads(out)["jobs"][0]["read"]["runtime"] / 1000

    def measure(self, at):
        find = ["find", ".", "-path", "./python3", "-prune", "-o", "-printf", "%s %p\n"]
        grep = ["grep", "-r", "no such line", "include", "doc"]
        compile_one = ["gcc", "-fsyntax-only", "-nostdinc", "-isystem", self.inc, "-isystem", f"{at}/include",
                       "-isystem", f"{at}/include/x86_64-linux-gnu", self.dir / "test.c"]
        return {"compile": self.seconds(compile_one, at),
                "find": self.seconds(find, at), "find again": self.seconds(find, at),
                "grep -r": self.seconds(grep, at), "grep -r again": self.seconds(grep, at),
                "sequential": self.fio(at, "read"), "random 4 KiB": self.fio(at, "randread")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if os.environ.get("MERGE_BENCH_INSIDE") is None:
        os.environ["MERGE_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    methods = ["native", "overlay", "union", "fuse-overlayfs", "bindfs"]
    folder = tempfile.mkdtemp(prefix="moult-bench-")
    results = {m: {} for m in methods}
    try:
        bench = Bench(os.path.abspath(options.build), folder)
        bench.measure(bench.mount("native"))        # into the page cache
        for _ in range(options.rounds):
            for method in methods:
                for name, seconds in bench.measure(bench.mount(method)).items():
                    results[method].setdefault(name, []).append(seconds)
                bench.unmount(method)
    finally:
        for line in reversed(pathlib.Path("/proc/self/mountinfo").read_text().splitlines()):
            if folder in line.split()[4]:
                subprocess.run(["umount", "-l", line.split()[4]], check=False)
        shutil.rmtree(folder, ignore_errors=True)
    print("| work | " + " | ".join(methods) + " |\n|---" * 1 + "|---" * len(methods) + "|")
    for work in results["native"]:
        base = statistics.median(results["native"][work])
        cells = [statistics.median(results[m][work]) for m in methods]
        print(f"| {work} | " + " | ".join(f"{c * 1000:.0f} ({base / c:.2f})" for c in cells) + " |")


if __name__ == "__main__":
    main()
