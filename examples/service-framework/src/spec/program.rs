//! What a replica and its helpers have in common: a program, and what it sees.

use std::collections::BTreeMap;

use apportion_sdk::{Artifact, Task, Volume};

use super::{
    check::check_variable,
    fault::{Fault, Way},
};
use crate::template;

/// What one task runs, with variables.
#[derive(Clone, Copy)]
pub(super) struct Program<'a> {
    pub(super) argv: &'a [String],
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) image: Option<&'a str>,
    pub(super) user: Option<&'a str>,
    pub(super) artifacts: &'a [Artifact],
    pub(super) volumes: &'a [Volume],
}

impl Program<'_> {
    /// The task, for a replica with these ports. Variables must be [known](Program::fault).
    pub(super) fn of(self, mut task: Task, replica: u32, ports: &[u16]) -> Task {
        let render = |text: &String| {
            template::render(text, replica, ports).expect("variables are checked when the text is read")
        };
        task = task.command(self.argv.iter().map(render)).env("APPORTION_REPLICA", replica.to_string());
        for (index, port) in ports.iter().enumerate() {
            task = task.env(format!("APPORTION_PORT{index}"), port.to_string());
        }
        // After ours: whoever sets one of these names means it.
        for (name, value) in self.env {
            task = task.env(name, render(value));
        }
        if let Some(image) = self.image {
            task = task.image(image);
        }
        if let Some(user) = self.user {
            task = task.user(user);
        }
        for artifact in self.artifacts {
            task = task.artifact(artifact.clone());
        }
        for Volume { source, container_path, writable } in self.volumes.iter().cloned() {
            task = task.mount(source, container_path, writable);
        }
        task
    }

    /// Says what is wrong, for a replica with these ports.
    pub(super) fn fault(self, ports: &[u16]) -> Option<Fault> {
        let names_program = match self.argv.first() {
            Some(program) => !program.is_empty(),
            None => self.image.is_some(),
        };
        if !names_program {
            return Some(Fault::at("command", "names no program"));
        }
        let unknown = |way: Way, text: &str| {
            let unknown = template::render(text, 0, ports).err()?;
            Some(Fault { what: format!("{way}: {unknown}"), way })
        };
        let in_env = |(name, value): (&String, &String)| {
            let way = Way::to("env").key(name);
            match check_variable(name) {
                Err(what) => Some(Fault { what: format!("{way}: {what}"), way }),
                Ok(()) => unknown(way, value),
            }
        };
        let in_command = self.argv.iter().find_map(|text| unknown(Way::to("command"), text));
        in_command.or_else(|| self.env.iter().find_map(in_env))
    }
}
