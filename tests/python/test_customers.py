"""The API for customers' servers, with clients written from the published descriptions."""

import base64
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import httpx
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from conftest import BIN, Server, customer_report, run_customer, wait_until

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples" / "uapi"
sys.path.insert(0, str(EXAMPLES))
import uapi  # noqa: E402

FORM = {"userid": "u1", "llmid": "sim-small", "amount": 0.05, "usage": {"total_tokens": 7}}


def deerer(customer, now=None, secret=None, api_key=None, app_id=None):
    """`Authorization: Deerer`, as sage's clients make it."""
    padder = PKCS7(128).padder()
    text = f"{time.time() if now is None else now}:{api_key or customer['api_key']}".encode("latin-1")
    key = (secret or customer["app_secret"]).encode("latin-1").ljust(32, b"*")[:32]
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    cipher = encryptor.update(padder.update(text) + padder.finalize()) + encryptor.finalize()
    return f"Deerer {app_id or customer['app_id']}-:-{base64.b64encode(cipher).decode()}"


def signing_app(server, org, name="app"):
    """Another application of the organization: its id, secret and key."""
    app = server.admin.post(f"/admin/orgs/{org}/apps", json={"name": name}).raise_for_status().json()["id"]
    secret = server.admin.post(f"/admin/apps/{app}/signing/secret", json={}).raise_for_status().json()["app_secret"]
    key = server.admin.post(f"/admin/orgs/{org}/keys", json={"name": name, "app_id": app}).raise_for_status().json()
    return {"org_id": org, "app_id": app, "app_secret": secret, "api_key": key["api_key"]}


def balance(server, authorization, **headers):
    answer = httpx.get(f"{server.url}/api/v1/balance", headers={"authorization": authorization, **headers})
    body = answer.json()
    return answer.status_code, body["data"].get("code", body["data"].get("available"))


def test_the_published_vector_of_deerer():
    customer = {"app_id": "app1", "app_secret": "Xy7secret_0123456789A", "api_key": "V1StGXR8_Z5jdHi6B-myT"}
    assert deerer(customer, now="1717000000.25") == (
        "Deerer app1-:-aLxwnWUBSJWtPk+TSpgEdyNKe0I4igF/BA60/4eglhjQYVWfk1wIDSwob4xW/dk8"
    )


def test_the_three_credentials_of_sage_and_what_they_lacked(server):
    customer = server.dev["customer"]
    once = deerer(customer)
    assert balance(server, once) == (200, "100")
    assert balance(server, once) == (401, "signature_replayed")
    assert balance(server, f"Bearer {customer['api_key']}") == (200, "100")
    plain = httpx.get(f"{server.url}/api/v1/balance", headers={"x-api-key": customer["api_key"]})
    assert plain.json()["data"]["available"] == "100"
    for off in (-301, 301):
        assert balance(server, deerer(customer, now=time.time() + off)) == (401, "signature_expired")
    assert balance(server, deerer(customer, now=int(time.time()))) == (200, "100"), "whole seconds"
    other = signing_app(server, server.org)
    assert balance(server, deerer(customer, api_key=other["api_key"])) == (401, "invalid_signature")
    assert balance(server, deerer(customer, secret=other["app_secret"])) == (401, "invalid_signature")
    assert balance(server, deerer(customer, app_id=other["app_id"])) == (401, "invalid_signature")
    tampered = deerer(customer)
    assert balance(server, tampered[:-6] + ("A" if tampered[-6] != "A" else "B") + tampered[-5:])[0] == 401
    off = server.admin.patch(f"/admin/apps/{customer['app_id']}/signing", json={"deerer": False})
    assert off.json()["deerer"] is False
    assert balance(server, deerer(customer)) == (403, "deerer_disabled")
    log = server.logged()
    for secret in (customer["api_key"], customer["app_secret"], other["api_key"], other["app_secret"], once):
        assert secret not in log


def test_one_token_at_many_doors_is_let_in_once(server):
    token = deerer(server.dev["customer"])
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: balance(server, token)[0], range(64)))
    assert sorted(set(answers)) == [200, 401] and answers.count(200) == 1


def test_after_a_start_what_was_signed_before_is_refused(server):
    token = deerer(server.dev["customer"])
    assert balance(server, token)[0] == 200
    server.kill()
    server.start()
    assert balance(server, token) == (401, "signature_expired")
    assert balance(server, deerer(server.dev["customer"]))[0] == 200


