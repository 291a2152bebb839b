use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
};

use apportion_agent_core::{ContainerId, TaskView};
use apportion_types::{FrameworkId, TaskId, TaskState};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::*;
use crate::services::{open, sandbox};

/// A sandbox whose task writes, and what rotates its standard output as a runner does.
struct Place {
    dir: TempDir,
    full_max: u32,
    view: watch::Sender<Arc<View>>,
}

impl Place {
    fn new(full_max: u32) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap(), full_max, view: watch::Sender::default() };
        place.state(TaskState::Running);
        place
    }

    fn key() -> sandbox::Key {
        (FrameworkId::new("f").unwrap(), TaskId::new("t").unwrap())
    }

    fn state(&self, state: TaskState) {
        let command = apportion_types::Command { argv: vec!["x".to_owned()], env: Default::default() };
        let info = apportion_types::TaskInfo {
            task_id: Place::key().1,
            name: "t".to_owned(),
            resources: Default::default(),
            limits: Default::default(),
            pids_max: None,
            volumes: Vec::new(),
            command,
            kill_grace: None,
            labels: Default::default(),
            container: Default::default(),
            supervision: Default::default(),
            group: None,
            execution: Default::default(),
        };
        let task = TaskView {
            role: Default::default(),
            info: Arc::new(info),
            container_id: ContainerId("c".to_owned()),
            state,
            status: None,
        };
        let tasks = [(Place::key(), Arc::new(task))].into_iter().collect();
        self.view.send_replace(Arc::new(View { tasks, ..View::default() }));
    }

    fn path(&self, number: u32) -> PathBuf {
        let name = if number == 0 { "stdout".to_owned() } else { format!("stdout.{number}") };
        self.dir.path().join(name)
    }

    fn write(&self, text: &str) {
        File::options()
            .append(true)
            .create(true)
            .open(self.path(0))
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    fn rotate(&self) {
        if self.path(self.full_max).exists() {
            File::create(self.dir.path().join("stdout.cut")).unwrap();
        }
        for number in (0..self.full_max).rev() {
            let _ = fs::rename(self.path(number), self.path(number + 1));
        }
        let _ = fs::remove_file(self.path(0));
        self.write("");
    }

    fn read(&self, request: ReadLogRequest) -> Reading {
        let folder = open::folder(self.dir.path()).unwrap();
        let run = Run { key: Place::key(), container_id: "c".to_owned() };
        let responses = read(&request, &run, folder, &self.view.subscribe(), permit()).unwrap();
        Reading { responses, seen: String::new(), missed: 0, position: String::new() }
    }
}

/// What is read, with `-` for each place where something may be missing.
struct Reading {
    responses: mpsc::Receiver<Result<ReadLogResponse, Status>>,
    seen: String,
    missed: u32,
    position: String,
}

impl Reading {
    async fn part(&mut self) -> bool {
        let Some(part) = self.responses.recv().await else { return false };
        let part = part.unwrap();
        self.missed += u32::from(part.missed);
        self.seen += std::str::from_utf8(&part.data).unwrap();
        self.position = part.position;
        true
    }

    async fn until(&mut self, end: &str) {
        while !self.seen.ends_with(end) {
            assert!(self.part().await, "it ended without {end:?}: {}", self.seen);
        }
    }

    async fn all(mut self) -> (String, u32) {
        while self.part().await {}
        (self.seen, self.missed)
    }
}

fn permit() -> OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
}

fn request() -> ReadLogRequest {
    ReadLogRequest { outputs: vec![Output::Stdout.into()], ..ReadLogRequest::default() }
}

fn followed() -> ReadLogRequest {
    ReadLogRequest { follow: true, ..request() }
}

#[tokio::test]
async fn a_log_is_one_however_often_it_is_rotated() {
    let place = Place::new(9);
    for number in 0..5 {
        place.write(&format!("{number}a\n{number}b\n"));
        place.rotate();
    }
    place.write("end");
    assert_eq!(
        place.read(request()).all().await,
        ("0a\n0b\n1a\n1b\n2a\n2b\n3a\n3b\n4a\n4b\nend".to_owned(), 0)
    );
    for (lines, expected) in [
        (0, ""),
        (1, "end"),
        (2, "4b\nend"),
        (3, "4a\n4b\nend"),
        (4, "3b\n4a\n4b\nend"),
        (99, "0a\n0b\n1a\n1b\n2a\n2b\n3a\n3b\n4a\n4b\nend"),
    ] {
        let request = ReadLogRequest { tail_lines: Some(lines), ..request() };
        assert_eq!(place.read(request).all().await, (expected.to_owned(), 0), "{lines}");
    }
    for (bytes, expected) in [(0, ""), (3, "end"), (5, "b\nend"), (10, "\n4a\n4b\nend")] {
        let request = ReadLogRequest { tail_bytes: Some(bytes), ..request() };
        assert_eq!(place.read(request).all().await, (expected.to_owned(), 0), "{bytes}");
    }
    let both = ReadLogRequest { tail_lines: Some(3), tail_bytes: Some(4), ..request() };
    assert_eq!(place.read(both).all().await.0, "\nend");
    place.write("\n");
    let request = ReadLogRequest { tail_lines: Some(1), ..request() };
    assert_eq!(place.read(request).all().await.0, "end\n");
}

