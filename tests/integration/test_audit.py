"""The audit log: who asked for what, with which result; what happens when it cannot be written."""

import json
import os
import pathlib
import pwd
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import moult  # noqa: E402
import test_moultd_api as api_tests  # noqa: E402


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def api(tmp_path):
    api = api_tests.Api(tmp_path / "host")
    api.host.start()
    api.audit = api.host.state / "audit.log"
    yield api
    api.host.stop()


def test_a_change_is_written_down_before_and_after_it_is_done(api):
    api.add_vm("web-1")
    api.get("/v1/vms")
    api.request("DELETE", "/v1/vms/nobody")
    asked, answered, asked_again, refused = lines(api.audit)
    who = {"door": "unix", "uid": os.getuid(), "user": pwd.getpwuid(os.getuid()).pw_name, "pid": os.getpid()}
    assert asked["phase"] == "asked" and asked["who"] == who and asked["method"] == "POST" and asked["route"] == "/v1/vms"
    assert asked["body"]["name"] == "web-1"
    assert answered["phase"] == "answered" and answered["request"] == asked["request"] and answered["status"] == 201
    assert answered["who"] == who
    assert asked_again["vms"] == ["nobody"] and asked_again["request"] > asked["request"]
    assert (refused["status"], refused["error"], refused["vms"]) == (404, "not-found", ["nobody"])
    assert api.audit.stat().st_mode & 0o777 == 0o600


def test_a_push_names_its_vms_its_release_and_its_operation(api, tmp_path):
    api.host.new_key()
    pack = api_tests.make_pack(api, tmp_path)
    api.import_pack(pack)
    api.add_vm("web-1")
    operation = api.post("/v1/pushes", {"release": "app", "vms": ["web-1"]})["operation"]["id"]
    api.post(f"/v1/operations/{operation}/cancel")
    api.wait(operation)
    api.request("DELETE", "/v1/releases/app/2")
    log = lines(api.audit)
    push = [line for line in log if line["route"] == "/v1/pushes"]
    assert [(line["vms"], line["release"]) for line in push] == [(["web-1"], "app")] * 2
    assert push[1]["operation"] == operation
    assert [line["parameter_1"] for line in log if line["route"].endswith("/cancel")] == [operation] * 2
    removal = [line for line in log if line["method"] == "DELETE"]  # answered later, by a worker thread
    assert [(line["phase"], line["release"]) for line in removal] == [("asked", "app=2"), ("answered", "app=2")]
    assert removal[1]["status"] == 200


def test_secrets_are_not_in_it(api):
    secret = "correct-horse-battery"
    answer = api.post("/v1/vms", {"name": "far", "network": True, "token": secret}, 201)
    made = api.post("/v1/vms", {"name": "far-2", "network": True, "token": True}, 201)["join_token"]
    text = api.audit.read_text()
    assert secret in answer["join_token"] and secret not in text and made.split(":")[2] not in text


def test_whoever_rotates_it_only_renames_it(api):
    api.add_vm("a")
    old = api.audit.with_suffix(".1")
    api.audit.rename(old)
    api.add_vm("b")
    assert [line["phase"] for line in lines(old)] == ["asked", "answered"]
    assert [line["body"]["name"] for line in lines(api.audit) if line["phase"] == "asked"] == ["b"]
    os.kill(api.host.process.pid, 1)  # what logrotate's postrotate scripts like to send
    api.add_vm("c")


def test_without_it_nothing_is_changed(api):
    moved = api.host.state / "moved"
    api.audit.rename(moved)
    api.audit.mkdir()  # in the way
    status, answer, _ = api.request("POST", "/v1/vms", {"name": "a", "agent": "/run/a"})
    assert status == 500 and answer["error"]["text"].startswith("nothing was done, for it cannot be put on record: ")
    assert api.get("/v1/vms")["vms"] == []
    assert "error audit-not-written:" in api.host.log_text()
    api.audit.rmdir()
    api.add_vm("a")


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_refuses_changes_and_tears_no_line(small_disk, tmp_path):
    api = api_tests.Api(tmp_path / "host")
    audit = small_disk / "audit.log"
    api.host.options = ["--audit-log", str(audit)]
    with api.host:
        added = 0
        while True:
            status, answer, _ = api.request("POST", "/v1/vms", {"name": f"vm-{added}", "agent": f"/run/{added}"})
            if status != 201:
                break
            added += 1
            assert added < 200, "16 KiB do not get full"
        assert status == 507 and answer["error"]["code"] == "no-space" and str(audit) in answer["error"]["text"]
        assert len(api.get("/v1/vms")["vms"]) == added
        torn = audit.read_text()
        subprocess.run(["mount", "-o", "remount,size=1m", small_disk], check=True)
        api.add_vm("after")
        assert audit.read_text().startswith(torn if torn.endswith("\n") else torn + "\n"), "the next line begins anew"
        assert [line["status"] for line in lines_that_are_whole(audit)[-1:]] == [201]


def lines_that_are_whole(path):
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            pass
    return found


def test_a_log_that_cannot_be_opened_is_an_error_at_the_start(tmp_path):
    host = moult.Host(tmp_path / "host")
    host.options = ["--audit-log", "/nonexistent/audit.log"]
    with pytest.raises(Exception, match="opening the audit log /nonexistent/audit.log"):
        host.start()


def test_it_can_be_switched_off(tmp_path):
    api = api_tests.Api(tmp_path / "host")
    api.host.options = ["--audit-log", "none"]
    with api.host:
        api.add_vm("a")
    assert not (api.host.state / "audit.log").exists()
