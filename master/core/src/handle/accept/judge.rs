//! What makes an accept's offers, tasks and operations good or bad.

use std::collections::BTreeSet;

use apportion_types::{
    AgentCapability, AgentId, FrameworkId, OfferId, Operation, Resources, Role, TaskInfo, Volume,
    VolumeSource,
    container::{Control, Unenforced},
    operation::Conversion,
    resources::{Entry, Name},
};

use crate::{state::State, view::OfferView};

impl State {
    /// Judges the offers of an accept; says which is not valid, and why.
    pub(super) fn judge_offers(&self, id: &FrameworkId, offers: &[OfferId]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        let mut first: Option<&OfferView> = None;
        for offer_id in offers {
            if !seen.insert(offer_id) {
                return Err(format!("offer `{offer_id}` is named twice in the accept"));
            }
            let view = match self.view.offers.get(offer_id) {
                None => return Err(self.why_not_outstanding(offer_id)),
                Some(view) if view.offer.framework_id != *id => {
                    return Err(format!("offer `{offer_id}` was made to another framework"));
                }
                Some(view) => view,
            };
            let (one, other) = (&first.get_or_insert(view).offer, &view.offer);
            if one.agent_id != other.agent_id {
                return Err(format!(
                    "offers `{}` and `{}` are of two agents, {} and {}; an accept takes offers of one agent and one role",
                    one.offer_id, other.offer_id, one.agent_id, other.agent_id
                ));
            }
            if one.role != other.role {
                return Err(format!(
                    "offers `{}` and `{}` are for two roles, {} and {}; an accept takes offers of one agent and one role",
                    one.offer_id, other.offer_id, one.role, other.role
                ));
            }
        }
        first.map(|_| ()).ok_or_else(|| "the accept names no offer".to_owned())
    }

    /// Judges one task against what the tasks before it left.
    pub(super) fn judge_task(
        &self,
        id: &FrameworkId,
        agent_id: &AgentId,
        info: &TaskInfo,
        usable: &Resources,
    ) -> Result<(), String> {
        let task_id = &info.task_id;
        if let Some(known) = self.view.tasks.get(&(id.clone(), task_id.clone())) {
            let what =
                if known.state.is_terminal() { "whose end is not acknowledged yet" } else { "which goes on" };
            return Err(format!(
                "task id `{task_id}` is in use by a {} task on agent {}, {what}; \
                 an id is free again when the end of its task is acknowledged",
                known.state, known.agent_id
            ));
        }
        if self.agents[agent_id].strays.contains_key(&(id.clone(), task_id.clone())) {
            return Err(format!(
                "agent {agent_id} is still ending an older task of the id `{task_id}`; use another id"
            ));
        }
        if info.resources.is_empty() {
            return Err(format!("task `{task_id}` asks for no resources; ask at least for some cpus or mem"));
        }
        for (name, value) in info.limits.iter() {
            if !matches!(name, Name::Cpus | Name::Mem) {
                return Err(format!("task `{task_id}` limits {name}; only cpus and mem can be limited"));
            }
            if info.limits.milli(name) < info.resources.milli(name) {
                let asked = Resources::scalar(name.clone(), info.resources.milli(name));
                return Err(format!(
                    "task `{task_id}` limits {name} to {value}, which is less than it asks for, {asked}"
                ));
            }
        }
        if let Some(why) = info.network_refusal() {
            return Err(format!("task `{task_id}`: {why}"));
        }
        let lent: BTreeSet<&Name> =
            info.resources.entries().filter(|entry| entry.is_revocable()).map(Entry::name).collect();
        let mixed = |entry: &&Entry| !entry.is_revocable() && lent.contains(entry.name());
        if let Some(entry) = info.resources.entries().find(mixed) {
            let name = entry.name();
            return Err(format!(
                "task `{task_id}` asks for {name} that is revocable and {name} that is not; ask for one kind"
            ));
        }
        if usable.contains(&info.resources) {
            return Ok(());
        }
        let offered = if usable.is_empty() { "nothing left".to_owned() } else { usable.to_string() };
        Err(format!(
            "task `{task_id}` needs {}, the offer has {offered}, missing {}",
            info.resources,
            usable.missing(&info.resources)
        ))
    }

