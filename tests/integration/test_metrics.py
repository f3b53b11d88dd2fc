"""What moultd tells Prometheus; the dashboard and the alert rules ask for nothing that is not there."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from prometheus_client import parser

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import moult  # noqa: E402
import test_moultd_api as api_tests  # noqa: E402

TOP = pathlib.Path(__file__).resolve().parents[2]
MONITORING = TOP / "docs/monitoring"
# Prometheus's own, not ours.
FOREIGN = {"up"}


class Page:
    """One answer of GET /metrics, read by Prometheus's own parser."""

    def __init__(self, api):
        connection = moult.Connection(api.host.socket)
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
        self.text = answer.read().decode()
        connection.close()
        self.families = {f.name: f for f in parser.text_string_to_metric_families(self.text)}
        self.samples = [s for f in self.families.values() for s in f.samples]

    def value(self, name, **labels):
        found = [s.value for s in self.samples if s.name == name and s.labels == labels]
        assert len(found) == 1, (name, labels, found)
        return found[0]

    def labels(self):
        """Sample name -> names of its labels."""
        table = {}
        for s in self.samples:
            table.setdefault(s.name, set()).update(s.labels)
        return table


@pytest.fixture
def api(tmp_path):
    api = api_tests.Api(tmp_path / "host")
    api.host.start()
    yield api
    api.host.stop()


def test_the_page_shows_the_state_and_what_has_been_asked(api):
    api.add_vm("web-1")
    api.get("/v1/vms/nobody", 404)
    api.request("BREW", "/coffee/pot-17")
    page = Page(api)
    assert page.value("moult_vms") == 1
    assert page.value("moult_vms_connected", transport="virtio-serial") == 0
    assert page.value("moult_pushes_unfinished", state="queued") == 0
    assert page.value("moult_pushes_total", kind="push", result="failed") == 0
    assert page.value("moult_api_requests_total", method="POST", route="/v1/vms", code="201") == 1
    assert page.value("moult_api_requests_total", method="GET", route="/v1/vms/{name}", code="404") == 1
    assert page.value("moult_api_requests_total", method="other", route="other", code="404") == 1
    assert page.value("moult_api_connections") >= 1
    assert page.value("moult_state_free_bytes") > 0
    assert page.value("moult_event_loop_lag_seconds_count") > 0
    assert page.value("process_resident_memory_bytes") > 1 << 20
    assert "web-1" not in page.text and "coffee" not in page.text, "labels of unbounded sets"
    # What was asked for a second time is counted on.
    assert Page(api).value("moult_api_requests_total", method="GET", route="/metrics", code="200") == 1


def test_a_push_that_ends_is_counted_once(api, tmp_path):
    api.host.new_key()
    assert api.import_pack(api_tests.make_pack(api, tmp_path))["state"] == "succeeded"
    api.add_vm("web-1")
    operation = api.post("/v1/pushes", {"release": "app", "vms": ["web-1"]})["operation"]["id"]
    api.post(f"/v1/operations/{operation}/cancel")
    api.wait(operation)
    for _ in range(2):
        page = Page(api)
        assert page.value("moult_pushes_total", kind="push", result="cancelled") == 1
        assert page.value("moult_push_duration_seconds_count") == 1
        assert page.value("moult_log_events_total", event="push-not-done", level="notice") == 1
        assert page.value("moult_releases") == 1 and page.value("moult_store_bytes") > 0


def expressions():
    """(where, expression) of the dashboard and the rules."""
    dashboard = json.loads((MONITORING / "moult-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]
    for group in yaml.safe_load((MONITORING / "moult-alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert {"severity"} <= rule["labels"].keys() and {"summary", "action"} <= rule["annotations"].keys(), rule
            yield rule["alert"], rule["expr"]


def asked_for(expression):
    """(metric, labels that it is selected by) of a PromQL expression."""
    for name, selector in re.findall(r"\b((?:moult|process)_[a-z_]+|up\b)(?:\{([^}]*)\})?", expression):
        yield name, set(re.findall(r'([a-z_]+)(?:=~|!=|!~|=)"', selector or "")) - {"instance", "job"}


def test_the_dashboard_and_the_rules_ask_only_for_what_is_exported(api):
    api.get("/v1/status")
    labels = Page(api).labels()
    labels.setdefault("moult_log_events_total", {"event", "level"})  # nothing was logged yet
    checked = 0
    for where, expression in expressions():
        for name, wanted in asked_for(expression):
            if name not in FOREIGN:
                assert name in labels, f"{where}: {name} is not exported"
                assert wanted <= labels[name], f"{where}: {name} has no label {wanted - labels[name]}"
            checked += 1
    assert checked > 30


def test_a_metric_that_is_missing_would_be_noticed():
    assert dict(asked_for('rate(moult_x_total{kind="push",result=~"a|b",instance=~"$i"}[5m]) / moult_y > up')) == {
        "moult_x_total": {"kind", "result"}, "moult_y": set(), "up": set()}


def test_every_metric_is_documented_and_the_reverse(api):
    text = (TOP / "docs/operation.md").read_text()
    documented = set(re.findall(r"`(moult_[a-z_]+)", text))
    exported = {f.name + ("_total" if f.type == "counter" else "") for f in Page(api).families.values()}
    assert documented == {name for name in exported if name.startswith("moult_")}


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool: Debian's package prometheus has it")
def test_promtool_likes_the_rules_and_the_page(api):
    subprocess.run(["promtool", "check", "rules", MONITORING / "moult-alerts.yml"], check=True)
    subprocess.run(["promtool", "check", "metrics"], input=Page(api).text, text=True, check=True)
