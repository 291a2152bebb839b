//! What is passed on, over each protocol.

use std::{collections::BTreeMap, sync::atomic::Ordering::SeqCst, time::Duration};

use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode, Version,
    body::{Bytes, Frame, Incoming},
};

use crate::{
    backend::{Backend, answer, body},
    client::{self, get, request, whole},
    soon, start, until,
};

#[tokio::test]
async fn requests_of_one_connection_take_turns() {
    let (a, b) = (Backend::echo("a").await, Backend::echo("b").await);
    let balancer = start("");
    balancer.replace(vec![a.replica(), b.replica()]);
    let mut sender = client::http1(balancer.address()).await;
    let mut counts = BTreeMap::new();
    for _ in 0..20 {
        soon(sender.ready()).await.unwrap();
        let response = whole(soon(sender.send_request(request("GET", ""))).await.unwrap()).await;
        *counts.entry(response.into_body()).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("a".to_owned(), 10), ("b".to_owned(), 10)]));
    assert_eq!((a.connections.load(SeqCst), b.connections.load(SeqCst)), (1, 1), "connections are kept");
    let statistics = balancer.statistics();
    assert_eq!((statistics.requests, statistics.replica("a").unwrap().requests), (20, 10));
    until("nothing is under way", || {
        balancer.statistics().replicas.iter().all(|replica| replica.in_flight == 0)
    })
    .await;
}

#[tokio::test]
async fn a_replica_sees_for_whom_it_works() {
    let backend = Backend::start("a", |request: Request<Incoming>| async move {
        let names = ["host", "x-forwarded-for", "x-forwarded-proto", "via", "connection", "x-secret"];
        let text = |name: &&str| {
            request.headers().get(*name).map(|value| format!("{name}={}", value.to_str().unwrap()))
        };
        let mut answer = answer(200, &names.iter().filter_map(text).collect::<Vec<_>>().join(" "));
        answer.headers_mut().insert("connection", "x-own".parse().unwrap());
        answer.headers_mut().insert("x-own", "1".parse().unwrap());
        Some(answer)
    })
    .await;
    let balancer = start("");
    balancer.replace(vec![backend.replica()]);
    let mut request = request("GET", "");
    request.headers_mut().insert("connection", "x-secret".parse().unwrap());
    request.headers_mut().insert("x-secret", "1".parse().unwrap());
    let response = client::send(balancer.address(), request).await;
    assert_eq!(
        response.body(),
        "host=app.example x-forwarded-for=127.0.0.1 x-forwarded-proto=http via=1.1 balancer"
    );
    assert!(!response.headers().contains_key("x-own"));
}

/// Large bodies in both directions, of known and of unknown length.
#[tokio::test]
async fn bodies_pass_whole() {
    let backend = Backend::start("a", |request: Request<Incoming>| async move {
        Some(Response::new(request.into_body().boxed()))
    })
    .await;
    let balancer = start("");
    balancer.replace(vec![backend.replica()]);
    let bytes: Vec<u8> = (0..3_000_000u32).map(|place| (place % 251) as u8).collect();
    let known = Full::new(Bytes::from(bytes.clone())).boxed();
    let pieces: Vec<_> =
        bytes.chunks(70_000).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
    let unknown = BodyExt::boxed(StreamBody::new(tokio_stream::iter(pieces)));
    for body in [known, unknown] {
        let mut sender = client::http1(balancer.address()).await;
        let request = Request::post("/").header("host", "x").body(body).unwrap();
        let response = soon(sender.send_request(request)).await.unwrap();
        let got = soon(response.into_body().collect()).await.unwrap().to_bytes();
        assert!(got == bytes, "{} of {} bytes", got.len(), bytes.len());
    }
}

#[tokio::test]
async fn a_head_and_nothing_pass_without_a_body() {
    let backend = Backend::start("a", |request: Request<Incoming>| async move {
        Some(if request.method() == "HEAD" { answer(200, "not sent") } else { answer(204, "") })
    })
    .await;
    let balancer = start("");
    balancer.replace(vec![backend.replica()]);
    let head = client::send(balancer.address(), request("HEAD", "")).await;
    assert_eq!((head.headers()["content-length"].to_str().unwrap(), head.body().as_str()), ("8", ""));
    assert_eq!(get(balancer.address()).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(backend.connections.load(SeqCst), 1);
}

#[tokio::test]
async fn http2_clients_reach_http1_replicas() {
    let backend = Backend::start("a", |request: Request<Incoming>| async move {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        Some(answer(200, &format!("{:?} {host} {}", request.version(), request.uri())))
    })
    .await;
    let balancer = start("");
    balancer.replace(vec![backend.replica()]);
    let mut sender = client::http2(balancer.address()).await;
    let get = |path: &str| Request::get(format!("http://app.example{path}")).body(body("")).unwrap();
    let answers = (0..20).map(|_| sender.send_request(get("/x?y"))).collect::<Vec<_>>();
    for answer in answers {
        let answer = whole(soon(answer).await.unwrap()).await;
        assert_eq!(
            (answer.version(), answer.body().as_str()),
            (Version::HTTP_2, "HTTP/1.1 app.example /x?y")
        );
    }
}

#[tokio::test]
async fn http1_clients_reach_http2_replicas() {
    let backend = Backend::start("a", |request: Request<Incoming>| async move {
        Some(answer(200, &format!("{:?} {}", request.version(), request.uri())))
    })
    .await;
    let balancer = start("replica_protocol = 'http2'");
    balancer.replace(vec![backend.replica()]);
    for _ in 0..3 {
        assert_eq!(get(balancer.address()).await.body(), "HTTP/2.0 http://app.example/");
    }
    assert_eq!(backend.connections.load(SeqCst), 1, "one connection is for all");
}

/// A call of gRPC: HTTP/2 to the replica although nobody said so, and its status is in trailers.
#[tokio::test]
async fn grpc_has_its_trailers() {
    let backend = Backend::start("a", |request: Request<Incoming>| async move {
        let grpc = request.version() == Version::HTTP_2 && request.headers()["te"] == "trailers";
        let message = request.into_body().collect().await.unwrap().to_bytes();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", if grpc { "0" } else { "13" }.parse().unwrap());
        let frames = vec![Ok(Frame::data(message)), Ok(Frame::trailers(trailers))];
        let body = BodyExt::boxed(StreamBody::new(tokio_stream::iter(frames)));
        Some(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
    })
    .await;
    let balancer = start("");
    balancer.replace(vec![backend.replica()]);
    let mut sender = client::http2(balancer.address()).await;
    let call = Request::post("http://app.example/pkg.Service/Method")
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(body(&b"\0\0\0\0\x02hi"[..]))
        .unwrap();
    let collected = soon(soon(sender.send_request(call)).await.unwrap().into_body().collect()).await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), &b"\0\0\0\0\x02hi"[..]);
}

