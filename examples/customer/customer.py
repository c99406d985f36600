"""A customer's server: logs in with Deerer, reads its balance, posts what was used, and checks the books.

    python customer.py http://127.0.0.1:8000
    python customer.py http://one.example.com http://two.example.com --records 1000 --threads 16

Several addresses are instances of one Ledgerline. Each record is posted by two or three threads at a time, and
again whenever an answer is lost: its Idempotency-Key makes it one record all the same. The wallet must have no
other spender meanwhile. The standard library and `cryptography` are all it needs. The application's id and
secret and its API key are read from LEDGERLINE_APP_ID, LEDGERLINE_APP_SECRET and LEDGERLINE_API_KEY.
"""

import argparse
import base64
import collections
import concurrent.futures
import decimal
import http.client
import itertools
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

PATIENCE_SECONDS = 120
# A signature is taken once: when its answer was lost, or the server began later, the next one is.
SIGN_AGAIN = ("signature_replayed", "signature_expired")


class Deerer:
    """Makes the Authorization of each request; no two are the same."""

    def __init__(self, app_id, app_secret, api_key):
        self.app_id, self.api_key = app_id, api_key
        self.cipher = Cipher(algorithms.AES(app_secret.encode("latin-1").ljust(32, b"*")[:32]), modes.ECB())
        self.last, self.lock = 0, threading.Lock()

    def authorization(self):
        with self.lock:
            self.last = micros = max(self.last + 1, time.time_ns() // 1000)
        padder, encryptor = PKCS7(128).padder(), self.cipher.encryptor()
        text = f"{micros // 1_000_000}.{micros % 1_000_000:06}:{self.api_key}".encode("latin-1")
        cipher = encryptor.update(padder.update(text) + padder.finalize()) + encryptor.finalize()
        return f"Deerer {self.app_id}-:-{base64.b64encode(cipher).decode()}"


class Refused(Exception):
    """An answer that repeating the request does not change."""


class Client:
    """Asks one instance after another until one answers."""

    def __init__(self, urls, deerer):
        self.urls, self.deerer = [url.rstrip("/") for url in urls], deerer
        self.turn, self.lost, self.lock = itertools.count(), 0, threading.Lock()

    def call(self, method, path, body=None, key=None):
        """The whole answer, once it is one."""
        end, pause = time.monotonic() + PATIENCE_SECONDS, 0.02
        while True:
            url = self.urls[next(self.turn) % len(self.urls)]
            headers = {"authorization": self.deerer.authorization(), "content-type": "application/json"}
            if key is not None:
                headers["idempotency-key"] = key
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(url + path, data=data, headers=headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as refusal:
                text = refusal.read().decode(errors="replace")
                again = refusal.code in (408, 425, 429) or refusal.code >= 500 or any(code in text for code in SIGN_AGAIN)
                if not again:
                    raise Refused(f"{method} {path}: {refusal.code} {text}") from None
                why = f"{refusal.code} {text}"
            except (OSError, http.client.HTTPException, ValueError) as failure:
                # Whether it arrived is not known: the same key makes it the same post.
                why = repr(failure)
            if time.monotonic() > end:
                raise Refused(f"{method} {path}: no answer in {PATIENCE_SECONDS} s: {why}")
            with self.lock:
                self.lost += 1
            time.sleep(pause)
            pause = min(pause * 2, 1)

    def balance(self):
        return decimal.Decimal(self.call("GET", "/api/v1/balance")["data"]["available"])

    def records(self, min_seq):
        """All posts of the organization, page by page, the one with this sequence number among them."""
        query = {"rows": 1000, "min_seq": min_seq}
        while True:
            page = self.call("GET", f"/api/v1/accounting?{urllib.parse.urlencode(query)}")["data"]
            yield from page["rows"]
            if not page["next"]:
                return
            query["cursor"] = page["next"]


def post_all(client, run, options):
    """Posts every record two or three times; returns the sequence numbers that each was answered with."""
    def post(number):
        key = f"{run}-{number}"
        body = {"userid": f"u{number % 7}", "llmid": "sim-small", "amount": str(options.amount),
                "usage": {"total_tokens": number}}
        return key, client.call("POST", "/api/v1/accounting", body, key)["data"]["seq"]

    numbers = [number for number in range(options.records) for _ in range(3 if number % 5 == 0 else 2)]
    answers = collections.defaultdict(set)
    with concurrent.futures.ThreadPoolExecutor(options.threads) as pool:
        for key, seq in pool.map(post, numbers):
            answers[key].add(seq)
    return answers, len(numbers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--amount", type=decimal.Decimal, default=decimal.Decimal("0.01"))
    options = parser.parse_args()
    names = ("LEDGERLINE_APP_ID", "LEDGERLINE_APP_SECRET", "LEDGERLINE_API_KEY")
    client = Client(options.urls, Deerer(*(os.environ[name] for name in names)))
    before, run = client.balance(), uuid.uuid4().hex
    answers, sent = post_all(client, run, options)
    last = max(itertools.chain.from_iterable(answers.values()))
    listed = collections.Counter(row["transno"] for row in client.records(last) if (row["transno"] or "").startswith(run))
    after = client.balance()
    report = {"records": sum(listed.values()), "sent": sent, "repeated": client.lost, "before": str(before),
              "after": str(after)}
    wrong = []
    if set(listed) != set(answers) or len(answers) != options.records or set(listed.values()) != {1}:
        wrong.append("the list has not every record once")
    if any(len(seqs) != 1 for seqs in answers.values()):
        wrong.append("a record was answered in different ways")
    if before - after != options.amount * options.records:
        wrong.append("the balance is not what the records leave")
    print(json.dumps({**report, "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Refused as refusal:
        sys.exit(str(refusal))
