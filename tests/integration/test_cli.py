"""moult as the client of a real moultd: every command, every exit code that needs no guest, restarts in the middle."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import moult  # noqa: E402
import trees  # noqa: E402

OK, USAGE, NOT_FOUND, UNREACHABLE, PARTIAL, CONFLICT, UNTRUSTED, NO_DAEMON, CANCELLED, CORRUPT = (
    0, 2, 3, 6, 7, 8, 9, 11, 12, 13)


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """(directory of trusted keys, {version: pack}, an unsigned pack)"""
    directory = tmp_path_factory.mktemp("packs")
    host = moult.Host(directory)
    host.new_key()
    trees.write(directory / "tree", "srv/app/version", "1\n")
    built = {v: host.build(directory / "tree", version=v) for v in ("1", "2~rc1", "2", "10")}
    return host.trust, built, host.build(directory / "tree", version="0", key=None)


@pytest.fixture
def host(tmp_path, packs):
    h = moult.Host(tmp_path)
    for key in packs[0].iterdir():
        (h.trust / key.name).write_bytes(key.read_bytes())
    with h:
        yield h


def silent_vm(host, name="web-1"):
    """A VM whose agent never answers."""
    host.moult("vm", "add", name, "--qmp", host.dir / f"{name}.qmp", "--agent", host.dir / f"{name}.agent")
    return name


def commands():
    """Every command with its words, from the help texts, and its own help."""
    found, pending = {}, [()]
    while pending:
        words = pending.pop()
        done = subprocess.run([str(moult.MOULT), *words, "--help"], check=True, capture_output=True, text=True)
        listed = re.search(r"^Commands:\n((?:  .*\n)+)", done.stdout, re.MULTILINE)
        for line in listed.group(1).splitlines() if listed else []:
            pending.append((*words, line.split()[0]))
        found[words] = done.stdout
    return found


def test_every_command_and_option_is_in_the_manual():
    manual = (moult.TOP / "docs/man/moult.1").read_text()
    plain = subprocess.run(["mandoc", "-T", "utf8", str(moult.TOP / "docs/man/moult.1")], check=True,
                           capture_output=True, text=True).stdout
    plain = re.sub(".\b", "", plain)
    known, missing = commands(), []
    assert len(known) >= 25
    for words, text in known.items():
        for word in words:
            assert re.search(rf"\b{word}\b", plain), words
        for option in re.findall(r"--([a-z][a-z-]+)", text.split("Options of every command:")[0]):
            if not re.search(rf"Fl (\w , )?-{option}\b|, (Fl )?-{option}\b", manual):
                missing.append(f"{' '.join(words)} --{option}")
    assert missing == []


def test_a_life_with_one_vm_and_releases(host, packs):
    assert host.json("vm", "list") == []
    silent_vm(host)
    vm = host.json("vm", "show", "web-1")
    assert (vm["name"], vm["connected"], vm["agent"]) == ("web-1", False, str(host.dir / "web-1.agent"))
    for pack in packs[1].values():
        host.moult("release", "import", pack)
    assert [r["version"] for r in host.json("release", "list")] == ["10", "2", "2~rc1", "1"]
    shown = host.json("release", "show", "app=2", "--entries")
    assert [e["path"] for e in shown["entries"]] == ["srv", "srv/app", "srv/app/version"]
    assert host.json("release", "show", "app")["version"] == "10", "the highest, where none is named"
    assert "every content has its digest" in host.moult("release", "verify", "app=2")
    host.moult("release", "remove", "app=2")
    host.moult("vm", "remove", "web-1")
    assert host.json("status")["releases"] == 3


def test_an_import_is_the_same_twice_and_relative_paths_are_ours(host, packs):
    pack = packs[1]["1"]
    done = subprocess.run([str(moult.MOULT), "release", "import", pack.name], check=False, cwd=pack.parent, text=True,
                          capture_output=True, env=os.environ | {"MOULT_SOCKET": str(host.socket)})
    assert done.returncode == OK and "now in moultd" in done.stdout, done.stderr
    assert "already in moultd" in host.moult("release", "import", pack)


def test_every_format_says_the_same(host, packs):
    silent_vm(host)
    host.moult("release", "import", packs[1]["1"])
    for words in (["vm", "list"], ["vm", "show", "web-1"], ["release", "list"], ["release", "show", "app", "--entries"],
                  ["jobs", "--all"]):
        as_json = json.loads(host.moult(*words, "--format", "json"))
        assert yaml.safe_load(host.moult(*words, "--format=yaml")) == as_json, words
        assert json.loads(host.moult("--json", *words)) == as_json, words
        assert host.moult(*words) == host.moult(*words, "--format", "table")


@pytest.mark.parametrize("words, code, text", [
    (["vm", "show", "nope"], NOT_FOUND, "nope"),
    (["vm", "remove", "nope"], NOT_FOUND, "nope"),
    (["vm", "show"], USAGE, "needs NAME"),
    (["vm", "show", "a", "b"], USAGE, "takes no argument 'b'"),
    (["vm", "show", "../x"], NOT_FOUND, "no such path"),
    (["vm", "show", "a?b=c"], USAGE, "name"),
    (["vm", "show", "a/history"], NOT_FOUND, "no such path"),
    (["vm", "wait"], USAGE, "needs NAME"),
    (["vm", "wait", "web-1", "nope"], NOT_FOUND, "nope"),
    (["vm", "wait", "web-1", "--timeout", "0"], UNREACHABLE, "moult doctor web-1"),
    (["vm", "wait", "web-1", "--timeout", "1h"], USAGE, "--timeout"),
    (["vm", "add", "web-2"], USAGE, "--agent"),
    (["vm", "add", "web-2", "--agent", "x", "--token"], USAGE, "--network"),
    (["vm", "add", "bad name", "--agent", "x"], USAGE, "name"),
    (["vm", "add", "web-1", "--agent", "other"], CONFLICT, "web-1"),
    (["vm", "add", "x" * 65, "--agent", "x"], USAGE, "64"),
    (["vm", "add", "web-2", "--agent", "x" * 200], USAGE, "agent"),
    (["release", "import", "{dir}/nothing"], NOT_FOUND, "nothing"),
    (["release", "import", "{unsigned}"], UNTRUSTED, "not signed"),
    (["release", "import", "/etc/passwd"], CORRUPT, "passwd"),
    (["release", "import", "/etc"], None, "etc"),
    (["release", "show", "nope"], NOT_FOUND, "nope"),
    (["release", "show", "app=99"], NOT_FOUND, "99"),
    (["release", "verify", "app=99"], NOT_FOUND, "99"),
    (["release", "remove", "app"], USAGE, "app=VERSION"),
    (["release", "remove", "app=99"], NOT_FOUND, "99"),
    (["release", "show", "app="], USAGE, "NAME=VERSION"),
    (["push", "app"], USAGE, "VM"),
    (["push", "nope", "web-1"], NOT_FOUND, "nope"),
    (["push", "app=99", "web-1"], NOT_FOUND, "99"),
    (["push", "app", "nope"], NOT_FOUND, "nope"),
    (["push", "app", "web-1", "web-1"], USAGE, "web-1"),
    (["push", "app", "web-1", "--transport", "pigeon"], USAGE, "ivshmem"),
    (["push", "app", "web-1", "--sync", "never"], USAGE, "gentle"),
    (["push", "app", "web-1", "--confirm-timeout", "soon"], USAGE, "1m30s"),
    (["push", "app", "web-1", "--confirm-timeout", "1ms"], USAGE, "confirm_timeout_ms"),
    (["push", "app", "web-1", "--wait", "--detach"], USAGE, "exclude"),
    (["push", "app", "web-1", "--dryrun"], USAGE, "--dry-run"),
    (["push", "app", "web-1", "--detach", "--idempotency-key", "a\nb"], USAGE, "printable"),
    (["rollback"], USAGE, "VM"),
    (["rollback", "nope"], NOT_FOUND, "nope"),
    (["rollback", "web-1", "--generation", "x"], USAGE, "--generation"),
    (["rollback", "web-1", "--generation", "-1"], USAGE, "--generation"),
    (["jobs", "show", "x"], USAGE, "id"),
    (["jobs", "show", "0" * 26], NOT_FOUND, "0" * 26),
    (["jobs", "wait", "0" * 26], NOT_FOUND, "0" * 26),
    (["jobs", "cancel", "0" * 26], NOT_FOUND, "0" * 26),
    (["jobs", "shwo", "x"], USAGE, "did you mean 'show'?"),
    (["history", "nope"], NOT_FOUND, "nope"),
    (["history", "web-1"], UNREACHABLE, "web-1"),
    (["events", "--after", "x"], USAGE, "--after"),
    (["pusch", "app", "web-1"], USAGE, "did you mean 'push'?"),
    (["--format", "xml", "status"], USAGE, "table, json, yaml"),
    ([], USAGE, "needs a command"),
])
def test_mistakes_have_a_code_and_a_reason(tmp_path_factory, shared_host, packs, words, code, text):
    host = shared_host
    words = [w.format(dir=host.dir, unsigned=packs[2]) if "{" in w else w for w in words]
    done, out, err = host.run(*words)
    assert text in err, err
    assert done == code if code is not None else done not in (OK, 1), err
    assert "Traceback" not in err and "Sanitizer" not in err
    assert err.startswith("moult: ") or "\nmoult: " in err
    assert host.json("jobs") == [], "nothing was started"


@pytest.fixture(scope="module")
def shared_host(tmp_path_factory, packs):
    h = moult.Host(tmp_path_factory.mktemp("shared"))
    for key in packs[0].iterdir():
        (h.trust / key.name).write_bytes(key.read_bytes())
    with h:
        silent_vm(h)
        h.moult("release", "import", packs[1]["1"])
        yield h


def test_without_a_daemon_it_says_so(tmp_path):
    host = moult.Host(tmp_path)
    for words in (["status"], ["vm", "list"], ["push", "a", "b"], ["events", "--follow"], ["jobs", "wait", "0" * 26]):
        code, out, err = host.run(*words)
        assert (code, out) == (NO_DAEMON, ""), words
        assert str(host.socket) in err and "is it running" in err
    host.socket.write_bytes(b"")
    assert host.run("status")[0] == NO_DAEMON
    code, _, err = host.run("status", "--json")
    assert json.loads(err)["error"]["code"] == "no-daemon" and code == NO_DAEMON


def answer_with(path, answer):
    """Somebody else on moultd's socket, who always gives the same answer."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(16)

    def serve():
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                peer.recv(65536)
                peer.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return server


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"7", b'{"vms": 3}', b'{"vms": {"a": 1}}', b'"\xff"',
                                  b'{"operation": []}', b"[" * 5000])
