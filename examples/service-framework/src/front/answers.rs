//! Where others may ask for replicas: `--dns` and `--http`.

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use super::Front;
use crate::discovery::{dns, http};

/// Where to answer; nowhere unless said.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Answers {
    /// Answer there by DNS, over UDP and TCP, where replicas are: APP.service.apportion, _APP._tcp.service.apportion
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub dns: Option<SocketAddr>,
    /// Answer there by HTTP: /v1/services and /v1/apps/APP/replicas as JSON, and /metrics for Prometheus
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http: Option<SocketAddr>,
}

/// An address cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("--{flag}: cannot listen on {address}: {source}; give another address, or end what listens there")]
pub struct AnswerError {
    flag: &'static str,
    address: SocketAddr,
    source: io::Error,
}

impl Answers {
    pub(crate) fn any(&self) -> bool {
        self.dns.is_some() || self.http.is_some()
    }

    /// Opens what is to answer; the future answers for as long as it lives. `says` is told where.
    pub(crate) async fn open(
        &self,
        front: &Arc<Front>,
        says: &(dyn Fn(&str) + Sync),
    ) -> Result<impl Future<Output = ()> + use<>, AnswerError> {
        let (mut dns, mut http) = (None, None);
        if let Some(address) = self.dns {
            let failed = |source| AnswerError { flag: "dns", address, source };
            let server = dns::Server::bind(address, front.directory().clone()).await.map_err(failed)?;
            says(&format!("answering by DNS on {}", server.address().map_err(failed)?));
            dns = Some(server);
        }
        if let Some(address) = self.http {
            let failed = |source| AnswerError { flag: "http", address, source };
            let server = http::Server::bind(address, front.directory().clone()).await.map_err(failed)?;
            says(&format!("answering by HTTP on {}", server.address().map_err(failed)?));
            http = Some(server.with(Arc::clone(front)));
        }
        Ok(async move {
            let dns = async {
                if let Some(server) = dns {
                    server.run().await;
                }
            };
            let http = async {
                if let Some(server) = http {
                    server.run().await;
                }
            };
            tokio::join!(dns, http);
            std::future::pending().await
        })
    }
}
