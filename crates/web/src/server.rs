//! The server loop: accept, serve, and stop without cutting anyone off.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::header::CONNECTION;
use http::{HeaderValue, StatusCode};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::Proxies;
use crate::lanes::Place;
use crate::{Config, Lanes};

/// After a failed accept (such as no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that the system completes before they are accepted; it caps this by its own limit. With
/// few, a burst of clients meets silence, and each tries again only after a second.
const BACKLOG: u32 = 4096;

/// Listens at this address, for a burst of connections too.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// How a server is told to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Gently: it goes on for the time of grace, and then finishes what it has begun.
    pub gently: CancellationToken,
    /// At once, whatever is running.
    pub at_once: CancellationToken,
}

/// Serves until it is told to stop; then goes on for the configured time of grace, asking clients to
/// connect elsewhere; then takes no more connections, gives running requests the configured time to
/// finish, and returns when every connection is closed. Connections and the tasks they start live on
/// `lanes`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: &Config,
    lanes: &Lanes,
    stop: Stop,
) {
    let header_timeout = Duration::from_secs(config.header_timeout_seconds.max(1));
    let server = Server {
        router,
        lanes,
        header_timeout,
        proxies: Arc::new(config.into()),
        connections: TaskTracker::new(),
        leaving: stop.gently,
        closing: CancellationToken::new(),
        cut: stop.at_once,
    };
    let grace = Duration::from_secs(config.grace_seconds);
    tokio::select! {
        () = server.accept_all(listener, config.max_connections) => {}
        () = server.graced(grace) => {}
    }
    server.drain(Duration::from_secs(config.drain_seconds)).await;
}

struct Server<'a> {
    router: Router,
    lanes: &'a Lanes,
    header_timeout: Duration,
    proxies: Arc<Proxies>,
    connections: TaskTracker,
    /// Soon there will be no more requests.
    leaving: CancellationToken,
    /// There are no more requests.
    closing: CancellationToken,
    /// Nothing goes on.
    cut: CancellationToken,
}

impl Server<'_> {
    /// Until the time of grace is over.
    async fn graced(&self, grace: Duration) {
        self.leaving.cancelled().await;
        tokio::select! {
            () = tokio::time::sleep(grace) => {}
            () = self.cut.cancelled() => {}
        }
    }

    async fn accept_all(&self, listener: TcpListener, most: usize) {
        let slots = Arc::new(Semaphore::new(most));
        loop {
            let next = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, listener.accept().await)
            };
            match next.await {
                (Ok(slot), Ok((stream, peer))) => self.start(stream, peer, slot),
                (_, Err(error)) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                (Err(_closed), Ok(_)) => return,
            }
        }
    }

    /// Starts a connection on the lane with the fewest.
    fn start(&self, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
        let Some((lane, place)) = self.lanes.least() else { return };
        let connection = Connection {
            peer,
            proxies: Arc::clone(&self.proxies),
            header_timeout: self.header_timeout,
            leaving: self.leaving.clone(),
            closing: self.closing.clone(),
            cut: self.cut.clone(),
            _held: (slot, place),
        };
        // Its readiness is to be told to the lane's own runtime.
        match stream.into_std() {
            Ok(stream) => {
                let task = connection.run(stream, self.router.clone());
                self.connections.spawn_on(task, lane);
            }
            Err(error) => tracing::debug!(%error, "a connection was lost"),
        }
    }

    async fn drain(&self, patience: Duration) {
        self.closing.cancel();
        self.connections.close();
        if tokio::time::timeout(patience, self.connections.wait()).await.is_err() {
            let open = self.connections.len();
            tracing::warn!(open, "connections are cut: they did not finish in time");
            self.cut.cancel();
            self.connections.wait().await;
        }
    }
}

/// One connection, and what it holds while it lives.
struct Connection {
    peer: SocketAddr,
    proxies: Arc<Proxies>,
    header_timeout: Duration,
    leaving: CancellationToken,
    closing: CancellationToken,
    cut: CancellationToken,
    _held: (OwnedSemaphorePermit, Place),
}

impl Connection {
    async fn run(self, stream: std::net::TcpStream, router: Router) {
        match prepared(stream) {
            Ok(stream) => self.serve(stream, router).await,
            Err(error) => tracing::debug!(%error, "a connection was lost"),
        }
    }

    async fn serve(self, stream: TcpStream, router: Router) {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.header_timeout).half_close(false);
        let (router, peer) = (TowerToHyperService::new(router), self.peer);
        let (proxies, leaving) = (Arc::clone(&self.proxies), self.leaving.clone());
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            let client = proxies.client(peer, request.headers());
            request.extensions_mut().insert(client);
            let (answering, leaving) = (router.call(request), leaving.clone());
            async move {
                let mut response = answering.await?;
                let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                if leaving.is_cancelled() && !upgraded {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let serving = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut serving = std::pin::pin!(serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = self.closing.cancelled() => {
                serving.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = serving => ended,
                    () = self.cut.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

fn prepared(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    // Without this, small frames wait for the peer's delayed acknowledgement (40 ms).
    stream.set_nodelay(true)?;
    TcpStream::from_std(stream)
}
