"""Guests whose heartbeat is seen from the host: heartbeat.c writes it into the memory of an ivshmem device, which is a file here."""

import contextlib
import pathlib
import subprocess

import libvirt
import vm as vms

BYTES = 1 << 20
SHMEM = """
    <shmem name='{name}' role='master'><model type='ivshmem-plain'/><size unit='M'>1</size></shmem>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"""


def own_machine(memory, **options):
    """A guest of our own QEMU. The host's side is the other peer's master, so that the state of the guest can be saved."""
    memory.write_bytes(bytes(BYTES))
    return vms.Vm("debian", qemu_args=["-object", f"memory-backend-file,id=beats,share=on,mem-path={memory},size={BYTES}",
                                       "-device", "ivshmem-plain,memdev=beats,master=on"], **options)


class Domain(libvirt.Domain):
    """The same as a domain of libvirt's, with the channel of qemu-guest-agent."""

    def define(self):
        devices = libvirt.DEVICES

        libvirt.DEVICES = devices + SHMEM.format(name=self.name)
        try:
            return super().define()
        finally:
            libvirt.DEVICES = devices

    @property
    def memory(self):
        return pathlib.Path("/dev/shm") / self.name


def begin(guest, heartbeat):
    guest.write_file("/root/heartbeat", heartbeat.read_bytes(), 0o755)
    guest.exec("for d in /sys/bus/pci/devices/*; do if [ \"$(cat $d/vendor) $(cat $d/device)\" = '0x1af4 0x1110' ]; then echo 1 >$d/enable; "
               "(/root/heartbeat write $d/resource2 /srv/beats >/run/heartbeat.log 2>&1 &); exit 0; fi; done; echo no ivshmem >&2; exit 1")
    guest.wait_for("[ -s /srv/beats ]")


class Watch:
    """Of the memory file."""

    def __init__(self, heartbeat, memory):
        self.process = subprocess.Popen([str(heartbeat), "watch", str(memory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def mark(self):
        """(longest gap of writes, of ticks, both in ms; writes, ticks) since the last mark."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        gap_writes, gap_ticks, writes, ticks = map(int, self.process.stdout.readline().split())
        return gap_writes / 1000, gap_ticks / 1000, writes, ticks

    def end(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(60)
