#!/usr/bin/python3
"""Virtual machines for tests, benchmarks and the demo: start, watch, run commands inside, stop.

Every VM is a qcow2 overlay on a read-only image of vm-images/, with the devices that moult expects of a template:
spare PCIe root ports that reserve room for a pack, two that are meant for virtio-pmem, hot-pluggable memory, the virtio port org.moult.agent.0 on a Unix
socket, and one QMP socket for moultd. A second QMP socket and a second virtio port (org.moult.test.0, see
vm-images/exec-server) are the tests' own, so that nothing which a test sees comes through moult itself.

Only the standard library is used. As a program:

    vm.py start DIR [--image NAME|FOLDER] [--network] [--ssh PORT] [--memory MB]
    vm.py exec DIR COMMAND...    vm.py put DIR FILE PATH    vm.py wait DIR    vm.py console DIR    vm.py stop DIR
"""

import argparse
import base64
import ctypes
import dataclasses
import functools
import json
import os
import pathlib
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
import tty

TOP = pathlib.Path(__file__).resolve().parents[2]

# An answer may take this long before a test is called failed. TCG on a busy machine with two CPUs is slow; nothing
# is measured against these times.
DEFAULT_TIMEOUT_S = 60
BOOT_TIMEOUT_S = 300


class VmError(Exception):
    """What went wrong with the machine, as opposed to what the test is about."""


def have_kvm():
    """KVM only where the CPU can do it: elsewhere /dev/kvm may exist and yet hang with stock kernels."""
    flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    return bool(re.search(r"\b(vmx|svm)\b", flags)) and os.access("/dev/kvm", os.R_OK | os.W_OK)


@functools.cache  # to learn that nothing has changed takes a recipe seconds, of a Debian twenty
def image_dir(name):
    """Folder of an image: a recipe's name (built when needed, cached by its inputs) or a path."""
    if os.sep in str(name):
        return pathlib.Path(name)
    built = subprocess.run([str(TOP / "vm-images" / name / "build.sh")], check=False, stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        raise VmError(f"vm-images/{name}/build.sh ended with {built.returncode}; its messages are above")
    return pathlib.Path(built.stdout.strip().splitlines()[-1])


class Deadline:
    """Time left of a time-out, for a row of waits."""

    def __init__(self, seconds, what):
        self.end, self.seconds, self.what = time.monotonic() + seconds, seconds, what

    def left(self):
        left = self.end - time.monotonic()
        if left <= 0:
            raise VmError(f"{self.what}: not within {self.seconds} s")
        return left


class Qmp:
    """One QMP connection. Thread-safe; events are kept until somebody waits for them."""

    def __init__(self, path):
        self.path, self.next_id, self.events, self.replies = path, 0, [], {}
        self.changed, self.closed = threading.Condition(), False
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEFAULT_TIMEOUT_S)
        self.sock.connect(str(path))
        self.sock.settimeout(None)
        self.stream = self.sock.makefile("rb")
        json.loads(self.stream.readline())
        threading.Thread(target=self._read, daemon=True).start()
        self.command("qmp_capabilities")

    def _read(self):
        try:
            for line in self.stream:
                message = json.loads(line)
                with self.changed:
                    if "event" in message:
                        self.events.append(message)
                    else:
                        self.replies[message.get("id")] = message
                    self.changed.notify_all()
        except (OSError, ValueError):
            pass
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def command(self, name, timeout=DEFAULT_TIMEOUT_S, **arguments):
        """Runs a command (keys with _ for -) and returns what it returned."""
        arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
        with self.changed:
            self.next_id += 1
            number = self.next_id
            self.sock.sendall(json.dumps({"execute": name, "arguments": arguments, "id": number}).encode() + b"\n")
            deadline = Deadline(timeout, f"QMP {name}")
            while number not in self.replies:
                if self.closed:
                    raise VmError(f"QEMU closed {self.path} during {name}")
                self.changed.wait(deadline.left())
            reply = self.replies.pop(number)
        if "error" in reply:
            raise VmError(f"QMP {name}: {reply['error']['desc']}")
        return reply["return"]

    def wait_event(self, name, timeout=DEFAULT_TIMEOUT_S, match=lambda data: True):
        """Takes the first event of that name that fits, also one that came before the call."""
        deadline = Deadline(timeout, f"QMP event {name}")
        with self.changed:
            while True:
                for event in self.events:
                    if event["event"] == name and match(event.get("data", {})):
                        self.events.remove(event)
                        return event
                if self.closed:
                    raise VmError(f"QEMU closed {self.path} while waiting for {name}")
                self.changed.wait(deadline.left())

    def forget_events(self, name):
        with self.changed:
            self.events = [event for event in self.events if event["event"] != name]

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


