//! The tables that the original keeps in files of their own.

use std::path::Path;

use ::store::{Database, Statement};
use kernel::Secret;

use crate::Result;
use crate::store::mirror::Mirrored;

const SESSIONS: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS sessions (session_id TEXT PRIMARY KEY, workflow_config_path TEXT NOT NULL, \
     workflow_id TEXT, status TEXT DEFAULT 'active', created_at TEXT, updated_at TEXT, agent_config TEXT, \
     metadata TEXT)",
    "CREATE INDEX IF NOT EXISTS idx_sessions_status ON sessions (status)",
    "CREATE INDEX IF NOT EXISTS idx_sessions_created_at ON sessions (created_at)",
];
const WORKFLOWS: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS workflows (workflow_id TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT, \
     version TEXT, config_path TEXT, loaded_at TEXT, last_used TEXT, usage_count INTEGER DEFAULT 0, \
     config_data TEXT)",
    "CREATE INDEX IF NOT EXISTS idx_workflows_name ON workflows (name)",
    "CREATE INDEX IF NOT EXISTS idx_workflows_loaded_at ON workflows (loaded_at)",
];

/// `sessions/metadata.db` and `workflows/metadata.db`.
#[derive(Debug)]
pub(super) struct Tables {
    sessions: Database,
    workflows: Database,
}

impl Tables {
    pub(super) async fn open(root: &Path) -> Result<Self> {
        let sessions = open(&root.join("sessions"), &SESSIONS).await?;
        let workflows = open(&root.join("workflows"), &WORKFLOWS).await?;
        Ok(Self { sessions, workflows })
    }

    pub(super) async fn put_sessions(&self, rows: &[Mirrored]) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO sessions (session_id, workflow_config_path, workflow_id, status, created_at, \
                   updated_at, agent_config, metadata) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        put(&self.sessions, sql, rows).await
    }

    pub(super) async fn put_workflows(&self, rows: &[Mirrored]) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO workflows (workflow_id, name, description, version, config_path, loaded_at, \
                   last_used, usage_count, config_data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        put(&self.workflows, sql, rows).await
    }

    /// Removes a row of `sessions` or `workflows`.
    pub(super) async fn forget(&self, table: &str, id: &str) -> Result<()> {
        let (database, sql) = match table {
            "sessions" => (&self.sessions, "DELETE FROM sessions WHERE session_id = ?"),
            _ => (&self.workflows, "DELETE FROM workflows WHERE workflow_id = ?"),
        };
        database.execute(Statement::new(sql, vec![id.into()])).await?;
        Ok(())
    }

    pub(super) async fn clear(&self) -> Result<()> {
        self.sessions.execute(Statement::new("DELETE FROM sessions", vec![])).await?;
        self.workflows.execute(Statement::new("DELETE FROM workflows", vec![])).await?;
        Ok(())
    }
}

async fn open(folder: &Path, schema: &[&'static str]) -> Result<Database> {
    std::fs::create_dir_all(folder)?;
    let url = format!("sqlite:{}", folder.join("metadata.db").display());
    let database = Database::open(&Secret::from(url), folder).await?;
    let schema = schema.iter().map(|sql| Statement::new(*sql, vec![])).collect();
    database.transaction(schema).await?;
    Ok(database)
}

async fn put(database: &Database, sql: &'static str, rows: &[Mirrored]) -> Result<()> {
    let statements = rows.iter().map(|row| Statement::new(sql, row.cells.clone()));
    database.transaction(statements.collect()).await?;
    Ok(())
}
