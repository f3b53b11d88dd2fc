"""docs/walk-through.md, command for command: a golden image becomes a template, a change in a pilot becomes a release, and the release reaches
the domains of a real libvirtd in waves, and the next golden image."""

import os
import re
import shutil
import subprocess

import pytest

import libvirt
import moult
import vm as vms
from images import appliance, archive, image  # noqa: F401 - fixtures

PAGE = moult.TOP / "docs/walk-through.md"
BLOCK = re.compile(r"^```(sh|pilot)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The commands are root's on a host of their own: these are the places that they name.
HOST = """set -e
mkdir -p /etc/moult/trusted.d
mount --bind "$TRUST" /etc/moult/trusted.d
exec bash -euo pipefail -c "$1"
"""


@pytest.fixture
def place(appliance, host, tmp_path_factory, archive, image):
    """The operator's directory, and libvirt's."""
    directory = tmp_path_factory.mktemp("w", numbered=True)
    shutil.copy(image, directory / "golden-1.qcow2")
    shutil.copy(archive, directory / "moult-agent.tar.gz")
    devices = libvirt.DEVICES.format(disk=directory / "NAME.qcow2", console=directory / "NAME.log", test=directory / "NAME.sock")
    (directory / "web.xml").write_text(libvirt.domain_xml("NAME", libvirt.BOOT.format(image=vms.image_dir("tiny")), devices, 512))
    daemon = libvirt.Libvirtd(directory / "lv")
    try:
        daemon.start()
        yield directory, daemon
    finally:
        daemon.stop()


def in_guest(directory, name, command):
    channel = vms.Exec(directory / f"{name}.sock")
    try:
        result = channel.run(command)
    finally:
        channel.close()
    assert result.code == 0, result
    return result.text


def test_the_walk_through(host, place):
    directory, daemon = place
    environment = os.environ | {"PATH": f"{moult.MOULT.parent}:{os.environ['PATH']}", "MOULT_SOCKET": str(host.socket),
                                "LIBVIRT_DEFAULT_URI": daemon.local, "TRUST": str(host.trust), "TMPDIR": str(directory)}
    for path in host.trust.glob("*"):
        path.unlink()
    blocks, boots = BLOCK.findall(PAGE.read_text(encoding="utf-8")), None
    assert [kind for kind, _ in blocks].count("pilot") == 1 and len(blocks) >= 8
    for kind, text in blocks:
        if kind == "pilot":
            in_guest(directory, "pilot", text)
            boots = {name: in_guest(directory, name, "cat /proc/sys/kernel/random/boot_id") for name in ("web-1", "web-2", "web-3")}
            continue
        done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", HOST, "sh", text], check=False, cwd=directory,
                              env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}\n{host.log_text()}\n{daemon.log_text()}"

    for name, boot in boots.items():
        assert in_guest(directory, name, "/usr/local/bin/app; cat /etc/app/app.conf; stat -c %a /usr/local/bin/app; cat /proc/sys/kernel/random/boot_id").split("\n") == [
            "app, second version", "workers = 8", "755", boot]
    fleet = {vm["name"]: vm for vm in host.json("fleet")["vms"]}
    assert [fleet[name]["last_release"] for name in sorted(boots)] == ["base 2"] * 3
