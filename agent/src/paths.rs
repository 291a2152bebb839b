//! What lies where in an agent's work directory.
//!
//! ```text
//! WORK_DIR/                      mode 0700
//!   lock                         held by the agent's process; its pid, for people
//!   agent_id                     the agent's id, for people; the log is what counts
//!   work_dir_id                  names this work directory to masters
//!   log                          what the agent has promised: reservations, volumes, tasks, updates, acknowledgements
//!   log.new                      while the log is being rewritten
//!   containers/ID/               the containerizer's own, for each container that is not forgotten
//!   sandboxes/FRAMEWORK/TASK/
//!     CONTAINER/                 the working directory of one run of the task
//!       stdout  stderr  tmp/
//!     latest -> CONTAINER        the newest run
//!     .ended-CONTAINER           when that run was first seen to be over: its time, there is nothing in it
//!   sandboxes/FRAMEWORK/-/
//!     CONTAINER/                 what the tasks of a group share, by the container of its first one
//!     .ended-CONTAINER           as above
//!   images/                      unpacked layers, and what is known of images: see crate `apportion-content`
//!   artifacts/                   artifacts that are kept for later tasks
//!   executors/CONTAINER/         of a container that is an executor's: mounted there
//!     token                      what the agent knows it by
//!     socket                     where the agent listens; of each process of the agent another one
//!   scratch/CONTAINER/           what a container changes of its images; removed with the container
//!   networks/CONTAINER/          what a container has of a network: see crate `apportion-network`
//!   volumes/ROLE/-/VOLUME/       persistent volumes, their data; a role `a/b` is a folder in a folder, and no id is `-`
//!   volumes.deleted/             of destroyed volumes, until it is deleted
//! ```

use std::path::{Path, PathBuf};

use apportion_types::{FrameworkId, Role, TaskId, VolumeId};

/// The places in an agent's work directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The places in this work directory.
    pub fn new(work_dir: impl Into<PathBuf>) -> Self {
        Self { root: work_dir.into() }
    }

    /// The work directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The lock of the agent's process.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The agent's id, for people.
    pub fn agent_id(&self) -> PathBuf {
        self.root.join("agent_id")
    }

    /// Names the work directory to masters.
    pub fn work_dir_id(&self) -> PathBuf {
        self.root.join("work_dir_id")
    }

    /// What containers have of networks.
    pub fn networks(&self) -> PathBuf {
        self.root.join("networks")
    }

    /// The log.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// What becomes the log when it is rewritten.
    pub fn log_new(&self) -> PathBuf {
        self.root.join("log.new")
    }

    /// The containerizer's state folder.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// The sandboxes of all tasks.
    pub fn sandboxes(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    /// The sandboxes of all runs of a task.
    pub fn task(&self, framework_id: &FrameworkId, task_id: &TaskId) -> PathBuf {
        self.sandboxes().join(framework_id.as_str()).join(task_id.as_str())
    }

    /// The sandbox of one run of a task.
    pub fn sandbox(&self, framework_id: &FrameworkId, task_id: &TaskId, container_id: &str) -> PathBuf {
        self.task(framework_id, task_id).join(container_id)
    }

    /// What the tasks of a framework's groups share; no task is called so.
    pub const GROUPS: &'static str = "-";

    /// What the tasks of one run of a task group share, which is named by the container of the first of them.
    pub fn group(&self, framework_id: &FrameworkId, run: &str) -> PathBuf {
        self.sandboxes().join(framework_id.as_str()).join(Self::GROUPS).join(run)
    }

    /// The cache of images.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The cache of artifacts.
    pub fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// What executors share with the agent.
    pub fn executors(&self) -> PathBuf {
        self.root.join("executors")
    }

    /// What the executor in a container shares with the agent.
    pub fn executor(&self, container_id: &str) -> PathBuf {
        self.executors().join(container_id)
    }

    /// What containers change of their images.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// The persistent volumes of all roles.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// The persistent volumes of a role; no role and no volume id is called so.
    pub const VOLUMES_OF_ROLE: &'static str = "-";

    /// The data of a persistent volume.
    pub fn volume(&self, role: &Role, volume_id: &VolumeId) -> PathBuf {
        self.volumes().join(role.as_str()).join(Self::VOLUMES_OF_ROLE).join(volume_id.as_str())
    }

    /// What is left of destroyed volumes.
    pub fn deleted_volumes(&self) -> PathBuf {
        self.root.join("volumes.deleted")
    }

    /// The name of the link, in a task's folder, to its newest run.
    pub const LATEST: &'static str = "latest";
}
