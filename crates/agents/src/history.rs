//! The history: what happened in sessions, read, searched, exported, marked, and cleaned up.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{StreamExt as _, once, try_unfold};
use kernel::{Timestamp, csv_line};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::records::{HOUR, date_of, fields_of};
use crate::sessions::Stored as Session;
use crate::store::figures::{self, Times, Totals};
use crate::store::history::{self as store, Filter, Kept};
use crate::store::{bookmarks, search};
use crate::{Agents, Error, Owner, Result, ids};

/// Records read at once for an export.
const PART: usize = 1_000;
/// Records deleted in one transaction.
const AT_ONCE: i64 = 5_000;
const LONGEST_QUERY: usize = 500;
const LONGEST_NOTE: usize = 500;
const LONGEST_MESSAGE_ID: usize = 128;
const DAY: i64 = 24 * HOUR;

/// A record as it is kept: one JSON object.
pub(crate) type Record = Box<RawValue>;

/// What happened in a session, counted.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Statistics {
    /// The session.
    pub session_id: String,
    /// Messages of people, models and systems.
    pub total_messages: i64,
    /// Calls of tools.
    pub total_tool_calls: i64,
    /// What failed.
    pub total_errors: i64,
    /// From its first record to its last.
    pub duration_seconds: f64,
    /// Messages without an error, of a hundred.
    pub success_rate: f64,
}

/// A mark at a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Bookmark {
    /// Its id.
    pub bookmark_id: String,
    /// The session.
    pub session_id: String,
    /// The record it marks.
    pub message_id: String,
    /// What its owner says of it.
    pub note: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// What a clean-up has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Cleaned {
    /// Files of the history that are gone.
    pub cleaned_files: u64,
    /// Records that are gone.
    pub cleaned_records: u64,
}

/// The counts of a day, or of another span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Counts {
    /// Messages.
    pub message_count: i64,
    /// Calls of tools.
    pub tool_call_count: i64,
    /// What failed.
    pub error_count: i64,
    /// Tokens of all models.
    pub token_usage: i64,
}

/// The spans that counts are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    Hourly,
    Daily,
    Weekly,
    Monthly,
}

impl Span {
    pub(crate) fn read(name: &str) -> Result<Self> {
        match name {
            "hourly" => Ok(Self::Hourly),
            "daily" => Ok(Self::Daily),
            "weekly" => Ok(Self::Weekly),
            "monthly" => Ok(Self::Monthly),
            _ => {
                let message = "use hourly, daily, weekly or monthly".to_owned();
                Err(Error::Query("aggregation_type", message))
            }
        }
    }

    /// How the span is called that an hour is in; weeks by their Monday.
    fn name(self, hour: i64) -> String {
        let at = Timestamp::from_micros(hour);
        match self {
            Self::Hourly => at.to_string().chars().take(13).chain(":00".chars()).collect(),
            Self::Daily => date_of(at),
            Self::Weekly => {
                // 1970-01-01 was a Thursday.
                let day = hour.div_euclid(DAY);
                date_of(Timestamp::from_micros((day - (day + 3).rem_euclid(7)) * DAY))
            }
            Self::Monthly => at.to_string().chars().take(7).collect(),
        }
    }
}

fn raw(kept: Vec<Kept>) -> Result<Vec<Record>> {
    let each = kept.into_iter().map(|kept| RawValue::from_string(kept.body));
    each.map(|body| body.map_err(|_no_json| Error::Damaged("record"))).collect()
}

impl Agents {
    /// A session's records in their order, and how many fit in all.
    pub(crate) async fn records(
        &self,
        owner: &Owner,
        id: &str,
        filter: &Filter,
        page: (u32, u32),
    ) -> Result<(Vec<Record>, i64)> {
        let session = self.find_history(owner, id).await?;
        let (kept, total) = store::page(&self.parts().database, &session, filter, page).await?;
        Ok((raw(kept)?, total))
    }

    /// The first of a session's messages and tool calls with this text, whatever the case, and how
    /// many there are.
    pub(crate) async fn search(
        &self,
        owner: &Owner,
        id: &str,
        text: &str,
        limit: u32,
    ) -> Result<(Vec<Record>, i64)> {
        if text.is_empty() || text.chars().count() > LONGEST_QUERY {
            return Err(Error::Query("query", format!("1 to {LONGEST_QUERY} characters")));
        }
        let session = self.find_history(owner, id).await?;
        let (kept, total) = search::find(&self.parts().database, &session, text, limit).await?;
        Ok((raw(kept)?, total))
    }