def test_uapi_protects_the_whole_request(server):
    customer = server.dev["customer"]
    app = (customer["app_id"], customer["app_secret"])
    status, answer = uapi.call("GET", f"{server.url}/api/v1/balance?userid=u&currency=CNY", b"", *app)
    assert (status, json.loads(answer)["balance"]) == (200, 100)
    body = json.dumps({"amount": "1", "transno": "signed"}).encode()
    header = uapi.authorization(*app, "POST", "/api/v1/accounting", body)

    def post(body, target="/api/v1/accounting", method="POST"):
        answer = httpx.request(method, server.url + target, content=body, headers={"authorization": header})
        return answer.status_code, answer.json()["data"].get("code")

    assert post(body.replace(b"1", b"9")) == (401, "invalid_signature")
    assert post(body, "/api/v1/accounting?a=1") == (401, "invalid_signature")
    assert post(body, "/api/v1/balance", "GET") == (401, "invalid_signature")
    assert post(body) == (200, None)
    assert post(body) == (401, "signature_replayed")
    late = uapi.authorization(*app, "GET", "/api/v1/balance", timestamp=int(time.time()) - 400)
    assert balance(server, late) == (401, "signature_expired")
    assert server.wallet()["available"] == "99"
    model = {"model": "sim-small", "messages": [{"role": "user", "content": "signed"}]}
    body = json.dumps(model).encode()
    status, answer = uapi.call("POST", f"{server.url}/v1/chat/completions", body, *app)
    assert status == 200 and json.loads(answer)["choices"]


def test_the_clients_in_the_examples_work_as_written(server):
    customer = server.dev["customer"]
    environment = {
        **os.environ, "LEDGERLINE_APP_ID": customer["app_id"], "LEDGERLINE_APP_SECRET": customer["app_secret"],
    }
    body = '{"amount":"0.5","transno":"%s","usage":{"note":"用量"}}'
    for at, command in enumerate(([sys.executable, EXAMPLES / "uapi.py"], [EXAMPLES / "uapi.sh"])):
        for arguments in (
            ["POST", f"{server.url}/api/v1/accounting", body % at],
            ["GET", f"{server.url}/api/v1/accounting?sort=amount%20desc&rows=1&page=1"],
        ):
            done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=30)
            assert done.returncode == 0 and '"status":"ok"' in done.stdout, (done.stdout, done.stderr)
    assert server.wallet()["available"] == "99"


def test_concurrent_double_posting_is_one_post(server):
    def post(at):
        answer = server.client.post("/api/v1/accounting", json=FORM, headers={"idempotency-key": f"k{at % 8}"})
        return at % 8, answer.status_code, answer.text

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = set(pool.map(post, range(160)))
    assert len(answers) == 8 and {status for _, status, _ in answers} == {200}
    assert server.wallet()["available"] == "99.6"
    listed = server.client.get("/api/v1/accounting").json()["data"]
    assert listed["total"] == 8 and {row["usage"]["total_tokens"] for row in listed["rows"]} == {7}
    other = server.client.post("/api/v1/accounting", json={**FORM, "amount": 1}, headers={"idempotency-key": "k0"})
    assert (other.status_code, other.json()["status"], other.json()["data"]["code"]) == (
        409, "error", "idempotency_conflict")


def test_a_customers_server_posts_a_thousand_records_once_each(server):
    report = customer_report(run_customer(server.dev["customer"], server.url))
    assert (report["before"], report["after"]) == ("100", "90")
    listed = server.client.get("/api/v1/accounting", params={"rows": 1}).json()["data"]
    assert listed["total"] == 1000 and server.wallet()["available"] == "90"


def test_a_post_survives_a_crash_and_its_repeat_is_the_same(server):
    first = server.client.post("/api/v1/accounting", json={**FORM, "transno": "t1"})
    server.kill()
    server.start()
    again = server.client.post("/api/v1/accounting", json={**FORM, "transno": "t1"})
    assert (first.status_code, again.text) == (200, first.text)
    assert server.wallet()["available"] == "99.95"


def test_lists_go_by_page_and_by_cursor(server):
    for at in range(25):
        body = {"amount": f"0.{at + 10}", "transno": f"t{at}", "userid": f"u{at % 2}"}
        assert server.client.post("/api/v1/accounting", json=body).status_code == 200

    def page(**query):
        return server.client.get("/api/v1/accounting", params=query).raise_for_status().json()["data"]

    for name in ("rows", "page_size", "pagerows"):
        pages = [page(page=at, sort="amount", **{name: 10}) for at in (1, 2, 3)]
        assert [row["transno"] for part in pages for row in part["rows"]] == [f"t{at}" for at in range(25)]
        assert {part["total"] for part in pages} == {25}
    seen, cursor = [], None
    while True:
        part = page(rows=7, sort="amount desc", **({"cursor": cursor} if cursor else {}))
        seen += [row["transno"] for row in part["rows"]]
        cursor = part["next"]
        if not cursor:
            break
    assert seen == [f"t{at}" for at in reversed(range(25))]
    assert page(userid="u1")["total"] == 12
    refused = server.client.get("/api/v1/accounting", params={"sort": "org_id"})
    assert (refused.status_code, refused.json()["data"]["code"]) == (400, "invalid_sort")
    prices = server.client.get("/api/v1/pricing").json()["data"]
    assert {"sim-small", "sim-large"} <= {row["model"] for row in prices["rows"]}
    assert httpx.get(f"{server.url}/api/v1/health").json()["status"] == "ok"
    assert httpx.get(f"{server.url}/api/v1/users").status_code == 401


