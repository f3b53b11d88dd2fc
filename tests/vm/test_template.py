"""`moult template prepare`: an image without an agent becomes one whose VMs say hello to moultd and take a push; one that stays as it was. What would be
put where, for each kind of init, is tested without images (tests/unit/test_template_fitting.c)."""

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
# What the tiny image has of the agent, and its inittab without it: its test program stays.
BY_HAND = ("/usr/sbin/moult-agent", "/usr/bin/moult-agent", "/usr/sbin/moult-targetfs", "/etc/init.d/moult-recover", "/etc/init.d/moult-boot-ok", "/etc/inittab")


@pytest.fixture(scope="module", autouse=True)
def appliance_kernel():
    """libguestfs takes the host's kernel, where the host has none, ours; and /dev/kvm, which may be there and hang."""
    if not vms.have_kvm():
        os.environ["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"
    if not any(pathlib.Path("/boot").glob("vmlinuz-*")):
        kernel = (vms.image_dir("tiny") / "vmlinuz").resolve().parent
        os.environ["SUPERMIN_KERNEL"] = str(kernel / "vmlinuz")
        os.environ["SUPERMIN_MODULES"] = str(next((kernel / "modules").iterdir()))


@pytest.fixture(scope="module")
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


@pytest.fixture
def image(tmp_path):
    """The tiny image without an agent, as a qcow2 file that stands alone."""
    raw, result = tmp_path / "raw", tmp_path / "golden.qcow2"
    subprocess.run(["cp", "--sparse=always", str(vms.image_dir("tiny") / "disk.img"), str(raw)], check=True)
    raw.chmod(0o600)
    inittab = tmp_path / "inittab"
    lines = (moult.TOP / "vm-images/tiny/inittab").read_text().splitlines()
    inittab.write_text("".join(f"{line}\n" for line in lines if "run-agent" not in line and "boot-ok" not in line))
    script = tmp_path / "script"
    script.write_text("".join(f"rm {path}\n" for path in BY_HAND) + f"write {inittab} /etc/inittab\n")
    subprocess.run(["debugfs", "-w", "-f", str(script), str(raw)], check=True, capture_output=True)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(result)], check=True)
    raw.unlink()
    return result


def test_a_prepared_image_boots_says_hello_and_takes_a_push(host, guests, archive, image, tmp_path):
    words = ("template", "prepare", image, "--agent", archive, "--key", host.dir / "test.pub")
    done = host.json(*words)
    assert done["changed"] and done["init"] == "inittab" and done["agent"].startswith("moult-agent ")
    assert {i["state"] for i in done["items"]} == {"new", "changed", "same"}
    assert not list(tmp_path.glob(".golden*"))
    guest = vms.Vm("tiny", base_disk=(image, "qcow2"))
    guests.machines.append(guest)
    guest.start()
    guest.wait_for("moult-agent status")
    host.add("web-1", guest)
    tree = tmp_path / "tree"
    (tree / "srv").mkdir(parents=True)
    (tree / "srv/version").write_text("2\n")
    host.moult("push", host.release(tree), "web-1")
    assert guest.exec("cat /srv/version").text == "2"
    # Its starts are counted, and this one was good.
    guest.reboot()
    guest.wait_for("grep -q '^good ' /var/lib/moult/generations/1/boots")
    # A VM stands on it now.
    code, _, err = host.run(*words)
    assert code == 8 and "golden.qcow2" in err, err


def test_an_image_in_which_the_agent_does_not_run_is_as_before(host, archive, image, tmp_path):
    code, _, err = host.run("template", "prepare", tmp_path / "nowhere.qcow2", "--agent", archive)
    assert code == 3 and "nowhere.qcow2" in err, err
    # Cut off: as bad as one for another machine, or without its libraries.
    before = image.read_bytes()
    bad = tmp_path / "moult-agent-static_bad.tar"
    with tarfile.open(archive) as old, tarfile.open(bad, "w") as new:
        for member in old.getmembers():
            data = old.extractfile(member).read() if member.isreg() else b""
            if member.name.endswith("sbin/moult-agent"):
                data = data[:4096]
                member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    code, _, err = host.run("template", "prepare", image, "--agent", bad)
    assert code != 0 and "does not run in this image" in err, err
    assert image.read_bytes() == before and not list(tmp_path.glob(".golden*"))