@dataclasses.dataclass
class Result:
    """What a command in the guest did."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self):
        return self.out.decode(errors="replace").strip()


class GuestError(VmError):
    """A command in the guest failed that had to work."""


class Exec:
    """The tests' channel into a guest: vm-images/exec-server at the other end."""

    def __init__(self, path):
        self.path, self.sock, self.lock = path, None, threading.Lock()

    def close(self):
        if self.sock:
            self.sock.close()
        self.sock = None

    def run(self, command, timeout=DEFAULT_TIMEOUT_S, stdin=b""):
        with self.lock:
            try:
                return self._run(command, timeout, stdin)
            except BaseException:
                # The next command must not read this one's late answer.
                self.close()
                raise

    def _run(self, command, timeout, stdin):
        # The guest's own limit comes first, so that its answer says that it was the command that hung.
        deadline = Deadline(timeout + 30, f"guest command {command!r}")
        if not self.sock:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(str(self.path))
        name = secrets.token_hex(8)
        encoded = base64.b64encode(command.encode()).decode()
        self.sock.settimeout(deadline.left())
        self.sock.sendall(f"{name} {int(timeout)} {len(stdin)} {encoded}\n".encode() + stdin)
        mark, data = f"\n@{name} ".encode(), b""
        while True:
            at = data.find(mark)
            if at >= 0 and (end := data.find(b"\n", at + len(mark))) >= 0:
                code, n_out, n_err = (int(n) for n in data[at + len(mark):end].split())
                data = data[end + 1:]
                break
            data += self._receive(deadline)
        parts = [data]
        size = len(data)
        while size < n_out + n_err:
            parts.append(self._receive(deadline))
            size += len(parts[-1])
        data = b"".join(parts)
        return Result(code, data[:n_out], data[n_out:n_out + n_err])

    def _receive(self, deadline):
        self.sock.settimeout(deadline.left())
        try:
            data = self.sock.recv(1 << 20)
        except socket.timeout:
            deadline.left()
            raise
        if not data:
            raise VmError("QEMU closed the test channel: the VM is gone")
        return data


# Emulated processors have been seen to lose the interrupt of a timer that fires once, on a machine that had stood still for a moment:
# nothing on that processor that waited for a time went on. A tick that comes by itself makes up for one that was lost.
TICKS = "nohz=off highres=off"


