//! Carries runs out: loads them, takes in what comes, writes what happened, and starts effects.

mod answer;
mod feed;
mod jobs;
mod live;
mod perform;
mod queue;
mod view;
mod watch;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use ::store::Database;
use identity::Caller;
use kernel::{Amount, OrgId, Page, PageRequest, SharedClock, Timestamp};
use ledger::{Attachment, Command, Journal, JournalError, Operation, Unit};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, OnceCell};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use feed::Feeds;
pub use live::Ending;
pub(crate) use live::Live;
use queue::{Queue, Ticket};
pub use view::{Asked, Question, Replay, Snapshot, Update};
pub use watch::{News, Said, Watch};

use crate::calls::ModelCaller;
use crate::event::{Event, Logged, Status};
use crate::store::{self, Definition, RunRecord};
use crate::tools::Tools;
use crate::{Compiled, Config, Error, Program, Result, Surroundings, compile};

/// Compiled definitions kept in memory.
const MOST_PROGRAMS: usize = 256;

/// A run at work, or being loaded.
type Loading = Arc<OnceCell<Arc<Live>>>;
/// Compiled definitions by organization and id.
type Programs = HashMap<(OrgId, Arc<str>), Arc<Program>>;

/// The engine that carries runs out. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Parts>);

/// What the engine is made of.
pub struct Parts {
    pub(crate) journal: Journal,
    pub(crate) database: Database,
    pub(crate) clock: SharedClock,
    pub(crate) config: Config,
    pub(crate) caller: ModelCaller,
    pub(crate) tools: Tools,
    /// This process, as runs name it that are at work in it.
    owner: Arc<str>,
    /// Runs at work, or about to be.
    live: Mutex<HashMap<Arc<str>, Loading>>,
    queue: Queue,
    programs: Mutex<Programs>,
    feeds: Feeds,
    /// When runs at work must be looked at.
    timers: Mutex<BTreeSet<(Timestamp, Arc<str>)>>,
    /// When the first waiting run must be looked at.
    next_due: Mutex<Option<Timestamp>>,
    wake: Notify,
    lease_until: AtomicI64,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl std::ops::Deref for Engine {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// A run that asks to be started.
#[derive(Clone, Debug)]
pub struct Start {
    /// Who starts it, and so who pays.
    pub caller: Arc<Caller>,
    /// The published definition.
    pub definition_id: Arc<str>,
    /// The fields it starts with.
    pub input: Map<String, Value>,
    /// What its calls may cost at most.
    pub budget: Option<Amount>,
    /// The same key and content start one run, however often they are sent.
    pub key: Option<String>,
    /// Rows of whoever starts it, written with it or not at all.
    pub with: Vec<Attachment>,
}

impl Start {
    /// The id that the run has or gets.
    fn run_id(&self) -> Arc<str> {
        match &self.key {
            Some(key) => RunRecord::id_of(&self.caller.org_id, key),
            None => kernel::id::shared(),
        }
    }
}

/// A run that was started, now or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The run.
    pub run_id: Arc<str>,
    /// The key had started it before.
    pub replayed: bool,
}

impl Engine {
    /// The engine over a running journal; [`Engine::run`] makes it work.
    pub fn new(
        journal: Journal,
        database: Database,
        clock: SharedClock,
        config: Config,
        caller: ModelCaller,
    ) -> Result<Self> {
        let tools = Tools::new(&config, SharedClock::clone(&clock))?;
        let queue = Queue::new(config.max_running, config.max_running_per_org);
        Ok(Self(Arc::new(Parts {
            journal,
            database,
            clock,
            caller,
            tools,
            owner: kernel::id::new().into(),
            live: Mutex::default(),
            queue,
            programs: Mutex::default(),
            feeds: Feeds::new(config.max_value_bytes),
            timers: Mutex::default(),
            next_due: Mutex::default(),
            wake: Notify::new(),
            lease_until: AtomicI64::new(0),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            config,
        })))
    }

    /// Checks a definition as it would run here.
    pub fn check(&self, text: &str, around: Surroundings) -> Compiled {
        compile(text, &Surroundings { tools: self.tools.names(), ..around })
    }

