//! Actions as one line each.

use apportion_agent_core::{Action, ProcessRecord, Record, Signal, TaskRecord, VolumePlan};
use apportion_types::{
    CpuSet, Drain, TaskStatus,
    protocol::{
        agent::{AgentMessage, AgentOperation},
        executor::ExecutorEvent,
    },
};

pub(crate) fn action(action: &Action) -> String {
    match action {
        Action::Send(message) => format!("send {}", self::message(message)),
        Action::Reconnect { reason } => format!("reconnect: {reason}"),
        Action::Checkpoint { checkpoint, record } => {
            format!("checkpoint {} {}", checkpoint.0, self::record(record))
        }
        Action::Launch(plan) => {
            let env: Vec<String> = plan.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let c = plan.ceilings;
            let volume = |VolumePlan { volume: (role, id), path }: &VolumePlan| {
                format!(" volume {role}/{id} at {path}")
            };
            let volumes: String = plan.persistent.iter().map(volume).collect();
            let disk = c.disk_limit_bytes.map(|bytes| format!(" disk {bytes}")).unwrap_or_default();
            let io = c.io.write_bytes_per_second.map(|bytes| format!(" writes {bytes}")).unwrap_or_default();
            let executor = if plan.executor { " with a socket" } else { "" };
            let cores = cores(plan.cores.as_ref());
            format!(
                "launch {} {:?} cpus {}/{} mem {}/{} pids {}{io}{disk}{cores}{volumes}{executor} env {}",
                plan.container_id,
                plan.argv,
                c.cpus_request_milli,
                c.cpus_limit_milli,
                c.memory_request_bytes,
                c.memory_limit_bytes,
                c.pids_max,
                env.join(" "),
            )
        }
        Action::CancelLaunch { container_id } => format!("cancel launch {container_id}"),
        Action::Attach { container_id, group_network } => {
            let network = group_network.as_ref().map(|run| format!(" in the network of {run}"));
            format!("attach {container_id}{}", network.unwrap_or_default())
        }
        Action::LeaveNetwork { run } => format!("leave the network of {run}"),
        Action::Signal { container_id, signal: Signal::Term } => format!("TERM {container_id}"),
        Action::Signal { container_id, signal: Signal::Kill } => format!("KILL {container_id}"),
        Action::Probe { container_id, kind, number, probe: _, timeout } => {
            format!("probe {container_id} {kind:?} {number} within {timeout:?}")
        }
        Action::SendExecutor { container_id, event } => {
            format!("tell executor {container_id} {}", executor_event(event))
        }
        Action::DisconnectExecutor { container_id, code, message } => {
            format!("disconnect executor {container_id} {code:?}: {message}")
        }
        Action::Limit { container_id, number, ceilings: c, ports, cores } => {
            let cores = self::cores(cores.as_ref());
            let disk = c.disk_limit_bytes.map(|bytes| format!(" disk {bytes}")).unwrap_or_default();
            format!(
                "limit {container_id} {number} cpus {}/{} mem {}/{} pids {}{disk}{cores} ports {ports}",
                c.cpus_request_milli,
                c.cpus_limit_milli,
                c.memory_request_bytes,
                c.memory_limit_bytes,
                c.pids_max
            )
        }
        Action::Remove { container_id } => format!("remove {container_id}"),
        Action::MakeVolume((role, id)) => format!("make volume {role}/{id}"),
        Action::DeleteVolume((role, id)) => format!("delete volume {role}/{id}"),
        Action::KeepVolumes(volumes) => {
            let names: Vec<String> = volumes.iter().map(|(role, id)| format!("{role}/{id}")).collect();
            format!("keep volumes {names:?}")
        }
        Action::Note { message } => format!("note: {message}"),
        Action::Fail { reason } => format!("fail: {reason}"),
        Action::Done { unregistered } => format!("done{}", if *unregistered { ", unregistered" } else { "" }),
    }
}

fn cores(cores: Option<&CpuSet>) -> String {
    cores.map(|cores| format!(" on {cores}")).unwrap_or_default()
}

fn executor_event(event: &ExecutorEvent) -> String {
    match event {
        ExecutorEvent::Subscribed { framework_id, executor, agent_id } => {
            let agent = agent_id.as_ref().map_or("an agent without an id".to_owned(), ToString::to_string);
            format!("subscribed {framework_id}/{executor} on {agent}")
        }
        ExecutorEvent::Launch { run_id, info } => format!("launch {run_id} {}", info.task_id),
        ExecutorEvent::Kill { run_id, grace, reason } => format!("kill {run_id} within {grace:?} {reason}"),
        ExecutorEvent::Acknowledge { update_id } => format!("acknowledge #{}", update_id.0[15]),
        ExecutorEvent::Refuse { code, message } => format!("refuse {code:?}: {message}"),
    }
}

