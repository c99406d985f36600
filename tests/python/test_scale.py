"""Several instances on one database: Redis between them, a replica beside them, restarts under load."""

import concurrent.futures
import decimal
import itertools
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time
import uuid

import httpx
import pytest
from conftest import BIN, Server, customer_report, run_customer, wait_until
from services import GALERA, MARIADBD, REDIS, MariaDb, Redis, free_port, galera_cluster
from test_mysql import URL, config
from test_mysql import verify as verify_books

D = decimal.Decimal

needs_mysql = pytest.mark.skipif(not URL, reason="no MySQL-compatible server (LEDGERLINE_TEST_MYSQL_URL)")
needs_redis = pytest.mark.skipif(not REDIS, reason="redis-server is not installed")
needs_galera = pytest.mark.skipif(not (MARIADBD and GALERA), reason="mariadbd or Galera is not installed")
needs_mariadbd = pytest.mark.skipif(not MARIADBD, reason="mariadbd is not installed")


@pytest.fixture
def instances(tmp_path):
    """Starts instances and other processes; stops them, the last first, and verifies the books."""
    begun = []

    def start(thing):
        begun.append(thing)
        return thing.start()

    def instance(shared, **options):
        folder = tmp_path / f"instance-{len(begun)}"
        folder.mkdir()
        return start(Server(folder, shared, **options))

    instance.process = start
    yield instance
    servers = [thing for thing in begun if isinstance(thing, Server)]
    for server in servers[1:]:
        server.stop()
    if servers:
        servers[0].stop()
        verify_books(servers[0].folder)
    for thing in begun:
        thing.kill()


@pytest.fixture
def open_folder():
    """A folder that the user of a database server reaches, too."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder)


def figure(server, name):
    """A figure without labels."""
    text = server.admin.get("/metrics").raise_for_status().text
    return next((float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} ")), None)


def notes(server):
    answer = httpx.get(f"{server.url}/readyz", timeout=10)
    assert answer.status_code == 200, answer.text
    return " ".join(answer.json().get("notes", []))


def seconds_until_refused(here, there):
    """A key is used there, switched off here, and refused there: how much later?"""
    org, key = here.customer()
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=there.url, headers=headers, timeout=10) as client:
        key_id = next(
            row["id"] for row in here.admin.get(f"/admin/orgs/{org}/keys").raise_for_status().json()["rows"]
        )
        assert client.get("/v1/models").status_code == 200
        here.admin.patch(f"/admin/keys/{key_id}", json={"disabled": True}).raise_for_status()
        begun = time.monotonic()
        while client.get("/v1/models").status_code == 200:
            assert time.monotonic() - begun < 5
        return time.monotonic() - begun


@needs_mysql
@needs_redis
def test_changes_are_seen_at_once_over_redis_and_within_a_second_without(instances, tmp_path):
    redis = instances.process(Redis(tmp_path))
    shared = {**config(), "redis": {"url": redis.url}}
    one, two = instances(shared), instances(shared)
    for server in (one, two):
        wait_until(lambda: figure(server, "ledgerline_events_connected") == 1, "the way to Redis")
    assert notes(one) == ""
    took = sorted(seconds_until_refused(one, two) for _ in range(8))
    assert took[4] < 0.25, took

    # Prices, too.
    def seconds_until_priced(rate):
        rates = {"input_per_million": str(rate), "output_per_million": "1"}
        file = {"currency": "CNY", "rules": [{"model": "sim-small", "rates": rates}]}
        version = one.admin.post("/admin/prices", json=file).raise_for_status().json()["id"]
        one.admin.post("/admin/prices/activations", json={"version_id": version}).raise_for_status()
        begun = time.monotonic()
        headers = {"authorization": f"Bearer {one.key}"}
        while two.client.get("/v1/models/sim-small", headers=headers).json()["price"]["id"] != version:
            assert time.monotonic() - begun < 5
        return time.monotonic() - begun

    took = sorted(seconds_until_priced(rate) for rate in range(1, 8))
    assert took[3] < 0.1, took

    redis.stall()
    wait_until(lambda: "redis" in notes(one) and "redis" in notes(two), "the stall is noted", 15)
    assert one.chat().status_code == 200 and two.chat(key=one.key).status_code == 200
    assert seconds_until_refused(one, two) < 1.5
    redis.resume()
    for server in (one, two):
        wait_until(lambda: notes(server) == "", "the way is open again", 15)
    assert sorted(seconds_until_refused(one, two) for _ in range(5))[2] < 0.25

    redis.kill()
    wait_until(lambda: "redis" in notes(one), "the end of Redis is noted", 15)
    assert figure(one, "ledgerline_events_connected") == 0
    assert seconds_until_refused(one, two) < 1.5
    assert one.chat().status_code == 200
    redis.start()
    wait_until(lambda: notes(one) == "" and notes(two) == "", "the way is made again", 15)


def test_redis_that_is_not_there_hinders_no_start(instances, tmp_path):
    server = Server(tmp_path, {"redis": {"url": "redis://127.0.0.1:1"}}).start()
    try:
        assert "redis" in notes(server)
        assert server.chat().status_code == 200
    finally:
        server.stop()
    refused = subprocess.run(
        [BIN, "config", "check", "--config", "/dev/stdin"], input="redis: {url: 'hunter2@nowhere'}",
        capture_output=True, text=True, timeout=20,
    )
    assert refused.returncode != 0 and "redis.url" in refused.stderr and "hunter2" not in refused.stderr


def post_a_thousand(one, two):
    """A customer's server posts a thousand records to two instances, one of them killed in the middle."""
    customer = one.dev["customer"]

    def posted(url):
        headers = {"authorization": f"Bearer {customer['api_key']}"}
        answer = httpx.get(f"{url}/api/v1/accounting", headers=headers, params={"rows": 1}, timeout=30)
        return answer.raise_for_status().json()["data"]["total"]

    running = run_customer(customer, one.url, two.url)
    try:
        wait_until(lambda: posted(one.url) >= 100, "the posts have begun", 60)
        two.kill()
        assert running.poll() is None and posted(one.url) < 1000, "it was killed in the middle"
        two.start()
        report = customer_report(running)
    finally:
        running.kill()
    assert report["repeated"] > 0, "answers were lost"
    assert posted(one.url) == posted(two.url) == 1000
    assert (report["after"], one.wallet(customer["org_id"])["available"]) == ("90", "90")


