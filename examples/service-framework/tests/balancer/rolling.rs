//! Replicas that come and go under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use apportion_service::balancer::Balancer;
use hyper::{Request, body::Incoming};
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    backend::{Backend, answer},
    client::{self, request, whole},
    soon, start, until,
};

/// Clients that ask without pause until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// So many clients; every other one sends POST, which nobody may send twice.
    fn start(balancer: &Balancer, clients: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let address = balancer.address();
        let client = |index: usize| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                let mut failures = Vec::new();
                let method = if index.is_multiple_of(2) { "GET" } else { "POST" };
                let mut sender = client::http1(address).await;
                while !stop.load(SeqCst) {
                    if soon(sender.ready()).await.is_err() {
                        failures.push("the connection was closed".to_owned());
                        sender = client::http1(address).await;
                        continue;
                    }
                    match soon(sender.send_request(request(method, "hello"))).await {
                        Ok(response) => {
                            let response = whole(response).await;
                            if response.status() != 200 {
                                failures.push(format!("{} {}", response.status(), response.body()));
                            }
                        }
                        Err(error) => failures.push(error.to_string()),
                    }
                    done.fetch_add(1, SeqCst);
                }
                failures
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, done, clients }
    }

    /// Waits until so many more requests were answered.
    async fn more(&self, count: usize) {
        let target = self.done.load(SeqCst) + count;
        until("there is load", || self.done.load(SeqCst) >= target).await;
    }

    async fn failures(self) -> Vec<String> {
        self.stop.store(true, SeqCst);
        let mut failures = Vec::new();
        for client in self.clients {
            failures.extend(soon(client).await.unwrap());
        }
        failures
    }
}

/// All replicas are replaced, one after another, twice; the old ones are killed as soon as the balancer says that they may be.
async fn roll(more: &str) {
    let balancer = start(more);
    let mut backends = Vec::new();
    for index in 0..3 {
        backends.push(Backend::echo(&format!("old-{index}")).await);
    }
    let replicas = |backends: &[Backend]| backends.iter().map(Backend::replica).collect();
    balancer.replace(replicas(&backends));
    let load = Load::start(&balancer, 8);
    load.more(200).await;
    for round in 0..6 {
        backends.push(Backend::echo(&format!("new-{round}")).await);
        let old = backends.remove(0);
        balancer.replace(replicas(&backends));
        soon(balancer.drained(&old.id)).await;
        old.kill().await;
        load.more(100).await;
    }
    assert!(backends.iter().all(|backend| backend.count() > 0));
    let failures = load.failures().await;
    assert!(failures.is_empty(), "{} failed, first {:?}", failures.len(), failures.first());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_when_all_replicas_are_replaced() {
    roll("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_with_two_workers_and_another_policy() {
    roll("workers = 2\npolicy = 'peak-ewma'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_over_http2() {
    roll("replica_protocol = 'http2'\npolicy = 'least-outstanding'").await;
}

/// A replica that is slow to answer keeps its request while it drains, gets no other, and its connections are closed then.
#[tokio::test]
async fn what_is_under_way_is_finished() {
    let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (asked, go) = (Arc::clone(&asked), Arc::clone(&go));
        Backend::start("slow", move |_: Request<Incoming>| {
            let (asked, go) = (Arc::clone(&asked), Arc::clone(&go));
            async move {
                asked.notify_one();
                go.notified().await;
                Some(answer(200, "slow"))
            }
        })
        .await
    };
    let other = Backend::echo("other").await;
    let balancer = start("");
    balancer.replace(vec![slow.replica()]);
    let address = balancer.address();
    let waiting = tokio::spawn(async move { client::get(address).await });
    soon(asked.notified()).await;
    balancer.replace(vec![slow.replica().draining(), other.replica()]);
    for _ in 0..5 {
        assert_eq!(client::get(address).await.body(), "other");
    }
    let drained = balancer.drained("slow");
    tokio::pin!(drained);
    assert!(is_pending(drained.as_mut()), "it has something to do");
    go.notify_one();
    assert_eq!(soon(waiting).await.unwrap().body(), "slow");
    soon(drained).await;
    until("no connection to it is left", || slow.open.load(SeqCst) == 0).await;
    // And back again.
    balancer.replace(vec![slow.replica()]);
    go.notify_one();
    assert_eq!(client::get(address).await.body(), "slow");
}

/// Whether something is not ready yet.
fn is_pending(future: std::pin::Pin<&mut impl Future>) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    future.poll(&mut context).is_pending()
}

/// The listener itself ends: what is under way is finished, the connection is closed with that answer, and nobody else gets in.
#[tokio::test]
async fn a_listener_ends_when_its_clients_have_finished() {
    let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let backend = {
        let (asked, go) = (Arc::clone(&asked), Arc::clone(&go));
        Backend::start("a", move |_: Request<Incoming>| {
            let (asked, go) = (Arc::clone(&asked), Arc::clone(&go));
            async move {
                asked.notify_one();
                go.notified().await;
                Some(answer(200, "done"))
            }
        })
        .await
    };
    let balancer = start("");
    balancer.replace(vec![backend.replica()]);
    let address = balancer.address();
    let mut http2 = client::http2(address).await;
    let over_2 =
        tokio::spawn(http2.send_request(Request::get("http://x/").body(crate::backend::body("")).unwrap()));
    soon(asked.notified()).await;
    let over_1 = tokio::spawn(async move { client::get(address).await });
    soon(asked.notified()).await;
    let ending = tokio::spawn(async move { balancer.shutdown(Duration::from_secs(20)).await });
    until("it does not listen", || std::net::TcpStream::connect(address).is_err()).await;
    go.notify_one();
    go.notify_one();
    let response = soon(over_1).await.unwrap();
    assert_eq!(
        (response.body().as_str(), &response.headers()["connection"]),
        ("done", &"close".parse().unwrap())
    );
    assert_eq!(whole(soon(over_2).await.unwrap().unwrap()).await.body(), "done");
    assert!(soon(ending).await.unwrap(), "all could finish");
}
