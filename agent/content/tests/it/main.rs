//! Images and artifacts from the outside: from layouts, archives and registries to folders.

// All of this is test code.
#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code, unreachable_pub)]

mod artifacts;
mod docker_registry;
mod hostile;
mod images;
#[path = "../support/layout.rs"]
mod layout;
mod merged;
mod registry;
mod server;

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use apportion_content::{ImageError, Images, ImagesConfig, Prepared};
use apportion_types::image::{Image, PullPolicy};

fn open(folder: &Path, change: impl FnOnce(&mut ImagesConfig)) -> Images {
    let mut config = ImagesConfig::new(folder.join("images"));
    change(&mut config);
    Images::open(config, &BTreeSet::new()).unwrap()
}

fn image(reference: &str) -> Image {
    Image::new(reference.parse().unwrap())
}

fn always(reference: &str) -> Image {
    Image { pull: PullPolicy::Always, ..image(reference) }
}

async fn prepare(images: &Images, reference: &str, holder: &str) -> Result<Prepared, Arc<ImageError>> {
    images.prepare(&image(reference), holder, |_| ()).await
}

fn why(error: &Arc<ImageError>) -> String {
    apportion_types::text::chain(&**error)
}

/// Nothing of any layer is on disk.
fn is_empty(folder: &Path) -> bool {
    let entries = |name: &str| fs::read_dir(folder.join("images").join(name)).unwrap().count();
    (entries("layers"), entries("tmp"), entries("images"), entries("downloads")) == (0, 0, 0, 0)
}