#[tokio::test]
async fn a_follower_is_led_past_nothing() {
    let place = Place::new(3);
    place.write("before\n");
    let mut reading = place.read(followed());
    let mut expected = "before\n".to_owned();
    for number in 0..50 {
        let text = format!("{number}\n");
        place.write(&text);
        expected += &text;
        match number % 5 {
            0 => place.rotate(),
            // Two at once, one of them with the last of a file behind it.
            1 => {
                place.rotate();
                place.write("short\n");
                expected += "short\n";
                place.rotate();
            }
            2 => {}
            _ => continue,
        }
        reading.until(&expected[expected.len() - text.len()..]).await;
    }
    place.write("last\n");
    place.state(TaskState::Finished);
    assert_eq!(reading.all().await, (expected + "last\n", 0));
}

#[tokio::test]
async fn a_slow_follower_hears_that_something_is_missing() {
    let place = Place::new(1);
    place.write("one\n");
    let mut reading = place.read(followed());
    reading.until("one\n").await;
    let position = reading.position.clone();
    for number in 2..9 {
        place.rotate();
        place.write(&format!("{number}\n"));
    }
    reading.until("8\n").await;
    assert!(reading.seen.starts_with("one\n"), "{}", reading.seen);
    assert!(reading.missed > 0 || reading.seen == "one\n2\n3\n4\n5\n6\n7\n8\n", "{}", reading.seen);
    // Whoever comes back, later than its file was kept.
    let request = ReadLogRequest { after: vec![position], ..request() };
    assert_eq!(place.read(request).all().await, ("7\n8\n".to_owned(), 1));
}

#[tokio::test]
async fn whoever_reads_all_hears_that_the_beginning_is_gone() {
    let place = Place::new(2);
    for number in 0..2 {
        place.write(&format!("{number}\n"));
        place.rotate();
    }
    place.write("2\n");
    assert_eq!(place.read(request()).all().await, ("0\n1\n2\n".to_owned(), 0), "all of it is there");
    place.rotate();
    place.write("3\n");
    assert_eq!(place.read(request()).all().await, ("1\n2\n3\n".to_owned(), 1));
    let tail = ReadLogRequest { tail_lines: Some(2), ..request() };
    assert_eq!(place.read(tail).all().await, ("2\n3\n".to_owned(), 0), "what was asked for is there");
}