def _die_with_parent():
    """In the child: no VM outlives a test run that was killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Vm:
    """One virtual machine. Use as a context manager, or start() and stop()."""

    def __init__(self, image="tiny", directory=None, memory_mb=1024, cpus=2, network=False, forwards=None,
                 root_ports=4, port_reserve="4G", pmem_ports=2, maxmem="8G", disks=(), cpu_model=None, qemu_args=(), kernel_args="",
                 base_disk=None, detached=False):
        """forwards: {host TCP port: guest TCP port}. disks: paths of further raw disk images (vdb, vdc, ...).
        pmem_ports: root ports for virtio-pmem; maxmem: None takes no memory devices at all.
        base_disk: (path, format) instead of the image's own. detached: goes on when this process ends."""
        self.image = image_dir(image)
        self.own_directory = directory is None
        self.dir = pathlib.Path(directory or tempfile.mkdtemp(prefix="moult-vm-"))
        self.dir.mkdir(parents=True, exist_ok=True)
        self.memory_mb, self.cpus, self.network = memory_mb, cpus, network
        self.forwards, self.disks = forwards or {}, list(disks)
        self.root_ports, self.port_reserve = root_ports, port_reserve
        self.pmem_ports, self.maxmem = pmem_ports, maxmem
        self.cpu_model, self.qemu_args, self.kernel_args = cpu_model, list(qemu_args), kernel_args
        self.base_disk = base_disk or (self.image / "disk.img", "raw")
        self.detached = detached
        self.process = self.qmp = None
        self.agent_socket = self.dir / "agent.sock"
        self.qmp_socket = self.dir / "qmp.sock"
        self.console_log = self.dir / "console.log"
        self.exec_channel = Exec(self.dir / "test.sock")

    # -- life

    def like(self):
        """Another machine of the same kind, on the image's own disk."""
        return Vm(str(self.image), memory_mb=self.memory_mb, cpus=self.cpus, network=self.network, root_ports=self.root_ports,
                  port_reserve=self.port_reserve, pmem_ports=self.pmem_ports, maxmem=self.maxmem, cpu_model=self.cpu_model,
                  kernel_args=self.kernel_args)

    def command_line(self, incoming=False):
        """incoming: it waits for the memory of a machine like this one."""
        kvm = have_kvm()
        args = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
                "-machine", "q35", "-accel", "kvm" if kvm else "tcg,thread=multi",
                "-cpu", self.cpu_model or ("host" if kvm else "qemu64"),
                "-smp", str(self.cpus), "-m", f"{self.memory_mb},slots=4,maxmem={self.maxmem}" if self.maxmem else str(self.memory_mb),
                "-kernel", str(self.image / "vmlinuz"), "-initrd", str(self.image / "initrd.img"),
                "-append", f"console=ttyS0 panic=-1 quiet {'' if kvm else TICKS} {self.kernel_args}",
                "-chardev", f"socket,id=console,path={self.dir}/console.sock,server=on,wait=off,logfile={self.console_log}",
                "-serial", "chardev:console",
                "-drive", f"if=none,id=root,file={self.dir}/disk.qcow2,format=qcow2,cache=writeback,discard=unmap",
                "-device", "virtio-blk-pci,drive=root",
                "-device", "virtio-rng-pci",
                "-device", "vmgenid,guid=auto",
                "-device", "virtio-serial-pci,max_ports=8",
                "-chardev", f"socket,id=agent,path={self.agent_socket},server=on,wait=off",
                "-device", "virtserialport,chardev=agent,name=org.moult.agent.0",
                "-chardev", f"socket,id=test,path={self.exec_channel.path},server=on,wait=off",
                "-device", "virtserialport,chardev=test,name=org.moult.test.0",
                "-qmp", f"unix:{self.qmp_socket},server=on,wait=off",
                "-qmp", f"unix:{self.dir}/qmp-test.sock,server=on,wait=off"]
        # What a template needs for hot-plugged packs: empty root ports that reserve a window above 4 GiB.
        for n in range(self.root_ports):
            args += ["-device", f"pcie-root-port,id=moult-rp{n},chassis={n + 1},slot={n + 1},"
                                f"pref64-reserve={self.port_reserve}"]
        # A virtio-pmem device has its memory elsewhere (maxmem), and stays until the machine is powered off.
        for n in range(self.root_ports, self.root_ports + self.pmem_ports):
            args += ["-device", f"pcie-root-port,id=moult-pmem{n - self.root_ports},chassis={n + 1},slot={n + 1}"]
        for n, disk in enumerate(self.disks):
            args += ["-drive", f"if=none,id=disk{n},file={disk},format=raw",
                     "-device", f"virtio-blk-pci,drive=disk{n}"]
        for serial, path in self.image_disks():
            args += ["-drive", f"if=none,id=image-{serial},file={path},format=raw,readonly=on",
                     "-device", f"virtio-blk-pci,drive=image-{serial},serial={serial}"]
        if self.network:
            rules = "".join(f",hostfwd=tcp:127.0.0.1:{host}-:{guest}" for host, guest in self.forwards.items())
            args += ["-netdev", f"user,id=net{rules}", "-device", "virtio-net-pci,netdev=net,romfile="]
        return args + (["-incoming", "defer"] if incoming else []) + self.qemu_args

    def image_disks(self):
        """(serial number, path) of the image's read-only disks. The guest finds them by the number, not the order."""
        disks = self.image / "disks"
        lines = disks.read_text(encoding="ascii").splitlines() if disks.exists() else []
        return [(serial, self.image / name) for serial, name in (line.split() for line in lines)]

    def start(self, wait=True, incoming=False):
        if not (self.dir / "disk.qcow2").exists():
            path, kind = self.base_disk
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(pathlib.Path(path).resolve()),
                            "-F", kind, str(self.dir / "disk.qcow2")], check=True)
        for stale in ("agent.sock", "qmp.sock", "qmp-test.sock", "test.sock", "console.sock"):
            (self.dir / stale).unlink(missing_ok=True)
        with open(self.dir / "qemu.log", "ab") as log:
            self.process = subprocess.Popen(self.command_line(incoming), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=self.detached,
                                            preexec_fn=None if self.detached else _die_with_parent)
        (self.dir / "pid").write_text(f"{self.process.pid}\n", encoding="ascii")
        self._attach()
        if wait:
            self.wait_ready()
        return self

    def _attach(self):
        """Connects to the QEMU that listens in the folder; its sockets appear a moment after it was started."""
        deadline = Deadline(DEFAULT_TIMEOUT_S, "QEMU's sockets")
        while True:
            try:
                self.qmp = Qmp(self.dir / "qmp-test.sock")
                return
            except OSError:
                if self.process and self.process.poll() is not None:
                    raise VmError(f"QEMU ended with {self.process.returncode}: {self.log_tail('qemu.log')}") from None
                deadline.left()
                time.sleep(0.02)  # nobody announces a listening socket

    def wait_ready(self, timeout=BOOT_TIMEOUT_S):
        """Until commands can be run inside."""
        try:
            self.exec("true", timeout=timeout)
        except VmError as error:
            raise VmError(f"{error}; end of the console:\n{self.log_tail('console.log')}") from None
        return self

    def log_tail(self, name, size=2000):
        try:
            return (self.dir / name).read_bytes()[-size:].decode(errors="replace")
        except OSError as error:
            return str(error)

    def kill(self):
        """What the guest sees as the end of the world; what it had written stays in the host's page cache."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
        self._detach()

    def _detach(self):
        self.exec_channel.close()
        if self.qmp:
            self.qmp.close()
        self.qmp = None

    def power_off(self, timeout=DEFAULT_TIMEOUT_S):
        """Orderly: the guest syncs and powers off."""
        self.exec_channel.close()
        self.exec("(sync; poweroff -f) >/dev/null 2>&1 &")
        self.process.wait(timeout)
        self._detach()

    def reboot(self, hard=False):
        """Into the same disk. Orderly by default: hard is the reset button."""
        self.qmp.forget_events("RESET")
        if hard:
            self.qmp.command("system_reset")
        else:
            self.exec("(sync; reboot) >/dev/null 2>&1 &")
        self.qmp.wait_event("RESET", BOOT_TIMEOUT_S)
        self.exec_channel.close()
        self.wait_ready()

    def stop(self, keep=False):
        self.kill()
        if self.own_directory and not keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exc):
        self.stop()

    # -- inside

    def exec(self, command, timeout=DEFAULT_TIMEOUT_S, stdin=b"", check=True):
        """Runs a shell command as root in the guest."""
        result = self.exec_channel.run(command, timeout, stdin)
        if check and result.code != 0:
            raise GuestError(f"in the guest, `{command}` ended with {result.code}:\n"
                             f"{result.out.decode(errors='replace')}{result.err.decode(errors='replace')}")
        return result

    def agent_pid(self):
        """The daemon's process, or None. Its name alone is not enough: `moult-agent boot-ok` and an operator's commands have it too;
        and its guards are forks of it, with higher numbers."""
        found = self.exec("for p in $(pidof moult-agent); do tr '\\0' ' ' </proc/$p/cmdline | grep -q '^/usr/sbin/moult-agent run' "
                          "&& echo $p; done | sort -n | head -n 1").text
        return int(found) if found else None

    def boot_id(self):
        return self.exec("cat /proc/sys/kernel/random/boot_id").text

    def read_file(self, path):
        return self.exec(f"cat '{path}'").out

    def write_file(self, path, data, mode=0o644):
        if isinstance(data, str):
            data = data.encode()
        self.exec(f"mkdir -p \"$(dirname '{path}')\" && cat >'{path}' && chmod {mode:o} '{path}'", stdin=data)

    def copy_tree(self, directory, target="/"):
        """Unpacks a folder of the host, metadata included, at target."""
        # By its full name: busybox's shell prefers its own tar, which knows no extended attributes.
        archive = subprocess.run(["tar", "-C", str(directory), "--numeric-owner", "--xattrs", "--xattrs-include=*",
                                  "-cf", "-", "."], check=True, stdout=subprocess.PIPE).stdout
        self.exec(f"mkdir -p '{target}' && /usr/bin/tar -C '{target}' --numeric-owner --xattrs --xattrs-include='*' -xpf -",
                  stdin=archive, timeout=300)

    def wait_for(self, command, timeout=DEFAULT_TIMEOUT_S, what=None):
        """Until a command in the guest succeeds, for states of the guest that nothing announces to us."""
        deadline = Deadline(timeout, what or f"`{command}` in the guest")
        while True:
            result = self.exec(command, check=False)
            if result.code == 0:
                return result
            deadline.left()
            time.sleep(0.05)  # TCG needs the CPU for what we wait for

    def tree(self, *paths, times=True):
        """{path: (type and mode, uid, gid, size, links, mtime, device, link target, sha256, xattrs)} of everything
        below the paths on their file systems, but for moult's own folders; by tools that know nothing of moult."""
        roots = " ".join(f"'{p}'" for p in paths)
        prune = r"\( -name .moult -o -path /var/lib/moult -o -name lost+found \) -prune -o"
        stat = "%f|%u|%g|%s|%h|%y|%t:%T|%n"
        listing = self.exec(f"find {roots} -xdev {prune} -exec stat -c '{stat}' {{}} +", timeout=600).out
        # A process for each link takes minutes in a Debian under TCG; busybox's find has no -printf.
        links = self.exec(f"if find / -maxdepth 0 -printf '' 2>/dev/null; then find {roots} -xdev {prune} -type l -printf '%p\\0%l\\0'; "
                          f"else find {roots} -xdev {prune} -type l -print | while IFS= read -r l; do "
                          "printf '%s\\0%s\\0' \"$l\" \"$(readlink \"$l\")\"; done; fi", timeout=600).out.split(b"\0")
        sums = self.exec(f"find {roots} -xdev {prune} -type f -exec sha256sum {{}} +", timeout=600).out
        xattrs = self.exec(f"getfattr -R -P -h -d -m - -e hex --absolute-names {roots} 2>/dev/null", timeout=600,
                           check=False).out
        targets = dict(zip(links[0::2], links[1::2]))
        digests = {line[66:]: line[:64] for line in sums.splitlines()}
        attributes = {}
        for block in xattrs.split(b"\n\n"):
            lines = block.strip(b"\n").split(b"\n")
            if lines[0].startswith(b"# file: "):
                attributes[lines[0][8:]] = tuple(sorted(lines[1:]))
        result = {}
        for line in listing.splitlines():
            mode, uid, gid, size, nlink, mtime, device, name = line.split(b"|", 7)
            if int(mode, 16) & 0o170000 == 0o040000:
                # A directory's size and link count are the file system's own affair, its time everyone's who renames in it.
                size, nlink, mtime = b"-", b"-", b"-"
            result[name.decode(errors="surrogateescape")] = (
                int(mode, 16), int(uid), int(gid), size.decode(), nlink.decode(), mtime.decode() if times else "",
                device.decode(), targets.get(name), digests.get(name, b"").decode(), attributes.get(name, ()))
        return result


