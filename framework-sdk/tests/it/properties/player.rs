//! A scheduler that does anything that a scheduler may.

use std::{collections::BTreeSet, mem, time::Duration};

use apportion_sdk::{
    Context, Offer, OfferId, Scheduler, Stop, Task, TaskId, TaskState, TaskStatus, async_trait,
};

/// Decides by its dice, and remembers what it did.
pub(super) struct Player {
    pub(super) dice: u64,
    pub(super) wants: bool,
    pub(super) kept: Vec<Offer>,
    pub(super) placed: BTreeSet<TaskId>,
    /// Told as dropped because of their offers.
    pub(super) dropped: BTreeSet<TaskId>,
    pub(super) revived: bool,
    pub(super) kills: BTreeSet<TaskId>,
    pub(super) stop: Option<Stop>,
}

impl Player {
    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % sides
    }

    fn play(&mut self, mut offer: Offer) {
        for _ in 0..self.roll(4) {
            let name = format!("t{}", self.placed.len());
            let mut task = Task::new(name).command(["true"]).cpus(1.0 + self.roll(2) as f64);
            if self.roll(3) == 0
                && let Some(ports) = offer.take_ports(1)
            {
                task = task.ports(ports);
            }
            let task = task.build().unwrap();
            let task_id = task.task_id.clone();
            let there = offer.resources().clone();
            match offer.launch(task) {
                Ok(()) => assert!(self.placed.insert(task_id)),
                Err(error) => {
                    assert!(!error.missing.is_empty());
                    assert_eq!(offer.resources(), &there);
                }
            }
        }
        match self.roll(5) {
            0 => offer.decline("by the dice"),
            1 => offer.decline_for(Duration::from_secs(1), "by the dice"),
            2 => drop(offer),
            _ => self.kept.push(offer),
        }
    }

    fn callback(&mut self, cx: &mut Context<'_>) {
        match self.roll(6) {
            0 => {
                let kept = mem::take(&mut self.kept);
                self.kept = Offer::by_agent(kept);
            }
            1 if !self.kept.is_empty() => {
                let index = self.roll(self.kept.len() as u64) as usize;
                let offer = self.kept.swap_remove(index);
                self.play(offer);
            }
            2 => self.wants = !self.wants,
            _ => {}
        }
        match self.roll(8) {
            0 if !self.placed.is_empty() => {
                let index = self.roll(self.placed.len() as u64) as usize;
                let task_id = self.placed.iter().nth(index).unwrap().clone();
                cx.kill(&task_id, None);
                self.kills.insert(task_id);
            }
            1 => {
                cx.revive();
                self.revived = true;
            }
            2 => cx.wake_after(Duration::from_millis(self.dice % 3000)),
            3 => cx.reconcile(self.placed.iter().take(2).map(|task_id| (task_id.clone(), None))),
            _ => {}
        }
        if let Some(stop) = self.stop.take() {
            cx.stop(stop);
        }
    }
}

#[async_trait]
impl Scheduler for Player {
    type Message = ();

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        assert!(self.wants && cx.is_subscribed());
        for offer in offers {
            self.play(offer);
        }
        self.callback(cx);
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        if status.state == TaskState::Dropped {
            assert!(self.dropped.insert(status.task_id), "told once");
        }
        self.callback(cx);
    }

    async fn disconnected(&mut self, cx: &mut Context<'_>, _why: String) {
        assert!(!cx.is_subscribed());
        if self.roll(2) == 0 {
            self.kept.clear();
        }
        self.callback(cx);
    }

    async fn rescinded(&mut self, cx: &mut Context<'_>, offer: OfferId) {
        assert!(self.kept.iter().any(|kept| kept.ids().contains(&offer)), "only what is held is rescinded");
        self.callback(cx);
    }

    async fn message(&mut self, cx: &mut Context<'_>, (): ()) {
        self.callback(cx);
    }

    async fn woken(&mut self, cx: &mut Context<'_>) {
        self.callback(cx);
    }

    fn wants_offers(&self) -> bool {
        self.wants
    }
}
