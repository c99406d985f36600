"""An operator's work, done by commands alone."""

import concurrent.futures
import csv
import datetime
import decimal
import fractions
import http.server
import json
import os
import pathlib
import re
import subprocess
import threading
import time

import httpx
import pytest
from conftest import BIN, wait_until

ROOT = pathlib.Path(__file__).parents[2]
D = decimal.Decimal
F = fractions.Fraction
#: 1 token in, 24 out.
HELLO = {"model": "sim-small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 24}
PRICES = """
name: spring
currency: CNY
rules:
- model: sim-small
  prices:
  - {class: input, price: "1"}
  - {class: output, graduated: [{up_to: 60, price: "40"}, {price: "3"}], period: month}
"""


def run(*arguments, server=None, **environment):
    """A command in the demo's folder, where it finds the server and its key by itself."""
    clean = {name: value for name, value in os.environ.items() if name not in ("LEDGERLINE_API_KEY", "LEDGERLINE_URL")}
    return subprocess.run(
        [str(pathlib.Path(BIN).resolve()), *map(str, arguments)], cwd=server and server.folder, capture_output=True, text=True,
        timeout=120, env={**clean, **environment},
    )


@pytest.fixture
def do(server):
    """Runs a command that succeeds, and gives what it printed."""

    def doing(*arguments):
        done = run(*arguments, server=server)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout.rstrip("\n")

    return doing


@pytest.fixture
def told(do):
    """Runs a command that succeeds, and gives the JSON it printed."""
    return lambda *arguments: json.loads(do(*arguments, "--json"))


def subcommands(*command):
    """Every command below this one, itself included, with its help."""
    shown = run(*command, "--help")
    assert shown.returncode == 0, command
    yield command, shown.stdout
    _, _, listed = shown.stdout.partition("\nCommands:\n")
    for name in re.findall(r"^  ([a-z-]+) ", listed.split("\n\n")[0] + "\n", re.M):
        if name != "help":
            yield from subcommands(*command, name)


def early_in_a_minute():
    """Limits by the minute count from the clock's minute: a test of one must not see two."""
    left = 60 - time.time() % 60
    if left < 20:
        time.sleep(left + 0.1)


def call(server, key):
    return server.client.post("/v1/chat/completions", json=HELLO, headers={"authorization": f"Bearer {key}"})


def answers(server, key, count):
    """The statuses and error codes of so many calls, one after the other."""
    made = [call(server, key) for _ in range(count)]
    return [(answer.status_code, answer.json().get("error", {}).get("code")) for answer in made]


FINE = (200, None)


def test_a_customer_is_set_up_limited_and_billed_by_commands_alone(server, do, told, tmp_path):
    # A customer.
    org = do("org", "create", "Acme, \u5ba2\u6237", "--get", "id")
    user = do("user", "create", org, "Alice", "--get", "id")
    key_id, key = do("key", "create", org, "production", "--user", user, "--get", "id,api_key").split("\t")
    assert told("key", "show", key_id)["user_id"] == user and key.startswith("llk_")

    # A price version: checked, recorded, tried, activated.
    file = tmp_path / "prices.yaml"
    file.write_text(PRICES.replace("price: \"1\"", "prise: \"1\""))
    wrong = run("price", "validate", file, server=server)
    assert wrong.returncode == 1 and "prise" in wrong.stderr and "invalid_price_file" in wrong.stderr
    file.write_text(PRICES)
    version = do("price", "record", file, "--get", "id")
    assert told("price", "validate", file)["id"] == version
    assert told("price", "show", version)["state"] == "draft"
    do("price", "activate", version)
    assert told("price", "show", version)["state"] == "in_force"
    assert "spring" in do("price", "list") and "graduated" in do("price", "show", version, "--file")

    # Money: a lot that is spent first, and what was paid.
    do("wallet", "grant", org, "0.001", "--kind", "promotional", "--priority", 10, "--expires", "30d", "--reason", "welcome")
    do("wallet", "grant", org, "10", "--kind", "paid", "--reason", "invoice 1")
    assert [(lot["kind"], lot["remaining"]) for lot in told("wallet", "lots", org)] == [("promotional", "0.001"), ("paid", "10")]

    # Requests per minute: five and no more.
    do("limit", "set", org, "requests", 5, "--per", "minute", "--key", key_id)
    early_in_a_minute()
    assert answers(server, key, 7) == [FINE] * 5 + [(429, "rate_limit_exceeded")] * 2
    (limit,) = told("limit", "show", org)["rows"]
    assert (limit["limit"], limit["used"], limit["subject"]) == (5, 5, key_id)
    do("limit", "remove", org, "requests", "--per", "minute", "--key", key_id)

    # The third call passed the tier: 24 + 24 + 12 at 40, and 12 at 3.
    calls = told("usage", "search", "--org", org, "--all")["rows"]
    assert [row["cost"] for row in calls] == ["0.000073"] * 2 + ["0.000517"] + ["0.000961"] * 2
    explained = told("price", "explain", calls[2]["id"])
    lines = explained["lines"]
    assert [(line["units"], line["price"]) for line in lines if "output" in line.get("class", "")] == [(12, "40"), (12, "3")]
    assert sum(F(line["amount"]) for line in lines) == F(explained["charged"]) == F("0.000517")
    for row in calls:
        explained = told("price", "explain", row["id"])
        assert sum(F(line["amount"]) for line in explained["lines"]) == F(explained["charged"]) == F(row["cost"])
        assert explained["price_id"] == version
    assert "graduated" not in do("price", "explain", calls[2]["id"]) and "0.000036" in do("price", "explain", calls[2]["id"])
    # The promotional lot went first, and is used up.
    assert [(lot["kind"], lot["remaining"]) for lot in told("wallet", "lots", org)] == [("paid", "9.998415")]

    # Money per day: what a call sets aside must fit beside what was spent. Prices stand still by now.
    cost, held = D(calls[0]["cost"]), D(calls[0]["held"])
    do("limit", "set", org, "spend", held + 2 * cost, "--per", "day", "--key", key_id)
    assert answers(server, key, 5) == [FINE] * 3 + [(429, "spend_limit_reached")] * 2
    do("limit", "remove", org, "spend", "--per", "day", "--key", key_id)

    # The wallet: taken down to what two calls need.
    available = D(told("wallet", "show", org)["available"])
    do("wallet", "adjust", org, held + cost - available, "--reason", "ticket 17")
    assert D(told("wallet", "show", org)["available"]) == held + cost
    assert answers(server, key, 4) == [FINE] * 2 + [(402, "insufficient_balance")] * 2

    # The end of the month, twice.
    month = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m")
    written = {}
    for turn in ("first", "again"):
        for name, command in {
            "usage.csv": ("usage", "export", "--org", org),
            "statement.csv": ("wallet", "statement", org, "--format", "csv"),
            "statement.json": ("wallet", "statement", org, "--format", "json"),
        }.items():
            output = tmp_path / f"{turn}-{name}"
            do(*command, "--month", month, "--output", output)
            written[turn, name] = output.read_bytes()
            assert not list(tmp_path.glob("*.part"))
    for name in ("usage.csv", "statement.csv", "statement.json"):
        assert written["first", name] == written["again", name], name
    rows = list(csv.DictReader(written["first", "usage.csv"].decode().splitlines()))
    assert len(rows) == 10 and {row["org_id"] for row in rows} == {org}
    (total,) = told("usage", "sum", "--org", org, "--month", month)["totals"]
    assert sum(D(row["cost"]) for row in rows) == D(total["cost"]) and total["calls"] == 10
    statement = json.loads(written["first", "statement.json"])
    entries = list(csv.DictReader(written["first", "statement.csv"].decode().splitlines()))
    assert [row["amount"] for row in entries] == [row["amount"] for row in statement["rows"]]
    assert sum(D(row["amount"]) for row in entries) == D(statement["closing"]) == D(told("wallet", "show", org)["posted"])
    assert {row["usage_id"] for row in entries if row["what"] == "charge"} == {row["id"] for row in rows}
    shown = run("usage", "export", "--org", org, "--month", month, server=server).stdout
    assert shown.splitlines() == written["first", "usage.csv"].decode().splitlines()

    # All of it is in the audit log.
    actions = {row["action"] for row in told("audit", "list", "--org", org, "--all")["rows"]}
    assert {"org.create", "user.create", "key.create", "grant.create", "adjustment.create", "limit.set", "limit.delete"} <= actions
    (removed, *_) = told("audit", "list", "--org", org, "--action", "limit.delete")["rows"]
    assert D(removed["before"]["limit"]) == held + 2 * cost


def test_a_key_is_rotated_without_one_failed_request(server, do):
    org = do("org", "create", "Acme", "--get", "id")
    do("wallet", "grant", org, "10", "--reason", "test")
    key_id, old = do("key", "create", org, "production", "--get", "id,api_key").split("\t")
    in_use, stop, seen = [old], threading.Event(), []

    def keep_calling():
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while not stop.is_set():
                key = in_use[0]
                answer = client.post("/v1/chat/completions", json=HELLO, headers={"authorization": f"Bearer {key}"})
                seen.append((key, answer.status_code))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(keep_calling) for _ in range(4)]
        try:
            wait_until(lambda: len(seen) >= 20, "calls with the old key")
            new_id, new = do("key", "rotate", key_id, "--overlap", "4s", "--get", "id,api_key").split("\t")
            rotated = time.monotonic()
            # Its user takes a while to change over.
            before = len(seen)
            wait_until(lambda: len(seen) >= before + 20, "calls with the old key after the rotation")
            in_use[0] = new
            before = len(seen)
            wait_until(lambda: len(seen) >= before + 20, "calls with the new key")
            assert time.monotonic() - rotated < 4, "this machine is too slow for the overlap"
        finally:
            stop.set()
    for one in running:
        one.result()
    assert {status for _, status in seen} == {200} and {key for key, _ in seen} == {old, new}
    ended = wait_until(lambda: (answer := call(server, old)).status_code == 401 and answer, "the old key's end")
    assert ended.json()["error"]["code"] == "api_key_expired" and call(server, new).status_code == 200
    do("key", "revoke", new_id)
    wait_until(lambda: call(server, new).status_code == 401, "the end of the revoked key")
    assert run("key", "show", new_id, server=server).returncode == 1
    assert new_id in do("key", "list", "--org", org, "--deleted", "--get", "id").split()


