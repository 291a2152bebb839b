//! `AgentService`: streams of agents.

use std::collections::VecDeque;

use apportion_master_core::{ConnId, Event};
use apportion_proto::v1::{self, agent_service_server::AgentService};
use apportion_types::{
    limits,
    protocol::agent::{AgentMessage, MasterMessage, RefuseCode},
};
use tonic::{Request, Response, Status, Streaming};

use super::stream::{Answer, Peer, Streams, Taken};
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
    const MESSAGE_BYTES_MAX: usize = limits::AGENT_MESSAGE_BYTES_MAX;
    const TOO_LARGE_REMEDY: &str = "tear down frameworks that do not acknowledge the ends of their tasks";

    fn event(conn: ConnId, message: Self::In, _known: bool) -> Result<Taken, Answer<MasterMessage>> {
        match AgentMessage::try_from(message) {
            Ok(message) => {
                let kind = message.name();
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

impl Outgoing for MasterMessage {
    type Wire = v1::AgentServiceConnectResponse;

    fn items(&self) -> usize {
        match self {
            MasterMessage::RunTasks { tasks, .. } => tasks.len().max(1),
            MasterMessage::Registered { missing_tasks, .. } => missing_tasks.len().max(1),
            _ => 1,
        }
    }

    fn encode(self, wire: &mut VecDeque<Self::Wire>) {
        wire.push_back(self.into());
    }

    fn too_slow() -> Self {
        MasterMessage::Refuse {
            code: RefuseCode::TooSlow,
            message: format!(
                "messages were not read in time and more than {} are waiting; register again",
                limits::OUTBOX_ITEMS_MAX
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
