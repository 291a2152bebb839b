//! What is left to chance: delays, and faults by their rates.

use std::time::Duration;

use super::words::{DURATION_MAX, Given, Line, Parsed};
use crate::{fault::Chaos, network::Delays};

/// Faults that chance may bring to one run.
const FAULTS_MAX: f64 = 100_000.0;

/// The longest delay of a message: far beyond every time-out.
const DELAY_MAX: Duration = Duration::from_secs(3600);

/// Reads what stands behind `network`.
pub(super) fn delays(line: &mut Line<'_>) -> Parsed<Delays> {
    let mut delays = Delays::default();
    for word in line {
        let Given { key, value } = word.option(&["delay", "stragglers", "straggler"])?;
        match key.text {
            "delay" => (delays.least, delays.most) = value.durations(DELAY_MAX)?.into_inner(),
            "stragglers" => delays.stragglers_ppm = value.percent()?,
            _ => delays.straggler_most = value.duration(Duration::ZERO..=DELAY_MAX)?,
        }
    }
    // Without a word the stragglers of fast networks would be faster than the others.
    delays.straggler_most = delays.straggler_most.max(delays.most);
    Ok(delays)
}

/// Reads what stands behind `chaos`.
pub(super) fn chaos(line: &mut Line<'_>) -> Parsed<Chaos> {
    let word = line.word("for how long faults begin")?;
    let lasts = word.duration(Duration::from_millis(1)..=DURATION_MAX)?;
    let calm = Chaos { lasts, longest: Chaos::bad_day(lasts).longest, ..Chaos::NONE };
    let mut chaos = if line.takes("bad-day") { Chaos::bad_day(lasts) } else { calm };
    for word in line {
        let mut rates = [
            ("cuts", &mut chaos.cuts),
            ("breaks", &mut chaos.breaks),
            ("slow", &mut chaos.slow),
            ("master-crashes", &mut chaos.master_crashes),
            ("agent-crashes", &mut chaos.agent_crashes),
            ("reboots", &mut chaos.reboots),
            ("disk-failures", &mut chaos.disk_failures),
            ("framework-crashes", &mut chaos.framework_crashes),
            ("out-of-memory", &mut chaos.out_of_memory),
            ("out-of-use", &mut chaos.out_of_use),
        ];
        let known: Vec<&str> = rates.iter().map(|(key, _)| *key).chain(["longest"]).collect();
        let Given { key, value } = word.option(&known)?;
        match rates.iter_mut().find(|(name, _)| *name == key.text) {
            Some((_, rate)) => **rate = value.decimal(1_000_000)?,
            None => chaos.longest = value.duration(Duration::from_millis(1)..=DURATION_MAX)?,
        }
    }
    let rates = chaos.cuts + chaos.breaks + chaos.slow + chaos.master_crashes + chaos.agent_crashes;
    let rates = rates + chaos.reboots + chaos.disk_failures + chaos.framework_crashes + chaos.out_of_memory;
    let rates = rates + chaos.out_of_use;
    if rates * lasts.as_secs_f64() / 60.0 > FAULTS_MAX {
        return Err(word.wrong(
            "is too long for so many faults a minute",
            format!("at most {FAULTS_MAX} faults in all"),
        ));
    }
    Ok(chaos)
}
