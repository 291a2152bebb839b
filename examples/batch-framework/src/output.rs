//! The outputs of tasks: the last line of each for the summary, and all of it, with files that they left, when the job asks for that.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use apportion_sdk::sandbox::{self, LogPart, LogRequest, Output, SandboxError};
use glob::Pattern;
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncWriteExt,
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout},
};

use crate::{
    collect::{CollectError, collect},
    job::Job,
    state::{Attempt, End, Outcome, doubled},
};

/// Outputs fetched at once: enough to hide the way to the agents, too few to be felt there.
const FETCHES_MAX: usize = 16;

/// Of these, from one agent: one that does not answer holds up its own, and leaves room for others.
const FETCHES_PER_AGENT: usize = 4;

/// How long an agent may be silent while it is asked for an output.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// How long an agent that cannot be reached is asked again, because it may be about to start again, and how long apart.
const AWAY_MAX: Duration = Duration::from_secs(300);
/// The same when its end is only to be shown.
const AWAY_MAX_FOR_END: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Bytes of the end of a stream in which its last line is looked for.
pub const TAIL_BYTES: usize = 4096;

/// Characters of a last line that are kept.
pub const LINE_CHARS_MAX: usize = 200;

/// What was fetched of the output of one task.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fetched {
    /// The last line of its standard output; of a task that failed without any, of its standard error.
    pub tail: Option<String>,
    /// The file that holds its whole standard output.
    pub file: Option<PathBuf>,
    /// How many files that it left were copied.
    #[serde(default)]
    pub collected: u64,
    /// Why it could not be fetched, or saved.
    pub error: Option<String>,
}

/// Fetches the outputs of a job's tasks from their agents, a few at a time.
#[derive(Debug, Clone)]
pub struct Fetcher {
    folder: Option<PathBuf>,
    permits: Arc<Permits>,
}

/// Who may fetch now.
#[derive(Debug)]
struct Permits {
    all: Semaphore,
    /// Of each agent from which something is fetched, by its address.
    agents: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

impl Permits {
    fn new() -> Self {
        Self { all: Semaphore::new(FETCHES_MAX), agents: Mutex::default() }
    }

    /// First that of the agent: whoever waits for it takes nothing from others.
    async fn acquire(&self, address: &str) -> (OwnedSemaphorePermit, SemaphorePermit<'_>) {
        let of_agent = self.of_agent(address).acquire_owned().await.expect("the semaphore is never closed");
        (of_agent, self.all.acquire().await.expect("the semaphore is never closed"))
    }

    fn of_agent(&self, address: &str) -> Arc<Semaphore> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = agents.get(address) {
            return Arc::clone(known);
        }
        // Agents come and go; those that nobody asks are forgotten.
        agents.retain(|_, permits| Arc::strong_count(permits) > 1);
        let permits = Arc::new(Semaphore::new(FETCHES_PER_AGENT));
        agents.insert(address.to_owned(), Arc::clone(&permits));
        permits
    }
}

/// Why an output was not fetched, or not saved.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("the agent at {address} was silent for {SILENCE_MAX:?}")]
    Silent { address: String },
    #[error("cannot write {}: {source}", file.display())]
    Write { file: PathBuf, source: io::Error },
    #[error(
        "the beginning of its output is gone: it printed more than the agent keeps (--log-max-bytes, --log-files-max); write to a file \
         and `collect` it"
    )]
    Cut,
    #[error(transparent)]
    Collect(#[from] CollectError),
}

impl FetchError {
    /// Whether the agent was not there, and may be soon.
    fn is_away(&self) -> bool {
        match self {
            FetchError::Silent { .. } | FetchError::Collect(CollectError::Silent { .. }) => true,
            FetchError::Sandbox(error) | FetchError::Collect(CollectError::Sandbox(error)) => {
                !matches!(error, SandboxError::Address { .. } | SandboxError::NotFound { .. })
            }
            FetchError::Write { .. } | FetchError::Cut | FetchError::Collect(_) => false,
        }
    }
}

