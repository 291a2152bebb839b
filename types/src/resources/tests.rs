use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Resources {
    text.parse().unwrap()
}

#[test]
fn reads_what_it_writes() {
    for text in [
        "",
        "cpus:2",
        "cpus:0.1;mem:1024;disk:0.5",
        "cpus:2;mem:1024;ports:[31000-32000]",
        "gpus:1;ports:[1-1,3-5];zone:{a,b}",
        "widgets:0.001",
    ] {
        assert_eq!(parse(text).to_string(), text);
    }
    assert_eq!(parse(" cpus : 2 ; mem: 1 GiB ;").to_string(), "cpus:2;mem:1024");
    assert_eq!(parse("ports:[3-5,1,2]").to_string(), "ports:[1-5]");
    assert_eq!(parse("mem:1GB").mem_milli(), 953_674);
    assert_eq!(parse("mem:1.5GiB;cpus:0").to_string(), "mem:1536");
    assert_eq!(parse("mem:1GiB").mem_bytes(), 1 << 30);
}

#[test]
fn says_what_is_wrong_and_where() {
    for (text, column, what) in [
        ("cpus", 1, "name:value"),
        ("cpus:2;mem", 8, "name:value"),
        ("cpus:2;;mem:1", 8, "missing here"),
        ("cpus:x", 6, "not a number"),
        ("cpus:-1", 6, "negative"),
        ("cpus:1.", 6, "not a number"),
        ("cpus:0.0001", 6, "finer than a thousandth"),
        ("cpus:NaN", 6, "not a number"),
        ("cpus:1e300", 6, "no unit"),
        ("cpus:1000000000000000000000000000000000000000", 6, "more than the most"),
        ("mem:1XiB", 5, "not a unit"),
        ("cpus:1;cpus:2", 8, "given twice"),
        ("1cpus:1", 1, "not a name"),
        (":1", 1, "not a name"),
        ("cpus: ", 7, "no value"),
        ("ports:31000", 7, "ports are ranges"),
        ("ports:[31000-", 14, "`]` is missing"),
        ("ports:[1-2,5-3]", 12, "ends before it begins"),
        ("ports:[1-2, x]", 13, "not a range"),
        ("ports:[]", 8, "not a range"),
        ("zone:{a,a}", 9, "twice"),
        ("zone:{}", 7, "not a member"),
        ("käse:1", 1, "not a name"),
    ] {
        let error = text.parse::<Resources>().unwrap_err();
        assert_eq!(error.column, column, "{error}");
        assert!(error.what.contains(what), "{error}");
    }
}

#[test]
fn a_tenth_and_two_tenths_are_three_tenths() {
    assert_eq!(parse("cpus:0.1") + &parse("cpus:0.2"), parse("cpus:0.3"));
}

#[test]
fn ranges_keep_their_order_and_split() {
    let mut ports = Ranges::single(10, 20);
    ports.subtract(&[(0, 10), (12, 13), (20, 30)].into_iter().collect());
    assert_eq!(ports.to_string(), "[11-11,14-19]");
    assert!(ports.contains(&Ranges::single(15, 16)) && !ports.contains(&Ranges::single(11, 14)));
    let edge = Ranges::single(u64::MAX, u64::MAX);
    let mut all = Ranges::single(0, u64::MAX);
    all.subtract(&edge);
    assert_eq!(all.count(), u64::MAX);
    all.add(&edge);
    assert_eq!(all, Ranges::single(0, u64::MAX));
}

#[test]
fn kinds_of_one_name_do_not_mix() {
    let mut both = parse("x:1");
    both += &Resources::of(Name::new("x").unwrap(), Value::Ranges(Ranges::single(1, 2)));
    assert_eq!(both.iter().len(), 2);
    assert_eq!(both.checked_sub(&parse("x:1")).unwrap().iter().len(), 1);
}

