//! What users and the program ask for.

use std::{collections::BTreeMap, sync::Arc};

use apportion_sdk::Time;

use super::{Answer, Event, Phase, QueueScheduler, Work};
use crate::{
    job::Job,
    output::Fetched,
    queue::{Full, JobId, Ticket},
    serve::{
        entry::{Entry, Head, ids},
        order::{Order, Refused, Snapshot, Submit},
        peer::Peer,
        view::Overview,
    },
    state::JobState,
};

impl QueueScheduler {
    pub(super) fn obey(&mut self, order: Order, now: Time, work: &mut Work) -> Result<Answer, Refused> {
        match order {
            Order::Submit(submit) => return self.submit(*submit, now, work).map(Answer::Taken),
            Order::Cancel { job, by } => self.cancel(job, &by, now, work)?,
            Order::Retry { job, by } => return self.retry(job, &by, now, work),
            Order::List => {
                let jobs = self.entries.iter().map(|(id, entry)| (*id, entry));
                let mut overview = Overview::new(jobs, &self.queue, (self.held(), &self.total), &self.waits);
                overview.framework_id = self.framework_id.as_ref().map(ToString::to_string);
                return Ok(Answer::Overview(Box::new(overview)));
            }
            Order::Show(job, from) => {
                let entry = self.entries.get(&job).ok_or(Refused::Unknown(job))?;
                let snapshot = Snapshot::of(job, entry, from, self.framework_id.clone());
                return Ok(Answer::Job(Box::new(snapshot)));
            }
            Order::GiveUp(id, class, why) => {
                let mut effects = Vec::new();
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.state.give_up(class, &why, &mut effects);
                    work.events.push((Some(id), Event::Note { why }));
                    work.add(id, effects);
                }
            }
            Order::Note(id, note) => {
                if let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.note != note) {
                    work.events.extend(note.clone().map(|why| (Some(id), Event::Note { why })));
                    entry.note = note;
                }
            }
            Order::Total(total) => self.total = total,
            Order::Fetched(outputs) => {
                for (id, position, fetched) in outputs {
                    let Some(entry) = self.entries.get_mut(&id) else { continue };
                    // A job that was run again meanwhile does not wait for what an earlier attempt left.
                    if entry.unfetched.remove(&position) {
                        work.draft.output(id, position, &fetched);
                        entry.outputs.insert(position, fetched);
                        work.touched.insert(id);
                    }
                }
            }
        }
        Ok(Answer::Done)
    }

    fn submit(&mut self, submit: Submit, now: Time, work: &mut Work) -> Result<JobId, Refused> {
        let Submit { user, runs_as, priority, waits, submission, mut job } = submit;
        self.has_room(&user, job.tasks())?;
        self.output_is_free(&job)?;
        let most = self.queue.settings().tasks_per_user;
        if let Some(stage) = job.stages().iter().find(|stage| stage.gang && stage.tasks() > most) {
            let (stage, tasks) = (stage.name.clone(), stage.tasks());
            return Err(Refused::GangOverLimit { stage, tasks, user, most });
        }
        let id = self.next;
        self.next = JobId(id.0 + 1);
        if let Some(user) = &runs_as {
            job.run_as(user);
        }
        let ticket = Ticket { user, priority };
        let head = Head {
            ticket: ticket.clone(),
            runs_as,
            submitted_at: now,
            launched_at: None,
            ended_at: None,
            cancelled: false,
            waits,
        };
        work.draft.next(self.next);
        work.draft.file(id, &submission);
        work.draft.head(id, &head);
        work.touched.insert(id);
        let (name, tasks) = (job.name.clone(), job.tasks());
        let Ticket { user, priority } = ticket.clone();
        work.events.push((Some(id), Event::Submitted { name, user, priority, tasks }));
        let state = JobState::of(&job).with_ids(&ids(id));
        self.entries.insert(id, Entry::new(head, Arc::new(job), state, BTreeMap::new()));
        self.queue.enter(id, ticket);
        Ok(id)
    }

    fn has_room(&self, user: &str, more: usize) -> Result<(), Full> {
        let counts = |id: JobId| self.entries[&id].state.counts();
        self.queue.has_room(user, more, |id| counts(id).total - counts(id).ended())
    }

    /// Two jobs of one name that save their outputs in one folder would write each other's files.
    fn output_is_free(&self, job: &Job) -> Result<(), Refused> {
        let Some(output) = &job.output else { return Ok(()) };
        let is_same = |other: &Job| other.name == job.name && other.output.as_ref() == Some(output);
        match self.queue.tickets().find(|(id, _)| is_same(&self.entries[id].job)) {
            Some((job, _)) => Err(Refused::SameOutput { job, output: output.clone() }),
            None => Ok(()),
        }
    }

    fn cancel(&mut self, id: JobId, by: &Peer, now: Time, work: &mut Work) -> Result<(), Refused> {
        let entry = entry_of(&mut self.entries, id, by)?;
        match entry.phase() {
            phase if phase.is_over() => return Err(Refused::Ended { job: id, outcome: phase.name() }),
            // Its tasks have ended by themselves; what they left is still fetched.
            Phase::Collecting => return Ok(()),
            _ if entry.head.cancelled => return Ok(()),
            _ => entry.head.cancelled = true,
        }
        let mut effects = Vec::new();
        entry.state.interrupt(now, &mut effects);
        work.draft.head(id, &entry.head);
        work.events.push((Some(id), Event::Cancelled { by: by.user.clone() }));
        work.add(id, effects);
        Ok(())
    }

    fn retry(&mut self, id: JobId, by: &Peer, now: Time, work: &mut Work) -> Result<Answer, Refused> {
        let entry = entry_of(&mut self.entries, id, by)?;
        let Some(ended_at) = entry.head.ended_at else { return Err(Refused::Runs(id)) };
        let (user, job, counts) =
            (entry.head.ticket.user.clone(), Arc::clone(&entry.job), entry.state.counts());
        self.has_room(&user, counts.total - counts.succeeded)?;
        self.output_is_free(&job)?;
        let entry = entry_of(&mut self.entries, id, by)?;
        let mut effects = Vec::new();
        let tasks = entry.state.run_again(&entry.job, now, &mut effects);
        // An output that could not be fetched may lie there still.
        let is_stale = |(position, fetched): (&usize, &Fetched)| {
            let runs = entry.state.tasks()[*position].end().is_none();
            (runs || fetched.error.is_some()).then_some(*position)
        };
        let stale: Vec<usize> = entry.outputs.iter().filter_map(is_stale).collect();
        if tasks == 0 && stale.is_empty() {
            return Err(Refused::AllSucceeded(id));
        }
        for position in stale {
            entry.outputs.remove(&position);
            work.draft.no_output(id, position);
        }
        (entry.head.ended_at, entry.head.cancelled, entry.short_since) = (None, false, None);
        entry.note = None;
        entry.look_for_outputs();
        let outputs = entry.unfetched.len();
        work.fetches.extend(entry.unfetched.iter().map(|position| (id, *position)));
        self.ended.remove(&(ended_at, id));
        self.ended_tasks -= entry.state.tasks().len();
        self.queue.enter(id, entry.head.ticket.clone());
        work.draft.head(id, &entry.head);
        work.events.push((Some(id), Event::Retried { by: by.user.clone(), tasks, outputs }));
        work.add(id, effects);
        Ok(Answer::Again { tasks, outputs })
    }
}

/// A job that this user may change.
fn entry_of<'a>(
    entries: &'a mut BTreeMap<JobId, Entry>,
    id: JobId,
    by: &Peer,
) -> Result<&'a mut Entry, Refused> {
    let entry = entries.get_mut(&id).ok_or(Refused::Unknown(id))?;
    let user = &entry.head.ticket.user;
    if by.is_operator || *user == by.user {
        return Ok(entry);
    }
    Err(Refused::NotYours { job: id, user: user.clone(), by: by.user.clone() })
}
