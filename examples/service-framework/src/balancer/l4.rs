//! Connections: each is joined to one with a replica, byte by byte, until both sides have said all.
//!
//! A side that has said all closes its half; the other half stays open, as `copy_bidirectional` does it.

use std::{net::SocketAddr, sync::Arc};

use tokio::{io::copy_bidirectional, net::TcpStream};

use super::{
    headers,
    pick::Worker,
    pool::{self, Permit},
    replica::Ticket,
    reply::Reason,
};

/// Serves a client's connection to its end. There is nobody to whom a failure could be said: the connection is closed.
pub(super) async fn serve(worker: &Worker, mut client: TcpStream, address: SocketAddr) {
    let app = &worker.app;
    worker.count(app.clock.second());
    let (ticket, mut replica, _permit) = match join(worker, address).await {
        Ok(joined) => joined,
        Err(reason) => {
            app.refused[reason as usize].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return;
        }
    };
    ticket.answered();
    ticket.succeeded();
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut replica) => {}
        () = ticket.endpoint.gone.cancelled() => {}
    }
}

async fn join(worker: &Worker, address: SocketAddr) -> Result<(Ticket, TcpStream, Permit), Reason> {
    let app = &worker.app;
    let key = headers::client_key(address.ip());
    let mut tried = Vec::new();
    loop {
        let ticket = worker.place(key, &tried).await?;
        let permit = Permit::try_take(&ticket.endpoint).ok_or(Reason::CircuitOpen)?;
        // Nothing was sent to it yet, so another one is as good.
        match pool::connect(app, &ticket.endpoint).await {
            Ok(replica) => return Ok((ticket, replica, permit)),
            Err(_) => ticket.failed(),
        }
        if tried.len() >= app.config.retries.attempts as usize || !worker.may_retry() {
            return Err(Reason::Unreachable);
        }
        ticket.endpoint.retries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        tried.push(Arc::clone(&ticket.endpoint));
    }
}