/// Whether a task that has ended so may have left something: only one that ran can.
pub fn may_be_fetched(end: &End) -> bool {
    let container = end.status.as_ref().and_then(|status| status.container.as_ref());
    end.last.is_some() && (end.outcome == Outcome::Succeeded || container.is_some())
}

impl Fetcher {
    /// Saves whole outputs in this folder; without one, only looks at their ends.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, permits: Arc::new(Permits::new()) }
    }

    /// The same for outputs that go to another folder, or to none; together they fetch no more at once.
    pub fn into_folder(&self, folder: Option<PathBuf>) -> Self {
        Self { folder, permits: Arc::clone(&self.permits) }
    }

    /// Fetches the output of the last attempt of a task of a job, which has ended so. Saves it as `<name>.stdout`, and the files that it left
    /// and that match into the folder `<name>`, if it has succeeded. Waits for an agent that is away for a few minutes.
    pub fn fetch(
        &self,
        job: &Job,
        position: usize,
        (attempt, outcome): (Attempt, Outcome),
    ) -> impl Future<Output = Fetched> + Send + use<> {
        let (this, begun) = (self.clone(), Instant::now());
        let away_max = if self.folder.is_some() { AWAY_MAX } else { AWAY_MAX_FOR_END };
        let (name, patterns) = (job.task_name(position), job.stage_of(position).collect.clone());
        async move {
            let mut asked = 0;
            loop {
                let mut fetched = Fetched::default();
                let Err(error) = this.try_fetch(&attempt, &name, outcome, &patterns, &mut fetched).await
                else {
                    return fetched;
                };
                asked += 1;
                match pause_after(asked, begun.elapsed(), away_max).filter(|_| error.is_away()) {
                    Some(pause) => sleep(pause).await,
                    None => return Fetched { error: Some(error.to_string()), ..fetched },
                }
            }
        }
    }

    async fn try_fetch(
        &self,
        attempt: &Attempt,
        name: &str,
        outcome: Outcome,
        patterns: &[Pattern],
        fetched: &mut Fetched,
    ) -> Result<(), FetchError> {
        let _permits = self.permits.acquire(&attempt.host.address).await;
        let (address, framework_id) = (&attempt.host.address, &attempt.host.framework_id);
        let request = |output| LogRequest::new(framework_id.clone(), attempt.id.clone()).only(output);
        let end = match &self.folder {
            None => end_of(address, request(Output::Stdout)).await,
            Some(folder) => {
                let refuse = |source| FetchError::Write { file: folder.clone(), source };
                tokio::fs::create_dir_all(folder).await.map_err(refuse)?;
                let file = folder.join(format!("{name}.stdout"));
                let part = part_of(&file, attempt);
                let end = save(address, request(Output::Stdout), (&part, &file)).await;
                fetched.file = end.is_ok().then_some(file);
                end
            }
        };
        if end.as_ref().is_err_and(FetchError::is_away) {
            return end.map(drop);
        }
        // A task whose output cannot be saved may still have left its files.
        let collected = match (&self.folder, outcome, patterns) {
            (Some(folder), Outcome::Succeeded, [_, ..]) => {
                collect(attempt, patterns, &folder.join(name)).await
            }
            _ => Ok(0),
        };
        fetched.tail = last_line(&end?);
        fetched.collected = collected?;
        // A task that failed in silence most often said why on the other stream. Without it nothing is lost.
        if outcome != Outcome::Succeeded && fetched.tail.is_none() {
            let end = end_of(address, request(Output::Stderr)).await;
            fetched.tail = end.ok().and_then(|end| last_line(&end)).map(|line| format!("stderr: {line}"));
        }
        Ok(())
    }
}

/// How long to wait before an agent is asked again that was away so often and for so long; none when that was long enough.
fn pause_after(asked: u32, away: Duration, away_max: Duration) -> Option<Duration> {
    let pause = doubled(PAUSE_MIN, asked, PAUSE_MAX);
    (away + pause <= away_max).then_some(pause)
}

