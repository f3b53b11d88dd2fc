"""The agent is killed at every fault point of an upgrade, of a rollback, and of the recovery after either: the tree is all
old or all new, the agent says which, and from there it can always be confirmed or taken back."""

import collections
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from engine_lab import BUILD, Lab, copy_tree, difference, put, set_times, tmpfs, OLD_TIME, NEW_TIME

SOAK = bool(os.environ.get("MOULT_SOAK"))
KILLED = -signal.SIGKILL


def small_trees(directory):
    """Each kind of switch, a few files each: a state must be cheap to check. All of it twice, so that one half may lie where nothing can be
    written."""
    old, new = directory / "old", directory / "new"
    for top in ("usr", "srv"):
        for root, version in ((old, 1), (new, 2)):
            for n in range(3):
                put(root, f"{top}/lib/{n}", f"{version} " * 3000, 0o755, owner=(version, 0))
            put(root, f"{top}/lib/mode", "same\n", 0o600 + version)
            put(root, f"{top}/lib/a", f"linked {version}\n")
            os.link(root / top / "lib/a", root / top / "lib/b")
            (root / top / "lib/current").symlink_to(f"v{version}")
            (root / top / "etc").mkdir()
            (root / top / "etc").chmod(0o700 + version)
        put(old, f"{top}/old/goes", "goes\n")
        put(old, f"{top}/goes", "goes\n")
        put(new, f"{top}/new/comes", "comes\n" * 5000)
        put(new, f"{top}/new/sub/x", "x\n")
        put(new, f"{top}/comes", "comes\n")
        put(old, f"{top}/kind", "a file\n")
        (new / top / "kind").mkdir()
        put(new, f"{top}/kind/inside", "a directory\n")
    set_times(old, OLD_TIME)
    set_times(new, NEW_TIME)
    return old, new


class Campaign:
    """One upgrade, again and again from the same start."""

    def __init__(self, directory):
        self.dir = directory
        self.old, self.new = small_trees(directory)
        self.lab = Lab(directory / "lab")
        self.pack = self.lab.release(self.new, old=self.old)
        self.reset()
        self.before = self.lab.tree()
        self.lab.apply(self.pack)
        self.after = self.undated(self.lab.tree())
        assert self.after != self.undated(self.before)
        self.outcomes = collections.Counter()

    @staticmethod
    def undated(tree):
        """Without the times of directories, which a release of differences does not set."""
        return {p: v[:4] + (0,) + v[5:] if v[0].startswith("d") else v for p, v in tree.items()}

    def reset(self):
        shutil.rmtree(self.lab.root)
        shutil.rmtree(self.lab.state, ignore_errors=True)
        self.lab.root.mkdir()
        copy_tree(self.old, self.lab.root)

    def close_down(self):
        """What a test leaves for the next one."""

    def points(self, what):
        """[(name, n)] that `what` passes, each the n-th time it is passed."""
        trace = self.dir / "trace"
        trace.unlink(missing_ok=True)
        self.reset()
        what(environment={"MOULT_FAULT_TRACE": str(trace)})
        seen = collections.Counter()
        points = []
        for name in trace.read_text().split():
            seen[name] += 1
            points.append((name, seen[name]))
        if SOAK:
            return points
        # In an ordinary run the points that are passed once for each file are sampled; those of the switch are not.
        def chosen(name, n):
            return seen[name] <= 4 or name.startswith(("switch", "back", "journal")) or n in (1, 2, seen[name])
        return [(name, n) for name, n in points if chosen(name, n)]

    def judge(self, what):
        """After a recovery that ended: which of the two it is, and that the agent said so."""
        said = self.lab.recover()
        tree = self.lab.tree()
        newest = self.lab.history("-n", "1")
        if "all new" in said.err or ("all old" not in said.err and "committed" in newest):
            now = self.undated(tree)
            assert now == self.after, f"{what}: says all new: {said}\n{difference(self.after, now)}"
            return "new"
        assert tree == self.before, f"{what}: says all old: {said}\n{difference(self.before, tree)}"
        self.lab.assert_clean()
        return "old"

    def close(self, what, state):
        """From any outcome the way back is open, and exact."""
        if state == "old":
            return
        if "committed" in self.lab.history("-n", "1"):
            self.lab.rollback()
        else:
            self.lab.recover("--back")
        self.lab.assert_tree(self.before, f"{what}, then back")
        self.lab.assert_clean()

    def kill_and_judge(self, action, name, n, what):
        result = action(check=None, environment={"MOULT_FAULT": f"{name}:{n}=kill"})
        if result.code != KILLED:       # threads pass the points of staging in another order each time
            assert result.code == 0 and name.startswith(("stage", "sync", "hook")), f"{what}: {result}"
        state = self.judge(what)
        self.outcomes[state] += 1
        self.close(what, state)


