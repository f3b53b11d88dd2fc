"""Images that may not be opened: told before a virtual machine is started for them, by real QEMU locks and hostile headers."""

import hashlib
import os
import subprocess

import pytest

import moult
import vm as vms

BUSY_CODES = {8}
REFUSED, UNTRUSTED = 4, 9


def qemu_img(*words):
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


@pytest.fixture
def lab(tmp_path):
    host = moult.Host(tmp_path / "host")        # its commands only: no daemon is needed
    host.new_key()
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/new").write_text("x")
    return Lab(tmp_path, host, tree, host.build(tree))


class Lab:
    def __init__(self, directory, host, tree, pack):
        self.dir, self.host, self.tree, self.pack = directory, host, tree, pack

    def qcow2(self, name, *options):
        qemu_img("create", "-f", "qcow2", *options, self.dir / name, "64M")
        return self.dir / name

    def capture(self, old, new):
        return self.host.run("release", "capture", "--from", old, "--to", new, "--name", "x", "--version", "1", "--sign",
                             self.host.dir / "test.key", "-o", self.dir / "x.moult")

    def apply(self, image, *options):
        return self.host.run("release", "apply", "--image", image, "--trust", self.host.trust, self.pack, *options)


class Qemu:
    """A QEMU that has a disk and does not run: its locks are those of a VM that does."""

    def __init__(self, image):
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-machine", "q35", "-accel", "tcg", "-m", "64", "-drive",
             f"file={image},format=qcow2,if=virtio", "-qmp", "stdio"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=vms._die_with_parent)
        assert b"QMP" in self.process.stdout.readline()     # the greeting comes when the disks are open

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.communicate()


def test_an_image_that_a_vm_writes_to_is_in_use(lab):
    image = lab.qcow2("a.qcow2")
    with Qemu(image):
        for code, _, err in (lab.apply(image), lab.apply(image, "--output", lab.dir / "b.qcow2"), lab.capture(image, lab.tree),
                             lab.capture(lab.tree, image)):
            assert code in BUSY_CODES and "in use: a running VM" in err, err
    assert not (lab.dir / "b.qcow2").exists() and not (lab.dir / "x.moult").exists()


def test_an_image_that_a_vms_layer_stands_on_is_not_changed(lab):
    image = lab.qcow2("a.qcow2")
    layer = lab.qcow2("clone.qcow2", "-b", "a.qcow2", "-F", "qcow2")
    before = hashlib.sha256(image.read_bytes()).digest()
    with Qemu(layer):
        code, _, err = lab.apply(image)
    assert code in BUSY_CODES and "backing file of running VMs" in err and "--output" in err, err
    assert hashlib.sha256(image.read_bytes()).digest() == before
    assert os.listdir(lab.dir).count(".a.qcow2.moult-new") == 0


@pytest.mark.parametrize("options, word", [
    (("-b", "/etc/passwd", "-F", "raw"), "/etc/passwd"),
    (("-o", "data_file=DIR/data.raw,data_file_raw=on"), "in another file"),
    (("--object", "secret,id=s,data=x", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"), "encrypted"),
])
def test_headers_that_lead_elsewhere_are_not_followed(lab, options, word):
    image = lab.qcow2("evil.qcow2", *(o.replace("DIR", str(lab.dir)) for o in options))
    for code, _, err in (lab.apply(image), lab.capture(lab.tree, image)):
        assert code == REFUSED and word in err, err


def test_a_qcow2_header_in_a_raw_image_is_data(lab):
    """What a guest wrote into its first block must not make QEMU look for other files: the file is what its name says."""
    image = lab.qcow2("evil.qcow2", "-b", "/etc/passwd", "-F", "raw")
    raw = image.rename(lab.dir / "evil.raw")
    code, _, err = lab.capture(lab.tree, raw)
    assert code == REFUSED and "1 MiB" in err and "passwd" not in err, err     # judged by its size, as raw


def test_snapshots_inside_stand_in_the_way_of_a_change(lab):
    image = lab.qcow2("a.qcow2")
    qemu_img("snapshot", "-c", "before", image)
    code, _, err = lab.apply(image)
    assert code == REFUSED and "internal snapshots" in err, err


def test_damage_is_told(lab):
    image = lab.qcow2("a.qcow2")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 1M", str(image)], check=True, capture_output=True)
    with open(image, "r+b") as file:
        file.seek(0x10000)
        file.write(b"\x7e" * 65536)
    code, _, err = lab.apply(image)
    assert code != 0 and "qemu-img check" in err, err


def test_what_is_no_image_is_told(lab):
    for word, expected in ((lab.dir / "none.qcow2", "No such file"), (lab.pack, "not guessed")):
        code, _, err = lab.apply(word)
        assert code != 0 and expected in err, err
    image = lab.qcow2("a.qcow2")
    code, _, err = lab.apply(image, "--output", image)
    assert code in BUSY_CODES and "exists already" in err, err


def test_a_release_that_nobody_vouches_for_is_refused_before_the_image_is_opened(lab):
    image = lab.qcow2("a.qcow2")
    for key in lab.host.trust.glob("*.pub"):
        key.unlink()
    code, _, err = lab.apply(image)
    assert code == UNTRUSTED, err
    assert "image  " not in err      # no progress of the image
