//! The machines of a trace.

use std::collections::BTreeMap;

use apportion_types::{
    AgentId, Resources, limits,
    resources::{Name, Value},
};

use super::table::{Fault, Row, TraceError, read};

/// The attribute that tells a node's model of gpu.
pub const MODEL: &str = "model";

/// The most nodes: so many of the largest still add up within an `i64` ([`limits::SCALAR_MILLI_MAX`]).
pub const NODES_MAX: usize = 100_000;

const COLUMNS: &[&str] = &["sn", "cpu_milli", "memory_mib", "gpu", "model"];

/// A machine of a trace: an agent of the replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its host name; no other node has it.
    pub name: String,
    /// All that it has: `cpus`, `mem`, `gpus`.
    pub resources: Resources,
    /// [`MODEL`] where it is known.
    pub attributes: BTreeMap<String, String>,
}

/// Reads the columns `sn`, `cpu_milli`, `memory_mib`, `gpu` (whole devices) and `model`, one row for each node, in the order of
/// the text. `file` only names it in errors.
pub fn parse(file: &str, text: &str) -> Result<Vec<Node>, TraceError> {
    let mut lines = BTreeMap::new();
    read(file, text, COLUMNS, NODES_MAX, |row| {
        let node = node(row)?;
        match lines.insert(node.name.clone(), row.line) {
            None => Ok(node),
            Some(line) => Err(row.fault("sn", Fault::Duplicate { name: node.name, line })),
        }
    })
}

fn node(row: &Row<'_>) -> Result<Node, TraceError> {
    // A host name is shown wherever an agent's id is, and keeps its rule.
    let name = AgentId::new(row.text("sn")).map_err(|error| row.fault("sn", Fault::Name(error)))?;
    let mut resources = cpus_and_mem(row)?;
    let gpus = row.number("gpu", "gpus", limits::SCALAR_MILLI_MAX.unsigned_abs() / 1000)?;
    resources.insert(Name::Gpus, scalar(gpus * 1000));
    if resources.is_empty() {
        return Err(row.whole(Fault::Nothing));
    }
    let attributes = match row.text("model") {
        "" => BTreeMap::new(),
        model => BTreeMap::from([(MODEL.to_owned(), bounded(row, "model", model)?.to_owned())]),
    };
    Ok(Node { name: name.as_str().to_owned(), resources, attributes })
}

/// The columns `cpu_milli` and `memory_mib`, which nodes and tasks have alike.
pub(super) fn cpus_and_mem(row: &Row<'_>) -> Result<Resources, TraceError> {
    let most = limits::SCALAR_MILLI_MAX.unsigned_abs();
    let cpus = row.number("cpu_milli", "thousandths of a cpu", most)?;
    let mem = row.number("memory_mib", "MiB", most / 1000)?;
    let mut resources = Resources::new();
    resources.insert(Name::Cpus, scalar(cpus));
    resources.insert(Name::Mem, scalar(mem * 1000));
    Ok(resources)
}

pub(super) fn scalar(milli: u64) -> Value {
    Value::Scalar(i64::try_from(milli).expect("bounded when it was read"))
}

/// A text that goes along with every offer or launch, if it is not too long for that.
pub(super) fn bounded<'a>(row: &Row<'_>, column: &str, text: &'a str) -> Result<&'a str, TraceError> {
    let (bytes, bytes_max) = (text.len(), limits::ID_BYTES_MAX);
    if bytes > bytes_max { Err(row.fault(column, Fault::TooLong { bytes, bytes_max })) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(rows: &str) -> String {
        parse("n.csv", &format!("sn,cpu_milli,memory_mib,gpu,model\n{rows}")).unwrap_err().to_string()
    }

    #[test]
    fn a_row_is_an_agent() {
        let nodes =
            parse("n.csv", "model,gpu,sn,cpu_milli,memory_mib,rack\nT4,2,a,96500,1024,r1\n,0,b,1,0,r2\n");
        let shown: Vec<_> = nodes
            .unwrap()
            .into_iter()
            .map(|node| format!("{} {} {:?}", node.name, node.resources, node.attributes))
            .collect();
        assert_eq!(shown, ["a cpus:96.5;mem:1024;gpus:2 {\"model\": \"T4\"}", "b cpus:0.001 {}"]);
    }

    #[test]
    fn a_bad_row_is_refused_with_the_reason() {
        for (rows, message) in [
            (
                "a,1,1,0,\na,2,2,0,",
                "n.csv:3, column 1 (`sn`): `a` is already the name in line 2; give each its own",
            ),
            (",1,1,0,", "n.csv:2, column 1 (`sn`): not a name: agent id is empty"),
            ("a,0,0,0,T4", "n.csv:2: all amounts are 0; leave the row out, or correct it"),
            (
                "a,x,1,0,",
                "n.csv:2, column 2 (`cpu_milli`): `x` is not a whole number of thousandths of a cpu; write digits \
                 only",
            ),
            (
                "a,1,10000000001,0,",
                "n.csv:2, column 3 (`memory_mib`): 10000000001 MiB are more than 10000000000, the most that is \
                 allowed",
            ),
            (
                "a,1,1,10000000001,",
                "n.csv:2, column 4 (`gpu`): 10000000001 gpus are more than 10000000000, the most that is allowed",
            ),
        ] {
            assert_eq!(refused(rows), message);
        }
        let long = refused(&format!("a,1,1,0,{}", "x".repeat(201)));
        assert_eq!(
            long,
            "n.csv:2, column 5 (`model`): 201 bytes are more than 200, the most that is allowed; shorten it"
        );
    }

    #[test]
    fn the_recorded_cluster_is_read_whole() {
        let nodes = parse("openb", include_str!("../../data/openb/openb_node_list_all_node.csv")).unwrap();
        assert_eq!(nodes.len(), 1523);
        let total: Resources = nodes.iter().map(|node| &node.resources).sum();
        // 125,514 cpus, 583.7 TiB, 6,212 gpus, as data/openb/README.md says.
        assert_eq!(total.cpus_milli() / 1000, 125_514);
        assert_eq!(total.mem_milli() / 1000 * 1000 / (1 << 20), 583_675);
        assert_eq!(total.milli(&Name::Gpus), 6_212_000);
        let models = nodes.iter().filter(|node| node.attributes.contains_key(MODEL)).count();
        assert_eq!(models, 1213);
    }
}
