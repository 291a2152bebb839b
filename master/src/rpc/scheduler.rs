//! `SchedulerService`: streams of schedulers.

use std::{collections::VecDeque, mem};

use apportion_master_core::{ConnId, Event};
use apportion_proto::v1::{
    self, scheduler_service_connect_request::Call as WireCall, scheduler_service_server::SchedulerService,
};
use apportion_types::{
    limits,
    protocol::scheduler::{Call, ErrorCode, Event as SchedulerEvent, Refusal},
};
use tonic::{Request, Response, Status, Streaming};

use super::stream::{Answer, Peer, Streams, Taken};
use crate::{
    metrics::PeerKind,
    outbox::{Mail, Outgoing},
};

/// Bytes left for the fields around a list when it is cut into messages.
const MESSAGE_MARGIN_BYTES: usize = 4096;

/// The service; see `scheduler.proto`.
pub(crate) struct Schedulers(pub(crate) Streams<SchedulerEvent>);

#[tonic::async_trait]
impl SchedulerService for Schedulers {
    type ConnectStream = Mail<SchedulerEvent>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::SchedulerServiceConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        Ok(Response::new(self.0.open::<SchedulerPeer>(request.into_inner())))
    }
}

struct SchedulerPeer;

impl Peer for SchedulerPeer {
    type In = v1::SchedulerServiceConnectRequest;
    type Out = SchedulerEvent;

    const KIND: PeerKind = PeerKind::Scheduler;
    const MESSAGE_BYTES_MAX: usize = limits::MESSAGE_BYTES_MAX;
    const TOO_LARGE_REMEDY: &str = "send several smaller ones";

    fn event(conn: ConnId, message: Self::In, known: bool) -> Result<Taken, Answer<SchedulerEvent>> {
        let call_id = message.call_id;
        let subscribes = matches!(message.call, Some(WireCall::Subscribe(_)));
        match Call::try_from(message) {
            Ok(call) => {
                let kind = call.name();
                Ok(Taken { event: Event::SchedulerCall { conn, call_id, call }, kind })
            }
            // A subscription that cannot stand ends its stream; nothing else could follow on it.
            Err(error) if subscribes && !known => Err(Answer::End(SchedulerEvent::Error {
                code: ErrorCode::Refused,
                message: error.to_string(),
            })),
            Err(error) => Err(Answer::Refuse(SchedulerEvent::Refused {
                call_id,
                code: Refusal::Invalid,
                message: error.to_string(),
            })),
        }
    }

    fn closed(conn: ConnId) -> Event {
        Event::SchedulerClosed { conn }
    }
}

impl Outgoing for SchedulerEvent {
    type Wire = v1::SchedulerServiceConnectResponse;

    fn items(&self) -> usize {
        match self {
            SchedulerEvent::Offers(offers) => offers.len().max(1),
            _ => 1,
        }
    }

    /// The offers of one cycle may be more than fits in a message: they are sent in several, in order.
    fn encode(self, wire: &mut VecDeque<Self::Wire>) {
        match self {
            SchedulerEvent::Offers(offers) => {
                let offers = offers.into_iter().map(v1::Offer::from);
                for offers in pack(offers, limits::MESSAGE_BYTES_MAX - MESSAGE_MARGIN_BYTES) {
                    let event = v1::scheduler_service_connect_response::Event::Offers(v1::Offers { offers });
                    wire.push_back(v1::SchedulerServiceConnectResponse { event: Some(event) });
                }
            }
            event => wire.push_back(event.into()),
        }
    }

    fn too_slow() -> Self {
        SchedulerEvent::Error {
            code: ErrorCode::TooSlow,
            message: format!(
                "events were not read in time and more than {} are waiting; subscribe again and reconcile",
                limits::OUTBOX_ITEMS_MAX
            ),
        }
    }

    fn shutting_down() -> Self {
        SchedulerEvent::Error {
            code: ErrorCode::ShuttingDown,
            message: "the master ends; subscribe again after a pause".to_owned(),
        }
    }
}

/// Parts of a list, in order, each of at most so many bytes on the wire; an item that is larger is a part of its own.
fn pack<M: prost::Message>(items: impl Iterator<Item = M>, bytes_max: usize) -> Vec<Vec<M>> {
    let mut parts = Vec::new();
    let (mut part, mut bytes) = (Vec::new(), 0);
    for item in items {
        // Its tag and its length before it.
        let item_bytes = item.encoded_len() + 6;
        if bytes + item_bytes > bytes_max && !part.is_empty() {
            parts.push(mem::take(&mut part));
            bytes = 0;
        }
        bytes += item_bytes;
        part.push(item);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use apportion_types::{AgentId, FrameworkId, Offer, OfferId, Place, Resources, Role};
    use prost::Message as _;

    use super::*;

    fn offer(index: usize, attribute_bytes: usize) -> Offer {
        Offer {
            offer_id: OfferId::new(format!("o{index}")).unwrap(),
            framework_id: FrameworkId::new("f").unwrap(),
            agent_id: AgentId::new("a").unwrap(),
            role: Role::default(),
            resources: Resources::new(),
            place: Arc::new(Place {
                hostname: "h".to_owned(),
                address: "h:1".to_owned(),
                attributes: [("k".to_owned(), "x".repeat(attribute_bytes))].into(),
                domain: None,
            }),
            unavailability: None,
        }
    }

    #[test]
    fn many_offers_are_sent_in_several_messages_that_each_fit() {
        let offers: Vec<Offer> = (0..100).map(|index| offer(index, 100_000)).collect();
        let mut wire = VecDeque::new();
        SchedulerEvent::Offers(offers.clone()).encode(&mut wire);
        assert_eq!(wire.len(), 3);
        assert!(wire.iter().all(|message| message.encoded_len() <= limits::MESSAGE_BYTES_MAX));
        let received: Vec<Offer> = wire
            .into_iter()
            .flat_map(|message| match SchedulerEvent::try_from(message).unwrap() {
                SchedulerEvent::Offers(offers) => offers,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(received, offers);
    }

    #[test]
    fn a_bad_first_subscription_ends_the_stream_and_every_other_bad_call_is_refused() {
        let conn = ConnId(1);
        let subscribe = v1::SchedulerServiceConnectRequest {
            call_id: 7,
            call: Some(WireCall::Subscribe(v1::Subscribe::default())),
        };
        let Err(Answer::End(SchedulerEvent::Error { code, message })) =
            SchedulerPeer::event(conn, subscribe.clone(), false)
        else {
            panic!("it ends the stream")
        };
        assert_eq!((code, message.as_str()), (ErrorCode::Refused, "subscribe.framework_info: is missing"));
        let Err(Answer::Refuse(SchedulerEvent::Refused { call_id, code, .. })) =
            SchedulerPeer::event(conn, subscribe, true)
        else {
            panic!("it is refused")
        };
        assert_eq!((call_id, code), (7, Refusal::Invalid));
    }
}