class MergedCampaign(Campaign):
    """The same upgrade on a machine whose /usr is mounted read-only: one decision over what is written and what is merged."""

    def unmount(self):
        while subprocess.run(["umount", "-l", str(self.lab.root / "usr")], check=False, capture_output=True).returncode == 0:
            pass
        subprocess.run(["umount", "-R", "-l", str(self.lab.state / "target/run")], check=False, capture_output=True)

    def reset(self):
        self.unmount()
        super().reset()
        usr = str(self.lab.root / "usr")
        subprocess.run(["mount", "--bind", usr, usr], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", usr], check=True)

    close_down = unmount

    @staticmethod
    def undated(tree):
        """How many names a file of the store has is nobody's business."""
        return {p: v[:-1] for p, v in Campaign.undated(tree).items()}


@pytest.fixture(scope="module", params=[Campaign, MergedCampaign], ids=["written", "merged"])
def campaign(request, tmp_path_factory):
    if subprocess.run(["grep", "-q", "MOULT_FAULT_POINTS:BOOL=ON", str(BUILD / "CMakeCache.txt")], check=False).returncode:
        pytest.skip("this build has no fault points")
    # In memory: what a kill leaves does not depend on a disk, and hundreds of syncs would wait for it.
    with tmpfs(tmp_path_factory.mktemp("kill") / "tmpfs", "size=256m") as directory:
        made = request.param(directory)
        yield made
        made.close_down()


def test_an_upgrade_killed_at_every_point(campaign):
    def apply(**more):
        return campaign.lab.apply(campaign.pack, **more)
    points = campaign.points(apply)
    names = {name for name, _ in points}
    assert {"journal-commit.before", "journal-commit.after", "switch", "switched-all", "stage-file"} <= names
    campaign.outcomes.clear()
    for name, n in points:
        campaign.reset()
        campaign.kill_and_judge(apply, name, n, f"apply killed at {name}:{n}")
    print(f"\nupgrade: {len(points)} kills at {len(names)} points: {dict(campaign.outcomes)}")
    assert campaign.outcomes["old"] > 10 and campaign.outcomes["new"] > 10


def test_a_rollback_killed_at_every_point(campaign):
    def rollback(**more):
        campaign.lab.apply(campaign.pack)
        return campaign.lab.rollback(**more)
    points = campaign.points(rollback)
    assert {"journal-back.before", "journal-back.after", "back", "back-all"} <= {name for name, _ in points}
    campaign.outcomes.clear()
    for name, n in points:
        campaign.reset()
        campaign.kill_and_judge(rollback, name, n, f"rollback killed at {name}:{n}")
    print(f"\nrollback: {len(points)} kills: {dict(campaign.outcomes)}")
    assert campaign.outcomes["old"] > 10 and campaign.outcomes["new"] > 0


@pytest.mark.parametrize("first", ["switch:1", "switch:7", "journal-switched.before", "stage-file:2"])
def test_a_recovery_killed_at_every_point(campaign, first):
    """Killed in the middle of an upgrade, then in the middle of its recovery, at each point of that."""
    def crash_and_recover(**more):
        campaign.lab.apply(campaign.pack, check=KILLED, environment={"MOULT_FAULT": f"{first}=kill"})
        return campaign.lab.recover(**more)
    points = campaign.points(crash_and_recover)
    campaign.outcomes.clear()
    for name, n in points:
        campaign.reset()
        campaign.kill_and_judge(crash_and_recover, name, n, f"{first}, then recovery killed at {name}:{n}")
    print(f"\nrecovery after {first}: {len(points)} kills: {dict(campaign.outcomes)}")


@pytest.mark.parametrize("first", ["back:1", "back:6", "back-all"])
def test_a_recovery_of_a_rollback_killed_at_every_point(campaign, first):
    def crash_and_recover(**more):
        campaign.lab.apply(campaign.pack)
        campaign.lab.rollback(check=KILLED, environment={"MOULT_FAULT": f"{first}=kill"})
        return campaign.lab.recover(**more)
    points = campaign.points(crash_and_recover)
    campaign.outcomes.clear()
    for name, n in points:
        campaign.reset()
        campaign.kill_and_judge(crash_and_recover, name, n, f"rollback {first}, then recovery killed at {name}:{n}")
    print(f"\nrecovery after rollback {first}: {len(points)} kills: {dict(campaign.outcomes)}")
    assert set(campaign.outcomes) == {"old"}


def test_killed_at_random_moments(campaign):
    seed = int(os.environ.get("MOULT_SEED", "20261122"))
    rng = random.Random(seed)
    campaign.outcomes.clear()
    campaign.reset()
    started = time.monotonic()
    campaign.lab.apply(campaign.pack)
    whole = time.monotonic() - started
    for n in range(400 if SOAK else 40):
        campaign.reset()
        words = [*map(str, ("apply", campaign.pack, "--trust", campaign.lab.trust, *campaign.lab.where))]
        agent = subprocess.Popen([str(BUILD / "guest-agent/moult-agent"), *words], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        try:
            agent.wait(rng.uniform(0, whole * 1.1))
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()
        what = f"seed {seed}, kill {n}"
        state = campaign.judge(what)
        campaign.outcomes[state] += 1
        campaign.close(what, state)
    print(f"\nat random (seed {seed}): {dict(campaign.outcomes)}")


def test_a_staging_that_was_killed_is_taken_up_again(campaign):
    """What was staged is hashed again, not read again from the pack: with its blobs gone, the second try still works."""
    campaign.reset()
    campaign.lab.apply(campaign.pack, check=KILLED, environment={"MOULT_FAULT": "journal-staged.before=kill"})
    staged = {p.name: p.lstat().st_ino for p in (campaign.lab.root / ".moult/1").iterdir()}
    assert len(staged) > 5
    blobless = campaign.dir / "blobless.moult"
    data = bytearray(campaign.pack.read_bytes())
    manifest = int.from_bytes(data[40:48], "little")
    data[4096:manifest] = bytes(manifest - 4096)
    blobless.write_bytes(data)
    result = campaign.lab.apply(blobless)
    assert "generation 1" in result.out
    assert campaign.undated(campaign.lab.tree()) == campaign.after
    campaign.lab.rollback()
    campaign.lab.assert_tree(campaign.before)


def test_a_staged_file_that_was_damaged_meanwhile_is_made_again(campaign):
    campaign.reset()
    campaign.lab.apply(campaign.pack, check=KILLED, environment={"MOULT_FAULT": "journal-staged.before=kill"})
    for path in (campaign.lab.root / ".moult/1").rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.write_bytes(b"\0" * path.stat().st_size)
    campaign.lab.apply(campaign.pack)
    assert campaign.undated(campaign.lab.tree()) == campaign.after


def test_another_release_removes_what_was_interrupted(campaign):
    campaign.reset()
    campaign.lab.apply(campaign.pack, check=KILLED, environment={"MOULT_FAULT": "journal-staged.before=kill"})
    put(campaign.dir / "other", "f", "another\n")
    campaign.lab.apply(campaign.lab.release(campaign.dir / "other", version="9"))
    assert not (campaign.lab.root / ".moult/1").exists()
    assert "interrupted" in campaign.lab.history()
    campaign.lab.rollback()
    campaign.lab.assert_tree(campaign.before)
