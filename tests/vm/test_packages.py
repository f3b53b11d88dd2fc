"""The Debian packages, made by build-aux/package.sh and installed by dpkg in a guest that had neither: an agent that is upgraded by the host
and across a new version of its package; a host service that works inside its sandbox; what is left after a purge."""

import os
import pathlib
import subprocess

import pytest

import moult
import saved
import vm as vms

# What the debian image has by hand, and would be the package's.
BY_HAND = ("/usr/sbin/moult-agent", "/usr/bin/moult-agent", "/usr/sbin/moult-targetfs", "/etc/moult", "/lib/systemd/system/moult-*",
           "/etc/systemd/system/*.wants/moult-agent.service", "/etc/systemd/system/*.wants/moult-recover.service", "/run/moult", "/var/lib/moult")
OURS = (r"find /etc /usr /var /run/moult* -xdev \( -name '*moult*' -o -path '*/moult/*' \) -not -path '*moult-exec-server*' "
        "-not -path '*/moult-test*' 2>/dev/null; true")


def make(directory):
    """{package: file}"""
    done = subprocess.run([str(moult.TOP / "build-aux/package.sh"), str(directory)], check=False, capture_output=True, text=True,
                          env=os.environ | {"DEB_BUILD_OPTIONS": "noautodbgsym", "XZ_OPT": "-0"})  # for speed alone
    assert done.returncode == 0, done.stderr
    return {pathlib.Path(f).name.split("_")[0]: pathlib.Path(f) for f in done.stdout.split()}


