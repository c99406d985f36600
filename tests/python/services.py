"""Servers of a test's own, which it may stall and kill."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess

from conftest import wait_until

MARIADBD = shutil.which("mariadbd", path=os.environ["PATH"] + ":/usr/sbin")
REDIS = shutil.which("redis-server")
# With what its nodes fetch data from each other.
GALERA = shutil.which("rsync") and next((path for path in ["/usr/lib/libgalera_smm.so", "/usr/lib/galera/libgalera_smm.so"] if os.path.exists(path)), None)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Process:
    """A process on a port, which can be started again where it was."""

    def __init__(self, command, port):
        self.command, self.port, self.process = command, port, None

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self.answers, f"{self.command[0]} answers", 60)
        return self

    def answers(self):
        raise NotImplementedError

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(20)

    def stall(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)


class Redis(Process):
    def __init__(self, folder):
        port = free_port()
        super().__init__(
            [REDIS, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)],
            port,
        )
        self.url = f"redis://127.0.0.1:{port}"

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


class MariaDb(Process):
    """A MariaDB of its own; a second one can follow it as its replica."""

    def __init__(self, folder, server_id=1, *options):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(exist_ok=True)
        port = free_port()
        user = self.user()
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db",
             f"--datadir={self.folder}/data", f"--user={user}"],
            check=True, capture_output=True, timeout=120,
        )
        super().__init__(
            [MARIADBD, "--no-defaults", f"--user={user}", f"--datadir={self.folder}/data",
             f"--socket={self.folder}/s", f"--pid-file={self.folder}/pid", "--bind-address=127.0.0.1",
             f"--port={port}", f"--server-id={server_id}", "--log-bin=log", "--binlog-format=row",
             "--innodb-buffer-pool-size=32M", *options],
            port,
        )

    @staticmethod
    def user():
        return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()

    def sql(self, text):
        command = ["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(self.port), "-u", "root", "-N", "-e", text]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def answers(self):
        return self.sql("SELECT 1").returncode == 0

    def run(self, text):
        done = self.sql(text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def follow(self, primary):
        self.run(
            f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={primary.port}, MASTER_USER='root', "
            "MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1; START SLAVE"
        )


class GaleraNode(MariaDb):
    """A node of a Galera cluster. What it needs of the others it fetches with rsync, which as root would
    drop root's rights: so it runs as the server's own user."""

    def __init__(self, folder, first=None):
        base = free_port()
        self.address = f"127.0.0.1:{base}"
        joins = [f"--wsrep-cluster-address=gcomm://{(first or self).address}", *([] if first else ["--wsrep-new-cluster"])]
        super().__init__(
            folder, 2 if first else 1, "--innodb-autoinc-lock-mode=2", "--wsrep-on=ON", f"--wsrep-provider={GALERA}",
            "--wsrep-cluster-name=ledgerline", "--wsrep-node-address=127.0.0.1", "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address=127.0.0.1:{free_port()}", "--wsrep-sync-wait=1",
            f"--wsrep-provider-options=base_host=127.0.0.1;base_port={base};gmcast.listen_addr=tcp://{self.address};"
            f"ist.recv_addr=127.0.0.1:{free_port()}",
            *joins,
        )
        for path in [self.folder, *self.folder.rglob("*")]:
            shutil.chown(path, self.user())

    @staticmethod
    def user():
        return "mysql" if os.geteuid() == 0 else MariaDb.user()

    def answers(self):
        return "ON" in self.sql("SHOW STATUS LIKE 'wsrep_ready'").stdout


def galera_cluster(folder):
    """Two nodes that are yet to be started, the first before the other."""
    first = GaleraNode(folder / "node-1")
    return first, GaleraNode(folder / "node-2", first)
