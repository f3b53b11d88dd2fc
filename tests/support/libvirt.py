"""A libvirtd of the test's own, and guests that are its domains.

libvirtd has many places with fixed names (/run/libvirt, /var/lib/libvirt, /etc/libvirt, ...). Here they are folders of the test, bound over
the real ones in a mount namespace of libvirtd's own, so nothing of the machine's is seen or touched. It needs root, no systemd and no D-Bus.
"""

import json
import os
import pathlib
import signal
import subprocess
import time
import uuid

import moult
import vm as vms

PLACES = ("run/libvirt", "var/lib/libvirt", "var/cache/libvirt", "var/log/libvirt", "etc/libvirt")

QEMU_CONF = """user = "root"
group = "root"
stdio_handler = "file"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
"""

# libvirt insists on the user that its package would have made, whatever qemu.conf says.
SCRIPT = """set -e
for place in {places}; do mkdir -p {root}/$place /$place; mount --bind {root}/$place /$place; done
cp {root}/qemu.conf /etc/libvirt/qemu.conf
getent passwd libvirt-qemu >/dev/null || {{
        {{ cat /etc/passwd; echo libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin; }} >{root}/passwd
        {{ cat /etc/group; echo libvirt-qemu:x:64055:; }} >{root}/group
        mount --bind {root}/passwd /etc/passwd
        mount --bind {root}/group /etc/group
}}
exec libvirtd --listen -f {root}/libvirtd.conf -p {root}/libvirtd.pid
"""

DOMAIN = """<domain type='{accel}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>{boot}
  </os>
  <features><acpi/></features>
  <cpu mode='{cpu}'>{model}</cpu>
  <devices>
    <controller type='usb' model='none'/>{devices}
    <memballoon model='none'/>
  </devices>
</domain>
"""

BOOT = """
    <kernel>{image}/vmlinuz</kernel>
    <initrd>{image}/initrd.img</initrd>
    <cmdline>console=ttyS0 panic=-1 quiet TICKS</cmdline>""".replace("TICKS", vms.TICKS)

DEVICES = """
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <serial type='file'><source path='{console}'/></serial>
    <channel type='unix'>
      <source mode='bind' path='{test}'/>
      <target type='virtio' name='org.moult.test.0'/>
    </channel>"""


def domain_xml(name, boot="", devices="", memory=64):
    """A q35 machine; with nothing more, one that is only good for being there (start it --paused)."""
    kvm = vms.have_kvm()
    return DOMAIN.format(accel="kvm" if kvm else "qemu", name=name, boot=boot, devices=devices, memory=memory,
                         cpu="host-passthrough" if kvm else "custom", model="" if kvm else "<model>qemu64</model>")


def channel(path=""):
    """The agent's. Without a path libvirt chooses one."""
    source = f"<source mode='bind' path='{path}'/>" if path else ""
    return f"\n    <channel type='unix'>{source}<target type='virtio' name='org.moult.agent.0'/></channel>"


