//! The running server that the operator's commands ask.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use customers::{Answer, Ask, Client, ClientError};
use http::header::IF_MATCH;
use http::{HeaderName, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::show::{Column, How, Progress, note};
use crate::failure::may_be_done;
use crate::remote::Remote;

/// Rows that one page of a list has at most.
const LARGEST_PAGE: usize = 1_000;
/// What stands for something else in a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Which server, who asks, and how answers are shown.
#[derive(Clone, Debug, Args)]
pub(crate) struct With {
    #[command(flatten)]
    remote: Remote,
    /// The server's data folder, for the key in its dev.json or admin.key [default: data, without another key]
    #[arg(long, value_name = "DIR", global = true, conflicts_with = "key_file")]
    data: Option<PathBuf>,
    /// How long to wait for an answer, or for the next part of a long one
    #[arg(long, value_name = "SECONDS", default_value_t = 60, global = true)]
    timeout: u64,
    #[command(flatten)]
    how: How,
}

/// A part of a list.
#[derive(Clone, Debug, Args)]
pub(crate) struct Part {
    /// Rows wanted
    #[arg(long, value_name = "ROWS", default_value_t = 50, value_parser = rows_wanted)]
    limit: usize,
    /// All rows, however many
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Go on after the list that ended with this `next`
    #[arg(long, value_name = "NEXT")]
    cursor: Option<String>,
}

fn rows_wanted(text: &str) -> Result<usize, String> {
    let wanted: usize = text.parse().map_err(|_cause| format!("{text:?} is no number"))?;
    if wanted == 0 { Err("a list has at least one row".to_owned()) } else { Ok(wanted) }
}

/// How a request is known when it is repeated.
#[derive(Clone, Debug, Args)]
pub(crate) struct Once {
    /// Names the request: repeated with the same key it is done once [default: a new key]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// For which version a change is meant.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Edit {
    /// Only if it still has this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<i64>,
}

/// Asks a running server on an operator's behalf.
#[derive(Debug)]
pub(crate) struct Server {
    client: Client,
    pub(crate) how: How,
}

#[derive(Deserialize, Serialize)]
struct Listing {
    /// Of limits: where days and months begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
    rows: Vec<Box<RawValue>>,
    next: Option<String>,
}

impl Edit {
    fn header(self) -> Option<(HeaderName, String)> {
        self.if_version.map(|version| (IF_MATCH, format!("\"{version}\"")))
    }
}

impl With {
    /// The server that is meant.
    pub(crate) fn server(self) -> anyhow::Result<Server> {
        let client = self.remote.administrator(self.data.as_deref())?;
        let client = client.with_patience(Duration::from_secs(self.timeout));
        Ok(Server { client, how: self.how })
    }
}

/// A path of these segments.
pub(crate) fn path(segments: &[&str]) -> String {
    let encoded = |segment: &&str| format!("/{}", utf8_percent_encode(segment, SEGMENT));
    segments.iter().map(encoded).collect()
}

/// What is given of these members: those that are not null.
pub(crate) fn given(members: &impl Serialize) -> anyhow::Result<Map<String, Value>> {
    let Value::Object(mut given) = serde_json::to_value(members)? else { return Ok(Map::new()) };
    given.retain(|_, value| !value.is_null());
    Ok(given)
}

fn target(path: &str, query: &Map<String, Value>) -> anyhow::Result<String> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs: Vec<(&String, String)> =
        query.iter().map(|(name, value)| (name, plain(value))).collect();
    let query = serde_urlencoded::to_string(pairs)?;
    Ok(if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") })
}

impl Server {
    /// What is there.
    pub(crate) async fn get(&self, path: &str, query: &impl Serialize) -> anyhow::Result<String> {
        let target = target(path, &given(query)?)?;
        Ok(self.text(Ask { target, ..Ask::default() }).await?)
    }

    /// Shows what is there.
    pub(crate) async fn show(
        &self,
        path: &str,
        query: &impl Serialize,
        columns: &[Column],
    ) -> anyhow::Result<()> {
        self.how.show(&self.get(path, query).await?, columns)
    }

    /// Shows a list, as many pages as the part takes.
    pub(crate) async fn list(
        &self,
        path: &str,
        query: &impl Serialize,
        part: Part,
        columns: &[Column],
    ) -> anyhow::Result<()> {
        let wanted = if part.all { usize::MAX } else { part.limit };
        let mut query = given(query)?;
        let mut whole = Listing { time_zone: None, rows: Vec::new(), next: part.cursor };
        let progress = Progress::of("rows");
        loop {
            let missing = wanted.saturating_sub(whole.rows.len());
            query.insert("limit".to_owned(), missing.min(LARGEST_PAGE).into());
            query.extend(whole.next.take().map(|next| ("cursor".to_owned(), next.into())));
            let page: Listing = serde_json::from_str(&self.get(path, &query).await?)?;
            whole.time_zone = page.time_zone;
            whole.rows.extend(page.rows);
            whole.next = page.next;
            if whole.rows.len() >= wanted || whole.next.is_none() {
                break;
            }
            progress.done(whole.rows.len());
        }
        drop(progress);
        self.how.show(&serde_json::to_string(&whole)?, columns)?;
        if let Some(next) = whole.next.filter(|_| self.how.is_for_people()) {
            note(&format!("there are more: --all, --limit, or --cursor {next}"));
        }
        Ok(())
    }

    /// Posts what is done once for its key, and shows what it made.
    pub(crate) async fn create(
        &self,
        path: &str,
        body: impl Into<Value>,
        once: &Once,
        columns: &[Column],
    ) -> anyhow::Result<()> {
        self.create_for(path, body, Edit::default(), once, columns).await
    }

    /// The same, if what it is made of still has the version.
    pub(crate) async fn create_for(
        &self,
        path: &str,
        body: impl Into<Value>,
        edit: Edit,
        once: &Once,
        columns: &[Column],
    ) -> anyhow::Result<()> {
        let body = body.into().to_string().into_bytes();
        self.how.show(&self.post_once(path, body, edit, once).await?, columns)
    }

    /// Posts what is done once for its key. If nobody knows whether it was done, the error says with
    /// which key it can be asked again.
    pub(crate) async fn post_once(
        &self,
        path: &str,
        body: Vec<u8>,
        edit: Edit,
        once: &Once,
    ) -> anyhow::Result<String> {
        let key = match &once.idempotency_key {
            Some(key) => key.clone(),
            None => kernel::id::new(),
        };
        let name = HeaderName::from_static("idempotency-key");
        let headers = std::iter::once((name, key.clone())).chain(edit.header()).collect();
        let (target, body) = (path.to_owned(), body.into());
        let ask = Ask { method: Method::POST, target, body, headers };
        self.text(ask).await.map_err(|error| {
            if !may_be_done(&error) {
                return error.into();
            }
            anyhow::Error::from(error).context(format!(
                "this may have been done: repeat the command with --idempotency-key {key}"
            ))
        })
    }

    /// Posts what may be repeated as it is.
    pub(crate) async fn post(&self, path: &str, body: Vec<u8>) -> anyhow::Result<String> {
        self.send(Method::POST, path, body, Edit::default()).await
    }

    /// Puts, and shows what is there then.
    pub(crate) async fn put(
        &self,
        path: &str,
        body: impl Into<Value>,
        columns: &[Column],
    ) -> anyhow::Result<()> {
        self.how.show(&self.put_silently(path, body).await?, columns)
    }

    /// Puts; gives what is there then.
    pub(crate) async fn put_silently(
        &self,
        path: &str,
        body: impl Into<Value>,
    ) -> anyhow::Result<String> {
        let body = body.into().to_string().into_bytes();
        self.send(Method::PUT, path, body, Edit::default()).await
    }

    /// Changes something, and shows what it is then.
    pub(crate) async fn change(
        &self,
        path: &str,
        body: impl Into<Value>,
        edit: Edit,
        columns: &[Column],
    ) -> anyhow::Result<()> {
        let body = body.into().to_string().into_bytes();
        self.how.show(&self.send(Method::PATCH, path, body, edit).await?, columns)
    }

    /// Deletes something, and shows what it was.
    pub(crate) async fn delete(
        &self,
        path: &str,
        edit: Edit,
        columns: &[Column],
    ) -> anyhow::Result<()> {
        self.how.show(&self.send(Method::DELETE, path, Vec::new(), edit).await?, columns)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        edit: Edit,
    ) -> anyhow::Result<String> {
        let (target, headers) = (path.to_owned(), edit.header().into_iter().collect());
        Ok(self.text(Ask { method, target, body: body.into(), headers }).await?)
    }

    async fn text(&self, ask: Ask) -> Result<String, ClientError> {
        let answer = self.client.ask(ask).await?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await?;
        String::from_utf8(bytes.to_vec())
            .map_err(|_cause| ClientError::Strange(status, "it is not text".to_owned()))
    }

    /// Writes what is there to a file, which appears whole or not at all, or to the output.
    pub(crate) async fn download(
        &self,
        path: &str,
        query: &impl Serialize,
        output: Option<&Path>,
    ) -> anyhow::Result<()> {
        let target = target(path, &given(query)?)?;
        let answer = self.client.ask(Ask { target, ..Ask::default() }).await?;
        let Some(output) = output else { return copy(answer, std::io::stdout()).await.map(drop) };
        let mut name = output.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let unfinished = output.with_file_name(name);
        let written = async {
            let file = std::fs::File::create(&unfinished)?;
            let bytes = copy(answer, &file).await?;
            file.sync_all()?;
            std::fs::rename(&unfinished, output)?;
            anyhow::Ok(bytes)
        };
        match written.await {
            Ok(bytes) => {
                note(&format!("{bytes} bytes in {}", output.display()));
                Ok(())
            }
            Err(error) => {
                // What is there of it is of no use; that it stays is no harm either.
                drop(std::fs::remove_file(&unfinished));
                Err(error.context(format!("nothing is written to {}", output.display())))
            }
        }
    }
}

async fn copy(mut answer: Answer, mut to: impl std::io::Write) -> anyhow::Result<usize> {
    let progress = Progress::of("bytes");
    let mut bytes = 0;
    while let Some(part) = answer.part().await? {
        to.write_all(&part).context("the answer cannot be written")?;
        bytes += part.len();
        progress.done(bytes);
    }
    to.flush()?;
    Ok(bytes)
}
