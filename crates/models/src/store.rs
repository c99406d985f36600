//! All SQL of this crate.

use ::store::{Database, Migration, Result, Statement};
use kernel::Timestamp;

use crate::ProviderState;

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0031_models_providers",
    sqlite: include_str!("../migrations/sqlite/0031_models_providers.sql"),
    mysql: include_str!("../migrations/mysql/0031_models_providers.sql"),
}];

/// What administrators have decided, by provider. There are as many rows as there ever were
/// providers in the configuration.
pub(crate) async fn states(database: &Database) -> Result<Vec<(String, ProviderState)>> {
    let rows = database.query("SELECT name, state FROM models_providers", &[]).await?;
    let mut states = Vec::new();
    for row in &rows {
        // A state that a later version knows leaves the provider as configured.
        if let Some(state) = ProviderState::parse(row.text(1)?) {
            states.push((row.text(0)?.to_owned(), state));
        }
    }
    Ok(states)
}

/// `note` is written with it.
pub(crate) async fn set_state(
    database: &Database,
    name: &str,
    state: ProviderState,
    now: Timestamp,
    note: Statement,
) -> Result<()> {
    let args = vec![state.as_str().into(), now.micros().into(), name.into()];
    let insert = "INSERT INTO models_providers (state, changed_at, name) VALUES (?, ?, ?)";
    let insert = Statement::new(insert, args.clone());
    match database.transaction(vec![insert, note.clone()]).await {
        Err(error) if error.is_duplicate() => {}
        outcome => return outcome.map(drop),
    }
    let update = "UPDATE models_providers SET state = ?, changed_at = ? WHERE name = ?";
    database.transaction(vec![Statement::new(update, args), note]).await.map(drop)
}