def test_an_answer_that_makes_no_sense_is_an_error_and_no_crash(tmp_path, body):
    host = moult.Host(tmp_path)
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with answer_with(host.socket, head % len(body) + body):
        for words in (["vm", "list"], ["vm", "show", "a"], ["status"], ["release", "show", "a"], ["push", "a", "b"],
                      ["jobs"], ["jobs", "show", "x"], ["history", "a"]):
            code, _, err = host.run(*words)
            assert code in (OK, NO_DAEMON, NOT_FOUND, UNREACHABLE), (words, err)
            assert "Sanitizer" not in err and "CRITICAL" not in err, (words, err)


def test_a_guest_cannot_write_on_the_operators_terminal(tmp_path):
    host = moult.Host(tmp_path)
    vm = {"name": "web\x1b]0;owned\x07-1", "hostname": "a\nweb-2  yes", "connected": True}
    body = json.dumps({"vms": [vm]}).encode()
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with answer_with(host.socket, head + body):
        out = host.moult("vm", "list")
    assert "\x1b" not in out and "\x07" not in out
    assert len(out.splitlines()) == 2


def test_the_same_key_is_the_same_push(host, packs):
    vm = silent_vm(host)
    host.moult("release", "import", packs[1]["1"])
    first = host.json("push", "app", vm, "--detach", "--idempotency-key", "monday")
    again = host.json("push", "app", vm, "--detach", "--idempotency-key", "monday")
    other = host.json("push", "app", vm, "--detach")
    assert first["id"] == again["id"] != other["id"]
    assert len(host.json("jobs")) == 2


