"""Applying and rolling back: the tree is exactly the release's, then exactly the old one."""

import os
import subprocess

import pytest

from engine_lab import Lab, copy_tree, difference, every_kind, mounted, put, set_times, snapshot, tmpfs


def assert_is(lab, new, what, old=None):
    """The root is the release's tree. With `old`: a release of differences, which does not list the directories that only
    have another time, so theirs are not compared."""
    want, now = snapshot(new), lab.tree()
    want["."] = now["."]
    for path, value in snapshot(old).items() if old else ():
        if value[0].startswith("d") and path in want and path in now:
            want[path] = want[path][:4] + now[path][4:5] + want[path][5:]
    assert now == want, f"{what}: the tree is not the release's:\n{difference(want, now)}"


@pytest.mark.parametrize("options", [(), ("--sync", "gentle"), ("--workers", "1"), ("--workers", "8", "--idle")])
@pytest.mark.parametrize("fstype", ["ext4", "btrfs"])
def test_every_kind_of_entry_comes_and_goes_exactly(tmp_path, fstype, options):
    old, new = every_kind(tmp_path)
    with mounted(tmp_path / fstype, fstype, 256) as point:
        lab = Lab(tmp_path / "lab", root=point / "root")
        copy_tree(old, lab.root)
        before = lab.tree()
        pack = lab.release(new, old=old)
        lab.apply(pack, *options)
        assert_is(lab, new, "after the upgrade", old)
        lab.rollback()
        lab.assert_tree(before, "after the rollback")
        lab.assert_clean()


def test_a_full_release_onto_an_empty_root(tmp_path):
    _, new = every_kind(tmp_path)
    lab = Lab(tmp_path / "lab")
    before = lab.tree()
    lab.apply(lab.release(new))
    assert_is(lab, new, "after the upgrade")
    lab.rollback()
    lab.assert_tree(before, "after the rollback")
    lab.assert_clean()


def test_what_is_equal_is_not_touched(tmp_path):
    _, new = every_kind(tmp_path)
    lab = Lab(tmp_path / "lab")
    pack = lab.release(new)
    lab.apply(pack)
    inodes = {p: p.lstat().st_ino for p in lab.root.rglob("*") if ".moult" not in p.parts}
    result = lab.apply(pack)
    assert "0 changed" in result.out, result
    assert inodes == {p: p.lstat().st_ino for p in lab.root.rglob("*") if ".moult" not in p.parts}


def test_an_upgrade_without_changes_does_not_use_up_a_way_back(tmp_path):
    _, new = every_kind(tmp_path)
    lab = Lab(tmp_path / "lab")
    before = lab.tree()
    pack = lab.release(new)
    for _ in range(4):
        lab.apply(pack)
    lab.rollback()
    lab.assert_tree(before, "after the rollback")


def test_two_generations_go_back_one_after_the_other_and_no_further(tmp_path):
    lab = Lab(tmp_path / "lab")
    trees = []
    for version in range(4):
        new = tmp_path / f"v{version}"
        put(new, "f", f"version {version}\n")
        put(new, f"only-{version}", "x")
        set_times(new, 1_700_000_000_000_000_000 + version)
        trees.append(lab.tree())
        lab.apply(lab.release(new, version=str(version)))
    lab.rollback()
    lab.assert_tree(trees[3], "one back")
    lab.rollback()
    lab.assert_tree(trees[2], "two back")
    result = lab.rollback(check=4)
    assert "not kept any more" in result.err, result
    lab.assert_tree(trees[2], "a third is refused")
    lab.assert_clean()


def test_sparse_files_stay_sparse(tmp_path):
    _, new = every_kind(tmp_path)
    lab = Lab(tmp_path / "lab")
    lab.apply(lab.release(new))
    st = (lab.root / "usr/lib/sparse").stat()
    assert st.st_size == 8 << 20 and st.st_blocks * 512 < 1 << 20


def test_a_dry_run_touches_nothing(tmp_path):
    old, new = every_kind(tmp_path)
    lab = Lab(tmp_path / "lab")
    copy_tree(old, lab.root)
    before = lab.tree()
    result = lab.plan(lab.release(new, old=old))
    assert "replace  /usr/bin/replaced" in result.out and "a file becomes a directory" in result.out, result
    lab.assert_tree(before)
    lab.assert_clean()
    assert "planned" not in lab.history()


