//! One piece of work that several wait for.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::{sync::watch, task::AbortHandle};

/// Work under way, by what it is for. Whoever wants the same as another waits for the other's.
#[derive(Debug)]
pub(crate) struct Joined<K, V, P = ()> {
    flights: Mutex<BTreeMap<K, Weak<Flight<V, P>>>>,
}

/// One piece of work; given up when nobody holds it any more.
#[derive(Debug)]
pub(crate) struct Flight<V, P = ()> {
    outcome: watch::Receiver<Option<V>>,
    /// How far it is.
    pub(crate) progress: watch::Receiver<P>,
    task: AbortHandle,
}

impl<K, V, P> Default for Joined<K, V, P> {
    fn default() -> Self {
        Self { flights: Mutex::default() }
    }
}

impl<K: Ord, V: Clone + Send + Sync + 'static, P: Default> Joined<K, V, P> {
    /// The work of this name: what is under way, or else what `start` begins and tells the progress of. True when it was begun by this
    /// call.
    pub(crate) fn join<F>(
        &self,
        key: K,
        start: impl FnOnce(watch::Sender<P>) -> F,
    ) -> (Arc<Flight<V, P>>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        // What has ended is not joined: its outcome was for those who waited.
        if let Some(flight) = flights.get(&key).and_then(Weak::upgrade)
            && flight.outcome.borrow().is_none()
        {
            return (flight, false);
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let (tell, outcome) = watch::channel(None);
        let (told, progress) = watch::channel(P::default());
        let work = start(told);
        let task = tokio::spawn(async move {
            let value = work.await;
            tell.send_replace(Some(value));
        });
        let flight = Arc::new(Flight { outcome, progress, task: task.abort_handle() });
        flights.insert(key, Arc::downgrade(&flight));
        (flight, true)
    }

    /// True while somebody waits for the work of this name.
    pub(crate) fn contains(&self, key: &K) -> bool {
        let flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.get(key).is_some_and(|flight| flight.strong_count() > 0)
    }
}

impl<V: Clone, P> Flight<V, P> {
    /// What came of it.
    pub(crate) async fn wait(&self) -> V {
        let mut outcome = self.outcome.clone();
        let ended =
            outcome.wait_for(Option::is_some).await.expect("work ends with an outcome while it is held");
        ended.clone().expect("waited for")
    }
}

impl<V, P> Drop for Flight<V, P> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn the_same_is_done_once_and_again_after_its_end() {
        let joined = Joined::<_, _>::default();
        let begun = Arc::new(AtomicUsize::new(0));
        let work = |gate: oneshot::Receiver<u32>| {
            begun.fetch_add(1, Ordering::Relaxed);
            async move { gate.await.unwrap() }
        };
        let (open, gate) = oneshot::channel();
        let (first, began) = joined.join("a", |_| work(gate));
        let (second, joined_in) = joined.join("a", |_| work(oneshot::channel().1));
        assert!(began && !joined_in);
        open.send(7).unwrap();
        assert_eq!((first.wait().await, second.wait().await), (7, 7));
        let (open, gate) = oneshot::channel();
        let (third, began) = joined.join("a", |_| work(gate));
        open.send(8).unwrap();
        assert!(began);
        assert_eq!(third.wait().await, 8);
        assert_eq!(begun.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_given_up() {
        let joined = Joined::<_, ()>::default();
        let (held, dropped) = oneshot::channel::<()>();
        let (flight, _) = joined.join(1, |_| async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert!(joined.contains(&1));
        drop(flight);
        assert!(dropped.await.is_err() && !joined.contains(&1));
    }
}
