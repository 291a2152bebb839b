//! What `service serve --http` answers beside [discovery](crate::discovery::http):
//!
//! - `GET /metrics`: for Prometheus, the balancers as `apportion_balancer_…`, and how many replicas there are, and by what, as
//!   `apportion_service_…`.
//! - `GET /v1/services`: every service as `apportion service show` has it, with what its balancer does, for a page.
//!
//! ```json
//! [{
//!   "name": "web",              "replicas": 3,   "ready": 3,
//!   "revision": 2,              "phase": "steady | canary | rolling",
//!   "good": [1, 2],             "rejected": null,
//!   "waits_for": [],            "removed": false,
//!   "scaling": { "at": 1700000000000000, "from": 3, "ready": 3, "to": 3, "because": "rule", "place": 0, "said": [{
//!     "rule": "cpu at 0.7 for each", "value": 0.65, "aim": 0.7, "replicas": 3, "why": "near enough"
//!   }]},
//!   "balancer": { "address": "0.0.0.0:80", "…": "as it was described; null without one" },
//!   "unserved": "why clients do not reach it, or not all of its replicas; null when they do",
//!   "tasks": [{
//!     "task_id": "web.0.1",     "replica": 0,    "revision": 2,
//!     "hostname": "one",        "addresses": ["one:31000"],  "agent": "10.0.0.1:5051",
//!     "ready": true,            "ending": false, "draining": false,
//!     "endpoint": { "host": "10.0.0.1", "port": 31000 }
//!   }],
//!   "listening": "0.0.0.0:80",
//!   "statistics": {
//!     "app": "web",             "requests": 9,   "requests_per_second": 0.5,
//!     "latency": { "count": 5, "p50_us": 800, "p95_us": 900, "p99_us": 900 },
//!     "waiting": 0,             "clients": 2,    "retries": 0,
//!     "refused": [["no_replica", 0]],
//!     "replicas": [{
//!       "id": "web.0.1",        "address": "10.0.0.1:31000",
//!       "standing": "ready | draining | unchecked | down | ejected",
//!       "requests": 9, "failures": 0, "retries": 0, "ejections": 0, "in_flight": 0, "pending": 0,
//!       "latency_ewma_us": 800.0, "latency": { "count": 5, "p50_us": 800, "p95_us": 900, "p99_us": 900 }
//!     }]
//!   }
//! }]
//! ```
//!
//! `listening` and `statistics` are null without a balancer, and `scaling` without `[scale]` and before something was measured. Fields may be added.

use std::{net::SocketAddr, sync::Arc};

use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::Serialize;

use super::{Front, metrics};
use crate::{
    balancer::Statistics,
    discovery::http::{Pages, json},
    state::AppView,
};

/// The type of the text that Prometheus reads.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Serialize)]
struct Service {
    #[serde(flatten)]
    view: AppView,
    listening: Option<SocketAddr>,
    statistics: Option<Statistics>,
}

impl Pages for Arc<Front> {
    fn page(&self, path: &str) -> Option<Response<Full<Bytes>>> {
        let views = self.services();
        match path {
            "/metrics" => {
                let statistics: Vec<_> =
                    views.iter().filter_map(|view| self.statistics(&view.name)).collect();
                let mut response = Response::new(Full::from(metrics::page(&views, &statistics)));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
                Some(response)
            }
            "/v1/services" => {
                let balancers = views.iter().map(|view| (view, self.balancer(&view.name)));
                let services = balancers.map(|(view, balancer)| Service {
                    view: AppView { unserved: self.unserved(&view.name), ..view.clone() },
                    listening: balancer.as_ref().map(|balancer| balancer.address()),
                    statistics: balancer.map(|balancer| balancer.statistics()),
                });
                Some(json(StatusCode::OK, &services.collect::<Vec<_>>()))
            }
            _ => None,
        }
    }
}
