//! One machine's resources in equal parts for several agents.

use apportion_types::{
    Resources,
    resources::{Name, Value},
};

/// The parts of `whole` for `agents` agents: scalars in whole thousandths, the values of ranges in consecutive blocks.
///
/// Together they are never more than the whole. Sets cannot be divided by a count and go to the first.
pub(crate) fn share(whole: &Resources, agents: usize) -> Vec<Resources> {
    assert!(agents > 0, "there is somebody to share with");
    let mut parts = vec![Resources::new(); agents];
    for (name, value) in whole.iter() {
        match value {
            Value::Scalar(milli) => {
                let part = rounded(name, milli / i64::try_from(agents).unwrap_or(i64::MAX));
                parts.iter_mut().for_each(|each| each.insert(name.clone(), Value::Scalar(part)));
            }
            Value::Ranges(ranges) => {
                let block = ranges.count() / agents as u64;
                let mut left = ranges.iter();
                let mut range = left.next();
                for part in &mut parts {
                    let mut wanted = block;
                    let mut taken = Vec::new();
                    while let Some((first, last)) = range.filter(|_| wanted > 0) {
                        let end = last.min(first.saturating_add(wanted - 1));
                        taken.push((first, end));
                        wanted -= end - first + 1;
                        range = if end == last { left.next() } else { Some((end + 1, last)) };
                    }
                    part.insert(name.clone(), Value::Ranges(taken.into_iter().collect()));
                }
            }
            Value::Set(_) => parts[0].insert(name.clone(), value.clone()),
        }
    }
    parts
}

/// Memory and disk in whole MiB, which read better, where there is at least one.
fn rounded(name: &Name, milli: i64) -> i64 {
    if name.is_bytes() && milli >= 1000 { milli / 1000 * 1000 } else { milli }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(whole: &str, agents: usize) -> Vec<String> {
        share(&whole.parse().unwrap(), agents).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn parts_are_equal_and_never_more_than_the_whole() {
        assert_eq!(shared("cpus:2;mem:1025", 2), ["cpus:1;mem:512", "cpus:1;mem:512"]);
        assert_eq!(shared("cpus:1;mem:10", 3), ["cpus:0.333;mem:3"; 3]);
        assert_eq!(shared("cpus:8", 1), ["cpus:8"]);
        for agents in 1..9 {
            let whole: Resources = "cpus:2.5;mem:4001;ports:[1-3,10-19,30];zone:{a,b}".parse().unwrap();
            let sum: Resources = share(&whole, agents).iter().sum();
            assert!(whole.contains(&sum), "{agents}: {sum}");
        }
    }

    #[test]
    fn no_port_is_given_twice() {
        assert_eq!(shared("ports:[1-3,10-12]", 2), ["ports:[1-3]", "ports:[10-12]"]);
        assert_eq!(shared("ports:[1-2,10-15]", 2), ["ports:[1-2,10-11]", "ports:[12-15]"]);
        assert_eq!(shared("ports:[1-2]", 3), ["", "", ""]);
    }
}
