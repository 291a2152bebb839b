//! Which of the resources at hand a task comes to use.

use apportion_types::{
    Resources,
    resources::{Entry, Name, Value},
};

/// What `wanted` takes of what is there, on exact terms; or what is missing.
///
/// What is wanted on terms (a volume, revocable, a certain reservation) is taken as it is. What is wanted on none is made up of what
/// is reserved, the closest reservation first, and then of what is not; never of volumes, nor of what is only lent.
pub(crate) fn pick(there: &Resources, wanted: &Resources) -> Result<Resources, Box<Resources>> {
    if !there.has_terms() || !wanted.has_terms() {
        return there.pick(wanted).ok_or_else(|| Box::new(usable(there).missing(wanted)));
    }
    let on_terms = wanted.only(|entry| entry.terms().is_some());
    let on_none = wanted.only(|entry| entry.terms().is_none());
    let mut rest = there.clone();
    rest.saturating_sub(&on_terms);
    let missing = there.missing(&on_terms) + &usable(&rest).missing(&on_none);
    match rest.pick(&on_none) {
        Some(picked) if missing.is_empty() => Ok(picked + &on_terms),
        _ => Err(Box::new(missing)),
    }
}

/// What a task that asks for no terms may use, on none.
pub(crate) fn usable(there: &Resources) -> Resources {
    if !there.has_terms() {
        return there.clone();
    }
    there.only(|entry| entry.volume().is_none() && !entry.is_revocable()).plain()
}

/// The entry with the closest reservation of a scalar that is kept for somebody, holds no volume, and is at least so much.
pub(crate) fn reserved<'a>(there: &'a Resources, name: &Name, milli: i64) -> Option<&'a Entry> {
    let enough = |entry: &&Entry| {
        entry.name() == name
            && entry.role().is_some()
            && entry.volume().is_none()
            && matches!(entry.value(), Value::Scalar(there) if *there >= milli)
    };
    let depth = |entry: &&Entry| entry.terms().map_or(0, |terms| terms.reservations.len());
    there.entries().filter(enough).max_by_key(depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(text: &str) -> Resources {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_reserved_goes_first_and_terms_are_taken_at_their_word() {
        let there = resources("cpus:2;cpus(eng):2;cpus{revocable}:8;disk(eng)[data=data]:50;disk(eng):10");
        let picked = |wanted: &str| pick(&there, &resources(wanted)).map(|picked| picked.to_string());
        assert_eq!(picked("cpus:3"), Ok("cpus:1;cpus(eng):2".to_owned()));
        assert_eq!(picked("cpus{revocable}:5"), Ok("cpus{revocable}:5".to_owned()));
        assert_eq!(
            picked("cpus:1;disk(eng)[data=data]:50"),
            Ok("cpus(eng):1;disk(eng)[data=data]:50".to_owned())
        );
        assert_eq!(pick(&there, &resources("cpus:5;disk:11")), Err(Box::new(resources("cpus:1;disk:1"))));
        assert_eq!(
            pick(&there, &resources("cpus:5;disk(eng)[other=data]:50")),
            Err(Box::new(resources("cpus:1;disk(eng)[other=data]:50")))
        );
        assert_eq!(usable(&there), resources("cpus:4;disk:10"));
    }

    #[test]
    fn what_a_task_names_is_not_counted_for_it_again() {
        let there = resources("cpus:1;cpus(eng):1");
        assert_eq!(pick(&there, &resources("cpus(eng):1;cpus:1")), Ok(there.clone()));
        assert_eq!(pick(&there, &resources("cpus(eng):1;cpus:2")), Err(Box::new(resources("cpus:1"))));
    }
}
