"""Fixtures for tests of disk images: the machine that opens them, a golden image without an agent, the agent's archive."""

import io
import os
import pathlib
import subprocess
import tarfile

import pytest

import moult
import vm as vms

AGENT_BUILD = pathlib.Path(os.environ.get("MOULT_BUILD", moult.TOP / "build/faults"))
PARTS = moult.TOP / "guest-agent"
# What an image of ours has of the agent; the tiny one's inittab starts it as well.
BY_HAND = ("/usr/sbin/moult-agent", "/usr/bin/moult-agent", "/usr/sbin/moult-targetfs", "/etc/init.d/moult-recover", "/etc/init.d/moult-boot-ok",
           *(f"/usr/lib/systemd/system/{unit.name}" for unit in sorted(PARTS.glob("*.service"))),
           "/etc/systemd/system/multi-user.target.wants/moult-agent.service", "/etc/systemd/system/sysinit.target.wants/moult-recover.service")


@pytest.fixture(scope="module")
def appliance():
    """The kernel of the guests; one appliance for all runs; no KVM where the tests' machines have none."""
    kernel = vms.image_dir("tiny")
    version = (kernel / "kernel-version").read_text(encoding="ascii").strip()
    modules = pathlib.Path("/lib/modules")
    modules.mkdir(exist_ok=True)        # supermin looks into it, even if it is empty
    new = {"SUPERMIN_KERNEL": (kernel / "vmlinuz").resolve(), "SUPERMIN_MODULES": (kernel / "vmlinuz").resolve().parent / "modules" / version,
           "LIBGUESTFS_CACHEDIR": vms.TOP / "build/images/appliance",
           "MOULT_AGENT_STATIC": AGENT_BUILD / "guest-agent/moult-agent-static"}
    if not vms.have_kvm():
        new["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"
    new["LIBGUESTFS_CACHEDIR"].mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in new.items():
            patch.setenv(name, str(value))
        yield


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """As build-aux/package.sh makes it."""
    file = tmp_path_factory.mktemp("agent") / "moult-agent-static_0.1.0_amd64.tar.gz"
    stripped = file.with_name("stripped")
    with tarfile.open(file, "w:gz") as tar:
        def add(name, data, mode=0o644):
            info = tarfile.TarInfo(f"./{name}")
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
        for name, build in (("moult-agent", "guest-agent/moult-agent-static"), ("moult-targetfs", "fuse-overlay/targetfs/moult-targetfs")):
            subprocess.run(["strip", "-o", str(stripped), str(AGENT_BUILD / build)], check=True)
            add(f"usr/sbin/{name}", stripped.read_bytes(), 0o755)
        link = tarfile.TarInfo("./usr/bin/moult-agent")
        link.type, link.linkname = tarfile.SYMTYPE, "../sbin/moult-agent"
        tar.addfile(link)
        add("etc/moult/moult-agent.conf", (PARTS / "moult-agent.conf").read_bytes())
        add("lib/udev/rules.d/60-moult-agent.rules", (PARTS / "60-moult-agent.rules").read_bytes())
        for unit in PARTS.glob("*.service"):
            add(f"lib/systemd/system/{unit.name}", unit.read_bytes())
        for script in PARTS.glob("*.init"):
            add(f"usr/share/doc/moult-agent/{script.name}", script.read_bytes())
    return file


def without_agent(name, directory, commands=()):
    """One of our images as a qcow2 file that stands alone, and has nothing of moult in it. Nobody mounts anything for that."""
    raw, result = directory / "raw", directory / "golden.qcow2"
    subprocess.run(["cp", "--sparse=always", str(vms.image_dir(name) / "disk.img"), str(raw)], check=True)
    raw.chmod(0o600)
    script = directory / "script"
    script.write_text("".join(f"rm {path}\n" for path in BY_HAND) + "".join(f"{command}\n" for command in commands))
    subprocess.run(["debugfs", "-w", "-f", str(script), str(raw)], check=True, capture_output=True)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(result)], check=True)
    raw.unlink()
    return result


@pytest.fixture
def image(tmp_path):
    inittab = tmp_path / "inittab"
    lines = (moult.TOP / "vm-images/tiny/inittab").read_text().splitlines()
    inittab.write_text("".join(f"{line}\n" for line in lines if "run-agent" not in line and "boot-ok" not in line))
    return without_agent("tiny", tmp_path, ["rm /etc/inittab", f"write {inittab} /etc/inittab"])
