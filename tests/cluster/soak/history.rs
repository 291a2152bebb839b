//! What was written to etcd, from its first revision on: who led when, and whether anybody else wrote meanwhile.

use std::collections::BTreeMap;

use serde_json::Value;

/// A leadership: who had it, and what was written during it.
#[derive(Debug)]
pub(super) struct Leadership {
    pub(super) master_id: String,
    /// When its key was made.
    pub(super) revision: i64,
    /// The entries that were written, by their keys.
    pub(super) written: BTreeMap<String, u32>,
}

/// Judges everything that was ever written; gives the leaderships in their order, and what is wrong.
pub(super) fn judge(history: &str) -> (Vec<Leadership>, Vec<String>) {
    let (mut leaderships, mut wrong) = (Vec::<Leadership>::new(), Vec::new());
    let mut leads = false;
    let body = history.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    for line in body.lines() {
        let document: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for event in document["result"]["events"].as_array().into_iter().flatten() {
            let text = |name: &str| {
                let encoded = event["kv"][name].as_str().unwrap_or_default();
                String::from_utf8_lossy(&base64(encoded).expect("base64")).into_owned()
            };
            let number = |name: &str| -> i64 {
                event["kv"][name].as_str().map_or(0, |text| text.parse().expect("a number"))
            };
            let (key, revision) = (text("key"), number("mod_revision"));
            let Some(key) = key.strip_prefix("/apportion/default/") else {
                wrong.push(format!("revision {revision} of etcd is of a key nobody knows: {key}"));
                continue;
            };
            let deleted = event["type"] == "DELETE";
            match key {
                "leader" if deleted => leads = false,
                "leader" => {
                    let value = text("value");
                    if leads || number("create_revision") != revision {
                        wrong.push(format!("{value} made itself the leader at {revision} while another led"));
                    }
                    leads = true;
                    let master_id = value.split(' ').nth(1).unwrap_or_default().to_owned();
                    leaderships.push(Leadership { master_id, revision, written: BTreeMap::new() });
                }
                key => match leaderships.last_mut().filter(|_| leads) {
                    Some(leadership) => {
                        *leadership.written.entry(key.to_owned()).or_default() += 1;
                    }
                    None => wrong.push(format!("{key} was written at {revision} while nobody led")),
                },
            }
        }
    }
    (leaderships, wrong)
}

/// What a text in base64 says.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for digit in text.trim_end_matches('=').bytes() {
        let value = DIGITS.iter().position(|known| *known == digit)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[test]
fn a_history_in_which_two_write_is_found() {
    let line = |kind: &str, key: &str, value: &str, created: i64, revision: i64| {
        format!(
            "{{\"result\":{{\"events\":[{{{kind}\"kv\":{{\"key\":\"{key}\",\"value\":\"{value}\",\
             \"create_revision\":\"{created}\",\"mod_revision\":\"{revision}\"}}}}]}}}}\n"
        )
    };
    let (leader, entry) =
        ("L2FwcG9ydGlvbi9kZWZhdWx0L2xlYWRlcg==", "L2FwcG9ydGlvbi9kZWZhdWx0L2VudHJpZXMvYQ==");
    let made = line("", leader, "YToxIG0x", 2, 2);
    let written = line("", entry, "", 3, 3);
    let ended = line("\"type\":\"DELETE\",", leader, "", 0, 4);
    let head = "HTTP/1.0 200 OK\r\n\r\n".to_owned();
    let (leaderships, wrong) = judge(&(head.clone() + &made + &written + &ended));
    assert_eq!(wrong, Vec::<String>::new());
    let [one] = &leaderships[..] else { panic!("{leaderships:?}") };
    assert_eq!((one.master_id.as_str(), one.revision, one.written["entries/a"]), ("m1", 2, 1));
    assert_eq!(judge(&(head.clone() + &made + &ended + &written)).1.len(), 1);
    assert_eq!(judge(&(head + &made + &line("", leader, "YToxIG0y", 2, 3))).1.len(), 1);
}