def test_every_command_has_help_with_an_example_and_every_reading_one_tells_json(server, do, told):
    known = dict(subcommands())
    for noun in ("org", "user", "app", "key", "role", "wallet", "limit", "alert", "price", "model", "provider", "usage", "sync", "audit"):
        assert sum(command[:1] == (noun,) for command in known) > 1, noun
    for command, text in known.items():
        assert re.search(r"^Examples?:$", text, re.M), command
        if command:
            (example, *_) = re.findall(rf"^  .*ledgerline .*", text.partition("Example")[2], re.M)
            assert f"ledgerline {command[0]}" in example, command
    org = server.org
    call(server, server.key)
    (charge,) = do("usage", "search", "--org", org, "--get", "id").split()
    (version, *_) = do("price", "list", "--get", "id").split()
    (app,) = do("app", "list", "--org", org, "--get", "id").split()
    (key, *_) = do("key", "list", "--org", org, "--get", "id").split()
    reading = [
        ("org", "list"), ("org", "show", org), ("user", "list"), ("app", "list"), ("app", "show", app), ("app", "signing", app),
        ("key", "list"), ("key", "show", key), ("role", "list"), ("role", "rules"), ("role", "routes"), ("wallet", "show", org),
        ("wallet", "lots", org), ("wallet", "statement", org, "--month", "2026-11"), ("limit", "show", org), ("limit", "zone", org),
        ("price", "list"), ("price", "show", version), ("price", "activations"), ("price", "terms", org),
        ("price", "explain", charge), ("price", "simulate", version, "--from", "2026-01", "--to", "2040-01"), ("model", "list"),
        ("model", "show", "sim-small"), ("provider", "list"), ("provider", "show", "sim"), ("usage", "search"),
        ("usage", "show", charge), ("usage", "sum", "--by", "org,day"), ("alert", "list", org), ("alert", "deliveries", org),
        ("sync", "list"), ("audit", "list"),
    ]
    for command in reading:
        assert isinstance(told(*command), (dict, list)), command
        people = do(*command).splitlines()
        assert people and not people[0].startswith("{"), command
        assert all(line == line.rstrip() for line in people), command
    # What the server says is what is printed.
    exact = server.admin.get(f"/admin/orgs/{org}").text
    assert do("org", "show", org, "--json") == exact
    exact = server.admin.get("/admin/orgs").text
    assert do("org", "list", "--json") == exact


