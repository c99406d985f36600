"""Bad input and faults: a clear, stable error or a clean recovery."""

import datetime
import decimal
import json
import resource
import signal
import subprocess
import threading
import time

import httpx
import pytest
from conftest import BIN, Server, Simulator, upstream_config, wait_until

D = decimal.Decimal


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def test_malformed_requests(server):
    def post(content, **headers):
        return server.client.post("/v1/chat/completions", content=content, headers=headers)

    assert code(post(b"{")) == (400, "malformed_json")
    assert code(post(b"")) == (400, "malformed_json")
    assert code(post(b"\xff\xfe")) == (400, "malformed_json")
    assert code(post(b"[]")) == (400, "invalid_field")
    for body in [
        {}, {"model": 1, "messages": []}, {"model": "sim-small"}, {"model": "sim-small", "messages": {}},
        {"model": "sim-small", "messages": [1]}, {"model": "sim-small", "messages": [{"role": 1}]},
        {"model": "sim-small", "messages": [{"role": "user"}], "max_tokens": "many"},
        {"model": "sim-small", "messages": [{"role": "user"}], "stream": 1},
        {"model": "sim-small", "messages": [{"role": "user"}], "n": 1000},
    ]:
        answer = post(json.dumps(body).encode())
        assert code(answer) == (400, "invalid_field"), answer.text
        assert answer.json()["error"]["message"]
    assert code(server.client.post("/v1/embeddings", json={"model": "sim-small", "input": "x"})) == (400, "model_kind")
    assert code(server.client.get("/v1/nothing")) == (404, "unknown_route")
    assert code(server.client.delete("/v1/models")) == (405, "method_not_allowed")
    assert code(server.client.get("/v1/usage?limit=x")) == (400, "invalid_query")
    assert code(server.client.get("/v1/usage/nothing")) == (404, "usage_not_found")
    assert server.usage() == []


def test_large_bodies_work_and_larger_are_refused(server):
    org, key = server.customer("1000")
    ten = server.chat("x " * 5_000_000, key=key, max_tokens=1)
    assert ten.status_code == 200
    assert server.usage(org)[0]["input_tokens"] == 5_000_000
    refused = server.client.post("/v1/chat/completions", content=b"x" * (33 * 1024 * 1024))
    assert code(refused) == (413, "body_too_large")


def test_credentials(server):
    def models(**headers):
        return httpx.get(f"{server.url}/v1/models", headers=headers)

    assert code(models()) == (401, "missing_credential")
    assert models().headers["www-authenticate"] == "Bearer"
    assert code(models(authorization="Basic abc")) == (401, "missing_credential")
    assert code(models(authorization="Bearer nobody")) == (401, "invalid_api_key")
    assert code(models(authorization=f"Bearer {server.key}", **{"x-api-key": "other"})) == (400, "two_credentials")
    assert models(**{"x-api-key": server.key}).status_code == 200
    past = (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)).isoformat()
    made = server.admin.post(f"/admin/orgs/{server.org}/keys", json={"name": "old", "expires_at": past}).json()
    assert code(models(authorization=f"Bearer {made['api_key']}")) == (401, "api_key_expired")
    made = server.admin.post(f"/admin/orgs/{server.org}/keys", json={"name": "new"}).json()
    headers = {"authorization": f"Bearer {made['api_key']}"}
    assert models(**headers).status_code == 200
    server.admin.patch(f"/admin/keys/{made['id']}", json={"disabled": True}).raise_for_status()
    assert code(models(**headers)) == (401, "api_key_disabled")
    server.admin.patch(f"/admin/keys/{made['id']}", json={"disabled": False}).raise_for_status()
    assert models(**headers).status_code == 200
    server.admin.patch(f"/admin/orgs/{server.org}", json={"disabled": True}).raise_for_status()
    assert code(models(**headers)) == (401, "api_key_disabled")
    server.admin.patch(f"/admin/orgs/{server.org}", json={"disabled": False}).raise_for_status()
    as_customer = httpx.get(f"{server.url}/admin/orgs", headers=headers)
    assert (as_customer.status_code, as_customer.json()["code"]) == (403, "admin_only")
    listed = server.admin.get(f"/admin/orgs/{server.org}/keys").json()["rows"]
    assert all("api_key" not in row and "hash" not in row for row in listed)
    assert server.key not in server.logged() and made["api_key"] not in server.logged()


def test_one_customer_does_not_see_another(server):
    charge = server.chat().headers["x-ledgerline-charge-id"]
    _, key = server.customer("1")
    other = {"authorization": f"Bearer {key}"}
    assert code(httpx.get(f"{server.url}/v1/usage/{charge}", headers=other)) == (404, "usage_not_found")
    assert httpx.get(f"{server.url}/v1/usage", headers=other).json()["rows"] == []


def test_unpriced_models_are_refused(start):
    config = upstream_config("http://127.0.0.1:9")
    del config["models"][0]["price"]
    server = start(Server, config)
    answer = server.chat(model="up")
    assert code(answer) == (400, "unpriced_model")
    assert server.usage() == []


