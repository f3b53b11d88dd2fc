"""What is in restore points: the whole disk as it was at the instant, and of what a guest synced all of it, whatever the grade."""

import os
import pathlib
import struct
import subprocess

import pytest

import moult
import vm as vms

SOAK = bool(os.environ.get("MOULT_SOAK"))
# The chain has 4 files at most: this many restore points on one that began with one file.
POINTS = 3
ROUNDS = 7 if SOAK else 1
WORDS = 640


@pytest.fixture(scope="session")
def writer(tmp_path_factory):
    program = tmp_path_factory.mktemp("writer") / "record_writer"
    subprocess.run(["cc", "-O1", "-static", "-o", program, moult.TOP / "tests/support/record_writer.c"], check=True)
    return program.read_bytes()


@pytest.fixture
def guest(host, guests, workdir, writer):
    """Its disk is one file without a base; somebody in it writes records."""
    directory = workdir / "vm"
    directory.mkdir()
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(vms.image_dir("tiny") / "disk.img"), str(directory / "disk.qcow2")], check=True)
    machine = guests.new(directory=directory)
    machine.write_file("/run/record_writer", writer, mode=0o755)
    machine.exec("/run/record_writer /srv/records /run/written >/run/writer.log 2>&1 &")
    host.add("web-1", machine)
    host.moult("vm", "wait", "web-1")
    return machine


def written(guest):
    data = guest.exec("cat /run/written", check=False).out
    return struct.unpack("<Q", data)[0] if len(data) == 8 else 0


def writes_on(guest):
    deadline, before = vms.Deadline(120, "the writer's next record"), written(guest)
    while written(guest) <= before:
        deadline.left()


def take(host, guest, name, *options):
    return host.json("snapshot", "create", "web-1", "--name", name, "--no-upload", *options, timeout=300)["result"]


def layer_of(guest, taken):
    return pathlib.Path(guest.dir / taken["disks"][0]["layer"])


def check_prefix(data):
    """The number of whole records. What comes after them is the beginning of the next one."""
    size = WORDS * 8
    for n in range(len(data) // size):
        assert data[n * size:(n + 1) * size] == struct.pack("<Q", n + 1) * WORDS, f"record {n + 1} is not whole"
    rest = data[len(data) // size * size:]
    assert rest == (struct.pack("<Q", len(data) // size + 1) * WORDS)[:len(rest)]
    return len(data) // size


@pytest.mark.parametrize("grade", ["crash", "filesystem"])
@pytest.mark.parametrize("run", range(ROUNDS))
def test_every_restore_point_holds_a_prefix_of_what_was_synced(host, guest, guests, grade, run):
    points = []
    for n in range(POINTS):
        writes_on(guest)
        before = written(guest)
        taken = take(host, guest, f"{grade}-{run}-{n}", "--no-quiesce" if grade == "crash" else "--require-quiesce")
        assert taken["grade"] == grade, taken
        points.append((layer_of(guest, taken), before, written(guest)))
    writes_on(guest)
    guest.stop(keep=True)
    for layer, before, after in points:
        again = guests.new(base_disk=(layer, "qcow2"))
        held = check_prefix(again.exec("cat /srv/records", timeout=300).out)
        assert before <= held <= after + 1  # the last one may have been synced, and not counted yet
        again.stop()


def image(*words):
    return subprocess.run(["qemu-img", *map(str, words)], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def assert_same(a, b):
    compared = image("compare", "-U", "-s", "-f", "qcow2", "-F", "qcow2", a, b)
    assert compared.returncode == 0, compared.stdout


def test_every_restore_point_is_byte_for_byte_the_disk_at_its_instant(host, guest, workdir):
    disk, points = guest.dir / "disk.qcow2", []
    for n in range(POINTS):
        writes_on(guest)
        guest.qmp.command("stop")
        reference = workdir / f"reference-{n}.qcow2"
        copied = image("convert", "-U", "-f", "qcow2", "-O", "qcow2", disk, reference)
        assert copied.returncode == 0, copied.stdout
        taken = take(host, guest, f"point-{n}", "--no-quiesce")
        assert guest.qmp.command("query-status")["status"] == "paused"  # who had stopped it has not said that it goes on
        points.append((layer_of(guest, taken), reference))
        assert_same(disk, reference)
        guest.qmp.command("cont")
    writes_on(guest)
    for layer, reference in points:
        assert_same(layer, reference)
    for (_, earlier), (_, later) in zip(points, points[1:]):
        assert image("compare", "-f", "qcow2", "-F", "qcow2", earlier, later).returncode == 1  # they could have been mixed up
    guest.stop(keep=True)
    for layer, reference in points:
        assert_same(layer, reference)
