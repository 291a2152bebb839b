//! Ctrl-C and SIGTERM: the first asks, the second hastens, the third ends the process where it stands.

use std::{
    future::Future,
    io,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::output::say;

/// One wish may arrive as several signals: from the terminal, and from a wrapper that passes its own on. The bundled frameworks
/// reckon alike.
const SAME_SIGNAL: Duration = Duration::from_millis(300);

/// How often the process has been asked to end.
#[derive(Debug, Clone)]
pub(crate) struct Signals(watch::Receiver<u32>);

impl Signals {
    /// Takes over SIGINT and SIGTERM from here on.
    pub(crate) fn listen() -> io::Result<Signals> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (asked, receiver) = watch::channel(0);
        tokio::spawn(async move {
            let mut last: Option<Instant> = None;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if last.replace(Instant::now()).is_some_and(|last| last.elapsed() < SAME_SIGNAL) {
                    continue;
                }
                asked.send_modify(|times| *times += 1);
                if *asked.borrow() > 2 {
                    say("ended at once, without taking down what was started");
                    std::process::exit(130);
                }
            }
        });
        Ok(Signals(receiver))
    }

    /// Resolves when the process has been asked to end.
    pub(crate) fn asked(&self) -> impl Future<Output = ()> + Send + use<> {
        self.times(1)
    }

    /// Resolves when the process has been asked a second time.
    pub(crate) fn hastened(&self) -> impl Future<Output = ()> + Send + use<> {
        self.times(2)
    }

    fn times(&self, least: u32) -> impl Future<Output = ()> + Send + use<> {
        let mut receiver = self.0.clone();
        async move {
            // The sender lives as long as the runtime; without it nobody can ask any more.
            if receiver.wait_for(|times| *times >= least).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
