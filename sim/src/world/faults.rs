//! Faults as they happen.

use std::time::Duration;

use apportion_types::Drain;

use super::{What, World};
use crate::{
    check::Happening,
    clock::START,
    fault::{Fault, Process},
    write::DOWN,
};

impl World {
    pub(super) fn fault(&mut self, number: usize) {
        self.faults_begun = number + 1;
        if let Some(next) = self.script.get(number + 1) {
            self.queue.push((START + next.at).max(self.now), What::Fault { number: number + 1 });
        }
        let fault = self.script[number].fault.clone();
        self.inflict(&fault);
    }

    /// Has a fault happen now.
    pub(crate) fn inflict(&mut self, fault: &Fault) {
        self.progress();
        self.observe(&Happening::Fault(fault));
        match *fault {
            Fault::Cut { peer, ways, lasts } => {
                self.cut(peer, ways);
                self.until(lasts, What::Heals { peer, ways });
            }
            Fault::Break { peer } => {
                for conn in self.conns_of(peer) {
                    self.break_conn(conn);
                }
            }
            Fault::Slow { peer, times, lasts } => {
                let times = times.max(1);
                let link = self.network.link_mut(peer);
                // Slow several times over is slow enough.
                if link.slowness == 1 {
                    link.slowness *= times;
                    self.until(lasts, What::Quickens { peer, times });
                }
            }
            Fault::Crash { process: Process::Master, down } => {
                if self.master.core.is_some() {
                    self.crash_master();
                    self.until(down, What::Start(Process::Master));
                }
            }
            Fault::Crash { process: Process::Agent(agent), down } => self.crash_agent(agent, down),
            Fault::Crash { process: Process::Framework(framework), down } => {
                if self.frameworks[framework].ended.is_none() {
                    self.crash_framework(framework, down);
                }
            }
            Fault::Reboot { agent, down } => {
                if self.agents[agent].core.is_some() {
                    self.reboot(agent, down);
                }
            }
            Fault::DiskFails { agent, down } => self.agents[agent].disk_fails = Some(down),
            Fault::Deactivate { agent, lasts } => self.takes_out(agent, None, lasts),
            Fault::Drain { agent, lasts } => self.takes_out(agent, Some(Drain::default()), lasts),
            Fault::Gone { agent } => self.declares_gone(agent),
            Fault::OutOfMemory { agent, container } => self.out_of_memory(agent, container),
        }
    }

    /// A process is killed at a write: the fault is told before it dies.
    pub(super) fn killed_at_write(&mut self, process: Process) {
        self.progress();
        self.observe(&Happening::Fault(&Fault::Crash { process, down: DOWN }));
        self.faults_over_at = self.faults_over_at.max(self.now + DOWN);
    }

    pub(super) fn until(&mut self, lasts: Duration, what: What) {
        let at = self.now + lasts;
        self.faults_over_at = self.faults_over_at.max(at);
        self.queue.push(at, what);
    }

    fn out_of_memory(&mut self, agent: usize, container: usize) {
        let containers = &self.agents[agent].machine.containers;
        let running: Vec<_> = containers.iter().filter(|(_, container)| container.is_running()).collect();
        if running.is_empty() {
            return;
        }
        let (id, container) = running[container % running.len()];
        let (exit, limitation) = container.out_of_memory();
        let id = id.clone();
        self.container_ends(agent, &id, exit, limitation);
    }
}
