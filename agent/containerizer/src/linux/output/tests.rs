use std::{fs, io::Write as _, os::unix::fs::symlink};

use super::*;

fn bounds(bytes_max: u64, files_max: u32) -> OutputBounds {
    OutputBounds { bytes_max, files_max }
}

fn log(folder: &tempfile::TempDir, bounds: OutputBounds) -> Log {
    Log::open(folder.path(), STDOUT, bounds).unwrap()
}

/// What is kept, the oldest first.
fn kept(folder: &tempfile::TempDir) -> Vec<String> {
    let name = |number| if number == 0 { STDOUT.to_owned() } else { format!("{STDOUT}.{number}") };
    let texts = (0..20).map_while(|number| fs::read_to_string(folder.path().join(name(number))).ok());
    let mut texts: Vec<String> = texts.collect();
    texts.reverse();
    texts
}

#[test]
fn a_file_is_cut_at_a_line_where_there_is_one() {
    assert_eq!(fitting(b"abc", 3, true), 3);
    assert_eq!(fitting(b"a\nbc", 3, true), 2);
    assert_eq!(fitting(b"abcd", 3, true), 0, "the next file begins with the line");
    assert_eq!(fitting(b"abcd", 3, false), 3, "a line that is longer than a file");
    assert_eq!(fitting(b"a", 0, false), 0);
}

#[test]
fn what_is_kept_is_bounded_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log(&folder, bounds(10, 2));
    log.append(b"one\ntwo\n");
    log.append(b"three\n");
    assert_eq!(kept(&folder), ["one\ntwo\n", "three\n"]);
    let is_cut = || folder.path().join("stdout.cut").exists();
    log.append(b"four\n");
    log.append(b"five\n");
    assert_eq!((kept(&folder).len(), is_cut()), (3, false), "there are as many as may be, and all is there");
    log.append(b"six\nseven\n");
    assert_eq!(kept(&folder), ["three\n", "four\nfive\n", "six\nseven\n"]);
    assert!(is_cut());
    log.append(b"a line that is longer than two files\n");
    assert_eq!(kept(&folder), ["t is longe", "r than two", " files\n"]);
}

#[test]
fn a_file_that_the_task_deletes_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log(&folder, bounds(10, 2));
    log.append(b"one\ntwo\n");
    fs::remove_file(folder.path().join(STDOUT)).unwrap();
    log.append(b"three\n");
    log.append(b"four\n");
    assert_eq!(kept(&folder), ["three\n", "four\n"]);
}

#[test]
fn of_many_sizes_the_newest_bytes_are_kept_in_order() {
    let text: Vec<u8> = (0..300_u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    for (bytes_max, files_max, part) in
        [(1, 3, 7), (100, 0, 33), (1000, 5, 4096), (1 << 20, 1, 65536), (3, 9, 1)]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log(&folder, bounds(bytes_max, files_max));
        text.chunks(part).for_each(|part| log.append(part));
        let kept = kept(&folder);
        assert!(kept.len() <= files_max as usize + 1, "{kept:?}");
        assert!(kept.iter().all(|text| text.len() as u64 <= bytes_max), "{kept:?}");
        let kept = kept.concat();
        assert!(!kept.is_empty() && text.ends_with(kept.as_bytes()), "{bytes_max}: {kept}");
    }
}

#[test]
fn what_a_file_holds_already_counts() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(STDOUT), "before\n").unwrap();
    log(&folder, bounds(10, 2)).append(b"after\n");
    assert_eq!(kept(&folder), ["before\n", "after\n"]);
    log(&folder, bounds(10, 2)).append(b"on\n");
    assert_eq!(kept(&folder), ["before\n", "after\non\n"]);
}

#[test]
fn whatever_the_task_puts_in_the_way_the_bounds_hold() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("victim"), "mine").unwrap();
    symlink("victim", at("stdout.1")).unwrap();
    let mut log = log(&folder, bounds(4, 1));
    log.append(b"one\ntwo\n");
    assert_eq!(kept(&folder), ["one\n", "two\n"]);
    // A folder in the place of the only full file.
    fs::remove_file(at("stdout.1")).unwrap();
    fs::create_dir(at("stdout.1")).unwrap();
    log.append(b"six\n");
    assert_eq!(fs::read_to_string(at(STDOUT)).unwrap(), "six\n");
    fs::remove_dir(at("stdout.1")).unwrap();
    // Its file is gone; what comes goes to a new one.
    fs::remove_file(at(STDOUT)).unwrap();
    symlink("victim", at(STDOUT)).unwrap();
    log.append(b"ten\n");
    assert_eq!(fs::read_to_string(at(STDOUT)).unwrap(), "ten\n");
    assert_eq!(fs::read_to_string(at("victim")).unwrap(), "mine");
    // A folder in the place of the file itself: what comes is dropped until it is away.
    fs::create_dir_all(at("stdout.1/inner")).unwrap();
    fs::remove_file(at(STDOUT)).unwrap();
    fs::create_dir_all(at("stdout/inner")).unwrap();
    log.append(b"lost");
    assert_eq!(log.dropped, 4);
    fs::remove_dir_all(at(STDOUT)).unwrap();
    log.append(b"new\n");
    assert_eq!((fs::read_to_string(at(STDOUT)).unwrap().as_str(), log.dropped), ("new\n", 0));
}

#[test]
fn a_full_disk_drops_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log(&folder, bounds(100, 1));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let before = log.file.replace(full.into());
    log.append(b"lost\n");
    log.append(b"lost too\n");
    assert_eq!(log.dropped, 14);
    log.file = before;
    log.append(b"kept\n");
    assert_eq!((kept(&folder), log.dropped), (vec!["kept\n".to_owned()], 0));
}

#[test]
fn the_rest_is_kept_also_when_somebody_goes_on_writing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut outputs, [output, errors]) = Outputs::open(folder.path(), bounds(1 << 20, 0)).unwrap();
    let mut output = fs::File::from(output);
    output.write_all(&[b'x'; 60_000]).unwrap();
    drop(errors);
    outputs.keep(&[false, true]);
    assert_eq!(outputs.count(), 1, "nobody can write to its standard error any more");
    outputs.finish();
    assert_eq!(kept(&folder).concat().len(), 60_000);
    assert_eq!(outputs.count(), 0);
}
