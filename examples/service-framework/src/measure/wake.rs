//! Wakes services that sleep when somebody asks for them. This is not measured from time to time: clients wait.

use std::future::Future;

use apportion_sdk::Handle;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    scale::Subject,
    scheduler::{Order, Request},
};

/// Wakes for as long as it is polled; ends when the scheduler does. `wanted` returns when a client waits for a replica of a service.
pub async fn wake<W: Future<Output = ()> + Send + 'static>(
    scheduler: Handle<Request>,
    subjects: watch::Receiver<Vec<Subject>>,
    wanted: impl Fn(String) -> W,
) {
    let order = |service| {
        let scheduler = scheduler.clone();
        async move { scheduler.send(Order::Wanted { service }.into()).await.is_ok() }
    };
    awaited(subjects, wanted, order).await;
}

async fn awaited<W: Future<Output = ()> + Send + 'static, O: Future<Output = bool>>(
    mut subjects: watch::Receiver<Vec<Subject>>,
    wanted: impl Fn(String) -> W,
    order: impl Fn(String) -> O,
) {
    loop {
        let mut waiting = JoinSet::new();
        for subject in subjects.borrow_and_update().iter().filter(|subject| subject.asleep) {
            let (service, wanted) = (subject.service.clone(), wanted(subject.service.clone()));
            waiting.spawn(async move {
                wanted.await;
                service
            });
        }
        tokio::select! {
            changed = subjects.changed() => if changed.is_err() { return },
            Some(Ok(service)) = waiting.join_next() => {
                // Its client waits on until a replica is ready: it is not woken a second time, but once it is seen that it was.
                if !order(service).await || subjects.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::sync::{Notify, mpsc};

    use super::*;

    fn subject(service: &str, asleep: bool) -> Subject {
        Subject {
            service: service.into(),
            interval: Duration::from_secs(1),
            rules: Vec::new(),
            framework_id: None,
            tasks: Vec::new(),
            asleep,
        }
    }

    #[tokio::test]
    async fn what_sleeps_is_woken_once_and_what_does_not_is_not() {
        let (publish, subjects) = watch::channel(vec![subject("web", true), subject("db", false)]);
        let (orders, mut ordered) = mpsc::unbounded_channel();
        let came = Arc::new(Notify::new());
        let wanted = {
            let came = Arc::clone(&came);
            move |service: String| {
                let came = Arc::clone(&came);
                async move {
                    assert_eq!(service, "web", "nobody has to wait for what is there");
                    came.notified().await;
                }
            }
        };
        let waking = tokio::spawn(awaited(subjects, wanted, move |service| {
            let sent = orders.send(service).is_ok();
            async move { sent }
        }));
        came.notify_one();
        assert_eq!(ordered.recv().await.unwrap(), "web");
        publish.send_replace(vec![subject("web", false)]);
        publish.send_replace(vec![subject("web", true)]);
        came.notify_one();
        assert_eq!(ordered.recv().await.unwrap(), "web", "it sleeps again");
        assert!(ordered.try_recv().is_err());
        drop(publish);
        waking.await.unwrap();
    }
}
