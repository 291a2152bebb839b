//! Connections.

use apportion_service::balancer::Replica;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{soon, start, until};

/// A server that reads until the client has said all, and only then says its name and what it heard.
async fn listener(name: &'static str) -> Replica {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).await.unwrap();
                stream.write_all(name.as_bytes()).await.unwrap();
                stream.write_all(&heard).await.unwrap();
            });
        }
    });
    Replica::new(name, address)
}

async fn say(stream: &mut TcpStream, words: &[u8]) -> Vec<u8> {
    stream.write_all(words).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    soon(stream.read_to_end(&mut heard)).await.unwrap();
    heard
}

#[tokio::test]
async fn half_of_a_connection_closes_and_the_other_half_stays() {
    let balancer = start("kind = 'l4'");
    balancer.replace(vec![listener("a").await, listener("b").await]);
    let mut names = Vec::new();
    let words = vec![b'x'; 500_000];
    for _ in 0..4 {
        let mut stream = TcpStream::connect(balancer.address()).await.unwrap();
        let heard = say(&mut stream, &words).await;
        assert!(heard[1..] == words);
        names.push(heard[0] as char);
    }
    names.sort();
    assert_eq!(names, ['a', 'a', 'b', 'b']);
}

#[tokio::test]
async fn a_replica_that_refuses_is_passed_over() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let balancer = start("kind = 'l4'");
    balancer.replace(vec![Replica::new("gone", address), listener("a").await]);
    for _ in 0..6 {
        let mut stream = TcpStream::connect(balancer.address()).await.unwrap();
        assert_eq!(say(&mut stream, b"hello").await, b"ahello");
    }
    assert!(balancer.statistics().replica("gone").unwrap().failures > 0);
}

#[tokio::test]
async fn a_connection_outlives_the_drain_of_its_replica_and_then_no_longer() {
    let balancer = start("kind = 'l4'\n[timeouts]\ndrain = '300ms'");
    let replica = listener("a").await;
    balancer.replace(vec![replica.clone()]);
    let mut stream = TcpStream::connect(balancer.address()).await.unwrap();
    let in_flight = || balancer.statistics().replica("a").map_or(0, |replica| replica.in_flight);
    until("it is connected", || in_flight() == 1).await;
    balancer.replace(vec![]);
    assert_eq!(in_flight(), 1, "it may finish");
    // It does not, and is cut off.
    soon(balancer.drained("a")).await;
    let mut rest = Vec::new();
    let _ = soon(stream.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
    until("nothing of it is left", || balancer.statistics().replicas.is_empty()).await;
}
