//! `apportion roles`: the tree of roles, and what is set for them.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use apportion_master::{QuotaLimit, Weight};
use apportion_sdk::operator::{Quota, RoleChange};
use apportion_types::{
    Resources, Role,
    document::{Limit, RoleState},
};
use serde::{Deserialize, Serialize};

use crate::{
    Usage,
    client::{self, Master},
    list::{self, List},
    output::answer,
    value,
};

/// List the roles, or change what is set for them
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: list::Args,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Set(SetArgs),
    Apply(ApplyArgs),
}

/// Change what is set for a role; what is not named stays
#[derive(Debug, clap::Args)]
struct SetArgs {
    /// The role, such as `eng/ads`
    role: Role,
    /// How much it counts beside its siblings
    #[arg(long, value_name = "W")]
    weight: Option<Weight>,
    /// Whom it may preempt: those of lower priority
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// What it is sure of, such as `cpus:4;mem:8GiB`; `none` for nothing
    #[arg(long, value_name = "RESOURCES")]
    guarantee: Option<String>,
    /// The most that it may have, such as `cpus:8;gpus:0`; `none` for whatever there is
    #[arg(long, value_name = "RESOURCES")]
    limit: Option<String>,
    #[command(flatten)]
    how: How,
}

/// Change what is set for several roles, all together or not at all
#[derive(Debug, clap::Args)]
struct ApplyArgs {
    /// A section for each role, with what changes: `[eng]`, `weight = 2`, `priority = 1`, `guarantee = "cpus:4"`, `limit = "none"`
    file: PathBuf,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
#[group(skip)]
struct How {
    /// Also where guarantees exceed the cluster, or a role has more than its new limit
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    client: client::Args,
}

/// What is to change of a role, as people write it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    weight: Option<toml::Value>,
    priority: Option<i32>,
    guarantee: Option<String>,
    limit: Option<String>,
}

const LIST: List<'static, RoleState, 8> = List {
    name: "roles",
    heads: ["ROLE", ">WEIGHT", ">PRIORITY", "GUARANTEE", "LIMIT", "ALLOCATED", ">SHARE", "FRAMEWORKS"],
    empty: "no roles: nobody takes offers, and nothing is set\n",
    row: |role| {
        let settings = &role.settings;
        let name = settings.role.as_str();
        // Below its parent in the order of names, and further in.
        let tree = match name.rsplit_once('/') {
            Some((above, last)) => format!("{}{last}", "  ".repeat(above.split('/').count())),
            None => name.to_owned(),
        };
        let mut frameworks: Vec<&str> =
            role.frameworks.iter().take(3).map(|each| each.framework_id.as_str()).collect();
        let more = format!("{} more", role.framework_count.saturating_sub(frameworks.len() as u64));
        if role.framework_count > frameworks.len() as u64 {
            frameworks.push(&more);
        }
        let reserved = match role.reserved.0.is_empty() {
            true => String::new(),
            false => format!(" (reserved {})", role.reserved.0),
        };
        [
            tree,
            apportion_types::resources::Value::Scalar(settings.weight_milli.into()).to_string(),
            settings.priority.to_string(),
            dash(settings.guarantee.0.to_string()),
            dash(settings.limit.as_ref().map(Limit::to_string).unwrap_or_default()),
            format!("{}{reserved}", dash(role.allocated.0.to_string())),
            format!("{}.{:02}%", role.dominant_share_ppm / 10_000, role.dominant_share_ppm / 100 % 100),
            dash(frameworks.join(",")),
        ]
    },
};

fn dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let (how, written) = match args.command {
        None => return list(args.list).await,
        Some(Command::Set(SetArgs { role, weight, priority, guarantee, limit, how })) => {
            let weight = weight.map(|weight| toml::Value::String(weight.to_string()));
            (how, BTreeMap::from([(role, Written { weight, priority, guarantee, limit })]))
        }
        Some(Command::Apply(ApplyArgs { file, how })) => {
            let text =
                std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            let named: BTreeMap<Role, Written> =
                toml::from_str(&text).map_err(|e| Usage(format!("{}: {}", file.display(), e.message())))?;
            (how, named)
        }
    };
    let wishes = written.into_iter().map(|(role, written)| wish(role, written));
    let wishes = wishes.collect::<Result<Vec<Wish>, Usage>>()?;
    if wishes.is_empty() {
        return Err(Usage("no role is named; give each a section, such as `[eng]`".to_owned()).into());
    }
    let Some(client) = how.client.start()? else { return Ok(()) };
    let master = client.connect().await?;
    let changes = changes(&master, wishes).await?;
    master.ask(|it| it.update_roles(&changes, how.force)).await?;
    answer(client.output, &Done { changed: changes.keys().cloned().collect() }, |done| {
        let names: Vec<&str> = done.changed.iter().map(Role::as_str).collect();
        format!("changed: {}\n", names.join(", "))
    })
}

async fn list(args: list::Args) -> anyhow::Result<()> {
    let Some(client) = args.client.start()? else { return Ok(()) };
    let master = client.connect().await?;
    let fetch = async |size, after: Option<&str>| master.ask(|it| it.roles_page(size, after)).await;
    LIST.print(client.output, args.limit, fetch, |role| role).await.map(|_| ())
}

/// What `-o json` gives.
#[derive(Debug, Serialize)]
struct Done {
    changed: Vec<Role>,
}

/// What is wished of a role, understood.
#[derive(Debug, PartialEq)]
struct Wish {
    role: Role,
    weight_milli: Option<u32>,
    priority: Option<i32>,
    guarantee: Option<Resources>,
    limit: Option<Option<Limit>>,
}

