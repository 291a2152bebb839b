//! The service scheduler held to what every scheduler promises.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::{sync::Arc, time::Duration};

use apportion_sdk::{Capability, Options};
use apportion_service::{
    balancer::Listener,
    scale::{Aim, Measured, Metric, Rule, Scale},
    scheduler::{Order, ServiceScheduler},
    spec::{Restart, Spec},
    state::Table,
};
use apportion_sim::{Behaviour, Ending, OnTerm, Rng, Store, conformance::Conformance};
use tokio::sync::mpsc;

/// Three replicas, each with a port, that are replaced soon; or such that a balancer leads clients to, who are given time to finish.
fn web(balanced: bool) -> Spec {
    let mut listener = Listener::new(([127, 0, 0, 1], 80).into());
    listener.timeouts.drain = Duration::from_secs(1);
    Spec {
        balancer: balanced.then_some(listener),
        replicas: 3,
        ports: 1,
        replace_after: Duration::from_secs(10),
        restart: Restart { max: Duration::from_secs(8), ..Restart::default() },
        ..Spec::new("web", ["serve", "${port0}"])
    }
}

fn conformance(balanced: bool) -> Conformance<ServiceScheduler<Store>> {
    conformance_of(web(balanced))
}

fn conformance_of(spec: Spec) -> Conformance<ServiceScheduler<Store>> {
    let spec = Arc::new(spec.checked().unwrap());
    Conformance::stored(move |store| {
        let table = Table::load(apportion_sdk::store::Store::load(store).unwrap()).unwrap();
        // Nobody listens to the events.
        ServiceScheduler::new(
            "web",
            vec![Arc::clone(&spec)],
            store.clone(),
            table,
            mpsc::unbounded_channel().0,
        )
    })
    .workload(|_, rng| serves(rng))
}

/// Most replicas run until they are asked to end, and some of these will not listen; others do not last.
fn serves(rng: &mut Rng) -> Behaviour {
    let soon = Duration::from_millis(rng.u64(50..5_000));
    match rng.u8(0..8) {
        0 => Behaviour::exits(soon, 1),
        1 => Behaviour { ends: Ending::OutOfMemory, ..Behaviour::succeeds_after(soon) },
        2 => Behaviour { starts_after: soon, ..Behaviour::runs() },
        3 => Behaviour { on_term: OnTerm::Hangs, ..Behaviour::runs() },
        _ => Behaviour::runs(),
    }
}

#[test]
fn a_service_keeps_every_promise() {
    conformance(false).run().assert_ok();
}

#[test]
fn a_service_that_is_scaled_keeps_every_promise() {
    let scaled = conformance(true).seed(2).messages(|sim, web| {
        // Once all have had the time to run, whatever died: what was never launched is not missed after a scaling down.
        let late = sim.elapsed() > Duration::from_secs(30);
        let ordered = sim
            .scheduler(web)
            .is_none_or(|web| web.state().table().apps.get("web").is_some_and(|web| web.scaled.is_some()));
        if late && !ordered {
            sim.tell(web, Order::Scale { service: None, replicas: 1 }.into());
        }
    });
    scaled.run().assert_ok();
}

/// The same, when what is measured says so.
#[test]
fn a_service_that_is_scaled_by_what_is_measured_keeps_every_promise() {
    let metric = Metric::Prometheus { url: "http://prometheus".into(), query: "load".into() };
    let scale = Scale {
        min: 1,
        max: 3,
        up_step: 3,
        down_step: 3,
        up_after: Duration::ZERO,
        down_after: Duration::ZERO,
        idle_after: Duration::ZERO,
        interval: Duration::from_secs(1),
        rules: vec![Rule { metric: metric.clone(), aim: Aim::Target(10.0), predict: None }],
    };
    let scaled =
        conformance_of(Spec { scale: Some(scale), ..web(true) }).seed(3).messages(move |sim, web| {
            let late = sim.elapsed() > Duration::from_secs(30);
            // Of what does no work nothing is measured.
            let measurable = sim.scheduler(web).is_some_and(|web| {
                let services = web.state();
                services.running() > 0
                    && services.table().apps.get("web").is_some_and(|web| web.scaled.is_none())
            });
            if late && measurable {
                let answers = vec![(metric.clone(), Ok(4.0))];
                let measured = Measured { service: "web".into(), answers, ..Measured::default() };
                sim.tell(web, Order::Measured(vec![measured]).into());
            }
        });
    scaled.run().assert_ok();
}

/// A replica is launched elsewhere before it leaves a machine, so that two tasks do its work meanwhile.
#[test]
fn a_service_that_is_asked_to_leave_machines_keeps_every_promise() {
    let options = || Options::new().capability(Capability::InverseOffers).build();
    let asked = conformance(false).seed(3).framework(move |framework| framework.options(options()));
    asked.work(|task| task.task_id.to_string()).run().assert_ok();
}
