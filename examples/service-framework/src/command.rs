//! The commands that give orders to `apportion service serve`, and how what comes of them is shown.

mod explain;
mod table;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::Serialize;

use crate::{
    api::{self, ApiError, SOCKET},
    logs::{self, LogsArgs},
    run::{DONE, Format, ServiceError},
    scheduler::{Answer, Order},
    serve::Target,
    spec::Spec,
    state::{self, AppView, Applied, Change, Phase, TaskView},
};

/// Letters of a note in a list.
const NOTE_MAX: usize = 100;

/// Which framework, and how to show what it says.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Which framework.
    #[command(flatten)]
    pub target: Target,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// An order to `apportion service serve`.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Have services be as these files describe them; others stay as they are
    Apply {
        /// Descriptions of services (TOML, or JSON in files called .json)
        #[arg(value_name = "SPEC", required = true)]
        specs: Vec<PathBuf>,
        /// Only say what would change
        #[arg(long)]
        dry_run: bool,
        /// Try a revision that was given up once more
        #[arg(long)]
        again: bool,
        /// Which framework.
        #[command(flatten)]
        common: Common,
    },
    /// List services
    Ls {
        /// Which framework.
        #[command(flatten)]
        common: Common,
    },
    /// Show a service and its tasks
    Show {
        /// Its name
        service: String,
        /// Which framework.
        #[command(flatten)]
        common: Common,
    },
    /// Keep another number of replicas, until the number in the description is changed
    Scale {
        /// Its name
        service: String,
        /// How many
        replicas: u32,
        /// Which framework.
        #[command(flatten)]
        common: Common,
    },
    /// Say why a service has the replicas that it has: what is measured, what follows from it, and what is waited for
    Explain {
        /// Its name
        service: String,
        /// Draw what was measured and decided since the framework began
        #[arg(long, value_name = "FILE.svg")]
        plot: Option<PathBuf>,
        /// Which framework.
        #[command(flatten)]
        common: Common,
    },
    /// Replace all replicas by others of the same kind, a few at a time
    Restart {
        /// Its name
        service: String,
        /// Which framework.
        #[command(flatten)]
        common: Common,
    },
    /// Go back to the last revision that was complete
    Rollback {
        /// Its name
        service: String,
        /// To this revision instead
        #[arg(long, value_name = "REVISION")]
        to: Option<u64>,
        /// Which framework.
        #[command(flatten)]
        common: Common,
    },
    /// Have the revision of the canaries take the place of the old one
    Promote {
        /// Its name
        service: String,
        /// Which framework.
        #[command(flatten)]
        common: Common,
    },
    /// Show what a service's replicas write
    Logs(LogsArgs),
    /// End services for good
    Rm {
        /// Their names
        #[arg(required = true)]
        services: Vec<String>,
        /// Which framework.
        #[command(flatten)]
        common: Common,
    },
}

/// Gives an order and shows what comes of it. Gives the exit code.
pub async fn command(command: Command) -> Result<u8, ServiceError> {
    let (mut only, mut drawn) = (None, None);
    let mut described = Vec::new();
    let (common, order) = match command {
        Command::Apply { specs, dry_run, again, common } => {
            for file in specs {
                described.push((Arc::new(Spec::load(&file)?), file));
            }
            let specs: Vec<_> = described.iter().map(|(spec, _)| Arc::clone(spec)).collect();
            if let Err(refused) = state::agree(&specs) {
                let why = refused.to_string();
                return Err(meant(&described, &why)
                    .map_or(refused.into(), |file| ServiceError::Spec(Spec::refused(file, &why))));
            }
            (common, Order::Apply { specs, again, dry_run })
        }
        Command::Ls { common } => (common, Order::Show),
        Command::Show { service, common } => {
            only = Some(service);
            (common, Order::Show)
        }
        Command::Scale { service, replicas, common } => {
            (common, Order::Scale { service: Some(service), replicas })
        }
        Command::Explain { service, plot, common } => {
            drawn = plot;
            (common, Order::Explain { service })
        }
        Command::Restart { service, common } => (common, Order::Restart { service }),
        Command::Rollback { service, to, common } => (common, Order::RollBack { service, to }),
        Command::Promote { service, common } => (common, Order::Promote { service }),
        Command::Logs(args) => return logs::logs(args).await,
        Command::Rm { services, common } => (common, Order::Remove { services }),
    };
    let answer = match api::order(&common.target.folder().join(SOCKET), &order).await {
        Err(ApiError::Refused(why)) => {
            return Err(match meant(&described, &why) {
                Some(file) => ServiceError::NotApplied(Spec::refused(file, &why)),
                None => ApiError::Refused(why).into(),
            });
        }
        answered => answered?,
    };
    let text = match (answer, only) {
        (Answer::Services(services), Some(name)) => {
            let service = services.into_iter().find(|service| service.name == name);
            let service = service.ok_or(state::Refused::Unknown { service: name })?;
            shown(common.output, &service, || details(&service))
        }
        (Answer::Services(services), None) => shown(common.output, &services, || list(&services)),
        (Answer::Explained(explained), _) => {
            if let Some(file) = drawn {
                let drawn = std::fs::write(&file, explain::picture(&explained));
                drawn.map_err(|source| ServiceError::Plot { file, source })?;
            }
            shown(common.output, &explained, || explain::text(&explained))
        }
        (Answer::Applied(applied), _) => shown(common.output, &applied, || changes(&applied)),
        (Answer::Revision(revision), _) => {
            shown(common.output, &Answer::Revision(revision), || format!("revision {revision} is on its way"))
        }
        (Answer::Done, _) => shown(common.output, &Answer::Done, || "it is on its way".to_owned()),
    };
    answered(std::io::stdout().lock(), &text)
}

