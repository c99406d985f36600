"""Routes, retries, fallbacks and providers taken out of use, as customers and operators see them."""

import decimal
import threading

from conftest import Server, Simulator

D = decimal.Decimal
PRICE = {"currency": "CNY", "input_per_million": "1", "output_per_million": "4"}
COST = {"currency": "CNY", "input_per_million": "0.5", "output_per_million": "2"}


def two(first, second, **routing):
    """A model `up` whose calls go to the first provider, and to the second when that fails."""
    return {
        "routing": {"backoff_ms": 5, "breaker_cooldown_ms": 200, **routing},
        "providers": [
            {"name": "first", "kind": "openai", "base_url": f"{first}/v1", "first_token_timeout_ms": 500},
            {"name": "second", "kind": "openai", "base_url": f"{second}/v1"},
        ],
        "models": [{
            "name": "up", "price": PRICE,
            "routes": [
                {"provider": "first", "model": "sim-small", "priority": 0, "cost": COST},
                {"provider": "second", "model": "sim-small", "priority": 1, "cost": COST},
            ],
        }],
    }


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def provider(server, name):
    rows = server.admin.get("/admin/providers").raise_for_status().json()["rows"]
    (row,) = [row for row in rows if row["name"] == name]
    return row


def test_a_flapping_provider_is_made_good_by_another_and_every_call_is_charged_once(start):
    flapping, steady = start(Simulator, "--flap", "7"), start(Simulator)
    server = start(Server, two(flapping.url, steady.url))
    before = D(server.wallet()["available"])
    failed = []

    def work(worker):
        for call in range(25):
            answer = server.chat(f"{worker} {call}", model="up", stream=call % 2 == 0)
            if answer.status_code != 200 or "error" in answer.text:
                failed.append(answer.text)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert failed == []
    rows = server.usage(server.org)
    assert len(rows) == 100 and all(row["status"] == "settled" for row in rows)
    spent = before - D(server.wallet()["available"])
    assert spent == sum(D(row["cost"]) for row in rows) > 0
    assert {row["provider"] for row in rows} == {"first", "second"}
    for row in rows:
        assert D(row["margin"]) == D(row["cost"]) - D(row["purchase_cost"])
        assert [attempt["error_code"] for attempt in row["attempts"]] in ([], ["upstream_error", None])
    assert any(row["attempts"] for row in rows)
    assert provider(server, "first")["running"] == 0


def test_a_provider_that_is_down_is_left_alone_and_found_again(start):
    steady, gone = start(Simulator), Simulator()
    gone.stop()
    server = start(Server, two(gone.url, steady.url, breaker_failures=2, breaker_cooldown_ms=60000))
    for _ in range(6):
        assert server.chat(model="up").status_code == 200
    rows = server.usage(server.org)
    tried = [len(row["attempts"]) for row in reversed(rows)]
    assert tried == [2, 2, 0, 0, 0, 0]
    route = provider(server, "first")["routes"][0]
    assert route["breaker"] == "open" and 0 < route["rests_ms"] <= 60000


def test_a_fallback_says_its_name_and_costs_what_was_asked_for(start):
    broken, steady = start(Simulator, "--fail-rate", "1"), start(Simulator)
    config = two(broken.url, steady.url)
    config["models"] = [
        {"name": "up", "price": PRICE, "routes": [{"provider": "first"}], "fallbacks": ["cheap"]},
        {"name": "cheap", "price": {**PRICE, "output_per_million": "0"}, "routes": [{"provider": "second"}]},
    ]
    server = start(Server, config)
    answer = server.chat("[[words:10]]", model="up")
    assert answer.status_code == 200 and answer.headers["x-ledgerline-model"] == "cheap"
    assert D(answer.headers["x-ledgerline-cost"]) == D("0.000041")
    seen = server.client.get(f"/v1/usage/{answer.headers['x-ledgerline-charge-id']}").json()
    assert seen["model"] == "up" and not {"attempts", "purchase_cost", "margin"} & seen.keys()


def test_a_drained_provider_gets_no_calls_and_stays_so_after_a_restart(start):
    one, other = start(Simulator), start(Simulator)
    server = start(Server, two(one.url, other.url))

    def put(state, name="first"):
        return server.admin.put(f"/admin/providers/{name}/state", json={"state": state})

    assert put("gone").status_code == 400 and put("draining", "nobody").status_code == 404
    assert put("draining").raise_for_status().json()["state"] == "draining"
    server.chat(model="up").raise_for_status()
    server.stop()
    server.start()
    server.chat(model="up").raise_for_status()
    assert put("disabled", "second").status_code == 200
    refused = server.chat(model="up")
    assert code(refused) == (503, "provider_unavailable") and refused.headers["retry-after"]
    put("active").raise_for_status()
    server.chat(model="up").raise_for_status()
    assert [row["provider"] for row in server.usage(server.org)] == ["first", None, "second", "second"]
    as_customer = server.client.get("/admin/providers")
    assert as_customer.status_code == 403
