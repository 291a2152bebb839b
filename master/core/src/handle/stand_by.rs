//! Schedulers that stand by: of several of one framework one is subscribed, and the next takes its place when its stream has ended.

use apportion_types::{
    FrameworkId, FrameworkInfo, limits,
    protocol::scheduler::{ErrorCode, Event as SchedulerEvent},
};

use crate::{
    event::ConnId,
    state::{State, commits::Subscription, frameworks::SchedulerStream},
    turn::Turn,
    view::FrameworkState,
};

impl State {
    /// The framework that a scheduler is of which stands by and names none: the newest of its name and principal.
    pub(super) fn framework_named(&self, info: &FrameworkInfo) -> Option<FrameworkId> {
        let is_same = |of: &FrameworkInfo| of.name == info.name && of.principal == info.principal;
        let begun = self.subscribing.iter().find(|(_, begun)| is_same(&begun.info));
        let known = self
            .view
            .frameworks
            .values()
            .filter(|known| known.state != FrameworkState::Removed && is_same(&known.info));
        let newest = known.max_by_key(|known| (known.subscribed_at, &known.framework_id));
        begun.map(|(id, _)| id.clone()).or_else(|| newest.map(|known| known.framework_id.clone()))
    }

    /// True when another scheduler of the framework is subscribed, or is about to be.
    pub(super) fn is_led_by_another(&self, subscription: &Subscription) -> bool {
        let id = &subscription.framework_id;
        let begun = self.subscribing.get(id).map(|begun| &begun.stand_by);
        let subscribed =
            self.scheduler_conn(id).is_some().then(|| &self.view.frameworks[id].options.stand_by);
        begun.or(subscribed).is_some_and(|leads| *leads != subscription.options.stand_by)
    }

    /// Has a scheduler wait in line. One of the same name that waits already is the same scheduler.
    pub(super) fn stand_by(&mut self, turn: &mut Turn<'_>, subscription: Subscription) {
        let (conn, id) = (subscription.conn, subscription.framework_id.clone());
        let line = self.stand_bys.entry(id.clone()).or_default();
        let older = line.iter_mut().find(|older| older.options.stand_by == subscription.options.stand_by);
        if let Some(older) = older {
            let older = std::mem::replace(older, subscription).conn;
            let message = format!("the scheduler of framework {id} stands by on another stream");
            self.scheduler_streams.insert(older, SchedulerStream::Closing);
            turn.end_scheduler(older, ErrorCode::FailedOver, message);
        } else if line.len() < limits::STAND_BYS_MAX {
            line.push_back(subscription);
        } else {
            let message = format!("{} schedulers of framework {id} stand by already", limits::STAND_BYS_MAX);
            return self.refuse_subscription(turn, conn, ErrorCode::Refused, message);
        }
        self.scheduler_streams.insert(conn, SchedulerStream::StandingBy(id.clone()));
        let heartbeat_interval = self.config.scheduler_heartbeat;
        turn.tell_scheduler(conn, SchedulerEvent::StandingBy { framework_id: id, heartbeat_interval });
    }

    /// The stream of a scheduler that stood by has ended.
    pub(super) fn stand_by_closed(&mut self, conn: ConnId, id: &FrameworkId) {
        if let Some(line) = self.stand_bys.get_mut(id) {
            line.retain(|waiting| waiting.conn != conn);
            if line.is_empty() {
                self.stand_bys.remove(id);
            }
        }
    }

    /// Nobody is subscribed any more: the first in line is. The id is fresh when nobody ever was. False when nobody stands by.
    pub(super) fn let_next_in(&mut self, turn: &mut Turn<'_>, id: &FrameworkId, fresh: bool) -> bool {
        let Some(next) = self.stand_bys.get_mut(id).and_then(|line| line.pop_front()) else { return false };
        self.stand_by_closed(next.conn, id);
        self.admit_subscription(turn, Subscription { fresh, ..next });
        true
    }

    /// The streams of those who stand by for a framework that is removed; they are to be ended when that is written.
    pub(super) fn dismiss_stand_bys(&mut self, id: &FrameworkId) -> Vec<ConnId> {
        let line = self.stand_bys.remove(id).unwrap_or_default();
        line.iter()
            .for_each(|waiting| _ = self.scheduler_streams.insert(waiting.conn, SchedulerStream::Closing));
        line.into_iter().map(|waiting| waiting.conn).collect()
    }

    /// Signs of life for those who stand by.
    pub(super) fn stand_by_heartbeat(&self, turn: &mut Turn<'_>, id: &FrameworkId) {
        for waiting in self.stand_bys.get(id).into_iter().flatten() {
            turn.tell_scheduler(waiting.conn, SchedulerEvent::Heartbeat);
        }
    }
}
