//! What a scheduler may ask for within a callback.

use std::time::Duration;

use apportion_types::{
    AgentId, FrameworkId, FrameworkInfo, FrameworkOptions, OfferId, OperationId, Role, TaskId, Time, limits,
    protocol::scheduler::{Claim, ResourceRequest},
};

use crate::Stop;

/// The driver as a callback sees it: the time, who the framework is, and what may be asked for.
///
/// What is asked for is sent when the callback returns: first what was placed on offers, then these in the order asked. Without
/// a connection it is kept where it still makes sense (kills, reconciliations, stop) and forgotten where it does not (revive).
#[derive(Debug)]
pub struct Context<'a> {
    pub(crate) now: Time,
    pub(crate) framework_id: Option<&'a FrameworkId>,
    pub(crate) info: &'a FrameworkInfo,
    pub(crate) options: &'a FrameworkOptions,
    pub(crate) subscribed: bool,
    pub(crate) asked: &'a mut Vec<Ask>,
}

/// Something asked for within a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    Kill { task_id: TaskId, grace: Option<Duration> },
    Reconcile(Vec<(TaskId, Option<AgentId>)>),
    ReconcileAll,
    ReconcileOperations(Vec<(OperationId, Option<AgentId>)>),
    UpdateFramework(Box<(FrameworkInfo, FrameworkOptions)>),
    Request { role: Role, requests: Vec<ResourceRequest> },
    AcceptInverseOffers { inverse_offers: Vec<OfferId>, refuse: Option<Duration> },
    DeclineInverseOffers { inverse_offers: Vec<OfferId>, refuse: Option<Duration>, reason: String },
    WatchFree(bool),
    Commit { role: Role, claims: Vec<Claim>, all_or_nothing: bool },
    Revive,
    Wake(Duration),
    Stop(Stop),
}