def test_the_commands_of_a_customers_server(server, tmp_path):
    file = tmp_path / "key"
    file.write_text(server.key + "\n")

    def run(*arguments, environment=None, key=("--key-file", str(file))):
        command = [BIN, *arguments, "--server", server.url, *key]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, env={**os.environ, **(environment or {})})

    posted = run("accounting", "post", "--amount", "2.5", "--transno", "c1", "--usage", '{"n":1}')
    assert posted.returncode == 0, posted.stderr
    assert run("accounting", "post", "--amount", "2.5", "--transno", "c1", "--usage", '{"n":1}').stdout == posted.stdout
    shown = run("balance", key=(), environment={"LEDGERLINE_API_KEY": server.key})
    assert json.loads(shown.stdout)["available"] == "97.5"
    assert json.loads(run("accounting", "list", "--rows", "5").stdout)["total"] == 1
    assert json.loads(run("pricing").stdout)["total"] >= 2 and json.loads(run("users").stdout)["total"] == 0
    refused = run("accounting", "post", "--amount", "2.6", "--transno", "c1")
    assert refused.returncode == 1 and "idempotency_conflict" in refused.stderr
    unknown = run("balance", key=(), environment={"LEDGERLINE_API_KEY": "llk_wrong"})
    assert unknown.returncode == 1 and "invalid_api_key" in unknown.stderr and "llk_wrong" not in unknown.stderr


