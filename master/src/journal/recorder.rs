//! The actor's end of a journal: takes copies, never waits.

use std::{
    fs::File,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Sender},
    },
};

use apportion_master_core::{Event, View};
use apportion_types::{
    Time,
    protocol::{agent::AgentMessage, scheduler::Call},
};
use tokio::task::JoinHandle;

use super::{
    Header,
    writer::{Message, Writer},
};
use crate::metrics::Metrics;

/// Events, and what lists within them hold, that are recorded and not yet written: what a busy master handles in the seconds
/// that a disk may pause, or the tasks of all agents when they register with a new master. Some hundred megabytes.
const WAITING_ITEMS_MAX: usize = 500_000;

/// The fewest events between two digests. In a large cluster there are more, since each digest is a pass over all that is known.
const DIGEST_EVENTS_MIN: usize = 1024;

/// Records what happens, batch by batch. Dropping it without [`Recorder::end`] leaves a journal without an end.
pub(crate) struct Recorder {
    path: PathBuf,
    /// None when the journal has stopped.
    writer: Option<Sender<Message>>,
    waiting: Arc<AtomicUsize>,
    /// Of this batch.
    events: Vec<(Time, Event)>,
    items: usize,
    undigested: usize,
}

impl Recorder {
    /// Begins the journal in a file that was made for it. The handle completes when the file is written to its end.
    pub(crate) fn start(
        path: PathBuf,
        file: File,
        header: &Header,
        metrics: Arc<Metrics>,
    ) -> (Recorder, JoinHandle<()>) {
        let (sender, messages) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        metrics.journal_recording(true);
        let writer = Writer::new(path.clone(), file, header, Arc::clone(&waiting), metrics);
        let written = tokio::task::spawn_blocking(move || writer.run(&messages));
        let recorder =
            Recorder { path, writer: Some(sender), waiting, events: Vec::new(), items: 0, undigested: 0 };
        (recorder, written)
    }

    /// Takes a copy of an event that is about to be handled.
    pub(crate) fn event(&mut self, at: Time, event: &Event) {
        if self.writer.is_some() {
            self.items += items(event);
            self.events.push((at, event.clone()));
        }
    }

    /// Hands over what was recorded since the last time. The view is what the master knows after it.
    pub(crate) fn batch(&mut self, view: &Arc<View>) {
        if self.writer.is_none() || self.events.is_empty() {
            return;
        }
        let items = std::mem::take(&mut self.items);
        // However large, what comes when nothing waits is taken.
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting > 0 && waiting + items > WAITING_ITEMS_MAX {
            return self.stop();
        }
        self.undigested += self.events.len();
        let known = view.agents.len() + view.frameworks.len() + view.tasks.len() + view.offers.len();
        let digest = (self.undigested >= DIGEST_EVENTS_MIN.max(known)).then(|| Arc::clone(view));
        if digest.is_some() {
            self.undigested = 0;
        }
        self.waiting.fetch_add(items, Ordering::Relaxed);
        let events = std::mem::take(&mut self.events);
        self.send(Message::Batch { events, items, digest });
    }

    /// The master ends, knowing this.
    pub(crate) fn end(mut self, at: Time, view: &Arc<View>) {
        self.send(Message::Batch { events: Vec::new(), items: 0, digest: Some(Arc::clone(view)) });
        self.send(Message::End { at, incomplete: None });
    }

    fn stop(&mut self) {
        let at = self.events.first().expect("a batch is not empty").0;
        self.events = Vec::new();
        let why = format!(
            "the file could not be written as fast as events came in; more than {WAITING_ITEMS_MAX} were waiting"
        );
        let path = self.path.display();
        tracing::error!(%path, error = why, "the journal stops here; the master goes on without it");
        self.send(Message::End { at, incomplete: Some(why) });
        self.writer = None;
    }

    fn send(&mut self, message: Message) {
        // A writer that is gone has said why.
        if self.writer.as_ref().is_some_and(|writer| writer.send(message).is_err()) {
            self.writer = None;
        }
    }
}

/// What an event counts among those that wait: itself, and what a list in it holds.
fn items(event: &Event) -> usize {
    let listed = match event {
        Event::SchedulerCall { call: Call::Accept(accept), .. } => {
            accept.offers.len() + accept.tasks().count()
        }
        Event::SchedulerCall { call: Call::Gang { accepts }, .. } => {
            accepts.iter().map(|accept| accept.offers.len() + accept.tasks().count()).sum()
        }
        Event::SchedulerCall { call: Call::Commit { claims, .. }, .. } => {
            claims.iter().map(|claim| 1 + claim.tasks.len()).sum()
        }
        Event::SchedulerCall { call: Call::Decline { offers, .. }, .. } => offers.len(),
        Event::SchedulerCall { call: Call::Reconcile { tasks }, .. } => tasks.len(),
        Event::AgentMessage { message: AgentMessage::Register { tasks, .. }, .. } => tasks.len(),
        _ => 0,
    };
    1 + listed
}

