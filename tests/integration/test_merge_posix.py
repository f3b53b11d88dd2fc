"""POSIX, differentially: what every system call answers on a merged tree is what it answers on an ordinary read-only file
system with the same content. Public suites (pjdfstest) write in every test; what they can say of a read-only tree is in
docs/target-file-system.md."""

import errno
import fcntl
import mmap
import os
import stat

import pytest
from merge_lab import NEW_TIME, OLD_TIME, MergeLab, all_times, in_own_mounts, put, run

LONGEST = "n" * 255
USERS = [0, 1000, 4242]


def original(source):
    for who, mode in (("root", 0o644), ("user", 0o640), ("none", 0o000)):
        put(source, f"{who}-file", f"{who}, old", mode, (0 if who == "root" else 1000, 1000))
    put(source, "program", "#!/bin/sh\nexit 3\n", 0o755)
    put(source, "old-directory/file", "in a directory")
    put(source, "closed/file", "behind a closed door")
    (source / "closed").chmod(0o700)
    put(source, f"{LONGEST}", "long")
    put(source, "deep/1/2/3/4/5/6/7/8/9/file", "deep")
    os.symlink("root-file", source / "link")
    os.symlink("loop-b", source / "loop-a")
    os.symlink("loop-a", source / "loop-b")
    os.symlink("old-directory", source / "link-to-directory")
    os.symlink("x" * 1000, source / "link-to-long")
    os.mkfifo(source / "fifo", 0o644)
    os.mknod(source / "null", 0o020666, os.makedev(1, 3))
    put(source, "goes", "goes")
    put(source, "becomes-directory", "file")
    put(source, "becomes-file/x", "x")
    all_times(source, OLD_TIME)


def release(folder):
    usr = folder / "usr"
    put(usr, "root-file", "root, new and longer", 0o644, (0, 1000))
    put(usr, "user-file", "user, new", 0o640, (1000, 1000))
    put(usr, "none-file", "none, new", 0o000, (1000, 1000))
    put(usr, "program", "#!/bin/sh\nexit 4\n", 0o755)
    put(usr, "setgid", "s", 0o2755, (0, 1000))
    put(usr, "new-directory/file", "new in a new directory")
    put(usr, "old-directory/other", "new in an old directory")
    put(usr, "closed/other", "new behind a closed door")
    put(usr, "m" * 255, "long and new")
    put(usr, "deep/1/2/3/4/5/6/7/8/9/other", "deep")
    put(usr, "large", bytes(range(256)) * 4096)
    put(usr, "becomes-directory/inside", "inside")
    put(usr, "becomes-file", "a file")
    put(usr, "with-attribute", "a", xattrs={"user.note": b"value", "user.empty": b""})
    os.symlink("new-directory/file", usr / "new-link")
    os.symlink("/absolute/nowhere", usr / "new-absolute")
    os.mkfifo(usr / "new-fifo", 0o600)
    all_times(folder, NEW_TIME)
    return ["usr/new-directory", "usr/becomes-directory"], ["usr/goes"]


def expected(source, folder, directories, to):
    run("cp", "-a", source, to)
    for name in ("goes", "becomes-directory"):
        (to / name).unlink()
    (to / "becomes-file/x").unlink()
    (to / "becomes-file").rmdir()
    run("cp", "-a", f"{folder}/usr/.", to)
    for directory, _, _ in os.walk(source):
        rel = os.path.relpath(directory, source)
        if f"usr/{rel}" not in directories and (to / rel).is_dir():
            st = os.stat(directory)
            (to / rel).chmod(st.st_mode & 0o7777)
            os.utime(to / rel, ns=(st.st_mtime_ns, st.st_mtime_ns))


def paths():
    """Names that exist, that do not, and that cannot."""
    names = ["", ".", "root-file", "user-file", "none-file", "program", "setgid", "old-directory", "new-directory",
             "old-directory/file", "old-directory/other", "closed", "closed/file", "closed/other", LONGEST, "m" * 255,
             "n" * 256, "deep/1/2/3/4/5/6/7/8/9/file", "deep/1/2/3/4/5/6/7/8/9/other", "large", "link", "loop-a",
             "link-to-directory", "link-to-directory/file", "link-to-directory/../root-file", "link-to-long", "fifo", "null",
             "goes", "becomes-directory", "becomes-directory/inside", "becomes-file", "becomes-file/x", "with-attribute",
             "new-link", "new-absolute", "new-fifo", "absent", "absent/below", "root-file/below", "goes/below",
             "root-file/", "old-directory/", "link/", "loop-a/x", "/".join(["deep"] * 1100), "old-directory/../new-directory"]
    return names


def shown(st):
    """Not st_dev and st_ino (another file system), not the number of names (the store has its own), not the size of
    directories and what they take (the file system's own affair), no change or access times."""
    size = st.st_size if not stat.S_ISDIR(st.st_mode) else None
    return (stat.filemode(st.st_mode), st.st_uid, st.st_gid, size, st.st_rdev, st.st_mtime_ns)


def opened(path, flags):
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        st = os.fstat(fd)
        if stat.S_ISREG(st.st_mode) and flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_PATH:
            return shown(st), os.pread(fd, 4096, 3), os.lseek(fd, 0, os.SEEK_END), os.read(fd, 1)
        return shown(st)
    finally:
        os.close(fd)


