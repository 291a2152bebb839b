//! The recorded cluster, and tasks drawn from its trace.

use apportion_sdk::placement::{Demand, Machine, Rule};
use apportion_sdk::{Constraint, Place};
use apportion_sim::trace::{Node, Task, nodes, tasks};

const NODES: &str = include_str!("../../sim/data/openb/openb_node_list_all_node.csv");
const TASKS: &str = include_str!("../../sim/data/openb/openb_pod_list_default.csv");

/// The machines and the tasks of `sim/data/openb`.
pub(crate) struct Trace {
    pub(crate) machines: Vec<Machine>,
    pub(crate) demands: Vec<Demand>,
}

impl Trace {
    pub(crate) fn read() -> Trace {
        let nodes = nodes::parse("nodes", NODES).expect("the recorded cluster is good");
        let tasks = tasks::parse("tasks", TASKS).expect("the recorded cluster is good");
        Trace { machines: nodes.iter().map(machine).collect(), demands: tasks.iter().map(demand).collect() }
    }

    /// So many machines, from all over the list.
    pub(crate) fn some_machines(&self, count: usize) -> Vec<Machine> {
        let all = self.machines.len();
        (0..count).map(|number| self.machines[number * all / count % all].clone()).collect()
    }
}

fn machine(node: &Node) -> Machine {
    let place =
        Place { hostname: node.name.clone(), attributes: node.attributes.clone(), ..Place::default() };
    Machine::of(node.name.parse().expect("a node's name is an id"), place.into(), node.resources.clone())
}

fn demand(task: &Task) -> Demand {
    let demand = Demand::of(task.resources.clone());
    if task.models.is_empty() {
        return demand;
    }
    let models: Vec<_> = task.models.iter().map(|model| model.replace('.', "\\.")).collect();
    let any = Constraint::attribute(nodes::MODEL).matches(models.join("|")).expect("names are a pattern");
    demand.must(Rule::require(any))
}

/// Chance from a seed, the same on every machine (SplitMix64).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number below a bound.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((u128::from(mixed ^ (mixed >> 31))) * bound as u128) >> 64) as usize
    }
}
