//! The agent's shell: it offers a machine's resources to a master and runs tasks on it.
//!
//! Every decision is made by the pure core (crate `apportion-agent-core`); here are the things around it: the stream to the master
//! (`master_link`), the log of what must outlive the process (`store`), the containers (`effects`), what they need of images and artifacts (`content`), what those say that run tasks themselves (`executors`), the data of persistent volumes (`volumes`), what tasks are asked while they run (`probes`), what their sandboxes hold and how long they are kept (`sandboxes`), what can be lent (`oversubscription`), the files (`paths`), and what the
//! agent serves by itself (`services`). `actor` is the one loop that feeds the core and runs what it wants.

mod actor;
mod agent;
mod clock;
mod config;
mod content;
mod detect;
mod effects;
mod executors;
mod master_link;
mod network;
mod oversubscription;
mod paths;
mod ports;
mod probes;
mod sandboxes;
mod services;
mod store;
mod volumes;
mod work_dir;

pub use agent::{Agent, RunError, StartError};
pub use config::{Config, ConfigError};
pub use content::ContentError;
pub use detect::{DetectError, resources as detected_resources};
pub use oversubscription::{Estimator, EstimatorError, IdleCpus, ResourceEstimator, Sample, TaskSample};
pub use paths::Paths;
pub use store::{RecordError, Replay, StoreError, read};
pub use work_dir::WorkDirError;
