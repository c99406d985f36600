//! What the protocols work on.

use std::collections::BTreeSet;
use std::sync::Arc;

use flow::{Compiled, Definition, Engine, Program, Surroundings};
use identity::Identity;
use kernel::{OrgId, SharedClock};
use models::Models;
use store::Database;

use crate::Result;

/// What the protocols work on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Protocols {
    /// Who is who.
    pub identity: Identity,
    /// Carries the runs out.
    pub engine: Engine,
    /// What definitions may name.
    pub models: Arc<Models>,
    /// Threads and their runs.
    pub database: Database,
    /// The time.
    pub clock: SharedClock,
}

/// The newest definition of a name, compiled: what the protocols call an assistant or a tool.
#[derive(Clone, Debug)]
pub(crate) struct Workflow {
    pub(crate) definition: Definition,
    pub(crate) program: Arc<Program>,
}

impl Protocols {
    /// A workflow of an organization, by its name or id.
    pub(crate) async fn workflow(&self, org_id: &OrgId, name: &str) -> Result<Workflow> {
        let definition = self.engine.definition(org_id, name).await?;
        let program = self.engine.program(org_id, &definition.id).await?;
        Ok(Workflow { definition, program })
    }

    /// Publishes a definition, checked against the models that there are.
    pub(crate) async fn publish(&self, org_id: &OrgId, text: &str) -> Result<Arc<Program>> {
        Ok(self.engine.publish(org_id, text, self.around()).await?)
    }

    /// What is wrong with a definition, if anything.
    pub(crate) fn check(&self, text: &str) -> Compiled {
        self.engine.check(text, self.around())
    }

    fn around(&self) -> Surroundings {
        let names: BTreeSet<String> =
            self.models.list().iter().map(|model| model.name().to_string()).collect();
        Surroundings { models: Some(names), ..Surroundings::default() }
    }
}
