//! Clients that are slow, wrong or hostile: they get an answer or are cut off, and nobody else notices.

use apportion_service::balancer::Balancer;
use http_body_util::BodyExt;
use hyper::{Request, body::Incoming};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    backend::{Backend, answer, body},
    client::{get, http2, raw, whole},
    soon, start, until,
};

/// Whoever came before: the next one is served, and nothing is left of the others.
async fn is_well(balancer: &Balancer) {
    assert_eq!(get(balancer.address()).await.body(), "a");
    until("nobody is left", || {
        let statistics = balancer.statistics();
        statistics.clients == 0 && statistics.replicas.iter().all(|replica| replica.in_flight == 0)
    })
    .await;
}

#[tokio::test]
async fn malformed_input_is_refused() {
    let backend = Backend::echo("a").await;
    let balancer = start("[timeouts]\nheader = '200ms'\nbody = '200ms'");
    balancer.replace(vec![backend.replica()]);
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(500));
    for (input, status) in [
        (&b"\0\x01\x02\xff\xfe\r\n\r\n"[..], "400"),
        (b"GET / HTTP/9.9\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", "400"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "400"),
        (b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "405"),
        (large.as_bytes(), "431"),
        (many.as_bytes(), "431"),
    ] {
        let answer = raw(balancer.address(), input).await;
        let start = format!("HTTP/1.1 {status}");
        // One that sends more than is read may be reset before it has read the answer.
        let cut_off = answer.is_empty() && input.len() > 100_000;
        assert!(
            answer.starts_with(&start) || cut_off,
            "{} got {answer}",
            String::from_utf8_lossy(&input[..input.len().min(60)])
        );
    }
    // HTTP/2 that is none.
    raw(balancer.address(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nthis is no frame at all").await;
    is_well(&balancer).await;
    assert_eq!(backend.count(), 1, "none of it reached a replica");
}

/// A second request hidden in the first: whatever the balancer takes for the body, the replica takes for the body as well.
#[tokio::test]
async fn nothing_is_smuggled() {
    let backend = Backend::start("a", |request: Request<Incoming>| async move {
        let path = request.uri().path().to_owned();
        request.into_body().collect().await.ok()?;
        Some(answer(200, if path == "/hidden" { "smuggled" } else { "a" }))
    })
    .await;
    let balancer = start("[timeouts]\nheader = '200ms'\nbody = '200ms'");
    balancer.replace(vec![backend.replica()]);
    for head in [
        "content-length: 6\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\nconnection: transfer-encoding",
        "content-length: 40\r\nconnection: content-length",
        "transfer-encoding: xchunked",
    ] {
        let input = format!(
            "POST / HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"
        );
        let answers = raw(balancer.address(), input.as_bytes()).await;
        // A request after the first is one of the client's own; what the replica got in one connection must be what was counted.
        let counted = balancer.statistics().replica("a").unwrap().requests;
        assert_eq!(backend.count() as u64, counted, "{head}: {answers}");
    }
    is_well(&balancer).await;
}

#[tokio::test]
async fn a_client_that_dawdles_is_cut_off() {
    let backend = Backend::echo("a").await;
    let balancer = start("[timeouts]\nheader = '50ms'\nbody = '50ms'");
    balancer.replace(vec![backend.replica()]);
    for input in ["", "P", "PRI * HT", "GET / HTTP/1.1\r\nhost:", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(balancer.address()).await.unwrap();
        stream.write_all(input.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = soon(stream.read_to_end(&mut rest)).await;
    }
    // A body that stops half way, of a request that is kept until it is whole, and of one that is passed on.
    for (method, status) in [("PUT", "408"), ("POST", "400")] {
        let input = format!("{method} / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf");
        let answer = raw(balancer.address(), input.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method}: {answer}");
    }
    is_well(&balancer).await;
}

/// A stream of HTTP/2 whose window stays shut, on a connection that is well.
#[tokio::test]
async fn a_client_that_takes_nothing_holds_no_replica() {
    let backend = Backend::start("a", |request: Request<Incoming>| async move {
        let large = request.uri().path() == "/large";
        Some(answer(200, &if large { "x".repeat(8_000_000) } else { "a".to_owned() }))
    })
    .await;
    let balancer = start("[timeouts]\nbody = '200ms'");
    balancer.replace(vec![backend.replica()]);
    let mut sender = http2(balancer.address()).await;
    let mut get = |path: &str| {
        sender.send_request(Request::get(format!("http://app.example{path}")).body(body("")).unwrap())
    };
    let stalled = soon(get("/large")).await.unwrap();
    until("its place is free", || balancer.statistics().replica("a").unwrap().in_flight == 0).await;
    assert_eq!(whole(soon(get("/")).await.unwrap()).await.body(), "a");
    assert!(soon(stalled.into_body().collect()).await.is_err(), "it was cut off");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let silent = Backend::start("silent", |_: Request<Incoming>| std::future::pending()).await;
    let balancer = start("");
    balancer.replace(vec![silent.replica()]);
    let mut stream = TcpStream::connect(balancer.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let in_flight = || balancer.statistics().replica("silent").unwrap().in_flight;
    until("it is asked", || in_flight() == 1 && silent.count() == 1).await;
    drop(stream);
    until("it is forgotten", || in_flight() == 0).await;
}

#[tokio::test]
async fn no_more_clients_than_may_be() {
    let backend = Backend::echo("a").await;
    let balancer = start("[limits]\nclients_max = 2");
    balancer.replace(vec![backend.replica()]);
    let first = TcpStream::connect(balancer.address()).await.unwrap();
    let _second = TcpStream::connect(balancer.address()).await.unwrap();
    until("both are there", || balancer.statistics().clients == 2).await;
    let address = balancer.address();
    let third = tokio::spawn(async move { get(address).await });
    assert_eq!(balancer.statistics().clients, 2);
    drop(first);
    assert_eq!(soon(third).await.unwrap().body(), "a");
}
