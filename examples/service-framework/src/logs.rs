//! `apportion service logs`: what the replicas of a service wrote, read from their agents.
//!
//! Where each task is `service serve` knows, and says so in its [view](crate::state::AppView); what it wrote its agent has. So nothing passes
//! through the scheduler, and no master need be there.

use std::{collections::BTreeSet, io::Write as _, time::Duration};

use apportion_sdk::{
    FrameworkId, TaskId,
    sandbox::{self, Log, LogPart, LogRequest, Output, Position, SandboxError},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    api::{self, SOCKET},
    keep::Folder,
    run::{DONE, ServiceError},
    scheduler::{Answer, Order},
    serve::Target,
    state::{AppView, Refused, TaskView},
};

/// How often it is looked for new replicas while logs are followed.
const LOOK: Duration = Duration::from_secs(1);

/// Before each look whether an agent that broke off is there again.
const AGAIN: Duration = Duration::from_millis(200);

/// Lines that may wait for a terminal that is slow; whoever writes more waits.
const LINES_MAX: usize = 1024;

/// Whose logs, and how much of them.
#[derive(Debug, Clone, clap::Args)]
pub struct LogsArgs {
    /// The service's name
    pub service: String,
    /// Of this replica alone
    #[arg(long, value_name = "NUMBER")]
    pub replica: Option<u32>,
    /// Standard error instead of standard output
    #[arg(long)]
    pub stderr: bool,
    /// Go on as they grow, with those of replicas that come, and where they were when an agent comes back, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Begin with the last lines of each only, so many
    #[arg(long, value_name = "LINES")]
    pub tail: Option<u64>,
    /// Which framework.
    #[command(flatten)]
    pub target: Target,
}

/// Shows logs. With several tasks each line begins with the id of its task.
pub(crate) async fn logs(args: LogsArgs) -> Result<u8, ServiceError> {
    let folder = Folder::of_services(args.target.folder(), &args.target.name);
    let (sender, mut lines) = mpsc::channel(LINES_MAX);
    let mut reading = JoinSet::new();
    let mut known = BTreeSet::new();
    let service = service(&args).await?;
    // The tasks that there are now: one may be gone when its agent comes back, which is looked for where the task was launched.
    let now = watch::Sender::new(meant(&args, &service));
    let mut tasks = meant(&args, &service);
    if tasks.is_empty() {
        if let Some(replica) = args.replica.filter(|replica| *replica >= service.replicas) {
            let (service, replicas) = (service.name, service.replicas);
            return Err(Refused::NoReplica { service, replica, replicas }.into());
        }
        let why = service.trouble.impossible.or(service.trouble.last_end.map(|end| end.what));
        let why = why.map_or_else(String::new, |why| format!("; {why}"));
        _ = writeln!(
            std::io::stderr().lock(),
            "{}: nothing of it runs that could be read{why}",
            args.service
        );
    }
    let framework_id = folder.framework()?;
    let unknown =
        || ServiceError::NotKnown { service: args.target.name.clone(), folder: folder.path().to_owned() };
    let framework_id = framework_id.ok_or_else(unknown)?;
    let named = args.replica.is_none() && (args.follow || tasks.len() > 1);
    let mut look = tokio::time::interval(LOOK);
    look.reset();
    loop {
        for task in tasks.drain(..).filter(|task| known.insert(task.task_id.clone())) {
            let request = request(&args, &framework_id, &task);
            let (follow, now, sender) = (args.follow, now.subscribe(), sender.clone());
            let reader =
                Reader { agents: Net, request, named, follow, task, now, sender, after: None, pause: AGAIN };
            reading.spawn(reader.read());
        }
        if reading.is_empty() && lines.is_empty() && !args.follow {
            return Ok(DONE);
        }
        tokio::select! {
            biased;
            Some(line) = lines.recv() => {
                // Whoever has closed the pipe has read enough.
                if std::io::stdout().lock().write_all(&line).is_err() {
                    return Ok(DONE);
                }
            }
            Some(read) = reading.join_next() => {
                let outcome = read.unwrap_or(Ok(()));
                outcome?;
            }
            // That nobody serves for a while does not end what is read already.
            _ = look.tick(), if args.follow => {
                tasks = match self::service(&args).await {
                    Ok(service) => meant(&args, &service),
                    Err(ServiceError::Refused(Refused::Unknown { .. })) => Vec::new(),
                    Err(_) => continue,
                };
                now.send_replace(tasks.clone());
            }
        }
    }
}

/// The service, as it is now.
async fn service(args: &LogsArgs) -> Result<AppView, ServiceError> {
    let answer = api::order(&args.target.folder().join(SOCKET), &Order::Show).await?;
    let services = if let Answer::Services(services) = answer { services } else { Vec::new() };
    let unknown = || Refused::Unknown { service: args.service.clone() };
    Ok(services.into_iter().find(|service| service.name == args.service).ok_or_else(unknown)?)
}

