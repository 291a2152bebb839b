//! Time has come for something.

use apportion_types::{
    AgentId, FrameworkId, limits,
    protocol::{agent::MasterMessage, scheduler::Event as SchedulerEvent},
};

use crate::{
    action::RegistryOp,
    state::{State, commits::Then, offers::Close, timers::Timer},
    turn::Turn,
    view::AskedAgain,
};

impl State {
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        while let Some(timer) = self.timers.pop_due(turn.now) {
            match timer {
                Timer::Offer(id) => {
                    self.close_offer(turn, &id, Close::TimedOut);
                }
                Timer::Ping(id) => self.ping(turn, id),
                Timer::Reregister(id) => self.give_up_agent(turn, id),
                Timer::GiveUpRecovered => self.give_up_recovered(turn),
                Timer::ForgetAgents => self.forget_agents(turn),
                Timer::Failover(id) => {
                    self.tear_down_framework(turn, &id, "the failover time-out has passed", None)
                }
                Timer::Heartbeat(id) => self.heartbeat(turn, id),
                Timer::Preempt(number) => self.preempt(turn, number),
                Timer::PlanPreemptions => self.plan_preemptions(turn),
                Timer::InverseOffer(id) => self.inverse_offer_timed_out(turn, &id),
                Timer::InverseFilter(agent_id, framework_id) => {
                    self.ask_again(&agent_id, &framework_id, AskedAgain::Now);
                }
                Timer::WindowEnds => self.windows_end(turn),
            }
        }
        let due = [self.allocate_at, self.allocator.next_deadline()];
        if due.into_iter().flatten().any(|at| at <= turn.now) {
            self.allocate(turn);
            self.plan_preemptions_soon(turn.now);
        }
        if self.free_at.is_some_and(|at| at <= turn.now) {
            self.tell_free(turn);
        }
    }

    fn ping(&mut self, turn: &mut Turn<'_>, id: AgentId) {
        let missed_max = self.config.agent_pings_missed_max.max(1);
        let next = turn.now + self.config.agent_ping_interval;
        let agent = self.agent(&id);
        if agent.pings_unanswered >= missed_max {
            return self.give_up_agent(turn, id);
        }
        agent.pings_unanswered += 1;
        agent.ping_sequence += 1;
        let (sequence, conn) = (agent.ping_sequence, agent.conn);
        turn.tell_agent(conn.expect("only a connected agent is pinged"), MasterMessage::Ping { sequence });
        self.timers.set(Timer::Ping(id), next);
    }

    /// Writes that an agent cannot be reached. It counts as lost when that is written, unless it is heard before.
    pub(crate) fn give_up_agent(&mut self, turn: &mut Turn<'_>, id: AgentId) {
        let at = turn.now;
        let op = RegistryOp::MarkUnreachable { agent_id: id.clone(), at: Some(at) };
        let commit = self.commits.ask(turn, op, Then::LoseAgent { agent_id: id.clone(), at });
        self.agent(&id).losing = Some(commit);
    }

    /// Gives up some of the agents that have not returned to this master, in the order of their ids. The rest have a little longer: when it
    /// is the master or its network that keeps them away, there is time to see that before all is lost.
    fn give_up_recovered(&mut self, turn: &mut Turn<'_>) {
        let undecided = self.awaited_agents.iter().filter(|id| self.agents[*id].losing.is_none());
        let some: Vec<AgentId> = undecided.take(self.given_up_at_once).cloned().collect();
        some.into_iter().for_each(|id| self.give_up_agent(turn, id));
        self.timers.set(Timer::GiveUpRecovered, turn.now + limits::RECOVERED_AGENTS_GIVEN_UP_INTERVAL);
    }

    fn heartbeat(&mut self, turn: &mut Turn<'_>, id: FrameworkId) {
        let conn = self.scheduler_conn(&id).expect("only a connected framework has a heartbeat");
        turn.tell_scheduler(conn, SchedulerEvent::Heartbeat);
        self.stand_by_heartbeat(turn, &id);
        self.timers.set(Timer::Heartbeat(id), turn.now + self.config.scheduler_heartbeat);
    }
}
