//! `grpc.health.v1.Health`: whether it serves is the answer.

use std::net::SocketAddr;

use apportion_types::{probe::CheckResult, text::chain};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Answer, unanswered};

pub(super) async fn ask(address: SocketAddr, service: String) -> Answer {
    let endpoint = match Endpoint::from_shared(format!("http://{address}")) {
        Ok(endpoint) => endpoint,
        Err(error) => return unanswered(chain(&error)),
    };
    let channel = match endpoint.connect().await {
        Ok(channel) => channel,
        Err(error) => {
            return unanswered(format_args!("no connection to port {}: {}", address.port(), chain(&error)));
        }
    };
    match HealthClient::new(channel).check(HealthCheckRequest { service }).await {
        Ok(answer) => {
            let status = answer.get_ref().status();
            let serves = status == ServingStatus::Serving;
            (CheckResult::Serving(serves), status.as_str_name().to_lowercase())
        }
        // What the protocol answers for a service that it does not know.
        Err(status) if status.code() == Code::NotFound => {
            (CheckResult::Serving(false), "the server does not know the service".to_owned())
        }
        Err(status) => unanswered(format_args!("{}: {}", status.code(), status.message())),
    }
}
