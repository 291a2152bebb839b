//! Active checks: a replica is asked now and then, on a connection of its own, as a client would ask.

use std::{sync::Arc, time::Duration};

use http_body_util::Empty;
use hyper::{Request, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{
    app::App,
    config::{Active, Kind},
    replica::{Checked, Endpoint},
};

/// Counts answers in a row: when a replica is up, and when it is down.
#[derive(Debug)]
pub(super) struct Thresholds {
    rise: u32,
    fall: u32,
    state: Checked,
    /// Answers in a row that speak against the state.
    against: u32,
}

impl Thresholds {
    pub(super) fn new(rise: u32, fall: u32) -> Self {
        Self { rise, fall, state: Checked::Unknown, against: 0 }
    }

    /// An answer came, good or bad.
    pub(super) fn answer(&mut self, good: bool) -> Checked {
        let (against, needed, then) = match self.state {
            Checked::Unknown => (true, 1, if good { Checked::Up } else { Checked::Down }),
            Checked::Up => (!good, self.fall, Checked::Down),
            Checked::Down => (good, self.rise, Checked::Up),
        };
        self.against = if against { self.against + 1 } else { 0 };
        if self.against >= needed {
            (self.state, self.against) = (then, 0);
        }
        self.state
    }
}

/// Asks a replica until it is gone.
pub(super) async fn watch(app: Arc<App>, endpoint: Arc<Endpoint>, active: Active) {
    let mut thresholds = Thresholds::new(active.rise, active.fall);
    let asking = async {
        loop {
            let good = timeout(active.timeout, ask(&app, &endpoint, &active.path)).await == Ok(Some(()));
            if endpoint.set_checked(thresholds.answer(good)) {
                app.refresh();
            }
            // A replica that is new and not up yet is waited for.
            let soon = endpoint.checked() != Checked::Up && app.ready().endpoints.is_empty();
            let pause = if soon { active.interval.min(Duration::from_millis(100)) } else { active.interval };
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = asking => {}
        () = endpoint.gone.cancelled() => {}
    }
}

async fn ask(app: &App, endpoint: &Endpoint, path: &str) -> Option<()> {
    let stream = TcpStream::connect(endpoint.address).await.ok()?;
    if app.config.kind == Kind::L4 {
        return Some(());
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get(path)
        .header(HOST, endpoint.address.to_string())
        .header("user-agent", "balancer-check")
        .body(Empty::<Bytes>::new())
        .ok()?;
    // Ends when the sender is dropped, which also a time-out does.
    tokio::spawn(connection);
    let status = sender.send_request(request).await.ok()?.status();
    (status.is_success() || status.is_redirection()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_decides_and_later_ones_must_agree() {
        let mut thresholds = Thresholds::new(2, 3);
        let answers = [true, false, false, true, false, false, false, true, false, true, true];
        let states: Vec<bool> = answers.iter().map(|good| thresholds.answer(*good) == Checked::Up).collect();
        assert_eq!(states, [true, true, true, true, true, true, false, false, false, false, true]);
        assert_eq!(Thresholds::new(2, 3).answer(false), Checked::Down);
    }
}
