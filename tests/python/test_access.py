"""Keys and roles as a customer and an operator meet them, on the running binary."""

import threading
import time

import httpx
import pytest
from conftest import Server, Simulator, upstream_config, wait_until
from test_mysql import URL, config

ELSEWHERE = {"x-forwarded-for": "192.0.2.7"}


def limited(server, **limits):
    """A new key of the demo's customer: (id, key)."""
    made = server.admin.post(f"/admin/orgs/{server.org}/keys", json={"name": "limited", **limits}).raise_for_status()
    return made.json()["id"], made.json()["api_key"]


def code(answer):
    body = answer.json()
    return answer.status_code, (body.get("error") or body)["code"]


def get(server, path, key, **headers):
    return httpx.get(server.url + path, headers={"x-api-key": key, **headers})


def test_a_key_calls_and_sees_only_its_models(server):
    _, key = limited(server, models=["sim-s*", "other"])
    assert server.chat(key=key).status_code == 200
    assert code(server.chat(key=key, model="sim-large")) == (403, "model_not_allowed")
    assert code(server.chat(key=key, model="sim-large", stream=True)) == (403, "model_not_allowed")
    embeddings = server.client.post(
        "/v1/embeddings", json={"model": "sim-embed", "input": "x"}, headers={"authorization": f"Bearer {key}"}
    )
    assert code(embeddings) == (403, "model_not_allowed")
    models = get(server, "/v1/models", key).json()["data"]
    assert [model["id"] for model in models] == ["sim-small"]
    assert code(get(server, "/v1/models/sim-large", key)) == (403, "model_not_allowed")
    assert len(server.usage(server.org)) == 1, "a refused call is none"


def test_a_key_is_used_for_its_scopes_only(server):
    _, key = limited(server, scopes=["models:read", "usage:read"])
    assert get(server, "/v1/models", key).status_code == get(server, "/v1/usage", key).status_code == 200
    refused = server.chat(key=key)
    assert code(refused) == (403, "scope_missing") and "chat" in refused.json()["error"]["message"]
    assert refused.json()["error"]["type"] == "permission_error"
    assert code(get(server, "/admin/orgs", key)) == (403, "admin_only")


def test_a_price_list_can_be_public(server):
    assert httpx.get(f"{server.url}/v1/models").status_code == 401
    rule = server.admin.post("/admin/rules", json={"role": "anonymous", "method": "GET", "path": "/v1/models"}).json()
    assert len(httpx.get(f"{server.url}/v1/models").json()["data"]) == 3
    assert get(server, "/v1/models", "llk_wrong").status_code == 401
    server.admin.delete(f"/admin/rules/{rule['id']}").raise_for_status()
    assert httpx.get(f"{server.url}/v1/models").status_code == 401


@pytest.mark.parametrize("trusted", [[], ["127.0.0.0/8"]])
def test_only_trusted_proxies_say_whom_they_speak_for(start, trusted):
    server = start(Server, {"server": {"trusted_proxies": trusted}})
    _, key = limited(server, allowed_ips=["192.0.2.0/24"])
    let_in = 200 if trusted else 403
    ask = lambda *values: httpx.get(
        f"{server.url}/v1/models", headers=[("x-api-key", key), *(("x-forwarded-for", value) for value in values)]
    )
    assert ask().status_code == 403
    assert ask("192.0.2.7").status_code == let_in
    assert ask("203.0.113.9, 192.0.2.7").status_code == let_in
    assert ask("203.0.113.9, 192.0.2.7, 127.0.0.5").status_code == let_in
    for forged in ["192.0.2.7, 203.0.113.9", "192.0.2.7, unknown", "192.0.2.7,", "192.0.2.7;", "a" * 3000]:
        assert code(ask(forged)) == (403, "ip_not_allowed"), forged
    assert ask("192.0.2.7", "203.0.113.9").status_code == 403
    assert httpx.get(f"{server.url}/v1/models", headers={"x-api-key": key, "forwarded": "for=192.0.2.7"}).status_code == 403
    assert server.chat(key=key, headers=ELSEWHERE).status_code == let_in
    server.admin.patch(f"/admin/orgs/{server.org}", json={"name": "Renamed"}, headers=ELSEWHERE).raise_for_status()
    row = server.admin.get("/admin/audit", params={"action": "org.change"}).json()["rows"][0]
    assert row["ip"] == ("192.0.2.7" if trusted else "127.0.0.1")


def test_many_keys_and_addresses_take_no_more_memory(start):
    """Unknown keys in any number, each from an address of its own, leave nothing behind."""
    server = start(Server, {"server": {"trusted_proxies": ["127.0.0.1"]}})

    def resident():
        status = open(f"/proc/{server.process.pid}/status").read()
        return int(status.split("VmRSS:")[1].split()[0]) // 1024

    def flood(start_at, count):
        with httpx.Client(base_url=server.url) as client:
            for number in range(start_at, start_at + count):
                forwarded = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
                key = f"llk_{number:08}_{'A' * 43}"
                answer = client.get("/v1/models", headers={"x-api-key": key, "x-forwarded-for": forwarded})
                assert answer.status_code == 401

    flood(0, 2000)
    before = resident()
    threads = [threading.Thread(target=flood, args=(10_000 * (lane + 1), 4000)) for lane in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert resident() - before < 40, f"{before} MiB became {resident()} MiB"


@pytest.mark.skipif(not URL, reason="no MySQL-compatible server (LEDGERLINE_TEST_MYSQL_URL)")
def test_what_is_taken_on_one_instance_stops_on_the_other_within_a_second(start, tmp_path):
    upstream = start(Simulator, "--interval-ms", "60")
    shared = {**config(), **upstream_config(upstream.url)}
    servers = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        servers.append(Server(tmp_path / name, shared).start())
    here, there = servers
    org = here.admin.post("/admin/orgs", json={"name": "o", "kind": "customer"}).json()["id"]
    here.grant(org, "5")
    user = here.admin.post(f"/admin/orgs/{org}/users", json={"name": "u"}).json()["id"]
    key = here.admin.post(f"/admin/orgs/{org}/keys", json={"name": "k", "user_id": user}).json()

    def within_a_second(status):
        since = time.monotonic()
        while get(there, "/v1/models", key["api_key"]).status_code != status:
            assert time.monotonic() - since < 1.0, status

    body = {"model": "up", "stream": True, "messages": [{"role": "user", "content": "[[words:40]] go"}]}
    headers = {"authorization": f"Bearer {key['api_key']}"}
    with there.client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as running:
        assert running.status_code == 200
        lines = running.iter_lines()
        next(lines)
        for thing, switch in ((f"orgs/{org}", "disabled"), (f"users/{user}", "disabled"), (f"keys/{key['id']}", "disabled")):
            within_a_second(200)
            here.admin.patch(f"/admin/{thing}", json={switch: True}).raise_for_status()
            within_a_second(401)
            here.admin.patch(f"/admin/{thing}", json={switch: False}).raise_for_status()
        within_a_second(200)
        here.admin.delete(f"/admin/keys/{key['id']}").raise_for_status()
        within_a_second(401)
        # A call that runs goes on to its end.
        assert any("[DONE]" in line for line in lines)
    wait_until(lambda: here.usage(org), "the running call is recorded")
    assert [row["status"] for row in here.usage(org)] == ["settled"]
    for server in servers:
        server.stop()
