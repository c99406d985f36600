"""What the server tells about itself: figures, headers, log lines."""

import json
import re
import time

import httpx
from conftest import Server, Simulator, upstream_config, wait_until


def figures(text):
    """{'name{labels}': value} of a page of metrics."""
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def metrics(server):
    return figures(server.admin.get("/metrics").raise_for_status().text)


def test_calls_are_counted_by_model_provider_and_outcome(start):
    simulator = start(Simulator)
    server = start(Server, upstream_config(simulator.url))
    for _ in range(3):
        server.chat(model="up").raise_for_status()
    assert "[DONE]" in server.chat(model="up", stream=True).text
    assert server.chat("[[fail:500]]", model="up").status_code == 502
    assert server.chat(model="nothing").status_code == 404
    after = wait_until(
        lambda: (m := metrics(server)).get('ledgerline_calls_total{model="up",provider="up",outcome="failed"}') and m,
        "the failed call is counted",
    )
    way = 'model="up",provider="up"'
    assert after[f'ledgerline_calls_total{{{way},outcome="ok"}}'] == 4
    rows = [row for row in server.usage(server.org) if row["status"] == "settled"]
    assert after[f'ledgerline_tokens_total{{{way},class="output"}}'] == sum(row["output_tokens"] for row in rows)
    cost = sum(round(float(row["cost"]) * 1e9) for row in rows)
    assert after[f'ledgerline_charged_nanos_total{{{way},currency="CNY"}}'] == cost > 0
    assert after[f'ledgerline_time_to_first_token_seconds_count{{{way}}}'] == 1
    assert after[f'ledgerline_inter_token_seconds_count{{{way}}}'] == 1
    assert after[f'ledgerline_written_off_nanos_total{{{way},currency="CNY"}}'] == 0
    assert after["ledgerline_admit_seconds_count"] == 5 and after["ledgerline_unpriced_calls_total"] == 0
    assert after[f'ledgerline_upstream_duration_seconds_count{{{way}}}'] == 5
    chat = 'surface="v1",route="/v1/chat/completions"'
    assert after[f'ledgerline_http_requests_total{{{chat},status="2xx"}}'] == 4
    assert after[f'ledgerline_http_requests_total{{{chat},status="4xx"}}'] == 1
    assert after[f'ledgerline_overhead_seconds_count{{{chat}}}'] == 6
    assert after['ledgerline_errors_total{code="model_not_found"}'] == 1
    assert after["ledgerline_journal_commit_seconds_count"] > 0
    assert after['ledgerline_journal_operations_total{outcome="applied"}'] >= 10
    assert after["ledgerline_holds_open"] == 0 and after["ledgerline_journal_queue_depth"] == 0
    assert after["process_resident_memory_bytes"] > 1e6 and after["process_open_fds"] > 5


def test_breakers_and_providers_are_shown_as_they_stand(start):
    simulator = start(Simulator)
    config = upstream_config(simulator.url)
    config["models"].append({"name": "free", "routes": [{"provider": "up", "model": "sim-small"}]})
    config["routing"] = {"breaker_failures": 2, "breaker_cooldown_ms": 600_000, "max_attempts": 1}
    server = start(Server, config)
    route = 'ledgerline_route_open{model="up",provider="up",upstream_model="sim-small"}'
    server.chat(model="up").raise_for_status()
    before = metrics(server)
    assert before[route] == 0 and before['ledgerline_provider_state{provider="up",state="active"}'] == 1
    assert before['ledgerline_provider_calls_running{provider="up"}'] == 0
    simulator.stop()
    for _ in range(2):
        assert server.chat(model="up").status_code == 502
    wait_until(lambda: metrics(server)[route] == 1, "the breaker opens")
    server.admin.put("/admin/providers/up/state", json={"state": "draining"}).raise_for_status()
    after = metrics(server)
    assert after['ledgerline_provider_state{provider="up",state="draining"}'] == 1
    assert after['ledgerline_provider_state{provider="up",state="active"}'] == 0
    assert server.chat(model="free").json()["error"]["code"] == "unpriced_model"
    assert metrics(server)["ledgerline_unpriced_calls_total"] == 1


def test_a_refused_wallet_is_counted(server):
    _, key = server.customer()
    assert server.chat(key=key).status_code == 402
    assert metrics(server)['ledgerline_errors_total{code="insufficient_balance"}'] == 1


def test_no_client_can_make_figures(server):
    before = set(metrics(server))
    for number in range(20):
        server.client.get(f"/made/up/{number}")
        server.client.get(f"/v1/models/made-up-{number}")
        server.chat(model=f"made-up-{number}")
    new = set(metrics(server)) - before
    assert not [name for name in new if "made" in name], new
    assert server.org not in "".join(set(metrics(server)))
    assert metrics(server)['ledgerline_http_requests_total{surface="other",route="other",status="4xx"}'] == 20


def test_figures_are_for_administrators_and_allowed_hosts(start):
    plain = start(Server)
    assert httpx.get(f"{plain.url}/metrics").status_code == 401
    assert plain.client.get("/metrics").status_code == 403
    assert plain.admin.get("/metrics").status_code == 200
    allowed = start(Server, {"telemetry": {"metrics_allow": ["127.0.0.0/8"]}})
    answer = httpx.get(f"{allowed.url}/metrics")
    assert answer.status_code == 200 and answer.text.endswith("# EOF\n")
    forwarded = httpx.get(f"{allowed.url}/metrics", headers={"x-forwarded-for": "127.0.0.1"})
    assert forwarded.status_code == 401, "a proxy's host is not the client's"
    other = start(Server, {"telemetry": {"metrics_allow": ["10.0.0.0/8"]}})
    assert httpx.get(f"{other.url}/metrics").status_code == 401


def test_an_answer_tells_the_time_spent_here_without_the_upstreams(start):
    simulator = start(Simulator, "--delay-ms", "300")
    server = start(Server, upstream_config(simulator.url))
    for stream in [False, True]:
        begun = time.monotonic()
        answer = server.chat(model="up", stream=stream)
        took = (time.monotonic() - begun) * 1000
        overhead = answer.headers["x-ledgerline-overhead-ms"]
        assert re.fullmatch(r"\d+\.\d{3}", overhead)
        assert took > 300 and 0 < float(overhead) < took - 290
    assert float(server.client.get("/v1/models").headers["x-ledgerline-overhead-ms"]) > 0
    assert float(server.chat(model="x").headers["x-ledgerline-overhead-ms"]) > 0
    assert "x-ledgerline-overhead-ms" not in server.admin.get("/admin/orgs").headers


def test_log_lines_are_json_and_name_the_error(server):
    request_id = server.chat(model="nothing").headers["x-request-id"]

    def line():
        lines = [json.loads(text) for text in server.logged().splitlines()]
        return next((line for line in lines if line.get("request_id") == request_id), None)

    line = wait_until(line, "the request's line")
    assert (line["status"], line["code"], line["level"]) == (404, "model_not_found", "INFO")
    assert line["path"] == "/v1/chat/completions" and line["duration_us"] > 0