def test_no_confirm_then_confirm_or_back(tmp_path):
    old, new = every_kind(tmp_path)
    lab = Lab(tmp_path / "lab")
    copy_tree(old, lab.root)
    before = lab.tree()
    pack = lab.release(new, old=old)
    lab.apply(pack, "--no-confirm")
    assert_is(lab, new, "active", old)
    lab.recover("--back")
    lab.assert_tree(before)
    lab.apply(pack, "--no-confirm")
    lab.recover("--confirm")
    assert_is(lab, new, "active", old)
    lab.rollback()
    lab.assert_tree(before)


def test_labels_that_are_not_listed_stay_or_come_from_the_directory(tmp_path):
    """SELinux labels belong to the guest's policy. (No policy is loaded here: the kernel stores them all the same.)"""
    lab = Lab(tmp_path / "lab")
    put(lab.root, "etc/f", "old\n")
    for name in ("f", "new", "made/deep/g"):
        put(tmp_path / "new", f"etc/{name}", "new\n")
    (tmp_path / "new/etc/l").symlink_to("f")
    set_times(tmp_path / "new", 1_700_000_000_000_000_000)
    os.setxattr(lab.root / "etc", "security.selinux", b"of_the_directory\0")
    os.setxattr(lab.root / "etc/f", "security.selinux", b"of_the_file\0")
    before = lab.tree()
    lab.apply(lab.release(tmp_path / "new"))

    def label(name):
        return os.getxattr(lab.root / "etc" / name, "security.selinux", follow_symlinks=False).rstrip(b"\0")
    assert label("f") == b"of_the_file"
    assert {label(n) for n in ("new", "l", "made")} == {b"of_the_directory"}
    lab.rollback()
    lab.assert_tree(before)


def test_on_overlayfs(tmp_path):
    """Files of lower layers are copied up by the switch and may get other inode numbers."""
    lab = Lab(tmp_path / "lab")
    for n in range(4):
        put(tmp_path / "lower", f"usr/{n}", "old\n")
        put(tmp_path / "new", f"usr/{n}", f"new {n}\n")
    put(tmp_path / "lower", "usr/goes", "old\n")
    subprocess.run(["cp", "-a", tmp_path / "lower", tmp_path / "old"], check=True)
    put(tmp_path / "new", "usr/comes/x", "new\n")
    with tmpfs(tmp_path / "upper") as upper:
        (upper / "u").mkdir()
        (upper / "w").mkdir()
        subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={tmp_path}/lower,upperdir={upper}/u,workdir={upper}/w",
                        "none", lab.root], check=True)
        try:
            before = lab.tree()
            pack = lab.release(tmp_path / "new", old=tmp_path / "old")
            lab.apply(pack)
            assert_is(lab, tmp_path / "new", "after the upgrade", tmp_path / "old")
            lab.rollback()
            lab.assert_tree(before)
            lab.apply(pack, "--no-confirm", check=None, environment={"MOULT_FAULT": "switch:3=kill"})
            assert "all new" in lab.recover().err
            assert_is(lab, tmp_path / "new", "after the recovery", tmp_path / "old")
            lab.recover("--back")
            lab.assert_tree(before)
            lab.assert_clean()
        finally:
            subprocess.run(["umount", "-l", lab.root], check=False)


def test_two_engines_with_two_states_do_not_share_a_staging_directory(tmp_path):
    put(tmp_path / "new", "f", "new\n")
    lab = Lab(tmp_path / "lab")
    put(lab.root, "f", "old\n")
    before = lab.tree()
    lab.apply(lab.release(tmp_path / "new"))
    put(tmp_path / "new", "f", "newer\n")
    other = Lab(tmp_path / "lab", state=tmp_path / "other-state")
    result = other.apply(lab.release(tmp_path / "new", version="2"), check=4)
    assert "another state directory" in result.err
    lab.rollback()
    lab.assert_tree(before)
    lab.assert_clean()
