"""kill -9 under running flows: every run ends, nothing that had finished is done again, every charge is
in the books once. LEDGERLINE_TEST_KILLS sets how often (5 without it)."""

import collections
import decimal
import http.server
import json
import os
import random
import threading
import time

import httpx
from conftest import Server, verify, wait_until

KILLS = int(os.environ.get("LEDGERLINE_TEST_KILLS", "5"))
CALLERS = 6

FLOW = """
name: work
description: Calls of models and of a tool, one after the other and side by side.
nodes:
  plan: {type: llm, config: {model: sim-small, prompt: "[[words:20]]", max_tokens: 40, output: plan}}
  note: {type: tool, config: {tool: note, arguments: {what: "= plan"}, output: noted}}
  each: {type: map, config: {items: "= [1, 2, 3]", flow: one, max_parallel: 3, output: all}}
  last: {type: llm, config: {model: sim-small, prompt: "[[words:10]]", max_tokens: 40, output: done}}
edges: [{from: plan, to: note}, {from: note, to: each}, {from: each, to: last}]
output: {all: "= size(all)", done: "= done", noted: "= noted"}
flows:
  one:
    nodes: {say: {type: llm, config: {model: sim-small, prompt: "[[words:5]] {{ item }}", max_tokens: 40, output: said}}}
    output: "= said"
"""
CALLS = 5


class Notes(http.server.BaseHTTPRequestHandler):
    """A tool that notes every call it has answered."""

    protocol_version = "HTTP/1.1"
    answered = collections.Counter()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = json.dumps({"noted": True}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.answered[body["idempotency_key"]] += 1

    def log_message(self, *_):
        pass


def test_kills_under_running_flows(tmp_path):
    seed = random.randrange(2**32)
    print(f"seed {seed}, {KILLS} kills")
    rng = random.Random(seed)
    tool = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Notes)
    threading.Thread(target=tool.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{tool.server_address[1]}/"
    server = Server(tmp_path, {"flow": {"tools": [{"name": "note", "url": url}]}})
    started, moving = {}, []
    for kill in range(KILLS):
        server.start()
        begun = time.monotonic()
        if kill == 0:
            assert server.client.post("/flows", content=FLOW).status_code == 201
        else:
            # All that were under way go on by themselves.
            left = [run for run, status in statuses(server, started).items() if status in ("pending", "running")]
            wait_until(lambda: not left or any(s not in ("pending", "running") for s in statuses(server, left_of(started, left)).values()), "a run goes on", 10)
            moving.append(time.monotonic() - begun)
        stop = threading.Event()

        def start_runs():
            with httpx.Client(timeout=10, headers={"x-api-key": server.key}) as client:
                while not stop.is_set():
                    try:
                        answer = client.post(f"{server.url}/runs", json={"assistant_id": "work", "input": {}})
                    except httpx.HTTPError:
                        continue
                    assert answer.status_code == 200, answer.text
                    run = answer.json()
                    started[run["run_id"]] = run["thread_id"]

        callers = [threading.Thread(target=start_runs) for _ in range(CALLERS)]
        [caller.start() for caller in callers]
        enough = len(started) + rng.randrange(2, 20)
        wait_until(lambda: len(started) >= enough, "so many runs are started", 60)
        time.sleep(rng.random() * 0.05)
        server.kill()
        stop.set()
        [caller.join() for caller in callers]
    server.start()
    for run, thread in started.items():
        values = server.client.get(f"/threads/{thread}/runs/{run}/join").json()
        assert "__error__" not in values, values
        assert (values["all"], values["noted"]) == (["", "", ""] if not values["all"] else values["all"], {"noted": True})
    wait_until(lambda: server.wallet()["held"] == "0", "every hold resolves", 60)

    rows = [row for row in server.usage(server.org) if row["run_id"]]
    settled = collections.Counter((row["run_id"], row["step"]) for row in rows if row["status"] == "settled")
    assert set(settled.values()) == {1}, "a call that had finished was made again"
    calls = collections.Counter(run for run, _ in settled)
    assert set(calls.values()) == {CALLS} and len(calls) >= len(started)
    assert len({row["id"] for row in rows}) == len(rows), "a call is in the books twice"
    spent = sum(decimal.Decimal(row["cost"]) for row in rows)
    assert decimal.Decimal("100") - decimal.Decimal(server.wallet()["posted"]) == spent
    assert set(Notes.answered.values()) == {1}, "a tool's call was made again under its name"
    again = len(Notes.answered) - len({key.rsplit(".", 1)[0] for key in Notes.answered})
    lost = len(rows) - len(settled)
    print(f"{len(started)} runs, {len(rows)} calls; tried again: {lost} calls of models, {again} of tools; "
          f"moving again after {max(moving or [0]):.2f} s at most")
    server.stop()
    report = verify(server.data)
    assert report["ok"] and report["open_holds"] == 0, report
    tool.shutdown()


def left_of(started, left):
    return {run: started[run] for run in left}


def statuses(server, runs):
    """How some of these runs stand."""
    some = list(runs.items())[-20:]
    return {run: server.client.get(f"/threads/{thread}/runs/{run}").json().get("status") for run, thread in some}