/// Writes an answer; that it could not be written must not pass for an empty one.
fn answered(mut out: impl std::io::Write, text: &str) -> Result<u8, ServiceError> {
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        // Whoever has closed the pipe has read enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(ServiceError::Answered(error)),
        _ => Ok(DONE),
    }
}

/// The file of the description that a refusal is about.
fn meant<'a>(described: &'a [(Arc<Spec>, PathBuf)], refusal: &str) -> Option<&'a PathBuf> {
    described.iter().find(|(spec, _)| spec.is_meant_by(refusal)).map(|(_, file)| file)
}

fn shown(output: Format, value: &impl Serialize, text: impl FnOnce() -> String) -> String {
    match output {
        Format::Text => text(),
        Format::Json => serde_json::to_string_pretty(value).expect("answers have texts as keys"),
    }
}

/// What was changed, or would be: a line for each service.
fn changes(applied: &BTreeMap<String, Applied>) -> String {
    let line = |(name, applied): (&String, &Applied)| {
        let Applied { change, replicas, replicas_before } = *applied;
        let scaled = match replicas == replicas_before {
            true => String::new(),
            false => format!(", {replicas} replicas instead of {replicas_before}"),
        };
        match change {
            Change::New => format!("{name}: new, {replicas} replicas"),
            Change::Update(revision) => format!("{name}: revision {revision} replaces what is there{scaled}"),
            Change::Rejected(revision) => {
                format!(
                    "{name}: is revision {revision}, which was given up; --again tries it once more{scaled}"
                )
            }
            Change::Settings => format!("{name}: replicas stay{scaled}"),
            Change::None => format!("{name}: nothing new"),
        }
    };
    applied.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn phase(app: &AppView) -> &'static str {
    match app.phase {
        _ if app.removed => "being removed",
        _ if !app.waits_for.is_empty() => "waits",
        Phase::Steady => "steady",
        Phase::Canary => "tries canaries",
        Phase::Rolling => "on its way",
    }
}

fn list(services: &[AppView]) -> String {
    let row = |app: &AppView| {
        let ready = format!("{}/{}", app.ready, app.replicas);
        [app.name.clone(), ready, app.revision.to_string(), phase(app).to_owned(), note(app)]
    };
    table::text(["SERVICE", "READY", "REVISION", "STATE", "NOTE"], services.iter().map(row))
}

/// What holds a service back, in short.
fn note(app: &AppView) -> String {
    let trouble = &app.trouble;
    let unserved = app.unserved.as_ref().map(|why| format!("not served: {why}"));
    let impossible = trouble.impossible.as_ref().map(|why| format!("fits nowhere: {why}"));
    let end = || trouble.last_end.as_ref().filter(|_| app.ready < app.replicas).map(|end| end.what.clone());
    let given_up = || Some(format!("{} given up: {}", app.rejected?, trouble.given_up.as_ref()?));
    let note = unserved.or(impossible).or_else(end).or_else(given_up).unwrap_or_default();
    match note.char_indices().nth(NOTE_MAX) {
        Some((at, _)) => format!("{}…", &note[..at]),
        None => note,
    }
}

