//! Who speaks on which stream, as the master said it.

use std::collections::BTreeMap;

use apportion_master_core::ConnId;
use apportion_types::{
    AgentId, FrameworkId,
    protocol::{agent::MasterMessage, scheduler::Event},
};

use super::Happening;
use crate::fault::Process;

/// The framework or the agent that the master has let in on a stream, for as long as it stands.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    frameworks: BTreeMap<ConnId, FrameworkId>,
    agents: BTreeMap<ConnId, AgentId>,
}

impl Streams {
    pub(crate) fn observe(&mut self, happening: &Happening<'_>) {
        match *happening {
            Happening::Started(Process::Master) => *self = Self::default(),
            Happening::MasterTellsScheduler {
                conn, event: Event::Subscribed { framework_id, .. }, ..
            } => {
                self.frameworks.insert(conn, framework_id.clone());
            }
            Happening::MasterTellsAgent {
                conn, message: MasterMessage::Registered { agent_id, .. }, ..
            } => {
                self.agents.insert(conn, agent_id.clone());
            }
            Happening::MasterTellsScheduler { conn, event: Event::Error { .. }, .. }
            | Happening::MasterTellsAgent { conn, message: MasterMessage::Refuse { .. }, .. }
            | Happening::StreamEnded { conn } => {
                self.frameworks.remove(&conn);
                self.agents.remove(&conn);
            }
            _ => {}
        }
    }

    pub(crate) fn framework(&self, conn: ConnId) -> Option<&FrameworkId> {
        self.frameworks.get(&conn)
    }

    pub(crate) fn agent(&self, conn: ConnId) -> Option<&AgentId> {
        self.agents.get(&conn)
    }
}
