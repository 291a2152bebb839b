//! A job that a program describes, without a file: for tests, for simulations, and for whatever makes jobs by itself.

use std::{collections::BTreeMap, time::Duration};

use apportion_sdk::{
    ImageReference, IoLimits, Resources,
    resources::{Name, Value},
};

use super::{
    Elements, Job, JobError, RETRIES_MAX, Stage, check_kill_grace, check_name, check_network, check_timeout,
    check_variable,
    table::{CPUS_MILLI_DEFAULT, MEM_MILLI_DEFAULT},
    template::{Scope, Template},
};
use crate::state::{IfFailed, Policy, Retry, Speculate};

/// Describes a job; made by [`Job::builder`].
///
/// As in a job file, `${item}` and `${index}` may stand in the command and the environment, and `$${` is the `${` of a shell.
#[derive(Debug, Clone)]
#[must_use = "a job is made by `build`"]
pub struct Builder {
    name: String,
    resources: Resources,
    image: Option<String>,
    user: Option<String>,
    network: Option<String>,
    timeout: Option<Duration>,
    kill_grace: Option<Duration>,
    exclusive_cpus: bool,
    pids_max: Option<u64>,
    io: Option<IoLimits>,
    retries: u32,
    speculate: Option<Speculate>,
    gang: bool,
    open: bool,
    elements: Option<Elements>,
    argv: Vec<String>,
    env: BTreeMap<String, String>,
}

impl Builder {
    pub(super) fn new(name: String) -> Self {
        let mut resources = Resources::new();
        resources.insert(Name::Cpus, Value::Scalar(CPUS_MILLI_DEFAULT));
        resources.insert(Name::Mem, Value::Scalar(MEM_MILLI_DEFAULT));
        Self {
            name,
            resources,
            image: None,
            user: None,
            network: None,
            timeout: None,
            kill_grace: None,
            exclusive_cpus: false,
            pids_max: None,
            io: None,
            retries: 0,
            speculate: None,
            gang: false,
            open: false,
            elements: None,
            argv: Vec::new(),
            env: BTreeMap::new(),
        }
    }

    /// The program and its arguments; must be given.
    pub fn command(mut self, argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.argv = argv.into_iter().map(Into::into).collect();
        self
    }

    /// One more variable of each task's environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// What each task sees as its root; the command may then be left out for the image's own.
    pub fn image(mut self, reference: impl Into<String>) -> Self {
        self.image = Some(reference.into());
        self
    }

    /// The network of each task; the host's unless given.
    pub fn network(mut self, name: impl Into<String>) -> Self {
        self.network = Some(name.into());
        self
    }

    /// Who each task runs as: `USER[:GROUP]`.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// What each task asks for; one processor and 128 MiB when not given.
    pub fn resources(mut self, resources: Resources) -> Self {
        self.resources = resources;
        self
    }

    /// So many tasks, whose elements are the numbers from 1.
    pub fn count(mut self, tasks: usize) -> Self {
        self.elements = Some(match i64::try_from(tasks) {
            Ok(0) => Elements::Texts(Vec::new()),
            last => Elements::Numbers { first: 1, last: last.unwrap_or(i64::MAX) },
        });
        self
    }

    /// One task for each of these elements. Without this and without [`count`](Builder::count) it is a single task, or none yet
    /// of an [open](Builder::open) job.
    pub fn list(mut self, elements: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.elements = Some(Elements::Texts(elements.into_iter().map(Into::into).collect()));
        self
    }

    /// More elements may come while it runs ([`Order::Add`](crate::scheduler::Order::Add)), so that it is not done before it is
    /// closed.
    pub fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// How often a task that failed is tried again; never when not given.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// All of its tasks start together, on as many agents as they need, or none of them.
    pub fn gang(mut self) -> Self {
        self.gang = true;
        self
    }

    /// When a task that takes long gets a second copy; never when not given.
    pub fn speculate(mut self, rule: Speculate) -> Self {
        self.speculate = Some(rule);
        self
    }