/// The last bytes of a log.
async fn end_of(address: &str, request: LogRequest) -> Result<Vec<u8>, FetchError> {
    let silent = |_| FetchError::Silent { address: address.to_owned() };
    let mut log = timeout(SILENCE_MAX, sandbox::log(address, request.tail_bytes(TAIL_BYTES as u64)))
        .await
        .map_err(silent)??;
    let mut end = Vec::new();
    while let Some(part) = timeout(SILENCE_MAX, log.part()).await.map_err(silent)?? {
        keep_end(&mut end, &part.data);
    }
    Ok(end)
}

fn keep_end(end: &mut Vec<u8>, data: &[u8]) {
    end.extend_from_slice(data);
    end.drain(..end.len().saturating_sub(TAIL_BYTES));
}

/// Where a file of an attempt is written until it is whole: beside its place, and where no other attempt writes.
pub(crate) fn part_of(file: &Path, attempt: &Attempt) -> PathBuf {
    let mut hasher = crc32fast::Hasher::new();
    let name = file.file_name().unwrap_or_default();
    for text in [attempt.host.framework_id.as_str(), attempt.id.as_str()] {
        hasher.update(text.as_bytes());
        // No id has it within.
        hasher.update(b"/");
    }
    hasher.update(name.as_encoded_bytes());
    // Of its own length: with a file's own name it could be longer than names may be.
    file.with_file_name(format!(".{:08x}.part", hasher.finalize()))
}

/// Copies a log, and gives its last bytes. Written beside its place and moved there when it is whole, so that
/// whoever finds it finds all of it.
async fn save(
    address: &str,
    request: LogRequest,
    (part, file): (&Path, &Path),
) -> Result<Vec<u8>, FetchError> {
    let refuse = |source| FetchError::Write { file: file.to_owned(), source };
    let silent = |_| FetchError::Silent { address: address.to_owned() };
    let mut source = timeout(SILENCE_MAX, sandbox::log(address, request)).await.map_err(silent)??;
    let mut target = tokio::fs::File::create(part).await.map_err(refuse)?;
    let mut end = Vec::new();
    while let Some(part) = timeout(SILENCE_MAX, source.part()).await.map_err(silent)?? {
        let data = whole(part)?;
        target.write_all(&data).await.map_err(refuse)?;
        keep_end(&mut end, &data);
    }
    target.flush().await.map_err(refuse)?;
    tokio::fs::rename(part, file).await.map_err(refuse)?;
    Ok(end)
}

/// What a part adds to a log of which nothing may be missing.
fn whole(part: LogPart) -> Result<Vec<u8>, FetchError> {
    if part.missed { Err(FetchError::Cut) } else { Ok(part.data) }
}

