"""The response cache and the guard, both off until asked for."""

import decimal
import json
import subprocess

from conftest import BIN, Server, Simulator, upstream_config

D = decimal.Decimal
ON = {"x-ledgerline-cache": "on"}


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def text_of(stream):
    chunks = [json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", []))


def test_an_answer_is_given_again_to_its_organization_alone_at_a_price_of_its_own(start):
    simulator = start(Simulator)
    config = upstream_config(simulator.url)
    config["cache"] = {"allowed": ["*"]}
    config["models"][0]["cached_response"] = {"percent": 25}
    server = start(Server, config)
    first, again = (server.chat("[[words:40]]", model="up", headers=ON) for _ in range(2))
    assert [answer.headers["x-ledgerline-cache"] for answer in (first, again)] == ["miss", "hit"]
    assert first.content == again.content
    costs = [D(answer.headers["x-ledgerline-cost"]) for answer in (first, again)]
    assert costs[0] == D("0.000161") and costs[1] == D("0.00004025")
    _, other = server.customer("1")
    assert server.chat("[[words:40]]", model="up", headers=ON, key=other).headers["x-ledgerline-cache"] == "miss"
    assert "x-ledgerline-cache" not in server.chat("[[words:40]]", model="up").headers
    rows = server.usage(server.org)
    assert [row["usage_source"] for row in rows] == ["reported", "cache", "reported"]
    assert rows[1]["purchase_cost"] == "0" and rows[1]["margin"] == rows[1]["cost"]


def test_nothing_is_cached_by_default(server):
    assert server.chat(headers=ON).headers["x-ledgerline-cache"] == "off"


def test_the_guard_refuses_and_records(start):
    server = start(Server, {"guard": {"words": ["Dragon"], "patterns": [r"\b\d{6}\b"]}})
    def money():
        return {name: value for name, value in server.wallet().items() if name != "as_of_seq"}

    before = money()
    for text in ("a dRAGon", "pin 123456"):
        assert code(server.chat(text)) == (400, "content_refused")
    body = b'{"model":"sim-small","messages":[{"role":"user","content":"dr\\u0061gon"}]}'
    escaped = server.client.post("/v1/chat/completions", content=body)
    assert code(escaped) == (400, "content_refused")
    assert money() == before
    assert {row["error_code"] for row in server.usage(server.org)} == {"content_refused"}
    assert server.chat("a wyvern, pin 1234567").status_code == 200


def test_the_guard_masks_what_spans_frames(start):
    simulator = start(Simulator)
    config = upstream_config(simulator.url)
    config["guard"] = {"patterns": ["held +run"], "action": "mask", "on": "output"}
    server = start(Server, config)
    for stream in (True, False):
        answer = server.chat("[[say:priced held run settled]]", model="up", stream=stream)
        content = text_of(answer) if stream else answer.json()["choices"][0]["message"]["content"]
        assert content == "priced ******** settled"


def test_mistakes_in_the_guard_are_told_before_the_start(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text('guard: {patterns: ["("]}')
    done = subprocess.run([BIN, "config", "check", "--config", str(file)], capture_output=True, text=True)
    assert done.returncode != 0 and "guard.patterns" in done.stderr
