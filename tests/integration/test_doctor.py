"""moult doctor on a real moultd: what is wrong is found, and goes when it is put right."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import moult  # noqa: E402
import test_moultd_api as api_tests  # noqa: E402
import vm as vms  # noqa: E402
from test_join import Agent, connected  # noqa: E402


@pytest.fixture
def api(tmp_path):
    api = api_tests.Api(tmp_path / "host")
    api.host.start()
    yield api
    api.host.stop()


def found(api, *words):
    """(exit code, {id: severity} of what is not well)"""
    return found_by(api.host, *words)


def found_by(host, *words):
    code, out, err = host.run("doctor", *words, "--json")
    assert not err
    return code, {c["id"]: c["severity"] for c in json.loads(out)["checks"] if c["severity"] != "ok"}


def test_the_host(api, tmp_path):
    os.chmod(api.host.state, 0o700)
    code, before = found(api)
    assert code == 1 and before["trust-keys"] == "warning" and before["state-reachable"] == "warning"
    api.host.new_key()
    api.import_pack(api_tests.make_pack(api, tmp_path))
    pack = next((api.host.state / "packs").glob("app*"))
    pack.rename(tmp_path / "away")
    api.post("/v1/vms", {"name": "far", "network": True, "token": True}, 201)
    api.post("/v1/tokens", {"name": "short", "scope": "read", "expires_s": 3600}, 201)
    code, now = found(api)
    assert code == 1 and "trust-keys" not in now
    assert now["packs-there"] == "error" and now["agents-door"] == "error" and now["tokens-ending"] == "notice"
    assert now["agents-away"] == "warning"
    (tmp_path / "away").rename(pack)
    assert "packs-there" not in found(api)[1]
    audit = api.host.state / "audit.log"
    audit.rename(tmp_path / "audit")
    audit.mkdir()
    assert found(api)[1]["audit-writable"] == "error"
    audit.rmdir()
    assert "audit-writable" not in found(api)[1]


def test_a_vm_and_its_sockets(api, tmp_path):
    agent, qmp = tmp_path / "a", tmp_path / "q"
    api.post("/v1/vms", {"name": "web-1", "agent": str(agent), "qmp": str(qmp)}, 201)
    report = api.get("/v1/doctor?vm=web-1")
    checks = {c["id"]: c for c in report["checks"]}
    assert report["vm"] == "web-1" and report["worst"] == "error"
    assert "the VM is off" in checks["agent-session"]["found"] and "moult-agent" in checks["agent-session"]["action"]
    assert "the VM is off" in checks["qmp-answers"]["found"]
    assert checks["agent-seen"]["severity"] == "warning"
    assert checks["last-push"] == {"id": "last-push", "severity": "ok", "found": None, "action": None}
    agent.write_text("")
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(tmp_path)
        listening.bind("q")
        checks = {c["id"]: c for c in api.get("/v1/doctor?vm=web-1")["checks"]}
        assert "is no socket" in checks["agent-session"]["found"]
        assert "does not answer" in checks["qmp-answers"]["found"]
    code, out, _ = api.host.run("doctor", "web-1")
    assert code == 1 and re.search(r"^error    agent-session: .*\n         to do: ", out, re.MULTILINE)
    assert "last-push" not in out and "ok       last-push" in api.host.run("doctor", "web-1", "--all")[1]
    assert api.host.run("doctor", "nobody")[0] == 3


def test_a_qemu_that_was_never_asked_is_asked_first(api, tmp_path):
    qmp = pathlib.Path(api.host.socket).with_name("q")
    with subprocess.Popen(["qemu-system-x86_64", "-nodefaults", "-machine", "none", "-display", "none", "-qmp",
                           f"unix:{qmp},server=on,wait=off", "-qmp", "stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          preexec_fn=vms._die_with_parent) as qemu:
        try:
            assert b"QMP" in qemu.stdout.readline()  # the greeting comes when both are open
            api.post("/v1/vms", {"name": "web-1", "agent": str(tmp_path / "a"), "qmp": str(qmp)}, 201)
            checks = {c["id"]: c for c in api.get("/v1/doctor?vm=web-1")["checks"]}
            assert checks["qmp-answers"] == {"id": "qmp-answers", "severity": "ok", "found": None, "action": None}
        finally:
            qemu.kill()


def test_without_a_daemon_it_says_so(tmp_path):
    host = moult.Host(tmp_path / "host")
    code, _, err = host.run("doctor")
    assert code == 11 and "does not answer" in err


@pytest.fixture
def host(tmp_path):
    with moult.Host(tmp_path / "host", tls=True) as daemon:
        yield daemon


@pytest.fixture
def join(host, tmp_path):
    """Starts the agent of the VM net-1: join() or, as one that is older than the question, join(older=True)."""
    agents = []
    printed = host.moult("vm", "add", "net-1", "--network", "--token")
    token = re.search(r"moult1:[0-9a-f]{64}:\S+", printed).group(0)

    def start(older=False):
        agent = Agent(tmp_path, host, token)
        with pytest.MonkeyPatch.context() as patch:
            if older:
                patch.setenv("MOULT_FAULT", "agent-facts=skip")
            agents.append(agent.__enter__())
        agent.wait_for("agent-connected")
        assert connected(host)
        return agent

    yield start
    for agent in agents:
        agent.__exit__()


def guest_checks(host):
    return {c["id"]: c for c in host_report(host)["checks"] if c["id"].startswith("guest-")}


def host_report(host):
    _, out, err = host.run("doctor", "net-1", "--json")
    assert not err
    return json.loads(out)


def test_the_guest_tells_what_only_it_knows(host, tmp_path, join):
    join()
    report = host_report(host)
    guest, checks = report["guest"], guest_checks(host)
    assert guest["software"].startswith("moult-agent ") and guest["protocol"] == 1
    assert abs(guest["clock_offset_ms"]) < 5000 and checks["guest-clock"]["severity"] == "ok"  # one clock, this machine's
    assert guest["kernel"]["release"] == os.uname().release
    state = [p for p in guest["places"] if p["state"]]
    assert len(state) == 1 and state[0]["size_bytes"] > 0 and os.path.ismount(state[0]["point"])
    assert guest["keys"] == [] and checks["guest-keys"]["severity"] == "error"
    assert "trusted.d" in checks["guest-keys"]["action"]

    # A key of ours in the guest, and then a release that another one signed.
    for name in ("ours", "other"):
        host.moult("key", "new", "--out", tmp_path / name)
        (host.trust / f"{name}.pub").write_bytes((tmp_path / f"{name}.pub").read_bytes())
    (tmp_path / "trust/ours.pub").write_bytes((tmp_path / "ours.pub").read_bytes())
    assert guest_checks(host)["guest-keys"]["severity"] == "ok"
    assert len(host_report(host)["guest"]["keys"]) == 1
    new = tmp_path / "new"
    new.mkdir()
    (new / "file").write_text("x")
    host.moult("release", "build", new, "--name", "app", "--version", "2", "--sign", tmp_path / "other.key",
               "-o", tmp_path / "app.moult")
    host.moult("release", "import", tmp_path / "app.moult")
    strange = guest_checks(host)["guest-keys"]
    assert strange["severity"] == "warning" and "app 2" in strange["found"]

    code, out, _ = host.run("doctor", "net-1")
    assert code == 1 and re.search(r"^warning  guest-keys: .*app 2.*\n         to do: ", out, re.MULTILINE)
    assert "\nguest    " not in out
    assert re.search(r"^guest    moult-agent \S+, Linux \S+, clock [+-]0\.\d+ s$", host.run("doctor", "net-1", "--all")[1], re.MULTILINE)


def test_starts_that_nobody_counts_are_found(host, tmp_path, join):
    """A tree with systemd in which moult-recover is not enabled; then it is."""
    (tmp_path / "root/run/systemd/system").mkdir(parents=True)
    join()
    assert guest_checks(host)["guest-boots"]["severity"] == "warning"
    wants = tmp_path / "root/etc/systemd/system/sysinit.target.wants"
    wants.mkdir(parents=True)
    (wants / "moult-recover.service").symlink_to("/lib/systemd/system/moult-recover.service")
    (tmp_path / "root/lib/systemd/system").mkdir(parents=True)
    assert guest_checks(host)["guest-boots"]["severity"] == "ok"


def test_an_agent_that_is_older_is_not_asked_and_that_is_said(host, join):
    join(older=True)
    report, checks = host_report(host), guest_checks(host)
    assert report["guest"] is None and list(checks) == ["guest-told"]
    assert checks["guest-told"]["severity"] == "notice" and "older" in checks["guest-told"]["found"]


def test_every_check_is_documented_and_the_reverse(host, join):
    join()
    ids = {c["id"] for words in ((), ("net-1",)) for c in json.loads(host.run("doctor", *words, "--json")[1])["checks"]}
    text = (moult.TOP / "docs/operation.md").read_text()
    section = text[text.index("## moult doctor"):]
    assert set(re.findall(r"^\| `([a-z-]+)`", section, re.MULTILINE)) == ids
