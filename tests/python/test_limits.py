"""Limits, lots and statements of the running binary, as clients meet them."""

import concurrent.futures
import csv
import datetime
import decimal
import io
import threading

import httpx
from conftest import Server, Simulator, upstream_config, wait_until

D = decimal.Decimal
CALL = D("0.000097")


def limit(server, org, measure, most, per=None, **more):
    body = {"scope": "org", "measure": measure, "per": per, "limit": most, **more}
    if measure == "spend":
        body["currency"] = "CNY"
    return server.admin.put(f"/admin/orgs/{org}/limits", json=body).raise_for_status().json()


def code(answer):
    return answer.json()["error"]["code"] if answer.status_code != 200 else None


def in_time(seconds):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).isoformat()


def test_a_quota_of_nothing_refuses_every_call_and_costs_nothing(server):
    org, key = server.customer("1")
    quotas = [
        ("requests", 0, "minute", "rate_limit_exceeded"), ("requests", 0, "month", "rate_limit_exceeded"),
        ("tokens", 0, "day", "rate_limit_exceeded"), ("spend", "0", "day", "spend_limit_reached"),
        ("concurrency", 0, None, "concurrency_limit_reached"),
    ]
    for measure, nothing, per, expected in quotas:
        limit(server, org, measure, nothing, per)
        for stream in (False, True):
            refused = server.chat(key=key, stream=stream)
            assert (refused.status_code, code(refused)) == (429, expected), measure
            assert "allows nothing" in refused.json()["error"]["message"], refused.text
            assert refused.json()["error"]["used"] in (0, "0")
        limit(server, org, measure, None, per)
    assert server.chat(key=key).status_code == 200
    wallet = server.wallet(org)
    assert (D(wallet["posted"]), wallet["held"]) == (1 - CALL, "0") and len(server.usage(org)) == 1


def test_a_limit_that_changes_while_calls_run_is_exact(server):
    org, key = server.customer("1")
    limit(server, org, "requests", 20, "month")
    statuses, half = [], threading.Event()

    def keep_calling(_):
        for _ in range(10):
            statuses.append(server.chat(key=key).status_code)
            if len(statuses) > 80:
                half.set()

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        running = [pool.submit(keep_calling, number) for number in range(16)]
        assert half.wait(60)
        limit(server, org, "requests", 30, "month")
        for one in running:
            one.result()
    assert set(statuses) == {200, 429}
    # What the threads did not use in time is there still.
    while server.chat(key=key).status_code == 200:
        statuses.append(200)
    assert statuses.count(200) == 30
    (row,) = server.admin.get(f"/admin/orgs/{org}/limits").json()["rows"]
    assert (row["limit"], row["used"]) == (30, 30)
    assert len(server.usage(org)) == 30 and D(server.wallet(org)["posted"]) == 1 - 30 * CALL


def test_places_change_while_calls_run_and_nobody_is_cut_off(start):
    simulator = start(Simulator, "--interval-ms", "100")
    server = start(Server, upstream_config(simulator.url))
    org, key = server.customer("1")
    body = {"model": "up", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {key}"}
    url = f"{server.url}/v1/chat/completions"

    def stream(begun):
        with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as answer:
            begun.release()
            return "".join(answer.iter_text())

    def refused():
        return code(httpx.post(url, json={**body, "stream": False}, headers=headers, timeout=60)) == "concurrency_limit_reached"

    limit(server, org, "concurrency", 2)
    begun = threading.Semaphore(0)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(stream, begun) for _ in range(2)]
        for _ in running:
            assert begun.acquire(timeout=20)
        assert refused()
        limit(server, org, "concurrency", 3)
        running.append(pool.submit(stream, begun))
        assert begun.acquire(timeout=20)
        assert refused()
        limit(server, org, "concurrency", 1)
        assert refused()
        for one in running:
            assert one.result().endswith("data: [DONE]\n\n"), "a call that ran was cut off"
    wait_until(lambda: len(server.usage(org)) == 3, "the calls' ends")
    assert httpx.post(url, json={**body, "stream": False}, headers=headers, timeout=60).status_code == 200
    assert [row["used"] for row in server.admin.get(f"/admin/orgs/{org}/limits").json()["rows"]] == [0]


