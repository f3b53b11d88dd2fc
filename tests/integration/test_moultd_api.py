"""moultd's HTTP API, driven over its Unix socket by Python's own http.client: every route, bad input, streams, kills."""

import http.client
import json
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import moult  # noqa: E402

DEADLINE_S = 120


class Api:
    """A moultd of the test's own, and requests to it."""

    def __init__(self, directory):
        self.host = moult.Host(directory)

    def request(self, method, path, body=None, key=None, raw=None, headers=None):
        """(status, decoded answer, headers)"""
        headers = dict(headers or {})
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            headers.setdefault("Content-Type", "application/json")
        if key:
            headers["Idempotency-Key"] = key
        connection = moult.Connection(self.host.socket)
        try:
            connection.request(method, path, body=raw, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None, dict(answer.getheaders())
        finally:
            connection.close()

    def get(self, path, expect=200):
        status, answer, _ = self.request("GET", path)
        assert status == expect, answer
        return answer

    def post(self, path, body=None, expect=202, key=None):
        status, answer, _ = self.request("POST", path, body, key)
        assert status == expect, answer
        return answer

    def wait(self, operation, beyond=0):
        """Follows the operation's events until its end; its last shape."""
        with Stream(self, f"/v1/events?operation={operation}&after={beyond}") as stream:
            for event in stream:
                if event["type"].startswith("operation.") and event["data"]["final"]:
                    return self.get(f"/v1/operations/{operation}")["operation"]
        raise AssertionError("the stream ended before the operation")

    def add_vm(self, name="web-1", **more):
        return self.post("/v1/vms", {"name": name, "agent": f"/run/{name}.agent", "qmp": f"/run/{name}.qmp"} | more, 201)

    def import_pack(self, pack):
        operation = self.post("/v1/releases", {"path": str(pack)})["operation"]
        return self.wait(operation["id"])


class Stream:
    """Server-sent events, one at a time."""

    def __init__(self, api, path, last_id=None):
        self.connection = moult.Connection(api.host.socket)
        self.connection.request("GET", path, headers={"Last-Event-ID": str(last_id)} if last_id is not None else {})
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        assert self.answer.getheader("Content-Type") == "text/event-stream"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.connection.close()

    def __iter__(self):
        fields = {}
        while True:
            try:
                line = self.answer.readline()
            except (http.client.HTTPException, OSError):
                return
            if not line:
                return
            line = line.decode().rstrip("\n")
            if line.startswith(":"):
                continue
            if line:
                name, value = line.split(": ", 1)
                fields[name] = value
                continue
            if fields:
                event = json.loads(fields["data"])
                assert int(fields["id"]) == event["seq"] and fields["event"] == event["type"]
                yield event
                fields = {}


@pytest.fixture
def api(tmp_path):
    api = Api(tmp_path / "host")
    api.host.start()
    yield api
    api.host.stop()


@pytest.fixture
def pack(api, tmp_path):
    """A signed pack of a key that the host trusts."""
    api.host.new_key()
    return make_pack(api, tmp_path)


def make_pack(api, tmp_path, version="2", size=300_000, **more):
    tree = tmp_path / f"tree-{version}"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/app").write_bytes(os.urandom(size))
    (tree / "usr/bin/text").write_text(f"version {version}\n")
    (tree / "usr/bin/link").symlink_to("app")
    return api.host.build(tree, name="app", version=version, **more)


def stored(api):
    return sorted(p.name for p in (api.host.state / "packs").iterdir())


# --- the routes, one after the other


def test_status_tells_what_there_is(api):
    status = api.get("/v1/status")
    assert status["service"] == "moultd" and status["api"] == "v1"
    assert status["vms"] == status["releases"] == status["operations_unfinished"] == 0
    assert status["trust"] == {"directory": str(api.host.trust), "keys": 0, "problem": None}
    api.add_vm()
    assert api.get("/v1/status")["vms"] == 1


def test_description_is_the_yaml_file(api):
    import yaml
    assert api.get("/v1/openapi.json") == json.loads(json.dumps(yaml.safe_load((moult.TOP / "docs/openapi.yaml").read_text())))


def test_socket_is_for_owner_and_group_only(api):
    assert api.host.socket.stat().st_mode & 0o777 == 0o660
    assert api.host.state.stat().st_mode & 0o777 == 0o711


def test_vms_are_added_listed_shown_and_removed(api):
    added = api.add_vm()["vm"]
    assert (added["name"], added["agent"], added["qmp"]) == ("web-1", "/run/web-1.agent", "/run/web-1.qmp")
    assert not added["connected"] and added["last_seen"] is None
    api.add_vm("db-1")
    assert [v["name"] for v in api.get("/v1/vms")["vms"]] == ["db-1", "web-1"]
    assert api.get("/v1/vms/web-1")["vm"]["created"] == added["created"]
    status, answer, _ = api.request("DELETE", "/v1/vms/web-1")
    assert (status, answer) == (200, {"removed": "web-1"})
    assert api.get("/v1/vms/web-1", 404)["error"]["code"] == "not-found"
    assert api.request("DELETE", "/v1/vms/web-1")[0] == 404


def test_a_name_or_socket_belongs_to_one_vm(api):
    api.add_vm()
    assert "exists already" in api.post("/v1/vms", {"name": "web-1", "agent": "/run/x"}, 409)["error"]["text"]
    answer = api.post("/v1/vms", {"name": "web-2", "agent": "/run/web-1.agent"}, 409)
    assert 'belongs to VM "web-1"' in answer["error"]["text"]
    assert [v["name"] for v in api.get("/v1/vms")["vms"]] == ["web-1"]


def test_join_token_is_shown_once_and_kept_as_a_hash(api):
    answer = api.post("/v1/vms", {"name": "net", "network": True, "token": True}, 201)
    token = answer["join_token"]
    prefix, fingerprint, secret = token.split(":")
    assert prefix == "moult1" and fingerprint == api.get("/v1/status")["tls_fingerprint"] and len(secret) == 48
    assert answer["vm"]["join_pending"]
    assert "join_token" not in api.get("/v1/vms/net")
    chosen = api.post("/v1/vms", {"name": "net2", "network": True, "token": "chosen-by-the-client"}, 201)
    assert chosen["join_token"] == f"moult1:{fingerprint}:chosen-by-the-client"
    assert "secret alone" in api.post("/v1/vms", {"name": "net3", "network": True, "token": token}, 400)["error"]["text"]
    api.host.stop()
    content = b"".join(p.read_bytes() for p in api.host.state.iterdir() if p.is_file())
    assert secret.encode() not in content and b"chosen-by-the-client" not in content


def test_history_of_a_silent_guest_says_so_and_shows_what_moultd_knows(api):
    api.add_vm()
    answer = api.get("/v1/vms/web-1/history")
    assert answer["generations"] is None and answer["error"]["code"] == "timeout" and answer["pushes"] == []
    assert api.get("/v1/vms/none/history", 404)["error"]["code"] == "not-found"


def test_import_seals_a_padded_copy(api, pack):
    operation = api.import_pack(pack)
    assert operation["state"] == "succeeded", operation
    release = operation["result"]["release"]
    assert release["size"] == pack.stat().st_size and release["padded_size"] == 2 << 20
    copy = api.host.state / "packs" / release["file"]
    assert copy.stat().st_size == 2 << 20 and copy.stat().st_mode & 0o777 == 0o444
    assert copy.read_bytes()[:release["size"]] == pack.read_bytes()
    assert not any(copy.read_bytes()[release["size"]:])
    assert copy.stat().st_blocks * 512 < (1 << 20), "the padding is a hole"
    assert api.get("/v1/releases")["releases"] == [release]
    assert api.get("/v1/releases?name=none")["releases"] == []
    assert api.get("/v1/releases/app/2")["release"] == release
    pages = [api.get(f"/v1/releases/app/2?entries=1&first={i}&count=2") for i in (0, 2, 4)]
    assert {p["total"] for p in pages} == {release["entries"]} == {5}
    entries = [e for p in pages for e in p["entries"]]
    assert [e["path"] for e in entries] == ["usr", "usr/bin", "usr/bin/app", "usr/bin/link", "usr/bin/text"]
    assert entries[3]["type"] == "symlink" and entries[3]["link_target"] == "app"


def test_the_same_pack_again_is_no_error_and_no_second_file(api, pack):
    first, again = api.import_pack(pack), api.import_pack(pack)
    assert again["state"] == "succeeded" and again["result"]["already_there"]
    assert again["result"]["release"] == first["result"]["release"]
    api.host.stop()  # the second copy is removed beside the answer: an orderly end waits for that
    assert stored(api) == [first["result"]["release"]["file"]]


def test_another_pack_of_the_same_version_is_refused(api, pack, tmp_path):
    api.import_pack(pack)
    (tmp_path / "other").mkdir()
    operation = api.import_pack(make_pack(api, tmp_path / "other", options=["-f"]))
    assert operation["state"] == "failed" and operation["error"]["code"] == "busy"
    assert "exists already" in operation["error"]["text"]


def test_verify_reads_every_content(api, pack):
    release = api.import_pack(pack)["result"]["release"]
    operation = api.wait(api.post("/v1/releases/app/2/verify")["operation"]["id"])
    assert operation["state"] == "succeeded"
    assert operation["result"] == {"release": "app", "version": "2", "files": 2, "bytes": 300_000 + len("version 2\n")}
    copy = api.host.state / "packs" / release["file"]
    copy.chmod(0o600)
    with open(copy, "r+b") as f:
        f.seek(100_000)
        byte = f.read(1)[0]
        f.seek(100_000)
        f.write(bytes([byte ^ 1]))
    operation = api.wait(api.post("/v1/releases/app/2/verify")["operation"]["id"])
    assert operation["state"] == "failed" and operation["error"]["code"] == "corrupt"
    assert "usr/bin/app" in operation["error"]["text"]
    api.post("/v1/releases/app/3/verify", expect=404)


def test_a_removed_release_leaves_nothing(api, pack):
    api.import_pack(pack)
    assert api.request("DELETE", "/v1/releases/app/2")[0] == 200
    assert api.get("/v1/releases/app/2", 404)["error"]["code"] == "not-found"
    api.host.stop()
    assert stored(api) == []


def test_a_release_under_way_cannot_be_removed_nor_its_vm(api, pack):
    api.import_pack(pack)
    api.add_vm()
    operation = api.post("/v1/pushes", {"release": "app", "vms": ["web-1"]})["operation"]
    status, answer, _ = api.request("DELETE", "/v1/releases/app/2")
    assert status == 409 and answer["error"]["code"] == "busy"
    assert api.request("DELETE", "/v1/vms/web-1")[0] == 409
    api.post(f"/v1/operations/{operation['id']}/cancel")
    assert api.wait(operation["id"])["state"] == "cancelled"
    assert api.request("DELETE", "/v1/vms/web-1")[0] == 200
    assert api.request("DELETE", "/v1/releases/app/2")[0] == 200


def test_pushes_become_an_operation_with_a_push_for_each_vm(api, pack):
    api.import_pack(pack)
    api.add_vm("web-1")
    api.add_vm("web-2")
    operation = api.post("/v1/pushes", {
        "release": "app=2", "vms": ["web-2", "web-1"], "dry_run": True, "transport": "virtio-serial", "sync": "gentle",
        "allow_drift": True, "confirm_timeout_ms": 5000, "strict_window": True})["operation"]
    assert operation["kind"] == "push" and [p["vm"] for p in operation["pushes"]] == ["web-1", "web-2"]
    options = operation["pushes"][0]["options"]
    assert options["dry_run"] and options["allow_drift"] and options["strict_window"] and options["sync"] == "gentle"
    assert options["transport"] == "virtio-serial" and options["confirm_timeout_ms"] == 5000
    path = f"/v1/operations/{operation['id']}"
    assert api.get(path)["operation"]["pushes"][1]["vm"] == "web-2"
    assert api.get(f"{path}/plan?vm=web-1") == {"operation": operation["id"], "vm": "web-1", "first": 0, "total": 0, "items": []}
    assert "2 pushes" in api.get(f"{path}/plan", 400)["error"]["text"]
    assert api.get(f"{path}/plan?vm=web-9", 404)["error"]["code"] == "not-found"
    assert [o["id"] for o in api.get("/v1/operations?kind=push")["operations"]] == [operation["id"]]
    assert api.get("/v1/operations?kind=rollback")["operations"] == []
    api.post(f"{path}/cancel")
    assert api.request("POST", f"{path}/cancel")[0] in (202, 409)  # again; it may have ended meanwhile
    assert api.wait(operation["id"])["state"] == "cancelled"
    assert api.post(f"{path}/cancel", expect=409)["error"]["code"] == "wrong-state"
    assert [p["operation"] for p in api.get("/v1/vms/web-1/history")["pushes"]] == [operation["id"]]


def test_pushes_need_a_release_and_vms_that_exist(api, pack):
    api.add_vm()
    assert "no release app" in api.post("/v1/pushes", {"release": "app", "vms": ["web-1"]}, 404)["error"]["text"]
    api.import_pack(pack)
    assert "app 9" in api.post("/v1/pushes", {"release": "app=9", "vms": ["web-1"]}, 404)["error"]["text"]
    assert '"web-7"' in api.post("/v1/pushes", {"release": "app", "vms": ["web-1", "web-7"]}, 404)["error"]["text"]
    assert "twice" in api.post("/v1/pushes", {"release": "app", "vms": ["web-1", "web-1"]}, 400)["error"]["text"]
    assert api.get("/v1/operations?kind=push")["operations"] == [], "what was refused left nothing"


def test_the_highest_version_is_what_a_bare_name_means(api, pack, tmp_path):
    api.import_pack(make_pack(api, tmp_path, "10"))
    api.import_pack(pack)
    api.import_pack(make_pack(api, tmp_path, "10~rc1"))
    assert [r["version"] for r in api.get("/v1/releases")["releases"]] == ["10", "10~rc1", "2"]
    api.add_vm()
    operation = api.post("/v1/pushes", {"release": "app", "vms": ["web-1"]})["operation"]
    assert operation["pushes"][0]["version"] == "10"
    api.post(f"/v1/operations/{operation['id']}/cancel")
    api.wait(operation["id"])


def test_rollback_becomes_an_operation(api):
    api.add_vm()
    operation = api.post("/v1/vms/web-1/rollback", {"generation": 4, "force": True})["operation"]
    assert operation["kind"] == "rollback" and operation["pushes"][0]["release"] is None
    assert operation["pushes"][0]["options"]["generation"] == 4
    api.post(f"/v1/operations/{operation['id']}/cancel")
    assert api.wait(operation["id"])["final"]
    api.post("/v1/vms/none/rollback", expect=404)


def test_operations_are_paged_newest_first(api):
    ids = [api.wait(api.post("/v1/releases", {"path": f"/none/{i}"})["operation"]["id"])["id"] for i in range(5)]
    assert ids == sorted(ids)
    page = api.get("/v1/operations?limit=2&state=failed")["operations"]
    assert [o["id"] for o in page] == ids[:2:-1]
    page = api.get(f"/v1/operations?limit=9&before={page[1]['id']}")["operations"]
    assert [o["id"] for o in page] == ids[2::-1]
    assert page[0]["error"]["code"] == "not-found"


# --- bad input

BAD = [
    ("POST", "/v1/vms", b"{", 400, "JSON"),
    ("POST", "/v1/vms", b"[]", 400, "must be a JSON object"),
    ("POST", "/v1/vms", b"\xff", 400, "UTF-8"),
    ("POST", "/v1/vms", b'{"name": "a", /* hm */ "agent": "/a"}', 400, "not JSON"),
    ("POST", "/v1/vms", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "nested too deeply"),
    ("POST", "/v1/vms", b'{"name": "a\\u0000b", "agent": "/a"}', 400, "NUL"),
    ("POST", "/v1/vms", b"", 400, '"name" is missing'),
    ("POST", "/v1/vms", b'{"name": "a"}', 400, '"agent"'),
    ("POST", "/v1/vms", b'{"name": "a", "agent": "/a", "extra": 1}', 400, '"extra" is not known here'),
    ("POST", "/v1/vms", b'{"name": 1, "agent": "/a"}', 400, '"name" must be a text'),
    ("POST", "/v1/vms", b'{"name": "", "agent": "/a"}', 400, '"name" must be 1 to 64'),
    ("POST", "/v1/vms", b'{"name": "a/b", "agent": "/a"}', 400, '"name" must be'),
    ("POST", "/v1/vms", b'{"name": "' + b"a" * 65 + b'", "agent": "/a"}', 400, '"name" must be'),
    ("POST", "/v1/vms", b'{"name": "a", "agent": "a"}', 400, "absolute path"),
    ("POST", "/v1/vms", b'{"name": "a", "agent": "/' + b"a" * 107 + b'"}', 400, "107 bytes"),
    ("POST", "/v1/vms", b'{"name": "a", "agent": "/a\\nb"}', 400, "control characters"),
    ("POST", "/v1/vms", b'{"name": "a", "agent": "/a", "network": "yes"}', 400, "true or false"),
    ("POST", "/v1/vms", b'{"name": "a", "agent": "/a", "token": true}', 400, '"network"'),
    ("POST", "/v1/vms", b'{"name": "a", "network": true, "token": "short"}', 400, "16 to 128"),
    ("POST", "/v1/vms", b'{"name": "a", "agent": null}', 400, "must be a text"),
    ("POST", "/v1/vms?x=1", b'{"name": "a", "agent": "/a"}', 400, '"x" is not known'),
    ("POST", "/v1/releases", b'{"path": "relative"}', 400, "absolute"),
    ("POST", "/v1/releases", b'{"path": "/' + b"a" * 4096 + b'"}', 400, "4095"),
    ("POST", "/v1/pushes", b'{"release": "app", "vms": []}', 400, '"vms" must be a list of 1 to'),
    ("POST", "/v1/pushes", b'{"release": "app", "vms": "web"}', 400, '"vms" must be a list'),
    ("POST", "/v1/pushes", b'{"release": "app", "vms": [1]}', 400, "only texts"),
    ("POST", "/v1/pushes", b'{"release": "app", "vms": ["a b"]}', 400, '"vms" must be'),
    ("POST", "/v1/pushes", b'{"release": "APP", "vms": ["a"]}', 400, "NAME or NAME=VERSION"),
    ("POST", "/v1/pushes", b'{"release": "app=", "vms": ["a"]}', 400, "NAME or NAME=VERSION"),
    ("POST", "/v1/pushes", b'{"release": "app", "vms": ["a"], "dryrun": true}', 400, '"dryrun" is not known here; known: release'),
    ("POST", "/v1/pushes", b'{"release": "app", "vms": ["a"], "transport": "pigeon"}', 400, "auto, ivshmem"),
    ("POST", "/v1/pushes", b'{"release": "app", "vms": ["a"], "sync": ""}', 400, "fast or gentle"),
    ("POST", "/v1/pushes", b'{"release": "app", "vms": ["a"], "confirm_timeout_ms": 999}', 400, "from 1000"),
    ("POST", "/v1/pushes", b'{"release": "app", "vms": ["a"], "confirm_timeout_ms": 1e4}', 400, "whole number"),
    ("POST", "/v1/pushes", b'{"release": "app", "vms": ["a"], "confirm_timeout_ms": 99999999999999999999}', 400, "whole number"),
    ("POST", "/v1/vms/a/rollback", b'{"generation": -1}', 400, "whole number"),
    ("POST", "/v1/vms/a%2Fb/rollback", b"{}", 404, "no such path"),
    ("POST", "/v1/vms/a%20b/rollback", b"{}", 400, "a name in the path"),
    ("POST", "/v1/vms/%00/rollback", b"{}", 404, "no such path"),
    ("POST", "/v1/operations/x/cancel", b"", 400, "an operation's id"),
    ("POST", "/v1/operations/01ARZ3NDEKTSV4RRFFQ69G5FAV/cancel", b"", 404, "no operation"),
    ("POST", "/v1/operations/01ARZ3NDEKTSV4RRFFQ69G5FAV/cancel", b'{"now": true}', 400, "known: none"),
    ("GET", "/v1/operations/01arz3ndektsv4rrffq69g5fav", None, 400, "an operation's id"),
    ("GET", "/v1/operations?state=sleeping", None, 400, "queued, running"),
    ("GET", "/v1/operations?kind=x", None, 400, "must be push"),
    ("GET", "/v1/operations?limit=0", None, 400, "from 1 to 1000"),
    ("GET", "/v1/operations?limit=%2B1", None, 400, "from 1 to 1000"),
    ("GET", "/v1/operations?limit=1&limit=2", None, 400, "twice"),
    ("GET", "/v1/operations?limit=%zz", None, 400, None),
    ("GET", "/v1/operations?after=1", None, 400, "not known"),
    ("GET", "/v1/releases/app", None, 404, "no such path"),
    ("GET", "/v1/releases/App/1", None, 400, "a name in the path"),
    ("GET", "/v1/releases/app/..%2f..", None, 404, "no such path"),
    ("GET", "/v1/releases/app/1?entries=maybe", None, 400, "true or false"),
    ("GET", "/v1/events?after=-1", None, 400, "whole number"),
    ("GET", "/v1/events?after=1000000", None, 409, "not happened here yet"),
    ("GET", "/v1/vms", b'{"a": 1}', 400, "takes no body"),
    ("GET", "/", None, 404, "openapi.json"),
    ("GET", "/v1/vms/", None, 400, "a name in the path"),
    ("GET", "/v2/vms", None, 404, "no such path"),
    ("PUT", "/v1/vms", b"{}", 405, "takes only GET, POST"),
    ("PATCH", "/v1/vms/a", b"{}", 405, "takes only GET, DELETE"),
    ("DELETE", "/v1/status", None, 405, "takes only GET"),
]


def test_bad_input_is_refused_with_the_reason_and_changes_nothing(api):
    before, wrong = api.get("/v1/status")["event_last"], []
    for method, path, raw, expected, text in BAD:
        status, answer, _ = api.request(method, path, raw=raw)
        fits = status == expected
        if text is None:  # refused by libsoup itself
            fits = fits and answer is None
        else:
            fits = fits and answer and set(answer["error"]) == {"code", "text", "hint"} and text in answer["error"]["text"]
        if not fits:
            wrong.append((method, path, (raw or b"")[:80], status, answer))
    assert not wrong
    assert api.get("/v1/status")["event_last"] == before


def test_only_json_is_taken(api):
    status, answer, _ = api.request("POST", "/v1/vms", raw=b"name=a", headers={"Content-Type": "text/plain"})
    assert status == 415 and "Content-Type" in answer["error"]["text"]


def test_large_bodies_are_not_kept(api):
    body = b'{"name": "' + b"x" * (1 << 20) + b'"}'
    assert api.request("POST", "/v1/vms", raw=body)[0] == 413
    connection = moult.Connection(api.host.socket)  # without a Content-Length: in chunks
    connection.request("POST", "/v1/vms", body=iter([b"x" * 65536] * 40), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked", "Content-Type": "application/json"})
    assert connection.getresponse().status == 413
    connection.close()
    assert api.get("/v1/status")["vms"] == 0


def test_bytes_that_are_no_http_end_only_their_connection(api):
    for noise in (b"\0" * 4096, b"GET", b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n", os.urandom(10_000)):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(DEADLINE_S)
            s.connect(str(api.host.socket))
            try:
                s.sendall(noise)
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
            except ConnectionError:
                pass
    assert api.get("/v1/status")["service"] == "moultd"


def test_idle_connections_do_not_lock_others_out(api):
    idle = []
    for _ in range(300):
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(api.host.socket))
        idle.append(s)
    assert api.get("/v1/status")["service"] == "moultd"
    for s in idle:
        s.close()


# --- Idempotency-Key


def test_the_same_key_and_request_is_done_once(api):
    body = {"name": "web-1", "agent": "/run/a"}
    first = api.request("POST", "/v1/vms", body, key="k-1")
    again = api.request("POST", "/v1/vms", body, key="k-1")
    assert first[0] == again[0] == 201 and first[1] == again[1]
    assert "Idempotency-Replayed" not in first[2] and again[2]["Idempotency-Replayed"] == "true"
    other = api.request("POST", "/v1/vms", {"name": "web-2", "agent": "/run/b"}, key="k-1")
    assert other[0] == 422 and other[1]["error"]["code"] == "refused"
    assert api.request("POST", "/v1/releases", {"path": "/x"}, key="k-1")[0] == 422
    assert [v["name"] for v in api.get("/v1/vms")["vms"]] == ["web-1"]


def test_a_key_survives_a_kill_and_a_failure_frees_it(api):
    body = {"path": "/none"}
    first = api.post("/v1/releases", body, key="import-1")
    api.host.kill()
    api.host.start()
    assert api.post("/v1/releases", body, key="import-1") == first
    assert len(api.get("/v1/operations")["operations"]) == 1
    api.add_vm()
    taken = {"name": "web-1", "agent": "/run/other"}
    assert api.request("POST", "/v1/vms", taken, key="again")[0] == 409
    api.request("DELETE", "/v1/vms/web-1")
    assert api.request("POST", "/v1/vms", taken, key="again")[0] == 201
    assert api.request("POST", "/v1/vms", taken, key="bad key")[0] == 400


def test_a_made_token_is_not_kept_with_the_answer(api):
    body = {"name": "net", "network": True, "token": True}
    first = api.post("/v1/vms", body, 201, key="t-1")
    again = api.post("/v1/vms", body, 201, key="t-1")
    assert first["join_token"] and again["join_token"] is None
    assert again["vm"] == first["vm"]


def test_jobs_that_run_are_listed_however_many_have_ended_since(api, pack):
    api.import_pack(pack)
    api.add_vm()
    push = api.post("/v1/pushes", {"release": "app", "vms": ["web-1"]})["operation"]
    for _ in range(205):  # more than a page
        last = api.post("/v1/releases", {"path": "/nowhere"})["operation"]
    api.wait(last["id"])
    assert [o["id"] for o in api.host.json("jobs")] == [push["id"]]


# --- events


def read_events(api, count, path="/v1/events?after=0", last_id=None):
    with Stream(api, path, last_id) as stream:
        events = []
        for event in stream:
            events.append(event)
            if len(events) == count:
                return events
    raise AssertionError(f"the stream ended after {len(events)} events")


def test_streams_are_filtered_and_resume_where_they_were(api):
    for i in range(4):
        api.add_vm(f"web-{i}")
    events = read_events(api, 4)
    assert [e["seq"] for e in events] == [1, 2, 3, 4] and {e["type"] for e in events} == {"vm.added"}
    assert [e["vm"] for e in read_events(api, 2, last_id=2)] == ["web-2", "web-3"]
    assert [e["vm"] for e in read_events(api, 2, "/v1/events?after=1", last_id=2)] == ["web-2", "web-3"], "the header wins"
    assert read_events(api, 1, "/v1/events?after=0&vm=web-3")[0]["seq"] == 4
    operation = api.post("/v1/releases", {"path": "/none"})["operation"]["id"]
    types = [e["type"] for e in read_events(api, 3, f"/v1/events?operation={operation}")]
    assert types == ["operation.queued", "operation.running", "operation.failed"]


def test_a_stream_without_a_start_tells_only_what_is_new(api):
    api.add_vm("old")
    with Stream(api, "/v1/events") as stream:
        api.add_vm("new")
        assert next(iter(stream))["vm"] == "new"


def test_a_stream_has_no_gap_across_a_kill(api):
    """A client that reconnects with its last id sees every number exactly once, whenever the daemon was killed."""
    seen, ended = [], threading.Event()
    total = 60

    def listen():
        last = 0
        while not ended.is_set():
            try:
                with Stream(api, "/v1/events?after=0", last) as stream:
                    for event in stream:
                        seen.append(event)
                        last = event["seq"]
                        if event["vm"] == f"vm-{total - 1}":
                            return
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)  # the daemon is not up again yet, and tells nobody when it is

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        answered = set()
        for i in range(total):
            if i % 20 == 10:
                killer = threading.Timer(0.005, api.host.kill)
                killer.start()
            try:
                api.add_vm(f"vm-{i}")
                answered.add(f"vm-{i}")
            except (OSError, http.client.HTTPException):
                killer.join()
                api.host.start()
                if api.request("GET", f"/v1/vms/vm-{i}")[0] == 404:
                    api.add_vm(f"vm-{i}")
                answered.add(f"vm-{i}")
            if api.host.process.poll() is not None:
                api.host.start()
            elif i % 20 == 10:
                killer.join()
                if api.host.process.poll() is not None:
                    api.host.start()
        listener.join(DEADLINE_S)
        assert not listener.is_alive()
    finally:
        ended.set()
    numbers = [e["seq"] for e in seen]
    assert numbers == list(range(1, len(numbers) + 1)), "each number once, in order"
    assert {e["vm"] for e in seen} == answered == {v["name"] for v in api.get("/v1/vms")["vms"]}


def test_a_reader_that_does_not_read_holds_nobody_up(api):
    slow = socket.socket(socket.AF_UNIX)
    slow.connect(str(api.host.socket))
    slow.sendall(b"GET /v1/events?after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
    for i in range(150):
        api.add_vm(f"vm-{i}", qmp="/run/" + f"q{i}".ljust(90, "x"))
    assert len(read_events(api, 150)) == 150
    data = b""
    slow.settimeout(DEADLINE_S)
    while b'"vm-149"' not in data:
        data += slow.recv(65536)
    slow.close()


def test_streams_are_limited_and_given_back(api):
    streams = [Stream(api, "/v1/events") for _ in range(64)]
    assert api.get("/v1/events", 409)["error"]["code"] == "busy"
    for s in streams:
        s.connection.close()
    deadline = time.monotonic() + DEADLINE_S
    while True:  # a closed peer is noticed when something is written to it
        api.add_vm(f"vm-{time.monotonic_ns()}")
        try:
            with Stream(api, "/v1/events"):
                return
        except AssertionError:
            assert time.monotonic() < deadline


# --- hostile packs


def corrupt(pack, path, at, change):
    data = bytearray(pack.read_bytes())
    data[at:at + len(change)] = change
    path.write_bytes(data)
    return path


def test_hostile_packs_are_refused_and_leave_nothing(api, pack, tmp_path):
    size = pack.stat().st_size
    api.host.moult("key", "new", "--out", tmp_path / "stranger.key")
    tree = tmp_path / "tree-2"
    strange, unsigned = tmp_path / "strange.moult", tmp_path / "unsigned.moult"
    build = ["release", "build", tree, "--name", "app", "--version", "3"]
    api.host.moult(*build, "--sign", tmp_path / "stranger.key", "-o", strange)
    api.host.moult(*build, "-o", unsigned)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "zeros").write_bytes(bytes(65536))
    (tmp_path / "cut").write_bytes(pack.read_bytes()[:size - 1])
    (tmp_path / "head").write_bytes(pack.read_bytes()[:4096])
    cases = [
        (tmp_path / "none", "not-found"), (tmp_path, "refused"), (tmp_path / "fifo", "refused"), ("/dev/zero", "refused"),
        (tmp_path / "empty", "malformed"), (tmp_path / "zeros", "malformed"), (tmp_path / "cut", "malformed"),
        (tmp_path / "head", "malformed"), (strange, "untrusted"), (unsigned, "untrusted"),
        (corrupt(pack, tmp_path / "magic", 0, b"X"), "malformed"),
        (corrupt(pack, tmp_path / "crc", 100, b"X"), "malformed"),
        (corrupt(pack, tmp_path / "blob", 8192, bytes([pack.read_bytes()[8192] ^ 1])), "corrupt"),
    ]
    for path, code in cases:
        operation = api.import_pack(path)
        assert (operation["state"], operation["error"]["code"]) == ("failed", code), (path, operation)
        assert str(path) in operation["error"]["text"]
    assert api.get("/v1/releases")["releases"] == [] and stored(api) == []


def test_without_any_trusted_key_nothing_is_imported(api, pack):
    (api.host.trust / "test.pub").unlink()
    operation = api.import_pack(pack)
    assert operation["error"]["code"] == "untrusted" and str(api.host.trust) in operation["error"]["text"]


# --- kills

IMPORT_POINTS = ["import-copied", "import-copy-done", "import-judged", "store-seal", "store-sealed", "store-renamed", "import-sealed",
                 "import-writing"]


@pytest.mark.parametrize("point", IMPORT_POINTS)
def test_an_import_killed_anywhere_goes_on_after_the_restart(api, pack, point):
    api.host.stop()
    api.host.start({"MOULT_FAULT": f"{point}=kill"})
    operation = api.post("/v1/releases", {"path": str(pack)})["operation"]
    api.host.process.wait(DEADLINE_S)
    assert api.host.process.returncode == -signal.SIGKILL
    api.host.start()
    ended = api.wait(operation["id"])
    assert ended["state"] == "succeeded", ended
    release = ended["result"]["release"]
    assert stored(api) == [release["file"]]
    assert (api.host.state / "packs" / release["file"]).read_bytes()[:release["size"]] == pack.read_bytes()
    assert api.get("/v1/releases")["releases"] == [release]


def test_a_removal_killed_in_the_middle_goes_on_after_the_restart(api, pack):
    api.import_pack(pack)
    api.host.stop()
    api.host.start({"MOULT_FAULT": "release-swept:2=kill"})  # the first is the start's, which finds nothing
    with pytest.raises((OSError, http.client.HTTPException)):
        while True:  # the removal is answered; what follows it is not
            api.request("DELETE", "/v1/releases/app/2")
    api.host.process.wait(DEADLINE_S)
    api.host.start()
    assert api.get("/v1/releases")["releases"] == [] and stored(api) == []
    assert api.import_pack(pack)["state"] == "succeeded"
    api.host.stop()
    with sqlite3.connect(api.host.state / "catalogue.db") as db:
        assert db.execute("SELECT count(*) FROM releases").fetchone() == (1,), "the removed one's row is swept too"


@pytest.mark.parametrize("action,code", [("eio", "io"), ("enospc", "no-space")])
@pytest.mark.parametrize("point", ["import-judged", "store-seal"])
def test_a_failing_disk_fails_the_import_and_leaves_nothing(api, pack, point, action, code):
    api.host.stop()
    api.host.start({"MOULT_FAULT": f"{point}={action}"})
    operation = api.import_pack(pack)
    assert (operation["state"], operation["error"]["code"]) == ("failed", code)
    assert stored(api) == []
    assert api.import_pack(pack)["state"] == "succeeded"


def test_an_orderly_stop_in_the_middle_of_an_import_keeps_the_operation(api, pack, tmp_path):
    big = make_pack(api, tmp_path, "5", size=64 << 20, options=["--compress", "none"])
    operation = api.post("/v1/releases", {"path": str(big)})["operation"]
    api.host.stop()
    api.host.start()
    assert api.wait(operation["id"])["state"] == "succeeded"
    assert len(stored(api)) == 1


def test_an_import_can_be_cancelled(api, pack, tmp_path):
    big = make_pack(api, tmp_path, "5", size=128 << 20, options=["--compress", "none"])
    operation = api.post("/v1/releases", {"path": str(big)})["operation"]
    status, answer, _ = api.request("POST", f"/v1/operations/{operation['id']}/cancel")
    ended = api.wait(operation["id"])
    if status == 202 and ended["state"] == "cancelled":
        assert ended["error"]["code"] == "cancelled" and stored(api) == []
    else:  # it was quicker
        assert ended["state"] == "succeeded", (answer, ended)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_another_users_qemu_can_open_a_pack_and_nothing_else():
    def as_nobody(*words):
        return subprocess.run(words, check=False, capture_output=True, user=65534, group=65534, extra_groups=[]).returncode

    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # a test's own folder lets no other user in
        os.chmod(directory, 0o711)
        api = Api(pathlib.Path(directory) / "host")
        os.chmod(api.host.dir, 0o711)
        old_umask = os.umask(0o077)
        try:
            api.host.start()
        finally:
            os.umask(old_umask)
        api.host.new_key()
        release = api.import_pack(make_pack(api, pathlib.Path(directory)))["result"]["release"]
        state = api.host.state
        assert as_nobody("cat", str(state / "packs" / release["file"])) == 0
        assert as_nobody("ls", str(state)) != 0
        files = [p for p in state.iterdir() if p.is_file()]
        assert {"catalogue.db", "catalogue.db-wal", "identity.pem", "lock"} <= {p.name for p in files}
        for path in files:
            assert as_nobody("cat", str(path)) != 0, path
        assert as_nobody("touch", str(state / "packs" / "x")) != 0 and as_nobody("touch", str(state / "x")) != 0
        api.host.stop()


def test_a_second_daemon_on_the_same_state_is_refused(api, tmp_path):
    done = subprocess.run([str(moult.MOULTD), "--state-dir", str(api.host.state), "--socket", str(api.host.socket.with_name("s2"))],
                          capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1 and "in use by another moultd" in done.stderr
    done = subprocess.run([str(moult.MOULTD), "--state-dir", str(tmp_path / "state2"), "--socket", str(api.host.socket)],
                          capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1 and "another service answers" in done.stderr
    assert api.get("/v1/status")["service"] == "moultd"


def test_a_push_is_taken_up_after_a_kill(api, pack):
    api.import_pack(pack)
    api.add_vm()
    operation = api.post("/v1/pushes", {"release": "app", "vms": ["web-1"]})["operation"]["id"]
    api.host.kill()
    api.host.start()
    assert not api.get(f"/v1/operations/{operation}")["operation"]["final"]
    api.post(f"/v1/operations/{operation}/cancel")
    assert api.wait(operation)["state"] == "cancelled"


def test_packs_are_immutable_unless_told_otherwise(api, pack):
    """Also root cannot truncate a sealed pack by accident: a guest that reads it would take its QEMU down."""
    flags = ["--immutable-packs", "yes"]
    api.host.stop()
    process = subprocess.Popen([str(moult.MOULTD), "--state-dir", str(api.host.state), "--socket", str(api.host.socket),
                                "--trust", str(api.host.trust), *flags])
    try:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                release = api.import_pack(pack)["result"]["release"]
                break
            except (ConnectionRefusedError, FileNotFoundError):  # not up yet
                assert process.poll() is None and time.monotonic() < deadline
        copy = api.host.state / "packs" / release["file"]
        shown = subprocess.run(["lsattr", str(copy)], capture_output=True, text=True, check=False)
        try:
            if shown.returncode != 0 or "i" not in shown.stdout.split()[0]:
                pytest.skip("this file system has no immutable attribute")
            for act in (lambda: os.truncate(copy, 0), copy.unlink, lambda: copy.write_bytes(b"")):
                with pytest.raises(PermissionError):
                    act()
            assert api.request("DELETE", "/v1/releases/app/2")[0] == 200
        finally:
            process.terminate()
            assert process.wait(DEADLINE_S) == 0
            subprocess.run(["chattr", "-i", str(copy)], capture_output=True, check=False)
        assert stored(api) == []
    finally:
        process.kill()
        process.wait()


def test_settings_come_from_a_file_and_bad_ones_are_named(tmp_path):
    def run(*words):
        return subprocess.run([str(moult.MOULTD), *words], capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    (tmp_path / "conf").write_text("[moultd]\nstate-dir=/nowhere\nstat-dir=/x\n")
    done = run("--config", str(tmp_path / "conf"))
    assert done.returncode == 2 and '"stat-dir" is not a setting' in done.stderr
    done = run("--config", str(tmp_path / "none"))
    assert done.returncode == 2 and str(tmp_path / "none") in done.stderr
    done = run("--log-level", "loud")
    assert done.returncode == 2 and "log-level" in done.stderr
    for count in ("0", "many", "1001"):
        done = run("--concurrent-pushes", count)
        assert done.returncode == 2 and "concurrent-pushes" in done.stderr
    assert run("extra").returncode == 2
    assert run("--version").stdout.startswith("moultd ")
