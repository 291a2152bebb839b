//! `apportion service logs`: what the replicas of a service wrote, read from their agents.
//!
//! Where each task is `service serve` knows, and says so in its [view](crate::state::AppView); what it wrote its agent has. So nothing passes
//! through the scheduler, and no master need be there.

use std::{collections::BTreeSet, io::Write as _, time::Duration};

use apportion_sdk::{
    FrameworkId, TaskId,
    sandbox::{self, LogRequest, Output, SandboxError},
};
use tokio::{sync::mpsc, task::JoinSet};

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
    /// Go on as they grow, with those of replicas that come, until Ctrl-C
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
            let reader =
                Reader { request: request(&args, &framework_id, &task), named, task, sender: sender.clone() };
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
                // The agent of one that is followed may end, and the others go on.
                if !args.follow {
                    outcome?;
                } else if let Err(error) = outcome {
                    _ = writeln!(std::io::stderr().lock(), "{}: {error}", args.service);
                }
            }
            // That nobody serves for a while does not end what is read already.
            _ = look.tick(), if args.follow => {
                tasks = self::service(&args).await.map(|service| meant(&args, &service)).unwrap_or_default();
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

/// Reads the log of one task.
struct Reader {
    task: TaskView,
    request: LogRequest,
    /// Whether each line says whose it is.
    named: bool,
    sender: mpsc::Sender<Vec<u8>>,
}

impl Reader {
    async fn read(self) -> Result<(), SandboxError> {
        let mut log = sandbox::log(&self.task.agent, self.request).await?;
        let mut lines = Lines::new(&self.task.task_id, self.named);
        while let Some(part) = log.part().await? {
            for line in lines.of(&part.data) {
                // Nobody listens any more when the program is on its way out.
                if self.sender.send(line).await.is_err() {
                    return Ok(());
                }
            }
        }
        if let Some(line) = lines.rest() {
            _ = self.sender.send(line).await;
        }
        Ok(())
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
}
