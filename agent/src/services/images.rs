//! `ImageService`: what this agent keeps of images.

use std::time::UNIX_EPOCH;

use apportion_content::Images;
use apportion_proto::v1::{
    CachedImage, ListImagesRequest, ListImagesResponse, PruneImagesRequest, PruneImagesResponse,
    image_service_server::ImageService,
};
use tonic::{Request, Response, Status};

/// The images of an agent.
pub(super) struct ImageCache {
    pub(super) images: Images,
}

#[tonic::async_trait]
impl ImageService for ImageCache {
    async fn list_images(
        &self,
        _: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let wire = |image: apportion_content::CachedImage| CachedImage {
            name: image.name,
            digest: image.digest.to_string(),
            size_bytes: image.bytes,
            used_at_us: image
                .used_at
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX)),
            in_use: image.in_use,
        };
        let images = self.images.list().into_iter().map(wire).collect();
        Ok(Response::new(ListImagesResponse { images, total_bytes: self.images.bytes() }))
    }

    async fn prune_images(
        &self,
        _: Request<PruneImagesRequest>,
    ) -> Result<Response<PruneImagesResponse>, Status> {
        let freed_bytes = self.images.prune().await;
        tracing::info!(freed_bytes, "deleted the images that no container uses, as an operator asked for");
        Ok(Response::new(PruneImagesResponse { freed_bytes }))
    }
}
