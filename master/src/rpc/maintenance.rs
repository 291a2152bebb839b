//! What is planned of maintenance, between the wire and the core. A journal and a registry keep it in the same form.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use apportion_master_core::{
    Maintenance, OperatorCall, View,
    view::{AgentView, FrameworkState, InverseOfferView},
};
use apportion_proto::v1;
use apportion_types::{
    Capability, FrameworkId, MachineId, Unavailability, Window,
    convert::{ConvertError, machines},
};

use super::wire;

/// The wish to replace the schedule.
pub(crate) fn update_schedule(
    wire: v1::UpdateMaintenanceScheduleRequest,
) -> Result<OperatorCall, ConvertError> {
    Ok(OperatorCall::UpdateSchedule { windows: windows(wire.windows)? })
}

/// The same on the wire.
pub(crate) fn update_schedule_request(windows: &[Window]) -> v1::UpdateMaintenanceScheduleRequest {
    v1::UpdateMaintenanceScheduleRequest { windows: windows.iter().map(Into::into).collect() }
}

fn windows(wire: Vec<v1::MaintenanceWindow>) -> Result<Vec<Window>, ConvertError> {
    let each = |(at, window)| {
        Window::try_from(window).map_err(|error: ConvertError| error.within(format_args!("windows[{at}]")))
    };
    wire.into_iter().enumerate().map(each).collect()
}

/// The wish to take machines down.
pub(crate) fn start(wire: &v1::StartMaintenanceRequest) -> Result<OperatorCall, ConvertError> {
    Ok(OperatorCall::StartMaintenance { machines: machines("machines", &wire.machines)? })
}

/// The wish to let machines be up again.
pub(crate) fn stop(wire: &v1::StopMaintenanceRequest) -> Result<OperatorCall, ConvertError> {
    Ok(OperatorCall::StopMaintenance { machines: machines("machines", &wire.machines)? })
}

/// Machines on the wire.
pub(crate) fn names(machines: &BTreeSet<MachineId>) -> Vec<String> {
    machines.iter().map(ToString::to_string).collect()
}

/// All of it, as a registry keeps it.
pub(crate) fn kept(maintenance: &Maintenance) -> v1::RegistryMaintenance {
    v1::RegistryMaintenance {
        windows: maintenance.windows.iter().map(Into::into).collect(),
        down: names(&maintenance.down),
    }
}

/// The same, from a registry.
pub(crate) fn of_kept(wire: v1::RegistryMaintenance) -> Result<Maintenance, ConvertError> {
    let down = match wire.down.is_empty() {
        true => BTreeSet::new(),
        false => machines("down", &wire.down)?,
    };
    Ok(Maintenance { windows: windows(wire.windows)?, down })
}

/// The schedule, as readers see it.
pub(crate) fn schedule(view: &View) -> v1::GetMaintenanceScheduleResponse {
    v1::GetMaintenanceScheduleResponse { windows: view.maintenance.windows.iter().map(Into::into).collect() }
}

/// How machines stand: the one that is named, or all that something is planned for.
pub(crate) fn status(view: &View, machine: Option<&MachineId>) -> v1::GetMaintenanceStatusResponse {
    let planned = view.maintenance.by_machine();
    let mut machines: BTreeMap<&str, (Option<&MachineId>, Vec<&Arc<AgentView>>)> =
        planned.keys().map(|machine| (machine.as_str(), (Some(machine), Vec::new()))).collect();
    if let Some(machine) = machine {
        machines = [(machine.as_str(), (Some(machine), Vec::new()))].into();
    }
    for agent in view.agents.values() {
        if let Some((_, agents)) = machines.get_mut(agent.info.hostname.as_str()) {
            agents.push(agent);
        }
    }
    let each = |(machine, agents): (Option<&MachineId>, Vec<&Arc<AgentView>>)| {
        let machine = machine?;
        let windows: &[Unavailability] = planned.get(machine).map_or(&[], Vec::as_slice);
        Some(v1::MachineStatus {
            machine: machine.to_string(),
            mode: v1::MachineMode::from(view.maintenance.mode(machine)) as i32,
            windows: windows.iter().map(|window| (*window).into()).collect(),
            agents: agents.into_iter().map(|agent| machine_agent(view, agent)).collect(),
        })
    };
    v1::GetMaintenanceStatusResponse { machines: machines.into_values().filter_map(each).collect() }
}

fn machine_agent(view: &View, agent: &AgentView) -> v1::MachineAgent {
    let asked = view.inverse_offers.get(&agent.agent_id);
    let asked = asked.into_iter().flat_map(|asked| asked.iter());
    v1::MachineAgent {
        agent_id: agent.agent_id.to_string(),
        state: wire::agent_state(agent.state) as i32,
        frameworks: asked.map(|(id, asked)| inverse_offer(view, id, asked)).collect(),
    }
}

fn inverse_offer(view: &View, id: &FrameworkId, asked: &InverseOfferView) -> v1::InverseOfferSummary {
    let framework = view.frameworks.get(id);
    // Of one that is away it is not known what it will say.
    let takes = framework.is_some_and(|framework| {
        framework.state != FrameworkState::Active
            || framework.options.capabilities.contains(&Capability::InverseOffers)
    });
    let answer = match &asked.answer {
        Some(answer) if answer.accepted => v1::InverseOfferAnswer::Accepted,
        Some(_) => v1::InverseOfferAnswer::Declined,
        None if takes => v1::InverseOfferAnswer::Pending,
        None => v1::InverseOfferAnswer::NotAsked,
    };
    v1::InverseOfferSummary {
        framework_id: id.to_string(),
        framework_name: framework.map(|framework| framework.info.name.clone()).unwrap_or_default(),
        answer: answer as i32,
        reason: asked.answer.as_ref().map(|answer| answer.reason.clone()).unwrap_or_default(),
        answered_at_us: asked.answer.as_ref().map(|answer| answer.at.as_micros()),
        inverse_offer_id: asked.outstanding.as_ref().map(ToString::to_string),
        expires_at_us: asked.expires_at.map(apportion_types::Time::as_micros),
        resources: Some((&asked.resources).into()),
    }
}
