use apportion_types::{Resources, resources::Name};

use super::*;
use crate::{quantities::Kinds, slab::ClientKey, sorter::random::Random};

struct Fixture {
    kinds: Kinds,
    capacity: Capacity,
    sorter: Sorter<&'static str, ClientKey>,
    nodes: Vec<(&'static str, NodeKey)>,
}

impl Fixture {
    fn new(total: &str) -> Self {
        let mut kinds = Kinds::default();
        let mut capacity = Capacity::new(&mut kinds, &[]);
        capacity.add(&kinds.quantities(resources(total).entries()));
        Self { kinds, capacity, sorter: Sorter::default(), nodes: Vec::new() }
    }

    fn add(&mut self, name: &'static str, weight: u32) {
        let node = self.sorter.add(name, ClientKey::at(self.nodes.len()), milli(weight * 1000));
        self.sorter.list(node);
        self.nodes.push((name, node));
    }

    fn node(&self, name: &str) -> NodeKey {
        self.nodes.iter().find(|(known, _)| *known == name).expect("it was added").1
    }

    fn allocate(&mut self, name: &str, amount: &str) {
        let quantities = self.kinds.quantities(resources(amount).entries());
        let node = self.node(name);
        self.sorter.allocate(node, &quantities);
        self.sorter.count(node);
    }

    fn unallocate(&mut self, name: &str, amount: &str) {
        let quantities = self.kinds.quantities(resources(amount).entries());
        let node = self.node(name);
        self.sorter.unallocate(node, &quantities);
    }

    fn order(&mut self) -> String {
        self.sorter.check(&self.capacity);
        self.sorter.refresh(&self.capacity);
        let names: Vec<_> = self.sorter.asked(None).iter().map(|key| self.nodes[key.index()].0).collect();
        names.join(" ")
    }
}

fn milli(milli: u32) -> Weight {
    Weight::from_milli(milli).unwrap()
}

fn resources(text: &str) -> Resources {
    text.parse().unwrap()
}

/// The example that Mesos' sorter tests work through.
#[test]
fn orders_by_dominant_share() {
    let mut f = Fixture::new("cpus:100;mem:100");
    f.add("a", 1);
    f.allocate("a", "cpus:5;mem:5");
    f.add("b", 1);
    f.allocate("b", "cpus:6;mem:6");
    assert_eq!(f.order(), "a b");

    f.add("c", 1);
    f.allocate("c", "cpus:1;mem:1");
    f.add("d", 1);
    f.allocate("d", "cpus:3;mem:1");
    assert_eq!(f.order(), "c d a b");

    f.sorter.unlist(f.node("d"));
    f.allocate("b", "cpus:1;mem:0");
    assert_eq!(f.order(), "c a b");

    f.capacity.subtract(&f.kinds.quantities(resources("cpus:50").entries()));
    f.capacity.add(&f.kinds.quantities(resources("mem:100").entries()));
    f.add("e", 1);
    f.allocate("e", "cpus:1;mem:20");
    f.add("f", 1);
    f.allocate("f", "cpus:5;mem:5");
    // Of 50 cpus and 200 mem: c .02, a .1 after one allocation, e .1 by its memory, f .1, b .14.
    assert_eq!(f.order(), "c a e f b");

    f.unallocate("b", "cpus:7;mem:6");
    assert_eq!(f.order(), "b c a e f");
    f.sorter.list(f.node("d"));
    assert_eq!(f.order(), "b c d a e f");
}

/// The example of the DRF paper: 9 cpus and 18 GB; a's tasks take 1 cpu and 4 GB, b's 3 cpus and 1 GB. a ends with three tasks
/// and b with two, each with two thirds of its dominant resource.
#[test]
fn fills_a_cluster_as_the_paper_does() {
    let mut f = Fixture::new("cpus:9;mem:18");
    f.add("a", 1);
    f.add("b", 1);
    let mut given = String::new();
    for _ in 0..5 {
        let poorest = f.order()[..1].to_owned();
        f.allocate(&poorest, if poorest == "a" { "cpus:1;mem:4" } else { "cpus:3;mem:1" });
        given += &poorest;
    }
    assert_eq!(given, "ababa");
    let share =
        |name| f.sorter.ranked(&f.capacity).into_iter().find(|(r, _)| r.name == name).unwrap().0.share;
    assert_eq!(share("a"), DominantShare::new(2, 3, 1000));
    assert_eq!(share("a"), share("b"));
}

#[test]
fn breaks_ties_by_allocations_then_name() {
    let mut f = Fixture::new("cpus:100;mem:100");
    for name in ["c", "b", "a"] {
        f.add(name, 1);
    }
    assert_eq!(f.order(), "a b c");
    f.allocate("a", "cpus:1");
    f.unallocate("a", "cpus:1");
    assert_eq!(f.order(), "b c a");
    f.allocate("b", "");
    assert_eq!(f.order(), "c a b");
}

#[test]
fn a_weight_divides_the_share() {
    let mut f = Fixture::new("cpus:100;mem:100");
    f.add("a", 1);
    f.add("b", 2);
    f.allocate("a", "cpus:5");
    f.allocate("b", "cpus:9");
    assert_eq!(f.order(), "b a");
    f.allocate("b", "cpus:1");
    assert_eq!(f.order(), "a b", "equal, and a was given fewer");
    f.sorter.set_weight(f.node("b"), milli(2001));
    assert_eq!(f.order(), "b a", "a thousandth decides");
}

#[test]
fn those_who_are_drawn_come_first_as_often_as_their_weights_say() {
    let mut f = Fixture::new("cpus:1");
    for (name, weight) in [("a", 1), ("b", 2), ("c", 5)] {
        f.add(name, weight);
    }
    f.order();
    let mut first = [0; 3];
    for number in 0..8000 {
        let order: Vec<usize> =
            f.sorter.asked(Some(Random::of([7, number, 0]))).into_iter().map(ClientKey::index).collect();
        first[order[0]] += 1;
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 3, "each is drawn once");
    }
    // Six standard deviations of the middle one are 232.
    for (drawn, expected) in first.into_iter().zip([1000, 2000, 5000_i32]) {
        assert!(expected.abs_diff(drawn) < 250, "{first:?}");
    }
}

#[test]
fn excluded_names_and_names_without_total_make_no_share() {
    let mut kinds = Kinds::default();
    let mut capacity = Capacity::new(&mut kinds, &[Name::Gpus]);
    capacity.add(&kinds.quantities(resources("cpus:10;gpus:1;ports:[1-10]").entries()));
    let quantities = kinds.quantities(resources("cpus:1;gpus:1;ports:[1-10]").entries());
    assert_eq!(capacity.dominant_share(&quantities, milli(1)), DominantShare::new(1, 10, 1));
}
