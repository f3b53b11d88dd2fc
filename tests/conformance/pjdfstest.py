#!/usr/bin/python3
"""pjdfstest on merged trees, differentially: each test answers there as it does on an ordinary ext4 with the same content.

pjdfstest creates files in every test, so on a read-only tree most of its tests fail, as they should. What is asked is whether each
gives the very same answer (passed or not, and the error that the system call gave) on a merged tree as on a plain read-only ext4.
A lone file that is merged by bind is asked for in two places: in a read-only directory, and in a writable one, where the suite works
beside it and most of its tests pass. Not part of a run of the tests. Needs root, and merge_tool of a build ($MOULT_BUILD, else build/dev).

    git clone https://github.com/pjd/pjdfstest && cd pjdfstest && autoreconf -ifs && ./configure && make pjdfstest
    pjdfstest.py PATH_TO_PJDFSTEST [--cases overlay,union,bind,bind-writable] [--files open,link/00] [--jobs N]
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/integration"), str(TOP / "tests/support")]

import merge_lab  # noqa: E402
import test_merge_posix as content  # noqa: E402

FILE_LIMIT_S = 1800

# (case, file of the suite): why it cannot be alike.
EXCEPTIONS = {
    ("overlay", "link/00"): "compares the change time of the top directory with its modification time; nobody can set a change time, "
                            "and an overlay's is when the tree was made",
}


class Suite:
    """A copy of pjdfstest that takes every file system for ext4: what it asks for depends on the name."""

    def __init__(self, path, directory, wanted):
        self.dir = pathlib.Path(directory) / "suite"
        self.dir.mkdir()
        program = pathlib.Path(path) / "pjdfstest"
        if not program.exists():
            sys.exit(f"pjdfstest.py: {program} is not there: build it first (see --help)")
        shutil.copy(program, self.dir)
        shutil.copytree(pathlib.Path(path) / "tests", self.dir / "tests")
        with open(self.dir / "tests/conf", "a", encoding="utf-8") as f:
            f.write("\nfs=EXT4\n")
        names = sorted(str(p.relative_to(self.dir / "tests"))[:-2] for p in (self.dir / "tests").rglob("*.t"))
        self.files = [n for n in names if not wanted or any(n == w or n.startswith(f"{w}/") for w in wanted.split(","))]

    def answers(self, name, place):
        """{number of the test: (passed, what was got)}; whether the file came to its end."""
        try:
            done = subprocess.run(["sh", str(self.dir / "tests" / f"{name}.t")], cwd=place, check=False, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=FILE_LIMIT_S)
            out, ended = done.stdout, True
        except subprocess.TimeoutExpired as e:
            out, ended = e.stdout or b"", False
        found = {}
        for line in out.decode(errors="replace").splitlines():
            if match := re.match(r"(not )?ok (\d+)(.*)", line):
                # Numbers (times, inodes) are a file system's own affair; errors are not.
                got = re.search(r"got (E[A-Z0-9]+|0)$", match.group(3))
                found[int(match.group(2))] = (match.group(1) is None, got.group(1) if got else "", match.group(3).strip())
        return found, ended


def compare(suite, name, plain, merged):
    """(tests, passed on the plain one, [what differs], did both come to their end)"""
    want, want_ended = suite.answers(name, plain)
    have, have_ended = suite.answers(name, merged)
    different = [f"{name} {n}: plain {want.get(n)}, merged {have.get(n)}" for n in sorted(set(want) | set(have))
                 if want.get(n, ())[:2] != have.get(n, ())[:2]]
    return len(want), sum(1 for passed, *_ in want.values() if passed), different, want_ended and have_ended


def read_only(lab, case):
    """(a plain read-only ext4, a merged one) with the same content."""
    source, new, wanted = lab.dir / "source", lab.dir / "new", lab.dir / "expected"
    content.original(source)
    if case == "bind":
        merge_lab.put(new / "usr", "root-file", "root, new and longer", 0o644, (0, 1000))
        merge_lab.run("cp", "-a", source, wanted)
        merge_lab.run("cp", "-a", new / "usr/root-file", wanted)
        os.utime(wanted, ns=(os.stat(source).st_mtime_ns,) * 2)
    else:
        directories, gone = content.release(new)
        content.expected(source, new, directories, wanted)
    plain = lab.dir / "plain"
    plain.mkdir()
    lab.disk("plain", "24M", None, source=wanted)
    merge_lab.run("mount", "-o", "loop,ro", lab.dir / "plain.ext4", plain)
    lab.mount_usr("ext4", source)
    if case == "bind":
        lab.apply(new, ["file=usr/root-file@usr"], method="bind")
    else:
        lab.apply(new, ["tree=usr@usr"], gone, directories, case)
    return plain, lab.usr


def writable(lab):
    """(a plain writable ext4, one in which a lone immutable file is merged), for the suite to work beside the file."""
    for name, place in (("plain", lab.dir / "plain"), ("usr", lab.usr)):
        place.mkdir(exist_ok=True)
        lab.disk(name, "256M", place)
        merge_lab.put(place, "lone", "old")
    merge_lab.put(lab.dir / "new/usr", "lone", "new")
    merge_lab.put(lab.dir / "plain", "lone", "new")
    merge_lab.run("chattr", "+i", lab.usr / "lone")
    lab.apply(lab.dir / "new", ["file=usr/lone@usr"], method="bind")
    return lab.dir / "plain", lab.usr


def run_case(case, options):
    with tempfile.TemporaryDirectory(prefix="moult-conformance-") as directory:
        os.chmod(directory, 0o755)  # the suite's other users come through
        suite = Suite(options.suite, directory, options.files)
        (pathlib.Path(directory) / "lab").mkdir()
        try:
            lab = merge_lab.MergeLab(pathlib.Path(directory) / "lab")
            lab.dir.chmod(0o755)
            plain, merged = writable(lab) if case == "bind-writable" else read_only(lab, case)
            jobs = 1 if case == "bind-writable" else options.jobs  # there, one file's work could be seen by another
            tests = passed = 0
            different, known, unfinished = [], [], []
            with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
                results = [(name, pool.submit(compare, suite, name, plain, merged)) for name in suite.files]
                for name, result in results:
                    n, good, unlike, ended = result.result()
                    tests, passed = tests + n, passed + good
                    if unlike and (case, name) in EXCEPTIONS:
                        known.append(f"{name}: {len(unlike)} tests: {EXCEPTIONS[case, name]}")
                    else:
                        different += unlike
                    unfinished += [] if ended else [name]
            print(f"{case}: {len(suite.files)} files, {tests} tests, {passed} passed on the plain one, {len(different)} different "
                  f"({len(known)} files with known exceptions), "
                  f"{len(unfinished)} files over {FILE_LIMIT_S} s{''.join(f' {n}' for n in unfinished)}")
            print("".join(f"    {line}\n" for line in different + known), end="", flush=True)
            return not different and not unfinished
        finally:
            merge_lab.unmount_all()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", help="a built copy of pjdfstest")
    parser.add_argument("--cases", default="overlay,union,bind,bind-writable")
    parser.add_argument("--files", default="", help="only these files or folders of the suite")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    merge_lab.own_mounts()
    os.umask(0o022)
    good = [run_case(case, options) for case in options.cases.split(",")]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
