//! Layers that were made to do harm.

use std::{fs, path::Path};

use serde_json::json;

use super::{
    is_empty,
    layout::{Item, Layer, Layout, tar},
    open, prepare, why,
};

async fn unpack(place: &Path, entries: &[(&str, Item<'_>)]) -> Result<std::path::PathBuf, String> {
    let mut layout = Layout::new(&place.join("layout"));
    layout.image("x", &[Layer::gzip(&tar(entries))], json!({}));
    let images = open(place, |_| ());
    let prepared = prepare(&images, &format!("oci:{}", layout.path.display()), "x").await;
    prepared.map(|prepared| prepared.layers[0].clone()).map_err(|error| why(&error))
}

#[tokio::test]
async fn nothing_leaves_the_layer() {
    let refused: [(&[(&str, Item<'_>)], &str); 9] = [
        (&[("../secret", Item::File("x"))], "leads out"),
        (&[("a/../../secret", Item::File("x"))], "leads out"),
        (&[("a", Item::HardLink("../../../secret"))], "leads out"),
        (&[("up", Item::Link("../../..")), ("a", Item::HardLink("up/secret"))], "another name"),
        (&[("a", Item::File("")), ("a/b", Item::File(""))], "not a folder"),
        (&[(".wh...", Item::File(""))], "takes away what has no name"),
        (&[("l", Item::Link("l")), ("l/x", Item::File(""))], "circles"),
        (&[("l", Item::Link("gone")), ("l/x", Item::File(""))], "nowhere"),
        (&[("d", Item::Folder), ("h", Item::HardLink("d"))], ""),
    ];
    for (number, (entries, message)) in refused.iter().enumerate() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("secret"), "kept").unwrap();
        let error = unpack(place.path(), entries).await.unwrap_err();
        assert!(error.contains(message), "{number}: {error}");
        assert_eq!(fs::read_to_string(place.path().join("secret")).unwrap(), "kept");
        assert!(is_empty(place.path()), "{number}");
    }
}

#[tokio::test]
async fn links_lead_to_what_is_in_the_layer() {
    let place = tempfile::tempdir().unwrap();
    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let layer = unpack(
        place.path(),
        &[
            ("etc", Item::Folder),
            ("abs", Item::Link("/etc")),
            ("abs/one", Item::File("1")),
            ("out", Item::Link(outside.to_str().unwrap())),
            ("up", Item::Link("../../../../../../../../etc")),
            ("up/two", Item::File("2")),
            ("/three", Item::File("3")),
            // The link itself is replaced, not what it points at.
            ("out", Item::File("plain")),
        ],
    )
    .await
    .unwrap();
    for (path, text) in [("etc/one", "1"), ("etc/two", "2"), ("three", "3"), ("out", "plain")] {
        assert_eq!(fs::read_to_string(layer.join(path)).unwrap(), text, "{path}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!Path::new("/etc/one").exists() && !Path::new("/etc/two").exists());
}

#[tokio::test]
async fn marks_of_the_overlay_are_the_agents_alone() {
    let place = tempfile::tempdir().unwrap();
    let layer = unpack(
        place.path(),
        &[
            ("x", Item::Extended("SCHILY.xattr.trusted.overlay.redirect", b"/etc")),
            ("d", Item::Folder),
            ("x", Item::Extended("SCHILY.xattr.user.overlay.opaque", b"y")),
            ("e", Item::Folder),
            ("x", Item::Extended("SCHILY.xattr.user.kept", b"a\nb")),
            ("f", Item::File("")),
        ],
    )
    .await
    .unwrap();
    let attribute = |path: &str, name: &str| {
        let mut value = vec![0; 100];
        rustix::fs::getxattr(layer.join(path), name, &mut value).map(|length| value[..length].to_vec())
    };
    assert!(attribute("d", "trusted.overlay.redirect").is_err());
    assert!(attribute("e", "user.overlay.opaque").is_err());
    assert_eq!(attribute("f", "user.kept"), Ok(b"a\nb".to_vec()));
}
