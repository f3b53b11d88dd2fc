"""moult doctor on a real moultd: what is wrong is found, and goes when it is put right."""

import json
import os
import pathlib
import re
import socket
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import moult  # noqa: E402
import test_moultd_api as api_tests  # noqa: E402


@pytest.fixture
def api(tmp_path):
    api = api_tests.Api(tmp_path / "host")
    api.host.start()
    yield api
    api.host.stop()


def found(api, *words):
    """(exit code, {id: severity} of what is not well)"""
    code, out, err = api.host.run("doctor", *words, "--json")
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


def test_without_a_daemon_it_says_so(tmp_path):
    host = moult.Host(tmp_path / "host")
    code, _, err = host.run("doctor")
    assert code == 11 and "does not answer" in err


def test_every_check_is_documented_and_the_reverse(api):
    api.add_vm("web-1")
    ids = {c["id"] for path in ("/v1/doctor", "/v1/doctor?vm=web-1") for c in api.get(path)["checks"]}
    text = (moult.TOP / "docs/operation.md").read_text()
    section = text[text.index("## moult doctor"):]
    assert set(re.findall(r"^\| `([a-z-]+)`", section, re.MULTILINE)) == ids