/// Those of its tasks that are meant.
fn meant(args: &LogsArgs, service: &AppView) -> Vec<TaskView> {
    let meant = |task: &&TaskView| args.replica.is_none_or(|replica| replica == task.replica);
    service.tasks.iter().filter(meant).cloned().collect()
}

fn request(args: &LogsArgs, framework_id: &FrameworkId, task: &TaskView) -> LogRequest {
    let output = if args.stderr { Output::Stderr } else { Output::Stdout };
    let request =
        LogRequest::new(framework_id.clone(), task.task_id.clone()).only(output).follow(args.follow);
    args.tail.into_iter().fold(request, LogRequest::tail)
}

/// Where logs are read.
trait Agents: Send + Sync {
    /// A log that is open.
    type Parts: Parts;

    /// Opens a log at the agent at an address.
    fn log(
        &self,
        address: &str,
        request: LogRequest,
    ) -> impl Future<Output = Result<Self::Parts, SandboxError>> + Send;
}

/// What is read of a log, part by part; none at its end.
trait Parts: Send {
    /// The next part.
    fn part(&mut self) -> impl Future<Output = Result<Option<LogPart>, SandboxError>> + Send;
}

/// The agents of the cluster.
struct Net;

impl Agents for Net {
    type Parts = Log;

    async fn log(&self, address: &str, request: LogRequest) -> Result<Log, SandboxError> {
        sandbox::log(address, request).await
    }
}

impl Parts for Log {
    async fn part(&mut self) -> Result<Option<LogPart>, SandboxError> {
        Log::part(self).await
    }
}

/// Reads the log of one task.
struct Reader<A> {
    agents: A,
    task: TaskView,
    request: LogRequest,
    /// Whether each line says whose it is.
    named: bool,
    /// Whether it goes on when its agent comes back.
    follow: bool,
    /// The tasks that there are.
    now: watch::Receiver<Vec<TaskView>>,
    sender: mpsc::Sender<Vec<u8>>,
    /// Where it was read to.
    after: Option<Position>,
    /// Before it looks again for an agent that broke off.
    pause: Duration,
}

impl<A: Agents> Reader<A> {
    async fn read(mut self) -> Result<(), SandboxError> {
        let mut lines = Lines::new(&self.task.task_id, self.named);
        let mut said = false;
        while let Err(error) = self.read_on(&mut lines, &mut said).await {
            // An agent that ends leaves its tasks to the next one.
            if !self.follow {
                return Err(error);
            }
            if !said {
                said = true;
                self.say(&format!("{error}; it goes on when the agent is there again"));
            }
            tokio::time::sleep(self.pause).await;
            let mut there = self.now.borrow_and_update().clone().into_iter();
            match there.find(|task| task.task_id == self.task.task_id) {
                Some(task) => self.task = task,
                None => {
                    self.say("it is not there any more; what it wrote at last was not read");
                    break;
                }
            }
        }
        if let Some(line) = lines.rest() {
            _ = self.sender.send(line).await;
        }
        Ok(())
    }

    /// Reads from where it was to its end, or until that breaks off.
    async fn read_on(&mut self, lines: &mut Lines, said: &mut bool) -> Result<(), SandboxError> {
        let request = self.after.iter().cloned().fold(self.request.clone(), LogRequest::after);
        let mut log = self.agents.log(&self.task.agent, request).await?;
        while let Some(part) = log.part().await? {
            *said = false;
            if part.missed {
                self.say("something may be missing here: it was deleted before it was read");
            }
            for line in lines.of(&part.data) {
                // Nobody listens any more when the program is on its way out.
                if self.sender.send(line).await.is_err() {
                    return Ok(());
                }
            }
            self.after = Some(part.position);
        }
        Ok(())
    }

    /// Says something beside the log, on standard error.
    fn say(&self, what: &str) {
        _ = writeln!(std::io::stderr().lock(), "{}: {what}", self.task.task_id);
    }
}

/// Cuts what a task wrote into lines, so that those of several tasks do not run into each other.
struct Lines {
    /// What a line begins with.
    name: Vec<u8>,
    begun: Vec<u8>,
}

/// A line that is longer is cut.
const LINE_BYTES_MAX: usize = 64 << 10;

impl Lines {
    fn new(task_id: &TaskId, named: bool) -> Self {
        let name = if named { format!("{task_id}: ").into_bytes() } else { Vec::new() };
        Self { name, begun: Vec::new() }
    }

    /// The lines that end in this.
    fn of(&mut self, mut data: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        while !data.is_empty() {
            let end = data.iter().position(|byte| *byte == b'\n').map_or(data.len(), |at| at + 1);
            let (piece, more) = data.split_at(end.min(LINE_BYTES_MAX));
            self.begun.extend_from_slice(piece);
            data = more;
            if piece.ends_with(b"\n") || self.begun.len() >= LINE_BYTES_MAX {
                lines.extend(self.rest());
            }
        }
        lines
    }

    /// The line that has begun, if any, as it is at the end of a log.
    fn rest(&mut self) -> Option<Vec<u8>> {
        if self.begun.is_empty() {
            return None;
        }
        let mut line = self.name.clone();
        line.append(&mut self.begun);
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
    };

