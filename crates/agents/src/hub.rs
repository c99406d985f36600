//! What happens, told to whoever listens at that moment.

use events::{Bus, Message, Subscription};
use kernel::{OrgId, Timestamp};
use serde_json::{Value, json};

use crate::{Owner, Session};

/// The longest piece of a text in one message, in bytes.
const LONGEST_PIECE: usize = 16 * 1024;
/// Between the parts of a topic; in no id.
const BETWEEN: char = '\u{1f}';

/// A message about a session.
#[derive(Clone, Debug)]
pub(crate) struct Push {
    session_id: String,
    /// The message as it is sent.
    pub(crate) text: String,
}

/// Tells listeners what happens in their organization, on every instance.
#[derive(Clone, Debug)]
pub(crate) struct Hub(Bus);

/// Whose a message is, and which session it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct About<'a> {
    pub(crate) owner: &'a str,
    pub(crate) session_id: &'a str,
}

impl Hub {
    pub(crate) const fn new(bus: Bus) -> Self {
        Self(bus)
    }

    /// Tells whoever listens. Never waits.
    pub(crate) fn push(&self, org_id: &OrgId, owner: &str, push: Push) {
        self.0.publish(&topic(org_id, owner, &push.session_id), push.text);
    }

    /// For what is told from now on: [`topic`]s, or [`everything`].
    pub(crate) fn listen(&self) -> Subscription {
        self.0.subscribe_later()
    }
}

/// What happens in one session.
pub(crate) fn topic(org_id: &OrgId, owner: &str, session_id: &str) -> String {
    format!("{}{owner}{BETWEEN}{session_id}", beginning(org_id))
}

/// What happens in all that the caller sees.
pub(crate) fn everything(owner: &Owner) -> String {
    let beginning = beginning(owner.org_id());
    if owner.sees_all() {
        return format!("{beginning}*");
    }
    format!("{beginning}{}{BETWEEN}*", owner.id())
}

fn beginning(org_id: &OrgId) -> String {
    format!("agents{BETWEEN}{org_id}{BETWEEN}")
}

/// What a message is about.
pub(crate) fn about(message: &Message) -> Option<About<'_>> {
    let mut parts = message.topic.split(BETWEEN).skip(2);
    let (owner, session_id) = (parts.next()?, parts.next()?);
    Some(About { owner, session_id })
}

impl Push {
    fn new(session_id: &str, message: &Value) -> Self {
        Self { session_id: session_id.to_owned(), text: message.to_string() }
    }

    /// A session was created, updated or deleted, or is told again to who has missed something.
    pub(crate) fn session(session: &Session, event: &str, at: Timestamp) -> Self {
        let id = &session.session_id;
        let data = json!({
            "event": event, "status": session.status, "updated_at": session.updated_at,
            "workflow_id": session.workflow_id, "metadata": session.metadata,
        });
        let message =
            json!({"type": "session_update", "session_id": id, "data": data, "timestamp": at});
        Self::new(id, &message)
    }

    /// A run has come to a node, or to its end.
    pub(crate) fn node(session_id: &str, data: &Value, at: Timestamp) -> Self {
        let message = json!({"type": "workflow_state", "session_id": session_id, "data": data,
            "timestamp": at});
        Self::new(session_id, &message)
    }

    /// A part of what a model says.
    pub(crate) fn chunk(session_id: &str, chunk: &str, is_final: bool, at: Timestamp) -> Self {
        let message = json!({"type": "stream", "session_id": session_id, "chunk": chunk,
            "is_final": is_final, "timestamp": at});
        Self::new(session_id, &message)
    }

    /// Something failed.
    pub(crate) fn error(session_id: &str, kind: &str, error: &str, at: Timestamp) -> Self {
        let message = json!({"type": "error", "error": error, "error_type": kind,
            "session_id": session_id, "timestamp": at});
        Self::new(session_id, &message)
    }
}

/// A text in pieces that fit a message, none within a character.
pub(crate) fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > LONGEST_PIECE {
        let end = (0..=LONGEST_PIECE).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(0);
        let (piece, behind) = rest.split_at(end);
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_say_whose_they_are_and_stay_in_their_organization() {
        let hub = Hub::new(Bus::new());
        let (mut own, mut other) = (hub.listen(), hub.listen());
        own.listen_to([topic(&"a".into(), "u", "s")]);
        other.listen_to([topic(&"ab".into(), "u", "s"), topic(&"a".into(), "v", "s")]);
        hub.push(&"a".into(), "u", Push::chunk("s", "x", true, Timestamp::default()));
        let events::Event::Message(message) = own.next().await else { panic!() };
        assert_eq!(about(&message), Some(About { owner: "u", session_id: "s" }));
        assert!(other.try_next().is_none());
    }

    #[test]
    fn pieces_add_up_and_break_no_character() {
        let text = "é汉".repeat(20_000);
        let all = pieces(&text);
        assert!(all.len() > 1 && all.iter().all(|piece| piece.len() <= LONGEST_PIECE));
        assert_eq!(all.concat(), text);
        assert_eq!(pieces(""), [""]);
    }
}
