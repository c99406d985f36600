//! The surface for customers' servers: reads beside a bare handler of the same stack, posts, the cost of
//! authentication, and following an upstream of a million users.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use axum::extract::{FromRef, Query, State};
use axum::response::IntoResponse as _;
use axum::routing::get;
use axum::{Json, Router};
use clap::Args;
use customers::{Catalogue, Customers, Parts, Sync, UpstreamConfig};
use http::Request;
use identity::{Authenticated, Identity, NewKey, OrgKind, Role, Rule, ServerSecret};
use kernel::{Clock as _, SystemClock};
use ledger::Journal;
use metering::{Metering, PriceBook};
use serde_json::{Map, Value, json};
use store::{Database, MySql, Sqlite, Statement};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

use crate::load::Figures;
use crate::process::{Process, told};

#[derive(Args)]
pub(crate) struct CustomersArgs {
    /// The built binary
    #[arg(long, default_value = "target/release/ledgerline")]
    ledgerline: PathBuf,
    /// How long each measurement takes
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Users of the upstream that is followed
    #[arg(long, default_value_t = 1_000_000)]
    users: u32,
    /// A server for the two-instances measurement, such as <mysql://root@127.0.0.1:3306>
    #[arg(long)]
    mysql: Option<String>,
    /// Only measurements whose name contains this
    #[arg(long)]
    only: Option<String>,
}

#[derive(Args)]
pub(crate) struct BareArgs {
    /// Where to listen
    #[arg(long)]
    listen: std::net::SocketAddr,
}

const BALANCE: &str = "/api/v1/balance";
const PRICING: &str = "/api/v1/pricing";

/// Answers what a balance looks like, and does nothing else: the floor of reads.
pub(crate) async fn bare(args: BareArgs) -> anyhow::Result<()> {
    let answer = || async {
        Json(
            json!({"status": "ok", "balance": 100, "data": {"org_id": "0190", "currency": "CNY", "balance": 100,
            "available": "100", "posted": "100", "held": "0", "as_of_seq": 1}}),
        )
    };
    let router = Router::new().route(BALANCE, get(answer)).route(PRICING, get(answer));
    let listener = TcpListener::bind(args.listen).await?;
    crate::say(&format!("bare handler on http://{}", listener.local_addr()?))?;
    let lanes = web::Lanes::start()?;
    let config = web::Config::default();
    web::serve(listener, router, &config, &lanes, web::Stop::default()).await;
    Ok(())
}

struct Bench<'a> {
    args: &'a CustomersArgs,
    this: PathBuf,
    results: Map<String, Value>,
}

/// Measures what is wanted; prints one JSON object.
pub(crate) fn run(runtime: &Runtime, args: &CustomersArgs) -> anyhow::Result<()> {
    let results = Map::new();
    let mut bench = Bench { args, this: std::env::current_exe()?, results };
    let wants = |name: &str| args.only.as_ref().is_none_or(|part| name.contains(part.as_str()));
    if wants("reads") {
        bench.reads()?;
    }
    if wants("posts_sqlite") {
        bench.posts(None)?;
    }
    if wants("posts_mysql")
        && let Some(server) = &args.mysql
    {
        let url = runtime.block_on(fresh_database(server))?;
        bench.posts(Some(&url))?;
    }
    if wants("auth") {
        bench.results.insert("auth_us_per_call".into(), authentication()?);
    }
    if wants("sync") {
        let seconds = runtime.block_on(follow(args.users))?;
        bench.results.insert("sync".into(), json!({"users": args.users, "seconds": seconds}));
    }
    crate::say(&serde_json::to_string_pretty(&Value::Object(bench.results))?)
}

async fn fresh_database(server: &str) -> anyhow::Result<String> {
    let name = format!("ledgerline_test_bench_{}", kernel::id::new().replace('-', "_"));
    let admin = Database::MySql(MySql::connect(server).await?);
    let create = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
    admin.execute(Statement::new(create, vec![])).await?;
    Ok(format!("{server}/{name}"))
}

