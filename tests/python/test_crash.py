"""kill -9 under load: every acknowledged call is in the books once, and every hold resolves."""

import decimal
import random
import threading

import httpx
from conftest import Server, verify, wait_until

CRASHES = 20
CALLERS = 12


def test_twenty_kills_under_load(tmp_path):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    server = Server(tmp_path)
    acknowledged = {}
    for _ in range(CRASHES):
        server.start()
        stop = threading.Event()

        def call():
            with httpx.Client(timeout=10) as client:
                while not stop.is_set():
                    stream = rng.random() < 0.3
                    body = {"model": "sim-small", "stream": stream, "messages": [{"role": "user", "content": "hello"}]}
                    try:
                        answer = client.post(
                            f"{server.url}/v1/chat/completions", json=body,
                            headers={"authorization": f"Bearer {server.key}"},
                        )
                    except httpx.HTTPError:
                        continue
                    assert answer.status_code == 200, answer.text
                    if not stream or answer.text.endswith("data: [DONE]\n\n"):
                        acknowledged[answer.headers["x-ledgerline-charge-id"]] = True

        callers = [threading.Thread(target=call) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        enough = len(acknowledged) + rng.randrange(5, 40)
        wait_until(lambda: len(acknowledged) >= enough, "so many calls are acknowledged", 60)
        server.kill()
        stop.set()
        for caller in callers:
            caller.join()
    server.start()
    rows = server.usage(server.org)
    wallet = server.wallet()
    by_id = {}
    for row in rows:
        assert row["id"] not in by_id, "a call is in the books twice"
        by_id[row["id"]] = row
    missing = set(acknowledged) - set(by_id)
    assert not missing, f"{len(missing)} acknowledged calls are not in the books"
    assert all(by_id[charge]["status"] == "settled" for charge in acknowledged)
    spent = sum(decimal.Decimal(row["cost"]) for row in rows)
    assert decimal.Decimal("100") - decimal.Decimal(wallet["posted"]) == spent
    assert wallet["held"] == "0"
    server.stop()
    report = verify(server.data)
    assert report["ok"] and report["open_holds"] == 0, report
    assert len(acknowledged) >= CRASHES * 5
