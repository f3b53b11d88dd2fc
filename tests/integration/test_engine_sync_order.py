"""No step of the journal before the syncs that it relies on: the table of docs/upgrade-transaction.md as rules over a
system-call trace. And the rules have teeth: with any one sync left out, they notice.

Once for a tree that can be written, once for one whose /usr cannot and is merged: then what the merges are made of (objects,
trees, the target's record) has to be on the disk before the decision, and the decision before the first mount."""

import copy
import ctypes
import os
import re
import shutil
import subprocess

import pytest

from engine_lab import BUILD, OK, Lab, copy_tree, put, set_times, NEW_TIME, OLD_TIME

CALLS = "openat,openat2,close,write,pwrite64,renameat,renameat2,rename,syncfs,fsync,fdatasync,mkdirat,linkat,symlinkat,mknodat," \
        "fchown,fchownat,fchmod,fchmodat,utimensat,fsetxattr,lsetxattr,fremovexattr,lremovexattr,ftruncate,unlinkat,sync_file_range,move_mount,umount2"
LINE = re.compile(r"^(?P<pid>\d+) +(?P<call>\w+)\((?P<args>.*)\) += (?P<result>-?\d+)(?P<rest>.*)$")
UNFINISHED = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
PATH = re.compile(r"<(/[^>]*)>")


class Event:
    def __init__(self, call, args, rest, result):
        self.call, self.args, self.result = call, args, int(result)
        self.paths = PATH.findall(args)
        self.opened = PATH.findall(rest)

    def __repr__(self):
        return f"{self.call}({self.args})"


def parse(text):
    """Calls that succeeded, in the order in which they ended; two halves of an interrupted line are put together."""
    pending, events = {}, []
    for line in text.splitlines():
        if match := UNFINISHED.match(line):
            pending[match[1]] = match[2]
            continue
        if match := RESUMED.match(line):
            line = f"{match[1]} {pending.pop(match[1], match[2] + '(')}{match[3]}"
        match = LINE.match(line)
        if match and not match["result"].startswith("-"):
            events.append(Event(match["call"], match["args"], match["rest"], match["result"]))
    return events