impl Context<'_> {
    /// The time of this callback: of a monotonic clock, or virtual in a simulation. The same all through one callback.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The framework's id; none before the first subscription of a new framework.
    pub fn framework_id(&self) -> Option<&FrameworkId> {
        self.framework_id
    }

    /// The framework as it describes itself, such as its roles.
    pub fn info(&self) -> &FrameworkInfo {
        self.info
    }

    /// What the framework wishes of offers.
    pub fn options(&self) -> &FrameworkOptions {
        self.options
    }

    /// True while a subscription stands.
    pub fn is_subscribed(&self) -> bool {
        self.subscribed
    }

    /// Asks for a task to end: TERM, and KILL after `grace`; after the task's own grace when none.
    ///
    /// The wish outlives lost connections: it is repeated at every subscription until the task is told to have ended. Asking
    /// again can only shorten the grace. A task that is not known is told to [`update`](crate::Scheduler::update) as gone or
    /// unknown.
    pub fn kill(&mut self, task_id: &TaskId, grace: Option<Duration>) {
        self.asked.push(Ask::Kill { task_id: task_id.clone(), grace });
    }

    /// Asks for the state of these tasks, each with its agent where known, again and again with growing pauses until each was
    /// told to [`update`](crate::Scheduler::update).
    pub fn reconcile(&mut self, tasks: impl IntoIterator<Item = (TaskId, Option<AgentId>)>) {
        let tasks: Vec<_> = tasks.into_iter().collect();
        // To the master an empty list means every task.
        if !tasks.is_empty() {
            self.asked.push(Ask::Reconcile(tasks));
        }
    }

    /// Asks once for the state of every task of the framework that the master knows: finds tasks that the scheduler has
    /// forgotten. One that the master does not know is not told; see [`reconcile`](Context::reconcile).
    pub fn reconcile_all(&mut self) {
        self.asked.push(Ask::ReconcileAll);
    }

    /// Asks for the state of these operations, as [`reconcile`](Context::reconcile) for tasks; told to
    /// [`operation`](crate::Scheduler::operation).
    pub fn reconcile_operations(
        &mut self,
        operations: impl IntoIterator<Item = (OperationId, Option<AgentId>)>,
    ) {
        let operations: Vec<_> = operations.into_iter().collect();
        if !operations.is_empty() {
            self.asked.push(Ask::ReconcileOperations(operations));
        }
    }

    /// Changes the framework's description and its wishes of offers, all at once; what is not to change is taken from
    /// [`info`](Context::info) and [`options`](Context::options). Offers for roles that go are rescinded.
    ///
    /// Later subscriptions begin with what was given here. When the master refuses it, [`refused`](crate::Scheduler::refused) is told
    /// and everything is as before; a principal, for one, must stay.
    pub fn update_framework(&mut self, info: FrameworkInfo, options: FrameworkOptions) {
        self.asked.push(Ask::UpdateFramework(Box::new((info, options))));
    }

    /// Says what waits to be placed for a role, instead of what was said before: nothing when `requests` is empty.
    ///
    /// It is the ground on which the master preempts for a role of higher priority, and what it explains. Offers come with or without
    /// it. The master counts off what it gathers for it, so say it again, unchanged or not,
    /// after each callback in which something was placed or not placed; what the master knows is not sent again. Told again after each
    /// lost connection.
    pub fn request(&mut self, role: &Role, requests: Vec<ResourceRequest>) {
        self.asked.push(Ask::Request { role: role.clone(), requests });
    }

    /// Answers [inverse offers](crate::Scheduler::inverse_offers): their agents will have been left before the window. Asked again after
    /// `again`, if the framework still has something there; not about the same window when none. Shown to the operator, who decides.
    pub fn accept_inverse_offers(
        &mut self,
        inverse_offers: impl IntoIterator<Item = OfferId>,
        again: Option<Duration>,
    ) {
        let inverse_offers = inverse_offers.into_iter().collect();
        let refuse = again.map(|again| again.min(limits::REFUSE_MAX));
        self.asked.push(Ask::AcceptInverseOffers { inverse_offers, refuse });
    }

    /// Answers [inverse offers](crate::Scheduler::inverse_offers): their agents will not have been left before the window, with the reason
    /// for the operator. Asked again after `again`, a minute when none.
    pub fn decline_inverse_offers(
        &mut self,
        inverse_offers: impl IntoIterator<Item = OfferId>,
        again: Option<Duration>,
        reason: impl Into<String>,
    ) {
        let inverse_offers = inverse_offers.into_iter().collect();
        let refuse = again.map(|again| again.min(limits::REFUSE_MAX));
        self.asked.push(Ask::DeclineInverseOffers { inverse_offers, refuse, reason: reason.into() });
    }

    /// Asks to be told what is free in the cluster and every change of it, by [`free`](crate::Scheduler::free); or no longer. The wish
    /// outlives lost connections; each time everything is told anew.
    pub fn watch_free(&mut self, on: bool) {
        self.asked.push(Ask::WatchFree(on));
    }

    /// Launches tasks on free resources that were not offered: on all agents that the claims name or on none, or on each where it is
    /// possible; an agent is named once. A [`FreeView`](crate::FreeView) makes the claims.
    ///
    /// Judged as offers are: quota, headroom, constraints, the order of fairness. What became of each claim is told to
    /// [`committed`](crate::Scheduler::committed), and of each task to [`update`](crate::Scheduler::update), as of one that was
    /// placed on an offer.
    pub fn commit(&mut self, role: &Role, claims: Vec<Claim>, all_or_nothing: bool) {
        if !claims.is_empty() {
            self.asked.push(Ask::Commit { role: role.clone(), claims, all_or_nothing });
        }
    }

    /// Forgets every refusal, so that refused resources are offered again at once.
    ///
    /// For new work that may fit where the old did not. When [`wants_offers`](crate::Scheduler::wants_offers) turns true the
    /// driver does this by itself.
    pub fn revive(&mut self) {
        self.asked.push(Ask::Revive);
    }

    /// Asks for one call of [`woken`](crate::Scheduler::woken) after this time, rounded up to a millisecond and at least the next,
    /// connected or not. Calls that are due together are made as one; they are not kept over a restart.
    pub fn wake_after(&mut self, after: Duration) {
        self.asked.push(Ask::Wake(after));
    }

    /// Ends the run when this callback has returned; no callback follows.
    pub fn stop(&mut self, stop: Stop) {
        self.asked.push(Ask::Stop(stop));
    }
}
