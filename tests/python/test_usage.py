"""Finding usage: search, reports, export, calls that run, and the sums behind them."""

import csv
import io
import json
import subprocess
import threading
from decimal import Decimal as D

import httpx
import pytest
from conftest import BIN, Server, Simulator, upstream_config, verify, wait_until


def rows(client, path, **query):
    """All pages."""
    found, cursor = [], None
    while True:
        asked = {**query, **({"cursor": cursor} if cursor else {})}
        page = client.get(path, params=asked).raise_for_status().json()
        found += page["rows"]
        cursor = page["next"]
        if not cursor:
            return found


def test_calls_are_found_by_what_is_known_of_them(server):
    ids = [server.chat().headers["x-request-id"] for _ in range(5)]
    server.chat("[[fail:500]]")
    assert [row["request_id"] for row in rows(server.client, "/v1/usage", request_id=ids[2])] == [ids[2]]
    assert [row["error_code"] for row in rows(server.client, "/v1/usage", status="released")] == ["upstream_error"]
    found = rows(server.client, "/v1/usage", status="settled", model="sim-small", limit=2)
    assert [row["request_id"] for row in found] == ids[::-1]
    key = found[0]["key_id"]
    assert len(rows(server.admin, "/admin/usage", org_id=server.org, key_id=key, limit=4)) == 6
    middle = found[2]["ended_at"]
    assert len(rows(server.client, "/v1/usage", **{"from": middle})) == 4
    assert len(rows(server.client, "/v1/usage", to=middle)) == 2
    refused = server.admin.get("/admin/usage", params={"key_id": key})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_query")
    for query in ["status=nonsense", "from=yesterday", "cursor=zz", "cursor=61"]:
        answer = server.client.get(f"/v1/usage?{query}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_query"), query


def test_reports_add_up_what_the_records_say(server):
    for number in range(6):
        server.chat("word " * number)
    server.chat("[[fail:500]]")
    records = server.usage(server.org)
    report = server.client.get("/v1/usage/summary", params={"group_by": "day,model"}).json()
    assert report["group_by"] == ["day", "model"] and report["time_zone"] == "UTC"
    total = report["totals"][0]
    assert (total["calls"], total["failed"], total["released"]) == (7, 1, 1)
    assert D(total["cost"]) == sum(D(row["cost"]) for row in records)
    assert total["output_tokens"] == sum(row["output_tokens"] for row in records)
    assert sum(row["calls"] for row in report["rows"]) == 7
    everybody = server.admin.get("/admin/usage/summary", params={"group_by": "org"}).json()
    assert [(row["org_id"], row["calls"]) for row in everybody["rows"]] == [(server.org, 7)]
    _, key = server.customer("1")
    other = httpx.get(f"{server.url}/v1/usage/summary", headers={"authorization": f"Bearer {key}"}).json()
    assert other["rows"] == [] and other["totals"] == []
    for query in ["group_by=weather", "time_zone=Nowhere", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z"]:
        answer = server.client.get(f"/v1/usage/summary?{query}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_query"), query


def test_an_export_is_csv_of_all_records(server):
    for _ in range(3):
        server.chat()
    answer = server.client.get("/v1/usage/export", params={"model": "sim-small"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "usage.csv" in answer.headers["content-disposition"]
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    records = server.usage(server.org)
    assert [line["id"] for line in lines] == [row["id"] for row in records]
    assert [D(line["cost"]) for line in lines] == [D(row["cost"]) for row in records]
    whole = server.admin.get("/admin/usage/export").text
    assert len(whole.splitlines()) == 4
    assert server.client.get("/admin/usage/export").status_code == 403
    assert server.admin.get("/admin/usage/export?key_id=x").status_code == 400


def test_a_call_that_runs_is_shown_as_running(start):
    simulator = start(Simulator, "--chunks", "40", "--interval-ms", "50")
    server = start(Server, upstream_config(simulator.url))
    body = {"model": "up", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    with server.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        charge = answer.headers["x-ledgerline-charge-id"]
        running = httpx.get(f"{server.url}/v1/usage/{charge}", headers={"authorization": f"Bearer {server.key}"}).json()
        assert (running["status"], running["model"], running["ended_at"]) == ("running", "up", None)
        assert D(running["held"]) > 0 and D(running["cost"]) == 0
        _, key = server.customer("1")
        other = httpx.get(f"{server.url}/v1/usage/{charge}", headers={"authorization": f"Bearer {key}"})
        assert other.status_code == 404
        answer.read()
    assert server.client.get(f"/v1/usage/{charge}").json()["status"] == "settled"


@pytest.mark.parametrize("change", [
    "UPDATE metering_hours SET calls = calls + 1",
    "DELETE FROM metering_days",
    "UPDATE metering_totals SET cost = cost - 1",
])
def test_sums_that_do_not_fit_are_found_and_made_anew(start, change):
    import sqlite3

    server = start(Server)
    threads = [threading.Thread(target=server.chat) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(server.usage(server.org)) == 20, "all calls ended")
    server.stop()
    assert verify(server.data)["ok"]
    with sqlite3.connect(server.data / "ledgerline.db") as database:
        database.execute(change)
    database.close()
    report = verify(server.data)
    assert [finding["check"] for finding in report["findings"]] == ["sums"]
    assert report["findings"][0]["row"].startswith(change.split()[1 if "UPDATE" in change else 2])
    subprocess.run([BIN, "rebuild", "--data", str(server.data)], check=True, capture_output=True)
    assert verify(server.data)["ok"]


def test_sums_fit_after_a_crash_in_the_middle_of_calls(tmp_path):
    server = Server(tmp_path).start()

    def calls():
        for _ in range(30):
            try:
                server.chat()
            except httpx.HTTPError:
                return

    threads = [threading.Thread(target=calls) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(server.client.get("/v1/usage?limit=1000").json()["rows"]) > 40, "some calls ended")
    server.kill()
    for thread in threads:
        thread.join()
    report = verify(server.data)
    assert report["ok"], json.dumps(report["findings"])
    server.start()
    server.chat().raise_for_status()
    total = server.client.get("/v1/usage/summary").json()["totals"][0]["calls"]
    assert total == len(server.usage(server.org)) > 40
    server.stop()
    assert verify(server.data)["ok"]