def test_lists_follow_their_pages(server, do, told):
    org = do("org", "create", "Many", "--get", "id")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = pool.map(lambda n: server.admin.post(f"/admin/orgs/{org}/users", json={"name": f"u{n}"}).raise_for_status().json()["id"], range(1_050))
        ids = sorted(made)
    list_ = ("user", "list", "--org", org)
    assert do(*list_, "--all", "--get", "id").split() == ids
    assert do(*list_, "--limit", 1_020, "--get", "id").split() == ids[:1_020]
    assert len(do(*list_).splitlines()) == 51
    part = told(*list_, "--limit", 1_020)
    rest = told(*list_, "--limit", 100, "--cursor", part["next"])
    assert [row["id"] for row in part["rows"] + rest["rows"]] == ids and rest["next"] is None
    assert f"--cursor {part['next']}" in run(*list_, "--limit", 1_020, server=server).stderr
    assert run(*list_, "--limit", 0, server=server).returncode == 2


class Forgetful(http.server.BaseHTTPRequestHandler):
    """Stands before the server: passes requests on, and answers as it is told."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name: self.headers[name] for name in ("authorization", "idempotency-key", "content-type")}
        passed = httpx.post(self.server.behind + self.path, content=body, headers=headers)
        assert passed.status_code == 201, passed.text
        if self.server.how == "hang up":
            self.close_connection = True
            return
        self.send_response(502)
        self.end_headers()
        self.wfile.write(b"<html>bad gateway</html>")

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("how, code", [("hang up", 3), ("answer rubbish", 4)])
def test_a_request_without_an_answer_can_be_repeated_safely(server, do, how, code):
    between = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forgetful)
    between.how, between.behind = how, server.url
    threading.Thread(target=between.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{between.server_address[1]}"
    try:
        money = ("wallet", "grant", server.org, "5", "--reason", "once")
        prices = server.folder / "prices.yaml"
        prices.write_text(PRICES)
        version = do("price", "record", prices, "--get", "id")
        app = do("app", "create", server.org, "signer", "--get", "id")
        for command in [money, ("org", "create", "Once"), ("price", "activate", version), ("key", "create", server.org, "once"), ("app", "secret", app)]:
            lost = run(*command, "--server", address, server=server)
            assert lost.returncode == code, lost.stderr
            (key,) = re.findall(r"--idempotency-key ([0-9a-f-]{36})", lost.stderr)
            do(*command, "--idempotency-key", key)
    finally:
        between.shutdown()
        between.server_close()
    assert server.wallet()["posted"] == "105"
    assert do("org", "list", "--name", "Once", "--get", "id").count("\n") == 0
    assert do("price", "activations", "--get", "version_id") == version
    assert do("key", "list", "--org", server.org, "--name", "once", "--get", "id").count("\n") == 0
    renewed = do("audit", "list", "--target", app, "--action", "signing.renew", "--get", "action")
    assert renewed == "signing.renew", "one secret was made"
    secrets = {do("app", "secret", app, "--idempotency-key", "twice", "--get", "app_secret") for _ in range(2)}
    assert len(secrets) == 1 and len(secrets.pop()) == 32


def test_a_call_is_shown_and_limits_are_listed_in_parts(server, do, told):
    call(server, server.key)
    (charge,) = do("usage", "search", "--org", server.org, "--get", "id").split()
    shown = told("usage", "show", charge)
    assert shown == server.admin.get(f"/admin/usage/{charge}").json()
    assert (shown["id"], shown["org_id"], shown["status"], shown["attempts"]) == (charge, server.org, "settled", [])
    assert charge in do("usage", "show", charge) and do("usage", "show", charge, "--get", "status") == "settled"

    for measure, most in (("requests", 9), ("tokens", 99_999), ("spend", 5)):
        do("limit", "set", server.org, measure, most, "--per", "day")
    whole = told("limit", "show", server.org)
    assert (len(whole["rows"]), whole["next"], whole["time_zone"]) == (3, None, "UTC")
    first = told("limit", "show", server.org, "--limit", 2)
    rest = told("limit", "show", server.org, "--limit", 2, "--cursor", first["next"])
    assert first["rows"] + rest["rows"] == whole["rows"] and rest["next"] is None
    assert told("limit", "show", server.org, "--all") == whole


def test_alerts_are_looked_after_by_commands(server, do, told):
    org, hook = server.org, "https://example.com/hook"
    id_, secret = do("alert", "create", org, "10", hook, "--get", "id,secret").split("\t")
    assert secret.startswith("whsec_")
    again = {do("alert", "create", org, "5", hook, "--idempotency-key", "twice", "--get", "id,secret") for _ in range(2)}
    assert len(again) == 1 and len(told("alert", "list", org)["rows"]) == 2
    do("alert", "set", org, id_, "--amount", "7.5", "--if-version", 1)
    do("alert", "set", org, id_, "--url", f"{hook}/other")
    shown = told("alert", "show", org, id_)
    assert (shown["amount"], shown["url"], shown["low"], shown["version"]) == ("7.5", f"{hook}/other", False, 3)
    assert secret not in do("alert", "show", org, id_) and "7.5" in do("alert", "list", org)
    late = run("alert", "set", org, id_, "--amount", "1", "--if-version", 1, server=server)
    assert late.returncode == 1 and "version_mismatch" in late.stderr
    assert told("alert", "deliveries", org, "--state", "failed", "--alert", id_) == {"rows": [], "next": None}
    do("alert", "delete", org, id_)
    assert do("alert", "list", org, "--get", "id").count("\n") == 0
    assert run("alert", "show", org, id_, server=server).returncode == 1


def test_following_is_looked_after_by_commands(server, do, told):
    listed = told("sync", "list")
    assert listed == server.admin.get("/admin/sync").json()
    assert {row["entity"] for row in listed["rows"]} == {"users", "pricing", "uapi", "llmage"}
    assert {row["state"] for row in listed["rows"]} == {"off"} and "ENTITY" in do("sync", "list")


def test_how_a_command_failed_is_in_its_exit_code(server, tmp_path):
    org = server.org
    cases = [
        (1, "not_found", "org", "show", "nobody"),
        (1, "not_found", "org", "show", "../orgs"),
        (1, "invalid_limit", "limit", "set", org, "spend", "1", "--per", "minute"),
        (1, "not_found", "limit", "set", org, "requests", "1", "--per", "day", "--key", "nobody"),
        (1, "usage_not_found", "usage", "show", "nothing"),
        (1, "invalid_alert", "alert", "create", org, "1", "http://127.0.0.1/hook"),
        (1, "not_found", "alert", "redeliver", org, "nothing"),
        (1, "no_upstream", "sync", "run", "users"),
        (2, "llmage", "sync", "run", "nothing"),
        (2, "nothing to change", "alert", "set", org, "a"),
        (1, "version_mismatch", "org", "rename", org, "New", "--if-version", "77"),
        (2, "required", "org", "create"),
        (2, "--month", "wallet", "statement", org),
        (2, "month", "usage", "export", "--month", "November"),
        (2, "no time", "usage", "search", "--from", "yesterday"),
        (2, "whole number", "limit", "set", org, "requests", "1.5", "--per", "day"),
        (2, "nothing to change", "key", "limit", "k"),
        (2, "cannot be used with", "org", "list", "--json", "--get", "id"),
        (3, "cannot be reached", "org", "list", "--server", "http://127.0.0.1:1"),
    ]
    for code, words, *command in cases:
        done = run(*command, server=server)
        assert done.returncode == code and words in done.stderr and not done.stdout, (command, done)
    # Not in a demo's folder there is no key, and a key that is none is refused.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    nobody = subprocess.run([pathlib.Path(BIN).resolve(), "org", "list"], cwd=elsewhere, capture_output=True, text=True, env={})
    assert nobody.returncode == 2 and "LEDGERLINE_API_KEY" in nobody.stderr
    given = {"LEDGERLINE_URL": server.url, "LEDGERLINE_API_KEY": "llk_wrong"}
    wrong = run("org", "list", **given)
    assert wrong.returncode == 1 and "invalid_api_key" in wrong.stderr
    assert run("org", "list", **{**given, "LEDGERLINE_API_KEY": server.dev["admin"]["api_key"]}).returncode == 0
    key = tmp_path / "key"
    key.write_text(server.dev["admin"]["api_key"] + "\n")
    assert run("org", "list", "--key-file", key, **given).returncode == 0
    assert run("org", "list", "--data", server.data, **given).returncode == 0
    assert run("org", "list", **{**given, "LEDGERLINE_API_KEY": server.key}).returncode == 1
    # A download that fails leaves nothing, and what was there stays.
    kept = tmp_path / "kept.csv"
    kept.write_text("before")
    failed = run("wallet", "statement", "nobody", "--from", "2026-01-01T00:00:00Z", "--to", "2026-02-01T00:00:00Z", "--output", kept, server=server)
    assert failed.returncode == 1 and kept.read_text() == "before"
    # What is set for the commands is no setting of the server.
    check = run("config", "check", **given)
    assert check.returncode == 0, check.stderr


def test_names_of_strangers_do_no_harm_on_a_terminal(server, do):
    server.admin.post("/admin/orgs", json={"name": "x\u001b[2J\u202ey", "kind": "customer"}).raise_for_status()
    shown = do("org", "list")
    assert "\u001b" not in shown and "\u202e" not in shown and "x\\u{1b}[2J\\u{202e}y" in shown


def test_the_guide_to_the_commands_works_as_written(server, tmp_path):
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/operator.md").read_text(), re.S)
    assert len(blocks) >= 9
    environment = {**os.environ, "PATH": f"{pathlib.Path(BIN).resolve().parent}:{os.environ['PATH']}", "URL": server.url}
    script = "set -euo pipefail\n" + "\n".join(blocks)
    done = subprocess.run(["bash", "-c", script], cwd=server.folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for words in ("Acme", "promotional", "platform.auditor", "Asia/Shanghai", "0.0000", "draining"):
        assert words in done.stdout, words
    for name in ("usage.csv", "statement.csv"):
        assert len((server.folder / name).read_text().splitlines()) >= 2, name