fn ranges() -> impl Strategy<Value = Ranges> {
    prop::collection::vec((0..60u64, 0..6u64), 0..8)
        .prop_map(|parts| parts.into_iter().map(|(first, len)| (first, first + len)).collect())
}

fn resources() -> impl Strategy<Value = Resources> {
    let scalars = prop::collection::vec((0..4usize, 0..5000i64), 0..4);
    let set = prop::collection::btree_set("[a-d]", 0..4);
    (scalars, ranges(), set).prop_map(|(scalars, ranges, set)| {
        let names = [Name::Cpus, Name::Mem, Name::Gpus, Name::Custom("w".into())];
        let mut all = Resources::new();
        for (index, milli) in scalars {
            all.insert(names[index].clone(), Value::Scalar(milli));
        }
        all.insert(Name::Ports, Value::Ranges(ranges));
        all.insert(Name::Custom("z".into()), Value::Set(Box::new(set.into_iter().map(Arc::from).collect())));
        all
    })
}

proptest! {
    #[test]
    fn text_round_trips(a in resources()) {
        prop_assert_eq!(parse(&a.to_string()), a);
    }

    #[test]
    fn what_was_taken_and_put_back_is_the_same(a in resources(), b in resources()) {
        // Members and integers that are in both are one and the same, so only what `a` lacks is put in first.
        let b = a.missing(&b);
        let sum = a.clone() + &b;
        prop_assert!(sum.contains(&a) && sum.contains(&b));
        let back = sum.checked_sub(&b);
        let disjoint = {
            let mut rest = a.clone();
            rest.saturating_sub(&b);
            rest.iter().filter(|(_, v)| !matches!(v, Value::Scalar(_))).eq(a.iter().filter(|(_, v)| !matches!(v, Value::Scalar(_))))
        };
        prop_assert!(disjoint);
        prop_assert_eq!(back, Some(a));
    }

    #[test]
    fn contains_is_exactly_when_it_can_be_taken(a in resources(), b in resources()) {
        match a.checked_sub(&b) {
            Some(rest) => {
                prop_assert!(a.contains(&b));
                prop_assert_eq!(rest + &b, a);
            }
            None => prop_assert!(!a.missing(&b).is_empty()),
        }
    }

    #[test]
    fn nothing_is_ever_negative_or_empty(a in resources(), b in resources()) {
        let mut rest = a;
        rest.saturating_sub(&b);
        for (name, value) in rest.iter() {
            prop_assert!(!value.is_empty(), "{name}");
            if let Value::Scalar(milli) = value {
                prop_assert!(*milli > 0);
            }
        }
    }

    #[test]
    fn addition_does_not_care_for_order(a in resources(), b in resources(), c in resources()) {
        let left = (a.clone() + &b) + &c;
        let right = (c + &b) + &a;
        prop_assert_eq!(left, right);
    }

    #[test]
    fn ranges_behave_like_sets_of_integers(a in ranges(), b in ranges()) {
        let set = |r: &Ranges| r.values().collect::<BTreeSet<_>>();
        let mut sum = a.clone();
        sum.add(&b);
        prop_assert_eq!(set(&sum), &set(&a) | &set(&b));
        let mut rest = a.clone();
        rest.subtract(&b);
        prop_assert_eq!(set(&rest), &set(&a) - &set(&b));
        prop_assert_eq!(a.contains(&b), set(&a).is_superset(&set(&b)));
        for ranges in [&sum, &rest] {
            let all: Vec<_> = ranges.iter().collect();
            prop_assert!(all.windows(2).all(|w| w[0].1 + 1 < w[1].0), "sorted and never touching: {ranges}");
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[ a-z:;\\[\\]{},.0-9ä-]{0,40}") {
        if let Ok(resources) = text.parse::<Resources>() {
            prop_assert_eq!(parse(&resources.to_string()), resources);
        }
    }
}

/// Whoever holds the same holds one piece of memory, by its place and length, and there are many of them.
#[test]
fn amounts_are_small_and_shared() {
    let usual: Resources = "cpus:4;mem:1024;disk:1024;ports:[31000-32000]".parse().unwrap();
    assert_eq!(usual, usual.clone());
    assert!(size_of::<Resources>() == 16 && size_of::<Entry>() <= 56, "{}", size_of::<Entry>());
}

#[test]
fn terms_are_read_as_they_are_written() {
    for text in [
        "cpus(eng):2",
        "cpus(+eng):2",
        "cpus(+eng@ann?a=b&c=d):2",
        "cpus:1;cpus{revocable}:3;cpus(eng,+eng/ads@ann):2",
        "disk(+eng)[v1=var/lib]:100;disk(+eng)[v2=data shared]:10",
        "ports(eng):[1-2]",
        "cpus(+r%3Bb%29@%C3%A4%40?%3D=%26):1",
    ] {
        let resources: Resources = text.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(resources.to_string(), text);
    }
    for (text, what) in [
        ("cpus(*):1", "default role"),
        ("cpus(eng,+ops):1", "is not"),
        ("cpus(+eng,eng/ads):1", "must be a dynamic reservation"),
        ("cpus(eng:1", "`)` is missing"),
        ("cpus(eng){revocable}:1", "cannot be reserved"),
        ("disk[v=data]:1", "needs reserved disk"),
        ("disk(eng)[v=../data]:1", "not a plain path"),
        ("disk(eng)[v=/data]:1", "not a plain path"),
        ("mem(eng)[v=data]:1", "cannot hold volume"),
        ("cpus(eng%2):1", "two hexadecimal digits"),
        ("cpus(eng)x:1", "says nothing about a resource"),
        ("cpus(eng):1;cpus(eng):2", "given twice"),
        ("cpus(+eng?a):1", "is not `key=value`"),
    ] {
        let error = text.parse::<Resources>().unwrap_err().to_string();
        assert!(error.contains(what), "{text}: {error}");
    }
}

#[test]
fn a_plain_wish_is_picked_from_what_is_reserved_most_closely_first() {
    let parse = |text: &str| text.parse::<Resources>().unwrap();
    let offer = parse(
        "cpus:4;cpus(eng):1;cpus(eng,+eng/ads):1;cpus{revocable}:9;mem:100;ports:[1-4];ports(eng):[9-9]",
    );
    for (wanted, picked) in [
        ("cpus:0.5", Some("cpus(eng,+eng/ads):0.5")),
        ("cpus:3", Some("cpus:1;cpus(eng):1;cpus(eng,+eng/ads):1")),
        ("cpus:6;mem:10", Some("cpus:4;cpus(eng):1;cpus(eng,+eng/ads):1;mem:10")),
        ("cpus:7", None),
        ("ports:[2-2,9-9]", Some("ports:[2-2];ports(eng):[9-9]")),
        ("cpus{revocable}:2", Some("cpus{revocable}:2")),
    ] {
        let what = offer.pick(&parse(wanted));
        assert_eq!(what.as_ref().map(ToString::to_string).as_deref(), picked, "{wanted}");
        assert!(what.is_none_or(|what| offer.contains(&what)));
    }
}

#[test]
fn a_volume_is_whole_or_not_there() {
    let parse = |text: &str| text.parse::<Resources>().unwrap();
    let volume = parse("disk(+eng)[v=data]:100");
    assert!(!volume.contains(&parse("disk(+eng)[v=data]:50")) && !volume.contains(&parse("disk(+eng):50")));
    assert_eq!(volume.clone() + &volume, volume);
    let mut rest = volume.clone();
    rest.saturating_sub(&parse("disk(+eng)[v=data]:50"));
    assert_eq!(rest, volume);
    rest.saturating_sub(&volume);
    assert!(rest.is_empty());
    assert_eq!(volume.summable().to_string(), "disk(+eng):100");
}