    use super::*;

    fn text(lines: impl IntoIterator<Item = Vec<u8>>) -> Vec<String> {
        lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn lines_of_several_tasks_are_whole_and_named() {
        let mut lines = Lines::new(&TaskId::new("web.0.1").unwrap(), true);
        assert_eq!(text(lines.of(b"one\ntw")), ["web.0.1: one\n"]);
        assert_eq!(text(lines.of(b"o\n\nthree")), ["web.0.1: two\n", "web.0.1: \n"]);
        assert_eq!((text(lines.rest()), lines.rest()), (vec!["web.0.1: three\n".to_owned()], None));
        let mut alone = Lines::new(&TaskId::new("web.0.1").unwrap(), false);
        assert_eq!(text(alone.of(b"as it is\n")), ["as it is\n"]);
        let long = alone.of(&vec![b'x'; LINE_BYTES_MAX + 10]);
        assert_eq!((long.len(), long[0].len()), (1, LINE_BYTES_MAX + 1));
    }

    /// Agents of which each log is as it is told, and what was asked of them.
    #[derive(Default, Clone)]
    struct Told {
        logs: Arc<Mutex<VecDeque<Opened>>>,
        asked: Arc<Mutex<Vec<(String, LogRequest)>>>,
    }

    /// A log, or why it does not open.
    type Opened = Result<VecDeque<Result<LogPart, SandboxError>>, SandboxError>;

    impl Agents for Told {
        type Parts = VecDeque<Result<LogPart, SandboxError>>;

        async fn log(&self, address: &str, request: LogRequest) -> Opened {
            self.asked.lock().unwrap().push((address.to_owned(), request));
            self.logs.lock().unwrap().pop_front().unwrap_or_else(|| Err(broken()))
        }
    }

    impl Parts for VecDeque<Result<LogPart, SandboxError>> {
        async fn part(&mut self) -> Result<Option<LogPart>, SandboxError> {
            self.pop_front().transpose()
        }
    }

    fn broken() -> SandboxError {
        SandboxError::Connect { address: "a:1".to_owned(), why: "refused".to_owned() }
    }

    fn part(text: &str, position: &str) -> Result<LogPart, SandboxError> {
        let position = Position(position.to_owned());
        Ok(LogPart { output: Output::Stdout, data: text.into(), position, missed: false })
    }

    fn task(agent: &str) -> TaskView {
        TaskView {
            task_id: TaskId::new("web.0.1").unwrap(),
            replica: 0,
            revision: 1,
            hostname: "a".to_owned(),
            agent: agent.to_owned(),
            addresses: Vec::new(),
            ready: true,
            ending: false,
            draining: false,
            endpoint: None,
        }
    }

    fn reader(agents: Told, follow: bool, now: &watch::Sender<Vec<TaskView>>) -> (Reader<Told>, Written) {
        let request = LogRequest::new(FrameworkId::new("f1").unwrap(), TaskId::new("web.0.1").unwrap());
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let (now, task) = (now.subscribe(), task("a:1"));
        let pause = Duration::ZERO;
        (Reader { agents, task, request, named: false, follow, now, sender, after: None, pause }, lines)
    }

    type Written = mpsc::Receiver<Vec<u8>>;

    async fn all(mut lines: Written) -> String {
        let mut all = Vec::new();
        while let Some(line) = lines.recv().await {
            all.extend(line);
        }
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn one_that_is_followed_goes_on_where_it_was_when_its_agent_is_there_again() {
        let agents = Told::default();
        agents.logs.lock().unwrap().extend([
            Ok([part("one\ntw", "p1"), Err(broken())].into()),
            Err(broken()),
            Ok([part("o\nthree\n", "p2")].into()),
        ]);
        let now = watch::Sender::new(vec![task("a:2")]);
        let (reader, lines) = reader(agents.clone(), true, &now);
        let first = reader.request.clone();
        reader.read().await.unwrap();
        assert_eq!(all(lines).await, "one\ntwo\nthree\n");
        let after = first.clone().after(Position("p1".to_owned()));
        let at = |agent: &str, request: &LogRequest| (agent.to_owned(), request.clone());
        let asked = agents.asked.lock().unwrap();
        assert_eq!(*asked, [at("a:1", &first), at("a:2", &after), at("a:2", &after)]);
    }

    #[tokio::test]
    async fn one_that_is_followed_ends_when_the_task_is_gone() {
        let agents = Told::default();
        agents.logs.lock().unwrap().push_back(Ok([part("one\ntw", "p1"), Err(broken())].into()));
        let (reader, lines) = reader(agents, true, &watch::Sender::new(Vec::new()));
        reader.read().await.unwrap();
        assert_eq!(all(lines).await, "one\ntw\n");
    }

    #[tokio::test]
    async fn one_that_is_not_followed_says_what_broke_off() {
        let (reader, _lines) = reader(Told::default(), false, &watch::Sender::new(vec![task("a:1")]));
        assert_eq!(reader.read().await.unwrap_err(), broken());
    }
}