def test_a_push_without_a_guest_can_be_cancelled_and_its_end_is_told(host, packs):
    vm = silent_vm(host)
    host.moult("release", "import", packs[1]["1"])
    job = host.json("push", "app", vm, "--detach")["id"]
    waiting = host.spawn("jobs", "wait", job, "--progress", "plain")
    for line in waiting.stdout:  # it follows now
        if "connecting" in line:
            break
    host.moult("jobs", "cancel", job)
    text = waiting.stdout.read()
    assert waiting.wait(60) == CANCELLED, text
    assert f"{vm}: cancelled" in text
    assert host.json("jobs") == [] and len(host.json("jobs", "--all")) == 2
    assert host.run("jobs", "wait", job)[0] == CANCELLED, "also long after"


def test_ctrl_c_stops_the_waiting_and_not_the_push(host, packs):
    vm = silent_vm(host)
    host.moult("release", "import", packs[1]["1"])
    waiting = host.spawn("push", "app", vm, "--progress", "plain")
    for line in waiting.stdout:
        if "connecting" in line:
            break
    waiting.send_signal(signal.SIGINT)
    text = waiting.stdout.read()
    assert waiting.wait(60) == CANCELLED
    job = re.search(r"moult jobs wait (\S+?)'", text).group(1)
    assert [j["id"] for j in host.json("jobs")] == [job]


