"""Calls Ledgerline with signed requests (docs/uapi.md); the standard library is all it needs.

    python uapi.py GET http://127.0.0.1:8000/api/v1/balance
    python uapi.py POST http://127.0.0.1:8000/api/v1/accounting '{"amount":"0.01","transno":"t1"}'

The application's id and secret are read from LEDGERLINE_APP_ID and LEDGERLINE_APP_SECRET.
"""

import hashlib
import hmac
import os
import secrets
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


def string_to_sign(method, target, body, timestamp, nonce, key_id):
    """The text that a signature covers; `target` is the path and query as sent."""
    path, _, query = target.partition("?")
    pairs = "&".join(sorted(pair for pair in query.split("&") if pair))
    digest = hashlib.sha256(body).hexdigest()
    return "\n".join(["UAPI1", method, path, pairs, digest, str(timestamp), nonce, key_id])


def authorization(key_id, secret, method, target, body=b"", timestamp=None, nonce=None):
    """The value of the Authorization header."""
    timestamp = int(time.time()) if timestamp is None else timestamp
    nonce = nonce or secrets.token_urlsafe(16)
    text = string_to_sign(method, target, body, timestamp, nonce, key_id)
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return f"Uapi key={key_id},ts={timestamp},nonce={nonce},sig={signature}"


def call(method, url, body=b"", key_id=None, secret=None):
    """Sends a signed request; returns the status and the body."""
    key_id = key_id or os.environ["LEDGERLINE_APP_ID"]
    secret = secret or os.environ["LEDGERLINE_APP_SECRET"]
    parts = urllib.parse.urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = {
        "Authorization": authorization(key_id, secret, method, target, body),
        "Content-Type": "application/json",
    }
    request = urllib.request.Request(url, data=body or None, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()


if __name__ == "__main__":
    status, answer = call(sys.argv[1], sys.argv[2], sys.argv[3].encode() if len(sys.argv) > 3 else b"")
    print(answer.decode())
    sys.exit(0 if status < 400 else 1)