class Between:
    """A proxy that can be told to fail, to cut answers short, and to repeat old ones."""

    def __init__(self, upstream):
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        self.mood, self.asked = "fine", 0
        between = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                between.asked += 1
                if between.mood == "down":
                    self.close_connection = True
                    return self.connection.close()
                headers = {"authorization": self.headers["authorization"]}
                answer = httpx.get(upstream + self.path, headers=headers, timeout=30)
                body = answer.content
                if between.mood == "empty":
                    body = json.dumps({"status": "ok", "data": {"rows": [], "more": False, "now": 1}}).encode()
                self.send_response(answer.status_code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                cut = between.mood == "cut" or (between.mood == "odd" and between.asked % 2)
                self.wfile.write(body[: len(body) // 2] if cut else body)
                if cut:
                    self.close_connection = True
                    self.connection.close()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()


def test_a_server_follows_another_through_faults(start):
    upstream = start(Server)
    between = start(Between, upstream.url)
    admin_app = signing_app(upstream, "platform", "follower")
    key = upstream.admin.post("/admin/orgs/platform/keys", json={
        "name": "follower", "role": "admin", "app_id": admin_app["app_id"]}).raise_for_status().json()["api_key"]
    follower = start(Server, config={"upstream": {
        "url": between.url, "app_id": admin_app["app_id"], "dapi_key": key, "dapi_secret": admin_app["app_secret"],
        "interval_seconds": 1, "page_rows": 7, "overlap_seconds": 5}})

    def status(entity="users"):
        rows = follower.admin.get("/admin/sync").raise_for_status().json()["rows"]
        return next(row for row in rows if row["entity"] == entity)

    def kept():
        """Ids of the upstream's users that the follower's customer sees."""
        data = follower.client.get("/api/v1/users", params={"source": "upstream", "rows": 1000}).raise_for_status().json()["data"]
        return {row["username"] for row in data["rows"] if row["kind"] == "user"}

    entities = ("users", "pricing", "uapi", "llmage")
    wait_until(lambda: all(status(entity)["state"] == "current" for entity in entities), "the first pass")
    # The same organization on both sides: the follower's customer sees its people there.
    org = follower.org
    assert status("pricing")["rows"] >= 2 and status("llmage")["rows"] >= 2 and status("uapi")["rows"] >= 1
    prices = follower.client.get("/api/v1/pricing", params={"source": "upstream"}).json()["data"]
    assert "sim-small" in {row["model"] for row in prices["rows"]}
    assert kept() == set(), "nobody of the follower's organization is known upstream"
    before = status()["rows"]

    between.mood = "odd"
    names = [f"person {at}" for at in range(30)]
    for name in names[:20]:
        upstream.admin.post(f"/admin/orgs/{upstream.org}/users", json={"name": name}).raise_for_status()
    wait_until(lambda: status()["rows"] == before + 20, "rows through a broken line", 60)
    between.mood = "down"
    wait_until(lambda: status()["state"] == "failing", "the fault shows")
    assert status()["last_error"]
    for name in names[20:]:
        upstream.admin.post(f"/admin/orgs/{upstream.org}/users", json={"name": name}).raise_for_status()
    follower.kill()
    between.mood = "fine"
    follower.start()
    assert follower.admin.post("/admin/sync/users/run").status_code == 202
    wait_until(lambda: status()["rows"] == before + 30, "rows after a crash", 90)
    wait_until(lambda: status()["failures"] == 0, "the fault is over")

    # An upstream that forgot everything is not believed, unless an administrator says so.
    between.mood = "empty"
    assert follower.admin.post("/admin/sync/users/run", params={"full": True}).status_code == 202
    wait_until(lambda: "max_delete_percent" in (status()["last_error"] or ""), "the mass deletion is refused")
    assert status()["rows"] == before + 30
    assert follower.admin.post("/admin/sync/users/run", params={"force": True}).status_code == 202
    wait_until(lambda: status()["rows"] == 0, "the mass deletion is believed")
    between.mood = "fine"
    assert follower.admin.post("/admin/sync/users/run", params={"full": True}).status_code == 202
    wait_until(lambda: status()["rows"] == before + 30, "everything is back", 60)

    assert follower.admin.post("/admin/sync/nothing/run").status_code == 400
    event = follower.client.post("/api/v1/events", json={"entity": "users"})
    assert (event.status_code, event.json()["data"]["code"]) == (403, "platform_only")
    mine = signing_app(follower, "platform", "upstream")
    asked = between.asked
    told = uapi.call("POST", f"{follower.url}/api/v1/events", b'{"entity":"pricing"}', mine["app_id"], mine["app_secret"])
    assert told[0] == 202 and wait_until(lambda: between.asked > asked, "an event makes it ask")
    assert follower.wallet(org)["available"] == "100", "money is not followed"


class Forward:
    """Passes posts on to wherever it is told, as they are."""

    def __init__(self):
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        self.target, self.answers = None, []
        forward = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name: self.headers[name] for name in ("authorization", "content-type")}
                answer = httpx.post(forward.target + self.path, content=body, headers=headers, timeout=30)
                forward.answers.append((answer.status_code, json.loads(body)))
                self.send_response(answer.status_code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()


def test_a_follower_is_told_and_asks_at_once(start):
    forward, follower = start(Forward), start(Server)
    app = signing_app(follower, "platform", "upstream")
    followers = [{"url": forward.url, "app_id": app["app_id"], "app_secret": app["app_secret"]}]
    forward.target = follower.url
    upstream = start(Server, config={"customers": {"followers": followers, "feed_interval_ms": 100}})
    key = upstream.admin.post("/admin/orgs/platform/keys", json={"name": "follower", "role": "admin"}).json()["api_key"]
    follower.stop()
    follower.config = {"upstream": {"url": upstream.url, "dapi_key": key, "interval_seconds": 3600}}
    follower.start()
    forward.target = follower.url

    def status():
        rows = follower.admin.get("/admin/sync").raise_for_status().json()["rows"]
        return next(row for row in rows if row["entity"] == "users")

    before = wait_until(lambda: (lambda row: row if row["state"] == "current" else None)(status()), "the first pass")
    forward.answers.clear()
    upstream.admin.post(f"/admin/orgs/{upstream.org}/users", json={"name": "new"}).raise_for_status()
    wait_until(lambda: status()["rows"] == before["rows"] + 1, "the follower was told", 10)
    assert (202, {"entity": "users"}) in forward.answers


def test_a_feed_shows_each_organization_its_own(server):
    mine = server.admin.post(f"/admin/orgs/{server.org}/users", json={"name": "Ann"}).raise_for_status().json()["id"]
    stranger, key = server.customer()

    def feed(key, **query):
        headers = {"authorization": f"Bearer {key}"}
        answer = httpx.get(f"{server.url}/api/v1/changes", params={"entity": "users", **query}, headers=headers)
        return answer.raise_for_status().json()["data"]

    assert {row["id"] for row in feed(server.key)["rows"]} == {f"org:{server.org}", f"user:{mine}"}
    assert {row["id"] for row in feed(key)["rows"]} == {f"org:{stranger}"}
    everything = feed(server.dev["admin"]["api_key"])
    assert len(everything["rows"]) == 4 and not everything["more"]
    last = everything["rows"][-1]
    since = {"since": last["updated_at"], "after": last["id"]}
    assert feed(server.dev["admin"]["api_key"], **since)["rows"] == []
    server.admin.patch(f"/admin/users/{mine}", json={"disabled": True}).raise_for_status()
    (changed,) = wait_until(lambda: feed(server.dev["admin"]["api_key"], **since)["rows"], "the change shows")
    assert changed["id"] == f"user:{mine}" and changed["data"]["disabled"] is True
