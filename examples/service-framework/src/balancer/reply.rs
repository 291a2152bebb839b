//! What the balancer says itself, when no replica does.

use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
};

use super::body::ResponseBody;

/// Names the reason for a program, so that it can tell the balancer's 503 from a replica's.
pub const REASON_HEADER: HeaderName = HeaderName::from_static("x-balancer-reason");

/// Why a request got no answer from a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Reason {
    /// No replica became ready while it waited.
    NoReplica,
    /// No replica is ready, and enough requests wait already.
    QueueFull,
    /// Each replica has as many requests as it may.
    CircuitOpen,
    /// The replica has as many connections as it may, and enough requests wait for one.
    PendingFull,
    /// The replica accepts no connection.
    Unreachable,
    /// The replica ended the connection without an answer.
    NoAnswer,
    /// The replica did not answer in time.
    Late,
    /// The client did not send its body in time.
    BodyLate,
    /// The body that the client sends breaks off.
    BodyBroken,
    /// It asks for a tunnel, which this is not for.
    Tunnel,
}

impl Reason {
    /// How many there are.
    pub(super) const COUNT: usize = Self::ALL.len();

    /// All of them, each at its own place.
    pub const ALL: [Self; 10] = [
        Self::NoReplica,
        Self::QueueFull,
        Self::CircuitOpen,
        Self::PendingFull,
        Self::Unreachable,
        Self::NoAnswer,
        Self::Late,
        Self::BodyLate,
        Self::BodyBroken,
        Self::Tunnel,
    ];

    /// For programs: in the header, and as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoReplica => "no-replica",
            Self::QueueFull => "queue-full",
            Self::CircuitOpen => "circuit-open",
            Self::PendingFull => "pending-full",
            Self::Unreachable => "unreachable",
            Self::NoAnswer => "no-answer",
            Self::Late => "late",
            Self::BodyLate => "body-late",
            Self::BodyBroken => "body-broken",
            Self::Tunnel => "tunnel",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::NoReplica | Self::QueueFull | Self::CircuitOpen | Self::PendingFull => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Unreachable | Self::NoAnswer => StatusCode::BAD_GATEWAY,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::BodyLate => StatusCode::REQUEST_TIMEOUT,
            Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::Tunnel => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::NoReplica => "no replica became ready in time (queue.timeout)",
            Self::QueueFull => {
                "no replica is ready, and as many requests wait for one as may (queue.waiting_max)"
            }
            Self::CircuitOpen => "each replica has as many requests as it may (circuit.requests_max)",
            Self::PendingFull => {
                "as many requests wait for a connection to a replica as may (circuit.pending_max)"
            }
            Self::Unreachable => "the replica accepts no connection",
            Self::NoAnswer => "the replica ended the connection without an answer",
            Self::Late => "the replica did not answer in time (timeouts.response)",
            Self::BodyLate => "the body of the request did not come in time (timeouts.body)",
            Self::BodyBroken => "the body of the request breaks off",
            Self::Tunnel => "CONNECT is for proxies, which this is not",
        }
    }

    /// The answer: a status, the reason for a program, and a sentence for a person.
    pub(super) fn response(self, app: &str) -> Response<ResponseBody> {
        let text = format!("{app}: {}\n", self.sentence());
        let mut response = Response::new(ResponseBody::Own(Bytes::from(text)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(REASON_HEADER, HeaderValue::from_static(self.name()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_at_its_own_place() {
        assert!(Reason::ALL.iter().enumerate().all(|(place, reason)| *reason as usize == place));
    }
}
