"""The agent API: the ten steps of its original's test, and what that one could not do."""

import csv
import decimal
import io
import json
import re
import threading
import time

import httpx
import pytest
import websockets
from websockets.sync.client import connect

from conftest import Server, upstream_config, Simulator, wait_until

HELLO = {"initial_state": {"messages": [{"role": "user", "content": "你好, what is 2+2?"}]}}
ONE_CALL = {
    "nodes": {"say": {"type": "llm", "config": {"model": "sim-small", "max_tokens": 20}}},
    "edges": [{"from": "say", "to": "__end__"}],
}
ASKS = {
    "nodes": {
        "ask": {"type": "wait", "config": {"message": "Go on?", "output": "word"}},
        "end": {"type": "transform", "config": {"set": {"done": "= word"}}},
    },
    "edges": [{"from": "ask", "to": "end"}],
    "output": {"done": "= done"},
}


def local(server):
    """A program of this machine, without any credential."""
    return httpx.Client(base_url=server.url, timeout=60)


def workflow(client, data=ONE_CALL, name="one"):
    answer = client.post("/workflows", json={"name": name, "config_data": data})
    assert answer.status_code == 200, answer.text
    return answer.json()["workflow_id"]


def session(client, **more):
    body = {"workflow_config_path": "configs/workflows/react.yaml", **more}
    answer = client.post("/sessions/", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["session_id"]


def ws_url(server, client_id="test_client"):
    return server.url.replace("http://", "ws://") + f"/ws/{client_id}"


def events(response):
    """The events of a stream: (id, data) each."""
    found = []
    for block in response.read().decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "data" in lines:
            found.append((lines.get("id"), lines["data"]))
    return found


def test_the_ten_steps(server):
    client = local(server)
    answer = client.get("/")
    assert answer.status_code == 200 and answer.json()["message"] == "欢迎使用 Modular Agent API"
    assert answer.json()["data"]["docs_url"] == "/docs"
    answer = client.get("/health")
    assert answer.status_code == 200 and answer.json()["message"] and answer.json()["data"]["status"] == "healthy"
    for path in ["/sessions/", "/sessions", "/workflows/", "/workflows"]:
        answer = client.get(path)
        assert answer.status_code == 200 and answer.json()["total"] == 0, answer.text
    body = {
        "workflow_config_path": "configs/workflows/react.yaml",
        "agent_config": {"model": "gpt-3.5-turbo", "temperature": 0.7},
        "initial_state": {"messages": [], "tool_results": []},
    }
    answer = client.post("/sessions/", json=body)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert re.fullmatch(r"react-\d{8}-\d{6}-[0-9a-f]{8}", made["session_id"])
    assert set(made) >= {"session_id", "workflow_config_path", "workflow_id", "status", "created_at", "updated_at",
                         "agent_config", "metadata"}
    assert re.fullmatch(r"[a-zA-Z0-9_-]+_\d{8}_\d{6}_[a-f0-9]{8}", made["workflow_id"])
    path = f"/sessions/{made['session_id']}"
    answer = client.get(path)
    assert answer.status_code == 200 and answer.json() == made and made["status"] == "active"
    answer = client.put(path, json={"status": "paused", "metadata": {"notes": "测试暂停"}})
    assert answer.status_code == 200 and answer.json()["status"] == "paused"
    again = client.get(path).json()
    assert (again["status"], again["metadata"]) == ("paused", {"notes": "测试暂停"})
    assert client.get("/sessions").json()["total"] == 1
    answer = client.delete(path)
    assert answer.status_code == 200 and answer.json()["message"] == "会话已删除"
    gone = client.get(path)
    assert gone.status_code == 404 and gone.json()["success"] is False and "会话不存在" in gone.json()["detail"]
    assert client.get("/sessions").json()["total"] == 0
    answer = client.get("/analytics/performance")
    assert answer.status_code == 200 and f"{answer.json()['avg_response_time']:.2f}" == "0.00"
    with connect(ws_url(server)) as ws:
        ws.send(json.dumps({"type": "ping", "timestamp": "2026-11-21T08:00:00"}))
        assert json.loads(ws.recv(timeout=10))["type"] == "pong"


def test_the_developer_is_let_in_from_this_machine_only(server, start):
    client = local(server)
    assert client.get("/sessions").status_code == 200
    for headers in [
        {"authorization": "Bearer wrong"}, {"x-api-key": "wrong"}, {"authorization": "Basic x"},
        {"host": "attacker.example"}, {"origin": "http://attacker.example"}, {"x-forwarded-for": "192.0.2.7"},
    ]:
        answer = client.get("/sessions", headers=headers)
        assert answer.status_code == 401, headers
        body = answer.json()
        assert body["success"] is False and body["error_code"] == 401 and body["request_id"], body
    # The customer's key is the same customer.
    made = session(client)
    assert server.client.get(f"/sessions/{made}").status_code == 200
    # Every other surface wants a credential.
    assert httpx.get(f"{server.url}/v1/models").status_code == 401
    assert httpx.get(f"{server.url}/api/v1/balance").status_code == 401


def test_others_see_nothing(server):
    mine, _ = server.client, None
    made = session(mine)
    flow = workflow(mine)
    run = mine.post(f"/workflows/{flow}/run", json={**HELLO, "session_id": made}).json()
    assert run["status"] == "completed", run
    _, key = server.customer("5", "other")
    other = httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {key}"}, timeout=60)
    assert other.get("/sessions").json()["total"] == 0 and other.get("/workflows").json()["total"] == 0
    execution = run["execution_id"]
    for method, path in [
        ("GET", f"/sessions/{made}"), ("PUT", f"/sessions/{made}"), ("DELETE", f"/sessions/{made}"),
        ("GET", f"/sessions/{made}/history"), ("GET", f"/sessions/{made}/statistics"), ("POST", f"/sessions/{made}/save"),
        ("POST", f"/sessions/{made}/restore"), ("POST", f"/sessions/{made}/run"), ("GET", f"/workflows/{flow}"),
        ("PUT", f"/workflows/{flow}"), ("DELETE", f"/workflows/{flow}"), ("POST", f"/workflows/{flow}/run"),
        ("POST", f"/workflows/{flow}/stream"), ("GET", f"/workflows/{flow}/visualization"),
        ("GET", f"/workflows/executions/{execution}"), ("GET", f"/workflows/executions/{execution}/stream"),
        ("POST", f"/workflows/executions/{execution}/cancel"),
        ("GET", f"/history/sessions/{made}/messages"), ("GET", f"/history/sessions/{made}/search?query=x"),
        ("GET", f"/history/sessions/{made}/export"), ("GET", f"/history/sessions/{made}/statistics"),
        ("GET", f"/history/sessions/{made}/aggregate"), ("GET", f"/history/activity?session_id={made}"),
        ("GET", f"/analytics/tokens/{made}"), ("GET", f"/analytics/cost/{made}"),
        ("GET", f"/analytics/performance?session_id={made}"), ("GET", f"/analytics/errors?session_id={made}"),
        ("GET", f"/analytics/dashboard?session_id={made}"), ("GET", f"/analytics/trends?metric=cost&session_id={made}"),
    ]:
        answer = other.request(method, path, json={} if method in ("PUT", "POST") else None)
        assert answer.status_code == 404, (method, path, answer.text)
        assert answer.json()["success"] is False and answer.json()["detail"]
    assert other.get("/history/activity").json() == []
    assert other.get("/analytics/performance").json()["total_requests"] == 0
    assert mine.get(f"/sessions/{made}").status_code == 200


def test_refusals_have_one_shape(server):
    client = local(server)
    for method, path, status in [
        ("GET", "/sessions?page=0", 422), ("GET", "/sessions?page_size=101", 422), ("GET", "/sessions?sort_by=x", 422),
        ("GET", "/sessions?status=x", 400), ("GET", "/sessions/none", 400), ("GET", "/sessions/a/b/c", 404),
        ("PATCH", "/sessions", 405), ("POST", "/sessions", 422), ("GET", "/workflows/none", 400), ("GET", "/ws", 404),
        ("POST", "/workflows/load", 422), ("POST", "/workflows/load?config_path=../../etc/passwd.yaml", 400),
        ("POST", "/workflows/load?config_path=/etc/passwd", 400),
        ("POST", "/workflows/load?config_path=configs/workflows/none.yaml", 404),
        ("GET", "/history/sessions/none/messages", 400), ("GET", "/analytics/trends", 422), ("GET", "/history/x", 404),
        ("GET", "/analytics/trends?metric=cost&time_range=7w", 422), ("POST", "/history/cleanup?days_to_keep=0", 422),
    ]:
        answer = client.request(method, path, headers={"x-request-id": "mine-7"})
        assert answer.status_code == status, (path, answer.text)
        body = answer.json()
        assert set(body) >= {"success", "message", "detail", "error_code", "request_id", "timestamp"}, body
        assert (body["success"], body["error_code"], body["request_id"]) == (False, status, "mine-7")
        assert answer.headers["x-request-id"] == "mine-7"
        if status == 422:
            assert body["detail"][0]["loc"][0] in ("query", "body")
    answer = client.get("/sessions")
    assert float(answer.headers["x-process-time"]) >= 0 and answer.headers["x-frame-options"] == "DENY"


def test_workflows_are_made_changed_found_drawn_and_deleted(server):
    client = local(server)
    loaded = client.post("/workflows/load", params={"config_path": "configs/workflows/react.yaml"})
    assert loaded.status_code == 200 and loaded.json()["message"] == "工作流加载成功", loaded.text
    react = loaded.json()["data"]["workflow_id"]
    again = client.post("/workflows/load/", params={"config_path": "./configs/workflows/react.yaml"}).json()
    assert again["data"]["workflow_id"] == react
    shown = client.get(f"/workflows/{react}").json()
    assert {node["id"] for node in shown["nodes"]} == {"think", "act", "answer"}
    assert {"from", "to", "type"} <= set(shown["edges"][0])
    # Nodes and edges as lists, and a name that no id can show.
    lists = {
        "nodes": [{"id": "b", "type": "pass"}, {"id": "a", "type": "transform", "config": {"set": {"x": 1}}}],
        "edges": [{"from": "b", "to": "a"}],
    }
    made = client.post("/workflows/", json={"name": "示例工作流", "config_data": lists}).json()
    assert made["name"] == "示例工作流" and re.fullmatch(r"workflow_\d{8}_\d{6}_[0-9a-f]{8}", made["workflow_id"])
    assert [node["id"] for node in made["nodes"]] == ["b", "a"]
    draft = client.post("/workflows", json={"name": "draft", "config_data": {"nodes": [], "edges": []}}).json()
    refused = client.post(f"/workflows/{draft['workflow_id']}/run")
    assert refused.status_code == 409 and refused.json()["code"] == "workflow_empty"
    bad = {"nodes": {"a": {"type": "none"}, "b": {"type": "llm"}}, "edges": [{"from": "a", "to": "nowhere"}]}
    refused = client.post("/workflows", json={"name": "bad", "config_data": bad})
    assert refused.status_code == 400 and len(refused.json()["findings"]) >= 3, refused.text
    changed = client.put(f"/workflows/{draft['workflow_id']}", json={"description": "now real", "config_data": lists})
    assert changed.status_code == 200 and len(changed.json()["nodes"]) == 2
    assert client.get(f"/workflows/{draft['workflow_id']}").json()["description"] == "now real"
    run = client.post(f"/workflows/{draft['workflow_id']}/run").json()
    assert run["status"] == "completed" and run["result"]["x"] == 1
    found = client.get("/workflows/search/REAL").json()
    assert [row["workflow_id"] for row in found] == [draft["workflow_id"]] and found[0]["usage_count"] == 1
    page = client.get("/workflows", params={"page_size": 2, "sort_by": "name", "sort_order": "asc"}).json()
    assert (page["total"], len(page["workflows"]), page["has_next"], page["total_pages"]) == (3, 2, True, 2)
    last = client.get("/workflows", params={"page": 2, "page_size": 2, "sort_by": "name", "sort_order": "asc"}).json()
    names = [row["name"] for row in page["workflows"] + last["workflows"]]
    assert names == sorted(names) and not last["has_next"]
    picture = client.get(f"/workflows/{react}/visualization").json()
    assert picture["workflow_id"] == react and picture["nodes"][0]["position"].keys() == {"x", "y"}
    assert {"from", "to", "source", "target"} <= set(picture["edges"][0])
    for kind, begins in [("mermaid", "graph TD"), ("svg", "<svg"), ("dot", "digraph")]:
        assert client.get(f"/workflows/{react}/visualization", params={"format": kind}).text.startswith(begins)
    assert client.delete(f"/workflows/{react}").json()["message"] == "工作流已卸载"
    assert client.get(f"/workflows/{react}").status_code == 404


def test_a_sessions_run_is_metered_told_and_remembered(server):
    client = local(server)
    made = session(client)
    first = client.post(f"/sessions/{made}/run", json=HELLO).json()
    assert first["status"] == "completed", first
    assert re.fullmatch(r"exec_\d{8}_\d{6}_[0-9a-f]{8}", first["execution_id"])
    more = {"initial_state": {"messages": [{"role": "user", "content": "And 3+3?"}]}}
    second = client.post(f"/sessions/{made}/run", json=more).json()
    contents = [message["content"] for message in second["result"]["messages"]]
    assert contents[0] == "你好, what is 2+2?" and "And 3+3?" in contents, "the session goes on"
    records = client.get(f"/history/sessions/{made}/messages", params={"limit": 500}).json()
    types = [record["record_type"] for record in records["records"]]
    assert {"message", "llm_request", "llm_response", "token_usage", "cost"} <= set(types)
    assert records["total"] == len(types) and [r["seq"] for r in records["records"]] == list(range(1, len(types) + 1))
    users = [r["content"] for r in records["records"] if r["record_type"] == "message" and r["message_type"] == "user"]
    assert users == ["你好, what is 2+2?", "And 3+3?"], "each message is told once"
    request = next(r for r in records["records"] if r["record_type"] == "llm_request")
    assert request["messages"][0]["type"] == "system" and request["parameters"]["max_tokens"]
    # What it cost is what the books say, to the last digit.
    paid = sum(decimal.Decimal(row["cost"]) for row in server.usage(server.org))
    cost = json.loads(client.get(f"/analytics/cost/{made}").text, parse_float=decimal.Decimal)
    assert decimal.Decimal(cost["total_cost"]) == paid > 0 and decimal.Decimal(cost["costs"]["CNY"]) == paid
    assert sum(decimal.Decimal(day["cost"]) for day in cost["cost_by_time"]) == paid
    assert sum(decimal.Decimal(value) for value in cost["cost_by_model"].values()) == paid
    assert decimal.Decimal(first["cost"]) + decimal.Decimal(second["cost"]) == paid
    tokens = client.get(f"/analytics/tokens/{made}").json()
    spent = [row for row in server.usage(server.org)]
    assert tokens["prompt_tokens"] == sum(row["input_tokens"] + row["cached_input_tokens"] for row in spent)
    assert tokens["completion_tokens"] == sum(row["output_tokens"] + row["reasoning_tokens"] for row in spent)
    assert tokens["total_tokens"] == sum(tokens["model_usage"].values())
    performance = client.get("/analytics/performance", params={"session_id": made}).json()
    requests, errors = types.count("llm_request"), types.count("error")
    assert performance["total_requests"] == requests
    assert performance["success_rate"] == pytest.approx(max(0, requests - errors) / requests * 100)
    assert performance["min_response_time"] <= performance["avg_response_time"] <= performance["max_response_time"]
    statistics = client.get(f"/sessions/{made}/statistics").json()
    assert statistics["total_messages"] == types.count("message") and statistics["total_errors"] == errors
    assert statistics["total_tool_calls"] == types.count("tool_call")
    assert statistics == client.get(f"/history/sessions/{made}/statistics").json()
    shown = client.get(f"/workflows/{first['workflow_id']}").json()
    assert shown["usage_count"] == 2 and shown["last_used"]


def test_the_history_is_paged_filtered_searched_exported_marked_and_cleaned(server):
    client = local(server)
    calculator = {
        "nodes": {"n": {"type": "tool", "config": {"tool": "calculator", "arguments": {"expression": "6*7"}, "output": "n"}}},
    }
    flow = workflow(client, calculator, "calc")
    made = session(client)
    text = '=cmd("x"), Öl\n"quoted"'
    for number in range(3):
        body = {"session_id": made, "initial_state": {"messages": [{"role": "user", "content": f"{text} {number}"}]}}
        assert client.post(f"/workflows/{flow}/run", json=body).json()["status"] == "completed"
    get = lambda path, **query: client.get(f"/history/sessions/{made}/{path}", params=query)
    everything = get("messages", limit=500).json()
    total = everything["total"]
    assert get("messages", limit=2, offset=total - 1).json()["records"] == everything["records"][-1:]
    calls = get("messages", message_types=["tool_call"]).json()
    assert calls["total"] == 3 and calls["records"][0]["tool_output"] == {"result": 42.0}
    both = get("messages", message_types=["tool_call", "message"]).json()
    assert both["total"] == 6
    middle = everything["records"][total // 2]["timestamp"]
    for form in [middle, middle.replace("Z", "+00:00"), middle.replace("Z", "")]:
        late = get("messages", start_time=form, limit=500).json()
        assert late["total"] == len([r for r in everything["records"] if r["timestamp"] >= middle]) == len(late["records"])
    found = get("search", query="ÖL").json()
    assert found["total"] == 3 and all("Öl" in r["content"] for r in found["results"])
    assert get("search", query="6*7").json()["total"] == 3 and get("search", query="nowhere").json()["total"] == 0
    assert get("search", query="x", limit=1).json()["results"] == found["results"][:1]
    exported = get("export").json()
    assert exported["records"] == everything["records"] and exported["total_records"] == total
    answer = get("export", format="csv")
    assert answer.headers["content-disposition"] == f"attachment; filename=session_{made}.csv"
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert len(rows) == total and sorted(rows[0]) == list(rows[0])
    contents = [row["content"] for row in rows if row["record_type"] == "message"]
    assert contents == [f"'{text} {n}" for n in range(3)], "no spreadsheet takes it for a formula"
    assert json.loads(next(row["tool_input"] for row in rows if row["tool_input"])) == {"expression": "6*7"}
    assert get("export", format="xml").status_code == 400
    message = next(r["record_id"] for r in everything["records"] if r["record_type"] == "message")
    marked = client.post(f"/history/sessions/{made}/bookmarks", json={"message_id": message, "note": "n" * 600}).json()
    assert marked["bookmark_id"].endswith(message) and len(marked["note"]) == 500
    assert client.get("/history/bookmarks").json() == [marked]
    server.stop()
    server.start()
    client = local(server)
    assert client.get("/history/bookmarks", params={"session_id": made}).json() == [marked]
    assert client.delete(f"/history/bookmarks/{marked['bookmark_id']}").json()["message"] == "书签已删除"
    assert client.delete(f"/history/bookmarks/{marked['bookmark_id']}").status_code == 404
    activity = client.get("/history/activity", params={"limit": 3}).json()
    assert activity == everything["records"][::-1][:3]
    days = client.get(f"/history/sessions/{made}/aggregate").json()
    assert sum(day["message_count"] for day in days["data"].values()) == 3 and days["total_days"] == len(days["data"])
    cleaned = client.post("/history/cleanup", params={"days_to_keep": 1}).json()
    assert cleaned["message"] == "清理完成" and cleaned["data"]["cleaned_records"] == 0


def test_a_failed_run_is_told_as_one(server):
    client = local(server)
    fails = {"nodes": {"n": {"type": "tool", "config": {"tool": "calculator", "arguments": {"expression": "1/0"}}}}}
    flow = workflow(client, fails, "fails")
    run = client.post(f"/workflows/{flow}/run").json()
    assert run["status"] == "error" and run["error"] and run["result"] is None
    errors = client.get("/analytics/errors").json()
    assert errors["total_errors"] == 1 == sum(errors["error_by_type"].values()) == errors["error_by_time"][0]["count"]
    assert errors["recent_errors"][0]["error_message"] == run["error"]
    own = client.get(f"/history/sessions/{run['execution_id']}/messages").json()
    assert "error" in [record["record_type"] for record in own["records"]], "a run by itself has its history"
    trend = client.get("/analytics/trends", params={"metric": "errors", "time_range": "24h"}).json()
    assert sum(point["error_count"] for point in trend["data"]) == 1 and len(trend["data"]) in (24, 25)
    board = client.get("/analytics/dashboard", params={"session_id": run["execution_id"]}).json()
    assert board["errors"]["total_errors"] == 1 and board["cost"]["total_cost"] == 0
    past = client.get("/analytics/errors", params={"end_time": "2020-01-01T00:00:00"}).json()
    assert past["total_errors"] == 0


def test_parameters_have_their_effect(server):
    client = local(server)
    waits = {"nodes": {"d": {"type": "delay", "config": {"seconds": 60}}}}
    flow = workflow(client, waits, "waits")
    begun = time.monotonic()
    run = client.post(f"/workflows/{flow}/run", json={"parameters": {"timeout": 1}}).json()
    while run["status"] == "running" and time.monotonic() - begun < 20:
        time.sleep(0.2)
        run = client.get(f"/workflows/executions/{run['execution_id']}").json()
    assert (run["status"], run["error_type"]) == ("error", "timeout"), run
    flow = workflow(client)
    broke = client.post(f"/workflows/{flow}/run", json={**HELLO, "parameters": {"budget": "0.000000001"}}).json()
    assert (broke["status"], broke["error_type"]) == ("error", "budget_exceeded")
    shows = {"nodes": {"n": {"type": "transform", "config": {"set": {"m": "= max_iterations", "p": "= parameters.own"}}}}}
    flow = workflow(client, shows, "shows")
    run = client.post(f"/workflows/{flow}/run", json={"parameters": {"max_iterations": 3, "own": "x"}}).json()
    assert (run["result"]["m"], run["result"]["p"]) == (3, "x")
    for bad in [{"timeout": 0}, {"timeout": "x"}, {"budget": "-1"}, {"max_iterations": 0}]:
        assert client.post(f"/workflows/{flow}/run", json={"parameters": bad}).status_code == 422, bad


def test_the_same_key_is_one_run(server):
    client = local(server)
    flow = workflow(client)
    run = lambda body, key: client.post(f"/workflows/{flow}/run", json=body, headers={"idempotency-key": key})
    first = run(HELLO, "k1").json()
    assert run(HELLO, "k1").json()["execution_id"] == first["execution_id"]
    assert run({}, "k1").status_code == 409
    assert run(HELLO, "k2").json()["execution_id"] != first["execution_id"]
    assert len(server.usage(server.org)) == 2


def test_a_question_is_answered_and_a_run_cancelled(server):
    client = local(server)
    flow = workflow(client, ASKS, "asks")
    run = client.post(f"/workflows/{flow}/run").json()
    assert run["status"] == "waiting" and run["questions"][0]["message"] == "Go on?"
    path = f"/workflows/executions/{run['execution_id']}"
    assert client.post(f"{path}/answer", json={"answer": "yes"}).status_code == 200
    ended = client.get(f"{path}/stream")
    assert json.loads(events(ended)[-1][1])["type"] == "completed"
    assert client.get(path).json()["result"] == {"done": "yes"}
    assert client.post(f"{path}/answer", json={"answer": "no", "step": run["questions"][0]["step"]}).status_code == 409
    other = client.post(f"/workflows/{flow}/run").json()
    path = f"/workflows/executions/{other['execution_id']}"
    assert client.post(f"{path}/cancel").status_code == 200
    assert json.loads(events(client.get(f"{path}/stream"))[-1][1])["type"] == "error"
    listed = client.get(f"/workflows/{flow}/executions").json()
    assert listed["total"] == 2 and {row["status"] for row in listed["executions"]} == {"completed", "error"}


def test_the_shipped_workflows_work_and_their_tools_really_do(server):
    client = local(server)

    def load(name):
        answer = client.post("/workflows/load", params={"config_path": f"configs/workflows/{name}.yaml"})
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["workflow_id"]

    def run(name, **state):
        answer = client.post(f"/workflows/{load(name)}/run", json={"initial_state": state})
        assert answer.status_code == 200, answer.text
        return answer.json()

    asked = '[[tool:calculator {"expression":"6*7"}]]'
    done = run("react", messages=[{"role": "user", "content": asked}])
    assert done["status"] == "completed", done
    assert "42" in json.dumps(done["result"]["tool_results"]), done["result"]
    for name, state in [("plan_execute", {"goal": "tea"}), ("collaborative", {"question": "Is it late?"})]:
        done = run(name, **state)
        assert done["status"] == "completed" and done["result"], done
    waits = run("human_review", request="a note")
    path = f"/workflows/executions/{waits['execution_id']}"
    for decision in ("revise", "approve"):
        assert client.get(path).json()["questions"], client.get(path).json()
        answer = client.post(f"{path}/answer", json={"answer": {"decision": decision, "remarks": "shorter"}})
        assert answer.status_code == 200, answer.text
        if decision == "revise":
            first = waits["questions"][0]["step"]
            wait_until(lambda: [q for q in client.get(path).json().get("questions", []) if q["step"] != first], "the next draft")
    events(client.get(f"{path}/stream"))
    assert client.get(path).json()["result"]["outcome"] == "approved"


def test_a_stream_goes_on_where_it_was_cut_byte_by_byte(start):
    simulator = start(Simulator, "--interval-ms", "30")
    server = start(Server, config=upstream_config(simulator.url))
    client = local(server)
    slow = {"nodes": {"say": {"type": "llm", "config": {"model": "up", "max_tokens": 40}}}}
    flow = workflow(client, slow, "slow")
    with client.stream("POST", f"/workflows/{flow}/stream", json=HELLO) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-accel-buffering"] == "no"
        whole = events(response)
    named = [event for event in whole if event[0]]
    assert len(named) >= 4 and json.loads(named[-1][1])["type"] == "completed"
    pieces = [json.loads(data) for name, data in whole if not name]
    assert {piece["type"] for piece in pieces} == {"stream"} and len(pieces) > 3, "texts come live"
    finished = next(data for data in (json.loads(d) for _, d in named) if data.get("event") == "step.finished")
    assert "".join(piece["chunk"] for piece in pieces) == finished["data"]["messages"][0]["content"]
    first = json.loads(named[0][1])
    assert first["type"] == "state_update" and set(first) >= {"execution_id", "workflow_id", "data", "timestamp"}
    for at, (name, _) in enumerate(named):
        headers = {"last-event-id": name}
        again = [event for event in events(client.post(f"/workflows/{flow}/stream", headers=headers)) if event[0]]
        assert again == named[at + 1:]
    execution = first["execution_id"]
    assert events(client.get(f"/workflows/executions/{execution}/stream")) == named
    assert len(server.usage(server.org)) == 1, "following again runs nothing again"


def test_saved_states_are_restored(server):
    client = local(server)
    made = session(client, initial_state={"messages": [{"role": "user", "content": "before"}], "note": "kept"})
    path = f"/sessions/{made}"
    assert client.post(f"{path}/restore").status_code == 404
    assert client.post(f"{path}/save").json()["message"] == "会话状态已保存"
    client.post(f"{path}/run", json=HELLO)
    client.put(path, json={"status": "completed"})
    server.stop()
    server.start()
    client = local(server)
    restored = client.post(f"{path}/restore").json()
    assert restored["status"] == "active"
    shows = {"nodes": {"n": {"type": "transform", "config": {"set": {"seen": "= note"}}}}}
    flow = workflow(client, shows, "shows")
    run = client.post(f"/workflows/{flow}/run", json={"session_id": made}).json()
    assert [message["content"] for message in run["result"]["messages"]] == ["before"]
    assert run["result"]["seen"] == "kept"


def test_a_killed_server_tells_the_whole_story_after(server):
    client = local(server)
    flow = workflow(client)
    made = session(client)
    asking = workflow(client, ASKS, "asks")
    waiting = client.post(f"/workflows/{asking}/run", json={"session_id": made}).json()
    threads = [threading.Thread(target=lambda: _try(client, flow, made)) for _ in range(8)]
    [thread.start() for thread in threads]
    time.sleep(0.3)
    server.kill()
    [thread.join() for thread in threads]
    server.start()
    client = local(server)
    path = f"/workflows/executions/{waiting['execution_id']}"
    assert client.post(f"{path}/answer", json={"answer": "yes"}).status_code == 200
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        runs = client.get(f"/workflows/{flow}/executions", params={"limit": 100}).json()["executions"]
        if all(run["status"] in ("completed", "error") for run in runs) and _ends(client, made) == len(runs) + 1:
            break
        time.sleep(0.5)
    assert _ends(client, made) == len(runs) + 1, "every run has one end in the history"
    records = client.get(f"/history/sessions/{made}/export").json()["records"]
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert len({record["record_id"] for record in records}) == len(records), "nothing is told twice"
    paid = sum(decimal.Decimal(row["cost"]) for row in server.usage(server.org))
    cost = json.loads(client.get(f"/analytics/cost/{made}").text, parse_float=decimal.Decimal)
    assert decimal.Decimal(cost["total_cost"]) == paid


def _try(client, flow, made):
    try:
        client.post(f"/workflows/{flow}/run", json={**HELLO, "session_id": made})
    except httpx.HTTPError:
        pass


def _ends(client, made):
    records = client.get(f"/history/sessions/{made}/export").json()["records"]
    return len([record for record in records if record.get("event") == "run.finished"])


def test_what_happens_is_pushed_to_who_may_hear_it(server):
    client = local(server)
    made = session(client)
    flow = workflow(client)
    _, key = server.customer("1", "other")
    headers = {"authorization": f"Bearer {key}"}
    with connect(ws_url(server)) as ws, connect(ws_url(server, "other"), additional_headers=headers) as other:
        say = lambda **message: ws.send(json.dumps(message))
        hear = lambda: json.loads(ws.recv(timeout=20))
        say(type="subscribe", session_id=made)
        assert hear()["type"] == "subscribed"
        other.send(json.dumps({"type": "subscribe", "session_id": made}))
        assert json.loads(other.recv(timeout=10))["type"] == "error"
        other.send(json.dumps({"type": "subscribe", "session_id": "*"}))
        assert json.loads(other.recv(timeout=10))["type"] == "subscribed"
        stats = client.get("/ws/stats").json()
        assert stats == {"total_connections": 1, "total_subscriptions": 1, "sessions_with_subscribers": 1}
        client.put(f"/sessions/{made}", json={"status": "paused"})
        update = hear()
        assert (update["type"], update["session_id"], update["data"]["status"]) == ("session_update", made, "paused")
        run = client.post(f"/workflows/{flow}/run", json={**HELLO, "session_id": made}).json()
        heard = []
        while not heard or heard[-1]["type"] != "workflow_state" or heard[-1]["data"]["state"] != "succeeded":
            heard.append(hear())
        nodes = [message["data"]["current_node"] for message in heard if message["type"] == "workflow_state"]
        assert nodes[0] == "say", heard
        chunks = [message for message in heard if message["type"] == "stream"]
        assert "".join(chunk["chunk"] for chunk in chunks) == run["result"]["messages"][-1]["content"]
        assert [chunk["is_final"] for chunk in chunks].count(True) == 1 and chunks[-1]["is_final"]
        ws.send("not JSON")
        while (message := hear())["type"] == "session_update":
            pass
        assert message["type"] == "error"
        say(type="nonsense")
        assert hear()["type"] == "error"
        say(type="get_stats")
        assert hear()["data"]["total_connections"] == 1
        client.delete(f"/sessions/{made}")
        gone = hear()
        assert gone["type"] == "session_update" and gone["data"]["event"] == "deleted"
        say(type="unsubscribe", session_id=made)
        assert hear()["type"] == "unsubscribed"
        with pytest.raises(TimeoutError):
            other.recv(timeout=0.5)
    for headers, status in [({"authorization": "Bearer wrong"}, 401), ({"origin": "http://attacker.example"}, 401)]:
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            connect(ws_url(server), additional_headers=headers)
        assert refused.value.response.status_code == status
    mine = {"authorization": f"Bearer {server.key}"}
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        connect(ws_url(server), additional_headers={**mine, "origin": "http://attacker.example"})
    assert refused.value.response.status_code == 403


def test_a_client_that_does_not_read_slows_nobody_and_is_told_how_things_stand(server):
    client = local(server)
    made = session(client)
    with connect(ws_url(server), max_queue=1) as ws:
        ws.send(json.dumps({"type": "subscribe", "session_id": made}))
        assert json.loads(ws.recv(timeout=10))["type"] == "subscribed"
        slowest = 0
        for number in range(400):
            begun = time.monotonic()
            body = {"metadata": {"number": number, "filling": "x" * 60_000}}
            assert client.put(f"/sessions/{made}", json=body).status_code == 200
            slowest = max(slowest, time.monotonic() - begun)
        assert slowest < 5, slowest
        heard = []
        while not heard or heard[-1]["type"] != "gap":
            heard.append(json.loads(ws.recv(timeout=20)))
        updates = [message for message in heard if message["type"] == "session_update"]
        assert len(updates) < 400, "not everything was kept for it"
        assert updates[-1]["data"]["event"] == "snapshot" and updates[-1]["data"]["metadata"]["number"] == 399
        assert client.get("/ws/stats").json()["total_connections"] == 1


def test_a_connection_is_told_when_the_server_leaves(server):
    with connect(ws_url(server)) as ws:
        server.stop()
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            ws.recv(timeout=20)
        assert closed.value.rcvd.code == 1001


def test_files_follow_the_database(server):
    import sqlite3
    import subprocess

    from conftest import BIN

    client = local(server)
    made = session(client, agent_config={"a": 1})
    client.post(f"/sessions/{made}/run", json=HELLO)
    records = client.get(f"/history/sessions/{made}/export").json()["records"]
    server.stop()
    month = records[0]["timestamp"][:7].replace("-", "")
    file = server.data / "history" / month / f"{made}.jsonl"
    assert [json.loads(line) for line in file.read_text().splitlines()] == records

    def rows(name, table):
        with sqlite3.connect(server.data / name / "metadata.db") as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(f"SELECT * FROM {table}")]

    [row] = rows("sessions", "sessions")
    assert (row["session_id"], json.loads(row["agent_config"]), row["status"]) == (made, {"a": 1}, "active")
    [flow] = rows("workflows", "workflows")
    assert flow["name"] == "react" and flow["usage_count"] == 1 and flow["config_data"]
    file.write_text("damaged")
    with sqlite3.connect(server.data / "sessions" / "metadata.db") as db:
        db.execute("DELETE FROM sessions")
    subprocess.run([BIN, "rebuild", "--data", str(server.data)], check=True, capture_output=True, timeout=60)
    assert [json.loads(line) for line in file.read_text().splitlines()] == records and len(rows("sessions", "sessions")) == 1
    server.start()
    assert local(server).delete(f"/sessions/{made}").status_code == 200
    assert not file.exists() and rows("sessions", "sessions") == []