#[cfg(test)]
mod tests {
    use apportion_master_core::CommitId;

    use super::*;
    use crate::journal::{Journal, Record, create, tests::header};

    fn committed(commit: u64) -> Event {
        Event::Committed { commit: CommitId(commit) }
    }

    fn records(path: &std::path::Path) -> Vec<Record> {
        Journal::open(path).unwrap().map(|entry| entry.unwrap().record).collect()
    }

    #[tokio::test]
    async fn what_is_recorded_is_there_when_the_handle_completes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.journal");
        let (header, metrics) = (header(), Arc::<Metrics>::default());
        let file = create(&path).unwrap();
        let (mut recorder, written) = Recorder::start(path.clone(), file, &header, metrics);
        let view = Arc::<View>::default();
        let start = header.started_at;
        for commit in 0..DIGEST_EVENTS_MIN as u64 {
            recorder.event(start, &committed(commit));
        }
        recorder.batch(&view);
        recorder.event(start, &Event::Shutdown);
        recorder.batch(&view);
        recorder.end(start, &view);
        written.await.unwrap();
        let records = records(&path);
        let digest = Record::Digest(crate::journal::Digest::of(&view));
        assert_eq!(records.len(), DIGEST_EVENTS_MIN + 4);
        assert_eq!(records[7], Record::Event(committed(7)));
        let end = Record::End { incomplete: None };
        assert_eq!(
            records[DIGEST_EVENTS_MIN..],
            [digest.clone(), Record::Event(Event::Shutdown), digest, end]
        );
    }

    #[tokio::test]
    async fn a_recorder_that_is_dropped_leaves_a_journal_without_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.journal");
        let file = create(&path).unwrap();
        let (mut recorder, written) = Recorder::start(path.clone(), file, &header(), Arc::default());
        recorder.event(header().started_at, &committed(1));
        recorder.batch(&Arc::default());
        drop(recorder);
        written.await.unwrap();
        assert_eq!(records(&path), [Record::Event(committed(1))]);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_stops_the_journal_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.journal");
        create(&path).unwrap();
        let read_only = File::open(&path).unwrap();
        let metrics = Arc::<Metrics>::default();
        let (mut recorder, written) = Recorder::start(path, read_only, &header(), Arc::clone(&metrics));
        written.await.unwrap();
        assert!(!metrics.is_journal_recording());
        for commit in 0..3 {
            recorder.event(header().started_at, &committed(commit));
            recorder.batch(&Arc::default());
        }
        assert!(recorder.writer.is_none() && recorder.events.len() < 2);
        recorder.end(header().started_at, &Arc::default());
    }

    #[test]
    fn a_disk_that_is_too_slow_stops_the_journal_with_a_mark() {
        let (sender, messages) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(WAITING_ITEMS_MAX));
        let (path, events) = (PathBuf::from("a"), Vec::new());
        let mut recorder = Recorder { path, writer: Some(sender), waiting, events, items: 0, undigested: 0 };
        let at = header().started_at;
        recorder.event(at, &committed(1));
        recorder.batch(&Arc::default());
        recorder.event(at, &committed(2));
        recorder.batch(&Arc::default());
        recorder.end(at, &Arc::default());
        let sent: Vec<Message> = messages.into_iter().collect();
        assert!(
            matches!(&sent[..], [Message::End { incomplete: Some(why), .. }] if why.contains("were waiting")),
            "{}",
            sent.len()
        );
    }

    #[test]
    fn an_earlier_journal_is_kept_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.journal");
        let written = crate::journal::tests::journal(&header(), &[]);
        std::fs::write(&path, &written).unwrap();
        create(&path).unwrap();
        assert_eq!(std::fs::read(folder.path().join("a.journal.old")).unwrap(), written);
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        std::fs::write(&path, "notes").unwrap();
        assert!(create(&path).unwrap_err().to_string().contains("is not overwritten"));
        assert!(create(folder.path()).unwrap_err().to_string().contains("is not overwritten"));
        assert_eq!(std::fs::read(&path).unwrap(), b"notes");
        let nowhere = create(&folder.path().join("none/a")).unwrap_err().to_string();
        assert!(nowhere.contains("No such file") && nowhere.contains("may write to"), "{nowhere}");
    }
}
