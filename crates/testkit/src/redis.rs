//! A Redis server for one test, which the test may stall and kill.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kernel::Secret;
use store::{Redis, RedisConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(10);

/// A Redis server on a port of its own, ended with this value.
pub struct RedisServer {
    port: u16,
    process: Child,
    folder: TempDir,
}

impl RedisServer {
    /// Starts one; `None` where `redis-server` is not installed, which `scripts/test` tells.
    pub async fn start() -> Option<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it has a number").port();
        drop(listener);
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let process = spawn(port, &folder)?;
        let server = Self { port, process, folder };
        server.answered().await;
        Some(server)
    }

    /// Its address.
    pub fn url(&self) -> Secret {
        format!("redis://127.0.0.1:{}", self.port).into()
    }

    /// A way to it.
    pub fn redis(&self) -> Redis {
        let config = RedisConfig { url: self.url(), ..RedisConfig::default() };
        Redis::new(&config).expect("the address is one").expect("and not empty")
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }

    /// Starts it anew on the same port, empty.
    pub async fn start_again(&mut self) {
        self.kill();
        self.process = spawn(self.port, &self.folder).expect("it started before");
        self.answered().await;
    }

    /// It keeps its connections and answers nothing.
    pub fn stall(&self) {
        self.signal("-STOP");
    }

    /// It goes on where it was stalled.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.process.id().to_string()).status();
        assert!(sent.expect("kill runs").success(), "{signal}");
    }

    async fn answered(&self) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let asking = async {
            while ping(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("redis-server answers");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn ping(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    if &answer == b"+PONG\r\n" { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

fn spawn(port: u16, folder: &TempDir) -> Option<Child> {
    Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}
