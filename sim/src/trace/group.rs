//! Tasks that ask for the same, together: one framework each.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use apportion_types::{Resources, Role, text};

use super::{nodes::MODEL, nodes::Node, tasks::Task};

/// Bytes of a role in the name of its groups: what frameworks make of a name has room beside it in an id.
const ROLE_BYTES_MAX: usize = 100;

/// All tasks of one role that ask for the same: a job whose tasks come over time, or an application with more and fewer replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Names its framework: a number and the role, such as `007-be`; good as the start of an id, and never the start of another
    /// group's name.
    pub name: String,
    /// The role of its framework.
    pub role: Role,
    /// What each of its tasks asks for.
    pub resources: Resources,
    /// The models of gpu ([`MODEL`]) that its tasks may run on; any when there is none.
    pub models: BTreeSet<String>,
    /// Its tasks by their place in the list that was grouped, in that order; at least one.
    pub tasks: Vec<usize>,
}

impl Group {
    /// True when a task of the group can run on this node while nothing else does.
    pub fn fits(&self, node: &Node) -> bool {
        node.resources.contains(&self.resources) && self.allows(node)
    }

    /// True when the node's model of gpu is among those that are allowed.
    pub fn allows(&self, node: &Node) -> bool {
        self.models.is_empty() || node.attributes.get(MODEL).is_some_and(|model| self.models.contains(model))
    }
}

/// Groups tasks by what they ask for; the groups come in the order of their first tasks, and are numbered so.
pub fn group(tasks: &[Task]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut known: BTreeMap<_, usize> = BTreeMap::new();
    for (index, task) in tasks.iter().enumerate() {
        match known.entry((&task.role, task.resources.to_string(), &task.models)) {
            Entry::Occupied(at) => groups[*at.get()].tasks.push(index),
            Entry::Vacant(at) => {
                at.insert(groups.len());
                groups.push(Group {
                    name: text::cut(task.role.as_str().replace('/', "-"), ROLE_BYTES_MAX),
                    role: task.role.clone(),
                    resources: task.resources.clone(),
                    models: task.models.clone(),
                    tasks: vec![index],
                });
            }
        }
    }
    let digits = groups.len().to_string().len().max(3);
    for (number, group) in (1..).zip(&mut groups) {
        group.name = format!("{number:0digits$}-{}", group.name);
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn task(role: &str, resources: &str, models: &[&str]) -> Task {
        Task {
            name: "t".to_owned(),
            role: Role::new(role).unwrap(),
            resources: resources.parse().unwrap(),
            models: models.iter().map(|model| (*model).to_owned()).collect(),
            created: Duration::ZERO,
            duration: Duration::ZERO,
        }
    }

    #[test]
    fn equal_requests_of_a_role_are_one_group() {
        let tasks = [
            task("ls", "cpus:1", &[]),
            task("eng/be", "cpus:1", &[]),
            task("ls", "cpus:1", &["T4"]),
            task("ls", "cpus:1;gpus:1", &[]),
            task("ls", "cpus:1", &[]),
        ];
        let groups = group(&tasks);
        let shown: Vec<_> = groups.iter().map(|group| (group.name.as_str(), group.tasks.clone())).collect();
        let expected =
            [("001-ls", vec![0, 4]), ("002-eng-be", vec![1]), ("003-ls", vec![2]), ("004-ls", vec![3])];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_name_leaves_room_in_an_id() {
        let name = group(&[task(&"x".repeat(200), "cpus:1", &[])]).remove(0).name;
        assert!(
            name.len() <= ROLE_BYTES_MAX + 4 && name.starts_with("001-x") && name.ends_with('…'),
            "{name}"
        );
    }

    #[test]
    fn a_task_runs_where_it_fits_on_a_model_that_it_allows() {
        let node = |resources: &str, model: Option<&str>| Node {
            name: "n".to_owned(),
            resources: resources.parse().unwrap(),
            attributes: model.map(|model| (MODEL.to_owned(), model.to_owned())).into_iter().collect(),
        };
        let any = &group(&[task("ls", "cpus:2", &[])])[0];
        assert!(any.fits(&node("cpus:2", None)) && !any.fits(&node("cpus:1.9", Some("T4"))));
        let some = &group(&[task("ls", "cpus:2", &["T4", "P100"])])[0];
        assert!(some.fits(&node("cpus:2", Some("T4"))));
        assert!(!some.fits(&node("cpus:2", Some("G2"))) && !some.fits(&node("cpus:2", None)));
    }

    #[test]
    fn the_recorded_tasks_make_a_few_groups() {
        let tasks =
            super::super::tasks::parse("openb", include_str!("../../data/openb/openb_pod_list_default.csv"));
        let tasks = tasks.unwrap();
        let groups = group(&tasks);
        assert_eq!(groups.len(), 162);
        assert_eq!(groups.iter().map(|group| group.tasks.len()).sum::<usize>(), tasks.len());
        for group in &groups {
            for task in &group.tasks {
                assert_eq!((&tasks[*task].role, &tasks[*task].resources), (&group.role, &group.resources));
            }
        }
    }
}
