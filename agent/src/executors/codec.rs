//! How an executor's messages are read: what one would be decoded to is bounded before it is decoded. A field without content takes two bytes
//! on the wire and forty times that in memory.

use apportion_proto::v1::{ExecutorServiceConnectRequest, ExecutorServiceConnectResponse};
use apportion_types::limits;
use prost::{
    DecodeError,
    bytes::Buf,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// The field of a request that is a subscription.
const SUBSCRIBE: u32 = 1;

/// Runs and updates of one subscription; how many of each is judged afterwards.
const SUBSCRIBED_MAX: usize = limits::EXECUTOR_TASKS_MAX + limits::EXECUTOR_UPDATES_MAX;

/// The codec of the agent's side.
#[derive(Debug, Default)]
pub(super) struct Bounded(ProstDecoder<ExecutorServiceConnectRequest>);

impl Codec for Bounded {
    type Encode = ExecutorServiceConnectResponse;
    type Decode = ExecutorServiceConnectRequest;
    type Encoder = ProstEncoder<ExecutorServiceConnectResponse>;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl Decoder for Bounded {
    type Item = ExecutorServiceConnectRequest;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let named = named(message.chunk()).map_err(|error| Status::internal(error.to_string()))?;
        if named > SUBSCRIBED_MAX {
            return Err(Status::out_of_range(format!(
                "{named} runs and updates are more than the {SUBSCRIBED_MAX} of an executor"
            )));
        }
        self.0.decode(message)
    }
}

/// How many fields the subscriptions in a message have: of several, one is made.
fn named(mut message: &[u8]) -> Result<usize, DecodeError> {
    let mut count = 0;
    while message.has_remaining() {
        match decode_key(&mut message)? {
            (SUBSCRIBE, WireType::LengthDelimited) => {
                let length = decode_varint(&mut message)?;
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(message.len());
                let (mut subscription, rest) = message.split_at(length);
                while subscription.has_remaining() {
                    skip(&mut subscription)?;
                    count += 1;
                }
                message = rest;
            }
            (tag, wire_type) => skip_field(wire_type, tag, &mut message, DecodeContext::default())?,
        }
    }
    Ok(count)
}

fn skip(message: &mut &[u8]) -> Result<(), DecodeError> {
    let (tag, wire_type) = decode_key(message)?;
    skip_field(wire_type, tag, message, DecodeContext::default())
}

#[cfg(test)]
mod tests {
    use apportion_proto::v1::{
        ExecutorSubscribe, ExecutorUpdate, executor_service_connect_request::Message as Said,
    };
    use prost::Message as _;

    use super::*;

    fn subscribe(runs: usize, updates: usize) -> Vec<u8> {
        let run_ids = vec![String::new(); runs];
        let unacknowledged = vec![ExecutorUpdate::default(); updates];
        let message = Said::Subscribe(ExecutorSubscribe { run_ids, unacknowledged });
        ExecutorServiceConnectRequest { message: Some(message) }.encode_to_vec()
    }

    #[test]
    fn what_a_subscription_names_is_counted() {
        assert_eq!(named(&subscribe(3, 4)), Ok(7));
        assert_eq!(named(&[subscribe(3, 4), subscribe(5, 6)].concat()), Ok(18));
        let message = Some(Said::Update(ExecutorUpdate { message: "x".repeat(100), ..Default::default() }));
        assert_eq!(named(&ExecutorServiceConnectRequest { message }.encode_to_vec()), Ok(0));
        assert!(named(&[0xff; 100]).is_err());
        assert!(named(&subscribe(3, 4)[..9]).is_err());
    }
}