    /// The history of a session as it is now, as JSON, a part at a time.
    pub(crate) async fn export_json(
        &self,
        owner: &Owner,
        id: &str,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let session = self.find_history(owner, id).await?;
        let (id, now) = (&session.view.session_id, self.now());
        let total = session.history_seq - session.history_from + 1;
        // Neither an id nor a time holds anything that must be coded.
        let head = format!(
            "{{\"session_id\":\"{id}\",\"export_time\":\"{now}\",\"total_records\":{total},\"records\":["
        );
        let first = session.history_from;
        let parts = self.parts_of(session).map(move |part| {
            let part = part?;
            let mut text = String::new();
            for kept in &part {
                text.push_str(if kept.seq == first { "" } else { "," });
                text.push_str(&kept.body);
            }
            Ok(Bytes::from(text))
        });
        Ok(once(async { Ok(Bytes::from(head)) })
            .chain(parts)
            .chain(once(async { Ok(Bytes::from_static(b"]}")) })))
    }

    /// The same as CSV: every field of the types of records that there are.
    pub(crate) async fn export_csv(
        &self,
        owner: &Owner,
        id: &str,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let session = self.find_history(owner, id).await?;
        let types = store::types(&self.parts().database, &session.view.session_id).await?;
        let fields: BTreeSet<&'static str> =
            types.iter().flat_map(|record_type| fields_of(record_type)).collect();
        let head = if fields.is_empty() { String::new() } else { csv_line(&fields) };
        let parts = self.parts_of(session).map(move |part| {
            let lines =
                part?.iter().map(|kept| line(&fields, &kept.body)).collect::<Result<Vec<_>>>();
            Ok(Bytes::from(lines?.concat()))
        });
        Ok(once(async { Ok(Bytes::from(head)) }).chain(parts))
    }

    fn parts_of(&self, session: Session) -> impl Stream<Item = Result<Vec<Kept>>> + Send + use<> {
        let database = self.parts().database.clone();
        let (id, last) = (session.view.session_id, session.history_seq);
        try_unfold(session.history_from - 1, move |after| {
            let (database, id) = (database.clone(), id.clone());
            async move {
                let part = store::after(&database, &id, (after, last), PART).await?;
                Ok(part.last().map(|kept| kept.seq).map(|seq| (part, seq)))
            }
        })
    }

    /// Marks a message.
    pub async fn mark(
        &self,
        owner: &Owner,
        id: &str,
        message_id: &str,
        note: Option<String>,
    ) -> Result<Bookmark> {
        let fits = |byte: u8| byte.is_ascii_graphic();
        if message_id.is_empty()
            || message_id.len() > LONGEST_MESSAGE_ID
            || !message_id.bytes().all(fits)
        {
            let message = format!("1 to {LONGEST_MESSAGE_ID} ASCII characters, no spaces");
            return Err(Error::Field("message_id", message));
        }
        let session = self.find_history(owner, id).await?;
        let bookmark = Bookmark {
            bookmark_id: ids::bookmark(message_id, self.now()),
            session_id: session.view.session_id,
            message_id: message_id.to_owned(),
            note: note.map(|note| note.chars().take(LONGEST_NOTE).collect()),
            created_at: self.now(),
        };
        bookmarks::put(&self.parts().database, owner, &bookmark).await?;
        Ok(bookmark)
    }

    /// The owner's bookmarks, newest first.
    pub async fn bookmarks(&self, owner: &Owner, session: Option<&str>) -> Result<Vec<Bookmark>> {
        session.map(ids::check_history).transpose()?;
        bookmarks::list(&self.parts().database, owner, session).await
    }

    /// Forgets a bookmark.
    pub async fn unmark(&self, owner: &Owner, id: &str) -> Result<()> {
        if bookmarks::delete(&self.parts().database, owner, id).await? {
            return Ok(());
        }
        Err(Error::UnknownBookmark(ids::shown(id)))
    }

    /// What happened in a session, counted; what was cleaned up counts on.
    pub async fn statistics(&self, owner: &Owner, id: &str) -> Result<Statistics> {
        let session = self.find_history(owner, id).await?;
        let (database, id) = (&self.parts().database, session.view.session_id.as_str());
        let totals = figures::totals(database, owner, id, Times::default(), &["record"]).await?;
        let (first, last) = store::times(database, id).await?.unwrap_or_default();
        let (messages, errors) = (count(&totals, "message"), count(&totals, "error"));
        Ok(Statistics {
            session_id: id.to_owned(),
            total_messages: messages,
            total_tool_calls: count(&totals, "tool_call"),
            total_errors: errors,
            duration_seconds: last.since(first).as_secs_f64(),
            success_rate: rate(messages - errors, messages),
        })
    }