    /// Publishes a definition: from now on runs can name it by the id returned.
    pub async fn publish(
        &self,
        org_id: &OrgId,
        text: &str,
        around: Surroundings,
    ) -> Result<Arc<Program>> {
        let Compiled { program, text, findings } = self.check(text, around);
        let Some(program) = program else { return Err(Error::Invalid(findings)) };
        let definition = Definition {
            id: Arc::clone(program.id()),
            name: program.name().to_string(),
            text,
            created_at: self.clock.now(),
        };
        store::put_definition(&self.database, org_id, &definition).await?;
        Ok(self.keep(org_id, program))
    }

    fn keep(&self, org_id: &OrgId, program: Program) -> Arc<Program> {
        let mut programs = self.programs.lock();
        if programs.len() >= MOST_PROGRAMS {
            programs.clear();
        }
        let key = (org_id.clone(), Arc::clone(program.id()));
        Arc::clone(programs.entry(key).or_insert_with(|| Arc::new(program)))
    }

    /// A published definition, compiled.
    pub async fn program(&self, org_id: &OrgId, id: &str) -> Result<Arc<Program>> {
        let key = (org_id.clone(), Arc::from(id));
        let known = self.programs.lock().get(&key).cloned();
        if let Some(program) = known {
            return Ok(program);
        }
        let definition = store::find_definition(&self.database, org_id, id).await?;
        let definition = definition.ok_or_else(|| Error::UnknownDefinition(id.to_owned()))?;
        let compiled = compile(&definition.text, &Surroundings::default());
        match compiled.program {
            Some(program) => Ok(self.keep(org_id, program)),
            None => Err(Error::Invalid(compiled.findings)),
        }
    }

    /// The newest published definition of this name, or the one of this id.
    pub async fn definition(&self, org_id: &OrgId, name: &str) -> Result<Definition> {
        let newest = store::newest_definition(&self.database, org_id, name).await?;
        let found = match newest {
            Some(found) => Some(found),
            None => store::find_definition(&self.database, org_id, name).await?,
        };
        found.ok_or_else(|| Error::UnknownDefinition(name.chars().take(200).collect()))
    }

    /// The newest definition of every name that an organization has published, by name.
    pub async fn definitions(
        &self,
        org_id: &OrgId,
        page: &PageRequest,
    ) -> Result<Page<Definition>> {
        let rows = store::list_definitions(&self.database, org_id, page).await?;
        Ok(Page::from_fetched(rows, page, |definition| definition.name.clone()))
    }

    /// Starts a run, or finds the one that this key has started. When this returns, the run is on
    /// disk and will be carried out, whatever happens.
    pub async fn start(&self, start: Start) -> Result<Started> {
        let run_id = start.run_id();
        Ok(self.start_as(start, run_id).await?.0)
    }

    /// The same, and watches the run from its beginning. What is watched from before its start needs
    /// no look at the log.
    pub async fn start_watched(&self, start: Start) -> Result<(Replay, Watch)> {
        let (org_id, run_id) = (start.caller.org_id.clone(), start.run_id());
        let program = self.program(&org_id, &start.definition_id).await?;
        let created = Event::Created { input: start.input.clone() };
        let mut watch = self.watch_found(&org_id, Arc::clone(&run_id), 0);
        let (started, at) = self.start_as(start, Arc::clone(&run_id)).await?;
        if started.replayed {
            return Ok((self.replay(&org_id, &run_id).await?, watch));
        }
        Logged::numbered(1, at, Amount::ZERO, vec![created]).for_each(|first| watch.begin(first));
        Ok((Replay::new(run_id, program, at), watch))
    }

    async fn start_as(&self, start: Start, run_id: Arc<str>) -> Result<(Started, Timestamp)> {
        if self.stopping.is_cancelled() {
            return Err(Error::Stopping);
        }
        let program = self.program(&start.caller.org_id, &start.definition_id).await?;
        let bytes = crate::machine::size_of(&start.input);
        self.check_size(bytes)?;
        let waiting = self.queue.waiting(&start.caller.org_id);
        if waiting >= self.config.max_queued_per_org {
            return Err(Error::TooManyRuns(waiting));
        }
        self.ensure_lease().await?;
        // In a task: a start that was written is carried out, also if nobody waits for it any more.
        let engine = self.clone();
        let begun = self.tasks.spawn(async move { engine.begin(&start, run_id, &program).await });
        begun.await.unwrap_or(Err(Error::Stopping))
    }

