//! A framework subscribes: for the first time, again, or after a master that is no more.

use std::{collections::BTreeSet, sync::Arc};

use apportion_types::{
    FrameworkId, FrameworkInfo, FrameworkOptions, Role, limits,
    protocol::scheduler::{ErrorCode, Event as SchedulerEvent},
};

use crate::{
    action::RegistryOp,
    event::{ConnId, RequestId},
    state::{
        State,
        commits::{Subscription, Then},
        frameworks::{Begun, SchedulerStream},
        ids::Origin,
        offers::Close,
    },
    turn::Turn,
    view::FrameworkState,
};

impl State {
    pub(super) fn subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        info: FrameworkInfo,
        framework_id: Option<FrameworkId>,
        suppressed: Vec<Role>,
        options: Box<FrameworkOptions>,
    ) {
        let named = || options.stand_by.is_some().then(|| self.framework_named(&info)).flatten();
        let framework_id = framework_id.or_else(named);
        let judged = judge_info(&info, &suppressed)
            .map_err(|message| (ErrorCode::Refused, message))
            .and_then(|()| framework_id.as_ref().map_or(Ok(()), |id| self.judge_return(id, &info)));
        if let Err((code, message)) = judged {
            return self.refuse_subscription(turn, conn, code, message);
        }
        let fresh = framework_id.is_none();
        let framework_id = framework_id.unwrap_or_else(|| self.ids.framework());
        let subscription = Box::new(Subscription { conn, framework_id, fresh, info, suppressed, options });
        if subscription.options.stand_by.is_some() && self.is_led_by_another(&subscription) {
            return self.stand_by(turn, *subscription);
        }
        self.admit_subscription(turn, *subscription);
    }

    /// Lets a framework in, once the registry knows it as it wishes to be known.
    pub(super) fn admit_subscription(&mut self, turn: &mut Turn<'_>, subscription: Subscription) {
        let Subscription { conn, framework_id: id, info, options, .. } = &subscription;
        let recorded = self.frameworks.get(id).is_some_and(|framework| framework.recorded)
            && self.view.frameworks.get(id).is_some_and(|view| view.info.as_ref() == info);
        if recorded {
            return self.let_in(turn, subscription);
        }
        self.scheduler_streams.insert(*conn, SchedulerStream::Subscribing);
        if options.stand_by.is_some() {
            let begun = Begun { conn: *conn, info: info.clone(), stand_by: options.stand_by.clone() };
            self.subscribing.insert(id.clone(), begun);
        }
        let op = RegistryOp::AdmitFramework { framework_id: id.clone(), info: info.clone() };
        self.commits.ask(turn, op, Then::Subscribe(Box::new(subscription)));
    }

    /// The registry knows the framework as it wishes to be known.
    pub(super) fn subscription_committed(&mut self, turn: &mut Turn<'_>, subscription: Subscription) {
        let Subscription { conn, framework_id: id, fresh, info, .. } = &subscription;
        let connected = self.scheduler_streams.get(conn) == Some(&SchedulerStream::Subscribing);
        if self.subscribing.get(id).is_some_and(|begun| begun.conn == *conn) {
            self.subscribing.remove(id);
        }
        // Things may have changed during the write: the framework may be removed.
        if let Err((code, message)) = if *fresh { Ok(()) } else { self.judge_return(id, info) } {
            if connected {
                self.refuse_subscription(turn, *conn, code, message);
            }
        } else if connected {
            self.let_in(turn, subscription);
        } else if !self.subscribing.contains_key(id) && self.let_next_in(turn, id, *fresh) {
            // Who stood by for it takes its place.
        } else if *fresh {
            // It has gone without ever hearing its id, so nobody can come back under it.
            self.write_removed(turn, id, Then::Nothing);
        } else if !self.frameworks.contains_key(id) {
            self.add_framework(turn.now, id, info.clone(), FrameworkState::Disconnected);
        } else {
            // The registry is ahead of what is known here; the next subscription writes it anew.
            self.framework(id).recorded = false;
        }
    }

    fn let_in(&mut self, turn: &mut Turn<'_>, subscription: Subscription) {
        let Subscription { conn, framework_id: id, info, suppressed, options, .. } = subscription;
        if !self.frameworks.contains_key(&id) {
            self.add_framework(turn.now, &id, info.clone(), FrameworkState::Disconnected);
        }
        if let Some(old) = self.scheduler_conn(&id) {
            if old > conn {
                let message =
                    format!("framework {id} has subscribed on a stream that it opened after this one");
                return self.refuse_subscription(turn, conn, ErrorCode::FailedOver, message);
            }
            turn.end_scheduler(
                old,
                ErrorCode::FailedOver,
                format!("framework {id} has subscribed on another stream"),
            );
            self.scheduler_streams.insert(old, SchedulerStream::Closing);
            self.disconnect_framework(turn, &id, Close::FailedOver);
        }
        self.activate_framework(turn, conn, &id, info, suppressed, options);
        let subscribed = SchedulerEvent::Subscribed {
            framework_id: id.clone(),
            heartbeat_interval: self.config.scheduler_heartbeat,
            master_id: self.config.master_id.clone(),
        };
        turn.tell_scheduler(conn, subscribed);
        self.repeat_unacknowledged(turn, &id);
        self.repeat_notices(turn, &id);
    }

    /// Sends again what the framework has not acknowledged, rather than leave it to the agents' slow repetition. Of a task that
    /// cannot be reached, the newest news is that.
    fn repeat_unacknowledged(&mut self, turn: &mut Turn<'_>, id: &FrameworkId) {
        let tasks: Vec<_> = self.frameworks[id].tasks.keys().map(|task| (id.clone(), task.clone())).collect();
        for key in &tasks {
            let state = self.view.tasks[key].state;
            if (state.is_terminal() || state.holds_resources())
                && let Some(status) = self.task(key).unacknowledged.clone()
            {
                self.tell_status(turn, id, Arc::unwrap_or_clone(status));
            }
        }
    }

    pub(super) fn refuse_subscription(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        code: ErrorCode,
        message: String,
    ) {
        self.view.counters.calls_refused += 1;
        self.scheduler_streams.insert(conn, SchedulerStream::Closing);
        turn.end_scheduler(conn, code, message);
    }

    /// Judges a subscription with an id.
    fn judge_return(&self, id: &FrameworkId, info: &FrameworkInfo) -> Result<(), (ErrorCode, String)> {
        let removed = || {
            let message = format!(
                "framework {id} is gone for ever: it was torn down or did not return within its failover time-out; \
                 subscribe without an id to begin anew"
            );
            Err((ErrorCode::Removed, message))
        };
        if !self.view.frameworks.contains_key(id) && self.subscribing.contains_key(id) {
            return Ok(()); // another scheduler of it is about to be the first
        }
        match (self.view.frameworks.get(id), self.ids.framework_origin(id)) {
            (Some(known), _) if known.state == FrameworkState::Removed => removed(),
            (Some(known), _) if known.info.principal != info.principal => {
                let message = format!(
                    "framework {id} belongs to principal `{}`, not `{}`; a framework cannot change its principal",
                    known.info.principal, info.principal
                );
                Err((ErrorCode::Refused, message))
            }
            (None, Origin::Foreign) if self.removed_ids.contains(id) => removed(),
            (Some(_), _) | (None, Origin::Foreign) => Ok(()),
            (None, Origin::Ours) => removed(),
            (None, Origin::NeverGiven) => {
                let message =
                    format!("framework id {id} was never given by this master; subscribe without an id");
                Err((ErrorCode::Refused, message))
            }
        }
    }

    /// Removes a framework, and answers whoever asked for it once that is written.
    pub(super) fn tear_down_framework(
        &mut self,
        turn: &mut Turn<'_>,
        id: &FrameworkId,
        message: &str,
        request: Option<RequestId>,
    ) {
        let conn = self.scheduler_conn(id);
        if let Some(conn) = conn {
            self.scheduler_streams.insert(conn, SchedulerStream::Closing);
        }
        self.remove_framework(turn, id);
        let conns = conn.into_iter().chain(self.dismiss_stand_bys(id)).collect();
        let then = Then::FrameworkRemoved { conns, message: message.to_owned(), request };
        self.write_removed(turn, id, then);
    }

    /// Writes that a framework is removed, and forgets the oldest of those that are too many.
    fn write_removed(&mut self, turn: &mut Turn<'_>, id: &FrameworkId, then: Then) {
        self.commits.ask(turn, RegistryOp::RemoveFramework { framework_id: id.clone() }, then);
        self.removed_ids.extend([id.clone()]);
        for framework_id in self.removed_ids.take_surplus() {
            self.commits.ask(turn, RegistryOp::ForgetFramework { framework_id }, Then::Nothing);
        }
    }
}

/// Judges how a framework describes itself, as far as the form on the wire does not.
pub(crate) fn judge_info(info: &FrameworkInfo, suppressed: &[Role]) -> Result<(), String> {
    let roles: BTreeSet<&Role> = info.roles.iter().collect();
    if roles.is_empty() {
        return Err("the framework names no role; name at least one, such as `*`".to_owned());
    }
    if info.roles.len() > limits::ROLES_MAX {
        return Err(format!(
            "the framework names {} roles; at most {} are allowed",
            info.roles.len(),
            limits::ROLES_MAX
        ));
    }
    if roles.len() < info.roles.len() {
        return Err("the framework names a role twice; name each once".to_owned());
    }
    if let Some(unknown) = suppressed.iter().find(|role| !roles.contains(role)) {
        return Err(format!(
            "suppressed role `{unknown}` is not among the framework's roles; add it or leave it out"
        ));
    }
    if info.failover_timeout > limits::FAILOVER_TIMEOUT_MAX {
        return Err(format!(
            "failover time-out of {} s is over the limit of {} s",
            info.failover_timeout.as_secs(),
            limits::FAILOVER_TIMEOUT_MAX.as_secs()
        ));
    }
    Ok(())
}
