//! The one call of an executor's socket, with a codec of its own: the generated service has none but the usual.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use apportion_proto::v1::{
    ExecutorServiceConnectRequest, ExecutorServiceConnectResponse,
    executor_service_server::{ExecutorService, SERVICE_NAME},
};
use apportion_types::limits;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{self, BoxFuture, StdError, http},
    server::{Grpc, NamedService, StreamingService},
};

use super::{codec::Bounded, service::Service};

/// Serves it.
#[derive(Clone)]
pub(super) struct Rpc(pub(super) Arc<Service>);

impl NamedService for Rpc {
    const NAME: &'static str = SERVICE_NAME;
}

impl<B> codegen::Service<http::Request<B>> for Rpc
where
    B: codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = self.clone();
        let method = request.uri().path().strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME));
        let known = method == Some("/Connect");
        Box::pin(async move {
            if !known {
                return Ok(Status::unimplemented("executors have one call, Connect").into_http());
            }
            let most = Some(limits::EXECUTOR_MESSAGE_BYTES_MAX);
            let mut grpc = Grpc::new(Bounded::default()).apply_max_message_size_config(most, most);
            Ok(grpc.streaming(service, request).await)
        })
    }
}

impl StreamingService<ExecutorServiceConnectRequest> for Rpc {
    type Response = ExecutorServiceConnectResponse;
    type ResponseStream = <Service as ExecutorService>::ConnectStream;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<ExecutorServiceConnectRequest>>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move { service.connect(request).await })
    }
}
