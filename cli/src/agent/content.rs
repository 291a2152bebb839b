//! Settings of an agent for images and artifacts.

use std::path::PathBuf;

use apportion_agent::Config;
use apportion_types::resources::{Name, milli_mib_to_bytes, parse_scalar};

use crate::{
    settings::Settings,
    value::{self, Names, Value},
};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// The registry of images that name none [default: docker.io]
    #[arg(long, value_name = "HOST[:PORT]", help_heading = "Settings")]
    registry: Option<String>,
    /// A file as `docker login` writes it, with passwords for registries
    #[arg(long, value_name = "FILE", value_parser = value::flag::<PathBuf>, help_heading = "Settings")]
    registry_config: Option<PathBuf>,
    /// Registries that are asked without encryption, separated by commas [default: none]
    #[arg(long, value_name = "HOST[:PORT],…", value_parser = value::flag::<Names>, help_heading = "Settings")]
    registry_insecure: Option<Names>,
    /// What unpacked images may take on disk before those that no task uses are deleted [default: 20GiB]
    #[arg(long, value_name = "SIZE", value_parser = value::flag::<Size>, help_heading = "Settings")]
    image_cache_max: Option<Size>,
    /// What one image may unpack to [default: 32GiB]
    #[arg(long, value_name = "SIZE", value_parser = value::flag::<Size>, help_heading = "Settings")]
    image_max: Option<Size>,
    /// Layers of one image [default: 128]
    #[arg(long, value_name = "NUMBER", value_parser = value::flag::<u64>, help_heading = "Settings")]
    image_layers_max: Option<u64>,
    /// What artifacts that are kept for later tasks may take on disk [default: 2GiB]
    #[arg(long, value_name = "SIZE", value_parser = value::flag::<Size>, help_heading = "Settings")]
    artifact_cache_max: Option<Size>,
    /// What one artifact may have, and unpack to [default: 8GiB]
    #[arg(long, value_name = "SIZE", value_parser = value::flag::<Size>, help_heading = "Settings")]
    artifact_max: Option<Size>,
}

impl Args {
    /// Sets what is set here.
    pub(crate) fn resolve(self, settings: &mut Settings, config: &mut Config) -> anyhow::Result<()> {
        let mut size = |key, flag, value: &mut u64| -> anyhow::Result<()> {
            let set = settings.value(key, flag, || Size(*value))?;
            *value = set.0;
            Ok(())
        };
        size("image_cache_max", self.image_cache_max, &mut config.image_cache_max_bytes)?;
        size("image_max", self.image_max, &mut config.image_max_bytes)?;
        size("artifact_cache_max", self.artifact_cache_max, &mut config.artifact_cache_max_bytes)?;
        size("artifact_max", self.artifact_max, &mut config.artifact_max_bytes)?;
        let layers = config.image_layers_max;
        config.image_layers_max = settings.value("image_layers_max", self.image_layers_max, || layers)?;
        let registry = config.registry.clone();
        config.registry = settings.value("registry", self.registry, || registry)?;
        config.registry_config = settings.optional("registry_config", self.registry_config)?;
        let insecure = settings.value("registry_insecure", self.registry_insecure, Names::default)?;
        config.registry_insecure = insecure.0.into_iter().collect();
        Ok(())
    }
}

/// So many bytes: `20GiB`; a number alone counts MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(u64);

impl Value for Size {
    fn parse(text: &str) -> Result<Self, String> {
        parse_scalar(&Name::Disk, text.trim()).map(|milli| Size(milli_mib_to_bytes(milli)))
    }

    fn text(&self) -> String {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let whole = units.iter().find(|(_, bits)| self.0 > 0 && self.0.is_multiple_of(1 << bits));
        whole.map_or_else(|| format!("{}B", self.0), |(unit, bits)| format!("{}{unit}", self.0 >> bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes, shown) in [
            ("20GiB", 20 << 30, "20GiB"),
            ("64", 64 << 20, "64MiB"),
            ("0", 0, "0B"),
            ("1.5GiB", 3 << 29, "1536MiB"),
        ] {
            let size = Size::parse(text).unwrap();
            assert_eq!((size, size.text().as_str()), (Size(bytes), shown));
            assert_eq!(Size::parse(shown), Ok(size));
        }
        assert!(Size::parse("much").is_err());
    }
}
