//! The server loop: accept, serve, and stop without cutting anyone off.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;

/// After a failed accept (such as no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` is cancelled; then takes no more connections, gives running requests the
/// configured time to finish, and returns when every connection is closed.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: &Config,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(config.max_connections));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = next => accepted,
        };
        match accepted {
            (Ok(slot), Ok((stream, _peer))) => {
                let header_timeout = Duration::from_secs(config.header_timeout_seconds.max(1));
                let connection =
                    Connection { stream, header_timeout, stop: stop.clone(), cut: cut.clone() };
                connections.spawn(connection.run(router.clone(), slot));
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (Err(_closed), Ok(_)) => break,
        }
    }
    drop(listener);
    connections.close();
    let drained =
        tokio::time::timeout(Duration::from_secs(config.drain_seconds), connections.wait()).await;
    if drained.is_err() {
        tracing::warn!(
            open = connections.len(),
            "connections are cut: they did not finish in time"
        );
        cut.cancel();
        connections.wait().await;
    }
}

struct Connection {
    stream: TcpStream,
    header_timeout: Duration,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Connection {
    async fn run(self, router: Router, _slot: OwnedSemaphorePermit) {
        // Without this, small frames wait for the peer's delayed acknowledgement (40 ms).
        if let Err(error) = self.stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.header_timeout).half_close(false);
        let service = TowerToHyperService::new(router);
        let serving = builder.serve_connection(TokioIo::new(self.stream), service);
        let mut serving = std::pin::pin!(serving);
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = self.stop.cancelled() => {
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