/// What a WebSocket does: a handshake of HTTP/1, and then bytes both ways until one side closes.
#[tokio::test]
async fn an_upgraded_connection_is_a_tunnel() {
    let backend = Backend::reversing("a").await;
    let balancer = start("");
    balancer.replace(vec![backend.replica()]);
    let mut tunnel = client::Tunnel::open(balancer.address()).await;
    for word in ["abcd", "1234"] {
        assert_eq!(tunnel.say(word).await, word.chars().rev().collect::<String>());
    }
    let statistics = balancer.statistics();
    let places = (statistics.clients, statistics.replica("a").unwrap().in_flight);
    assert_eq!(places, (1, 1), "it has both until it ends");
    drop(tunnel);
    until("the tunnel has ended", || {
        let statistics = balancer.statistics();
        statistics.clients == 0 && statistics.replica("a").unwrap().in_flight == 0
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_may_finish_when_its_listener_ends() {
    let backend = Backend::reversing("a").await;
    let balancer = std::sync::Arc::new(start("workers = 2"));
    balancer.replace(vec![backend.replica()]);
    let address = balancer.address();
    let (mut finishes, mut stays) =
        (client::Tunnel::open(address).await, client::Tunnel::open(address).await);
    let ending = tokio::spawn({
        let balancer = std::sync::Arc::clone(&balancer);
        async move { balancer.shutdown(crate::LONG).await }
    });
    until("nobody listens", || std::net::TcpStream::connect(address).is_err()).await;
    assert_eq!((finishes.say("abcd").await, stays.say("1234").await), ("dcba".to_owned(), "4321".to_owned()));
    drop(finishes);
    until("one is left", || balancer.statistics().clients == 1).await;
    assert_eq!(stays.say("abcd").await, "dcba");
    drop(stays);
    assert!(soon(ending).await.unwrap(), "everybody could finish");
}

#[tokio::test]
async fn a_tunnel_that_does_not_finish_is_cut() {
    let backend = Backend::reversing("a").await;
    let balancer = start("");
    balancer.replace(vec![backend.replica()]);
    let mut tunnel = client::Tunnel::open(balancer.address()).await;
    assert!(!soon(balancer.shutdown(Duration::from_millis(1))).await);
    tunnel.is_cut().await;
    assert_eq!(balancer.statistics().clients, 0);
}

#[tokio::test]
async fn a_cookie_sticks_to_its_replica() {
    let backends = [Backend::echo("a").await, Backend::echo("b").await, Backend::echo("c").await];
    let balancer = start("policy = 'ring-hash'\nhash_on = { cookie = 'id' }\nworkers = 2");
    balancer.replace(backends.iter().map(Backend::replica).collect());
    let mut seen = BTreeMap::new();
    for round in 0..3 {
        for user in 0..20 {
            let mut request = request("GET", "");
            request.headers_mut().insert("cookie", format!("x=y; id={user}").parse().unwrap());
            let replica = client::send(balancer.address(), request).await.into_body();
            let first = seen.entry(user).or_insert_with(|| replica.clone());
            assert_eq!(*first, replica, "user {user} in round {round}");
        }
    }
    assert!(backends.iter().all(|backend| backend.count() > 0));
}

#[tokio::test]
async fn metrics_are_of_apps_and_replicas() {
    let backend = Backend::echo("a").await;
    let balancer = start("");
    balancer.replace(vec![backend.replica()]);
    get(balancer.address()).await;
    let page = apportion_service::balancer::metrics::page([&balancer.statistics()]);
    for line in [
        "apportion_balancer_requests_total{app=\"app\"} 1",
        "apportion_balancer_replica_requests_total{app=\"app\",replica=\"a\"} 1",
        "apportion_balancer_replica_ready{app=\"app\",replica=\"a\"} 1",
        "apportion_balancer_refused_total{app=\"app\",reason=\"no-replica\"} 0",
        "apportion_balancer_replica_latency_seconds_count{app=\"app\",replica=\"a\"} 1",
        "apportion_balancer_replica_latency_seconds_bucket{le=\"10.0\",app=\"app\",replica=\"a\"} 1",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    assert!(soon(balancer.shutdown(Duration::from_secs(20))).await);
}
