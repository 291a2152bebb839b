//! Images of a registry that is not always well.

use std::{fs, sync::Mutex};

use serde_json::json;

use super::{
    image, is_empty,
    layout::{Item, Layer, Layout, tar},
    open, prepare,
    server::Server,
    why,
};
use apportion_content::{Digest, PullProgress};

/// A layer that does not compress, so that it can be cut off.
fn large(seed: u64) -> Layer {
    let mut state = seed;
    let noise: String = (0..100_000)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            char::from(b'!' + u8::try_from(state >> 58).unwrap())
        })
        .collect();
    Layer::gzip(&tar(&[("noise", Item::File(&noise))]))
}

struct Place {
    folder: tempfile::TempDir,
    server: Server,
    layout: Layout,
    manifest: Digest,
    layers: Vec<Layer>,
}

impl Place {
    async fn new(layers: Vec<Layer>) -> Place {
        let (folder, server) = (tempfile::tempdir().unwrap(), Server::start().await);
        let mut layout = Layout::new(&folder.path().join("layout"));
        let manifest = layout.image("1", &layers, json!({ "Cmd": ["run"] }));
        server.image(&layout, "team/app", "1", manifest);
        Place { folder, server, layout, manifest, layers }
    }

    fn images(&self) -> apportion_content::Images {
        let insecure = self.server.address.clone();
        open(self.folder.path(), |config| {
            config.registry_insecure.insert(insecure);
            config.registry_config = Some(self.folder.path().join("config.json"));
        })
    }

    fn reference(&self) -> String {
        format!("{}/team/app:1", self.server.address)
    }

    fn blob(&self, layer: usize) -> String {
        format!("/v2/team/app/blobs/{}", Digest::of(&self.layers[layer].blob))
    }
}

#[tokio::test]
async fn what_is_cut_off_is_continued() {
    let place = Place::new(vec![large(1), large(2)]).await;
    place.server.cut(&place.blob(0), &[1000, 30_000]);
    let images = place.images();
    let reports = Mutex::new(Vec::new());
    let prepared =
        images.prepare(&image(&place.reference()), "x", |at| reports.lock().unwrap().push(at)).await.unwrap();
    assert_eq!(place.server.requests(&place.blob(0)), [None, Some(1000), Some(31_000)]);
    assert_eq!(place.server.requests(&place.blob(1)), [None]);
    assert_eq!((prepared.digest, prepared.config.cmd), (place.manifest, vec!["run".to_owned()]));
    assert_eq!(fs::metadata(prepared.layers[0].join("noise")).unwrap().len(), 100_000);
    let total = place.layers.iter().map(|layer| layer.blob.len() as u64).sum();
    let last = *reports.lock().unwrap().last().unwrap();
    assert_eq!(last, PullProgress { layers_done: 2, layers: 2, bytes_done: total, bytes: total });
    assert_eq!(fs::read_dir(place.folder.path().join("images/downloads")).unwrap().count(), 0);
    // What is here is not asked for again.
    prepare(&images, &place.reference(), "y").await.unwrap();
    assert_eq!(place.server.requests("/v2/team/app/manifests/1"), [None]);
}

#[tokio::test]
async fn a_pull_that_was_given_up_is_continued_by_another_process() {
    let place = Place::new(vec![large(1)]).await;
    let part = place.folder.path().join("images/downloads").join(Digest::of(&place.layers[0].blob).hex());
    let images = place.images();
    drop(images);
    fs::write(&part, &place.layers[0].blob[..5000]).unwrap();
    prepare(&place.images(), &place.reference(), "x").await.unwrap();
    assert_eq!(place.server.requests(&place.blob(0)), [Some(5000)]);
}

#[tokio::test]
async fn what_was_left_wrong_is_fetched_anew() {
    let place = Place::new(vec![large(1)]).await;
    let part = place.folder.path().join("images/downloads").join(Digest::of(&place.layers[0].blob).hex());
    let images = place.images();
    fs::write(&part, [7; 5000]).unwrap();
    prepare(&images, &place.reference(), "x").await.unwrap();
    assert_eq!(place.server.requests(&place.blob(0)), [Some(5000), None]);
}

#[tokio::test]
async fn many_who_want_the_same_wait_for_one_pull() {
    let place = Place::new(vec![large(1), large(2)]).await;
    let mut other = Layout::new(&place.folder.path().join("other"));
    let second = other.image("1", &[place.layers[0].clone(), large(3)], json!({}));
    place.server.image(&other, "team/app", "2", second);
    place.server.hold(true);
    let images = place.images();
    let reference = |tag: u32| format!("{}/team/app:{tag}", place.server.address);
    let waiting: Vec<_> = (0..8)
        .map(|number| {
            let (images, reference) = (images.clone(), reference(1 + number % 2));
            tokio::spawn(async move { prepare(&images, &reference, &format!("task-{number}")).await })
        })
        .collect();
    // One of them does not want it any more.
    waiting[0].abort();
    place.server.hold(false);
    for (number, waiting) in waiting.into_iter().enumerate().skip(1) {
        waiting.await.unwrap().unwrap_or_else(|error| panic!("{number}: {}", why(&error)));
    }
    for layer in 0..2 {
        assert_eq!(place.server.requests(&place.blob(layer)), [None], "layer {layer}");
    }
}

#[tokio::test]
async fn who_may_not_in_is_told_so() {
    let place = Place::new(vec![large(1)]).await;
    // ann:secret
    place.server.require("good", "YW5uOnNlY3JldA==");
    let images = place.images();
    let error = why(&prepare(&images, &place.reference(), "x").await.unwrap_err());
    assert!(
        error.contains("may not be read by this agent") && error.contains("--registry-config"),
        "{error}"
    );
    let config = |password: &str| {
        let auths =
            json!({ "auths": { &place.server.address: { "username": "ann", "password": password } } });
        fs::write(place.folder.path().join("config.json"), auths.to_string()).unwrap();
    };
    config("wrong");
    assert!(prepare(&images, &place.reference(), "x").await.is_err());
    config("secret");
    prepare(&images, &place.reference(), "x").await.unwrap();
    let unknown = format!("{}/team/other", place.server.address);
    let error = why(&prepare(&images, &unknown, "x").await.unwrap_err());
    assert!(error.contains("has no such manifest"), "{error}");
}

#[tokio::test]
async fn what_a_registry_gives_must_be_what_was_named() {
    let place = Place::new(vec![large(1)]).await;
    let images = place.images();
    let mut wrong = place.layers[0].blob.clone();
    wrong[100] ^= 1;
    place.server.put(&place.blob(0), &wrong);
    let error = why(&prepare(&images, &place.reference(), "x").await.unwrap_err());
    assert!(error.contains("its digest is"), "{error}");
    let fixed = format!("{}/team/app@{}", place.server.address, place.manifest);
    place.server.put(&format!("/v2/team/app/manifests/{}", place.manifest), b"{}");
    let error = why(&prepare(&images, &fixed, "x").await.unwrap_err());
    assert!(error.contains("digest of its manifest"), "{error}");
    assert!(is_empty(place.folder.path()));
    drop(place.layout);
}
