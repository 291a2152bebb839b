//! What tasks bring from elsewhere: images and artifacts; verified, unpacked, cached.
//!
//! [`Images`] turns the name of an image into folders that a container's root can be laid over, and what the image says of its
//! command. [`Artifacts`] puts files into a sandbox. Both keep what they fetched within a bound, and neither trusts what it reads: a
//! digest is checked before anything is used, a path never leaves its folder, and every size has an end.
//!
//! `image` and `artifact` hold the two; beside them is what they share: `http` and `download` bring bytes here, `tar` reads archives,
//! `tree` writes files below one folder and nowhere else, `joined` has several wait for one piece of work.

mod artifact;
mod digest;
mod download;
mod http;
mod image;
mod joined;
mod remove;
mod tar;
mod tree;
mod unpack;

pub use artifact::{ArtifactError, Artifacts, ArtifactsConfig, Owner};
pub use digest::{Digest, DigestError};
pub use download::FetchError;
pub use http::HttpError;
pub use image::{
    CachedImage, ImageConfig, ImageError, Images, ImagesConfig, OpenError, Prepared, PullProgress,
};
pub use remove::remove_folder;
pub use unpack::UnpackError;