def test_waiting_outlives_the_daemon(host, packs):
    """moultd is killed and started again, twice; the command that waits tells the end."""
    vm = silent_vm(host)
    host.moult("release", "import", packs[1]["1"])
    job = host.json("push", "app", vm, "--detach")["id"]
    waiting = host.spawn("jobs", "wait", job, "--progress", "plain")
    for sign in ("connecting", "answers again"):
        for line in waiting.stdout:
            if sign in line:
                break
        host.kill()
        for line in waiting.stdout:
            if "does not answer" in line:
                break
        host.start()
    host.moult("jobs", "cancel", job)
    text = waiting.stdout.read()
    assert waiting.wait(60) == CANCELLED, text


def test_waiting_needs_no_event_stream(host, packs):
    """All of moultd's streams are taken: the command asks now and then instead, and tells the end."""
    vm = silent_vm(host)
    host.moult("release", "import", packs[1]["1"])
    streams, answer = [], b"200 OK"
    while b"200 OK" in answer:
        streams.append(socket.socket(socket.AF_UNIX))
        streams[-1].connect(str(host.socket))
        streams[-1].sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = streams[-1].recv(4096)
    assert b"409 Conflict" in answer and len(streams) > 32, answer
    waiting = host.spawn("push", "app", vm)
    while not (jobs := host.json("jobs")):
        pass
    host.moult("jobs", "cancel", jobs[0]["id"])
    text = waiting.stdout.read()
    assert waiting.wait(60) == CANCELLED, text
    assert f"{vm}: cancelled" in text
    for s in streams:
        s.close()


def test_events_have_no_gap_across_a_restart(host):
    follower = host.spawn("events", "--follow", "--after", "0", "--json")
    for n in range(1, 4):
        silent_vm(host, f"a{n}")
    host.kill()
    host.start()
    for n in range(1, 4):
        silent_vm(host, f"b{n}")
    seen = []
    for line in follower.stdout:
        seen.append(json.loads(line))
        if seen[-1]["vm"] == "b3":
            break
    follower.send_signal(signal.SIGINT)
    assert follower.wait(60) == OK, "ending it is how it ends"
    assert [e["seq"] for e in seen] == list(range(1, len(seen) + 1))
    added = [e["vm"] for e in seen if e["type"] == "vm.added"]
    assert added == ["a1", "a2", "a3", "b1", "b2", "b3"]
    assert [e["seq"] for e in map(json.loads, host.moult("events", "--json").splitlines())] == [e["seq"] for e in seen]
    assert len(host.moult("events", "--after", str(seen[-2]["seq"])).splitlines()) == 1
    assert host.moult("events", "--after", str(seen[-1]["seq"])) == ""


