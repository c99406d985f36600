//! Workflows: definitions under a name, loaded from the folder or given by their owner.

use std::collections::{BTreeMap, BTreeSet};

use flow::{Drawing, Program, Surroundings};
use kernel::{OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::store::{PageQuery, workflows as store};
use crate::{Agents, Error, Owner, Result, folder, ids};

const LONGEST_NAME: usize = 200;
const LONGEST_DESCRIPTION: usize = 4_000;
const LONGEST_VERSION: usize = 64;
/// Workflows that a search gives.
const MOST_FOUND: u32 = 100;

/// A workflow as callers see it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Workflow {
    /// Such as `react_20261121_174800_1f73e8a0`.
    pub workflow_id: String,
    /// Its name, as it was given.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its owner's word.
    pub version: String,
    /// The file it was loaded from.
    pub config_path: Option<String>,
    /// When it was made, or loaded last.
    #[schema(value_type = String, format = DateTime)]
    pub loaded_at: Timestamp,
    /// When it was run last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used: Option<Timestamp>,
    /// How often it was run.
    pub usage_count: i64,
    /// `{id, type, name, description}` of each node.
    #[schema(value_type = Vec<Object>)]
    pub nodes: Value,
    /// `{from, to, type, condition}` of each edge.
    #[schema(value_type = Vec<Object>)]
    pub edges: Value,
}

/// A workflow to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewWorkflow {
    /// Its name.
    #[schema(example = "示例工作流")]
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Its owner's word; `1.0.0` when absent.
    pub version: Option<String>,
    /// A file below the folder of workflows, if `config_data` is absent.
    pub config_path: Option<String>,
    /// The definition: `nodes` and `edges` as maps or lists. Without nodes it is a draft.
    #[schema(value_type = Option<Object>)]
    pub config_data: Option<Box<RawValue>>,
}

/// What of a workflow is to be changed.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct WorkflowChange {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Its owner's word.
    pub version: Option<String>,
    /// The definition; runs under way go on with the old one.
    #[schema(value_type = Option<Object>)]
    pub config_data: Option<Box<RawValue>>,
}

/// A workflow as stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) view: Workflow,
    /// What runs; none for a draft.
    pub(crate) definition_id: Option<String>,
    /// Its text, as it was given or loaded.
    pub(crate) config_data: Option<String>,
    pub(crate) org_id: OrgId,
    pub(crate) owner: String,
}

/// A definition that compiles, or the want of one.
#[derive(Clone, Default)]
struct Definition {
    id: Option<String>,
    text: Option<String>,
    nodes: Value,
    edges: Value,
}

impl Agents {
    /// Makes a workflow of a definition, a file, or neither: a draft.
    pub async fn create_workflow(&self, owner: &Owner, new: NewWorkflow) -> Result<Workflow> {
        check_texts(Some(&new.name), new.description.as_deref(), new.version.as_deref())?;
        let version = new.version.unwrap_or_else(|| "1.0.0".to_owned());
        let description = new.description.unwrap_or_default();
        let (text, others, path) = match (&new.config_data, new.config_path.as_deref()) {
            (Some(data), _) => {
                let text = whole_text(data, &new.name, &description, &version)?;
                (text, BTreeMap::new(), None)
            }
            (None, Some(file)) => {
                let file = self.file(file).await?;
                (Some(file.text), file.others, Some(file.path))
            }
            (None, None) => (None, BTreeMap::new(), None),
        };
        let (definition, _names) = self.define(owner, text, others).await?;
        let stored = self.stored(owner, (new.name, description, version), path, definition)?;
        store::insert(&self.parts().database, &stored).await?;
        Ok(stored.view)
    }

    /// Loads a file of the folder; one that this owner has loaded before is loaded anew.
    pub async fn load_workflow(&self, owner: &Owner, path: &str) -> Result<Workflow> {
        Ok(self.loaded(owner, path).await?.view)
    }

    pub(crate) async fn loaded(&self, owner: &Owner, path: &str) -> Result<Stored> {
        let file = self.file(path).await?;
        let (definition, names) = self.define(owner, Some(file.text), file.others).await?;
        let database = &self.parts().database;
        let known = store::find_by_path(database, owner, &file.path).await?;
        if let Some(mut known) = known {
            (known.view.name, known.view.description, known.view.version) = names.clone();
            known.view.loaded_at = self.now();
            known.put(definition.clone());
            if store::update(database, &known, self.now()).await? {
                return Ok(known);
            }
        }
        let stored = self.stored(owner, names, Some(file.path), definition)?;
        store::insert(database, &stored).await?;
        Ok(stored)
    }