#[tokio::test]
async fn a_position_holds_over_rotation() {
    let place = Place::new(3);
    place.write("one\ntwo\n");
    let mut reading = place.read(followed());
    reading.until("two\n").await;
    let position = reading.position.clone();
    drop(reading);
    place.write("three\n");
    place.rotate();
    place.write("four\n");
    let after = ReadLogRequest { after: vec![position], ..request() };
    assert_eq!(place.read(after.clone()).all().await, ("three\nfour\n".to_owned(), 0));
    for wrong in [
        "",
        "stdout",
        "stdout:1:2",
        "elsewhere:1:2:3",
        "stdout:1:2:3:4",
        "stdout:x:2:3",
        "stdout:1:2:-3",
        "stdout:1:2:9223372036854775808",
    ] {
        assert!(wrong.parse::<Position>().is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_follower_knows_where_it_is_before_anything_is_written() {
    let place = Place::new(3);
    for (before, tail) in [("", None), ("", Some(0)), ("old\n", Some(0))] {
        if !before.is_empty() {
            place.write(before);
        }
        let mut reading = place.read(ReadLogRequest { tail_lines: tail, ..followed() });
        assert!(reading.part().await && reading.seen.is_empty());
        let position = reading.position.clone();
        drop(reading);
        place.write("while nobody read\n");
        let after = ReadLogRequest { after: vec![position], tail_lines: tail, ..request() };
        assert_eq!(
            place.read(after).all().await,
            ("while nobody read\n".to_owned(), 0),
            "{before:?} {tail:?}"
        );
        fs::remove_file(place.path(0)).unwrap();
    }
}

#[tokio::test]
async fn a_deleted_file_does_not_bring_back_what_was_read() {
    let place = Place::new(9);
    for number in 0..3 {
        place.write(&format!("{number}\n"));
        place.rotate();
    }
    // One that is seen to be later: birth is known to a tick of the kernel's clock.
    let born = |number| fs::metadata(place.path(number)).unwrap().created().unwrap();
    while born(0) == born(1) {
        fs::remove_file(place.path(0)).unwrap();
        place.write("");
    }
    place.write("3\n");
    let mut reading = place.read(followed());
    reading.until("3\n").await;
    let position = reading.position.clone();
    // The task deletes what it writes to; its runner goes on with the next file only.
    fs::remove_file(place.path(0)).unwrap();
    let request = ReadLogRequest { after: vec![position], ..followed() };
    let mut again = place.read(request);
    assert!(again.part().await && again.missed == 1);
    place.write("4\n");
    place.state(TaskState::Finished);
    assert_eq!(again.all().await, ("4\n".to_owned(), 1));
    assert_eq!(reading.all().await, ("0\n1\n2\n3\n4\n".to_owned(), 1));
}

#[tokio::test]
async fn a_log_without_lines_is_not_looked_through_for_ever() {
    let place = Place::new(1);
    let size = 1 << 40;
    File::create(place.path(0)).unwrap().set_len(size).unwrap();
    let mut reading = place.read(ReadLogRequest { tail_lines: Some(1), ..followed() });
    assert!(reading.part().await);
    let offset = size - (64 << 20);
    assert!(reading.position.ends_with(&format!(":{offset}")), "{}", reading.position);
    // Bytes are not looked for.
    let mut reading = place.read(ReadLogRequest { tail_bytes: Some(1 << 39), ..followed() });
    assert!(reading.part().await);
    assert!(reading.position.ends_with(&format!(":{}", 1u64 << 39)), "{}", reading.position);
}

#[tokio::test]
async fn a_task_that_has_not_written_is_waited_for_and_may_empty_its_log() {
    let place = Place::new(3);
    assert_eq!(place.read(request()).all().await, (String::new(), 0));
    let mut reading = place.read(followed());
    place.write("first\n");
    reading.until("first\n").await;
    File::create(place.path(0)).unwrap();
    place.write("new\n");
    reading.until("new\n").await;
    place.state(TaskState::Finished);
    assert_eq!(reading.all().await, ("first\nnew\n".to_owned(), 1));
}

#[tokio::test]
async fn nothing_that_a_task_puts_there_leads_out() {
    let place = Place::new(3);
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "secret").unwrap();
    place.write("mine\n");
    std::os::unix::fs::symlink(secret.path(), place.path(1)).unwrap();
    fs::create_dir(place.path(2)).unwrap();
    assert_eq!(place.read(request()).all().await.0, "mine\n");
    // The same file twice.
    fs::remove_file(place.path(1)).unwrap();
    fs::hard_link(place.path(0), place.path(1)).unwrap();
    assert_eq!(place.read(request()).all().await.0, "mine\n");
    // A file in the middle is gone.
    let place = Place::new(9);
    for number in 0..3 {
        place.write(&format!("{number}\n"));
        place.rotate();
    }
    fs::remove_file(place.path(2)).unwrap();
    assert_eq!(place.read(request()).all().await.0, "0\n2\n");
}

#[tokio::test]
async fn both_outputs_are_read_and_unknown_ones_refused() {
    let place = Place::new(1);
    place.write("out\n");
    fs::write(place.dir.path().join("stderr"), "err\n").unwrap();
    let mut reading = place.read(ReadLogRequest::default());
    let mut seen = Vec::new();
    while let Some(part) = reading.responses.recv().await {
        let part = part.unwrap();
        seen.push((part.output(), part.data.to_vec()));
    }
    seen.sort_by_key(|part| i32::from(part.0));
    assert_eq!(seen, [(Output::Stdout, b"out\n".to_vec()), (Output::Stderr, b"err\n".to_vec())]);
    let run = Run { key: Place::key(), container_id: "c".to_owned() };
    let unknown = ReadLogRequest { outputs: vec![0], ..ReadLogRequest::default() };
    let folder = open::folder(place.dir.path()).unwrap();
    assert!(read(&unknown, &run, folder, &place.view.subscribe(), permit()).is_err());
}
