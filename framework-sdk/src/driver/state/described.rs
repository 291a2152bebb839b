//! The framework and its wishes, as its scheduler changes them while it runs.

use std::collections::VecDeque;

use apportion_types::{FrameworkInfo, FrameworkOptions, protocol::scheduler::Call};

use super::State;

/// Changes of which a refusal may still come; what was there before an older one is not come back to.
const CHANGES_REMEMBERED: usize = 64;

/// What is told of the framework.
#[derive(Debug)]
pub(super) struct Described {
    info: FrameworkInfo,
    options: FrameworkOptions,
    /// What there was before each change of this connection, by its call, oldest first.
    before: VecDeque<(u64, FrameworkInfo, FrameworkOptions)>,
}

impl Described {
    pub(super) fn new(info: FrameworkInfo, options: FrameworkOptions) -> Self {
        Self { info, options, before: VecDeque::new() }
    }

    pub(super) fn current(&self) -> (&FrameworkInfo, &FrameworkOptions) {
        (&self.info, &self.options)
    }

    /// For a new connection, on which nothing was changed yet.
    pub(super) fn begin(&mut self) -> (FrameworkInfo, FrameworkOptions) {
        self.before.clear();
        (self.info.clone(), self.options.clone())
    }

    fn change(&mut self, call: Option<u64>, info: FrameworkInfo, options: FrameworkOptions) {
        let before = (std::mem::replace(&mut self.info, info), std::mem::replace(&mut self.options, options));
        if let Some(call) = call {
            if self.before.len() == CHANGES_REMEMBERED {
                self.before.pop_front();
            }
            self.before.push_back((call, before.0, before.1));
        }
    }

    /// A call was refused: if it was a change, there was none.
    pub(super) fn refused(&mut self, call: u64) {
        let Some(index) = self.before.iter().position(|(change, ..)| *change == call) else { return };
        let Some((_, info, options)) = self.before.remove(index) else { return };
        match self.before.get_mut(index) {
            // The next change was made of what is refused, and replaces it as a whole.
            Some(next) => (next.1, next.2) = (info, options),
            None => (self.info, self.options) = (info, options),
        }
    }
}

impl State {
    /// The framework is another from now on; without a connection the next subscription says so.
    pub(super) fn update_framework(&mut self, (info, mut options): (FrameworkInfo, FrameworkOptions)) {
        // Which of its schedulers this one is does not change.
        options.stand_by.clone_from(&self.described.options.stand_by);
        if (&info, &options) == self.described.current() {
            return;
        }
        let call = self.is_subscribed().then(|| {
            let suppressed = if self.suppressed { info.roles.clone() } else { Vec::new() };
            let options = Box::new(options.clone());
            self.send(Call::UpdateFramework { info: info.clone(), suppressed, options })
        });
        self.described.change(call, info, options);
    }
}
