//! `serve --dev`: a demo with simulated models, on this machine only.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use identity::{Caller, NewKey, OrgKind, PLATFORM, Role};
use ledger::{AccountKey, AccountKind, Command, Leg, Operation};
use models::{ModelConfig, ModelKind, PriceConfig, ProviderConfig, ProviderKind};
use serde_json::{Value, json};

use crate::app::Engines;
use crate::cli::say;
use crate::config::Config;

const PROVIDER: &str = "sim";
/// Name, kind, and prices in CNY per million tokens of input, cached input and output.
const MODELS: [(&str, ModelKind, [&str; 3]); 3] = [
    ("sim-small", ModelKind::Chat, ["1", "0.1", "4"]),
    ("sim-large", ModelKind::Chat, ["10", "1", "40"]),
    ("sim-embed", ModelKind::Embedding, ["0.5", "0.5", "0"]),
];
const START_BALANCE: &str = "100";

/// Refuses any but a loopback address, and adds the simulated models.
pub(crate) fn prepare(config: &mut Config) -> anyhow::Result<()> {
    let listen = config.server.listen;
    if !listen.ip().is_loopback() {
        bail!(
            "--dev listens on this machine only: use --listen 127.0.0.1:{}, or leave --dev out",
            listen.port()
        );
    }
    if config.providers.iter().all(|provider| provider.name != PROVIDER) {
        config.providers.push(ProviderConfig::new(PROVIDER, ProviderKind::Sim, ""));
    }
    if config.flow.default_model.is_empty() {
        // Workflows name models of the world outside: here they are played.
        "sim-small".clone_into(&mut config.flow.default_model);
    }
    for (name, kind, [input, cached, output]) in MODELS {
        if config.models.iter().any(|model| model.name == name) {
            continue;
        }
        let price = PriceConfig {
            currency: "CNY".parse()?,
            input_per_million: input.parse()?,
            cached_input_per_million: Some(cached.parse()?),
            cache_write_per_million: None,
            output_per_million: output.parse()?,
            reasoning_per_million: None,
            per_call: None,
        };
        config.models.push(ModelConfig { kind, ..ModelConfig::new(name, PROVIDER, Some(price)) });
    }
    Ok(())
}

/// On the first start makes the demo's organizations and keys and writes them to `dev.json`; prints
/// how to begin.
pub(crate) async fn seed(app: &Engines, address: SocketAddr) -> anyhow::Result<()> {
    let file = app.folder.file("dev.json");
    let base_url = format!("http://{address}");
    let mut seeded: Value = match std::fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged: delete it to get new keys", file.display()))?,
        Err(_missing) => create(app).await?,
    };
    if let Value::Object(members) = &mut seeded {
        members.insert("base_url".to_owned(), json!(base_url));
    }
    let text = format!("{seeded:#}\n");
    write_private(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    let_developer_in(app, &seeded);
    let key = seeded.pointer("/customer/api_key").and_then(Value::as_str).unwrap_or_default();
    say(&format!(
        "\nLedgerline runs on {base_url} (keys in {}; API at {base_url}/docs). Try:\n\n  \
         curl -N {base_url}/v1/chat/completions -H 'Authorization: Bearer {key}' \\\n    \
         -H 'Content-Type: application/json' \\\n    \
         -d '{{\"model\":\"sim-small\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"Hello!\"}}]}}'\n\n\
         The line \": ledgerline {{…}}\" near the end says what the answer cost.\n",
        file.display()
    ))
}

/// The agent API's original knows no credentials: whoever sits at this machine is the customer there.
fn let_developer_in(app: &Engines, seeded: &Value) {
    let part = |path: &str| seeded.pointer(path).and_then(Value::as_str);
    if let Some(org_id) = part("/customer/org_id") {
        let customer = Caller::new(org_id.into(), OrgKind::Customer, Role::Member);
        let app_id = part("/customer/app_id").map(Into::into);
        app.agents.let_developer_in(Caller { app_id, ..customer });
    }
}

async fn create(app: &Engines) -> anyhow::Result<Value> {
    let identity = &app.identity;
    let admin = identity.create_key(NewKey::new(PLATFORM.into(), "developer", Role::Admin)).await?;
    let org = identity.create_org("Demo customer", OrgKind::Customer).await?;
    let demo = identity.create_app(&org.id, "Demo application").await?;
    let key = NewKey {
        app_id: Some(demo.id.clone()),
        ..NewKey::new(org.id.clone(), "demo", Role::Member)
    };
    let customer = identity.create_key(key).await?;
    let secret = identity.create_app_secret(&demo.id, None).await?;
    let leg = Leg {
        from: AccountKey::new(PLATFORM, AccountKind::Grant, "CNY".parse()?),
        to: AccountKey::new(org.id.shared(), AccountKind::Wallet, "CNY".parse()?),
        amount: START_BALANCE.parse()?,
    };
    let grant =
        Operation::new(format!("grant:{}:demo", org.id), Command::Transfer { legs: vec![leg] });
    app.journal.submit(grant).await?;
    Ok(json!({
        "admin": {"api_key": admin.api_key.expose()},
        "customer": {
            "org_id": org.id,
            "app_id": demo.id,
            "app_secret": secret.secret.expose(),
            "api_key": customer.api_key.expose(),
        },
    }))
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    let mut open =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(file)?;
    open.write_all(text.as_bytes())?;
    open.sync_all()
}
