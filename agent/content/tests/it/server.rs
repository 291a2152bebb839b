//! A server over HTTP that does as it is told: cuts off, counts, asks who it is.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
};

use apportion_content::Digest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::layout::Layout;

#[derive(Default)]
struct Shared {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// How many bytes of a path are given before the connection breaks, each time.
    cuts: Mutex<BTreeMap<String, Vec<usize>>>,
    /// Paths, and from where on, in the order in which they were asked for.
    requests: Mutex<Vec<(String, Option<u64>)>>,
    /// What a client must have to get anything but a token.
    token: Mutex<Option<String>>,
    /// What a client must say of itself to get a token.
    password: Mutex<Option<String>>,
}

pub struct Server {
    pub address: String,
    shared: Arc<Shared>,
    open: watch::Sender<bool>,
}

impl Server {
    pub async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared::default());
        let (open, gate) = watch::channel(true);
        tokio::spawn({
            let (shared, address) = (shared.clone(), address.clone());
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (shared, address, gate) = (shared.clone(), address.clone(), gate.clone());
                    tokio::spawn(async move { serve(stream, &shared, &address, gate).await });
                }
            }
        });
        Server { address, shared, open }
    }

    pub fn put(&self, path: &str, bytes: &[u8]) {
        self.shared.files.lock().unwrap().insert(path.to_owned(), bytes.to_vec());
    }

    /// Serves a layout's image as the tag of a repository.
    pub fn image(&self, layout: &Layout, repository: &str, tag: &str, manifest: Digest) {
        let bytes = fs::read(layout.blob(&manifest)).unwrap();
        self.put(&format!("/v2/{repository}/manifests/{tag}"), &bytes);
        self.put(&format!("/v2/{repository}/manifests/{manifest}"), &bytes);
        for entry in fs::read_dir(layout.path.join("blobs/sha256")).unwrap() {
            let (name, bytes) =
                entry.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).unwrap();
            self.put(&format!("/v2/{repository}/blobs/sha256:{}", name.to_str().unwrap()), &bytes);
        }
    }

    pub fn cut(&self, path: &str, after: &[usize]) {
        self.shared.cuts.lock().unwrap().insert(path.to_owned(), after.to_vec());
    }

    pub fn require(&self, token: &str, password: &str) {
        *self.shared.token.lock().unwrap() = Some(token.to_owned());
        *self.shared.password.lock().unwrap() = Some(password.to_owned());
    }

    /// Keeps answers of blobs back, or lets them go.
    pub fn hold(&self, held: bool) {
        self.open.send_replace(!held);
    }

    /// From where on a path was asked for, each time.
    pub fn requests(&self, path: &str) -> Vec<Option<u64>> {
        let requests = self.shared.requests.lock().unwrap();
        requests.iter().filter(|(asked, _)| asked == path).map(|(_, from)| *from).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    shared: &Shared,
    address: &str,
    mut gate: watch::Receiver<bool>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1)?.to_owned();
    let path = target.split('?').next()?.to_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            line.split_once(": ")
                .filter(|(has, _)| has.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
        })
    };
    let from: Option<u64> =
        header("range").and_then(|range| range.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok());
    shared.requests.lock().unwrap().push((path.clone(), from));
    let said = header("authorization").unwrap_or_default();
    if path == "/token" {
        let good = shared
            .password
            .lock()
            .unwrap()
            .clone()
            .is_none_or(|password| said == format!("Basic {password}"));
        let token = shared.token.lock().unwrap().clone().unwrap_or_default();
        let answer = if good { format!("{{\"token\":\"{token}\"}}") } else { String::new() };
        return respond(
            &mut stream,
            if good { "200 OK" } else { "401 No" },
            "",
            answer.as_bytes(),
            answer.len(),
        )
        .await;
    }
    let token = shared.token.lock().unwrap().clone();
    if token.is_some_and(|token| said != format!("Bearer {token}")) {
        let challenge =
            format!("WWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"s\"\r\n");
        return respond(&mut stream, "401 No", &challenge, b"", 0).await;
    }
    if path.contains("/blobs/") {
        gate.wait_for(|open| *open).await.ok()?;
    }
    let Some(bytes) = shared.files.lock().unwrap().get(&path).cloned() else {
        return respond(&mut stream, "404 Not Found", "", b"there is no such thing", 22).await;
    };
    let begin = usize::try_from(from.unwrap_or(0)).unwrap().min(bytes.len());
    let cut = {
        let mut cuts = shared.cuts.lock().unwrap();
        cuts.get_mut(&path).filter(|cuts| !cuts.is_empty()).map(|cuts| cuts.remove(0))
    };
    let given = &bytes[begin..];
    let sent = &given[..cut.unwrap_or(given.len()).min(given.len())];
    let (status, range) = match from {
        Some(from) => {
            ("206 Partial", format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len()))
        }
        None => ("200 OK", String::new()),
    };
    respond(&mut stream, status, &range, sent, given.len()).await
}

async fn respond(
    stream: &mut TcpStream,
    status: &str,
    headers: &str,
    body: &[u8],
    length: usize,
) -> Option<()> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body).await.ok()?;
    stream.shutdown().await.ok()
}