def make_certificates(directory):
    """What libvirtd and its clients need for TLS, under the names that libvirt looks for; for 127.0.0.1, and of no other use."""
    directory.mkdir()

    def openssl(*words):
        subprocess.run(["openssl", *(str(word) for word in words)], cwd=directory, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ca of a test", "-keyout", "cakey.pem", "-out", "cacert.pem",
            "-addext", "keyUsage=critical,keyCertSign")
    for name, extensions in (("server", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth"), ("client", "extendedKeyUsage=clientAuth")):
        (directory / "ext").write_text(f"basicConstraints=CA:FALSE\nkeyUsage=digitalSignature,keyEncipherment\n{extensions}\n", encoding="ascii")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}key.pem", "-out", "request.pem")
        openssl("x509", "-req", "-in", "request.pem", "-CA", "cacert.pem", "-CAkey", "cakey.pem", "-CAcreateserial", "-days", "2",
                "-extfile", "ext", "-out", f"{name}cert.pem")


class Libvirtd:
    """One libvirtd, a host of its own, with its state below a folder. local, tcp and tls are its URIs."""

    def __init__(self, directory):
        self.root = pathlib.Path(directory)
        self.root.mkdir(parents=True, exist_ok=True)
        self.socket = self.root / "libvirt-sock"
        self.port = moult.free_port()
        self.local = f"qemu+unix:///system?socket={self.socket}"
        self.tcp = f"qemu+tcp://127.0.0.1:{self.port}/system"
        self.tls_port = moult.free_port()
        self.tls = f"qemu+tls://127.0.0.1:{self.tls_port}/system?pkipath={self.root / 'pki'}"
        self.process = None
        make_certificates(self.root / "pki")
        (self.root / "qemu.conf").write_text(QEMU_CONF, encoding="ascii")
        (self.root / "libvirtd.conf").write_text(
            f'unix_sock_dir = "{self.root}"\nauth_unix_ro = "none"\nauth_unix_rw = "none"\nlisten_tls = 1\nlisten_tcp = 1\n'
            f'host_uuid = "{uuid.uuid4()}"\ntls_port = "{self.tls_port}"\nauth_tls = "none"\nca_file = "{self.root}/pki/cacert.pem"\n'
            f'cert_file = "{self.root}/pki/servercert.pem"\nkey_file = "{self.root}/pki/serverkey.pem"\n'
            f'auth_tcp = "none"\nlisten_addr = "127.0.0.1"\ntcp_port = "{self.port}"\nlog_outputs = "3:file:{self.root}/log"\n',
            encoding="ascii")

    def start(self):
        script = SCRIPT.format(places=" ".join(PLACES), root=self.root)
        with open(self.root / "out", "ab") as out:
            self.process = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=vms._die_with_parent)
        self.virsh("uri")
        return self

    def end(self):
        """As by `systemctl stop`: the domains go on."""
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """And nothing is left."""
        for pid in self.root.glob("run/libvirt/qemu/*.pid"):
            number = int(pid.read_text(encoding="ascii"))
            if pid.name != "driver.pid" and b"qemu-system" in pathlib.Path(f"/proc/{number}/cmdline").read_bytes():
                os.kill(number, signal.SIGKILL)
        self.end()

    def virsh(self, *words, timeout=120):
        """What virsh printed. A libvirtd that is starting does not listen yet."""
        words = [str(word) for word in words]
        deadline = vms.Deadline(timeout, f"virsh {' '.join(words)}")
        while True:
            done = subprocess.run(["virsh", "-q", "-c", self.local, *words], check=False, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=deadline.left())
            if done.returncode == 0:
                return done.stdout
            if "Failed to connect socket" not in done.stderr:
                raise vms.VmError(f"virsh {' '.join(words)}: {done.stderr}\n{self.log_text()}")
            if self.process.poll() is not None:
                raise vms.VmError(f"libvirtd ended with {self.process.returncode}:\n{self.log_text()}")
            time.sleep(0.05)  # nobody announces a listening socket

    def define(self, xml):
        (self.root / "domain.xml").write_text(xml, encoding="utf-8")
        self.virsh("define", self.root / "domain.xml")

    def monitor(self, domain, command, **arguments):
        """A QMP command, past moult; what it returned."""
        answer = json.loads(self.virsh("qemu-monitor-command", domain, json.dumps({"execute": command, "arguments": arguments})))
        if "error" in answer:
            raise vms.VmError(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def windows(self, domain):
        """Devices and objects of moult's in the domain's QEMU."""
        names = [o["name"] for path in ("/objects", "/machine/peripheral") for o in self.monitor(domain, "qom-list", path=path)]
        return [name for name in names if name.startswith("moult-")]

    def log_text(self):
        return "\n".join((self.root / name).read_text(errors="replace")[-2000:] for name in ("out", "log")
                         if (self.root / name).exists())


class Domain(vms.Vm):
    """A guest that is a domain. agent_path: where its agent's channel listens; "" leaves that to libvirt, None leaves the channel out."""

    def __init__(self, libvirtd, name, image="tiny", agent_path=None):
        super().__init__(image)
        self.libvirtd, self.name, self.agent_path = libvirtd, name, agent_path

    def define(self):
        path, kind = self.base_disk
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(pathlib.Path(path).resolve()), "-F", kind,
                        str(self.dir / "disk.qcow2")], check=True)
        devices = DEVICES.format(disk=self.dir / "disk.qcow2", console=self.console_log, test=self.dir / "test.sock") + (channel(self.agent_path) if self.agent_path is not None else "")
        self.libvirtd.define(domain_xml(self.name, BOOT.format(image=self.image), devices, self.memory_mb))
        return self

    def start(self, wait=True):
        if self.name not in self.libvirtd.virsh("list", "--all", "--name").split():
            self.define()
        self.libvirtd.virsh("start", self.name)
        if wait:
            self.wait_ready()
        return self

    def kill(self):
        self.exec_channel.close()
        if self.is_running():
            self.libvirtd.virsh("destroy", self.name)

    def is_running(self):
        return self.libvirtd.process.poll() is None and self.name in self.libvirtd.virsh("list", "--name").split()
