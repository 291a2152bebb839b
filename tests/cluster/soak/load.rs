//! What the cluster does meanwhile: jobs of short and long tasks, one after the other, and a service.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::ExitStatus,
    thread,
    time::Instant,
};

use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::Value;

use crate::support::Place;

pub(super) const SERVICE: &str = "web";
pub(super) const REPLICAS: usize = 3;

/// What tasks and the test know of each other's work.
pub(super) struct Load {
    /// Tasks write here when they begin and when they end: neither disk nor network, so that no fault keeps a word of it back. In the
    /// host's files, which tasks see read-only; a pipe may be written to all the same.
    pipe: PathBuf,
    ledger: PathBuf,
    spec: PathBuf,
    service_state: PathBuf,
    pub(super) job: Option<Job>,
    /// Jobs that have ended, with what they said.
    pub(super) done: Vec<(Job, Option<Value>)>,
}

/// One job.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) tasks: u32,
    file: PathBuf,
    state: PathBuf,
    /// Its state was seen.
    begun: bool,
}

/// What a task told: its framework, its own name, its sandbox.
pub(super) type Told = (String, String, String);

impl Load {
    pub(super) fn new(evidence: &Path, place: &Place) -> Load {
        let (pipe, ledger) = (evidence.join("pipe"), evidence.join("ledger"));
        mkfifoat(CWD, &pipe, Mode::from_raw_mode(0o622)).unwrap();
        rustix::fs::chmod(&pipe, Mode::from_raw_mode(0o622)).unwrap();
        // Also for writing, so that it never ends.
        let reader = File::options().read(true).write(true).open(&pipe).unwrap();
        let mut writer = File::create(&ledger).unwrap();
        let begun = Instant::now();
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                // For people alone.
                let at = begun.elapsed().as_secs_f64();
                if writeln!(writer, "{at:.3} {line}").is_err() {
                    break;
                }
            }
        });
        let spec = format!(
            "name = '{SERVICE}'\nreplicas = {REPLICAS}\ncpus = 0.1\nmemory = '32MiB'\nkill_grace = '1s'\n\
             failover_timeout = '1h'\nreplace_after = '5s'\nrestart = {{ min = '200ms', max = '2s', stable = '5s' }}\n\
             command = '''\ntrap 'exit 0' TERM\n{}\nwhile :; do sleep 1 & wait $!; done\n'''\n",
            word(&pipe, "S")
        );
        let spec = place.file("web.toml", &spec);
        let service_state = place.path().join("web");
        Load { pipe, ledger, spec, service_state, job: None, done: Vec::new() }
    }

    pub(super) fn begin(&mut self, place: &Place, tasks: u32) {
        let name = format!("job{}", self.done.len());
        // A few are long enough to outlive a leader or two.
        let job = format!(
            "name = '{name}'\n[array]\nrange = [1, {tasks}]\n[task]\ncpus = 0.2\nmemory = '32MiB'\nretries = 100\n\
             command = '''\n{}\ncase ${{index}} in *7) sleep 9;; *) sleep 0.4;; esac\necho done ${{index}}\n{}\n'''\n",
            word(&self.pipe, "B"),
            word(&self.pipe, "E")
        );
        let file = place.file(&format!("{name}.toml"), &job);
        let state = place.path().join("batch").join(&name);
        self.job = Some(Job { name, tasks, file, state, begun: false });
    }

    pub(super) fn job_command(&self) -> String {
        let job = self.job.as_ref().expect("a job is under way");
        format!("batch run {} --state {} --wait -o json", job.file.display(), job.state.display())
    }

    pub(super) fn service_command(&self) -> String {
        format!("service run {} --state {}", self.spec.display(), self.service_state.display())
    }

    pub(super) fn look(&mut self) {
        if let Some(job) = &mut self.job {
            job.begun |= job.state.exists();
        }
    }

    /// Whether the job has ended, of which a process has.
    pub(super) fn is_over(&mut self, killed: bool, status: ExitStatus, evidence: &Path) -> bool {
        let job = self.job.as_ref().expect("a job was under way");
        let said = fs::read(evidence.join("logs/batch.out")).unwrap_or_default();
        let summary = serde_json::from_slice::<Value>(&said).ok();
        // Killed between the end of its state and its last word.
        let silent = killed && job.begun && !job.state.exists();
        if summary.is_none() && !silent && !status.success() {
            return false;
        }
        self.done.extend(self.job.take().map(|job| (job, summary)));
        true
    }

    /// What tasks have told of: their begins and ends, and the begins of replicas.
    pub(super) fn told(&self) -> BTreeMap<String, Vec<Told>> {
        let ledger = fs::read_to_string(&self.ledger).unwrap();
        let mut told: BTreeMap<String, Vec<Told>> = BTreeMap::new();
        for line in ledger.lines() {
            let [_, kind, framework, task, sandbox] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("a line of the ledger: {line:?}");
            };
            let one = (framework.to_owned(), task.to_owned(), sandbox.to_owned());
            told.entry(kind.to_owned()).or_default().push(one);
        }
        told
    }
}

/// Has a task say a word.
fn word(pipe: &Path, word: &str) -> String {
    format!("echo \"{word} $APPORTION_FRAMEWORK_ID $APPORTION_TASK_ID $PWD\" >{}", pipe.display())
}
