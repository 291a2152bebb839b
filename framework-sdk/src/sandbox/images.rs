//! What agents keep of images.

use apportion_proto::v1::{ListImagesRequest, PruneImagesRequest, image_service_client::ImageServiceClient};
use apportion_types::Time;

use super::{SandboxError, channel};

/// An image that an agent keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedImage {
    /// The name under which it was pulled.
    pub name: String,
    /// The digest of its manifest, or of its configuration where it came without a manifest.
    pub digest: String,
    /// What its layers take on disk; other images may share them.
    pub size_bytes: u64,
    /// When a container was last prepared with it.
    pub used_at: Time,
    /// True while a container uses one of its layers.
    pub in_use: bool,
}

/// What an agent keeps of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageCache {
    /// The images, by name.
    pub images: Vec<CachedImage>,
    /// What all layers take on disk, each once.
    pub total_bytes: u64,
}

/// What the agent at this address keeps of images.
pub async fn images(address: &str) -> Result<ImageCache, SandboxError> {
    let answer = ImageServiceClient::new(channel(address).await?).list_images(ListImagesRequest {}).await;
    let answer = answer.map_err(|status| SandboxError::agent(address, &status))?.into_inner();
    let image = |image: apportion_proto::v1::CachedImage| CachedImage {
        name: image.name,
        digest: image.digest,
        size_bytes: image.size_bytes,
        used_at: Time::from_micros(image.used_at_us),
        in_use: image.in_use,
    };
    Ok(ImageCache { images: answer.images.into_iter().map(image).collect(), total_bytes: answer.total_bytes })
}

/// Has the agent at this address delete what no container uses. Gives how many bytes that were.
pub async fn prune_images(address: &str) -> Result<u64, SandboxError> {
    let answer = ImageServiceClient::new(channel(address).await?).prune_images(PruneImagesRequest {}).await;
    answer
        .map(|answer| answer.into_inner().freed_bytes)
        .map_err(|status| SandboxError::agent(address, &status))
}
