//! The load balancer: one listener for each app, in front of replicas that come and go.
//!
//! It is a library of its own. A scheduler starts a [`Balancer`] with a [`Listener`], tells it by [`Balancer::replace`] which
//! replicas there are whenever that changes, and reads [`Statistics`]. It does not know tasks, offers or the SDK.
//!
//! ```no_run
//! use apportion_service::balancer::{Balancer, Listener, Replica};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let web = Balancer::start("web", Listener::from_toml("address = '127.0.0.1:8080'")?)?;
//! web.replace(vec![Replica::new("web-0", "127.0.0.1:31000".parse()?), Replica::new("web-1", "127.0.0.1:31001".parse()?)]);
//! // To stop web-0 without a failed request: nothing new for it, what it has is finished, and only then is it killed.
//! web.replace(vec![Replica::new("web-1", "127.0.0.1:31001".parse()?)]);
//! web.drained("web-0").await;
//! # Ok(()) }
//! ```
//!
//! Read it in this order:
//!
//! 1. [`config`] is what can be asked for.
//! 2. [`policy`], [`outlier`], [`budget`] and [`latency`] decide. They are pure: time and chance come in, tests need no network.
//! 3. `app` has the replicas and says who is ready; `replica` counts what one of them does.
//! 4. `sockets` are opened and `worker` accepts connections on them; `l4` serves them, or `l7` serves the requests on them, by way of `pick` (a place on a
//!    replica), `pool` (a connection to it), `headers` and `body`.
//! 5. `check` asks replicas how they are; [`reply`] is what the balancer says when no replica does.
//! 6. [`statistics`] and [`metrics`] tell what went on.
//!
//! The protocols are hyper's. What is here is who gets which request, and what happens when that fails.

mod app;
mod body;
pub mod budget;
mod check;
pub mod config;
mod headers;
mod l4;
mod l7;
pub mod latency;
pub mod metrics;
pub mod outlier;
mod pick;
pub mod policy;
mod pool;
mod replica;
pub mod reply;
mod sockets;
pub mod statistics;
mod worker;

use std::{io, net::SocketAddr, sync::Arc, thread, time::Duration};

use tokio::{net::TcpListener, runtime, sync::watch};

use self::{app::App, pick::Worker, worker::Ends};
pub use self::{
    config::{ConfigError, HashOn, Kind, Listener, Policy, ReplicaProtocol},
    replica::{Replica, State},
    sockets::Sockets,
    statistics::{Quantiles, ReplicaStatistics, Standing, Statistics},
};

/// Why a listener could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its description makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its address cannot be had.
    #[error(
        "cannot listen on {address} for {app}: {source}; give balancer.address another port, or end what listens there"
    )]
    Listen {
        /// For whom.
        app: String,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("cannot start a thread for the balancer of {app}: {source}")]
    Thread {
        /// For whom.
        app: String,
        /// Why not.
        source: io::Error,
    },
}

/// A listener that runs. Dropped, it ends at once, with whatever is under way; [`shutdown`](Balancer::shutdown) lets that finish.
#[derive(Debug)]
pub struct Balancer {
    app: Arc<App>,
    sockets: Sockets,
    ends: Ends,
    /// Closed by the last worker that ends.
    ended: watch::Receiver<()>,
}

impl Balancer {
    /// Listens for an app, at first without replicas: who comes waits. Needs no runtime of the caller's; each worker has its own.
    pub fn start(app: &str, listener: Listener) -> Result<Self, StartError> {
        let sockets = Sockets::open(app, &listener)?;
        Self::start_on(app, listener, sockets)
    }

    /// The same, where the sockets for its address are open already.
    pub fn start_on(app: &str, listener: Listener, sockets: Sockets) -> Result<Self, StartError> {
        let config = listener.checked()?;
        let thread_error = |source| StartError::Thread { app: app.to_owned(), source };
        let listen_error =
            |source| StartError::Listen { app: app.to_owned(), address: sockets.address(), source };
        let mut runtimes = Vec::new();
        for listeners in sockets.deal(config.workers).map_err(listen_error)? {
            let runtime =
                runtime::Builder::new_current_thread().enable_all().build().map_err(thread_error)?;
            let _entered = runtime.enter();
            let listeners: io::Result<Vec<_>> = listeners.into_iter().map(TcpListener::from_std).collect();
            let listeners = listeners.map_err(listen_error)?;
            drop(_entered);
            runtimes.push((runtime, listeners));
        }
        let Some((first, _)) = runtimes.first() else { unreachable!("a checked listener has a worker") };
        let shared = App::new(app, config, first.handle().clone());
        let ends = Ends::default();
        let (running, ended) = watch::channel(());
        let running = Arc::new(running);
        let port = sockets.address().port();
        // From here on a failure ends the threads that were started.
        let balancer = Self { app: Arc::clone(&shared), sockets, ends: ends.clone(), ended };
        for (index, (runtime, listeners)) in runtimes.into_iter().enumerate() {
            // Where a worker begins to deal out differs between workers, and need not be known to anybody.
            let seed = u64::from(port) << 16 | index as u64;
            let worker = Arc::new(Worker::new(index, Arc::clone(&shared), seed));
            let (ends, running) = (ends.clone(), Arc::clone(&running));
            thread::Builder::new()
                .name(format!("balancer-{index}"))
                .spawn(move || {
                    runtime.block_on(worker::run(worker, listeners, ends));
                    // With whatever a client still has.
                    drop(runtime);
                    drop(running);
                })
                .map_err(thread_error)?;
        }
        Ok(balancer)
    }

    /// Another one for the same app with other settings, on the same sockets: who connects from now on reaches either of the two, until this
    /// one is [shut down](Balancer::shutdown). So nobody is turned away in between.
    pub fn succeed(&self, listener: Listener) -> Result<Self, StartError> {
        let sockets = self.sockets.again().map_err(|source| StartError::Listen {
            app: self.app.name.clone(),
            address: self.address(),
            source,
        })?;
        Self::start_on(&self.app.name, listener, sockets)
    }

    /// Where it listens, with the port that it was given.
    pub fn address(&self) -> SocketAddr {
        self.sockets.address()
    }

    /// How it was asked to be.
    pub fn listener(&self) -> &Listener {
        &self.app.config
    }

    /// From now on these are the replicas. What is known of one is kept as long as its id and address stay. Who is no longer
    /// among them, or is draining, gets nothing new and has `timeouts.drain` to finish.
    pub fn replace(&self, replicas: Vec<Replica>) {
        self.app.replace(replicas);
    }

    /// Waits until nothing is under way on the replica of this id, which was told to drain or is not in the set: it may be killed.
    pub async fn drained(&self, id: &str) {
        self.app.drained_by_id(id).await;
    }

    /// Waits until a request waits for a replica, as after an app was scaled to none.
    pub async fn wanted(&self) {
        let wanted = self.app.wanted.notified();
        tokio::pin!(wanted);
        wanted.as_mut().enable();
        if self.app.waiting.load(std::sync::atomic::Ordering::SeqCst) == 0 {
            wanted.await;
        }
    }

    /// What it does, and did.
    pub fn statistics(&self) -> Statistics {
        Statistics::of(&self.app)
    }

    /// Accepts nothing more, lets clients finish for so long, and ends. Tells whether all of them could.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.sockets.close();
        self.ends.drain.cancel();
        let mut ended = self.ended.clone();
        let in_time = tokio::time::timeout(grace, ended.changed()).await.is_ok();
        self.app.end.cancel();
        // Ends with an error, which is how the last worker says that it has ended.
        while ended.changed().await.is_ok() {}
        in_time
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.app.end.cancel();
    }
}