@needs_mysql
def test_a_thousand_posts_from_sixteen_threads_are_a_thousand(instances):
    shared = config()
    post_a_thousand(instances(shared, port=free_port()), instances(shared, port=free_port()))


@needs_galera
def test_two_instances_on_two_nodes_of_a_cluster_keep_one_book(open_folder, instances):
    nodes = [instances.process(node) for node in galera_cluster(open_folder)]
    assert nodes[1].run("SHOW STATUS LIKE 'wsrep_cluster_size'").split()[1] == "2"
    name = "ledgerline_test_galera"
    nodes[0].run(f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    shared = lambda node: {
        "database": {"url": f"mysql://root@127.0.0.1:{node.port}/{name}"}, "security": {"secret": "s" * 40},
    }
    post_a_thousand(*(instances(shared(node), port=free_port()) for node in nodes))


class RoundRobin:
    """Sends each request to the next instance that says it is ready. It repeats nothing."""

    def __init__(self, *servers):
        self.servers, self.ready = list(servers), set(servers)
        self.turn, self.lock, self.ending = itertools.count(), threading.Lock(), threading.Event()
        self.local = threading.local()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def watch(self):
        while not self.ending.wait(0.1):
            for server in self.servers:
                try:
                    fine = httpx.get(f"{server.url}/readyz", timeout=2).status_code == 200
                except httpx.HTTPError:
                    fine = False
                (self.ready.add if fine else self.ready.discard)(server)

    def request(self, method, path, **options):
        with self.lock:
            ready = [server for server in self.servers if server in self.ready]
            server = ready[next(self.turn) % len(ready)]
        clients = self.local.__dict__.setdefault("clients", {})
        client = clients.setdefault(server.url, httpx.Client(base_url=server.url, timeout=30))
        return client.request(method, path, **options)


@needs_mysql
def test_a_rolling_restart_under_load_fails_no_request(instances):
    shared = {**config(), "server": {"grace_seconds": 2, "drain_seconds": 20}}
    servers = [instances(shared), instances(shared)]
    org, key = servers[0].customer("100000")
    balancer = RoundRobin(*servers)
    headers = {"authorization": f"Bearer {key}"}
    stop, failures, answered = threading.Event(), [], [0] * 8

    def work(thread):
        body = {"model": "sim-small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 16}
        for number in itertools.count():
            if stop.is_set():
                return
            try:
                kind = number % 4
                if kind == 0:
                    answer = balancer.request("POST", "/v1/chat/completions", json=body, headers=headers)
                elif kind == 1:
                    answer = balancer.request("POST", "/v1/chat/completions", json={**body, "stream": True}, headers=headers)
                    assert answer.text.rstrip().endswith("data: [DONE]"), answer.text
                elif kind == 2:
                    post = {"amount": "0.01", "transno": uuid.uuid4().hex}
                    answer = balancer.request("POST", "/api/v1/accounting", json=post, headers=headers)
                else:
                    answer = balancer.request("GET", "/api/v1/balance", headers=headers)
                assert answer.status_code == 200, answer.text
                answered[thread] += 1
            except Exception as failure:  # whatever it is, it is one too many
                failures.append(repr(failure))

    threads = [threading.Thread(target=work, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    for server in servers:
        server.process.send_signal(signal.SIGTERM)
        refusing = wait_until(
            lambda: (lambda answer: answer if answer.status_code == 503 else None)(httpx.get(f"{server.url}/readyz")),
            "it says that it leaves", 5,
        )
        assert "stopping" in refusing.text and httpx.get(f"{server.url}/livez").headers["connection"] == "close"
        assert server.process.wait(30) == 0
        server.start()
        wait_until(lambda: server in balancer.ready, "it is back", 10)
        time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join()
    balancer.ending.set()
    assert failures == [] and min(answered) > 5, (failures[:3], answered)


@needs_mariadbd
def test_lists_come_from_the_replica_while_it_is_near(instances, tmp_path):
    primary = instances.process(MariaDb(tmp_path / "primary"))
    replica = instances.process(MariaDb(tmp_path / "replica", 2, "--read-only"))
    replica.follow(primary)
    primary.run("CREATE DATABASE l CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    wait_until(lambda: "l" in replica.run("SHOW DATABASES").split(), "the replica follows")
    shared = {
        "database": {
            "url": f"mysql://root@127.0.0.1:{primary.port}/l",
            "replica_url": f"mysql://root@127.0.0.1:{replica.port}/l",
        },
        "security": {"secret": "s" * 40},
    }
    server = instances(shared)

    def post():
        answer = server.client.post("/api/v1/accounting", json={"amount": "0.01", "transno": uuid.uuid4().hex})
        return answer.raise_for_status().json()["data"]

    def listed(**query):
        data = server.client.get("/api/v1/accounting", params=query).raise_for_status().json()["data"]
        return {row["transno"] for row in data["rows"]}

    def reads():
        return figure(server, "ledgerline_replica_reads"), figure(server, "ledgerline_replica_passed_over")

    first = post()
    wait_until(lambda: notes(server) == "", "the replica is near", 20)
    before = reads()
    wait_until(lambda: first["transno"] in listed(), "the post is there")
    assert reads()[0] > before[0]
    seq = server.chat().headers["x-ledgerline-seq"]
    usage = server.client.get("/v1/usage", params={"min_seq": seq}).json()["rows"]
    assert str(usage[0]["op_seq"] if "op_seq" in usage[0] else seq) == seq and len(usage) == 1
    summary = server.client.get("/v1/usage/summary", params={"min_seq": seq}).json()
    assert summary["totals"][0]["calls"] == 1

    # Ten seconds behind.
    replica.run("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=10; START SLAVE")
    second = post()
    begun = time.monotonic()
    assert second["transno"] in listed(min_seq=second["seq"]), "what one has written one can read"
    wait_until(lambda: second["transno"] in listed(), "the list is near again, from the primary", 5)
    assert time.monotonic() - begun < 3
    for _ in range(20):
        made = post()
        assert made["transno"] in listed(min_seq=made["seq"])
    wait_until(lambda: "replica" in notes(server), "it is told", 5)
    passed = reads()
    made = post()["transno"]
    assert made in listed(), "too far behind: read from the primary"
    assert reads()[1] > passed[1]
    wait_until(lambda: figure(server, "ledgerline_replica_lag_milliseconds") > 4000, "the lag is measured", 20)
    replica.run("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=0; START SLAVE")
    wait_until(lambda: notes(server) == "", "the replica has caught up", 30)
    passed = reads()
    assert made in listed()
    assert reads()[0] > passed[0]

    # Stalled, and gone.
    replica.stall()
    begun = time.monotonic()
    assert post()["transno"] in listed(min_seq=2**62) and time.monotonic() - begun < 3
    wait_until(lambda: "replica" in notes(server), "the stall is told", 10)
    assert made in listed()
    replica.resume()
    wait_until(lambda: notes(server) == "", "it is read again", 30)
    replica.kill()
    wait_until(lambda: "replica" in notes(server), "its end is told", 10)
    assert post()["transno"] in listed() and server.chat().status_code == 200
    replica.start()
    wait_until(lambda: notes(server) == "", "it is read again", 30)


def test_a_replica_needs_a_server(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps({"database": {"replica_url": "mysql://root@127.0.0.1:1/l"}}))
    refused = subprocess.run([BIN, "config", "check", "--config", file], capture_output=True, text=True, timeout=20)
    assert refused.returncode != 0 and "replica_url" in refused.stderr
