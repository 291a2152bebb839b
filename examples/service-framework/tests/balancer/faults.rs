//! Replicas that die, refuse or are slow, and what the balancer does about it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst},
};

use apportion_service::balancer::{Replica, Standing};
use hyper::{Request, StatusCode, body::Incoming};
use tokio::{net::TcpListener, sync::Notify};

use crate::{
    backend::{Backend, answer},
    client::{self, get, request},
    soon, start, until,
};

/// Somebody who accepts no connection.
async fn nobody(id: &str) -> Replica {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Replica::new(id, gone.local_addr().unwrap())
}

/// Dies whenever it is asked, in the middle of the request.
async fn dying(id: &str) -> Backend {
    Backend::start(id, |_: Request<Incoming>| async { None }).await
}

#[tokio::test]
async fn what_may_be_done_twice_is_sent_again_when_a_replica_dies() {
    let (dying, well) = (dying("dying").await, Backend::echo("well").await);
    let balancer = start("[health.passive]\nconsecutive_failures = 0");
    balancer.replace(vec![dying.replica(), well.replica()]);
    for _ in 0..6 {
        assert_eq!(get(balancer.address()).await.body(), "well");
    }
    // A small body is kept for that.
    for _ in 0..6 {
        let response = client::send(balancer.address(), request("PUT", "small")).await;
        assert_eq!(response.body(), "well");
    }
    let statistics = balancer.statistics();
    assert_eq!(statistics.replica("dying").unwrap().failures, dying.count() as u64);
    assert!(dying.count() >= 4 && statistics.retries == dying.count() as u64);
}

#[tokio::test]
async fn what_may_not_be_done_twice_is_not() {
    let (dying, well) = (dying("dying").await, Backend::echo("well").await);
    let balancer = start("[health.passive]\nconsecutive_failures = 0");
    balancer.replace(vec![dying.replica(), well.replica()]);
    let mut statuses = Vec::new();
    for _ in 0..10 {
        let response = client::send(balancer.address(), request("POST", "order")).await;
        if response.status() != StatusCode::OK {
            assert_eq!(response.headers()["x-balancer-reason"], "no-answer");
        }
        statuses.push(response.status().as_u16());
    }
    statuses.sort();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 502, 502, 502, 502, 502]);
    assert_eq!(dying.count() + well.count(), 10);
}

#[tokio::test]
async fn nothing_was_sent_to_who_accepts_no_connection() {
    let well = Backend::echo("well").await;
    let balancer = start("[health.passive]\nconsecutive_failures = 0");
    balancer.replace(vec![nobody("nobody").await, well.replica()]);
    for _ in 0..6 {
        // Not even its body, however large.
        let response = client::send(balancer.address(), request("POST", &"x".repeat(100_000))).await;
        assert_eq!(response.body(), "well");
    }
}

/// Every replica fails; the requests that it gets are those of the clients, and a fifth more.
#[tokio::test]
async fn the_budget_holds() {
    let bad = [dying("a").await, dying("b").await];
    let balancer =
        start("[health.passive]\nconsecutive_failures = 0\n[retries]\nratio = 0.2\nmin_per_second = 0");
    balancer.replace(bad.iter().map(Backend::replica).collect());
    for _ in 0..50 {
        assert_eq!(get(balancer.address()).await.status(), StatusCode::BAD_GATEWAY);
    }
    let attempts: usize = bad.iter().map(Backend::count).sum();
    assert!((51..=60).contains(&attempts), "{attempts} attempts for 50 requests");
}

#[tokio::test]
async fn who_fails_is_left_out_and_comes_back() {
    let status = Arc::new(AtomicU16::new(503));
    let bad = {
        let status = Arc::clone(&status);
        Backend::start("bad", move |_: Request<Incoming>| {
            let status = status.load(SeqCst);
            async move { Some(answer(status, "bad")) }
        })
        .await
    };
    let well = Backend::echo("well").await;
    let balancer = start(
        "[retries]\nattempts = 0\n[health.passive]\nconsecutive_failures = 3\nejection = '200ms'\nejection_max = '10s'",
    );
    balancer.replace(vec![bad.replica(), well.replica()]);
    let standing = || balancer.statistics().replica("bad").unwrap().standing;
    while standing() == Standing::Ready {
        get(balancer.address()).await;
    }
    assert_eq!((standing(), bad.count()), (Standing::Ejected, 3));
    status.store(200, SeqCst);
    // While it is left out, nothing reaches it.
    for _ in 0..10 {
        let response = get(balancer.address()).await;
        assert!(response.body() == "well" || standing() == Standing::Ready);
    }
    until("it is back", || standing() == Standing::Ready).await;
    let before = bad.count();
    while bad.count() == before {
        get(balancer.address()).await;
    }
    assert_eq!(balancer.statistics().replica("bad").unwrap().ejections, 1);
}

