"""The machine of disk_machine.py as a domain of a real libvirtd, and what libvirt believes of its disk."""

import json
import os
import re

import libvirt
from disk_machine import MIB, Machine, qemu_img

PORT = "<controller type='pci' index='{}' model='pcie-root-port'/>"
DISK = """<disk type='file' device='disk'><driver name='qemu' type='{format}' discard='unmap'/><source file='{file}'/>
<target dev='vda' bus='virtio'/></disk>"""


class DomainMachine(Machine):
    """The same as a domain "s", with a second disk that nobody chooses."""

    def __init__(self, directory, libvirtd):
        super().__init__(directory, "blockdev")
        self.libvirtd = libvirtd
        self.read_only = self.dir / "read-only.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", self.read_only, str(MIB))
        ports = "<controller type='pci' index='0' model='pcie-root'/>" + "".join(PORT.format(n) for n in range(1, 7))
        libvirtd.define(libvirt.domain_xml("s", devices=ports + DISK.format(file=self.disk, format="qcow2") + DISK.format(
            file=self.read_only, format="qcow2").replace("vda", "vdb").replace("</disk>", "<readonly/></disk>"), memory=32))

    def has_own_name(self):
        """As after prepare()."""
        own = f"{self.disk}.moult-01JDV2ZZZZZZZZZZZZZZZZZZZZ-0.layer"
        os.link(self.disk, own)
        self.libvirtd.define(self.libvirtd.virsh("dumpxml", "--inactive", "s").replace(f"'{self.disk}'", f"'{own}'"))
        self.again()

    def start(self):
        self.libvirtd.virsh("start", "s")
        return self

    def kill(self):
        self.libvirtd.virsh("destroy", "s")

    def drop(self):
        if self.is_on():
            self.kill()
        self.libvirtd.virsh("undefine", "s", "--managed-save")

    def is_on(self):
        return "s" in self.libvirtd.virsh("list", "--name").split()

    def again(self):
        self.kill()
        return self.start()

    def chain_length(self):
        return len(self.qemus())

    def running(self):
        return self.libvirtd.virsh("domstate", "s").strip() == "running"

    def drive(self):
        return next(d for d in self.libvirtd.monitor("s", "query-block") if "virtio-disk0" in d["qdev"])

    def write(self, at, pattern):
        for command in (f"write -P {pattern} {at}M 1M", "flush"):
            self.libvirtd.monitor("s", "human-monitor-command", **{"command-line": f'qemu-io -d {self.drive()["qdev"]} "{command}"'})
        self.written[at] = pattern

    def files(self, *options):
        """Of vda, the top first, by libvirt's word. All of them exist."""
        xml = self.libvirtd.virsh("dumpxml", "s", *options)
        disk = next(d for d in re.findall(r"<disk .*?</disk>", xml, re.S) if "'vda'" in d)
        return re.findall(r"<source file='([^']*)'", disk)

    def qemus(self):
        """The same by QEMU's."""
        image, files = self.drive()["inserted"]["image"], []
        while image:
            files.append(json.loads(image["filename"][5:])["file"]["filename"] if image["filename"].startswith("json:") else image["filename"])
            image = image.get("backing-image")
        return files

    def check(self):
        """libvirt, QEMU and the names of files agree; and what is started next is what there is now."""
        [defined] = self.files("--inactive")
        assert os.path.samefile(defined, self.disk)
        if self.is_on():
            live = self.files()
            assert live == self.qemus() and live[0] == defined and str(self.disk) not in live
        self.expect(defined, self.written)
        self.expect(self.disk, self.written)
        return defined


def add(host, machine):
    host.moult("vm", "add", "web-1", "--libvirt", machine.libvirtd.local, "--domain", "s")
