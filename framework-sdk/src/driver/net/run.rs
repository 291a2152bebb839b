//! The loop that lets an engine live on the network.

use std::future::{pending, poll_fn};

use tokio::{sync::mpsc, time::sleep_until};
use tonic::transport::Endpoint;

use super::{
    Outcome,
    clock::Clock,
    handle::Told,
    link::{FromLink, Link},
};
use crate::{
    Scheduler,
    driver::{Action, Config, DriverError, Engine, Input},
};

/// Runs a scheduler until its run ends.
///
/// The scheduler's callbacks run in here, not in a task of their own: their panics unwind through it.
pub(super) async fn run<S: Scheduler>(
    config: Config,
    endpoints: Vec<Endpoint>,
    mut inbox: mpsc::Receiver<Told<S::Message>>,
    scheduler: S,
) -> Result<Outcome<S>, DriverError> {
    let masters = config.masters.clone();
    let clock = Clock::start();
    let mut engine = Engine::new(config, scheduler);
    let dropped = engine.dropped();
    let mut link: Option<Link> = None;
    let mut told_open = true;
    let mut input = Input::Start;
    let mut actions = Vec::new();
    loop {
        let now = clock.now();
        engine.handle(now, input, &mut actions).await;
        for action in actions.drain(..) {
            match action {
                Action::Connect { master } => {
                    tracing::debug!(master = masters[master], "connecting");
                    link = Some(Link::open(endpoints[master].clone(), masters[master].clone()));
                }
                Action::Send { call_id, call } => {
                    if let Some(link) = &mut link {
                        link.send(call_id, call).await;
                    }
                }
                Action::Close => link = None,
                Action::End(end) => {
                    if let Some(link) = link.take() {
                        link.finish().await;
                    }
                    let framework_id = engine.framework_id().cloned();
                    return end.map(|stop| Outcome {
                        scheduler: engine.into_scheduler(),
                        framework_id,
                        stop,
                    });
                }
            }
        }
        engine.busy(clock.now().since(now));
        let deadline = clock.instant(engine.next_deadline());
        let from_link = async {
            match &mut link {
                Some(link) => link.next().await,
                None => pending().await,
            }
        };
        input = tokio::select! {
            from = from_link => from.into(),
            told = inbox.recv(), if told_open => match told {
                Some(Told::Message(message)) => Input::Message(message),
                Some(Told::Stop(stop)) => Input::Stop(stop),
                None => {
                    told_open = false;
                    Input::Tick
                }
            },
            () = poll_fn(|cx| dropped.poll(cx)) => Input::Tick,
            // What has come already goes before a deadline: it may be about the silence that this ends.
            () = sleep_until(deadline) => match link.as_mut().and_then(Link::try_next) {
                Some(from) => from.into(),
                None => Input::Tick,
            },
        };
        if let Input::Disconnected { why, .. } = &input {
            tracing::info!("{why}");
            link = None;
        }
    }
}

impl<M> From<FromLink> for Input<M> {
    fn from(from: FromLink) -> Self {
        match from {
            FromLink::Connected => Input::Connected,
            FromLink::Event(event) => Input::Event(event),
            FromLink::Disconnected { clean, why } => Input::Disconnected { clean, why },
        }
    }
}