def reading(path):
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)


def mapped(path):
    with reading(path) as f:
        with mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as shared, \
                mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as private:
            private[0] = 0
            return bytes(shared[:100]), bytes(private[:100])


def locked(path):
    with reading(path) as f:
        fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB)


CALLS = {
    "lstat": lambda p: shown(os.lstat(p)),
    "stat": lambda p: shown(os.stat(p)),
    "readlink": os.readlink,
    "read": lambda p: opened(p, os.O_RDONLY),
    "read, no link": lambda p: opened(p, os.O_RDONLY | os.O_NOFOLLOW),
    "path": lambda p: opened(p, os.O_PATH | os.O_NOFOLLOW),
    "directory": lambda p: opened(p, os.O_RDONLY | os.O_DIRECTORY),
    "write": lambda p: opened(p, os.O_WRONLY),
    "truncate on open": lambda p: opened(p, os.O_WRONLY | os.O_TRUNC),
    "append": lambda p: opened(p, os.O_RDWR | os.O_APPEND),
    "create": lambda p: opened(p, os.O_WRONLY | os.O_CREAT),
    "create, new": lambda p: opened(p, os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    "unnamed": lambda p: opened(p, os.O_RDWR | os.O_TMPFILE),
    "access r": lambda p: os.access(p, os.R_OK, effective_ids=True),
    "access w": lambda p: os.access(p, os.W_OK, effective_ids=True),
    "access x": lambda p: os.access(p, os.X_OK, effective_ids=True),
    "list": lambda p: sorted(os.listdir(p)),
    "types": lambda p: sorted((e.name, e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False), e.is_symlink())
                              for e in os.scandir(p)),
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "mkdir": os.mkdir,
    "mkfifo": os.mkfifo,
    "symlink": lambda p: os.symlink("x", p),
    "link": lambda p: os.link(p, p + ".2"),
    "rename": lambda p: os.rename(p, p + ".2"),
    "rename over": lambda p: os.rename("program", p),
    "chmod": lambda p: os.chmod(p, 0o777),
    "chown": lambda p: os.chown(p, 1, 1, follow_symlinks=False),
    "utime": lambda p: os.utime(p),
    "truncate": lambda p: os.truncate(p, 1),
    "statvfs": lambda p: (os.statvfs(p).f_flag & (os.ST_RDONLY | os.ST_NOSUID), os.statvfs(p).f_namemax),
    "getxattr": lambda p: os.getxattr(p, "user.note"),
    "getxattr, none": lambda p: os.getxattr(p, "user.none"),
    "listxattr": lambda p: sorted(os.listxattr(p)),
    "setxattr": lambda p: os.setxattr(p, "user.x", b"x"),
    "map": mapped,
    "lock": locked,
}


def answers(place, uid):
    """{(call, path): what it answers}, as another user, in a process of its own."""
    output, writing = os.pipe()
    child = os.fork()
    if child == 0:
        result = {}
        try:
            os.close(output)
            os.chdir(place)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            for path in paths():
                for name, call in CALLS.items():
                    try:
                        answer = repr(call(path))
                    except OSError as e:
                        answer = errno.errorcode[e.errno]
                    except ValueError as e:
                        answer = str(e)
                    result[f"{name} {path[:40]} ({len(path)})"] = answer
        finally:
            with os.fdopen(writing, "w") as f:
                f.write("\0".join(f"{k}\1{v}" for k, v in result.items()))
            os._exit(0)
    os.close(writing)
    with os.fdopen(output) as f:
        text = f.read()
    os.waitpid(child, 0)
    return dict(line.split("\1") for line in text.split("\0"))


@pytest.mark.parametrize("method", ["overlay", "union"])
@in_own_mounts
def test_each_call_answers_as_on_an_ordinary_read_only_file_system(tmp_path, method):
    os.umask(0)
    lab = MergeLab(tmp_path)
    for directory in [lab.dir, *lab.dir.parents]:
        directory.chmod(directory.stat().st_mode | 0o011) if str(directory).startswith("/tmp/") else None
    source = lab.dir / "source"
    original(source)
    directories, gone = release(lab.dir / "new")
    expected(source, lab.dir / "new", directories, lab.dir / "expected")
    lab.disk("plain", "24M", None, source=lab.dir / "expected")
    plain = lab.dir / "plain"
    plain.mkdir()
    run("mount", "-o", "loop,ro", lab.dir / "plain.ext4", plain)
    lab.mount_usr("ext4", source)
    lab.apply(lab.dir / "new", ["tree=usr@usr"], gone, directories, method)
    different = {}
    for uid in USERS:
        want, have = answers(plain, uid), answers(lab.usr, uid)
        assert len(want) == len(CALLS) * len(paths())
        assert sum("EROFS" == a for a in want.values()) > 200
        for key, answer in want.items():
            if have[key] != answer:
                different[f"{uid}: {key}"] = (answer, have[key])
    assert not different, "\n".join(f"{k}\n    {a}\n    {b}" for k, (a, b) in list(different.items())[:40])