fn details(app: &AppView) -> String {
    let revisions = |all: &[u64]| all.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let mut lines = vec![
        format!("service    {}", app.name),
        format!("ready      {} of {}", app.ready, app.replicas),
        format!("revision   {}, {}", app.revision, phase(app)),
        format!("complete   {}", revisions(&app.good)),
    ];
    if let Some(listener) = &app.balancer {
        lines.push(format!("clients    {}", listener.address));
    }
    if let Some(why) = &app.unserved {
        lines.push(format!("not served {why}"));
    }
    if let Some(rejected) = app.rejected {
        let why = app.trouble.given_up.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        lines.push(format!("given up   {rejected}{why}"));
    }
    if let Some(why) = &app.trouble.impossible {
        lines.push(format!("fits nowhere: {why}"));
    }
    if let Some(end) = &app.trouble.last_end {
        lines.push(format!("last end   {}", end.what));
    }
    if let Some(decision) = &app.scaling {
        lines.push(format!("scaled     {decision:#}"));
    }
    if !app.waits_for.is_empty() {
        lines.push(format!("comes after {}", app.waits_for.join(", ")));
    }
    let row = |task: &TaskView| {
        let state = match (task.ending, task.ready) {
            (true, _) if task.draining => "draining",
            (true, _) => "ending",
            (false, true) => "ready",
            (false, false) => "not ready",
        };
        let place = if task.addresses.is_empty() { task.hostname.clone() } else { task.addresses.join(", ") };
        let (replica, revision) = (task.replica.to_string(), task.revision.to_string());
        [replica, task.task_id.to_string(), revision, state.to_owned(), place]
    };
    lines.push(table::text(["REPLICA", "TASK", "REVISION", "STATE", "WHERE"], app.tasks.iter().map(row)));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_clients_do_not_reach_is_not_shown_as_if_they_did() {
        let spec = "name = 'web'\ncommand = 'serve'\nports = 1\n[balancer]\naddress = '127.0.0.1:80'\n";
        let spec = Arc::new(Spec::parse(std::path::Path::new("web.toml"), spec).unwrap());
        let mut services = crate::state::Services::default();
        services.apply(vec![spec], false, apportion_sdk::Time::ZERO, &mut Vec::new()).unwrap();
        let mut app = services.view().remove(0);
        assert!(!list(std::slice::from_ref(&app)).contains("not served"));
        app.unserved = Some("cannot listen on 127.0.0.1:80 for web".to_owned());
        let (list, details) = (list(std::slice::from_ref(&app)), details(&app));
        assert!(list.trim_end().ends_with("not served: cannot listen on 127.0.0.1:80 for web"), "{list}");
        assert!(details.contains("\nnot served cannot listen on 127.0.0.1:80 for web\n"), "{details}");
    }

    #[test]
    fn an_answer_that_cannot_be_written_is_a_failure() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = answered(full, "web").unwrap_err();
        assert!(error.to_string().starts_with("cannot write the answer: "), "{error}");
        assert_eq!(answered(Vec::new(), "web").unwrap(), DONE);
    }

    #[tokio::test]
    async fn descriptions_that_contradict_each_other_are_a_mistake_of_whoever_gives_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let file = dir.path().join(format!("{name}.toml"));
            let text = format!(
                "name = '{name}'\ncommand = 'serve'\nports = 1\n[balancer]\naddress = '127.0.0.1:8080'\n"
            );
            std::fs::write(&file, text).unwrap();
            file
        };
        let (web, shop) = (file("web"), file("shop"));
        for (specs, expected) in [
            (vec![web.clone(), web.clone()], "service `web` is described twice"),
            (vec![web, shop], "web.toml:5:11: balancer.address: service `web` is to listen on"),
        ] {
            let target = Target { name: "s".to_owned(), state: Some(dir.path().to_owned()) };
            let common = Common { target, output: Format::Text };
            let apply = Command::Apply { specs, dry_run: false, again: false, common };
            let error = command(apply).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_code(), crate::run::USAGE);
        }
    }

    #[test]
    fn what_changes_is_said_in_a_line_for_each_service() {
        let one = |change, replicas, replicas_before| Applied { change, replicas, replicas_before };
        let applied = BTreeMap::from([
            ("a".to_owned(), one(Change::New, 2, 0)),
            ("b".to_owned(), one(Change::Update(3), 5, 4)),
            ("c".to_owned(), one(Change::None, 1, 1)),
            ("d".to_owned(), one(Change::Rejected(2), 1, 1)),
        ]);
        let expected = "a: new, 2 replicas\nb: revision 3 replaces what is there, 5 replicas instead of 4\nc: nothing new\n\
                        d: is revision 2, which was given up; --again tries it once more";
        assert_eq!(changes(&applied), expected);
    }
}