    pub(crate) fn check_size(&self, bytes: usize) -> Result<()> {
        let most = self.config.max_value_bytes;
        if bytes > most { Err(Error::TooLarge { bytes, most }) } else { Ok(()) }
    }

    async fn begin(
        &self,
        start: &Start,
        run_id: Arc<str>,
        program: &Program,
    ) -> Result<(Started, Timestamp)> {
        let org_id = &start.caller.org_id;
        let now = self.clock.now();
        let record = RunRecord {
            id: Arc::clone(&run_id),
            org_id: org_id.clone(),
            definition_id: Arc::clone(program.id()),
            name: Arc::clone(program.name()),
            status: Status::Queued,
            wake_at: None,
            budget: start.budget.into_iter().chain(program.limits.budget).min(),
            spent: Amount::ZERO,
            output: None,
            error: None,
            created_at: now,
            updated_at: now,
            caller: Arc::clone(&start.caller),
        };
        let content = json!([program.id(), start.input, record.budget]).to_string();
        let mut operation = Operation::new(format!("flow:{run_id}:start"), Command::Note);
        operation.fingerprint = Some(fingerprint(&[content.as_bytes()]));
        let created = [Event::Created { input: start.input.clone() }];
        let text = serde_json::to_string(&created).unwrap_or_default();
        let mut attachments = vec![
            store::run_row(&record, &self.owner),
            store::log_row(&run_id, 1, now, 0_i64.into(), (1, text)),
        ];
        attachments.extend(start.with.iter().cloned());
        match self.journal.submit(Unit::new(operation, attachments)).await {
            Ok(receipt) if receipt.replayed => Ok((Started { run_id, replayed: true }, now)),
            Ok(_) => {
                let org_id = org_id.clone();
                self.queue.push(Ticket { run: Arc::clone(&run_id), org_id, begun: false });
                self.dispatch();
                Ok((Started { run_id, replayed: false }, now))
            }
            Err(JournalError::Conflict) => Err(Error::Conflict),
            Err(error) => Err(Error::Journal(error)),
        }
    }

    /// A run of this organization.
    pub async fn find(&self, org_id: &OrgId, run: &str) -> Result<RunRecord> {
        let found = store::find_run(&self.database, run, Some(org_id)).await?;
        found.ok_or_else(|| Error::UnknownRun(run.to_owned()))
    }

    /// An organization's runs, newest first.
    pub async fn list(&self, org_id: &OrgId, page: &PageRequest) -> Result<Page<RunRecord>> {
        let rows = store::list_runs(&self.database, org_id, page).await?;
        Ok(Page::from_fetched(rows, page, |run| run.id.to_string()))
    }

    /// What happened to a run after the event of this number.
    pub async fn events(&self, org_id: &OrgId, run: &str, after: i64) -> Result<Vec<Logged>> {
        self.find(org_id, run).await?;
        store::events(&self.database, run, after).await
    }

    /// Starts runs whose turn it is.
    pub(crate) fn dispatch(&self) {
        while !self.stopping.is_cancelled() {
            let Some(ticket) = self.queue.next() else { return };
            let engine = self.clone();
            self.tasks.spawn(async move { engine.turn(ticket).await });
        }
    }

    /// Takes no more work, and waits until what is under way has been written; runs that are not
    /// at their end go on when the engine is started again.
    pub async fn close(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // Others on this database need not wait for the lease to end.
        if let Err(error) = store::forget_owner(&self.database, &self.owner).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "this process stays on record"
            );
        }
    }
}

/// What makes a repeated write the same.
pub(crate) fn fingerprint(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut short = [0; 16];
    short.iter_mut().zip(hasher.finalize().as_bytes()).for_each(|(to, from)| *to = *from);
    short
}
