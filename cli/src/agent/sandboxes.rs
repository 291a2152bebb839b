//! Settings of an agent for what tasks write, and how long that is kept.

use std::time::Duration;

use apportion_agent::Config;
use apportion_types::resources::{Name, parse_scalar};

use super::millis;
use crate::{
    settings::Settings,
    value::{self, Value},
};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Whether to kill tasks whose sandbox takes more than the disk that they hold [default: true]
    #[arg(
        long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = value::flag::<bool>, help_heading = "Settings"
    )]
    enforce_disk: Option<bool>,
    /// Between two looks at what sandboxes take [default: 15s]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    disk_check_interval: Option<Duration>,
    /// How long sandboxes of tasks that are over are kept on an empty disk; shorter the fuller it is [default: 7days]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    sandbox_keep: Option<Duration>,
    /// The part of the disk that is to stay free: with no more than this free, no such sandbox is kept [default: 0.1]
    #[arg(long, value_name = "0…1", value_parser = value::flag::<Part>, help_heading = "Settings")]
    disk_headroom: Option<Part>,
    /// Between two looks for sandboxes that have been kept long enough [default: 1m]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    sandbox_collect_interval: Option<Duration>,
    /// What a file of a task's standard output holds, or one of its standard error, before another is begun; 0 for one without end [default: 10MiB]
    #[arg(long, value_name = "BYTES", value_parser = value::flag::<Bytes>, help_heading = "Settings")]
    log_max_bytes: Option<Bytes>,
    /// Full files of each that are kept beside the one that is written to [default: 5]
    #[arg(long, value_name = "NUMBER", value_parser = value::flag::<u32>, help_heading = "Settings")]
    log_files_max: Option<u32>,
}

impl Args {
    /// Sets what is set here.
    pub(crate) fn resolve(self, settings: &mut Settings, config: &mut Config) -> anyhow::Result<()> {
        let enforce = config.enforce_disk;
        config.enforce_disk = settings.value("enforce_disk", self.enforce_disk, || enforce)?;
        let mut duration = |key, flag, value: &mut u64| -> anyhow::Result<()> {
            *value = millis(settings.value(key, flag, || Duration::from_millis(*value))?);
            Ok(())
        };
        duration("disk_check_interval", self.disk_check_interval, &mut config.disk_check_interval_ms)?;
        duration("sandbox_keep", self.sandbox_keep, &mut config.sandbox_keep_ms)?;
        let interval = &mut config.sandbox_collect_interval_ms;
        duration("sandbox_collect_interval", self.sandbox_collect_interval, interval)?;
        let bytes = config.log_max_bytes;
        config.log_max_bytes = settings.value("log_max_bytes", self.log_max_bytes, || Bytes(bytes))?.0;
        let files = config.log_files_max;
        config.log_files_max = settings.value("log_files_max", self.log_files_max, || files)?;
        let headroom = config.disk_headroom_milli;
        config.disk_headroom_milli =
            settings.value("disk_headroom", self.disk_headroom, || Part(headroom))?.0;
        Ok(())
    }
}

/// So many bytes, as a number alone or with a unit: `10MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(u64);

const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("", 0)];

impl Value for Bytes {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let with_unit = UNITS.into_iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, bits)));
        let bytes = with_unit.and_then(|(number, bits)| {
            let number: u64 = number.trim_end().parse().ok()?;
            number.checked_mul(1 << bits)
        });
        bytes.map(Bytes).ok_or_else(|| format!("`{text}` is no number of bytes, such as 65536 or 10MiB"))
    }

    fn text(&self) -> String {
        let whole = UNITS.into_iter().find(|(_, bits)| self.0 > 0 && self.0.is_multiple_of(1 << bits));
        whole.map_or_else(|| self.0.to_string(), |(unit, bits)| format!("{}{unit}", self.0 >> bits))
    }
}

/// A part of a whole, in thousandths: `0.1` is a tenth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part(u64);

impl Value for Part {
    fn parse(text: &str) -> Result<Self, String> {
        let milli = parse_scalar(&Name::Cpus, text.trim()).ok().and_then(|milli| u64::try_from(milli).ok());
        let part = milli.filter(|milli| *milli <= 1000).map(Part);
        part.ok_or_else(|| format!("`{text}` is no number from 0 to 1, such as 0.1"))
    }

    fn text(&self) -> String {
        let fraction = format!("{:03}", self.0 % 1000);
        match fraction.trim_end_matches('0') {
            "" => (self.0 / 1000).to_string(),
            fraction => format!("{}.{fraction}", self.0 / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        for (text, bytes, shown) in [
            ("10MiB", 10 << 20, "10MiB"),
            ("65536", 64 << 10, "64KiB"),
            ("0", 0, "0"),
            ("1000", 1000, "1000"),
            ("3 GiB", 3 << 30, "3GiB"),
        ] {
            let found = Bytes::parse(text).unwrap();
            assert_eq!((found, found.text().as_str()), (Bytes(bytes), shown));
            assert_eq!(Bytes::parse(shown), Ok(found));
        }
        for wrong in ["much", "", "MiB", "-1", "1.5MiB", "99999999TiB"] {
            assert!(Bytes::parse(wrong).unwrap_err().contains("such as 65536"), "{wrong}");
        }
    }

    #[test]
    fn parts() {
        for (text, milli, shown) in
            [("0.1", 100, "0.1"), ("0", 0, "0"), ("1.0", 1000, "1"), ("0.125", 125, "0.125")]
        {
            let part = Part::parse(text).unwrap();
            assert_eq!((part, part.text().as_str()), (Part(milli), shown));
            assert_eq!(Part::parse(shown), Ok(part));
        }
        for wrong in ["1.001", "-0.1", "a tenth", "", "10%"] {
            assert!(Part::parse(wrong).unwrap_err().contains("from 0 to 1"), "{wrong}");
        }
    }
}
