//! Connections to an executor's socket: few at a time, whoever in its container makes them.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::{
    Server,
    server::{Connected, UdsConnectInfo},
};

use super::{rpc::Rpc, service::Service};

/// Connections of one container: an executor has one, and a second for a moment. More wait until one of these ends.
const CONNECTIONS_MAX: usize = 4;

/// A connection on which nothing is heard for so long is asked for a sign of life, and given so long again to give one.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Bytes of the headers of a call; those of an executor are far below.
const HEADER_BYTES_MAX: u32 = 8 << 10;

/// A pause after a connection that could not be taken, for want of descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is over, and ends all connections then.
pub(super) fn serve(listener: UnixListener, service: Service, over: CancellationToken) {
    let (accepted, connections) = mpsc::channel(1);
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        // What each has decoded at once is memory of the agent's.
        .max_concurrent_streams(1)
        .add_service(Rpc(Arc::new(service)))
        .serve_with_incoming(ReceiverStream::new(connections));
    tokio::spawn(async move {
        let accepting = accept(listener, accepted, over.clone());
        tokio::select! {
            () = over.cancelled() => {}
            () = accepting => {}
            // It ends with its connections, which end when no more are accepted.
            _ = serving => {}
        }
    });
}

async fn accept(
    listener: UnixListener,
    accepted: mpsc::Sender<io::Result<Connection>>,
    over: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection =
                    Connection { stream, over: Box::pin(over.clone().cancelled_owned()), _place: place };
                if accepted.send(Ok(connection)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection of an executor cannot be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that holds its place, and breaks when its executor is over.
struct Connection {
    stream: UnixStream,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
