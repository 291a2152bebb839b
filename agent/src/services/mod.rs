//! What an agent serves by itself: its tasks' files, commands beside its tasks, its health, its metrics.

mod exec;
mod files;
mod http;
mod images;
mod log;
mod open;
mod rotated;
mod sandbox;
mod usage;

use std::{future::Future, sync::Arc, time::Duration};

use apportion_agent_core::View;
use apportion_containerizer::Containerizer;
use apportion_content::Images;
use apportion_proto::{
    DESCRIPTORS,
    v1::{image_service_server::ImageServiceServer, sandbox_service_server::SandboxServiceServer},
};
use tokio::{net::TcpListener, sync::watch};
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};

use crate::paths::Paths;
pub(crate) use usage::Measure;

/// Bytes of one response of a stream, as the protocol promises.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Responses of a stream that wait for a slow reader; what makes them waits then.
const CHUNKS_WAITING_MAX: usize = 4;

/// How often a file that has not grown is looked at again: soon for a reader, cheap for a machine.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// A connection on which nothing is heard for so long is asked for a sign of life, and given so long again to give one.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Everything that is served on one port.
pub(crate) async fn routes(
    paths: Paths,
    view: watch::Receiver<Arc<View>>,
    containerizer: Arc<dyn Containerizer>,
    images: Images,
    measure: Measure,
) -> Result<Routes, tonic_reflection::server::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<SandboxServiceServer<sandbox::Sandboxes>>().await;
    health.set_serving::<ImageServiceServer<images::ImageCache>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let sandboxes = sandbox::Sandboxes::new(paths, view.clone(), containerizer, measure);
    let routes = Routes::new(SandboxServiceServer::new(sandboxes))
        .add_service(ImageServiceServer::new(images::ImageCache { images }))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok(Routes::from(routes.prepare().into_axum_router().merge(http::router(view)).fallback(http::nothing)))
}

/// Serves until `ending` is ready and what was begun is finished.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Routes,
    ending: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_routes(routes)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), ending)
        .await
}