fn wish(role: Role, written: Written) -> Result<Wish, Usage> {
    let wrong = |what: String| Usage(format!("role `{role}`: {what}"));
    let weight = written.weight.map(|weight| match weight {
        toml::Value::String(text) => text,
        other => other.to_string(),
    });
    let weight = weight.map(|text| text.parse::<Weight>()).transpose().map_err(|e| wrong(e.to_string()))?;
    let guarantee = written.guarantee.map(|text| match text.as_str() {
        "none" => Ok(Resources::new()),
        text => <Resources as value::Value>::parse(text),
    });
    let limit = written.limit.map(|text| match text.as_str() {
        "none" => Ok(None),
        text => text.parse::<QuotaLimit>().map(Some),
    });
    let limit = limit.transpose().map_err(|e| wrong(e.to_string()))?;
    let limit = limit.map(|limit| {
        limit.map(|limit| Limit(limit.iter().map(|(name, milli)| (name.clone(), milli)).collect()))
    });
    let guarantee = guarantee.transpose().map_err(wrong)?;
    if weight.is_none() && written.priority.is_none() && guarantee.is_none() && limit.is_none() {
        let what = "nothing changes; give --weight, --priority, --guarantee or --limit, or in a file the same without dashes";
        return Err(Usage(format!("role `{role}`: {what}")));
    }
    let (weight_milli, priority) = (weight.map(Weight::milli), written.priority);
    Ok(Wish { role, weight_milli, priority, guarantee, limit })
}

/// What changes. A master takes a quota as a whole: the part of it that is not named is what it is now.
async fn changes(master: &Master, wishes: Vec<Wish>) -> anyhow::Result<BTreeMap<Role, RoleChange>> {
    let half = |wish: &Wish| wish.guarantee.is_some() != wish.limit.is_some();
    let now = match wishes.iter().any(half) {
        true => master.ask(|it| it.roles()).await?,
        false => Vec::new(),
    };
    let quota = |wish: &Wish| {
        if wish.guarantee.is_none() && wish.limit.is_none() {
            return None;
        }
        let now = now.iter().map(|role| &role.settings).find(|settings| settings.role == wish.role);
        let guarantee = wish.guarantee.clone().or(now.map(|now| now.guarantee.0.clone()));
        let limit = wish.limit.clone().or(now.map(|now| now.limit.clone()));
        Some(Quota { guarantee: guarantee.unwrap_or_default(), limit: limit.flatten() })
    };
    let change = |wish: &Wish| RoleChange {
        weight_milli: wish.weight_milli,
        priority: wish.priority,
        quota: quota(wish),
    };
    Ok(wishes.iter().map(|wish| (wish.role.clone(), change(wish))).collect())
}

#[cfg(test)]
mod tests {
    use apportion_types::document::{Amounts, RoleFramework, RoleSettings};

    use super::*;

    fn role(name: &str, frameworks: usize) -> RoleState {
        let limit = Some(Limit([(apportion_types::resources::Name::Cpus, 8000)].into()));
        let settings =
            RoleSettings { weight_milli: 1500, limit, ..RoleSettings::none(name.parse().unwrap()) };
        let framework = |number| RoleFramework {
            framework_id: format!("f{number}").parse().unwrap(),
            allocated: Amounts(Resources::new()),
            dominant_share_ppm: 0,
        };
        RoleState {
            settings,
            allocated: Amounts("cpus:1".parse().unwrap()),
            reserved: Amounts("cpus:2".parse().unwrap()),
            dominant_share_ppm: 123_456,
            frameworks: (0..frameworks).map(framework).collect(),
            framework_count: frameworks as u64,
        }
    }

    #[test]
    fn roles_are_a_tree() {
        let expected = "\
ROLE   WEIGHT  PRIORITY  GUARANTEE  LIMIT   ALLOCATED                  SHARE  FRAMEWORKS
eng       1.5         0  -          cpus:8  cpus:1 (reserved cpus:2)  12.34%  -
  ads     1.5         0  -          cpus:8  cpus:1 (reserved cpus:2)  12.34%  f0,f1,f2,2 more
";
        let text = LIST.text(&[role("eng", 0), role("eng/ads", 5)]);
        assert_eq!(text, expected);
    }

    #[test]
    fn a_file_says_what_changes_or_is_refused_by_role() {
        let read = |text: &str| {
            let named: BTreeMap<Role, Written> =
                toml::from_str(text).map_err(|e| Usage(e.message().to_owned()))?;
            named.into_iter().map(|(role, written)| wish(role, written)).collect::<Result<Vec<Wish>, Usage>>()
        };
        let wishes =
            read("[eng]\nweight = 2.5\nlimit = 'none'\n['eng/ads']\npriority = -1\nguarantee = 'cpus:4'")
                .unwrap();
        assert_eq!((wishes[0].weight_milli, &wishes[0].limit), (Some(2500), &Some(None)));
        assert_eq!(
            (wishes[1].priority, wishes[1].guarantee.as_ref().unwrap().to_string().as_str()),
            (Some(-1), "cpus:4")
        );
        for (text, what) in [
            ("[eng]", "role `eng`: nothing changes"),
            ("[eng]\nweight = 0", "role `eng`: `0` is not a weight"),
            ("[eng]\nlimit = 'cpus'", "role `eng`: `cpus` is not a quota limit"),
            ("[eng]\nguarantee = 'cpus:-1'", "negative"),
            ("[eng]\nwait = 1", "unknown field `wait`"),
            ("['a//b']\nweight = 1", "role `a//b`"),
        ] {
            let refused = read(text).unwrap_err().to_string();
            assert!(refused.contains(what), "{text}: {refused}");
        }
    }
}
