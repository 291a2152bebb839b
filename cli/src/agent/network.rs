//! Settings of an agent for networks and ports of tasks.

use std::{path::PathBuf, time::Duration};

use apportion_agent::Config;

use super::millis;
use crate::{
    settings::Settings,
    value::{self, Folders},
};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Where the lists of plugins are that make networks (CNI) [default: /etc/cni/net.d]
    #[arg(long, value_name = "FOLDER", value_parser = value::flag::<PathBuf>, help_heading = "Settings")]
    cni_config_dir: Option<PathBuf>,
    /// Where their plugins are, separated by commas [default: /opt/cni/bin,/usr/lib/cni]
    #[arg(long, value_name = "FOLDER,…", value_parser = value::flag::<Folders>, help_heading = "Settings")]
    cni_plugin_dir: Option<Folders>,
    /// How long one plugin may take before it is killed [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    cni_timeout: Option<Duration>,
    /// Whether to kill tasks that listen on a port of this agent's which they do not hold [default: false]
    #[arg(
        long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = value::flag::<bool>, help_heading = "Settings"
    )]
    enforce_ports: Option<bool>,
    /// Between two looks at where tasks listen [default: 15s]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, help_heading = "Settings")]
    ports_check_interval: Option<Duration>,
}

impl Args {
    /// Sets what is set here.
    pub(crate) fn resolve(self, settings: &mut Settings, config: &mut Config) -> anyhow::Result<()> {
        let folder = config.cni_config_dir.clone();
        config.cni_config_dir = settings.value("cni_config_dir", self.cni_config_dir, || folder)?;
        let folders = Folders(config.cni_plugin_dirs.clone());
        config.cni_plugin_dirs = settings.value("cni_plugin_dir", self.cni_plugin_dir, || folders)?.0;
        let enforce = config.enforce_ports;
        config.enforce_ports = settings.value("enforce_ports", self.enforce_ports, || enforce)?;
        let mut duration = |key, flag, value: &mut u64| -> anyhow::Result<()> {
            *value = millis(settings.value(key, flag, || Duration::from_millis(*value))?);
            Ok(())
        };
        duration("cni_timeout", self.cni_timeout, &mut config.cni_timeout_ms)?;
        duration("ports_check_interval", self.ports_check_interval, &mut config.ports_check_interval_ms)
    }
}
