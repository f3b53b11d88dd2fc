"""The static programs (docs/decisions/0012) load nothing of the machine that they run on. tests/vm/test_static.py has a guest without libraries."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

import moult
import trees

BUILD = pathlib.Path(os.environ.get("MOULT_BUILD", moult.TOP / "build/release"))
AGENT, TARGETFS = BUILD / "guest-agent/moult-agent-static", BUILD / "fuse-overlay/targetfs/moult-targetfs"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")


@pytest.mark.parametrize("program", [AGENT, TARGETFS], ids=lambda p: p.name)
def test_a_static_program_names_no_loader_and_no_library(program):
    shown = subprocess.run(["readelf", "--wide", "--program-headers", "--dynamic", str(program)], check=True, capture_output=True, text=True).stdout
    assert "DYNAMIC" in shown and "GNU_RELRO" in shown, "position-independent, like every program of Debian"
    assert "INTERP" not in shown and "NEEDED" not in shown and "TEXTREL" not in shown


@pytest.fixture
def jail(tmp_path):
    """A root that has the agent, and a configuration that asks for modules everywhere."""
    root = tmp_path / "root"
    for place in ("bin", "etc/ssl", "usr/lib/ssl", "srv/app", "var/lib", "tmp", "run", "proc", "sys", "dev", "trust"):
        (root / place).mkdir(parents=True)
    shutil.copy(AGENT, root / "bin/moult-agent")
    (root / "etc/nsswitch.conf").write_text("passwd: sss systemd\ngroup: sss\nhosts: mymachines resolve [!UNAVAIL=return] myhostname\n")
    (root / "etc/hosts").write_text("127.0.0.1 hypervisor.example\n")
    config = "openssl_conf=a\n[a]\nproviders=b\nengines=e\n[b]\nfips=c\n[c]\nmodule=/usr/lib/fips.so\nactivate=1\n[e]\npkcs11=p\n[p]\ninit=1\n"
    for place in ("usr/lib/ssl", "etc/ssl"):
        (root / place / "openssl.cnf").write_text(config)
    return root


def traced(jail, words, until=None):
    """(exit status, the files that were asked for, what was printed) of the agent in the jail, which is ended when `until` is set."""
    trace = jail.parent / "trace"
    # A chroot that is a mount, with a /proc, as long as the program runs.
    command = ["unshare", "--mount", "--", "sh", "-c", 'mount --bind "$1" "$1" && mount --bind /proc "$1/proc" && shift && exec "$@"', "sh", str(jail),
               "strace", "-f", "-qq", "-o", str(trace), "-e", "trace=open,openat,execve",
               "/usr/sbin/chroot", str(jail), "/bin/moult-agent", *words]
    with open(jail.parent / "out", "w+b") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={"PATH": "/bin", "LANG": "de_DE.ISO-8859-1"})
        if until is not None:
            assert until.wait(60), (jail.parent / "out").read_text(errors="replace")
            [agent] = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(agent), signal.SIGTERM)
        code = process.wait(60)
        out.seek(0)
        text = trace.read_text()
        # What chroot(1) opens before it starts the agent is not the agent's.
        text = text[text.index('execve("/bin/moult-agent"'):]
        return code, re.findall(r'openat?\((?:\w+, )?"([^"]*)"', text), out.read().decode(errors="replace")


def assert_no_module(asked):
    assert not [path for path in asked if re.search(r"\.so(\.|$)|/gio/|/engines|/ossl-modules", path)], asked


def test_a_release_is_applied_where_there_is_no_library(jail, tmp_path):
    host = moult.Host(tmp_path / "host")
    host.dir.mkdir(exist_ok=True)
    (jail / "trust/test.pub").write_bytes(host.new_key())
    old, new = tmp_path / "old", tmp_path / "new"
    trees.write(old, "srv/app/version", "1\n")
    trees.write(new, "srv/app/version", "2\n", 0o755)
    trees.write(jail, "srv/app/version", "1\n")
    shutil.copy(host.build(new, old), jail / "tmp/app.moult")
    code, asked, said = traced(jail, ["apply", "--trust=/trust", "/tmp/app.moult"])
    assert code == 0, said
    assert (jail / "srv/app/version").read_text() == "2\n"
    assert "/tmp/app.moult" in asked, "the trace sees what is opened"
    assert_no_module(asked)


def test_a_host_is_found_by_name_without_a_name_service(jail):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        called = threading.Event()

        def accept():
            listener.accept()[0].close()
            called.set()

        threading.Thread(target=accept, daemon=True).start()
        token = "moult1:" + "a" * 64 + ":abcdefghijklmnopqrstuvwx"
        code, asked, said = traced(jail, ["run", "--channel=none", f"--host=hypervisor.example:{listener.getsockname()[1]}", f"--token={token}",
                                          "--socket=/run/agent.sock", "--trust=/trust"], until=called)
    assert code == 0, said
    assert "/etc/hosts" in asked
    assert_no_module(asked)
