"""The same server on a MySQL-compatible database, alone and as two instances."""

import concurrent.futures
import decimal
import json
import os
import subprocess
import uuid

import pytest
from conftest import BIN, Server

URL = os.environ.get("LEDGERLINE_TEST_MYSQL_URL")
D = decimal.Decimal

pytestmark = pytest.mark.skipif(not URL, reason="no MySQL-compatible server (LEDGERLINE_TEST_MYSQL_URL)")


def config():
    name = f"ledgerline_test_{uuid.uuid4().hex}"
    host, _, port = URL.rpartition("@")[2].partition(":")
    subprocess.run(
        ["mariadb", "--no-defaults", "-h", host, "-P", port or "3306", "-u", "root", "-e",
         f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"],
        check=True,
    )
    return {"database": {"url": f"{URL}/{name}"}, "security": {"secret": "s" * 40}}


def verify(folder):
    command = [BIN, "verify", "--json", "--config", str(folder / "ledgerline.yaml")]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60).stdout)
    assert report["ok"] and report["open_holds"] == 0, report


def test_calls_are_held_charged_and_recorded(tmp_path):
    server = Server(tmp_path, config()).start()
    before = D(server.wallet()["available"])
    answers = [server.chat(stream=stream) for stream in (False, True, False)]
    assert [answer.status_code for answer in answers] == [200] * 3
    rows = server.usage(server.org)
    assert [row["status"] for row in rows] == ["settled"] * 3
    assert before - D(server.wallet()["posted"]) == sum(D(row["cost"]) for row in rows)
    repeated = [server.chat("again", headers={"idempotency-key": "k"}) for _ in range(2)]
    assert repeated[0].content == repeated[1].content and repeated[1].headers["idempotency-replayed"] == "true"
    assert server.chat("[[fail:500]]").status_code == 502
    server.stop()
    verify(tmp_path)
    assert "up to date" in subprocess.run(
        [BIN, "migrate", "--data", str(tmp_path / "m"), "--config", str(tmp_path / "ledgerline.yaml")],
        capture_output=True, text=True, timeout=60,
    ).stdout


def test_two_instances_share_one_wallet_and_one_of_them_may_die(tmp_path):
    shared = config()
    shared["metering"] = {"lease_seconds": 2, "sweep_seconds": 1}
    servers = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        servers.append(Server(tmp_path / name, shared).start())
    org, key = servers[0].customer(str(D("0.000097") * 60))

    def call(number):
        try:
            return servers[number % 2].chat(key=key, max_tokens=24).status_code
        except Exception:  # the killed instance
            return None

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        outcomes = [pool.submit(call, number) for number in range(300)]
        outcomes[60].result()
        servers[1].kill()
        statuses = [outcome.result() for outcome in outcomes]
    assert set(statuses) <= {200, 402, None}
    from conftest import wait_until

    wallet = wait_until(
        lambda: (lambda wallet: wallet if D(wallet["held"]) == 0 else None)(servers[0].wallet(org)),
        "the dead instance's holds ran out", 15,
    )
    spent = D("0.000097") * 60 - D(wallet["posted"])
    assert D(wallet["available"]) >= 0 and spent == sum(D(row["cost"]) for row in servers[0].usage(org))
    assert statuses.count(200) <= len([row for row in servers[0].usage(org) if row["status"] == "settled"])
    servers[0].stop()
    verify(tmp_path / "a")


def test_an_instance_with_another_secret_is_refused(tmp_path):
    shared = config()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    server = Server(tmp_path / "a", shared).start()
    server.stop()
    other = Server(tmp_path / "b", {**shared, "security": {"secret": "t" * 40}})
    with pytest.raises(AssertionError, match="another server secret"):
        other.start()
