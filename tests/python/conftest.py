"""Starts the built binary as a user would, each test on a data folder of its own."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

BIN = os.environ.get("LEDGERLINE_BIN", "target/release/ledgerline")
START_SECONDS = 20


def wait_until(condition, what, seconds=START_SECONDS):
    """Waits for a condition and returns what it gives."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen in {seconds} s")


class Server:
    """`ledgerline serve --dev` on a free port, or on one that stays the same over restarts."""

    def __init__(self, folder, config=None, arguments=(), preexec=None, environment=None, port=0):
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"
        self.config = config
        self.arguments = list(arguments)
        self.preexec = preexec
        self.port = port
        self.environment = environment or {}
        self.process = None

    def start(self):
        command = [BIN, "serve", "--dev", "--data", str(self.data), "--listen", f"127.0.0.1:{self.port}",
                   *self.arguments]
        if self.config is not None:
            file = self.folder / "ledgerline.yaml"
            file.write_text(json.dumps(self.config))
            command += ["--config", str(file)]
        self.output = open(self.folder / "out.txt", "w+")
        self.log = open(self.folder / "log.txt", "a+")
        environment = {**os.environ, **self.environment}
        self.process = subprocess.Popen(
            command, stdout=self.output, stderr=self.log, preexec_fn=self.preexec, env=environment
        )
        wait_until(self._printed, "the server's greeting")
        self.dev = json.loads((self.data / "dev.json").read_text())
        self.url = self.dev["base_url"]
        self.key = self.dev["customer"]["api_key"]
        self.org = self.dev["customer"]["org_id"]
        self.admin = httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {self.dev['admin']['api_key']}"}, timeout=60
        )
        self.clients = threading.local()
        return self

    @property
    def client(self):
        """The customer's client: one for each thread, so that none closes another's connections."""
        if not hasattr(self.clients, "mine"):
            self.clients.mine = httpx.Client(
                base_url=self.url, headers={"authorization": f"Bearer {self.key}"}, timeout=60
            )
        return self.clients.mine

    def _printed(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended: {self.logged()[-2000:]}")
        return "Ledgerline runs on" in pathlib.Path(self.output.name).read_text()

    def logged(self):
        return pathlib.Path(self.log.name).read_text()

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(40)
        return self.process.returncode if self.process else None

    def kill(self):
        return self.stop(signal.SIGKILL)

    def wallet(self, org=None):
        return self.admin.get(f"/admin/orgs/{org or self.org}/wallet").raise_for_status().json()

    def customer(self, amount=None, name="customer"):
        """A new customer with a key, and money if asked for: (org id, key)."""
        org = self.admin.post("/admin/orgs", json={"name": name, "kind": "customer"}).raise_for_status().json()["id"]
        key = self.admin.post(f"/admin/orgs/{org}/keys", json={"name": "test"}).raise_for_status().json()["api_key"]
        if amount is not None:
            self.grant(org, amount)
        return org, key

    def grant(self, org, amount, key="start"):
        return self.admin.post(
            f"/admin/orgs/{org}/grants",
            json={"amount": amount, "currency": "CNY", "reason": "test"},
            headers={"idempotency-key": key},
        ).raise_for_status().json()

    def usage(self, org=None):
        """All usage records, newest first."""
        rows, cursor = [], None
        while True:
            query = {"limit": 1000, **({"org_id": org} if org else {}), **({"cursor": cursor} if cursor else {})}
            page = self.admin.get("/admin/usage", params=query).raise_for_status().json()
            rows += page["rows"]
            cursor = page["next"]
            if not cursor:
                return rows

    def chat(self, text="hello", key=None, headers=None, **more):
        body = {"model": "sim-small", "messages": [{"role": "user", "content": text}], **more}
        own = {"authorization": f"Bearer {key or self.key}", **(headers or {})}
        return self.client.post("/v1/chat/completions", json=body, headers=own)


def verify(data):
    """The report of `ledgerline verify`."""
    done = subprocess.run([BIN, "verify", "--data", str(data), "--json"], capture_output=True, text=True, timeout=120)
    report = json.loads(done.stdout)
    assert (done.returncode == 0) == report["ok"], done.stderr
    return report


CUSTOMER = pathlib.Path(__file__).parents[2] / "examples" / "customer" / "customer.py"


def run_customer(customer, *arguments):
    """Starts the customer's server of the examples with a customer's credentials."""
    environment = {
        **os.environ, "LEDGERLINE_APP_ID": customer["app_id"], "LEDGERLINE_APP_SECRET": customer["app_secret"],
        "LEDGERLINE_API_KEY": customer["api_key"],
    }
    command = [sys.executable, CUSTOMER, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def customer_report(running):
    """What the customer's server found: a thousand records, each once."""
    try:
        said, complaints = running.communicate(timeout=240)
    finally:
        running.kill()
    assert running.returncode == 0, (said, complaints)
    report = json.loads(said)
    assert report["records"] == 1000 and report["sent"] == 2200 and report["wrong"] == [], report
    return report


class Simulator:
    """`ledgerline simulate` on a free port."""

    def __init__(self, *arguments):
        command = [BIN, "simulate", "--listen", "127.0.0.1:0", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split()[-1]

    def stop(self):
        self.process.kill()
        self.process.wait()


def upstream_config(url, **provider):
    """A configuration whose model `up` is served by a simulator."""
    price = {"currency": "CNY", "input_per_million": "1", "output_per_million": "4"}
    return {
        "providers": [{"name": "up", "kind": "openai", "base_url": f"{url}/v1", **provider}],
        "models": [{"name": "up", "routes": [{"provider": "up", "model": "sim-small"}], "price": price}],
    }


@pytest.fixture
def server(tmp_path):
    """A running demo server; its books must fit in the end."""
    running = Server(tmp_path).start()
    yield running
    running.stop()
    report = verify(running.data)
    assert report["ok"], report["findings"]
    assert report["open_holds"] == 0


@pytest.fixture
def start(tmp_path):
    """Starts servers and simulators, and stops them in the end; all books must fit."""
    begun = []

    def starter(kind, *arguments, **options):
        if kind is Server:
            folder = tmp_path / str(len(begun))
            folder.mkdir()
            thing = Server(folder, *arguments, **options).start()
        else:
            thing = kind(*arguments, **options)
        begun.append(thing)
        return thing

    yield starter
    for thing in reversed(begun):
        thing.stop()
    for thing in begun:
        if isinstance(thing, Server):
            report = verify(thing.data)
            assert report["ok"], report["findings"]
            assert report["open_holds"] == 0