def newer(package, version):
    """The same package as a later version."""
    tree, result = package.with_suffix(""), package.with_name(package.name.replace("_0.1.0_", f"_{version}_"))
    subprocess.run(["dpkg-deb", "-R", str(package), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("Version: 0.1.0", f"Version: {version}"))
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", "-Znone", str(tree), str(result)], check=True, capture_output=True)
    return result


def needed(guest, package, directory, *others):
    """Packages that Debian has to bring for it, beside what the guest has."""
    directory.mkdir()
    (directory / "status").write_bytes(guest.read_file("/var/lib/dpkg/status"))
    (directory / "partial").mkdir()
    subprocess.run(["apt-get", "-q", "-y", "--no-install-recommends", "--download-only", "-o", f"Dir::State::status={directory}/status", "-o",
                    f"Dir::Cache::archives={directory}", "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1", "install", str(package), *others],
                   check=True, capture_output=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    return sorted(directory.glob("*.deb"))


def install(guest, *files):
    for file in files:
        guest.write_file(f"/root/debs/{file.name}", file.read_bytes())
    guest.exec("cd /root/debs && DEBIAN_FRONTEND=noninteractive dpkg -i " + " ".join(f"'{f.name}'" for f in files) + " >&2", timeout=300)


# moultd's own unit, for another program.
IN_MOULTDS_SANDBOX = r"""sed -e 's|^ExecStart=.*|ExecStart=/bin/sh -c "exec 3<>/var/lib/moult-host/new; exec qemu-img create -q -u -f qcow2 -b $1 -F raw /dev/fd/3 64M"|' \
 -e 's/^Restart=.*/Type=oneshot/' /lib/systemd/system/moultd.service >/run/systemd/system/try.service && systemctl daemon-reload && systemctl start try
"""


def change_a_disks_files(guest):
    """What a snapshot does to files: moultd's user asks, moult-disks does it, in the sandboxes that they have; qemu-img works in moultd's."""
    subprocess.run(["ninja", "-C", str(moult.TOP / "build/release"), "disk_talk"], check=True, capture_output=True)
    guest.write_file("/usr/local/bin/disk_talk", (moult.TOP / "build/release/tests/disk_talk").read_bytes())
    guest.exec("chmod 755 /usr/local/bin/disk_talk; for d in /var/lib/libvirt/images /srv/vms /opt/vms; do mkdir -p $d; chmod 711 $d; truncate -s 64M $d/d; "
               "chown 12345:12346 $d/d; chmod 640 $d/d; done; printf '[moult-disks]\ndirectories=/var/lib/libvirt/images;/srv/vms\n' >/etc/moult/disks.conf")
    assert guest.exec("stat -c %U:%a /run/moult-disks.sock; systemctl is-enabled moult-disks.socket; systemctl is-active moult-disks.socket").text.split() == [
        "moult:600", "enabled", "active"]
    top, new = (f"d.moult-01HF7YBKBWB2NZVZDMR1TRA8X{c}-0.layer" for c in "AB")

    def ask(directory, *operations, user="moult"):
        return guest.exec(f"cd /; runuser -u {user} -- disk_talk /run/moult-disks.sock {directory} d {top} {new} 67108864 {' '.join(operations)}", check=False).text

    for directory in ("/var/lib/libvirt/images", "/srv/vms"):
        if directory == "/srv/vms":
            assert "ReadWritePaths=/srv/vms" in ask(directory, "name-top")
            guest.exec("mkdir -p /etc/systemd/system/moult-disks@.service.d; printf '[Service]\nReadWritePaths=/srv/vms\n' >/etc/systemd/system/moult-disks@.service.d/vms.conf"
                       "; systemctl daemon-reload")
        guest.exec("rm -f /var/lib/moult-host/new; set -- '" + f"{directory}/{top}'; " + IN_MOULTDS_SANDBOX.replace("$1", "'\"$1\"'"))
        said = ask(directory, "name-top", "make-next=/var/lib/moult-host/new", "place-next", "look")
        assert said.splitlines() == ["ok", "ok", "ok", "path 1 top 1 next 1"], said + guest.exec("journalctl -u 'moult-disks@*' | tail -20").text
        assert guest.exec(f"stat -c %u:%g:%a:%h {directory}/d {directory}/{top}").text.split() == ["12345:12346:640:2", "12345:12346:640:1"]
        assert ask(directory, "place-top", "remove-next", "unname-top").splitlines() == ["ok"] * 3
        assert guest.exec(f"ls {directory}").text.split() == ["d"]
    assert "/etc/moult/disks.conf" in ask("/opt/vms", "name-top")
    assert "Permission denied" in ask("/srv/vms", "look", user="nobody")
    assert "moult-disks" in guest.exec("journalctl MOULT_EVENT=disk-changed -o json --output-fields=_UID,_COMM | tail -1").text
    guest.exec("rm -r /etc/systemd/system/moult-disks@.service.d /usr/local/bin/disk_talk /run/systemd/system/try.service /var/lib/moult-host/new; systemctl daemon-reload")


@pytest.fixture
def guest(host):
    machine = vms.Vm("debian")
    try:
        saved.start(machine)
        machine.exec("systemctl is-system-running --wait", check=False, timeout=300)
        machine.exec(f"systemctl stop moult-agent; rm -rf {' '.join(BY_HAND)}; systemctl daemon-reload")
        assert machine.exec(OURS).text == ""
        yield machine
    finally:
        machine.stop()


def test_the_packages_install_work_upgrade_and_go(host, guest, tmp_path):
    first = make(tmp_path / "debs")
    second = {name: newer(first[name], "0.1.0+next1") for name in ("moult", "moult-agent")}

    # The agent: there and ready with nothing but its package and the host's key.
    install(guest, first["moult-agent"])
    guest.wait_for("moult-agent status")
    guest.write_file("/etc/moult/trusted.d/test.pub", host.public)
    assert guest.exec("systemctl is-enabled moult-agent moult-recover; systemctl is-active moult-agent").text.split() == ["enabled", "enabled", "active"]
    assert guest.exec("stat -c %a%U /dev/virtio-ports/org.moult.agent.0 -L").text == "600root"
    guest.wait_for(r"systemctl is-active 'dev-virtio\x2dports-org.moult.agent.0.device'")
    old, new = tmp_path / "old", tmp_path / "new"
    for tree, text in ((old, "1\n"), (new, "2\n")):
        (tree / "usr/share/app").mkdir(parents=True)
        (tree / "usr/share/app/version").write_text(text)
    guest.copy_tree(old, "/")
    hook = tmp_path / "health"
    hook.write_text("#!/bin/sh\n[ \"$(cat /usr/share/app/version)\" = 2 ] && kill -0 1 && mkdir /run/hook-was-here\n")
    host.add("web-1", guest)
    host.release(new, old, options=("--hook", f"health={hook}"))
    host.moult("push", "app=2", "web-1")
    assert guest.exec("cat /usr/share/app/version; ls -d /run/hook-was-here").text.split() == ["2", "/run/hook-was-here"]

    # The host service, in its sandbox, in the same machine: it takes a release and pushes it to the agent over the network.
    install(guest, *needed(guest, first["moult"], tmp_path / "needed", "qemu-utils"), first["moult"])
    guest.exec("printf '[moultd]\\ntls-listen=127.0.0.1:7443\\n' >/etc/moult/moultd.conf; systemctl restart moultd")
    guest.wait_for("moult status")
    # What the manual pages name is there.
    guest.exec("test -s /usr/share/moult/per-vm.list && test -s /usr/lib/moult/moult-agent-static")
    assert guest.exec("stat -c %U:%G:%a /run/moult-host/moultd.sock; ps -o user= -C moultd").text.split() == ["moult:moult:660", "moult"]
    assert "0000000000000000" in guest.exec("grep CapEff /proc/$(pidof moultd)/status").text
    guest.exec("mkdir -p /srv/r/usr/share/app && echo 3 >/srv/r/usr/share/app/version && cd /srv && moult key new --out k && cp k.pub /etc/moult/trusted.d/"
               " && moult release build r --name app --version 3 --sign k.key -o r.moult && moult release import r.moult")
    token = guest.exec("moult vm add self --network --token | grep -o 'moult1:[^ ]*'").text
    guest.exec(f"printf '[agent]\\nchannel=none\\n[network]\\nhost=127.0.0.1:7443\\ntoken={token}\\n' >/etc/moult/moult-agent.conf; systemctl restart moult-agent")
    guest.exec("moult push app=3 self", timeout=300)
    assert guest.exec("cat /usr/share/app/version").text == "3"

    change_a_disks_files(guest)

    # A new version of both keeps what there is: history, settings, keys, releases.
    history = guest.exec("moult-agent history").text
    assert "app 2" in history and "app 3" in history
    install(guest, second["moult-agent"], second["moult"])
    guest.wait_for("moult-agent status && moult status")
    assert guest.exec("dpkg-query -W -f '${Version} ' moult moult-agent").text.split() == ["0.1.0+next1"] * 2
    assert guest.exec("moult-agent history").text == history
    assert "7443" in guest.exec("cat /etc/moult/moultd.conf").text and "app" in guest.exec("moult release list").text
    guest.exec("moult rollback self", timeout=300)
    assert guest.exec("cat /usr/share/app/version").text == "2"

    # It goes without a trace, but for what is the operator's: state and keys.
    said = guest.exec("DEBIAN_FRONTEND=noninteractive dpkg --purge moult moult-agent 2>&1", timeout=300).text
    assert "/var/lib/moult is left" in said and "/var/lib/moult-host is left" in said
    guest.exec("rm -r /etc/moult/trusted.d /var/lib/moult /var/lib/moult-host /root/debs; rmdir /etc/moult")
    assert guest.exec(OURS).text == ""
    assert guest.exec("systemctl list-units --all --plain --no-legend 'moult*' | grep -v exec-server; true").text == ""
