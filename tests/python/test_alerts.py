"""Low-balance alerts: a receiver of its own hears of a wallet that falls, and can trust what it hears."""

import base64
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import re
import subprocess
import threading
import time

import pytest
from conftest import Server, wait_until

GUIDE = (pathlib.Path(__file__).parents[2] / "docs/alerts.md").read_text()


def verify(secret, headers, body):
    """The function of the guide."""
    (snippet,) = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    scope = {}
    exec(snippet, scope)
    return scope["verify"](secret, headers, body)


class Receiver:
    """Keeps what is posted to it, and answers as it is told."""

    def __init__(self):
        self.received, self.status = [], 204
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(outer.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver():
    it = Receiver()
    yield it
    it.server.shutdown()


def config(receiver):
    return {"alerts": {"allowed_hosts": [f"127.0.0.1:{receiver.port}"], "first_retry_seconds": 1, "longest_retry_seconds": 1}}


def alert(server, org, amount, url, **headers):
    body = {"currency": "CNY", "amount": amount, "url": url}
    return server.admin.post(f"/admin/orgs/{org}/alerts", json=body, headers=headers)


def deliveries(server, org, **query):
    return server.admin.get(f"/admin/orgs/{org}/alerts/deliveries", params=query).raise_for_status().json()["rows"]


def test_a_wallet_that_falls_is_told_once_signed_as_published(start, receiver):
    server = start(Server, config(receiver))
    org, key = server.customer("0.001")
    made = alert(server, org, "0.0005", receiver.url).raise_for_status().json()
    secret = made["secret"]
    calls = 0
    while server.wallet(org)["posted"] > "0.0005":
        assert server.chat(key=key, text="word " * 20, max_tokens=30).status_code == 200
        calls += 1
        assert calls < 100
    begun = time.monotonic()
    wait_until(lambda: receiver.received, "the webhook", 5)
    assert time.monotonic() - begun < 2
    headers, body = receiver.received[0]
    assert verify(secret, headers, body)
    # The same, written from the specification and not from the guide.
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    digest = hmac.new(base64.b64decode(secret.split("_", 1)[1]), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    for changed in (body.replace(b'"CNY"', b'"USD"'), body + b" "):
        assert not verify(secret, headers, changed)
    assert not verify(secret, {**headers, "webhook-id": "other"}, body)
    assert not verify(secret, {**headers, "webhook-timestamp": "1700000000"}, body)
    event = json.loads(body)
    assert event["type"] == "wallet.low" and event["data"]["org_id"] == org
    assert event["data"]["alert_id"] == made["id"] and event["data"]["amount"] == "0.0005"
    assert event["data"]["posted"] <= "0.0005"
    for _ in range(2):
        server.chat(key=key, max_tokens=5)
    time.sleep(1.2)
    assert len(receiver.received) == 1, "it was told"
    (row,) = deliveries(server, org)
    assert (row["state"], row["id"], row["last_status"]) == ("delivered", headers["webhook-id"], 204)
    server.grant(org, "1", key="up")
    wait_until(lambda: not server.admin.get(f"/admin/orgs/{org}/alerts/{made['id']}").json()["low"], "the rise")
    figures = server.admin.get("/metrics").text
    assert "ledgerline_alerts_raised_total 1" in figures and "ledgerline_webhooks_delivered_total 1" in figures


def test_a_receiver_that_was_away_hears_of_it_when_it_is_back_a_killed_server_included(start, receiver):
    server = start(Server, config(receiver))
    receiver.status = 500
    org, _key = server.customer("5")
    secret = alert(server, org, "10", receiver.url).raise_for_status().json()["secret"]
    wait_until(lambda: len(receiver.received) >= 2, "a second attempt")
    assert deliveries(server, org, state="waiting")[0]["last_status"] == 500
    server.kill()
    receiver.status = 200
    server.start()
    wait_until(lambda: deliveries(server, org, state="delivered"), "the delivery")
    ids = {headers["webhook-id"] for headers, _body in receiver.received}
    assert len(ids) == 1 and all(verify(secret, headers, body) for headers, body in receiver.received)
    heard = len(receiver.received)
    (row,) = deliveries(server, org)
    server.admin.post(f"/admin/orgs/{org}/alerts/deliveries/{row['id']}/redeliver", json={}).raise_for_status()
    wait_until(lambda: len(receiver.received) == heard + 1, "the webhook once more")
    assert {headers["webhook-id"] for headers, _body in receiver.received} == ids


def test_private_addresses_are_refused_unless_the_operator_lists_them(start, receiver):
    server = start(Server)
    org, key = server.customer()
    for url in (receiver.url, "http://[::1]/", "http://169.254.169.254/latest/", "gopher://x/", "http://u:p@example.com/"):
        refused = alert(server, org, "1", url)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_alert"), url
    # A name is looked up when it is called: it must not lead inside then.
    server.grant(org, "1")
    alert(server, org, "1", f"http://localhost:{receiver.port}/hook").raise_for_status()
    row = wait_until(lambda: [row for row in deliveries(server, org) if row["attempts"]], "an attempt")[0]
    assert "no public address" in row["last_error"] and not receiver.received
    assert server.client.get(f"/admin/orgs/{org}/alerts", headers={"authorization": f"Bearer {key}"}).status_code == 403


def test_the_guide_works_as_written(start, receiver):
    server = start(Server, config(receiver))
    (block,) = re.findall(r"```sh\n(.*?)```", GUIDE, re.S)
    environment = {**os.environ, "URL": server.url, "ADMIN": server.dev["admin"]["api_key"], "HOOK": receiver.url}
    secrets = []
    for _ in range(2):
        done = subprocess.run(["bash", "-euc", block], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        secrets += re.findall(r'"secret":"(whsec_[^"]+)"', done.stdout)
    assert len(secrets) == 2 and secrets[0] == secrets[1], done.stdout
    server.grant(server.org, "1", key="more")
    spend = {"amount": "-95", "currency": "CNY", "reason": "test"}
    taken = server.admin.post(f"/admin/orgs/{server.org}/adjustments", json=spend, headers={"idempotency-key": "less"})
    taken.raise_for_status()
    wait_until(lambda: receiver.received, "the webhook")
    assert verify(secrets[0], *receiver.received[0])
    (yaml,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)
    file = server.folder / "guide.yaml"
    file.write_text(yaml)
    from conftest import BIN

    done = subprocess.run([BIN, "config", "check", "--config", str(file)], capture_output=True, text=True)
    assert done.returncode == 0 and "hooks.internal" in done.stdout, done.stderr
