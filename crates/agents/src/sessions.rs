//! Sessions: conversations with a workflow, and the state they stand at.

use kernel::{OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::hub::Push;
use crate::store::{PageQuery, sessions as store};
use crate::{Agents, Error, Owner, Result, ids};

/// The largest `initial_state` and, apart from it, `metadata` or `agent_config`, in bytes.
const LARGEST_STATE: usize = 192 * 1024;
const LARGEST_SETTINGS: usize = 64 * 1024;
/// A session that changed in between is read again, this often.
const TRIES: usize = 5;

/// How a session stands: its owner's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is at work.
    Active,
    /// It rests.
    Paused,
    /// It has done what it was for.
    Completed,
    /// It failed.
    Error,
    /// It is kept, and no more.
    Archived,
}

impl Status {
    const ALL: [Self; 5] =
        [Self::Active, Self::Paused, Self::Completed, Self::Error, Self::Archived];

    /// The name in answers and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Error => "error",
            Self::Archived => "archived",
        }
    }

    /// The status of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    pub(crate) fn read(name: &str) -> Result<Self> {
        Self::parse(name).ok_or_else(|| Error::Status(ids::shown(name)))
    }
}

/// A session as callers see it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Session {
    /// Such as `react-20261121-174800-1f73e8a0`.
    pub session_id: String,
    /// The workflow's file; empty for a workflow that has none.
    pub workflow_config_path: String,
    /// The workflow.
    pub workflow_id: Option<String>,
    /// How it stands.
    pub status: Status,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// What its owner gave for its nodes: the field `agent_config` of its runs.
    #[schema(value_type = Option<Object>)]
    pub agent_config: Option<Value>,
    /// Its owner's notes.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Value>,
}

/// A session to be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct NewSession {
    /// The workflow's file, below the folder of workflows.
    #[schema(example = "configs/workflows/react.yaml")]
    pub workflow_config_path: Option<String>,
    /// A workflow of yours, instead of a file.
    pub workflow_id: Option<String>,
    /// For the nodes: the field `agent_config` of the session's runs.
    #[schema(value_type = Option<Object>)]
    pub agent_config: Option<Value>,
    /// The fields it begins with, such as `messages`.
    #[schema(value_type = Option<Object>)]
    pub initial_state: Option<Map<String, Value>>,
}

/// What of a session is to be changed.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct SessionChange {
    /// `active`, `paused`, `completed`, `error` or `archived`.
    pub status: Option<String>,
    /// New notes in place of the old.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Value>,
}

/// A session as stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) view: Session,
    pub(crate) org_id: OrgId,
    pub(crate) owner: String,
    /// Not the history of one run alone.
    pub(crate) listed: bool,
    /// The fields that its next run begins with.
    pub(crate) state: Map<String, Value>,
    pub(crate) version: i64,
    /// The last number of its history, and the first that is kept.
    pub(crate) history_seq: i64,
    pub(crate) history_from: i64,
}

impl Stored {
    /// A new session of this owner.
    pub(crate) fn new(owner: &Owner, session_id: String, now: Timestamp) -> Self {
        let view = Session {
            session_id,
            workflow_config_path: String::new(),
            workflow_id: None,
            status: Status::Active,
            created_at: now,
            updated_at: now,
            agent_config: None,
            metadata: None,
        };
        Self {
            view,
            org_id: owner.org_id().clone(),
            owner: owner.id().to_owned(),
            listed: true,
            state: Map::new(),
            version: 1,
            history_seq: 0,
            history_from: 1,
        }
    }
}

impl Agents {
    /// Makes a session with the workflow of a file, or with one that there is.
    pub async fn create_session(&self, owner: &Owner, new: NewSession) -> Result<Session> {
        check_object("agent_config", new.agent_config.as_ref(), LARGEST_SETTINGS)?;
        let state = new.initial_state.unwrap_or_default();
        check_size("initial_state", &Value::Object(state.clone()), LARGEST_STATE)?;
        let workflow = match (new.workflow_id.as_deref(), new.workflow_config_path.as_deref()) {
            (Some(id), _) => self.find_workflow(owner, id).await?,
            (None, Some(path)) => self.loaded(owner, path).await?,
            (None, None) => {
                let message = "name the workflow's file, or send workflow_id".to_owned();
                return Err(Error::Field("workflow_config_path", message));
            }
        };
        let path = workflow.view.config_path.unwrap_or_default();
        let named = if path.is_empty() { &workflow.view.name } else { &path };
        let now = self.now();
        let mut stored = Stored::new(owner, ids::session(named, now)?, now);
        stored.view.workflow_config_path = path;
        stored.view.workflow_id = Some(workflow.view.workflow_id);
        stored.view.agent_config = new.agent_config;
        stored.state = state;
        self.parts().database.execute(store::insert(&stored)).await?;
        self.push_session(&stored, "created");
        Ok(stored.view)
    }