def attach(directory):
    """A VM that another process has started detached."""
    vm = Vm.__new__(Vm)
    vm.dir, vm.process, vm.own_directory = pathlib.Path(directory), None, False
    vm.exec_channel = Exec(vm.dir / "test.sock")
    vm.agent_socket, vm.qmp_socket = vm.dir / "agent.sock", vm.dir / "qmp.sock"
    vm.console_log, vm.qmp = vm.dir / "console.log", None
    return vm


def running_pid(directory):
    """The QEMU of that folder, or None: the pid file alone may be stale and its number taken by another."""
    try:
        pid = int((pathlib.Path(directory) / "pid").read_text(encoding="ascii"))
        line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    fits = line[0].startswith(b"qemu-system") and any(os.fsencode(str(directory)) in word for word in line)
    return pid if fits else None


def stop_detached(directory):
    """Ends the QEMU of that folder, which closes its disks; returns when it is gone."""
    pid = running_pid(directory)
    if pid:
        handle = os.pidfd_open(pid)
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not select.select([handle], [], [], DEFAULT_TIMEOUT_S)[0]:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)


def console(path):
    """The serial console on this terminal; Ctrl-] leaves it."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(path))
        saved = termios.tcgetattr(0)
        print("Connected; Enter shows a prompt, Ctrl-] leaves.")
        try:
            tty.setraw(0)
            while True:
                ready = select.select([0, line], [], [])[0]
                if line in ready:
                    data = line.recv(65536)
                    if not data:
                        return
                    os.write(1, data)
                if 0 in ready:
                    data = os.read(0, 1024)
                    if not data or b"\x1d" in data:
                        return
                    line.sendall(data)
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
            print()


def main():
    parser = argparse.ArgumentParser(description="test machines of moult")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("start", "exec", "put", "wait", "stop", "console"):
        sub = commands.add_parser(name)
        sub.add_argument("dir")
        if name == "start":
            sub.add_argument("--image", default="tiny")
            sub.add_argument("--memory", type=int, default=1024)
            sub.add_argument("--network", action="store_true")
            sub.add_argument("--ssh", type=int, metavar="PORT", help="forward this port of 127.0.0.1 to the guest's 22")
            sub.add_argument("--no-wait", action="store_true")
        if name == "exec":
            sub.add_argument("--timeout", type=int, default=DEFAULT_TIMEOUT_S)
            sub.add_argument("words", nargs="+")
        if name == "put":
            sub.add_argument("file")
            sub.add_argument("path")
    args = parser.parse_args()
    directory = pathlib.Path(args.dir).resolve()
    try:
        if args.command == "start":
            if running_pid(directory):
                print(f"{directory}: already running", file=sys.stderr)
                return 0
            vm = Vm(args.image, directory, memory_mb=args.memory, network=args.network or bool(args.ssh),
                    forwards={args.ssh: 22} if args.ssh else {}, detached=True)
            vm.start(wait=not args.no_wait)
        elif args.command == "exec":
            result = attach(directory).exec(" ".join(args.words), timeout=args.timeout, check=False)
            sys.stdout.buffer.write(result.out)
            sys.stderr.buffer.write(result.err)
            return result.code
        elif args.command == "wait":
            attach(directory).wait_ready()
        elif args.command == "put":
            attach(directory).write_file(args.path, pathlib.Path(args.file).read_bytes())
        elif args.command == "console":
            console(directory / "console.sock")
        elif args.command == "stop":
            stop_detached(directory)
    except (VmError, OSError) as error:
        print(f"vm.py {args.command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
