//! What an agent serves by itself, over a real connection.

// All of this is test code.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use apportion_proto::v1::{ReadFileRequest, ReadFileResponse};
use apportion_types::{TaskState, container::Exit, limits::SANDBOX_READS_MAX};
use support::{world::World, *};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Status, Streaming};

fn request(path: &str) -> ReadFileRequest {
    ReadFileRequest {
        framework_id: "f1".to_owned(),
        task_id: "t1".to_owned(),
        path: path.to_owned(),
        ..ReadFileRequest::default()
    }
}

impl World {
    async fn open(&mut self, request: ReadFileRequest) -> Result<Streaming<ReadFileResponse>, Status> {
        timeout(LONG, self.client.read_file(request)).await.unwrap().map(tonic::Response::into_inner)
    }

    async fn read(&mut self, request: ReadFileRequest) -> Result<(u64, Vec<u8>), Status> {
        let mut chunks = self.open(request).await?;
        let (mut first, mut bytes) = (None, Vec::new());
        while let Some(chunk) = next(&mut chunks).await? {
            let first = *first.get_or_insert(chunk.offset);
            assert_eq!(chunk.offset, first + bytes.len() as u64);
            assert!(chunk.data.len() <= 64 << 10);
            bytes.extend_from_slice(&chunk.data);
        }
        Ok((first.expect("at least one response"), bytes))
    }
}

async fn next(chunks: &mut Streaming<ReadFileResponse>) -> Result<Option<ReadFileResponse>, Status> {
    timeout(LONG, chunks.message()).await.expect("the agent answers")
}

#[tokio::test]
async fn files_are_read_from_where_one_likes() {
    let mut world = World::new().await;
    let bytes: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    fs::write(world.sandbox.join("stdout"), &bytes).unwrap();
    fs::write(world.sandbox.join("empty"), "").unwrap();
    assert_eq!(world.read(request("stdout")).await.unwrap(), (0, bytes.clone()));
    assert_eq!(world.read(request("empty")).await.unwrap(), (0, Vec::new()));
    for (offset, length, first, expected) in [
        (10, Some(5), 10, &bytes[10..15]),
        (-3, None, 199_997, &bytes[199_997..]),
        (-300_000, Some(2), 0, &bytes[..2]),
        (199_999, Some(10), 199_999, &bytes[199_999..]),
        (300_000, None, 300_000, &[]),
        (0, Some(0), 0, &[]),
    ] {
        let read = world.read(ReadFileRequest { offset, length, ..request("stdout") }).await.unwrap();
        assert_eq!(read, (first, expected.to_vec()), "{offset} {length:?}");
    }
    world.agent.end().await.unwrap();
}

#[tokio::test]
async fn what_is_not_the_tasks_is_not_read() {
    let mut world = World::new().await;
    fs::write(world.sandbox.join("stdout"), "out").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", world.sandbox.join("link")).unwrap();
    for path in ["../../../../log", "/etc/passwd", "link", "tmp", ""] {
        let status = world.read(request(path)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status}");
        assert!(status.message().contains(path), "{status}");
    }
    assert_eq!(world.read(request("nothing")).await.unwrap_err().code(), Code::NotFound);
    for (framework, task, code) in [
        ("f1", "t2", Code::NotFound),
        ("f2", "t1", Code::NotFound),
        ("..", "t1", Code::InvalidArgument),
        ("f1", "../f1/t1", Code::InvalidArgument),
        ("", "t1", Code::InvalidArgument),
    ] {
        let request = ReadFileRequest {
            framework_id: framework.to_owned(),
            task_id: task.to_owned(),
            ..request("stdout")
        };
        let status = world.read(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{framework} {task}: {status}");
    }
    world.agent.end().await.unwrap();
}

#[tokio::test]
async fn a_file_is_followed_until_its_task_has_ended() {
    let mut world = World::new().await;
    let path = world.sandbox.join("stdout");
    fs::write(&path, "").unwrap();
    let mut chunks = world.open(ReadFileRequest { follow: true, ..request("stdout") }).await.unwrap();
    assert_eq!(next(&mut chunks).await.unwrap().unwrap(), ReadFileResponse::default());
    fs::write(&path, "one ").unwrap();
    let chunk = next(&mut chunks).await.unwrap().unwrap();
    assert_eq!((chunk.offset, &chunk.data[..]), (0, &b"one "[..]));
    fs::write(&path, "one two").unwrap();
    world.fake.end(&world.id, Exit::Code(0));
    let chunk = next(&mut chunks).await.unwrap().unwrap();
    assert_eq!((chunk.offset, &chunk.data[..]), (4, &b"two"[..]));
    assert_eq!(next(&mut chunks).await.unwrap(), None);
    // Also once the agent has forgotten the task.
    world.stream.until("t1", TaskState::Finished).await;
    let read = world.read(ReadFileRequest { follow: true, ..request("stdout") }).await.unwrap();
    assert_eq!(read, (0, b"one two".to_vec()));
    // A reader of so many bytes is not kept waiting for more.
    let bounded = ReadFileRequest { follow: true, length: Some(3), ..request("stdout") };
    assert_eq!(world.read(bounded).await.unwrap(), (0, b"one".to_vec()));
    world.agent.end().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_ends_does_not_wait_for_followers() {
    let mut world = World::new().await;
    fs::write(world.sandbox.join("stdout"), "").unwrap();
    let mut chunks = world.open(ReadFileRequest { follow: true, ..request("stdout") }).await.unwrap();
    next(&mut chunks).await.unwrap();
    world.agent.end().await.unwrap();
    assert!(!matches!(next(&mut chunks).await, Ok(Some(_))));
}

#[tokio::test]
async fn readers_are_so_many_and_no_more() {
    let mut world = World::new().await;
    fs::write(world.sandbox.join("stdout"), "").unwrap();
    let followed = || ReadFileRequest { follow: true, ..request("stdout") };
    let mut readers = Vec::new();
    for _ in 0..SANDBOX_READS_MAX {
        readers.push(world.open(followed()).await.unwrap());
    }
    let status = world.open(followed()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    readers.pop();
    loop {
        // The agent hears of the end of a stream in its own time.
        match world.open(followed()).await {
            Ok(_) => break,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
        }
    }
    world.agent.end().await.unwrap();
}

async fn get(address: &str, path: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    timeout(LONG, connection.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

#[tokio::test]
async fn health_and_metrics_are_served_on_the_same_port() {
    let world = World::new().await;
    let healthz = get(&world.agent.address, "/healthz").await;
    assert!(
        healthz.starts_with("HTTP/1.1 200") && healthz.contains("registered with master m1"),
        "{healthz}"
    );
    let metrics = get(&world.agent.address, "/metrics").await;
    assert!(metrics.contains("apportion_agent_tasks{state=\"running\"} 1"), "{metrics}");
    assert!(metrics.contains("apportion_agent_launches_total 1"), "{metrics}");
    assert!(get(&world.agent.address, "/nothing").await.starts_with("HTTP/1.1 404"));
    world.agent.end().await.unwrap();
}