    /// A session of this owner.
    pub async fn session(&self, owner: &Owner, id: &str) -> Result<Session> {
        Ok(self.find_session(owner, id).await?.view)
    }

    pub(crate) async fn find_session(&self, owner: &Owner, id: &str) -> Result<Stored> {
        ids::check_session(id)?;
        let found = store::find(&self.parts().database, owner, id).await?;
        found.ok_or_else(|| Error::UnknownSession(id.to_owned()))
    }

    /// A session, or the history of a run by itself.
    pub(crate) async fn find_history(&self, owner: &Owner, id: &str) -> Result<Stored> {
        ids::check_history(id)?;
        let found = store::find(&self.parts().database, owner, id).await?;
        found.ok_or_else(|| Error::UnknownSession(id.to_owned()))
    }

    /// The workflow that a session is with.
    pub(crate) async fn workflow_of(&self, owner: &Owner, id: &str) -> Result<String> {
        let session = self.find_session(owner, id).await?;
        session.view.workflow_id.ok_or_else(|| Error::NoWorkflow(id.to_owned()))
    }

    pub(crate) async fn list_sessions(
        &self,
        owner: &Owner,
        status: Option<Status>,
        query: &PageQuery,
    ) -> Result<(Vec<Session>, i64)> {
        store::list(&self.parts().database, owner, status, query).await
    }

    /// Changes what is given.
    pub async fn change_session(
        &self,
        owner: &Owner,
        id: &str,
        change: SessionChange,
    ) -> Result<Session> {
        let status = change.status.as_deref().map(Status::read).transpose()?;
        check_object("metadata", change.metadata.as_ref(), LARGEST_SETTINGS)?;
        self.alter(owner, id, |stored| {
            stored.view.status = status.unwrap_or(stored.view.status);
            if let Some(metadata) = &change.metadata {
                stored.view.metadata = Some(metadata.clone());
            }
        })
        .await
    }

    /// Writes what `change` makes of the session, unless others keep changing it.
    async fn alter(
        &self,
        owner: &Owner,
        id: &str,
        change: impl Fn(&mut Stored),
    ) -> Result<Session> {
        for _ in 0..TRIES {
            let mut stored = self.find_session(owner, id).await?;
            change(&mut stored);
            let now = self.now();
            match self.parts().database.execute(store::update(&stored, now)).await {
                Ok(_) => {
                    stored.view.updated_at = now;
                    self.push_session(&stored, "updated");
                    return Ok(stored.view);
                }
                Err(::store::Error::Unexpected { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended(id.to_owned()))
    }

    /// Deletes a session with its history; what its runs have cost stays in the figures.
    pub async fn delete_session(&self, owner: &Owner, id: &str) -> Result<()> {
        let stored = self.find_session(owner, id).await?;
        store::delete(&self.parts().database, &stored).await?;
        self.unmirror_session(id).await?;
        self.push_session(&stored, "deleted");
        Ok(())
    }

    /// Keeps the session's state as it is now.
    pub async fn save_session(&self, owner: &Owner, id: &str) -> Result<()> {
        let stored = self.find_session(owner, id).await?;
        store::save(&self.parts().database, &stored, self.now()).await
    }

    /// Puts the session back to the state that was saved last, and makes it active.
    pub async fn restore_session(&self, owner: &Owner, id: &str) -> Result<Session> {
        self.find_session(owner, id).await?;
        let saved = store::saved(&self.parts().database, id).await?;
        let saved = saved.ok_or_else(|| Error::NothingSaved(id.to_owned()))?;
        self.alter(owner, id, |stored| {
            stored.view.status = Status::Active;
            stored.state.clone_from(&saved);
        })
        .await
    }

    fn push_session(&self, stored: &Stored, event: &str) {
        if stored.listed {
            let push = Push::session(&stored.view, event, self.now());
            self.hub().push(&stored.org_id, &stored.owner, push);
        }
    }
}

fn check_object(name: &'static str, value: Option<&Value>, most: usize) -> Result<()> {
    match value {
        None => Ok(()),
        Some(value @ Value::Object(_)) => check_size(name, value, most),
        Some(_) => Err(Error::Field(name, "it must be an object".to_owned())),
    }
}

fn check_size(name: &'static str, value: &Value, most: usize) -> Result<()> {
    if value.to_string().len() > most {
        return Err(Error::Field(name, format!("it may have {most} bytes")));
    }
    Ok(())
}