/// The last line that is not blank, without what would disturb a terminal, and shortened.
pub fn last_line(bytes: &[u8]) -> Option<String> {
    let tail = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
    let text = String::from_utf8_lossy(tail);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    // Only what is left of a longer line may be there; that is said by the dots as well.
    let mut printable = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = printable.by_ref().take(LINE_CHARS_MAX).collect();
    if printable.next().is_some() {
        short.push('…');
    }
    Some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_last_that_says_something() {
        assert_eq!(last_line(b"one\ntwo\n\n  \n").as_deref(), Some("two"));
        assert_eq!(last_line(b"no end of line").as_deref(), Some("no end of line"));
        assert_eq!(last_line(b""), None);
        assert_eq!(last_line(b"\n \n"), None);
    }

    #[test]
    fn what_a_task_prints_cannot_take_over_a_terminal() {
        assert_eq!(last_line(b"a\x1b[2Jb\tc\xff").as_deref(), Some("a [2Jb c\u{fffd}"));
    }

    #[test]
    fn an_agent_that_is_away_is_asked_again_for_minutes() {
        for away_max in [AWAY_MAX, AWAY_MAX_FOR_END] {
            let (mut elapsed, mut asked) = (Duration::ZERO, 0);
            while let Some(pause) = pause_after(asked + 1, elapsed, away_max) {
                assert!((PAUSE_MIN..=PAUSE_MAX).contains(&pause));
                (elapsed, asked) = (elapsed + pause, asked + 1);
            }
            assert!(elapsed <= away_max && elapsed + PAUSE_MAX > away_max, "{elapsed:?}");
            assert!(asked < 30, "ever more seldom: {asked}");
        }
        let (address, why) = ("a:1".to_owned(), "refused".to_owned());
        let away = SandboxError::Connect { address: address.clone(), why: why.clone() };
        assert!(
            FetchError::from(away).is_away() && FetchError::Silent { address: address.clone() }.is_away()
        );
        let wrong = SandboxError::Address { address, why };
        assert!(!FetchError::from(CollectError::from(wrong)).is_away(), "waiting does not help");
    }

    #[tokio::test]
    async fn an_agent_that_does_not_answer_leaves_room_for_others() {
        let permits = Permits::new();
        let at_once = async |address: &str| {
            tokio::select! {
                biased;
                held = permits.acquire(address) => Some(held),
                () = std::future::ready(()) => None,
            }
        };
        // All of them wait for it at the same time.
        let mut waiting: Vec<_> = (0..FETCHES_MAX * 2).map(|_| Box::pin(permits.acquire("dead:1"))).collect();
        let mut held = Vec::new();
        for wait in &mut waiting {
            tokio::select! {
                biased;
                permits = wait => held.push(permits),
                () = std::future::ready(()) => {}
            }
        }
        assert_eq!(held.len(), FETCHES_PER_AGENT);
        let others: Vec<_> = (0..FETCHES_MAX).map(|number| format!("agent-{number}:1")).collect();
        let mut there = Vec::new();
        for other in &others {
            there.extend(at_once(other).await);
        }
        assert_eq!(there.len(), FETCHES_MAX - FETCHES_PER_AGENT, "all that there are together");
        drop((waiting, held, there));
        assert!(at_once("new:1").await.is_some());
        assert_eq!(permits.agents.lock().unwrap().len(), 1, "nobody asks the others any more");
    }

    fn attempt(framework: &str, id: &str) -> Attempt {
        let host = crate::state::Host {
            agent_id: apportion_sdk::AgentId::new("a").unwrap(),
            hostname: "h".into(),
            address: "h:1".into(),
            framework_id: apportion_sdk::FrameworkId::new(framework).unwrap(),
        };
        let mut state = crate::state::JobState::of(&Job::builder(id).command(["x"]).build().unwrap());
        state.launched(0, host, apportion_sdk::Time::ZERO);
        state.attempts().next().unwrap().clone()
    }

    #[test]
    fn no_two_attempts_write_to_one_place_before_it_is_whole() {
        let long = format!("out/{}", "x".repeat(255));
        let files = ["out/j-0001.stdout", "out/j-0002.stdout", long.as_str()];
        let attempts = [attempt("f", "1.j"), attempt("f", "2.j"), attempt("g", "1.j")];
        let places = files.iter().flat_map(|file| attempts.iter().map(|of| part_of(file.as_ref(), of)));
        let places: std::collections::BTreeSet<_> = places.collect();
        assert_eq!(places.len(), files.len() * attempts.len());
        let is_beside =
            |place: &PathBuf| place.parent() == Some("out".as_ref()) && place.as_os_str().len() < 255;
        assert!(places.iter().all(is_beside), "{places:?}");
    }

    #[test]
    fn an_output_of_which_the_beginning_is_gone_is_not_saved_as_if_whole() {
        let part = |missed| LogPart {
            output: Output::Stdout,
            data: b"text".to_vec(),
            position: sandbox::Position(String::new()),
            missed,
        };
        assert_eq!(whole(part(false)).unwrap(), b"text");
        let error = whole(part(true)).unwrap_err();
        assert!(!error.is_away() && error.to_string().contains("`collect` it"), "{error}");
    }

    #[test]
    fn long_lines_are_cut() {
        let line = last_line(&vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(line.chars().count(), LINE_CHARS_MAX + 1);
        assert!(line.ends_with('…'));
    }
}
