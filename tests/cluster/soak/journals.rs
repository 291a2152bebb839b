//! What leaders did, by their journals: each replayed, each event and what followed from it seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use apportion_master::{
    journal::{Journal, JournalError},
    replay::{Ending, Replay, ReplayError},
};
use apportion_master_core::{Action, CommitId, Event, RegistryOp};
use apportion_types::{
    FrameworkId, TaskId, TaskState, UpdateId,
    protocol::{
        agent::{AgentMessage, MasterMessage},
        scheduler::Call,
    },
};

type Key = (FrameworkId, TaskId);

/// What journals say together.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    /// By their names.
    pub(super) leaders: BTreeMap<String, Leader>,
    /// Terminal updates that frameworks acknowledged.
    pub(super) acknowledged: BTreeMap<Key, TaskState>,
    /// How tasks ended, and why, by their agents.
    pub(super) ends: BTreeMap<String, (TaskState, String)>,
    pub(super) wrong: Vec<String>,
    pub(super) events: u64,
    pub(super) launched: BTreeMap<Key, String>,
}

/// What one leader did.
#[derive(Debug)]
pub(super) struct Leader {
    /// Keys of the registry that it asked to be written, and those whose writing it was told of.
    pub(super) asked: BTreeSet<String>,
    pub(super) committed: BTreeSet<String>,
    /// Nothing is missing at its end.
    pub(super) whole: bool,
}

impl Leaders {
    /// Reads all journals of a folder.
    pub(super) fn read(folder: &Path) -> Leaders {
        let mut leaders = Leaders::default();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            leaders.add(&entry.path());
        }
        leaders
    }

    fn add(&mut self, path: &Path) {
        let mut journal = match Journal::open(path) {
            Ok(journal) => journal,
            // Killed before its first word was on the disk.
            Err(JournalError::Cut { .. }) => return,
            Err(_) if fs::metadata(path).is_ok_and(|meta| meta.len() == 0) => return,
            Err(error) => return self.wrong.push(error.to_string()),
        };
        let header = journal.header().clone();
        let mut seen = Seen {
            master_id: header.core.master_id.clone(),
            all: self,
            known: BTreeSet::new(),
            terminal: BTreeMap::new(),
            commits: BTreeMap::new(),
            leader: Leader { asked: BTreeSet::new(), committed: BTreeSet::new(), whole: false },
        };
        let mut replay = Replay::new(&header);
        let ended = replay.run_seen(&mut journal, &mut |_, event, actions| seen.see(event, actions));
        let (master_id, mut leader) = (seen.master_id, seen.leader);
        match ended {
            Ok(Ending::Complete) => leader.whole = true,
            Ok(_) | Err(ReplayError::Journal(JournalError::Cut { .. })) => {}
            Err(error) => self.wrong.push(error.to_string()),
        }
        self.events += replay.events();
        if self.leaders.insert(master_id.clone(), leader).is_some() {
            self.wrong.push(format!("two masters have the name {master_id}"));
        }
    }
}

/// One journal on its way.
struct Seen<'a> {
    master_id: String,
    all: &'a mut Leaders,
    /// Tasks that it launched, or that agents named when they registered.
    known: BTreeSet<Key>,
    terminal: BTreeMap<(Key, UpdateId), TaskState>,
    commits: BTreeMap<CommitId, String>,
    leader: Leader,
}

impl Seen<'_> {
    fn see(&mut self, event: &Event, actions: &[Action]) {
        let master = self.master_id.clone();
        match event {
            Event::AgentMessage { message: AgentMessage::Register { tasks, .. }, .. } => {
                self.known
                    .extend(tasks.iter().map(|task| (task.framework_id.clone(), task.info.task_id.clone())));
            }
            Event::AgentMessage {
                message: AgentMessage::StatusUpdate { framework_id, status, .. }, ..
            } => {
                let key = (framework_id.clone(), status.task_id.clone());
                // A task that an agent never had it may say so of to whoever leads.
                let ran = matches!(
                    status.state,
                    TaskState::Starting
                        | TaskState::Running
                        | TaskState::Killing
                        | TaskState::Finished
                        | TaskState::Failed
                );
                if ran && !self.known.contains(&key) {
                    let wrong = format!(
                        "{master} is told of task {} ({:?}), which it did not launch and no agent named to it",
                        key.1, status.state
                    );
                    self.all.wrong.push(wrong);
                }
                if status.state.is_terminal() {
                    let why = format!("{:?}: {}", status.reason, status.message);
                    self.all.ends.insert(status.task_id.to_string(), (status.state, why));
                }
                if let Some(update_id) = status.update_id.filter(|_| status.state.is_terminal()) {
                    self.terminal.insert((key, update_id), status.state);
                }
            }
            Event::SchedulerCall { call: Call::Accept(accept), .. } => {
                let others = accept.offers.iter().filter(|offer| !offer.as_str().starts_with(&master));
                let launches = actions.iter().any(|action| {
                    matches!(action, Action::ToAgent { message: MasterMessage::RunTasks { .. }, .. })
                });
                if launches {
                    let wrong =
                        others.map(|offer| format!("{master} launched through {offer}, which is another's"));
                    self.all.wrong.extend(wrong);
                }
            }
            Event::Committed { commit } => self.leader.committed.extend(self.commits.get(commit).cloned()),
            _ => {}
        }
        for action in actions {
            match action {
                Action::Commit { commit, op } => {
                    let key = key(op);
                    self.leader.asked.insert(key.clone());
                    self.commits.insert(*commit, key);
                }
                Action::ToAgent { message: MasterMessage::RunTasks { framework_id, tasks, .. }, .. } => {
                    for task in tasks {
                        let key = (framework_id.clone(), task.task_id.clone());
                        self.known.insert(key.clone());
                        if let Some(before) = self.all.launched.insert(key, master.clone()) {
                            let wrong =
                                format!("task {} was launched by {before} and by {master}", task.task_id);
                            self.all.wrong.push(wrong);
                        }
                    }
                }
                // The acknowledgement goes the way of the update: the framework has it.
                Action::ToAgent {
                    message: MasterMessage::AcknowledgeUpdate { framework_id, task_id, update_id },
                    ..
                } => {
                    let key = (framework_id.clone(), task_id.clone());
                    if let Some(state) = self.terminal.get(&(key.clone(), *update_id)) {
                        self.all.acknowledged.insert(key, *state);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The key of what is written, below the cluster's in etcd.
fn key(op: &RegistryOp) -> String {
    match op {
        RegistryOp::AdmitAgent { agent_id, .. }
        | RegistryOp::MarkUnreachable { agent_id, .. }
        | RegistryOp::SetActivation { agent_id, .. }
        | RegistryOp::ForgetAgent { agent_id }
        | RegistryOp::RemoveAgent { agent_id, .. } => format!("entries/agent/{agent_id}"),
        RegistryOp::AdmitFramework { framework_id, .. }
        | RegistryOp::ForgetFramework { framework_id }
        | RegistryOp::RemoveFramework { framework_id } => format!("entries/framework/{framework_id}"),
        RegistryOp::SetMaintenance { .. } => "entries/maintenance".to_owned(),
        RegistryOp::SetRole { role, .. } => format!("entries/role/{role}"),
    }
}
