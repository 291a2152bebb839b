//! A scheduler and its driver's state as one value: what a connection drives, and a simulator alike.

use std::{
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use apportion_types::{FrameworkId, Time};

use super::state::{Action, Callback, Config, Input, Returned, State, Step, Told};
use crate::{Context, Offer, Scheduler, answers::Answers, context::Ask};

/// A scheduler together with the pure part of its driver.
///
/// It has no clock, no connection and no runtime: whoever drives it hands in what happens and the time, and does what it asks.
/// [`Driver::run`](crate::Driver::run) does so over the network; a simulator may do so in virtual time, with a seed. Equal
/// inputs at equal times give equal actions, as far as the scheduler itself is deterministic.
#[derive(Debug)]
pub struct Engine<S> {
    scheduler: S,
    state: State,
    answers: Closing,
    asked: Vec<Ask>,
}

/// Tells when offers were dropped outside of callbacks: their answers wait for the next input.
#[derive(Debug, Clone)]
pub struct Dropped(Arc<Answers>);

impl Dropped {
    /// Ready when [`Input::Tick`] is due at once for their sake. Wakes only who asked last.
    pub fn poll(&self, cx: &mut task::Context<'_>) -> Poll<()> {
        self.0.poll_waiting(cx)
    }
}

/// Tells offers that outlive the driver that nobody listens any more.
#[derive(Debug)]
struct Closing(Arc<Answers>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<S: Scheduler> Engine<S> {
    /// Begins with nothing connected; [`Input::Start`] comes first.
    ///
    /// # Panics
    ///
    /// When `config` names no master.
    pub fn new(config: Config, scheduler: S) -> Self {
        let answers = Closing(Arc::new(Answers::new(config.info.principal.as_str())));
        Self { scheduler, state: State::new(config), answers, asked: Vec::new() }
    }

    /// Takes one input at its time and appends what is to be done to `actions`.
    ///
    /// Times never go back. The future awaits nothing but the scheduler's callbacks; it must be run to its end, since one that is
    /// dropped has taken the input only in part. After [`Action::End`] inputs are ignored.
    pub async fn handle(&mut self, now: Time, input: Input<S::Message>, actions: &mut Vec<Action>) {
        match input {
            Input::Start => self.state.start(now, self.scheduler.wants_offers()),
            Input::Connected => self.state.connected(now),
            Input::Disconnected { clean, why } => self.state.disconnected(now, clean, why),
            Input::Event(event) => self.state.event(now, event),
            Input::Message(message) => {
                if !self.state.is_ending() {
                    let mut context = context(&self.state, &mut self.asked, now);
                    self.scheduler.message(&mut context, message).await;
                    self.returned(now, None);
                }
            }
            Input::Stop(stop) => self.state.stop(now, stop),
            Input::Tick => self.state.tick(now),
        }
        let dropped = self.answers.0.take();
        self.state.dropped(now, dropped);
        while let Some(step) = self.state.next_step() {
            match step {
                Step::Action(action) => actions.push(action),
                Step::Callback(callback) => self.call(now, callback).await,
            }
        }
    }

    /// When [`Input::Tick`] is due at the latest, if nothing else happens before. Inputs that are at hand go first: a deadline
    /// may be about the silence that they end.
    pub fn next_deadline(&self) -> Option<Time> {
        self.state.next_deadline()
    }

    /// Says that handling the last input, and doing what it asked for, took this long, and that nothing was read from the
    /// connection meanwhile. A simulation, where callbacks take no time, need not say so.
    pub fn busy(&mut self, took: Duration) {
        self.state.busy(took);
    }

    /// Tells when offers were dropped outside of callbacks.
    pub fn dropped(&self) -> Dropped {
        Dropped(Arc::clone(&self.answers.0))
    }

    /// The framework's id, once it is known.
    pub fn framework_id(&self) -> Option<&FrameworkId> {
        self.state.framework_id()
    }

    /// How many tasks were placed on offers that were no longer valid, each told as dropped. A scheduler that keeps offers and lets
    /// go of those that are rescinded, and of all when the connection is lost, leaves it at zero.
    pub fn launched_on_void(&self) -> u64 {
        self.state.launched_on_void()
    }

    /// The scheduler.
    pub fn scheduler(&self) -> &S {
        &self.scheduler
    }

    /// The scheduler, to be changed between inputs. What changes in [`Scheduler::wants_offers`] is seen after the next callback.
    pub fn scheduler_mut(&mut self) -> &mut S {
        &mut self.scheduler
    }

    /// The scheduler, given back. Offers that it still holds are void.
    pub fn into_scheduler(self) -> S {
        self.scheduler
    }

    async fn call(&mut self, now: Time, callback: Callback) {
        let cx = &mut context(&self.state, &mut self.asked, now);
        let scheduler = &mut self.scheduler;
        let told = match callback {
            Callback::StandingBy(framework_id) => {
                scheduler.standing_by(cx, framework_id).await;
                None
            }
            Callback::Subscribed(subscription) => {
                scheduler.subscribed(cx, subscription).await;
                Some(Told::Subscribed { tasks: scheduler.tasks(), operations: scheduler.operations() })
            }
            Callback::Offers(offers) => {
                let answers = &self.answers.0;
                let offers = offers.into_iter().map(|offer| Offer::new(offer, Arc::clone(answers))).collect();
                scheduler.offers(cx, offers).await;
                None
            }
            Callback::Update(status) => {
                let told = match (&status.agent_id, status.update_id) {
                    (Some(agent_id), Some(update_id)) => Some(Told::Update {
                        task_id: status.task_id.clone(),
                        agent_id: agent_id.clone(),
                        update_id,
                    }),
                    _ => None,
                };
                scheduler.update(cx, status).await;
                told
            }
            Callback::Operation(status) => {
                let told = match (&status.agent_id, status.update_id) {
                    (Some(agent_id), Some(update_id)) => Some(Told::Operation {
                        operation_id: status.operation_id.clone(),
                        agent_id: agent_id.clone(),
                        update_id,
                    }),
                    _ => None,
                };
                scheduler.operation(cx, status).await;
                told
            }
            Callback::Preempt(preemption) => {
                scheduler.preempt(cx, preemption).await;
                None
            }
            Callback::InverseOffers(offers) => {
                scheduler.inverse_offers(cx, offers).await;
                None
            }
            Callback::InverseOfferRescinded(offer) => {
                scheduler.inverse_offer_rescinded(cx, offer).await;
                None
            }
            Callback::Free(free) => {
                scheduler.free(cx, &free).await;
                None
            }
            Callback::Committed(claims) => {
                scheduler.committed(cx, claims).await;
                None
            }
            Callback::Rescinded(offer_id) => {
                scheduler.rescinded(cx, offer_id).await;
                None
            }
            Callback::AgentLost { agent_id, message } => {
                scheduler.agent_lost(cx, agent_id, message).await;
                None
            }
            Callback::Disconnected(why) => {
                scheduler.disconnected(cx, why).await;
                None
            }
            Callback::Refused(refused) => {
                scheduler.refused(cx, refused).await;
                None
            }
            Callback::Woken => {
                scheduler.woken(cx).await;
                None
            }
        };
        self.returned(now, told);
    }

    fn returned(&mut self, now: Time, told: Option<Told>) {
        let answers = self.answers.0.take();
        let asked = std::mem::take(&mut self.asked);
        let wants_offers = self.scheduler.wants_offers();
        self.state.returned(now, Returned { told, answers, asked, wants_offers });
    }
}

fn context<'a>(state: &'a State, asked: &'a mut Vec<Ask>, now: Time) -> Context<'a> {
    let (framework_id, (info, options)) = (state.framework_id(), state.described());
    Context { now, framework_id, info, options, subscribed: state.is_subscribed(), asked }
}
