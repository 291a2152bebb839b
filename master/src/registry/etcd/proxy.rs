//! A network between a client and etcd that fails when it is told to.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
};

/// What is to happen to the next message that a client sends, its answer with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fails {
    /// It gets to etcd, and the answer nowhere.
    Answer,
    /// It gets nowhere.
    Request,
    /// It is on its way still when the connection has long been cut: [`Proxy::deliver`] has it arrive.
    Late,
}

/// A proxy in front of one member.
pub(super) struct Proxy {
    pub(super) address: String,
    fails: Arc<Mutex<Option<Fails>>>,
    late: mpsc::UnboundedReceiver<Late>,
}

/// A message that is on its way, and where to.
struct Late {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    bytes: Vec<u8>,
}

impl Proxy {
    pub(super) async fn start(member: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let fails = Arc::new(Mutex::new(None));
        let (sender, late) = mpsc::unbounded_channel();
        let shared = Arc::clone(&fails);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let etcd = TcpStream::connect(&member).await.unwrap();
                tokio::spawn(pass(client, etcd, Arc::clone(&shared), sender.clone()));
            }
        });
        Proxy { address, fails, late }
    }

    /// The next message of a client fails so.
    pub(super) fn fail(&self, how: Fails) {
        *self.fails.lock().unwrap() = Some(how);
    }

    /// True once it has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.fails.lock().unwrap().is_none()
    }

    /// Has the late message arrive, and returns when etcd has answered it.
    pub(super) async fn deliver(&mut self) {
        let mut late = self.late.recv().await.unwrap();
        late.to.write_all(&late.bytes).await.unwrap();
        answered(&mut late.from).await;
    }
}

/// Reads frames until one has data in it, which is an answer.
async fn answered(from: &mut OwnedReadHalf) {
    loop {
        let mut head = [0; 9];
        from.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut body = vec![0; length as usize];
        from.read_exact(&mut body).await.unwrap();
        if head[3] == 0 {
            return;
        }
    }
}

async fn pass(
    client: TcpStream,
    etcd: TcpStream,
    fails: Arc<Mutex<Option<Fails>>>,
    late: mpsc::UnboundedSender<Late>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_etcd, mut to_etcd) = etcd.into_split();
    let (stop, mut stopped) = oneshot::channel::<()>();
    let back = tokio::spawn(async move {
        let mut bytes = vec![0; 1 << 16];
        loop {
            tokio::select! {
                _ = &mut stopped => return (from_etcd, to_client),
                read = from_etcd.read(&mut bytes) => match read {
                    Ok(read) if read > 0 && to_client.write_all(&bytes[..read]).await.is_ok() => {}
                    _ => return (from_etcd, to_client),
                },
            }
        }
    });
    let mut bytes = vec![0; 1 << 16];
    let how = loop {
        let Ok(read) = from_client.read(&mut bytes).await else { return };
        if read == 0 {
            return;
        }
        // A request has its data in a frame of its own; what is less is of the connection.
        let taken = if is_request(&bytes[..read]) { fails.lock().unwrap().take() } else { None };
        let Some(how) = taken else {
            if to_etcd.write_all(&bytes[..read]).await.is_err() {
                return;
            }
            continue;
        };
        bytes.truncate(read);
        break how;
    };
    drop(stop);
    let (mut from_etcd, to_client) = back.await.unwrap();
    match how {
        Fails::Answer => {
            to_etcd.write_all(&bytes).await.unwrap();
            answered(&mut from_etcd).await;
        }
        Fails::Request => {}
        Fails::Late => late.send(Late { from: from_etcd, to: to_etcd, bytes }).ok().unwrap(),
    }
    drop((from_client, to_client));
}

/// Whether there is data among these frames.
fn is_request(mut bytes: &[u8]) -> bool {
    while let [a, b, c, kind, rest @ ..] = bytes {
        if *kind == 0 {
            return true;
        }
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        // Of the head that is left, and the body.
        bytes = rest.get(5 + length..).unwrap_or_default();
    }
    false
}