def test_a_limit_of_a_key_or_user_leaves_the_others_alone(server):
    org, _ = server.customer("1")
    user = server.admin.post(f"/admin/orgs/{org}/users", json={"name": "u"}).raise_for_status().json()["id"]

    def key(**owner):
        made = server.admin.post(f"/admin/orgs/{org}/keys", json={"name": "k", **owner}).raise_for_status().json()
        return made["id"], made["api_key"]

    (first_id, first), (_, second), (_, free) = key(user_id=user), key(user_id=user), key()
    limit(server, org, "requests", 3, "month", scope="key", subject=first_id)
    limit(server, org, "requests", 5, "month", scope="user", subject=user)
    assert [server.chat(key=first).status_code for _ in range(4)] == [200] * 3 + [429]
    # What a key's limit refuses is not counted for the user.
    assert [server.chat(key=second).status_code for _ in range(3)] == [200] * 2 + [429]
    assert server.chat(key=free).status_code == 200
    answer = server.chat(key=second)
    assert "user" in answer.json()["error"]["message"] and int(answer.headers["retry-after"]) > 0


def test_a_lot_is_spent_in_its_turn_and_is_gone_when_it_has_expired(server):
    org, key = server.customer("1")

    def grant(name, amount, **terms):
        body = {"amount": amount, "currency": "CNY", "reason": name, **terms}
        return server.admin.post(f"/admin/orgs/{org}/grants", json=body, headers={"idempotency-key": name}).raise_for_status().json()

    def lots():
        return [(lot["kind"], lot["remaining"]) for lot in server.admin.get(f"/admin/orgs/{org}/lots").raise_for_status().json()]

    grant("short", "0.5", kind="promotional", priority=1, expires_at=in_time(3))
    grant("long", "0.00015", kind="promotional", priority=2, expires_at=in_time(3_600))
    assert lots() == [("promotional", "0.5"), ("promotional", "0.00015")]
    assert server.chat(key=key).status_code == 200
    assert lots() == [("promotional", str(D("0.5") - CALL)), ("promotional", "0.00015")]
    left = wait_until(lambda: len(lots()) == 1 and lots(), "the lot's end", 60)
    assert left == [("promotional", "0.00015")]
    assert D(server.wallet(org)["available"]) == D("1.00015")
    assert [server.chat(key=key).status_code for _ in range(2)] == [200, 200]
    assert lots() == [] and D(server.wallet(org)["posted"]) == D("1.00015") - 2 * CALL


def test_a_statement_tells_every_movement_as_numbers_and_harmless_text(server):
    org, key = server.customer("1")
    assert server.chat(key=key).status_code == 200
    (row,) = server.usage(org)
    headers = lambda name: {"idempotency-key": name}
    adjust = {"amount": "-0.25", "currency": "CNY", "reason": "=HYPERLINK(\"http://x\"),\n-1"}
    server.admin.post(f"/admin/orgs/{org}/adjustments", json=adjust, headers=headers("a")).raise_for_status()
    reversal = {"operation": f"settle:{row['id']}", "reason": "ticket"}
    server.admin.post("/admin/reversals", json=reversal).raise_for_status()
    assert server.admin.post("/admin/reversals", json={**reversal, "reason": "other"}).status_code == 409
    period = {"from": in_time(-3_600), "to": in_time(60)}
    ask = lambda form: server.admin.get(f"/admin/orgs/{org}/statement", params={**period, "format": form}).raise_for_status()
    told = ask("json").json()
    assert [(entry["what"], entry["amount"]) for entry in told["rows"]] == [
        ("grant", "1"), ("charge", str(-CALL)), ("adjustment", "-0.25"), ("refund", str(CALL)),
    ]
    balance = D(told["opening"])
    for entry in told["rows"]:
        balance += D(entry["amount"])
        assert D(entry["balance"]) == balance
    assert D(told["closing"]) == balance == D(server.wallet(org)["posted"]) == D("0.75")
    assert told["rows"][1]["usage_id"] == row["id"]
    text = ask("csv").text
    assert text == ask("csv").text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [entry["amount"] for entry in rows] == [entry["amount"] for entry in told["rows"]]
    assert rows[2]["memo"] == "'" + adjust["reason"]
    # The part of a period that has passed is the same whatever comes after.
    past = {"from": period["from"], "to": told["rows"][-1]["at"]}
    before = server.admin.get(f"/admin/orgs/{org}/statement", params=past).content
    assert server.chat(key=key).status_code == 200
    assert server.admin.get(f"/admin/orgs/{org}/statement", params=past).content == before