    /// How long one attempt may run; for ever when not given.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// From TERM to KILL; the agent's default when not given.
    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.kill_grace = Some(grace);
        self
    }

    /// Has the cpus of one attempt, a whole number of them, be cores that nothing else runs on which its agent runs.
    pub fn exclusive_cpus(mut self) -> Self {
        self.exclusive_cpus = true;
        self
    }

    /// How many processes and threads one attempt may have; the agent's default when not given.
    pub fn pids_max(mut self, pids: u64) -> Self {
        self.pids_max = Some(pids);
        self
    }

    /// What one attempt may do with the disk of its agent; as much as that gives when not given.
    pub fn io(mut self, io: IoLimits) -> Self {
        self.io = Some(io);
        self
    }

    /// The job, or what is wrong with the description.
    pub fn build(self) -> Result<Job, JobError> {
        let name = self.name.clone();
        self.checked().map_err(|what| JobError::Refused { job: name.escape_default().to_string(), what })
    }

    fn checked(self) -> Result<Job, String> {
        check_name(&self.name).map_err(|what| format!("name: {what}"))?;
        let none = if self.open { Elements::Texts(Vec::new()) } else { Elements::Single };
        let elements = self.elements.unwrap_or(none);
        elements.check(self.open).map_err(|error| error.to_string())?;
        let image = self.image.as_deref().map(str::parse::<ImageReference>).transpose();
        let image = image.map_err(|error| format!("image: {error}"))?;
        let names_program = match self.argv.first() {
            Some(program) => !program.is_empty(),
            None => image.is_some(),
        };
        if !names_program {
            return Err("command: names no program".to_owned());
        }
        if let Some(name) = &self.network {
            check_network(name).map_err(|what| format!("network: {what}"))?;
        }
        if self.retries > RETRIES_MAX {
            return Err(format!("retries: {} is not from 0 to {RETRIES_MAX}", self.retries));
        }
        if let Some(Err(what)) = self.timeout.map(check_timeout) {
            return Err(format!("timeout: {what}"));
        }
        if let Some(Err(what)) = self.kill_grace.map(check_kill_grace) {
            return Err(format!("kill_grace: {what}"));
        }
        if self.exclusive_cpus {
            self.resources.exclusive_cores().map_err(|what| format!("exclusive_cpus: {what}"))?;
        }
        if self.pids_max == Some(0) {
            return Err("pids_max: 0 is less than 1".to_owned());
        }
        if let Some((field, what)) = self.io.and_then(|io| io.refusal()) {
            return Err(format!("io.{field}: {what}"));
        }
        if self.gang && self.speculate.is_some() {
            return Err("speculate: the tasks of a gang start together, so none has a second copy".to_owned());
        }
        let params = BTreeMap::new();
        let scope = Scope { params: &params, index: true, item: elements != Elements::Single, axes: &[] };
        let template =
            |key: &str, text: &str| Template::parse(text, scope).map_err(|error| format!("{key}: {error}"));
        let variable = |(name, value): (&String, &String)| {
            let key = format!("env.{}", name.escape_default());
            check_variable(name).map_err(|what| format!("{key}: {what}"))?;
            Ok((name.clone(), template(&key, value)?))
        };
        let stage = Stage {
            argv: self.argv.iter().map(|text| template("command", text)).collect::<Result<_, _>>()?,
            env: self.env.iter().map(variable).collect::<Result<_, String>>()?,
            name: String::new(),
            after: Vec::new(),
            if_failed: IfFailed::default(),
            gang: self.gang,
            policy: Policy {
                retry: Retry::times(self.retries),
                timeout: self.timeout,
                speculate: self.speculate,
            },
            resources: self.resources,
            image,
            user: self.user,
            network: self.network,
            kill_grace: self.kill_grace,
            exclusive_cpus: self.exclusive_cpus,
            pids_max: self.pids_max,
            io: self.io,
            collect: Vec::new(),
            inputs: Vec::new(),
            elements,
        };
        Ok(Job { open: self.open, ..Job::of(self.name, None, vec![stage]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_describes_what_a_file_would() {
        let text = "name = \"j\"\n[task]\ncommand = [\"sleep\", \"${item}\"]\nenv = { N = \"${index}\" }\ncpus = 0.5\n\
                    memory = 64\nretries = 2\ntimeout = \"1m\"\n\
                    io = { write_bytes_per_second = 1_048_576 }\n[array]\nrange = [1, 3]\n";
        let file = Job::parse("job.toml".as_ref(), text, &[], "/".as_ref()).unwrap();
        let job = Job::builder("j")
            .command(["sleep", "${item}"])
            .env("N", "${index}")
            .resources("cpus:0.5;mem:64".parse().unwrap())
            .retries(2)
            .timeout(Duration::from_secs(60))
            .io(IoLimits { write_bytes_per_second: Some(1 << 20), ..IoLimits::NONE })
            .count(3);
        assert_eq!(job.build().unwrap(), file);
        let text = "name = \"j\"\n[task]\nimage = \"app:1\"\nuser = \"www\"\nnetwork = \"blue\"\n";
        let imaged = Job::parse("f".as_ref(), text, &[], "/".as_ref()).unwrap();
        assert_eq!(Job::builder("j").image("app:1").user("www").network("blue").build().unwrap(), imaged);
        let wrong = Job::parse("f".as_ref(), &text.replace("app:1", "oci:x"), &[], "/".as_ref()).unwrap_err();
        assert!(
            wrong.to_string().starts_with("f:3:9: task.image: `oci:x` does not name an image"),
            "{wrong}"
        );
        let little =
            Job::parse("f".as_ref(), "name = \"j\"\n[task]\ncommand = [\"true\"]\n", &[], "/".as_ref());
        assert_eq!(Job::builder("j").command(["true"]).build().unwrap(), little.unwrap());
    }

    #[test]
    fn an_open_job_may_begin_with_nothing_and_grows_by_elements() {
        let mut job = Job::builder("j").command(["sleep", "${item}"]).open().build().unwrap();
        assert_eq!(job.tasks(), 0);
        job.extend(vec!["5".to_owned(), "7".to_owned()]).unwrap();
        assert_eq!((job.tasks(), job.argv(1)), (2, vec!["sleep".to_owned(), "7".to_owned()]));
        let mut numbers = Job::builder("j").command(["sleep", "${item}"]).count(2).open().build().unwrap();
        let names = [numbers.task_name(0), numbers.task_name(99_999)];
        assert_eq!(names, ["j-000001", "j-100000"], "names sort as their numbers do, however many come");
        numbers.extend(vec!["9".to_owned()]).unwrap();
        assert_eq!([numbers.item(0), numbers.item(1), numbers.item(2)], ["1", "2", "9"]);
        let refused = numbers.extend(vec![String::new(); 100_000]).unwrap_err().to_string();
        assert!(
            refused.contains("job `j`: 100003 elements, but a job has at most 100000 tasks"),
            "{refused}"
        );
        assert_eq!(numbers.tasks(), 3, "what is refused changes nothing");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = || Job::builder("j").command(["true"]);
        let timeout = good().timeout(Duration::ZERO);
        for (job, why) in [
            (Job::builder("a b").command(["true"]), "job `a b`: name: `a b` cannot begin a task id"),
            (Job::builder("j"), "job `j`: command: names no program"),
            (good().count(0), "job `j`: the list is empty"),
            (good().count(usize::MAX), "elements, but a job has at most 100000 tasks"),
            (good().command(["true", "${item}"]), "command: unknown variable `${item}`; known here: index;"),
            (good().env("A=B", ""), "env.A=B: is not a name of a variable"),
            (good().image("a b"), "image: `a b` does not name an image"),
            (good().network("a b"), "network: `a b` names no network"),
            (good().retries(101), "retries: 101 is not from 0 to 100"),
            (good().pids_max(0), "pids_max: 0 is less than 1"),
            (
                good().io(IoLimits { read_ops_per_second: Some(1), ..IoLimits::NONE }),
                "io.read_ops_per_second: 1 is less than 10",
            ),
            (
                good().resources("cpus:0.5;mem:64".parse().unwrap()).exclusive_cpus(),
                "exclusive_cpus: cores of its own are whole ones",
            ),
            (timeout, "timeout: is zero"),
            (good().timeout(Duration::MAX), "timeout: is longer than 365 days"),
            (good().kill_grace(Duration::MAX), "kill_grace: is longer than 24 hours"),
        ] {
            let error = job.build().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