def test_upstream_faults_cost_nothing(start):
    simulator = start(Simulator)
    config = upstream_config(simulator.url, total_timeout_ms=400, first_token_timeout_ms=400, idle_timeout_ms=400)
    config["routing"] = {"breaker_failures": 0, "breaker_percent": 0, "backoff_ms": 1}
    server = start(Server, config)

    def chat(text, **more):
        return server.chat(text, model="up", **more)

    expected = [
        ("[[fail:400]]", (400, "upstream_invalid_request")), ("[[fail:404]]", (502, "upstream_error")),
        ("[[fail:401]]", (502, "upstream_denied")), ("[[fail:429]]", (429, "upstream_rate_limited")),
        ("[[fail:500]]", (502, "upstream_error")), ("[[hang]]", (504, "upstream_timeout")),
        ("[[garbage]]", (502, "upstream_broken")),
    ]
    for text, outcome in expected:
        for stream in (False, True):
            assert code(chat(text, stream=stream)) == outcome, (text, stream)
    rows = server.usage(server.org)
    assert len(rows) == 2 * len(expected)
    assert {(row["status"], row["cost"]) for row in rows} == {("released", "0")}
    assert server.wallet()["held"] == "0"
    half = chat("[[half]]", stream=True)
    last = [line for line in half.text.splitlines() if line.startswith("data: ")][-1]
    assert json.loads(last[6:])["error"]["code"] == "upstream_broken"
    row = server.usage(server.org)[0]
    assert row["status"] == "settled" and D(row["cost"]) > 0 and row["error_code"] == "upstream_broken"
    simulator.stop()
    assert code(chat("x")) == (502, "upstream_unreachable")


@pytest.mark.parametrize("limit", [1, 7])
def test_a_connection_dropped_by_the_upstream(start, limit):
    simulator = start(Simulator, "--drop-after", str(limit))
    server = start(Server, upstream_config(simulator.url))
    assert code(server.chat(model="up")) == (502, "upstream_broken")
    streamed = server.chat(model="up", stream=True)
    assert streamed.status_code in (200, 502)
    rows = server.usage(server.org)
    assert [row["error_code"] for row in rows] == ["upstream_broken"] * 2
    assert (D(rows[0]["cost"]) > 0) == (limit > 1), rows[0]
    assert server.wallet()["held"] == "0"


def test_a_client_that_leaves_before_the_answer(start):
    simulator = start(Simulator, "--delay-ms", "1500")
    server = start(Server, upstream_config(simulator.url))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{server.url}/v1/chat/completions", timeout=0.3, headers={"authorization": f"Bearer {server.key}"},
            json={"model": "up", "messages": [{"role": "user", "content": "hello"}]},
        )
    row = wait_until(lambda: server.usage(server.org), "the call ended", 10)[0]
    assert (row["status"], row["cost"], row["error_code"]) == ("released", "0", "client_gone")
    assert server.wallet()["held"] == "0"


def test_a_second_process_on_the_folder_is_refused(server):
    done = subprocess.run(
        [BIN, "serve", "--dev", "--data", str(server.data), "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1 and "in use by another process" in done.stderr, done.stderr


def test_a_full_disk_refuses_and_recovers(start):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))

    server = start(Server, preexec=limit)

    # The end of a call waits for room on the disk; the next call is refused meanwhile.
    server.client.timeout = httpx.Timeout(2)

    def until(status):
        def tried():
            try:
                answer = server.chat()
            except httpx.TimeoutException:
                return None
            return answer if answer.status_code == status else None
        return wait_until(tried, f"status {status}", 40)

    refused = until(503)
    assert code(refused) == (503, "storage_unavailable") and int(refused.headers["retry-after"]) >= 1
    ready = httpx.get(f"{server.url}/readyz")
    assert ready.status_code == 503 and "journal" in ready.json()["detail"]
    subprocess.run(["prlimit", f"--pid={server.process.pid}", "--fsize=unlimited"], check=True)
    until(200)
    assert httpx.get(f"{server.url}/readyz").status_code == 200
    rows = wait_until(
        lambda: (lambda wallet, rows: rows if wallet["held"] == "0" else None)(server.wallet(), server.usage(server.org)),
        "all calls settled", 20,
    )
    assert 100 - D(server.wallet()["posted"]) == sum(D(row["cost"]) for row in rows)


def test_a_full_queue_refuses_and_loses_nothing(start):
    server = start(Server, {"journal": {"queue": 1, "max_batch": 1}})
    outcomes = []

    def call():
        for _ in range(20):
            outcomes.append(server.chat())

    callers = [threading.Thread(target=call) for _ in range(24)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert {answer.status_code for answer in outcomes} == {200, 503}
    refused = [answer for answer in outcomes if answer.status_code == 503]
    assert all(code(answer) == (503, "overloaded") and answer.headers["retry-after"] == "1" for answer in refused)
    answered = [answer for answer in outcomes if answer.status_code == 200]
    rows = server.usage(server.org)
    assert {row["id"] for row in rows} == {answer.headers["x-ledgerline-charge-id"] for answer in answered}
    assert server.wallet()["held"] == "0"


def test_a_stopping_server_finishes_its_streams(start):
    simulator = start(Simulator, "--interval-ms", "40")
    server = start(Server, upstream_config(simulator.url))
    body = {"model": "up", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {server.key}"}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/livez")
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert server.process.wait(20) == 0
    assert "stopped" in server.logged()
