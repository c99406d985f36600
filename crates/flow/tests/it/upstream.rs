//! An upstream on a port of its own that streams words when it is told to, and notices who leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// An upstream that answers every call with the same words.
pub(crate) struct Upstream {
    pub(crate) url: String,
    inner: Arc<Inner>,
}

struct Inner {
    words: Vec<&'static str>,
    go_on: Semaphore,
    /// Connections that were closed in the middle of an answer.
    left: AtomicUsize,
    /// Answers that still are to break off after their first two words.
    breaking: AtomicUsize,
}

impl Upstream {
    pub(crate) async fn start(words: &[&'static str]) -> Self {
        let inner = Arc::new(Inner {
            words: words.to_vec(),
            go_on: Semaphore::new(0),
            left: AtomicUsize::new(0),
            breaking: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let shared = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(socket, Arc::clone(&shared)));
            }
        });
        Self { url, inner }
    }

    /// So many more words may be sent.
    pub(crate) fn go_on(&self, words: usize) {
        self.inner.go_on.add_permits(words);
    }

    /// The next answers break off.
    pub(crate) fn break_off(&self, answers: usize) {
        self.inner.breaking.store(answers, Ordering::SeqCst);
    }

    /// Waits until somebody has left in the middle of an answer.
    pub(crate) async fn left(&self) {
        for _ in 0..400 {
            if self.inner.left.load(Ordering::SeqCst) > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nobody has left");
    }
}

async fn answer(mut socket: TcpStream, inner: Arc<Inner>) {
    read_request(&mut socket).await;
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let breaks = inner.breaking.load(Ordering::SeqCst) > 0;
    if breaks {
        inner.breaking.fetch_sub(1, Ordering::SeqCst);
    }
    let (mut reading, mut writing) = socket.split();
    for (at, word) in inner.words.iter().enumerate() {
        if breaks && at == 2 {
            return;
        }
        let mut gone = [0];
        tokio::select! {
            permit = inner.go_on.acquire() => permit.unwrap().forget(),
            _closed = reading.read(&mut gone) => {
                inner.left.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
        let delta = json!({"content": word});
        send(&mut writing, &json!({"choices": [{"index": 0, "delta": delta}]}).to_string()).await;
    }
    let usage = json!({"prompt_tokens": 3, "completion_tokens": inner.words.len()});
    let last =
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage});
    send(&mut writing, &last.to_string()).await;
    send(&mut writing, "[DONE]").await;
    writing.write_all(b"0\r\n\r\n").await.unwrap();
}

async fn send(writing: &mut (impl tokio::io::AsyncWrite + Unpin), data: &str) {
    let frame = format!("data: {data}\n\n");
    let chunk = format!("{:x}\r\n{frame}\r\n", frame.len());
    drop(writing.write_all(chunk.as_bytes()).await);
}

/// Reads one request with its body.
async fn read_request(socket: &mut TcpStream) -> Value {
    let mut all = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = socket.read(&mut part).await.unwrap();
        all.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&all).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap();
        if body.len() >= length.trim().parse().unwrap() {
            return serde_json::from_str(body).unwrap();
        }
    }
}