class Rules:
    """Walks over the events; what is written and not yet synced is remembered, and each journal record asks."""

    def __init__(self, lab, last=None):
        """last: the record that is the journal's last when the trace begins, if names may be switched for its sake."""
        self.root, self.state = os.path.realpath(lab.root), os.path.realpath(lab.state)
        self.broken = []
        self.staged_dirty = False       # data and metadata in the staging areas
        self.switched_dirty = False     # names of the live tree
        self.opened = {}                # descriptor: number of the event that made it
        self.names = {}                 # descriptor: path
        self.dirty_since = None         # number of the first content or switch since the last sync of the tree
        self.now = 0
        self.state_dirty = set()        # files of the state directory
        self.state_since = None         # as dirty_since, for these
        self.names_dirty = set()        # directories of the state directory with new names
        self.record = None              # journal record written, not yet synced
        self.decided = last             # the last decision that is on the disk
        self.last = last
        self.deciding = {"commit", "back", last}
        self.seen, self.merged = [], 0
        self.counted = set()            # the count of starts, and its directory

    def complain(self, text):
        self.broken.append(text)

    def is_staging(self, path):
        return path.startswith(self.root) and "/.moult/" in path + "/"

    def walk(self, events):
        for e in events:
            self.one(e)
        return self

    def one(self, e):
        first = e.paths[0] if e.paths else ""
        self.now += 1
        self.sort(e, first)
        if self.dirty_since is None and (self.switched_dirty or self.is_staging(first) and e.call in ("write", "pwrite64")):
            self.dirty_since = self.now
        self.state_since = (self.state_since or self.now) if self.state_dirty else None

    def sort(self, e, first):
        if e.call in ("openat", "openat2"):
            self.opened[e.result] = self.now
            self.names[e.result] = (e.opened or [""])[0]
            if self.names[e.result].endswith("/boots"):
                self.counted = {first, self.names[e.result]}
        if first.endswith("/journal") and e.call in ("write", "pwrite64"):
            self.write_record(re.search(r'"\d+ ([a-z-]+) ', e.args)[1])
        elif first.endswith("/journal") and e.call in ("fdatasync", "fsync"):
            self.decided, self.record = self.record or self.decided, None
        elif e.call == "syncfs":
            self.synced_file_system(first, int(re.match(r"\d+", e.args)[0]))
        elif e.call in ("fsync", "fdatasync"):
            self.state_dirty.discard(first)
            self.names_dirty.discard(first)
        elif e.call in ("renameat2", "renameat", "rename"):
            self.rename(e)
        elif e.call in ("move_mount", "umount2"):
            self.mount(e)
        elif first.startswith(self.state):
            self.touch_state(e, first)
        elif self.is_staging(first) and e.call not in ("close", "sync_file_range", "openat2", "unlinkat"):
            self.staged_dirty = self.staged_dirty or e.call != "openat" or "O_CREAT" in e.args

    def synced_file_system(self, path, descriptor):
        """Tree and state may lie on two file systems: each counts only for what it was called on. Errors of writes are
        told only to descriptors that were open before them."""
        if path.startswith(self.state):
            if self.opened[descriptor] > (self.state_since or self.now):
                self.complain(f"syncfs of {path} by a descriptor that was opened after what it is to sync")
            self.state_dirty.clear()
            self.names_dirty.clear()
        if path.startswith(self.root) and self.opened[descriptor] > (self.dirty_since or self.now):
            self.complain(f"syncfs of {path} by a descriptor that was opened after what it is to sync")
        elif path.startswith(self.root):
            self.staged_dirty = self.switched_dirty = False
            self.dirty_since = None

    def touch_state(self, e, path):
        if e.call in ("linkat", "symlinkat", "mknodat", "mkdirat") or (e.call == "openat" and "O_CREAT" in e.args):
            self.names_dirty.add(e.paths[-1])
        elif e.call not in ("openat", "openat2", "close", "unlinkat", "sync_file_range"):
            self.state_dirty.add(path)

    def rename(self, e):
        if any(p.startswith(self.state) for p in e.paths) and not any(self.is_staging(p) for p in e.paths):
            self.names_dirty.update(e.paths)
            for path in [p for p in self.state_dirty if os.path.dirname(p) == e.paths[0]]:
                if "/." in path:
                    self.complain(f"{path} is renamed before its content is synced")
            return
        if "probe-" in e.args:
            return
        self.switch("a name")
        self.switched_dirty = True

    def switch(self, what):
        if self.last in self.deciding and self.decided != self.last:
            self.complain(f"{what} is switched before the record \"{self.last}\" is synced")
        if self.last not in self.deciding:
            self.complain(f"{what} is switched after the record \"{self.last}\"")

    def mount(self, e):
        """What is put together below the state directory is seen by nobody."""
        unmounted = re.match(r'"/proc/self/fd/(\d+)"', e.args)
        where = self.names.get(int(unmounted[1]), "") if unmounted else e.paths[-1]
        if not where.startswith(self.root):
            return
        self.switch("a merge")
        self.merged += 1
        if self.counted & (self.state_dirty | self.names_dirty):
            self.complain("a merge is switched before the count of starts is synced")

    def write_record(self, name):
        if self.record is not None:
            self.complain(f"record \"{name}\" is written before \"{self.record}\" is synced")
        if name == "begun" and any(self.state == p or "generations" in p for p in self.names_dirty):
            self.complain(f"begun: names in {self.names_dirty} are not synced")
        if name == "staged" and self.staged_dirty:
            self.complain("staged: staged objects are not synced")
        if name == "staged" and (kept := {p for p in self.state_dirty | self.names_dirty if not p.endswith("/journal")}):
            self.complain(f"staged: {kept} are not synced")
        if name in ("switched", "rolled-back") and self.switched_dirty:
            self.complain(f"{name}: switched names are not synced")
        self.record = self.last = name
        self.seen.append(name)


