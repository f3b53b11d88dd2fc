"""The shared store as a whole, as a directory and as a bucket: what `moult store verify --shared` finds."""

import json
import pathlib
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/support"), str(TOP / "tests/integration")]

import moult  # noqa: E402
from share_lab import bucket, s3_host, settings, swift, tree, trust  # noqa: E402, F401


class Directory:
    """The same few calls as s3_client.S3 has."""

    def __init__(self, path):
        self.path = path

    def keys(self):
        return sorted(str(p.relative_to(self.path)) for p in self.path.rglob("*") if p.is_file())

    def get(self, key):
        return (self.path / key).read_bytes()

    def put(self, key, data):
        (self.path / key).parent.mkdir(parents=True, exist_ok=True)
        (self.path / key).unlink(missing_ok=True)
        (self.path / key).write_bytes(data)

    def delete(self, key):
        (self.path / key).unlink()


class Bucket:
    def __init__(self, s3):
        self.s3 = s3

    def keys(self):
        return sorted(k.removeprefix("moult/") for k in self.s3.keys("moult/"))

    def get(self, key):
        return self.s3.get("moult/" + key)

    def put(self, key, data):
        self.s3.put("moult/" + key, data)

    def delete(self, key):
        self.s3.delete("moult/" + key)


class Lab:
    """Hosts that share a store."""

    def __init__(self, tmp_path, bucket):
        self.tmp_path, self.s3 = tmp_path, bucket
        self.store = Bucket(bucket) if bucket else Directory(tmp_path / "shared")

    def host(self, name, port=None):
        if self.s3:
            return s3_host(self.tmp_path / name, self.s3, port)
        h = moult.Host(self.tmp_path / name)
        settings(h, f"shared-store={self.tmp_path / 'shared'}\n")
        return h

    def chunks(self):
        return [k for k in self.store.keys() if k.startswith("chunks/")]


@pytest.fixture(params=["directory", "s3"])
def lab(request, tmp_path):
    return Lab(tmp_path, request.getfixturevalue("bucket") if request.param == "s3" else None)


def shared_verify(host, code=0):
    got, out, err = host.run("store", "verify", "--shared", "--json")
    assert got == code, (got, out, err)
    return json.loads(out)["result"]


def test_what_is_damaged_in_the_shared_store_is_found_and_a_push_puts_back_what_is_missing(lab):
    with lab.host("a") as a:
        a.new_key()
        assert shared_verify(a)["releases"] == 0, "a store that nobody has pushed to is whole"
        a.release(tree(lab.tmp_path / "t1"), version="1")
        a.release(tree(lab.tmp_path / "t2", changed=2), version="2")
        a.moult("store", "push", "app=1")
        chunks_of_1 = lab.chunks()
        a.moult("store", "push", "app=2")
        only_2 = [k for k in lab.chunks() if k not in chunks_of_1]
        result = shared_verify(a)
        assert result["findings"] == [] and result["unnamed"] == 0
        assert (result["releases"], result["chunks"]) == (2, len(lab.chunks()))
        assert "everything is whole" in a.moult("store", "verify", "--shared")

        # A chunk of both is away, one of 2 has the bytes of another, one more belongs to nothing.
        list_of_2 = lab.store.get("releases/app/2.caibx")
        missing = next(k for k in chunks_of_1 if bytes.fromhex(pathlib.Path(k).stem) in list_of_2)
        damaged = only_2[0]
        lab.store.delete(missing)
        lab.store.put(damaged, lab.store.get(chunks_of_1[0]))
        lab.store.put("chunks/0000/" + "0" * 64 + ".cacnk", b"whatever")
        lab.store.put("releases/app/3.caibx", b"no list at all" * 20)
        before = {k: lab.store.get(k) for k in lab.store.keys()}
        result = shared_verify(a, 13)
        found = {f["file"]: f for f in result["findings"]}
        assert {k: f["kind"] for k, f in found.items()} == {
            missing: "chunk-missing", damaged: "chunk-damaged", "releases/app/3.caibx": "list-damaged"}
        assert (found[damaged]["release"], found[damaged]["version"]) == ("app", "2")
        assert (found["releases/app/3.caibx"]["version"]) == "3"
        assert result["unnamed"] == 1
        assert found[missing]["version"] == "1" and "also of app 2" in found[missing]["text"]
        assert {k: lab.store.get(k) for k in lab.store.keys()} == before, "nothing is changed"
        words = a.run("store", "verify", "--shared")[1]
        assert missing in words and "moult store push" in words and "3 findings" in words
        assert "store-damaged" in a.log_text(10**6)

        # What it says to do helps.
        lab.store.delete(damaged)
        lab.store.delete("releases/app/3.caibx")
        for version in "12":
            assert a.json("store", "push", f"app={version}")["result"]["already_there"]
        assert shared_verify(a)["findings"] == []
    with lab.host("b") as b:
        trust(b, a)
        b.moult("store", "pull", "app=2")
        assert b.json("store", "verify")["result"]["findings"] == []


def test_many_objects_are_listed_page_by_page(bucket, tmp_path):
    """More than the server tells at once."""
    lab = Lab(tmp_path, bucket)
    for i in range(43):
        lab.store.put(f"chunks/{i:04x}/{i:04x}{i:060x}.cacnk", b"")
    with lab.host("a") as a:
        assert shared_verify(a)["unnamed"] == 43


def test_a_host_without_a_shared_store_says_so(tmp_path):
    h = moult.Host(tmp_path / "a")
    settings(h, "shared-store=none\n")
    with h:
        code, _, err = h.run("store", "verify", "--shared")
        assert code != 0 and "no shared store" in err