    async fn file(&self, path: &str) -> Result<folder::File> {
        let (folder, path) = (self.parts().config.workflows.clone(), path.to_owned());
        let read = tokio::task::spawn_blocking(move || folder::read(&folder, &path)).await;
        read.unwrap_or_else(|_ended| Err(Error::Damaged("file")))
    }

    fn stored(
        &self,
        owner: &Owner,
        (name, description, version): (String, String, String),
        config_path: Option<String>,
        definition: Definition,
    ) -> Result<Stored> {
        let now = self.now();
        let view = Workflow {
            workflow_id: ids::workflow(&name, now)?,
            name,
            description,
            version,
            config_path,
            loaded_at: now,
            last_used: None,
            usage_count: 0,
            nodes: Value::Null,
            edges: Value::Null,
        };
        let (org_id, owner) = (owner.org_id().clone(), owner.id().to_owned());
        let mut stored = Stored { view, definition_id: None, config_data: None, org_id, owner };
        stored.put(definition);
        Ok(stored)
    }

    /// Compiles and publishes a definition; its name, description and version as it says them.
    async fn define(
        &self,
        owner: &Owner,
        text: Option<String>,
        files: BTreeMap<String, String>,
    ) -> Result<(Definition, (String, String, String))> {
        let Some(text) = text else { return Ok((Definition::draft(), Default::default())) };
        let models: BTreeSet<String> = self.parts().models.keys().cloned().collect();
        let around = Surroundings { files, models: Some(models), ..Surroundings::default() };
        let program = self.parts().engine.publish(owner.org_id(), &text, around).await?;
        let (nodes, edges) = outline(&program);
        let picture = program.picture();
        let part =
            |name: &str| picture.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let names = (part("name"), part("description"), part("version"));
        let id = Some(program.id().to_string());
        Ok((Definition { id, text: Some(text), nodes, edges }, names))
    }

    /// A workflow of this owner.
    pub async fn workflow(&self, owner: &Owner, id: &str) -> Result<Workflow> {
        Ok(self.find_workflow(owner, id).await?.view)
    }

    pub(crate) async fn find_workflow(&self, owner: &Owner, id: &str) -> Result<Stored> {
        ids::check_workflow(id)?;
        let found = store::find(&self.parts().database, owner, id).await?;
        found.ok_or_else(|| Error::UnknownWorkflow(id.to_owned()))
    }

    pub(crate) async fn list_workflows(
        &self,
        owner: &Owner,
        query: &PageQuery,
    ) -> Result<(Vec<Workflow>, i64)> {
        store::list(&self.parts().database, owner, query).await
    }

    /// Workflows whose name or description has this in it, the most used first.
    pub async fn search_workflows(&self, owner: &Owner, text: &str) -> Result<Vec<Workflow>> {
        let search = text.trim().chars().take(100).collect::<String>().to_lowercase();
        let query = PageQuery {
            page: 1,
            page_size: MOST_FOUND,
            search: Some(search),
            order: "usage_count",
            descending: true,
        };
        Ok(self.list_workflows(owner, &query).await?.0)
    }

    /// Changes what is given; another definition is compiled first.
    pub async fn change_workflow(
        &self,
        owner: &Owner,
        id: &str,
        change: WorkflowChange,
    ) -> Result<Workflow> {
        let (name, description) = (change.name.as_deref(), change.description.as_deref());
        check_texts(name, description, change.version.as_deref())?;
        let mut stored = self.find_workflow(owner, id).await?;
        let view = &mut stored.view;
        view.name = change.name.unwrap_or_else(|| view.name.clone());
        view.description = change.description.unwrap_or_else(|| view.description.clone());
        view.version = change.version.unwrap_or_else(|| view.version.clone());
        if let Some(data) = change.config_data {
            let text = whole_text(&data, &view.name, &view.description, &view.version)?;
            let (definition, _names) = self.define(owner, text, BTreeMap::new()).await?;
            stored.put(definition);
        }
        if store::update(&self.parts().database, &stored, self.now()).await? {
            return Ok(stored.view);
        }
        Err(Error::UnknownWorkflow(id.to_owned()))
    }

    /// Forgets a workflow; its runs go on, its sessions stay.
    pub async fn delete_workflow(&self, owner: &Owner, id: &str) -> Result<()> {
        ids::check_workflow(id)?;
        if store::delete(&self.parts().database, owner, id).await? {
            return self.unmirror_workflow(id).await;
        }
        Err(Error::UnknownWorkflow(id.to_owned()))
    }

