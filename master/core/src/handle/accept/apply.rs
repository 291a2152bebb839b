//! Doing what was planned.

use std::sync::Arc;

use apportion_types::{Resources, TaskInfo, TaskState, protocol::agent::MasterMessage};

use super::{super::scheduler_stream::Caller, Plan, plan::Step};
use crate::{
    state::{State, offers::Close, tasks::Charge},
    turn::Turn,
    view::TaskView,
};

impl State {
    /// Does what was planned, in order: the agent is told each step as it is done, so that what follows may use what it makes.
    pub(in crate::handle) fn do_plan(&mut self, turn: &mut Turn<'_>, caller: &Caller, plan: Plan) {
        let Plan { agent_id, role, offers, steps, unused, made, refuse_until, .. } = plan;
        let id = &caller.framework_id;
        for offer in &offers {
            self.close_offer(turn, offer, Close::Accepted);
        }
        let counters = &mut self.view.counters;
        let used = offers.len() as u64;
        *if steps.is_empty() { &mut counters.offers_declined } else { &mut counters.offers_accepted } += used;
        let conn =
            self.agent_conn(&agent_id).expect("an agent whose resources are offered or claimed is connected");
        for step in steps {
            match step {
                Step::Launch(tasks) => {
                    self.view.counters.tasks_launched += tasks.len() as u64;
                    for info in &tasks {
                        self.launch(turn, caller, &agent_id, &role, info.clone());
                    }
                    let framework_info = self.view.frameworks[id].info.clone();
                    let role = role.clone();
                    let run =
                        MasterMessage::RunTasks { framework_id: id.clone(), framework_info, role, tasks };
                    turn.tell_agent(conn, run);
                }
                Step::Convert { id: operation_id, operation, conversion } => {
                    self.rescind_shared(turn, &agent_id, &conversion.consumed);
                    self.allocator.convert_allocated(id, &role, &agent_id, &conversion);
                    self.convert_agent(&agent_id, &conversion);
                    if let Some(operation_id) = &operation_id {
                        self.operations.sent(id, operation_id, &agent_id);
                    }
                    self.agent(&agent_id).applies_sent += 1;
                    let framework_id = Some(id.clone());
                    turn.tell_agent(conn, MasterMessage::Apply { framework_id, operation_id, operation });
                }
            }
        }
        if !made.is_empty() {
            self.allocator.recover(id, &role, &agent_id, &made, None);
        }
        if !unused.is_empty() {
            self.allocator.recover(id, &role, &agent_id, &unused, refuse_until);
        }
    }

    fn launch(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        agent_id: &apportion_types::AgentId,
        role: &apportion_types::Role,
        info: Arc<TaskInfo>,
    ) {
        let view = TaskView {
            framework_id: caller.framework_id.clone(),
            agent_id: agent_id.clone(),
            role: role.clone(),
            info,
            state: TaskState::Staging,
            status: None,
            accepted_at: turn.now,
        };
        self.add_task(view, None, Charge::Offered);
    }

    /// Takes back the offers that hold a shared volume which is about to go.
    pub(crate) fn rescind_shared(
        &mut self,
        turn: &mut Turn<'_>,
        agent_id: &apportion_types::AgentId,
        going: &Resources,
    ) {
        let shared = going.shared();
        if shared.is_empty() {
            return;
        }
        let holds = |resources: &Resources| {
            shared.entries().any(|volume| resources.entries().any(|entry| entry == volume))
        };
        let offers: Vec<_> = self.agents[agent_id].offers.iter().cloned().collect();
        for offer in offers {
            if holds(&self.view.offers[&offer].offer.resources) {
                self.close_offer(turn, &offer, Close::Changed);
            }
        }
    }
}
