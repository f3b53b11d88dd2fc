#!/usr/bin/python3
"""The test run behind tests/run.sh: phases in order, each with a time limit, their results added up at the end."""

import argparse
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

TOP = pathlib.Path(__file__).resolve().parents[2]
RESULTS = TOP / "build" / "test-results"
INTERRUPT_LIMIT_S = 60
# The CI ends a run after 90 minutes and keeps nothing of it; a run that ends by itself before that says what failed. Not with --soak.
TOTAL_LIMIT_S = 84 * 60


@dataclasses.dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def junit_count(path):
    """Adds up a JUnit file of ctest or pytest, and names what failed. A file that is missing or cut is a failure."""
    count, names = Count(), []
    try:
        cases = list(xml.etree.ElementTree.parse(path).getroot().iter("testcase"))
    except (OSError, xml.etree.ElementTree.ParseError):
        return Count(failed=1), [f"{path.name}: no results were written"]
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail":
            count.failed += 1
            names.append(f"{case.get('classname', '')} {case.get('name', '')}".strip())
        elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            count.skipped += 1
        else:
            count.passed += 1
    return count, names


class Run:
    """Phases one after the other. A failing one is counted and does not stop the others, unless they stand on it."""

    def __init__(self, options):
        self.options, self.total, self.failures = options, Count(), []
        self.start = time.monotonic()
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="moult-tests-"))
        self.environment = os.environ | {"TMPDIR": str(self.scratch), "PYTHONDONTWRITEBYTECODE": "1",
                                         "PYTHONPATH": str(TOP / "tests" / "support"), "LC_ALL": "C.UTF-8",
                                         "G_DEBUG": "fatal-criticals", "ASAN_OPTIONS": "detect_leaks=1",
                                         "UBSAN_OPTIONS": "print_stacktrace=1", "TZ": "UTC"}
        # Two presets differ in one definition, which most files do not look at: with the same relative names they are compiled once.
        self.environment.setdefault("CCACHE_BASEDIR", str(TOP))
        self.environment.setdefault("CCACHE_NOHASHDIR", "1")
        self.environment["MOULT_SAVED_GUESTS"] = str(self.scratch / "saved")
        if options.soak:
            self.environment["MOULT_SOAK"] = "1"

    def say(self, text):
        elapsed = int(time.monotonic() - self.start)
        print(f"[{elapsed // 60:2}:{elapsed % 60:02}] {text}", flush=True)

    def command(self, words, limit_s, quiet=True):
        """Runs in a process group of its own, so that at the end or on a time-out nothing of it is left."""
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(words, cwd=TOP, env=self.environment, stdin=subprocess.DEVNULL,
                                       stdout=output if quiet else None, stderr=subprocess.STDOUT if quiet else None,
                                       start_new_session=True)
            try:
                code = process.wait(limit_s)
            except subprocess.TimeoutExpired:
                code = f"no end within {limit_s:.0f} s"
                self.interrupt(process)
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()
            if code != 0 and quiet:
                output.seek(0)
                sys.stdout.buffer.write(output.read()[-12000:])
                sys.stdout.flush()
        return code

    @staticmethod
    def interrupt(process):
        """As Ctrl-C does, so that a suite writes down what it has seen so far."""
        process.send_signal(signal.SIGINT)
        try:
            process.wait(INTERRUPT_LIMIT_S)
        except subprocess.TimeoutExpired:
            pass

    def check(self, name, words, limit_s):
        """A phase that is one test."""
        started = time.monotonic()
        code = self.command(words, limit_s)
        self.note(name, Count(passed=1) if code == 0 else Count(failed=1), [name] if code != 0 else [], started)
        return code == 0

    def suite(self, name, words, limit_s, junit):
        """A phase of many tests that writes a JUnit file."""
        started = time.monotonic()
        junit.unlink(missing_ok=True)
        code = self.command(words, limit_s, quiet=False)
        count, names = junit_count(junit)
        # 5: pytest selected nothing; 1 and 8: pytest and ctest have failures, which are counted.
        if code not in (0, 5) and not (code in (1, 8) and count.failed):
            count.failed, names = count.failed + 1, names + [f"{name}: {code if isinstance(code, str) else f'ended with {code}'}"]
        self.note(name, count, names, started)

    def note(self, name, count, names, started):
        self.total.add(count)
        self.failures += names
        self.say(f"{name}: {count} ({time.monotonic() - started:.0f} s)")

    # -- phases

    def build(self, preset, *targets, folder=None, settings=()):
        folder = folder or f"build/{preset}"
        ninja = "ninja" if shutil.which("ninja") else "ninja-build"
        configured = self.command(["cmake", "--preset", preset, "-B", folder, *settings], 300)
        if configured != 0:
            self.total.add(Count(failed=1))
            self.failures.append(f"configure {preset}")
            return False
        return self.check(f"build {preset} (warnings are errors)", [ninja, "-k0", "-C", folder, *targets], 1800)

    def lint(self):
        files = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=TOP, check=False,
                               stdout=subprocess.PIPE, text=True).stdout.split("\n")
        if len(files) < 2:  # not a git checkout: a release tarball
            files = [str(p.relative_to(TOP)) for p in TOP.rglob("*") if p.is_file() and "build" not in p.parts]
        files = [f for f in files if (TOP / f).is_file()]
        sources = [f for f in files if f.endswith((".c", ".h"))]
        manuals = [f for f in files if re.search(r"\.[1-8]$", f) and f.startswith("docs/")]
        scripts = [f for f in files if f.endswith(".sh") or f == ".ci/run"]
        self.check("lint: include layering", ["cmake/check-layering.sh"], 60)
        self.check("lint: clang-format", ["clang-format", "--dry-run", "-Werror", *sources], 300)
        self.check("lint: shell syntax", ["sh", "-c", 'for f; do sh -n "$f" || exit 1; done', "sh", *scripts], 60)
        if manuals:
            self.check("lint: manual pages", ["mandoc", "-T", "lint", "-W", "warning", *manuals], 60)

    def ctest(self):
        words = ["ctest", "--test-dir", "build/dev", "-j2", "--timeout", "300", "--output-on-failure",
                 "--output-junit", str(RESULTS / "ctest.xml"), "--no-tests=ignore"]
        if self.options.k:
            words += ["-R", self.options.k]
        self.suite("unit tests and fuzz replays", words, 1200, RESULTS / "ctest.xml")

    def thread_sanitizer(self):
        # Its shadow memory wants fixed addresses: without randomisation they are free on every kernel.
        if self.build("tsan", "thread_tests"):
            self.check("what threads share, under ThreadSanitizer",
                       ["setarch", "-R", "ctest", "--test-dir", "build/tsan", "-L", "threads", "--no-tests=error",
                        "--output-on-failure"], 600)

    def fuzzers(self):
        # What libFuzzer runs is built by another compiler than all else. Each corpus once; no search, so it need not be fast.
        folder = "build/fuzz-replay"
        if self.build("fuzz", "fuzz_targets", folder=folder, settings=["-DCMAKE_BUILD_TYPE=Debug"]):
            self.check("fuzz targets as libFuzzer runs them, over their corpus",
                       ["ctest", "--test-dir", folder, "-j2", "-L", "fuzz", "--no-tests=error", "--output-on-failure"], 600)

    def pytest(self, folder, limit_s, workers):
        junit = RESULTS / f"{folder}.xml"
        if not list((TOP / "tests" / folder).glob("test_*.py")):
            return
        words = ["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_progress", "--durations=5",
                 "--timeout=1200", "--timeout-method=signal", "-n", str(workers), "--dist", "loadscope",
                 f"--junit-xml={junit}", f"tests/{folder}"]
        if self.options.k:
            words += ["-k", self.options.k]
        self.suite(f"tests/{folder}", words, limit_s, junit)

    def all(self):
        RESULTS.mkdir(parents=True, exist_ok=True)
        soak = self.options.soak
        dev = self.build("dev")
        self.lint()
        if dev:
            self.ctest()
        self.thread_sanitizer()
        self.fuzzers()
        # The tests themselves were built above. The simulation wants to be fast.
        release = self.build("release", "programs", "sim")
        faults = self.build("faults", "programs", "moult-agent-next")
        if dev and release and faults:
            self.pytest("integration", 14400 if soak else 2400, 2)
            if self.options.quick:
                self.say("tests/vm: left out (--quick)")
            else:
                left_s = TOTAL_LIMIT_S - (time.monotonic() - self.start)
                self.pytest("vm", 14400 if soak else max(60, min(3600, left_s)), 2)


def main():
    parser = argparse.ArgumentParser(prog="tests/run.sh", description="build and run every test of moult")
    parser.add_argument("--quick", action="store_true", help="without virtual machines")
    parser.add_argument("--soak", action="store_true", help="with the long campaigns")
    parser.add_argument("-k", metavar="PATTERN", help="only tests whose name has PATTERN")
    run = Run(parser.parse_args())
    # Started in the background, we would hand an ignored SIGINT on to tests that send one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # End like on an interrupt, so that `finally` clauses kill what runs and remove the scratch folder.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    try:
        run.all()
        if run.failures:
            print("\nFailed:", *run.failures, sep="\n  ")
    except KeyboardInterrupt:
        run.total.failed += 1
        print("interrupted")
    finally:
        shutil.rmtree(run.scratch, ignore_errors=True)
    print(run.total, flush=True)
    return 1 if run.total.failed or not run.total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
