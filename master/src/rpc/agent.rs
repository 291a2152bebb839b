//! `AgentService`: streams of agents.

use std::collections::VecDeque;

use apportion_master_core::{ConnId, Event};
use apportion_proto::v1::{self, agent_service_server::AgentService};
use apportion_types::{
    limits,
    protocol::agent::{AgentMessage, MasterMessage, RefuseCode},
};
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use super::{
    scheduler::{MESSAGE_MARGIN_BYTES, pack},
    stream::{Answer, Peer, Streams, Taken},
};
use crate::{
    metrics::PeerKind,
    outbox::{Mail, Outgoing},
};

/// The service; see `agent.proto`.
pub(crate) struct Agents(pub(crate) Streams<MasterMessage>);

#[tonic::async_trait]
impl AgentService for Agents {
    type ConnectStream = Mail<MasterMessage>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::AgentServiceConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        Ok(Response::new(self.0.open::<AgentPeer>(request.into_inner())))
    }
}

struct AgentPeer;

impl Peer for AgentPeer {
    type In = v1::AgentServiceConnectRequest;
    type Out = MasterMessage;

    const KIND: PeerKind = PeerKind::Agent;

    fn event(conn: ConnId, message: Self::In, _known: bool) -> Result<Taken, Answer<MasterMessage>> {
        match AgentMessage::try_from(message) {
            Ok(message) => {
                let kind = kind(&message);
                Ok(Taken { event: Event::AgentMessage { conn, message }, kind })
            }
            // What an agent says cannot be passed over: the master's books would differ from the agent's.
            Err(error) => Err(Answer::End(MasterMessage::Refuse {
                code: RefuseCode::Invalid,
                message: error.to_string(),
            })),
        }
    }

    fn closed(conn: ConnId) -> Event {
        Event::AgentClosed { conn }
    }
}

fn kind(message: &AgentMessage) -> &'static str {
    match message {
        AgentMessage::Register { .. } => "register",
        AgentMessage::StatusUpdate { .. } => "status_update",
        AgentMessage::Pong { .. } => "pong",
        AgentMessage::Unregister { .. } => "unregister",
    }
}

impl Outgoing for MasterMessage {
    type Wire = v1::AgentServiceConnectResponse;

    fn items(&self) -> usize {
        match self {
            MasterMessage::RunTasks { tasks, .. } => tasks.len().max(1),
            MasterMessage::Registered { missing_tasks, .. } => missing_tasks.len().max(1),
            _ => 1,
        }
    }

    /// The tasks of one accept fitted in a message when they came, but with the framework's description they may not: they
    /// are sent in several, in order.
    fn encode(self, wire: &mut VecDeque<Self::Wire>) {
        use v1::agent_service_connect_response::Message;
        let mut message = v1::AgentServiceConnectResponse::from(self);
        if let Some(Message::RunTasks(run)) = &mut message.message {
            let tasks = std::mem::take(&mut run.tasks);
            let around_bytes = run.encoded_len() + MESSAGE_MARGIN_BYTES;
            let run = run.clone();
            for tasks in pack(tasks.into_iter(), limits::MESSAGE_BYTES_MAX.saturating_sub(around_bytes)) {
                let message = Message::RunTasks(v1::RunTasks { tasks, ..run.clone() });
                wire.push_back(v1::AgentServiceConnectResponse { message: Some(message) });
            }
        } else {
            wire.push_back(message);
        }
    }

    fn too_slow() -> Self {
        MasterMessage::Refuse {
            code: RefuseCode::TooSlow,
            message: format!(
                "messages were not read in time and more than {} are waiting; register again",
                limits::OUTBOX_MESSAGES_MAX
            ),
        }
    }

    fn shutting_down() -> Self {
        MasterMessage::Refuse {
            code: RefuseCode::ShuttingDown,
            message: "the master ends; register again after a pause".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use apportion_types::{Command, FrameworkId, FrameworkInfo, Resources, Role, TaskId, TaskInfo};

    use super::*;

    #[test]
    fn tasks_that_only_just_fitted_are_sent_on_in_several_messages() {
        let task = |index: usize| TaskInfo {
            task_id: TaskId::new(format!("t{index}")).unwrap(),
            name: "x".repeat(100_000),
            resources: Resources::new(),
            limits: Resources::new(),
            pids_max: None,
            volumes: Vec::new(),
            command: Command { argv: vec!["true".to_owned()], env: BTreeMap::new() },
            kill_grace: None,
            labels: BTreeMap::new(),
        };
        let tasks: Vec<TaskInfo> = (0..41).map(task).collect();
        let run = MasterMessage::RunTasks {
            framework_id: FrameworkId::new("f").unwrap(),
            framework_info: FrameworkInfo {
                name: "x".repeat(120_000),
                principal: String::new(),
                roles: vec![Role::default()],
                failover_timeout: limits::FAILOVER_TIMEOUT_DEFAULT,
                labels: BTreeMap::new(),
            },
            role: Role::default(),
            tasks: tasks.clone(),
        };
        let mut wire = VecDeque::new();
        run.encode(&mut wire);
        assert_eq!(wire.len(), 2);
        assert!(wire.iter().all(|message| message.encoded_len() <= limits::MESSAGE_BYTES_MAX));
        let received: Vec<TaskInfo> = wire
            .into_iter()
            .flat_map(|message| match MasterMessage::try_from(message).unwrap() {
                MasterMessage::RunTasks { tasks, .. } => tasks,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(received, tasks);
    }
}