    /// Judges whether the agent has what a task cannot be run without. What bounds every task (memory, disk, processes) is no such
    /// thing: where that is not enforced the agent says so, and the task runs unbounded. A bound that few tasks have, because they ask for
    /// it, is one.
    pub(super) fn judge_controls(&self, agent_id: &AgentId, info: &TaskInfo) -> Result<(), String> {
        let agent = &self.view.agents[agent_id].info;
        let by_volume = |volume: &Volume| matches!(volume.source, VolumeSource::Image(_));
        let image = info.container.image.is_some() || info.volumes.iter().any(by_volume);
        let exclusive = info.container.exclusive_cpus;
        let needed = [
            (image, Control::Images, "asks for an image", "cannot give it one"),
            (exclusive, Control::Cpuset, "asks for cores of its own", "cannot give it any"),
            (info.container.io.is_some(), Control::Io, "limits its io", "cannot hold it to that"),
        ];
        let unenforced = &agent.unenforced;
        for (_, control, asks, cannot) in needed.into_iter().filter(|(needed, ..)| *needed) {
            if let Some(Unenforced { reason, .. }) = unenforced.iter().find(|of| of.control == control) {
                return Err(format!(
                    "task `{}` {asks}, and agent {agent_id} {cannot}: {reason}",
                    info.task_id
                ));
            }
        }
        if exclusive && !agent.capabilities.contains(&AgentCapability::ExclusiveCpus) {
            return Err(format!(
                "agent {agent_id} does not know cores of a task's own; its version `{}` is older than they are: upgrade it, or take another",
                agent.version
            ));
        }
        Ok(())
    }

    /// Judges an operation on what the framework has been offered for a role; returns what it does.
    pub(super) fn judge_operation(
        &self,
        id: &FrameworkId,
        agent_id: &AgentId,
        role: &Role,
        operation: &Operation,
        usable: &Resources,
        total: &Resources,
    ) -> Result<Conversion, String> {
        let name = operation.name();
        let conversion = operation.conversion().map_err(|problem| format!("{name}: {problem}"))?;
        let principal = &self.view.frameworks[id].info.principal;
        for reservation in operation.reservations() {
            let by = reservation.dynamic.as_ref().map(|dynamic| &dynamic.principal);
            if by.is_some_and(|by| by != principal) {
                return Err(format!(
                    "{name}: the reservation for {} is by principal `{}`, and the framework's is `{principal}`",
                    reservation.role,
                    by.map_or("", String::as_str)
                ));
            }
            if matches!(operation, Operation::Reserve { .. }) && reservation.role != *role {
                return Err(format!(
                    "{name}: the offer is for role {role}, so nothing can be reserved with it for {}",
                    reservation.role
                ));
            }
        }
        if !usable.contains(&conversion.consumed) {
            return Err(format!(
                "{name}: it needs {}, the offer has {usable}, missing {}",
                conversion.consumed,
                usable.missing(&conversion.consumed)
            ));
        }
        self.judge_conversion(agent_id, name, &conversion, total)?;
        Ok(conversion)
    }

    /// Judges whether an agent can be converted so: no volume twice, and none destroyed that a task uses.
    pub(crate) fn judge_conversion(
        &self,
        agent_id: &AgentId,
        name: &str,
        conversion: &Conversion,
        total: &Resources,
    ) -> Result<(), String> {
        let users = self.users_of_shared(agent_id, &conversion.consumed);
        if !users.is_empty() {
            return Err(format!("{name}: a shared volume is in use by {}; end them first", users.join(", ")));
        }
        if conversion.apply(total).is_none() {
            return Err(format!(
                "{name}: agent {agent_id} has a volume of that id for the role already, or not all of {}",
                conversion.consumed
            ));
        }
        Ok(())
    }

    /// The tasks that use one of these shared volumes.
    fn users_of_shared(&self, agent_id: &AgentId, volumes: &Resources) -> Vec<String> {
        let shared = volumes.shared();
        if shared.is_empty() {
            return Vec::new();
        }
        let uses = |resources: &Resources| {
            shared.entries().any(|volume| resources.entries().any(|entry| entry == volume))
        };
        let live = self.agents[agent_id].tasks.iter().map(|key| &self.view.tasks[key]);
        let users = live.filter(|task| task.state.holds_resources() && uses(&task.info.resources));
        users.map(|task| format!("task `{}` of framework {}", task.info.task_id, task.framework_id)).collect()
    }
}
