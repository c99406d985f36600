"""Nothing lost, nothing charged twice, nothing free."""

import concurrent.futures
import decimal
import json
import random

import httpx
import pytest
from conftest import Server, Simulator, upstream_config, wait_until

D = decimal.Decimal
#: One `hello` to sim-small: 1 token in at 1, 24 out at 4 CNY per million.
CALL = D("0.000097")


def total(rows):
    return sum((D(row["cost"]) for row in rows), D(0))


def test_four_hundred_calls_on_money_for_sixty(server):
    org, key = server.customer(str(CALL * 60))
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: server.chat(key=key, max_tokens=24), range(400)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 402}, statuses
    paid = [D(answer.headers["x-ledgerline-cost"]) for answer in answers if answer.status_code == 200]
    wallet = server.wallet(org)
    assert 1 <= len(paid) <= 60
    assert sum(paid) == CALL * 60 - D(wallet["posted"]) == total(server.usage(org))
    assert D(wallet["held"]) == 0 and D(wallet["available"]) >= 0
    assert all(answer.json()["error"]["code"] == "insufficient_balance" for answer in answers if answer.status_code == 402)


def test_a_grant_is_made_once_for_its_key(server):
    org, _ = server.customer()
    first = server.grant(org, "5", key="g1")
    again = server.grant(org, "5", key="g1")
    assert first == again and server.wallet(org)["posted"] == "5"
    other = server.admin.post(
        f"/admin/orgs/{org}/grants", json={"amount": "6", "currency": "CNY", "reason": "test"},
        headers={"idempotency-key": "g1"},
    )
    assert other.status_code == 409 and other.json()["code"] == "idempotency_conflict"
    for body, code in [
        ({"amount": "-1", "currency": "CNY", "reason": "x"}, "invalid_amount"),
        ({"amount": "0.0000000001", "currency": "CNY", "reason": "x"}, "invalid_field"),
        ({"amount": "1", "currency": "yuan", "reason": "x"}, "invalid_field"),
        ({"amount": "1", "currency": "CNY", "reason": ""}, "invalid_reason"),
        ({"amount": "1", "currency": "CNY", "reason": "x", "more": 1}, "invalid_field"),
    ]:
        answer = server.admin.post(f"/admin/orgs/{org}/grants", json=body, headers={"idempotency-key": "g2"})
        assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text
    missing = server.admin.post(f"/admin/orgs/{org}/grants", json={"amount": "1", "currency": "CNY", "reason": "x"})
    assert missing.json()["code"] == "idempotency_key_required"


def test_streams_cut_at_random_frames_are_charged_once_for_what_was_received(start):
    simulator = start(Simulator, "--interval-ms", "10")
    server = start(Server, upstream_config(simulator.url))
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    received = {}

    def cut(number):
        body = {"model": "up", "stream": True, "messages": [{"role": "user", "content": f"[[words:40]] {number}"}]}
        frames = rng.randrange(1, 40)
        headers = {"authorization": f"Bearer {server.key}"}
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=30) as answer:
            charge, words = answer.headers["x-ledgerline-charge-id"], 0
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    words += bool(json.loads(line[6:])["choices"][0]["delta"].get("content"))
                    frames -= 1
                if frames == 0:
                    break
        received[charge] = words

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(cut, range(60)))
    wait_until(lambda: len(server.usage(server.org)) == 60, "all calls ended")
    rows = server.usage(server.org)
    wallet = server.wallet()
    assert D(wallet["held"]) == 0
    assert total(rows) == 100 - D(wallet["posted"])
    assert {row["id"] for row in rows} == set(received)
    for row in rows:
        if received[row["id"]]:
            assert row["status"] == "settled" and D(row["cost"]) > 0, row
            assert row["output_tokens"] + 1 >= received[row["id"]], row
    # What was on its way when the client left is charged too; what was not yet produced is not.
    whole = 60 * 40
    charged = sum(row["output_tokens"] for row in rows)
    assert sum(received.values()) <= charged + 60 and charged < 0.9 * whole, (sum(received.values()), charged)
    assert sum(row["client_gone"] for row in rows) >= 30


def test_a_drained_provider_is_charged_exactly(start):
    simulator = start(Simulator, "--interval-ms", "2")
    server = start(Server, upstream_config(simulator.url, on_disconnect="drain"))
    body = {"model": "up", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {server.key}"}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, headers=headers) as answer:
        next(answer.iter_lines())
    row = wait_until(lambda: server.usage(server.org), "the call ended")[0]
    assert (row["cost"], row["usage_source"], row["client_gone"]) == (str(CALL), "reported", True)


def test_a_growing_stream_holds_more_and_ends_when_the_wallet_does(start):
    simulator = start(Simulator)
    config = upstream_config(simulator.url)
    config["models"][0]["output_slice_tokens"] = 50
    server = start(Server, config)
    text = "[[words:400]]"
    whole = server.client.post(
        "/v1/chat/completions", json={"model": "up", "stream": True, "messages": [{"role": "user", "content": text}]}
    )
    assert whole.text.endswith("data: [DONE]\n\n")
    assert server.usage(server.org)[0]["output_tokens"] == 400
    org, key = server.customer("0.001")
    cut = httpx.post(
        f"{server.url}/v1/chat/completions", headers={"authorization": f"Bearer {key}"},
        json={"model": "up", "stream": True, "messages": [{"role": "user", "content": text}]},
    )
    last = [line for line in cut.text.splitlines() if line.startswith("data: ")][-1]
    assert json.loads(last[6:])["error"]["code"] == "insufficient_balance"
    row = server.usage(org)[0]
    wallet = server.wallet(org)
    assert row["error_code"] == "insufficient_balance" and D(row["cost"]) > 0
    assert D(wallet["held"]) == 0 and D(wallet["available"]) >= 0
    assert D("0.001") - D(wallet["posted"]) == D(row["cost"]) - D(row["debt"])


@pytest.mark.parametrize("usage", ["missing", "odd"])
def test_odd_usage_is_never_free_and_never_negative(start, usage):
    simulator = start(Simulator, "--usage", usage)
    server = start(Server, upstream_config(simulator.url))
    for stream in (False, True):
        body = {"model": "up", "stream": stream, "messages": [{"role": "user", "content": "hello there friend"}]}
        assert server.client.post("/v1/chat/completions", json=body).status_code == 200
    rows = server.usage(server.org)
    assert len(rows) == 2
    for row in rows:
        assert row["status"] == "settled" and D(row["cost"]) > 0, row
        assert min(row["input_tokens"], row["cached_input_tokens"], row["output_tokens"]) >= 0
        assert (row["usage_source"] == "estimated") == (usage == "missing")
        assert (row["anomalies"] is not None) == (usage == "odd"), row


def test_a_repeated_stream_is_sent_again_whole(start):
    simulator = start(Simulator, "--interval-ms", "5")
    server = start(Server, upstream_config(simulator.url))
    body = {"model": "up", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {server.key}", "idempotency-key": "s1"}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, headers=headers) as answer:
        next(answer.iter_lines())
        early = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers)
        assert early.status_code == 409 and early.headers["retry-after"] == "1", early.text
    wait_until(lambda: server.usage(server.org), "the call ended")
    again = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers)
    assert again.status_code == 200 and again.text.endswith("data: [DONE]\n\n")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.text.count('"content"') >= 24
    assert len(server.usage(server.org)) == 1