@pytest.fixture(scope="module", autouse=True)
def own_mounts():
    """What is mounted here is seen by nobody else, and goes with the last process."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x00020000) == 0, os.strerror(ctypes.get_errno())
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def make_bench(directory):
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    lab = Lab(directory / "lab")
    old, new = directory / "old", directory / "new"
    for top in ("etc", "usr"):
        for root, version in ((old, 1), (new, 2)):
            put(root, f"{top}/f", f"{version}\n")
            put(root, f"{top}/g", f"{version}\n", 0o640 + version)
        put(old, f"{top}/gone", "x\n")
        (new / top / "l").symlink_to("f")
    put(new, "new/h", "x\n")
    set_times(old, OLD_TIME)
    set_times(new, NEW_TIME)
    lab.old, lab.pack = old, lab.release(new, old=old)
    lab.read_only = []
    return lab


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return make_bench(tmp_path_factory.mktemp("order"))


@pytest.fixture(scope="module")
def merging(tmp_path_factory):
    """The same, with a /usr that cannot be written."""
    lab = make_bench(tmp_path_factory.mktemp("merging"))
    lab.read_only = ["usr"]
    yield lab
    unmerge(lab)


def unmerge(lab):
    """As when the machine goes down: nothing is mounted any more."""
    for place in (*(lab.root / top for top in lab.read_only), lab.state / "target/run"):
        while subprocess.run(["umount", "-R", "-l", str(place)], check=False, capture_output=True).returncode == 0:
            pass


def mount_read_only(lab):
    for place in (str(lab.root / top) for top in lab.read_only):
        subprocess.run(["mount", "--bind", place, place], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)


def trace(lab, *words, environment=None):
    out = lab.dir / "strace"
    lab.prefix = ["strace", "-f", "-y", "-s", "64", "-e", f"trace={CALLS}", "-o", str(out)]
    # LeakSanitizer cannot work under ptrace
    environment = {"ASAN_OPTIONS": "detect_leaks=0"} | (environment or {})
    try:
        lab.agent(*words, check=OK, environment=environment)
    finally:
        lab.prefix = []
    return parse(out.read_text(errors="replace"))


def start(lab):
    unmerge(lab)
    shutil.rmtree(lab.root)
    shutil.rmtree(lab.state, ignore_errors=True)
    lab.root.mkdir()
    copy_tree(lab.old, lab.root)
    mount_read_only(lab)


def traced_apply(lab, environment=None):
    return trace(lab, "apply", lab.pack, "--trust", lab.trust, *lab.where, environment=environment)


def run(lab, environment=None):
    start(lab)
    rules = Rules(lab)
    rules.walk(traced_apply(lab, environment))
    rules.walk(trace(lab, "rollback", "--offline", *lab.where, environment=environment))
    return rules


def need_fault_points():
    if subprocess.run(["grep", "-q", "MOULT_FAULT_POINTS:BOOL=ON", str(BUILD / "CMakeCache.txt")], check=False).returncode:
        pytest.skip("this build has no fault points")


RECORDS = ["begun", "planned", "staged", "commit", "switched", "health", "active", "committed", "back", "rolled-back"]


def test_every_record_comes_after_the_syncs_that_it_relies_on(bench):
    rules = run(bench)
    assert rules.seen == RECORDS
    assert not rules.broken, "\n".join(rules.broken)


def test_every_record_comes_after_the_syncs_that_merges_rely_on(merging):
    rules = run(merging)
    assert rules.seen == RECORDS
    assert rules.merged == 2, "merged, and taken away again"
    assert not rules.broken, "\n".join(rules.broken)


SYNCS = ["sync-generation", "sync-staged", "sync-state", "sync-journal-commit", "sync-switched", "sync-journal-back",
         "sync-rolled-back", "sync-journal-begun", "sync-journal-planned", "sync-journal-staged", "sync-journal-switched",
         "sync-journal-health", "sync-journal-active", "atomic-file.skip-fsync"]


@pytest.mark.parametrize("sync", SYNCS)
def test_each_sync_that_is_left_out_is_noticed(bench, sync):
    need_fault_points()
    rules = run(bench, {"MOULT_FAULT": f"{sync}:*=skip"})
    assert rules.broken, f"without {sync} the trace looks right"
    print(f"\n{sync}: {rules.broken[0]}")


@pytest.mark.parametrize("sync,told", [("sync-state", "target/objects"), ("sync-journal-commit", "a merge is switched"),
                                       ("sync-journal-back", "a merge is switched"),
                                       ("atomic-file.skip-fsync", ".target.new")])
def test_each_sync_that_merges_rely_on_and_that_is_left_out_is_noticed(merging, sync, told):
    need_fault_points()
    rules = run(merging, {"MOULT_FAULT": f"{sync}:*=skip"})
    assert any(told in text for text in rules.broken), f"without {sync}: {rules.broken}"
    print(f"\n{sync}: {[text for text in rules.broken if told in text][0]}")


# What a merge is made of, and the last call that makes it.
PARTS = {
    "an object": lambda e: e.call == "renameat" and e.paths[-1].endswith("target/objects"),
    "a tree's file": lambda e: e.call == "linkat" and "target/trees/" in e.paths[-1],
    "a tree's link": lambda e: e.call == "symlinkat" and "target/trees/" in e.paths[-1],
    "a tree's whiteout": lambda e: e.call == "mknodat" and "target/trees/" in e.paths[-1],
    "a tree's name": lambda e: e.call == "renameat2" and e.paths[-1].endswith("target/trees"),
    "the target's record": lambda e: e.call == "renameat" and '".target.new"' in e.args,
}


def test_each_part_of_a_merge_that_comes_too_late_is_noticed(merging):
    """One call of a right trace is moved behind the sync that covered it."""
    start(merging)
    events = traced_apply(merging)
    assert not Rules(merging).walk(events).broken
    sync = max(n for n, e in enumerate(events) if e.call == "syncfs" and e.paths[0].startswith(str(merging.state)))
    for part, is_it in PARTS.items():
        at = max(n for n, e in enumerate(events[:sync]) if is_it(e))
        late = copy.copy(events)
        late.insert(sync, late.pop(at))
        rules = Rules(merging).walk(late)
        assert any(text.startswith("staged: ") for text in rules.broken), f"{part} comes after the sync: {rules.broken}"
        print(f"\n{part}: {rules.broken[0]}")


@pytest.mark.parametrize("sync", ["", "sync-boots"])
def test_a_start_is_counted_on_the_disk_before_anything_is_merged(merging, sync):
    start(merging)
    merging.apply(merging.pack)
    unmerge(merging)
    mount_read_only(merging)
    if sync:
        need_fault_points()
    events = trace(merging, "recover", "--boot", "--count-boots", *merging.where,
                   environment={"MOULT_FAULT": f"{sync}:*=skip"} if sync else None)
    rules = Rules(merging, last="committed").walk(events)
    assert rules.merged == 1
    assert bool(rules.broken) == bool(sync), rules.broken