fn record(record: &Record) -> String {
    match record {
        Record::Agent { agent_id } => format!("agent {agent_id}"),
        Record::Process(ProcessRecord { boot_id, settings }) => {
            let mut text = format!("process at {} with {}", settings.hostname, settings.resources);
            settings.attributes.iter().for_each(|(name, value)| text += &format!(" {name}={value}"));
            settings
                .domain
                .iter()
                .for_each(|domain| text += &format!(" in {}/{}", domain.region, domain.zone));
            boot_id.iter().for_each(|id| text += &format!(" boot {id}"));
            text
        }
        Record::Drain(None) => "drained no more".to_owned(),
        Record::Drain(Some(Drain { grace_max, mark_gone })) => {
            let grace = grace_max.map(|grace| format!(" within {grace:?}")).unwrap_or_default();
            format!("drained{grace}{}", if *mark_gone { ", then gone" } else { "" })
        }
        Record::Times { framework_id, task_id, times } => {
            let mut text = format!("times {framework_id}/{task_id}");
            times.started_at.iter().for_each(|at| text += &format!(" started {at}"));
            times.kill_at.iter().for_each(|at| text += &format!(" KILL {at}"));
            text
        }
        Record::Task(task) => {
            let cores = cores(task.cores.as_ref());
            format!(
                "task {}/{} {} in {}{cores}",
                task.framework_id, task.info.task_id, task.info.resources, task.container_id
            )
        }
        Record::Group(tasks) => {
            let each = |task: &TaskRecord| {
                format!("{} in {}{}", task.info.task_id, task.container_id, cores(task.cores.as_ref()))
            };
            let tasks: Vec<String> = tasks.iter().map(each).collect();
            format!("group of {}", tasks.join(", "))
        }
        Record::Turn { framework_id, task_id } => format!("turn of {framework_id}/{task_id}"),
        Record::Update { framework_id, status } => format!("update {framework_id}/{}", self::status(status)),
        Record::Acknowledgement { framework_id, task_id, update_id } => {
            format!("acknowledgement {framework_id}/{task_id} #{}", update_id.0[15])
        }
        Record::Operation { total, outcome } => {
            let total = total.as_ref().map(|total| format!(" makes {total}")).unwrap_or_default();
            let outcome = outcome.as_ref().map(|outcome| format!(" {}", self::outcome(outcome)));
            format!("operation{}{total}", outcome.unwrap_or_default())
        }
        Record::OperationAcknowledgement { framework_id, operation_id, update_id } => {
            format!("acknowledgement of operation {framework_id}/{operation_id} #{}", update_id.0[15])
        }
    }
}

fn message(message: &AgentMessage) -> String {
    match message {
        AgentMessage::Register { info: _, agent_id, total, tasks, operations } => {
            let id = agent_id.as_ref().map_or("a new agent".to_owned(), ToString::to_string);
            let mut text = format!("register as {id} with {total}");
            for task in tasks {
                text += &format!(" | {}/{} {}", task.framework_id, task.info.task_id, task.state);
                if let Some(head) = &task.unacknowledged {
                    text += &format!(", head #{} {}", head.update_id.unwrap().0[15], head.state);
                }
            }
            for operation in operations {
                text += &format!(" | operation {}", outcome(operation));
            }
            text
        }
        AgentMessage::OperationUpdate(operation) => format!("operation {}", outcome(operation)),
        AgentMessage::Total { total, applied } => format!("total {total} after {applied}"),
        AgentMessage::Oversubscribed { revocable } if revocable.is_empty() => "lends nothing".to_owned(),
        AgentMessage::Oversubscribed { revocable } => format!("lends {revocable}"),
        AgentMessage::StatusUpdate { framework_id, status, latest_state } => {
            let latest =
                if *latest_state == status.state { String::new() } else { format!(" (now {latest_state})") };
            format!("update {framework_id}/{}{latest}", self::status(status))
        }
        AgentMessage::Pong { sequence } => format!("pong {sequence}"),
        AgentMessage::Unregister { message } => format!("unregister: {message}"),
    }
}

fn outcome(operation: &AgentOperation) -> String {
    let status = &operation.status;
    let number = status.update_id.unwrap().0[15];
    let mut text = format!("{}/{} #{number} {}", operation.framework_id, status.operation_id, status.state);
    if let Some(reason) = status.reason {
        text += &format!(" {reason} `{}`", status.message);
    }
    text
}

fn status(status: &TaskStatus) -> String {
    let mut text = format!("{} #{} {}", status.task_id, status.update_id.unwrap().0[15], status.state);
    if let Some(reason) = status.reason {
        text += &format!(" {reason}");
    }
    for address in &status.addresses {
        text += &format!(" {address}");
    }
    if !status.message.is_empty() {
        text += &format!(" `{}`", status.message);
    }
    match status.findings.healthy {
        Some(true) => text += " healthy",
        Some(false) => text += " unhealthy",
        None => {}
    }
    if let Some(check) = status.findings.check {
        text += &format!(" check: {check}");
    }
    text
}