impl Bench<'_> {
    /// Balances and prices a second, and as a share of the bare handler's.
    fn reads(&mut self) -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (server, key) = self.server(folder.path(), None)?;
        let bare = Process::start(&self.this, &["bare", "--listen", "127.0.0.1:0"])?;
        for (name, path) in [("balance", BALANCE), ("pricing", PRICING)] {
            let floor = self.load(&bare.url, &["--path", path, "--clients", "64"])?;
            let ours =
                self.load(&server.url, &["--path", path, "--clients", "64", "--key", &key])?;
            let share = ours.per_second / floor.per_second;
            let value = json!({"per_second": ours.per_second, "bare_per_second": floor.per_second, "share": share,
                "p99_us": ours.p99});
            self.results.insert(format!("reads_{name}"), value);
        }
        server.stop()
    }

    /// Posts a second on one wallet: of one instance on SQLite, or of two on a server.
    fn posts(&mut self, database: Option<&str>) -> anyhow::Result<()> {
        let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
        let (first, key) = self.server(folders[0].path(), database)?;
        let mut urls = vec![first.url.clone()];
        let second = database.map(|_| self.server(folders[1].path(), database)).transpose()?;
        urls.extend(second.as_ref().map(|(process, _)| process.url.clone()));
        let clients = (256 / urls.len()).to_string();
        let mut loads = Vec::new();
        for (at, url) in urls.iter().enumerate() {
            let body = format!(r#"{{"amount":"0.000001","transno":"{at}-{{n}}"}}"#);
            let path = "/api/v1/accounting";
            let more = ["--path", path, "--body", &body, "--clients", &clients, "--key", &key];
            loads.push(self.command(url, &more).stdout(std::process::Stdio::piped()).spawn()?);
        }
        let mut all = Vec::new();
        for load in loads {
            let figures: Figures = serde_json::from_slice(&load.wait_with_output()?.stdout)?;
            ensure!(figures.errors == 0, "{} posts failed", figures.errors);
            all.push(figures);
        }
        let per_second: f64 = all.iter().map(|figures| figures.per_second).sum();
        let p99 = all.iter().map(|figures| figures.p99).max();
        let name = if database.is_some() { "posts_mysql_two_instances" } else { "posts_sqlite" };
        self.results.insert(name.into(), json!({"per_second": per_second, "p99_us": p99}));
        drop(second);
        first.stop()
    }

    /// A demo server and its customer's key.
    fn server(&self, folder: &Path, database: Option<&str>) -> anyhow::Result<(Process, String)> {
        let (data, config) = (folder.join("data"), folder.join("bench.json"));
        let server = json!({"log_requests": false});
        let tree = match database {
            None => json!({"server": server}),
            Some(url) => json!({
                "server": server,
                "database": {"url": url},
                "security": {"secret": "a secret of the benchmark's servers"},
            }),
        };
        std::fs::write(&config, tree.to_string())?;
        let process = Process::serve(&self.args.ledgerline, &data, Some(&config))?;
        Ok((process, told(&data, "/customer/api_key")?))
    }

    fn command(&self, url: &str, more: &[&str]) -> Command {
        let mut command = Command::new(&self.this);
        command.args(["load", "--url", url, "--seconds", &self.args.seconds.to_string()]);
        command.args(more);
        command
    }

    fn load(&self, url: &str, more: &[&str]) -> anyhow::Result<Figures> {
        let done = self.command(url, more).output()?;
        ensure!(done.status.success(), "load: {}", String::from_utf8_lossy(&done.stderr));
        let figures: Figures = serde_json::from_slice(&done.stdout)?;
        ensure!(figures.errors == 0, "{} requests failed", figures.errors);
        Ok(figures)
    }
}

#[derive(Clone)]
struct Guarded(Identity);

impl FromRef<Guarded> for Identity {
    fn from_ref(guarded: &Guarded) -> Self {
        guarded.0.clone()
    }
}

const CALLS: u64 = 20_000;
const RULES: &[Rule] = &[Rule { method: "*", path: "/api/v1/**", roles: &["logined"], scope: "" }];

/// What a credential costs beside the same request without: microseconds of one processor.
fn authentication() -> anyhow::Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let identity = identity(folder.path()).await?.1;
        let org = identity.create_org("bench", OrgKind::Customer).await?;
        let app = identity.create_app(&org.id, "bench").await?;
        let secret = identity.create_app_secret(&app.id, None).await?.secret;
        let new =
            NewKey { app_id: Some(app.id.clone()), ..NewKey::new(org.id, "bench", Role::Member) };
        let key = identity.create_key(new).await?.api_key;
        identity.govern([(http::Method::GET, PRICING.to_owned())], RULES);
        let signed = identity::ReadSigned::new(identity.clone(), 1 << 20);
        let router = Router::new()
            .route(PRICING, get(|_: Authenticated| async { "ok" }))
            .route("/bare", get(|| async { "ok" }))
            .layer(signed)
            .with_state(Guarded(identity));
        let (app_id, secret, now) = (app.id.as_str(), secret.expose(), SystemClock.now());
        let plain = (0..CALLS).map(|_| String::new()).collect();
        let bearer = (0..CALLS).map(|_| format!("Bearer {}", key.expose())).collect();
        let deerer = (0..CALLS).map(|at| {
            let at = now.after(Duration::from_micros(at));
            identity::deerer_header((app_id, secret), key.expose(), at)
        });
        let deerer: Vec<String> = deerer.collect();
        let hmac = (0..CALLS).map(|_| {
            let nonce = kernel::id::new();
            identity::sign((app_id, secret), (&http::Method::GET, PRICING), b"", (now, &nonce))
        });
        let hmac = hmac.collect::<Result<Vec<String>, _>>()?;
        let floor = asked(&router, "/bare", plain).await?;
        let mut results = Map::new();
        for (name, headers) in [("bearer", bearer), ("deerer", deerer), ("hmac", hmac)] {
            results.insert(name.to_owned(), json!(asked(&router, PRICING, headers).await? - floor));
        }
        Ok(Value::Object(results))
    })
}

