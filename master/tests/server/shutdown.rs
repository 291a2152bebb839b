use std::sync::Arc;

use apportion_master::{
    Config, ServeError, Server,
    registry::{Contents, InMemory, Registry, RegistryError},
};
use apportion_types::protocol::{
    agent::{MasterMessage, RefuseCode},
    scheduler::{Call, ErrorCode, Event},
};
use tokio::net::TcpStream;

use crate::harness::{Master, config, framework, patiently};

#[tokio::test]
async fn a_port_in_use_is_named_with_the_remedy() {
    let first = Server::bind(config()).await.unwrap();
    let config = Config { listen: first.local_addr(), ..config() };
    let error = Server::bind(config).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ServeError::Bind { address, .. } if address == first.local_addr()));
    assert!(text.starts_with(&format!("cannot listen on {}", first.local_addr())), "{text}");
    assert!(text.contains("set `listen` to another port"), "{text}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_before_the_port_is_opened() {
    let error = Server::bind(Config { agent_pings_missed_max: 0, ..config() }).await.unwrap_err();
    assert!(matches!(error, ServeError::Config(_)), "{error}");
}

#[tokio::test]
async fn two_masters_never_have_the_same_name() {
    let (one, two) = (Server::bind(config()).await.unwrap(), Server::bind(config()).await.unwrap());
    assert_ne!(one.master_id(), two.master_id());
}

#[tokio::test]
async fn at_the_end_every_peer_is_told_and_the_port_is_free() {
    let mut master = Master::start(config()).await;
    let mut scheduler = master.scheduler().await;
    let mut silent = master.scheduler().await;
    let mut agent = master.agent().await;
    scheduler.subscribe(framework("f")).await;
    agent.register("cpus:1;mem:1024").await;
    master.stop();
    let Event::Error { code, .. } = scheduler.expect().await else { panic!("it is told") };
    assert_eq!(code, ErrorCode::ShuttingDown);
    assert_eq!(scheduler.event().await.unwrap(), None);
    let Event::Error { code, .. } = silent.expect().await else { panic!("it is told") };
    assert_eq!(code, ErrorCode::ShuttingDown);
    let MasterMessage::Refuse { code, .. } = agent.expect().await else { panic!("it is told") };
    assert_eq!(code, RefuseCode::ShuttingDown);
    assert_eq!(agent.message().await.unwrap(), None);
    let address = master.address;
    master.ended().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    Server::bind(Config { listen: address, ..config() }).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_does_not_end_is_waited_for_only_so_long() {
    let mut master = Master::start(config()).await;
    // Never a request on it.
    let _idle = TcpStream::connect(master.address).await.unwrap();
    // A watch that never ends by itself.
    let mut health = tonic_health::pb::health_client::HealthClient::new(master.channel().await);
    let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
    let mut watch = health.watch(request).await.unwrap().into_inner();
    assert_eq!(patiently("the first status", watch.message()).await.unwrap().unwrap().status, 1);
    master.stop();
    assert_eq!(
        patiently("the last status", watch.message()).await.unwrap().unwrap().status,
        2,
        "not serving"
    );
    master.ended().await.unwrap();
    // Its connection is cut.
    assert!(patiently("the end", watch.message()).await.is_err());
}

/// A registry that fails from the second write on.
#[derive(Default)]
struct Failing {
    inner: InMemory,
    writes: std::sync::atomic::AtomicUsize,
}

#[async_trait::async_trait]
impl Registry for Failing {
    async fn commit(&self, ops: Vec<apportion_master_core::RegistryOp>) -> Result<(), RegistryError> {
        if self.writes.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0 {
            return Err(RegistryError::Write { count: ops.len(), source: "the disk is full".into() });
        }
        self.inner.commit(ops).await
    }

    async fn load(&self) -> Result<Contents, RegistryError> {
        self.inner.load().await
    }
}

#[tokio::test]
async fn a_registry_that_fails_ends_the_master_before_it_promises_anything() {
    let registry = Arc::new(Failing::default());
    let master = Master::with_registry(Arc::clone(&registry) as Arc<dyn Registry>).await;
    let mut first = master.scheduler().await;
    let framework_id = first.subscribe(framework("kept")).await;
    let mut second = master.scheduler().await;
    second
        .call(Call::Subscribe {
            info: framework("lost"),
            framework_id: None,
            suppressed: Vec::new(),
            options: Box::default(),
        })
        .await;
    let error = master.ended().await.unwrap_err();
    assert!(matches!(error, ServeError::Registry(RegistryError::Write { count: 1, .. })), "{error:?}");
    assert!(!matches!(second.event().await, Ok(Some(Event::Subscribed { .. }))), "it was not promised");
    let contents = registry.load().await.unwrap();
    assert_eq!(contents.recovered.frameworks.keys().collect::<Vec<_>>(), [&framework_id]);
}