    /// The workflow as nodes with positions, and edges.
    pub async fn picture(&self, owner: &Owner, id: &str) -> Result<Value> {
        let stored = self.find_workflow(owner, id).await?;
        let view = &stored.view;
        let mut picture = match &stored.definition_id {
            Some(definition) => {
                self.parts().engine.program(&stored.org_id, definition).await?.picture()
            }
            None => {
                json!({"layout": "hierarchical", "nodes": [], "edges": [], "entry_point": null})
            }
        };
        if let Value::Object(members) = &mut picture {
            members.insert("workflow_id".to_owned(), json!(view.workflow_id));
            members.insert("name".to_owned(), json!(view.name));
            members.insert("description".to_owned(), json!(view.description));
            members.insert("version".to_owned(), json!(view.version));
            members.insert("generated_at".to_owned(), json!(self.now()));
        }
        Ok(picture)
    }

    /// The workflow as a drawing.
    pub async fn drawing(&self, owner: &Owner, id: &str, drawing: Drawing) -> Result<String> {
        let stored = self.find_workflow(owner, id).await?;
        let definition = stored.definition_id.ok_or_else(|| Error::Empty(id.to_owned()))?;
        let program = self.parts().engine.program(&stored.org_id, &definition).await?;
        Ok(program.draw(drawing))
    }
}

impl Definition {
    fn draft() -> Self {
        Self { nodes: json!([]), edges: json!([]), ..Self::default() }
    }
}

impl Stored {
    fn put(&mut self, definition: Definition) {
        self.definition_id = definition.id;
        self.config_data = definition.text;
        self.view.nodes = definition.nodes;
        self.view.edges = definition.edges;
    }
}

/// Nodes and edges as the list of workflows shows them.
fn outline(program: &Program) -> (Value, Value) {
    let picture = program.picture();
    let each = |of: &str, make: fn(&Value) -> Value| -> Value {
        let all = picture.get(of).and_then(Value::as_array);
        all.into_iter().flatten().map(make).collect()
    };
    let node = |node: &Value| {
        let description = node.pointer("/metadata/description");
        json!({"id": node["id"], "type": node["type"], "name": node["id"], "description": description})
    };
    let edge = |edge: &Value| json!({"from": edge["from"], "to": edge["to"], "type": edge["type"], "condition": edge["condition"]});
    (each("nodes", node), each("edges", edge))
}

/// The definition with its name, description and version in it; none if it has no nodes. The text
/// stays as it is, since the order of nodes counts.
fn whole_text(
    data: &RawValue,
    name: &str,
    description: &str,
    version: &str,
) -> Result<Option<String>> {
    let members: Map<String, Value> = serde_json::from_str(data.get())
        .map_err(|_other| Error::Field("config_data", "it must be an object".to_owned()))?;
    let empty = match members.get("nodes").or_else(|| members.get("states")) {
        None | Some(Value::Null) => true,
        Some(Value::Array(nodes)) => nodes.is_empty(),
        Some(Value::Object(nodes)) => nodes.is_empty(),
        Some(_) => false,
    };
    if empty && !members.contains_key("inherits_from") {
        return Ok(None);
    }
    let mut text = "{".to_owned();
    for (key, value) in [("name", name), ("description", description), ("version", version)] {
        if !members.contains_key(key) {
            text.extend([&json!(key).to_string(), ":", &json!(value).to_string(), ","]);
        }
    }
    text.push_str(data.get().trim_start().trim_start_matches('{'));
    Ok(Some(text))
}

fn check_texts(name: Option<&str>, description: Option<&str>, version: Option<&str>) -> Result<()> {
    let too_long =
        |text: Option<&str>, most: usize| text.is_some_and(|text| text.chars().count() > most);
    if name.is_some_and(|name| name.trim().is_empty()) || too_long(name, LONGEST_NAME) {
        let message = format!("a name has 1 to {LONGEST_NAME} characters");
        return Err(Error::Field("name", message));
    }
    if too_long(description, LONGEST_DESCRIPTION) {
        let message = format!("a description has at most {LONGEST_DESCRIPTION} characters");
        return Err(Error::Field("description", message));
    }
    if too_long(version, LONGEST_VERSION) {
        let message = format!("a version has at most {LONGEST_VERSION} characters");
        return Err(Error::Field("version", message));
    }
    Ok(())
}