def test_a_reader_that_leaves_is_no_error(host):
    for n in range(5):
        silent_vm(host, f"vm{n}")
    done = subprocess.run(f'"{moult.MOULT}" events --follow --after 0 --json | head -1; echo "${{PIPESTATUS[0]}}"',
                          check=True, shell=True, executable="/bin/bash", capture_output=True, text=True,
                          env=os.environ | {"MOULT_SOCKET": str(host.socket)})
    assert done.stdout.splitlines()[-1] == "0", done.stderr
    assert done.stderr == ""


def test_labels_are_set_taken_off_and_select(host):
    for name, label in (("a", "role=web"), ("b", "role=web"), ("c", "role=db")):
        host.moult("vm", "add", name, "--network", "--label", label, "--label", "site=x")
    assert host.json("vm", "set", "b", "--label", "site=y", "--no-label", "role")["labels"] == {"site": "y"}
    assert [vm["name"] for vm in host.json("vm", "list", "--label", "role=web")] == ["a"]
    assert [vm["name"] for vm in host.json("vm", "list", "--label", "site=x", "--label", "role=db")] == ["c"]
    assert "No VM has these labels" in host.moult("vm", "list", "--label", "role=none")
    assert "role=web site=x" in host.moult("vm", "show", "a")
    for words in (["--label", "role"], ["--label", "a=1", "--label", "a=2"], []):
        code, _, err = host.run("vm", "set", "a", *words)
        assert code == USAGE, err
    code, _, err = host.run("vm", "set", "a", "--label", "role=a b")
    assert "KEY=VALUE" in err and code == USAGE
    assert host.json("vm", "show", "a")["labels"] == {"role": "web", "site": "x"}


def test_several_vms_that_end_alike_and_not_alike(host, packs):
    for name in ("a", "b"):
        silent_vm(host, name)
    host.moult("release", "import", packs[1]["1"])
    job = host.json("push", "app", "a", "b", "--detach")
    host.moult("jobs", "cancel", job["id"])
    code, out, _ = host.run("jobs", "wait", job["id"])
    assert code == CANCELLED and "a: cancelled" in out and "b: cancelled" in out


@pytest.mark.parametrize("typed, wanted", [
    ("moult ", {"drift", "push", "rollout", "rollback", "status", "fleet", "jobs", "history", "events", "vm", "release", "store",
               "key", "doctor", "token", "help", "template", "snapshot"}),
    ("moult snapshot ", {"create", "export", "list", "merge", "mount", "mounts", "prune", "remove", "rollback", "schedule", "unmount", "upload", "verify"}),
    ("moult re", {"release"}),
    ("moult release ", {"apply", "build", "import", "list", "show", "verify", "remove", "capture"}),
    ("moult jobs ca", {"cancel"}),
    ("moult jobs --a", {"--all"}),
    ("moult push --tr", {"--transport"}),
    ("moult push app --transport iv", {"ivshmem"}),
    ("moult push app --transport pm", {"pmem"}),
    ("moult release build --de", {"--delta-from", "--delta-level", "--description", "--delivery"}),
    ("moult push ", {"app"}),
    ("moult push app ", {"web-1"}),
    ("moult vm remove ", {"web-1"}),
])
def test_the_shell_completes_what_the_program_knows(shared_host, typed, wanted):
    script = ('. "$1"; COMP_WORDS=($2); [[ $2 == *" " ]] && COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); '
              '_moult; printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-c", script, "bash", str(moult.TOP / "docs/moult.bash-completion"), typed],
                          check=True, capture_output=True, text=True,
                          env=os.environ | {"MOULT_SOCKET": str(shared_host.socket),
                                            "PATH": f"{moult.MOULT.parent}:{os.environ['PATH']}"})
    assert set(done.stdout.split()) == wanted, done.stderr