/// Microseconds a request.
async fn asked(router: &Router, path: &str, headers: Vec<String>) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let count = headers.len();
    for header in headers {
        let mut request = Request::get(path);
        if !header.is_empty() {
            request = request.header("authorization", header);
        }
        let response = router.clone().oneshot(request.body(axum::body::Body::empty())?).await?;
        ensure!(response.status().is_success(), "{path}: {}", response.status());
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    Ok(begun.elapsed().as_secs_f64() * 1e6 / count as f64)
}

async fn identity(folder: &Path) -> anyhow::Result<(Database, Identity)> {
    let database = Database::Sqlite(Sqlite::open(&folder.join("bench.db"))?);
    let migrations =
        [identity::MIGRATIONS, ledger::MIGRATIONS, metering::MIGRATIONS, customers::MIGRATIONS];
    database.migrate(&migrations.concat()).await?;
    let config = identity::Config { secret: "a secret of the benchmark's identities".into() };
    let secret = ServerSecret::load(&config, &folder.join("secret.key"))?;
    let identity = Identity::open(database.clone(), secret, Arc::new(SystemClock)).await?;
    Ok((database, identity))
}

/// A page of an upstream's users, made up as it is asked for.
async fn users(
    State(all): State<u32>,
    Query(query): Query<std::collections::HashMap<String, String>>,
) -> axum::response::Response {
    let number = |name: &str| {
        query.get(name).and_then(|text| text.trim_start_matches("user:").parse::<u32>().ok())
    };
    let full = query.get("full").is_some_and(|full| full == "true");
    let wanted = query.get("entity").is_some_and(|entity| entity == "users") && full;
    let from = number("after").map_or(0, |last| last + 1);
    let to = if wanted { all.min(from + number("rows").unwrap_or(500)) } else { from };
    let row = |at: u32| {
        let data =
            json!({"kind": "user", "id": at, "orgid": "o", "username": format!("user {at}")});
        json!({"id": format!("user:{at:09}"), "org_id": "o", "updated_at": 1, "deleted": false, "data": data})
    };
    let rows: Vec<Value> = (from..to).map(row).collect();
    Json(json!({"status": "ok", "data": {"rows": rows, "more": wanted && to < all, "now": 2}}))
        .into_response()
}

/// How many seconds the first pass over so many users takes, on SQLite.
async fn follow(count: u32) -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Router::new().route("/api/v1/changes", get(users)).with_state(count);
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let folder = tempfile::tempdir()?;
    let (database, identity) = identity(folder.path()).await?;
    let clock: kernel::SharedClock = Arc::new(SystemClock);
    let journal = Journal::start(database.clone(), Arc::clone(&clock), &ledger::Config::default())?;
    let book = PriceBook::publish(&database, vec![], clock.now()).await?;
    let config = metering::Config::default();
    let metering =
        Metering::new(journal.clone(), database.clone(), book, Arc::clone(&clock), config);
    let customers = Customers::new(Parts {
        identity,
        journal,
        metering,
        database: database.clone(),
        catalogue: Catalogue::default(),
        config: customers::Config::default(),
    });
    let config = UpstreamConfig {
        url,
        page_rows: 1000,
        dapi_key: "key".into(),
        ..UpstreamConfig::default()
    };
    let begun = Instant::now();
    let sync = Sync::new(customers, config, clock)?;
    sync.turn().await?;
    let seconds = begun.elapsed().as_secs_f64();
    serving.abort();
    let kept: i64 = sync.status().await?.iter().map(|status| status.rows).sum();
    ensure!(kept == i64::from(count), "{kept} of {count} users are kept");
    Ok(seconds)
}
