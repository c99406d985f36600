"""The price book as an operator and a customer see it."""

import datetime
import decimal
import http.server
import json
import os
import pathlib
import random
import re
import subprocess
import threading

import price_oracle
from conftest import Server, upstream_config, wait_until

D = decimal.Decimal
ROOT = pathlib.Path(__file__).parents[2]
TOKENS = ["input", "cached_input", "cache_write", "output", "reasoning"]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/prices.md").read_text(), re.S)


def record(server, file):
    answer = server.admin.post("/admin/prices", content=file if isinstance(file, str) else json.dumps(file))
    assert answer.status_code in (200, 201), answer.text
    return answer.json()["id"]


def activate(server, file, **more):
    version = record(server, file)
    server.admin.post("/admin/prices/activations", json={"version_id": version, **more}).raise_for_status()
    return version


def explained(server, charge, client=None):
    return (client or server.client).get(f"/v1/usage/{charge}/explain").raise_for_status().json()


def exact(text):
    """A decimal or a fraction of one, as lines print them."""
    numerator, _, denominator = text.partition("/")
    return price_oracle.F(numerator) / price_oracle.F(denominator or 1)


def test_the_guide_to_prices_works_as_written(server):
    environment = {**os.environ, "URL": server.url, "ADMIN": server.dev["admin"]["api_key"]}
    server.chat()
    shell = blocks("sh")
    assert len(shell) == 3
    output = ""
    for block in shell:
        done = subprocess.run(["bash", "-euc", block], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert '"code":' not in done.stdout, done.stdout
        output += done.stdout
    assert '"cost_before":"0.000097"' in output and '"plan":"gold"' in output, output
    yaml = blocks("yaml")
    assert len(yaml) == 2
    for file in [*yaml, *(path.read_text() for path in (ROOT / "examples/prices").glob("*.yaml") if path.name != "original.yaml")]:
        answer = server.admin.post("/admin/prices/validate", content=file)
        assert answer.status_code == 200, answer.text


def test_the_golden_vectors_are_those_of_the_oracle():
    cases = json.loads((ROOT / "crates/pricing/tests/golden/charges.json").read_text())
    assert len(cases) == 160
    for case in cases:
        assert price_oracle.decimal(price_oracle.charge(case)) == case["amount"], case


def test_charges_of_the_running_server_equal_the_oracles(server):
    """Random price files; every call is charged what the oracle says and explained line by line."""
    seed = int(os.environ.get("PRICE_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    rng = random.Random(seed)
    used = {}
    server.grant(server.org, "1000000", key="more")
    for _ in range(25):
        rules = [rule for scope in ({}, {"customer": server.org}) for rule in price_oracle.rules(rng, scope)]
        for rule in rules:
            rule["model"] = "sim-small"
        activate(server, {"currency": "CNY", "time_zone": "Asia/Shanghai", "rules": rules})
        for _ in range(2):
            answer = server.chat(f"[[words:{rng.randrange(1, 40)}]] hello", max_tokens=50)
            assert answer.status_code == 200, answer.text
            charge = explained(server, answer.headers["x-ledgerline-charge-id"])
            assert D(answer.headers["x-ledgerline-cost"]) == D(charge["amount"]) == D(charge["charged"])
            assert sum(map(exact, (line["amount"] for line in charge["lines"])), price_oracle.F(0)) == exact(charge["amount"])
            for count in charge["used_before"]:
                assert count["units"] == used.get((count["counter"], count["period"]), 0), (seed, charge)
            case = {
                "file": {"time_zone": "Asia/Shanghai", "rules": [{**rule, "model": "m"} for rule in rules]},
                "at": charge["admitted_at"].replace("Z", "+00:00"), "customer": server.org, "tokens": charge["tokens"],
                "used": {count["counter"].replace("sim-small/", "m/"): count["units"] for count in charge["used_before"]},
            }
            assert price_oracle.decimal(price_oracle.charge(case)) == charge["amount"], (seed, case, charge)
            rule = next(rule["rule"] for rule in charge["rules"] if "percent" not in rule["rule"])
            for item in rule.get("prices", []):
                if "period" in item:
                    add(used, item, rule, charge)


def add(used, item, rule, charge):
    """Counts what a call used, as the server must."""
    names = [name for name in price_oracle.CLASSES if name in price_oracle.listed(item)]
    counter = f"sim-small/{'+'.join(names)}/{item['period']}"
    listed = {name for other in rule["prices"] for name in price_oracle.listed(other)}
    covered = [
        name for name in price_oracle.CLASSES
        if name in names or name not in listed and price_oracle.PARENT.get(name) in names
    ]
    units = sum(1 if name == "call" else charge["tokens"].get(name, 0) for name in covered)
    period = next(count["period"] for count in charge["used_before"] if count["counter"] == counter)
    used[counter, period] = used.get((counter, period), 0) + units


PIPELINE = """
name: digest
nodes:
  outline: {type: llm, config: {model: sim-small, prompt: "[[words:5]]", max_tokens: 20, output: outline}}
  sum_up: {type: llm, config: {model: sim-small, prompt: "[[words:5]]", max_tokens: 20, output: text}}
edges: [{from: outline, to: sum_up}]
output: "= text"
"""


def test_runs_pay_the_prices_of_their_pipeline_and_its_steps(server):
    """Each call at its place's price; explained, tried again and shown with its place after prices have changed."""
    by_call = {"prices": [{"class": ["input", "output"], "price": "0"}], "per_call": "1"}
    rules = [
        {"model": "sim-small", **by_call},
        {"model": "sim-small", "pipeline": "digest", "percent": "50"},
        {"model": "sim-small", "pipeline": "digest", "step": "sum_up", "percent": "40"},
    ]
    version = activate(server, {"currency": "CNY", "rules": rules})
    (shown,) = server.client.get("/v1/models/sim-small").json()["price"]["rules"]
    assert shown["per_call"] == "1" and "pipeline" not in shown, "what counts outside of runs"
    assert server.client.post("/flows", content=PIPELINE).status_code == 201
    run = server.client.post("/runs", json={"assistant_id": "digest", "input": {}}).raise_for_status().json()
    values = server.client.get(f"/threads/{run['thread_id']}/runs/{run['run_id']}/join").raise_for_status().json()
    assert "__error__" not in values, values
    assert D(server.chat().headers["x-ledgerline-cost"]) == 1
    activate(server, {"currency": "CNY", "rules": rules[:1]})
    rows = server.client.get("/v1/usage").json()["rows"]
    costs = {(row["pipeline"], row["node"]): D(row["cost"]) for row in rows}
    assert costs == {("digest", "outline"): D("0.5"), ("digest", "sum_up"): D("0.2"), (None, None): D(1)}
    for row in rows:
        charge = explained(server, row["id"])
        assert (charge["price_id"], D(charge["charged"])) == (version, D(row["cost"]))
        assert (charge.get("pipeline"), charge.get("node")) == (row["pipeline"], row["node"])
        shares = [line for line in charge["lines"] if line["what"] == "percent"]
        assert len(shares) == {None: 0, "outline": 1, "sum_up": 2}[row["node"]], charge
    period = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
    again = server.admin.post(f"/admin/prices/{version}/simulate", json=period).raise_for_status().json()
    assert [(row["calls"], row["difference"]) for row in again["rows"]] == [(3, "0")]
    refused = {"currency": "CNY", "rules": [rules[0], {"model": "sim-small", "step": "sum_up", "percent": "40"}]}
    answer = server.admin.post("/admin/prices/validate", content=json.dumps(refused))
    assert [mistake["path"] for mistake in answer.json()["mistakes"]] == ["rules[1].step"], answer.text


class Speaker(http.server.BaseHTTPRequestHandler):
    """An upstream that hears and speaks."""

    USAGE = {
        "prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 10, "audio_tokens": 60, "image_tokens": 20},
        "completion_tokens_details": {"audio_tokens": 40, "reasoning_tokens": 4},
    }

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "hello"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": self.USAGE}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


def test_audio_and_images_are_charged_as_what_they_are(start):
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Speaker)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    server = start(Server, upstream_config(f"http://127.0.0.1:{upstream.server_port}"))
    prices = {"input": "1", "input_audio": "10", "input_image": "5", "output": "2", "output_audio": "20"}
    items = [{"class": name, "price": price, "per": 1000} for name, price in prices.items()]
    file = {"currency": "CNY", "rules": [{"model": "up", "prices": items}]}
    activate(server, file)
    answer = server.chat(model="up", max_tokens=100)
    assert answer.status_code == 200, answer.text
    charge = explained(server, answer.headers["x-ledgerline-charge-id"])
    assert charge["tokens"] == {
        "input": 10, "cached_input": 10, "cache_write": 0, "output": 6, "reasoning": 4,
        "input_audio": 60, "input_image": 20, "output_audio": 40,
    }
    # 20 as text, 60 of audio and 20 of images read; 10 as text and 40 of audio produced.
    assert D(charge["charged"]) == (20 * 1 + 60 * 10 + 20 * 5 + 10 * 2 + 40 * 20) / D(1000)
    (record,) = server.usage(server.org)
    assert (record["input_tokens"], record["cached_input_tokens"], record["output_tokens"]) == (90, 10, 46)
    upstream.shutdown()


def test_a_file_with_many_mistakes_is_answered_with_all_of_them(server):
    file = {
        "currency": "yuan", "rules": [
            {"model": "a", "rates": {"input_per_million": -1, "output_per_million": "1", "pixels": 2}},
            {"model": "b"},
            {"model": "c", "prices": [{"class": "input", "graduated": [{"up_to": 5, "price": "1"}]}]},
        ],
    }
    for path in ("/admin/prices", "/admin/prices/validate"):
        answer = server.admin.post(path, content=json.dumps(file))
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_price_file"), answer.text
        paths = [mistake["path"] for mistake in answer.json()["mistakes"]]
        assert sorted(paths) == [
            "currency", "rules[0].rates.input_per_million", "rules[0].rates.pixels", "rules[1]",
            "rules[2].prices[0].graduated[0]",
        ], answer.text
        assert all(mistake["problem"] and mistake["remedy"] for mistake in answer.json()["mistakes"])
    for body in (b"", b"\xff\xfe", b"currency: [", b"x" * (4 * 1024 * 1024 + 1)):
        assert server.admin.post("/admin/prices", content=body).status_code in (400, 413)
    rows = server.admin.get("/admin/prices").json()["rows"]
    assert {row["state"] for row in rows} == {"configured"}, "nothing was recorded"


def test_the_customer_sees_its_prices_and_nobody_elses_charges(server):
    org, key = server.customer("5", name="other")
    file = {"currency": "CNY", "rules": [
        {"model": "sim-small", "rates": {"input_per_million": "100", "output_per_million": "100"}},
        {"model": "sim-small", "customer": org, "rates": {"input_per_million": "7", "output_per_million": "7"}},
    ]}
    version = activate(server, file)
    mine = server.client.get("/v1/models/sim-small").json()["price"]
    theirs = server.client.get("/v1/models/sim-small", headers={"authorization": f"Bearer {key}"}).json()["price"]
    assert (mine["id"], mine["input_per_million"], theirs["input_per_million"]) == (version, "100", "7")
    charge = server.chat().headers["x-ledgerline-charge-id"]
    assert explained(server, charge)["charged"] == "0.0025"
    refused = server.client.get(f"/v1/usage/{charge}/explain", headers={"authorization": f"Bearer {key}"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "usage_not_found")
    assert server.admin.get(f"/admin/usage/{charge}/explain").json()["charged"] == "0.0025"


def test_prices_that_are_active_are_so_after_a_crash(start):
    server = start(Server)
    version = activate(server, (ROOT / "examples/prices/every-model.yaml").read_text())
    server.chat()
    server.kill()
    server.start()
    listed = {row["id"]: row["state"] for row in server.admin.get("/admin/prices").json()["rows"]}
    assert listed.pop(version) == "in_force" and set(listed.values()) == {"configured"}
    charge = explained(server, server.chat().headers["x-ledgerline-charge-id"])
    assert charge["price_id"] == version
    assert {count["units"] for count in charge["used_before"]} == {1}, "counted once, and kept"


def test_the_simulation_of_what_counted_changes_nothing(server):
    file = (ROOT / "examples/prices/every-model.yaml").read_text()
    version = activate(server, file)
    for _ in range(5):
        server.chat()
    period = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
    (row,) = server.admin.post(f"/admin/prices/{version}/simulate", json=period).raise_for_status().json()["rows"]
    assert (row["calls"], row["difference"]) == (5, "0") and D(row["cost_before"]) > 0
    doubled = record(server, file.replace('volume: [{up_to: 10000, price: "4"}', 'volume: [{up_to: 10000, price: "400"}'))
    (row,) = server.admin.post(f"/admin/prices/{doubled}/simulate", json=period).raise_for_status().json()["rows"]
    assert D(row["difference"]) > 0 and D(row["cost_after"]) == D(row["cost_before"]) + D(row["difference"])
    empty = server.admin.post(f"/admin/prices/{version}/simulate", json={"from": period["to"], "to": period["from"]})
    assert (empty.status_code, empty.json()["code"]) == (400, "invalid_period")


def test_the_originals_pricing_data_comes_back_as_it_went_in(server):
    text = (ROOT / "examples/prices/original-tokens.yaml").read_text()
    version = record(server, text)
    answer = server.admin.get(f"/admin/prices/{version}/file", params={"format": "original"})
    assert answer.text == text and answer.headers["content-type"].startswith("application/yaml")


def test_a_version_starts_by_itself_at_its_time(server):
    soon = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1.5)).isoformat()
    file = {"currency": "CNY", "rules": [{"model": "sim-small", "rates": {"input_per_million": "0", "output_per_million": "1000000"}}]}
    version = activate(server, file, starts_at=soon)
    assert server.client.get("/v1/models/sim-small").json()["price"]["id"] != version
    wait_until(lambda: server.client.get("/v1/models/sim-small").json()["price"]["id"] == version, "the start", 10)
    late = server.admin.delete("/admin/prices/activations/1")
    assert (late.status_code, late.json()["code"]) == (409, "activation_not_waiting")
