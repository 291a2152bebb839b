//! An agent that runs one task, and what it serves.

use std::path::PathBuf;

use apportion_containerizer::{ContainerId, Fake};
use apportion_proto::v1::sandbox_service_client::SandboxServiceClient;
use apportion_types::TaskState;
use tonic::transport::{Channel, Endpoint};

use super::*;

pub(crate) struct World {
    _folder: tempfile::TempDir,
    _master: Master,
    pub(crate) stream: Stream,
    pub(crate) fake: Fake,
    pub(crate) agent: Running,
    /// The container of its one task, `t1`.
    pub(crate) id: ContainerId,
    pub(crate) sandbox: PathBuf,
    pub(crate) client: SandboxServiceClient<Channel>,
}

impl World {
    pub(crate) async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let (mut master, fake) = (Master::start().await, Fake::default());
        let agent = start(config(folder.path(), &master.address), fake.clone()).await;
        let (mut stream, ..) = master.registered().await;
        stream.run(vec![task("t1", &["serve"])]).await;
        stream.until("t1", TaskState::Running).await;
        let spec = fake.launched().remove(0);
        let endpoint = Endpoint::from_shared(format!("http://{}", agent.address)).unwrap();
        let client = SandboxServiceClient::new(endpoint.connect().await.unwrap());
        let (id, sandbox) = (spec.id, spec.sandbox);
        World { _folder: folder, _master: master, stream, fake, agent, id, sandbox, client }
    }
}
