//! The floor of every gateway: a reverse proxy of the same HTTP stack that does nothing else.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use clap::Args;
use http::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_util::sync::CancellationToken;

#[derive(Args)]
pub(crate) struct ProxyArgs {
    /// Address and port to listen on
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where to, such as <http://127.0.0.1:9100>
    #[arg(long)]
    upstream: String,
}

#[derive(Clone)]
struct Proxy {
    client: Client<HttpConnector, Body>,
    upstream: String,
}

pub(crate) async fn run(args: ProxyArgs) -> anyhow::Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client =
        Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
    let router =
        Router::new().fallback(forward).with_state(Proxy { client, upstream: args.upstream });
    let listener = web::listen(args.listen).context("the proxy cannot listen")?;
    crate::say(&format!("bare proxy on http://{}", listener.local_addr()?))?;
    let lanes = web::Lanes::start()?;
    let stop = CancellationToken::new();
    web::serve(
        listener,
        router,
        &web::Config::default(),
        &lanes,
        web::Stop { gently: stop, ..web::Stop::default() },
    )
    .await;
    Ok(())
}

async fn forward(State(proxy): State<Proxy>, mut request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = format!("{}{path}", proxy.upstream).parse::<Uri>() else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *request.uri_mut() = uri;
    request.headers_mut().remove(http::header::HOST);
    match proxy.client.request(request).await {
        Ok(response) => response.map(Body::new).into_response(),
        Err(_unreachable) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