#[tokio::test]
async fn active_checks_take_out_and_bring_back() {
    let well = Arc::new(AtomicBool::new(true));
    let backend = {
        let well = Arc::clone(&well);
        Backend::start("a", move |request: Request<Incoming>| {
            let status = if request.uri() == "/healthz" && !well.load(SeqCst) { 500 } else { 200 };
            async move { Some(answer(status, "a")) }
        })
        .await
    };
    let balancer = start("[health.active]\npath = '/healthz'\ninterval = '10ms'\nrise = 1\nfall = 2");
    balancer.replace(vec![backend.replica(), nobody("nobody").await]);
    let standing = |id: &str| balancer.statistics().replica(id).unwrap().standing;
    // It waits for the first check.
    assert_eq!(get(balancer.address()).await.body(), "a");
    until("nobody is found out", || standing("nobody") == Standing::Down).await;
    well.store(false, SeqCst);
    until("it is down", || standing("a") == Standing::Down).await;
    well.store(true, SeqCst);
    until("it is up", || standing("a") == Standing::Ready).await;
}

#[tokio::test]
async fn more_than_a_replica_may_have_is_refused_with_the_reason() {
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
    let balancer = start("[circuit]\nrequests_max = 2\nconnections_max = 1\npending_max = 1");
    balancer.replace(vec![slow.replica()]);
    let address = balancer.address();
    let first = tokio::spawn(async move { get(address).await });
    soon(asked.notified()).await;
    // The second waits for the one connection.
    let second = tokio::spawn(async move { get(address).await });
    until("one waits", || balancer.statistics().replica("slow").unwrap().pending == 1).await;
    let third = get(address).await;
    assert_eq!(
        (third.status(), &third.headers()["x-balancer-reason"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"circuit-open".parse().unwrap())
    );
    assert_eq!(third.body(), "app: each replica has as many requests as it may (circuit.requests_max)\n");
    go.notify_one();
    assert_eq!(soon(first).await.unwrap().body(), "slow");
    soon(asked.notified()).await;
    go.notify_one();
    assert_eq!(soon(second).await.unwrap().body(), "slow");
    assert_eq!(slow.connections.load(SeqCst), 1);
}

#[tokio::test]
async fn a_request_wakes_an_app_that_sleeps() {
    let balancer = start("");
    let address = balancer.address();
    let asking = tokio::spawn(async move { get(address).await });
    soon(balancer.wanted()).await;
    until("it is seen to wait", || balancer.statistics().waiting == 1).await;
    let backend = Backend::echo("awake").await;
    balancer.replace(vec![backend.replica()]);
    assert_eq!(soon(asking).await.unwrap().body(), "awake");
    assert_eq!(balancer.statistics().waiting, 0);
}

#[tokio::test]
async fn who_waits_for_nobody_is_told_so_in_the_end() {
    let balancer = start("[queue]\ntimeout = '20ms'\nwaiting_max = 1");
    let response = get(balancer.address()).await;
    assert_eq!(
        (response.status(), &response.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
    );
    assert_eq!(response.body(), "app: no replica became ready in time (queue.timeout)\n");
    // Of two that wait at a time, one is too many.
    let balancer = start("[queue]\nwaiting_max = 1");
    let address = balancer.address();
    let waiting = tokio::spawn(async move { get(address).await });
    until("one waits", || balancer.statistics().waiting == 1).await;
    assert_eq!(get(address).await.headers()["x-balancer-reason"], "queue-full");
    waiting.abort();
    until("who left waits no longer", || balancer.statistics().waiting == 0).await;
}

#[tokio::test]
async fn a_replica_that_says_nothing_is_late() {
    let silent = Backend::start("silent", |_: Request<Incoming>| std::future::pending()).await;
    let balancer = start("[timeouts]\nresponse = '30ms'\n[retries]\nattempts = 0");
    balancer.replace(vec![silent.replica()]);
    let response = get(balancer.address()).await;
    assert_eq!(
        (response.status(), &response.headers()["x-balancer-reason"]),
        (StatusCode::GATEWAY_TIMEOUT, &"late".parse().unwrap())
    );
    until("its connection is closed", || silent.open.load(SeqCst) == 0).await;
}

/// Connections that lay there and were closed by the replica cost no request, not even one that may not be sent twice.
#[tokio::test]
async fn a_replica_that_was_started_anew_costs_nothing() {
    let first = Backend::echo("first").await;
    let balancer = start("[retries]\nattempts = 0");
    balancer.replace(vec![first.replica()]);
    assert_eq!(client::send(balancer.address(), request("POST", "x")).await.body(), "first");
    first.kill().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let _second = Backend::start_at("second", first.address, {
        let asked = Arc::clone(&asked);
        move |_: Request<Incoming>| {
            asked.fetch_add(1, SeqCst);
            async { Some(answer(200, "second")) }
        }
    })
    .await;
    assert_eq!(client::send(balancer.address(), request("POST", "x")).await.body(), "second");
    assert_eq!(asked.load(SeqCst), 1);
}
