"""Disks of several parts, made inside libguestfs's machine: this host mounts nothing, and needs no loop devices."""

import ctypes
import subprocess


class Machine:
    """libguestfs, by the few calls that are needed; `with Machine(disk) as m: m.mkfs("ext4", "/dev/sda1")`."""

    def __init__(self, disk):
        self.library = ctypes.CDLL("libguestfs.so.0")
        self.library.guestfs_create.restype = ctypes.c_void_p
        self.library.guestfs_last_error.restype = ctypes.c_char_p
        self.handle = ctypes.c_void_p(self.library.guestfs_create())
        self.set_backend("direct")
        self.add_drive(disk)
        self.launch()

    def __getattr__(self, name):
        def call(*arguments):
            words = [str(a).encode() if not isinstance(a, (int, bytes, ctypes.Array)) else a for a in arguments]
            result = getattr(self.library, f"guestfs_{name}")(self.handle, *(ctypes.c_int64(w) if isinstance(w, int) else w for w in words))
            if result < 0:
                raise RuntimeError(f"{name}{arguments}: {self.library.guestfs_last_error(self.handle).decode()}")
        return call

    def put(self, path, text, mode=0o644):
        self.mkdir_p(path.rpartition("/")[0] or "/")
        self.write(path, text.encode(), len(text))
        self.chmod(mode, path)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if not exc[0]:
            self.shutdown()
        self.library.guestfs_close.restype = None
        self.library.guestfs_close(self.handle)


def names(*texts):
    return (ctypes.c_char_p * (len(texts) + 1))(*(t.encode() for t in texts), None)


FSTAB = """LABEL=system / btrfs subvol=@ 0 0
LABEL=system /home btrfs subvol=@home 0 0
/dev/data/srv /srv ext4 defaults 0 2
/dev/data/opt /opt xfs defaults 0 0
"""
PLACES = (("/", "btrfsvol:/dev/sda1/@"), ("/home", "btrfsvol:/dev/sda1/@home"), ("/srv", "/dev/data/srv"), ("/opt", "/dev/data/opt"))


def make_layered(disk, files):
    """A Linux system whose / and /home are btrfs subvolumes, with ext4 and XFS on logical volumes. `files`: path -> text."""
    raw = disk.with_suffix(".raw")
    with open(raw, "wb") as file:
        file.truncate(900 << 20)
    with Machine(raw) as m:
        m.part_init("/dev/sda", "gpt")
        m.part_add("/dev/sda", "p", 2048, 499_999)
        m.part_add("/dev/sda", "p", 501_760, 1_840_000)
        m.mkfs("btrfs", "/dev/sda1")
        m.set_label("/dev/sda1", "system")
        m.pvcreate("/dev/sda2")
        m.vgcreate("data", names("/dev/sda2"))
        m.lvcreate("srv", "data", 48)
        m.lvcreate("opt", "data", 320)
        m.mkfs("ext4", "/dev/data/srv")
        m.mkfs("xfs", "/dev/data/opt")
        m.mount("/dev/sda1", "/")
        m.btrfs_subvolume_create("/@")
        m.btrfs_subvolume_create("/@home")
        m.umount_all()
        for point, device in PLACES:
            if point != "/":
                m.mkdir(point)
            m.mount(device, point)
        for name in ("bin", "usr/bin", "etc"):
            m.mkdir_p(f"/{name}")
        m.put("/etc/fstab", FSTAB)
        m.put("/etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
        m.put("/etc/debian_version", "12.1\n")
        for path, text in files.items():
            m.put(f"/{path}", text)
        m.umount_all()
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)], check=True)
    raw.unlink()
