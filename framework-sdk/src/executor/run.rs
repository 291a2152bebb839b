//! The loop of an executor's process.

use std::{
    env,
    future::pending,
    hash::{BuildHasher, RandomState},
    io,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use apportion_types::{
    RunId,
    protocol::executor::{ExecutorCall, ExecutorEvent, ExecutorRefuseCode},
};
use tokio::{
    sync::mpsc,
    task::{self, JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Endpoint,
};

use super::{
    AWAY_MAX, End, Executor, ExecutorError, SOCKET_VARIABLE, TOKEN_FILE_VARIABLE,
    link::{FromLink, Link},
    state::State,
};
use crate::{address::lasting, driver::random::Random};

/// The pause after the first failed try; it doubles with each.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Far below the minute that an agent gives its executors once it is back.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Updates that wait to be kept; who has more to say waits.
const SAID_QUEUED: usize = 64;

/// Runs an [`Executor`] against its agent.
#[derive(Debug)]
#[must_use = "nothing is run before `run` is called"]
pub struct Runner {
    socket: PathBuf,
    endpoint: Endpoint,
    token: MetadataValue<Ascii>,
    away_max: Duration,
}

impl Runner {
    /// As the agent has said in the environment of this process.
    pub fn from_env() -> Result<Runner, ExecutorError> {
        let path = |variable| {
            env::var_os(variable).map(PathBuf::from).ok_or(ExecutorError::Environment { variable })
        };
        Runner::new(path(SOCKET_VARIABLE)?, &path(TOKEN_FILE_VARIABLE)?)
    }

    /// For the agent behind this socket, known to it by the token in this file.
    pub fn new(socket: impl Into<PathBuf>, token_file: &Path) -> Result<Runner, ExecutorError> {
        let socket = socket.into();
        let failed = |source| ExecutorError::Token { path: token_file.to_owned(), source };
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let token = std::fs::read_to_string(token_file).map_err(failed)?;
        let token = format!("Bearer {}", token.trim()).parse();
        let token = token.map_err(|_| failed(invalid("it holds what is no text of a header".to_owned())))?;
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()));
        let endpoint = endpoint.map_err(|error| failed(invalid(error.to_string())))?;
        Ok(Runner { socket, endpoint: lasting(endpoint), token, away_max: AWAY_MAX })
    }

    /// How long the agent may be away before the run ends.
    pub fn away_max(self, away_max: Duration) -> Runner {
        Runner { away_max, ..self }
    }

    /// Runs what the agent launches, until it says that the executor is over.
    ///
    /// The connection is opened again for as long as the agent is away no longer than it may be. When this returns, or is dropped, what
    /// [`Executor::run`] was doing for tasks that have not ended is dropped.
    pub async fn run(self, executor: impl Executor) -> Result<(), ExecutorError> {
        self.run_until(executor, pending()).await
    }

    /// The same, but once `shutdown` is ready only until every task has ended and the agent has heard of it.
    pub async fn run_until(
        self,
        executor: impl Executor,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ExecutorError> {
        let mut shutdown = pin!(shutdown);
        let mut ending = false;
        let executor = Arc::new(executor);
        let seed = RandomState::new().hash_one(0);
        let mut state = State::new(seed);
        let mut tries = Tries { random: Random::new(seed), since: Some(Instant::now()), failed: 0 };
        let (say, mut said) = mpsc::channel(SAID_QUEUED);
        let mut runs = Runs::default();
        let mut link = Some(self.open(&state));
        let mut again = Instant::now();
        while !(ending && state.is_idle()) {
            tokio::select! {
                biased;
                () = &mut shutdown, if !ending => ending = true,
                // What a task has said goes before its end.
                Some(said) = said.recv(), if state.has_room() => {
                    if let (Some(update), Some(link)) = (state.said(said), &mut link) {
                        link.send(ExecutorCall::Update(update));
                    }
                }
                Some((run_id, end)) = runs.next(), if state.has_room() => {
                    let update = state.ended(run_id, end);
                    if let Some(link) = &mut link {
                        link.send(ExecutorCall::Update(update));
                    }
                }
                from = next(&mut link) => match from {
                    FromLink::Event(ExecutorEvent::Subscribed { executor, .. }) => {
                        tracing::info!(%executor, "subscribed");
                        tries = Tries { since: None, failed: 0, ..tries };
                    }
                    FromLink::Event(ExecutorEvent::Launch { run_id, info }) => {
                        if let Some(launched) = state.launch(run_id, info, &say) {
                            let executor = executor.clone();
                            runs.begin(launched.run_id.clone(), async move { executor.run(&launched).await });
                        }
                    }
                    FromLink::Event(ExecutorEvent::Kill { run_id, grace, reason }) => {
                        state.kill(&run_id, grace, reason);
                    }
                    FromLink::Event(ExecutorEvent::Acknowledge { update_id }) => state.acknowledged(update_id),
                    FromLink::Event(ExecutorEvent::Refuse { code, message }) => match code {
                        ExecutorRefuseCode::Ended => return Ok(()),
                        ExecutorRefuseCode::Invalid => return Err(ExecutorError::Refused { message }),
                        ExecutorRefuseCode::Replaced => return Err(ExecutorError::Replaced),
                        ExecutorRefuseCode::TooSlow | ExecutorRefuseCode::ShuttingDown => {
                            link = None;
                            again = tries.after(&self, message)?;
                        }
                    },
                    FromLink::Refused(message) => return Err(ExecutorError::Refused { message }),
                    FromLink::Lost(why) => {
                        link = None;
                        again = tries.after(&self, why)?;
                    }
                },
                () = sleep_until(again), if link.is_none() => link = Some(self.open(&state)),
            }
        }
        Ok(())
    }

    fn open(&self, state: &State) -> Link {
        Link::open(self.endpoint.clone(), self.token.clone(), state.subscribe())
    }
}

async fn next(link: &mut Option<Link>) -> FromLink {
    match link {
        Some(link) => link.next().await,
        None => pending().await,
    }
}

/// How long the agent has been away, and how often it was looked for.
struct Tries {
    random: Random,
    /// None while subscribed.
    since: Option<Instant>,
    failed: u32,
}

impl Tries {
    /// When to try again after one more failure; an error when the agent has been away for too long.
    fn after(&mut self, runner: &Runner, why: String) -> Result<Instant, ExecutorError> {
        tracing::info!(why, "the agent is away");
        let away = self.since.get_or_insert_with(Instant::now).elapsed();
        if away >= runner.away_max {
            return Err(ExecutorError::Away { socket: runner.socket.clone(), away, why });
        }
        let pause = PAUSE_MIN.saturating_mul(1 << self.failed.min(16)).min(PAUSE_MAX);
        self.failed = self.failed.saturating_add(1);
        let pause = self.random.between(pause / 2, pause);
        Ok(Instant::now() + pause.min(runner.away_max - away))
    }
}

/// What runs tasks, one each. Dropped, all of it is.
#[derive(Default)]
struct Runs {
    set: JoinSet<End>,
    ids: Vec<(task::Id, RunId)>,
}

impl Runs {
    fn begin(&mut self, run_id: RunId, run: impl Future<Output = End> + Send + 'static) {
        let id = self.set.spawn(run).id();
        self.ids.push((id, run_id));
    }

    /// The next that has ended, and how; none while there is none. Safe to be cancelled.
    async fn next(&mut self) -> Option<(RunId, End)> {
        let (id, end) = match self.set.join_next_with_id().await? {
            Ok(ended) => ended,
            Err(error) => (error.id(), End::Failed(panicked(error))),
        };
        let at = self.ids.iter().position(|(of, _)| *of == id).expect("each is named");
        Some((self.ids.swap_remove(at).1, end))
    }
}

fn panicked(error: JoinError) -> String {
    // Nobody aborts a run but who drops all of them.
    let panic = error.into_panic();
    let said = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("its executor panicked: {}", said.unwrap_or("without a word"))
}
