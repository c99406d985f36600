//! Searching a session's texts: in blocks of many records, of which a database looks through
//! thousands in the time that it reads a few hundred rows.

use std::fmt::Write as _;

use ::store::{Database, Statement, Value};
use memchr::memmem::Finder;
use serde_json::Value as Json;

use super::history::{self, Batch, Kept};
use crate::Result;
use crate::sessions::Stored as Session;

/// Records of a block, those without a text included.
const BLOCK: i64 = 256;
/// Blocks that are read at once.
const BLOCKS: i64 = 64;
/// Between the texts of a block, and between a record's number and its text.
const END: char = '\u{1e}';
const NUMBER: char = '\u{1f}';

/// The blocks that are full with this batch, whose records come after the one numbered `first`.
pub(crate) async fn blocks(
    database: &Database,
    batch: &Batch<'_>,
    first: i64,
    last: i64,
) -> Result<Vec<Statement>> {
    let begun = first - first.rem_euclid(BLOCK);
    let full = last - last.rem_euclid(BLOCK);
    if full <= begun {
        return Ok(Vec::new());
    }
    let session_id = batch.run.session_id.as_str();
    let most = usize::try_from(BLOCK).unwrap_or_default();
    let old = history::after(database, session_id, (begun, first), most).await?;
    let old = old.iter().filter_map(|kept| Some((kept.seq, text_of(&kept.body)?)));
    let new = (first + 1..).zip(batch.records);
    let new = new.filter_map(|(seq, record)| Some((seq, record.detail.searchable()?)));
    let mut texts: Vec<(i64, String)> = Vec::new();
    for (seq, text) in old.chain(new).filter(|(seq, _)| *seq <= full) {
        let end = (seq + BLOCK - 1).div_euclid(BLOCK) * BLOCK;
        if texts.last().is_none_or(|(known, _)| *known != end) {
            texts.push((end, String::new()));
        }
        if let Some((_, block)) = texts.last_mut() {
            let _ = write!(block, "{seq}{NUMBER}{}{END}", plain(&text));
        }
    }
    let sql = "INSERT INTO agents_search (session_id, last_seq, text) VALUES (?, ?, ?)";
    let insert = |(end, text): (i64, String)| {
        Statement::new(sql, vec![session_id.into(), end.into(), text.into()])
    };
    Ok(texts.into_iter().map(insert).collect())
}

/// A text as it is searched.
fn plain(text: &str) -> String {
    text.to_lowercase().replace([END, NUMBER], " ")
}

/// The searchable text of a record that is kept.
fn text_of(body: &str) -> Option<String> {
    let record: &Json = &serde_json::from_str(body).ok()?;
    match record["record_type"].as_str()? {
        "message" => record["content"].as_str().map(str::to_owned),
        "tool_call" => {
            let name = record["tool_name"].as_str().unwrap_or_default();
            Some(format!("{name} {} {}", record["tool_input"], record["tool_output"]))
        }
        _ => None,
    }
}

/// The first records whose text has this in it, whatever the case, and how many there are.
pub(crate) async fn find(
    database: &Database,
    session: &Session,
    text: &str,
    limit: u32,
) -> Result<(Vec<Kept>, i64)> {
    let wanted = plain(text);
    let finder = Finder::new(wanted.as_bytes());
    let (limit, session_id) = (limit as usize, session.view.session_id.as_str());
    let mut numbers = Vec::new();
    let mut total = 0_i64;
    let mut note = |seq: i64, numbers: &mut Vec<i64>| {
        total += 1;
        if numbers.len() < limit {
            numbers.push(seq);
        }
    };
    let full = session.history_seq - session.history_seq.rem_euclid(BLOCK);
    let mut after = 0;
    loop {
        let sql = "SELECT last_seq, text FROM agents_search WHERE session_id = ? AND last_seq > ? \
                   AND last_seq <= ? AND INSTR(text, ?) > 0 ORDER BY last_seq LIMIT ?";
        let args = [
            session_id.into(),
            Value::from(after),
            Value::from(full),
            wanted.as_str().into(),
            Value::from(BLOCKS),
        ];
        let rows = database.query(sql, &args).await?;
        for row in &rows {
            after = row.int(0)?;
            for entry in row.text(1)?.split(END) {
                let Some((number, text)) = entry.split_once(NUMBER) else { continue };
                let seq: i64 = number.parse().unwrap_or_default();
                if seq >= session.history_from && finder.find(text.as_bytes()).is_some() {
                    note(seq, &mut numbers);
                }
            }
        }
        if i64::try_from(rows.len()).unwrap_or(i64::MAX) < BLOCKS {
            break;
        }
    }
    let most = usize::try_from(BLOCK).unwrap_or_default();
    let last = full.max(session.history_from - 1);
    let rest = history::after(database, session_id, (last, session.history_seq), most).await?;
    for kept in &rest {
        let found = text_of(&kept.body).map(|text| plain(&text));
        if found.is_some_and(|text| finder.find(text.as_bytes()).is_some()) {
            note(kept.seq, &mut numbers);
        }
    }
    Ok((history::these(database, session_id, &numbers).await?, total))
}

/// Forgets the texts of records up to this number, block by block.
pub(crate) fn forget(session_id: &str, up_to: i64) -> Statement {
    let sql = "DELETE FROM agents_search WHERE session_id = ? AND last_seq <= ?";
    Statement::new(sql, vec![session_id.into(), up_to.into()])
}