    /// What happened last, newest first: in a session, or in all.
    pub(crate) async fn activity(
        &self,
        owner: &Owner,
        session: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Record>> {
        let session = match session {
            Some(id) => Some(self.find_history(owner, id).await?),
            None => None,
        };
        let database = &self.parts().database;
        raw(store::newest(database, owner, session.as_ref(), None, limit).await?)
    }

    /// Removes what happened before this time from the owner's sessions; figures stay.
    pub async fn clean_up(&self, owner: &Owner, before: Timestamp) -> Result<Cleaned> {
        let database = &self.parts().database;
        let mut cleaned = Cleaned::default();
        for (session_id, last) in store::older(database, owner, before).await? {
            loop {
                let Some(session) =
                    crate::store::sessions::find(database, owner, &session_id).await?
                else {
                    break;
                };
                let up_to = last.min(session.history_from.saturating_add(AT_ONCE - 1));
                if up_to < session.history_from {
                    break;
                }
                cleaned.cleaned_records += store::forget(database, &session, up_to).await?;
            }
            cleaned.cleaned_files += self.clean_mirror(&session_id).await?;
        }
        Ok(cleaned)
    }

    /// A session's counts, span by span.
    pub(crate) async fn aggregate(
        &self,
        owner: &Owner,
        id: &str,
        span: Span,
    ) -> Result<BTreeMap<String, Counts>> {
        let session = self.find_history(owner, id).await?;
        let (database, id) = (&self.parts().database, session.view.session_id.as_str());
        let kinds = ["record", "prompt", "completion"];
        let hours = figures::by_hour(database, owner, id, Times::default(), &kinds).await?;
        let mut spans: BTreeMap<String, Counts> = BTreeMap::new();
        for (hour, totals) in hours {
            let counts = spans.entry(span.name(hour)).or_default();
            counts.message_count += count(&totals, "message");
            counts.tool_call_count += count(&totals, "tool_call");
            counts.error_count += count(&totals, "error");
            let tokens = totals.iter().filter(|((kind, _), _)| kind != "record");
            counts.token_usage += tokens.map(|(_, sum)| sum.total).sum::<i64>();
        }
        Ok(spans)
    }
}

/// How many records of a type there were.
pub(crate) fn count(totals: &Totals, record_type: &str) -> i64 {
    let key = ("record".to_owned(), record_type.to_owned());
    totals.get(&key).map_or(0, |sum| sum.number)
}

/// So many of a hundred; all, of none.
pub(crate) fn rate(good: i64, all: i64) -> f64 {
    if all <= 0 {
        return 100.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a share, for people")]
    let share = good as f64 / all as f64;
    (share * 100.0).clamp(0.0, 100.0)
}

/// A record as a line; what is not text or a number is JSON.
fn line(fields: &BTreeSet<&'static str>, body: &str) -> Result<String> {
    let record: BTreeMap<&str, &RawValue> =
        serde_json::from_str(body).map_err(|_damaged| Error::Damaged("record"))?;
    let cells = fields.iter().map(|field| match record.get(field).map(|value| value.get()) {
        None | Some("null") => String::new(),
        Some(text) if text.starts_with('"') => match serde_json::from_str(text) {
            Ok(Value::String(text)) => text,
            _ => text.to_owned(),
        },
        Some(other) => other.to_owned(),
    });
    Ok(csv_line(cells.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_named_by_their_beginning() {
        // 2026-11-21 08:00 UTC, a Saturday.
        let hour = 1_795_248_000_000_000;
        assert_eq!(date_of(Timestamp::from_micros(hour)), "2026-11-21");
        assert_eq!(Span::Hourly.name(hour), "2026-11-21T08:00");
        assert_eq!(Span::Daily.name(hour), "2026-11-21");
        assert_eq!(Span::Weekly.name(hour), "2026-11-16");
        assert_eq!(Span::Monthly.name(hour), "2026-11");
        assert_eq!(Span::Weekly.name(0), "1969-12-29");
        assert!(Span::read("yearly").is_err());
    }

    #[test]
    fn cells_hold_no_formulas_and_lose_nothing() {
        let fields = ["content", "n", "o", "x"].into_iter().collect();
        let body = r#"{"n":-1.5,"content":"=1+1,\"a\"","o":{"k":[1]},"y":null}"#;
        assert_eq!(
            line(&fields, body).unwrap(),
            "\"'=1+1,\"\"a\"\"\",-1.5,\"{\"\"k\"\":[1]}\",\r\n"
        );
    }

    #[test]
    fn rates_stay_between_nothing_and_everything() {
        assert_eq!((rate(0, 0), rate(1, 2), rate(-3, 2)), (100.0, 50.0, 0.0));
    }
}
