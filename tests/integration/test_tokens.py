"""The API over the network: TLS, tokens with scopes, and everybody who must not come in."""

import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import moult  # noqa: E402
import test_moultd_api as api_tests  # noqa: E402


class Remote(api_tests.Api):
    """A moultd with a network door, and requests through either."""

    def __init__(self, directory):
        super().__init__(directory)
        self.port = moult.free_port()
        self.host.options = ["--api-listen", f"127.0.0.1:{self.port}"]

    def token(self, name="ci", scope="read", **more):
        return self.post("/v1/tokens", {"name": name, "scope": scope} | more, 201)["secret"]

    def connect(self, versions=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if versions:
            context.minimum_version, context.maximum_version = versions
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=api_tests.DEADLINE_S, context=context)

    def far(self, method, path, token=None, body=None, headers=None):
        """(status, answer, headers) of a request over the network."""
        headers = dict(headers or {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token.split(':')[-1]}"
        raw = json.dumps(body).encode() if body is not None else None
        if raw:
            headers["Content-Type"] = "application/json"
        connection = self.connect()
        try:
            connection.request(method, path, body=raw, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text and text[:1] == b"{" else text, dict(answer.getheaders())
        finally:
            connection.close()

    def audit(self, phase):
        return [line for line in map(json.loads, (self.host.state / "audit.log").read_text().splitlines())
                if line["phase"] == phase]


@pytest.fixture
def api(tmp_path):
    api = Remote(tmp_path / "host")
    api.host.start()
    yield api
    api.host.stop()


def test_each_scope_allows_what_it_says_and_nothing_more(api):
    tokens = {scope: api.token(f"for-{scope}", scope) for scope in ("read", "push", "admin")}
    push = {"release": "nothing", "vms": ["nobody"]}
    vm = {"name": "v", "agent": "/run/v"}
    wanted = {  # (method, path, body): the status for read, push, admin
        ("GET", "/v1/status", None): (200, 200, 200),
        ("GET", "/metrics", None): (200, 200, 200),
        ("GET", "/v1/nothing", None): (404, 404, 404),
        ("POST", "/v1/pushes", json.dumps(push)): (403, 404, 404),
        ("POST", "/v1/vms/nobody/rollback", "{}"): (403, 404, 404),
        ("DELETE", "/v1/vms/nobody", None): (403, 403, 404),
        ("POST", "/v1/vms", json.dumps(vm)): (403, 403, 201),
        ("GET", "/v1/tokens", None): (403, 403, 200),
        ("POST", "/v1/tokens", json.dumps({"name": "more", "scope": "read"})): (403, 403, 201),
    }
    for (method, path, body), statuses in wanted.items():
        for scope, status in zip(tokens, statuses):
            got = api.far(method, path, tokens[scope], body and json.loads(body))
            assert got[0] == status, (scope, method, path, got)
    assert "scope \"admin\"" in api.far("GET", "/v1/tokens", tokens["push"])[1]["error"]["text"]
    added = [line for line in api.audit("answered") if line["route"] == "/v1/vms"]
    assert [line["who"]["token"] for line in added] == ["for-admin"] and added[0]["who"]["door"] == "tls"


def test_who_has_no_valid_token_learns_nothing_and_is_on_record(api):
    revoked, expired = api.token("old"), api.token("short", expires_s=1)
    api.request("DELETE", "/v1/tokens/old")
    while api.get("/v1/tokens")["tokens"][1]["state"] != "expired":
        pass  # it answers with its own clock
    for token in (None, "", "x" * 200, "0" * 48, revoked, expired):
        for path in ("/v1/status", "/v1/no-such-path"):
            status, answer, headers = api.far("GET", path, token)
            assert (status, headers.get("WWW-Authenticate")) in ((401, 'Bearer realm="moultd"'), (429, None)), (token, path)
            assert answer["error"]["code"] == "untrusted"
    denied = api.audit("denied")
    assert denied[0]["path"] == "/v1/status" and denied[0]["who"]["address"].startswith("127.0.0.1:")
    assert {"old", "short", None} >= {line["who"]["token"] for line in denied}
    # None of it locks out the holders of valid ones.
    assert api.far("GET", "/v1/status", api.token("good"))[0] == 200


def test_failures_are_limited_and_valid_tokens_are_not(api):
    good = api.token()
    statuses = [api.far("GET", "/v1/status", "0" * 48)[0] for _ in range(25)]
    assert statuses[:10] == [401] * 10 and 429 in statuses
    assert api.far("GET", "/v1/status", "0" * 48)[2].get("Retry-After", "5") == "5"
    assert len(api.audit("denied")) < 25
    assert api.far("GET", "/v1/status", good)[0] == 200


def test_a_revoked_token_ends_its_open_streams(api):
    token = api.token()
    connection = api.connect()
    connection.request("GET", "/v1/events?after=0", headers={"Authorization": "Bearer " + token.split(":")[-1]})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.readline().startswith(b":")
    api.request("DELETE", "/v1/tokens/ci")
    with pytest.raises((http.client.IncompleteRead, OSError)):
        answer.read()
        raise OSError("the stream has ended")


def test_only_digests_are_kept_and_names_are_not_given_twice(api):
    token = api.token("ci", "push", expires_s=3600)
    secret = token.split(":")[2]
    assert re.fullmatch("moult-api1:[0-9a-f]{64}:[0-9a-f]{48}", token)
    assert token.split(":")[1] == api.get("/v1/status")["tls_fingerprint"]
    for path in api.host.state.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    listed = api.get("/v1/tokens")["tokens"][0]
    assert (listed["name"], listed["scope"], listed["state"]) == ("ci", "push", "valid") and listed["expires"]
    assert api.request("POST", "/v1/tokens", {"name": "ci", "scope": "read"})[0] == 409
    assert api.request("DELETE", "/v1/tokens/ci")[0] == 200
    assert api.request("DELETE", "/v1/tokens/ci")[0] == 409
    assert "was an API token ci" in api.request("POST", "/v1/tokens", {"name": "ci", "scope": "read"})[1]["error"]["text"]
    assert api.request("POST", "/v1/tokens", {"name": "x", "scope": "root"})[0] == 400


def test_a_repeated_request_does_not_show_the_secret_again(api):
    first = api.post("/v1/tokens", {"name": "a", "scope": "read"}, 201, key="k")
    again = api.post("/v1/tokens", {"name": "a", "scope": "read"}, 201, key="k")
    assert first["secret"] and again["secret"] is None and again["token"] == first["token"]


def test_old_tls_plain_http_and_noise_get_no_answer(api):
    assert api.far("GET", "/v1/status")[0] == 401
    with pytest.raises((OSError, http.client.HTTPException)):
        connection = api.connect((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2))
        connection.request("GET", "/v1/status")
        connection.getresponse()
    for noise in (b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(4096)):
        with socket.create_connection(("127.0.0.1", api.port), timeout=api_tests.DEADLINE_S) as s:
            try:
                s.sendall(noise)
                assert b"HTTP/" not in s.recv(65536)
            except ConnectionError:
                pass
    assert api.far("GET", "/v1/status", api.token())[0] == 200


@pytest.mark.parametrize("headers", [{"X-Long": "x" * 2_000_000}, {f"X-{i}": "y" * 100 for i in range(20_000)},
                                     {"Authorization": "Bearer " + "z" * 1_000_000}],
                         ids=["one long", "many", "a long token"])
def test_headers_without_end_are_cut_off(api, headers):
    token = api.token()
    before = resident(api)
    status = None
    connection = api.connect()
    try:
        connection.request("GET", "/v1/status", headers=headers)
        status = connection.getresponse().status
    except OSError:
        pass
    assert status in (None, 400, 401, 413, 431)
    assert resident(api) - before < 64 << 20
    assert api.far("GET", "/v1/status", token)[0] == 200


def resident(api):
    return int(pathlib.Path(f"/proc/{api.host.process.pid}/statm").read_text().split()[1]) * 4096


def test_strangers_who_only_connect_do_not_lock_others_out(api):
    token = api.token()
    crowd = [socket.create_connection(("127.0.0.1", api.port)) for _ in range(40)]
    assert api.far("GET", "/v1/status", token)[0] == 200
    idle = [api.connect() for _ in range(66)]
    for connection in idle:
        connection.connect()
    assert api.far("GET", "/v1/status", token)[0] == 200
    assert api.get("/v1/status")["service"] == "moultd"
    for s in crowd + idle:
        s.close()


# --- the command


def command(api, *words, token=None, port=None, environment=None):
    words = [str(moult.MOULT), *words, "--host", f"127.0.0.1:{port or api.port}"]
    if token:
        words += ["--token-file", str(token)]
    return subprocess.run(words, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          env=os.environ | {"HOME": str(api.host.dir), "XDG_CONFIG_HOME": ""} | (environment or {}))


def test_the_command_uses_a_token_file(api):
    path = api.host.dir / "ci.token"
    api.host.moult("token", "new", "--name", "ci", "--scope", "push", "--expires", "90d", "--out", path)
    assert path.stat().st_mode & 0o777 == 0o600
    api.add_vm("web-1")
    done = command(api, "vm", "list", "--json", token=path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["name"] == "web-1"
    done = command(api, "vm", "remove", "web-1", token=path)
    assert done.returncode == 9 and 'scope "admin"' in done.stderr
    by_environment = subprocess.run([moult.MOULT, "status", "--json"], check=True, capture_output=True, text=True,
                                    env=os.environ | {"MOULT_HOST": f"127.0.0.1:{api.port}", "MOULT_TOKEN_FILE": str(path)})
    assert json.loads(by_environment.stdout)["service"] == "moultd"
    assert [t["name"] for t in api.host.json("token", "list")] == ["ci"]
    api.host.moult("token", "revoke", "ci")
    done = command(api, "status", token=path)
    assert done.returncode == 9 and "revoked" in done.stderr


def test_the_command_does_not_send_its_token_to_another_host(api, tmp_path):
    path = api.host.dir / "ci.token"
    api.host.moult("token", "new", "--name", "ci", "--scope", "read", "--out", path)
    other = Remote(tmp_path / "other")
    with other.host:
        done = command(api, "status", token=path, port=other.port)
        assert done.returncode == 9 and "another key" in done.stderr, done.stderr
        assert not (other.host.state / "audit.log").read_text()  # no request came


def test_token_files_that_are_no_good_are_refused(api, tmp_path):
    path = tmp_path / "token"
    assert command(api, "status", token=path).returncode == 2
    for text in ("", "nonsense", "moult-api1:abc:def", "moult1:" + "0" * 64 + ":abc", "moult-api1:" + "0" * 64 + ":a b"):
        path.write_text(text)
        path.chmod(0o600)
        done = command(api, "status", token=path)
        assert done.returncode == 2 and "holds no API token" in done.stderr, text
    path.write_text(api.token())
    path.chmod(0o644)
    done = command(api, "status", token=path)
    assert done.returncode == 2 and "can be read by others" in done.stderr
    assert command(api, "status", port=moult.free_port(), token=path).returncode == 2
    path.chmod(0o600)
    assert command(api, "status", port=moult.free_port(), token=path).returncode == 11


def test_a_new_token_never_overwrites_a_file(api):
    path = api.host.dir / "there"
    path.write_text("precious")
    code, _, err = api.host.run("token", "new", "--name", "ci", "--scope", "read", "--out", path)
    assert code != 0 and "File exists" in err and path.read_text() == "precious"
    assert api.get("/v1/tokens")["tokens"] == []
    for words in (["--name", "ci"], ["--scope", "read"], ["--name", "ci", "--scope", "read", "--expires", "soon"]):
        assert api.host.run("token", "new", *words)[0] == 2
