//! On which terms a resource is held: reserved for a role, a persistent volume, revocable.

use std::{collections::BTreeMap, fmt};

use super::{
    Name,
    escape::{escaped, unescaped},
};
use crate::{Role, ids::VolumeId};

/// What sets a resource apart from others of its name. Amounts on different terms never mix (Mesos: `Resource.reservations`,
/// `DiskInfo`, `revocable`; src/common/resources.cpp).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Terms {
    /// From the first reservation to its last refinement. The last is in force; each role is below the one before it.
    pub reservations: Vec<Reservation>,
    /// The volume that a disk holds. Such a disk is whole or not there: never split, never joined.
    pub volume: Option<PersistentVolume>,
    /// Lent until its owner needs it: what runs on it may be killed at any time.
    pub revocable: bool,
}

/// That a resource is kept for a role and those below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reservation {
    /// For whom; never the default role.
    pub role: Role,
    /// By whom; none when it stands in the agent's own settings, where no operation can end it.
    pub dynamic: Option<Dynamic>,
}

/// How a reservation was made by an operation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Dynamic {
    /// Who made it; empty for nobody known.
    pub principal: String,
    /// Free text; reservations with different labels are different.
    pub labels: BTreeMap<String, String>,
}

/// Disk that outlives the tasks that use it, under its role's reservation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistentVolume {
    /// Unique for its role on its agent.
    pub id: VolumeId,
    /// Where a task sees it: relative to its working directory, without `.` and `..`.
    pub path: String,
    /// Offered also while tasks of its role use it, to frameworks that can share.
    pub shared: bool,
}

impl Reservation {
    /// One of an agent's own settings.
    pub fn fixed(role: Role) -> Self {
        Self { role, dynamic: None }
    }

    /// One made by an operation.
    pub fn by(role: Role, principal: impl Into<String>) -> Self {
        Self { role, dynamic: Some(Dynamic { principal: principal.into(), labels: BTreeMap::new() }) }
    }
}

impl Terms {
    /// For whom it is kept, if it is.
    pub fn role(&self) -> Option<&Role> {
        self.reservations.last().map(|reservation| &reservation.role)
    }

    /// True when they set nothing apart.
    pub fn is_plain(&self) -> bool {
        self.reservations.is_empty() && self.volume.is_none() && !self.revocable
    }

    /// True for a shared volume.
    pub fn is_shared(&self) -> bool {
        self.volume.as_ref().is_some_and(|volume| volume.shared)
    }

    /// Why they contradict themselves, if they do: a reservation for the default role or not below the one before it, one of the
    /// settings above a dynamic one, a revocable one, a volume without a reservation, or with a path that leaves its folder.
    pub fn judge(&self) -> Result<(), String> {
        let mut above: Option<&Reservation> = None;
        for reservation in &self.reservations {
            let role = &reservation.role;
            if role.is_default() {
                return Err("nothing can be reserved for the default role `*`; name another".to_owned());
            }
            if let Some(above) = above {
                if !role.is_below(&above.role) {
                    return Err(format!(
                        "a reservation for `{}` can be refined only for roles below it, and `{role}` is not",
                        above.role
                    ));
                }
                if reservation.dynamic.is_none() {
                    return Err(format!("the refinement for `{role}` must be a dynamic reservation"));
                }
            }
            above = Some(reservation);
        }
        if self.revocable && !self.reservations.is_empty() {
            return Err("revocable resources cannot be reserved".to_owned());
        }
        if let Some(volume) = &self.volume {
            if above.is_none() {
                return Err(format!("volume `{}` needs reserved disk", volume.id));
            }
            volume.judge()?;
        }
        Ok(())
    }

    /// Why a resource of this name cannot be on them, if it cannot: only disk holds volumes.
    pub fn fit(&self, name: &Name) -> Result<(), String> {
        match &self.volume {
            Some(volume) if *name != Name::Disk => {
                Err(format!("{name} cannot hold volume `{}`, only disk can", volume.id))
            }
            _ => Ok(()),
        }
    }

    /// The terms as they stand between a name and its colon: `(eng,+eng/ads@ann)[data=var/lib]`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Terms::default();
        let mut rest = text;
        if let Some(inner) = rest.strip_prefix('(') {
            let (inner, after) = inner.split_once(')').ok_or("`)` is missing")?;
            rest = after;
            terms.reservations = inner.split(',').map(parse_reservation).collect::<Result<_, _>>()?;
        }
        if let Some(inner) = rest.strip_prefix('[') {
            let (inner, after) = inner.split_once(']').ok_or("`]` is missing")?;
            rest = after;
            terms.volume = Some(parse_volume(inner)?);
        }
        if let Some(after) = rest.strip_prefix("{revocable}") {
            rest = after;
            terms.revocable = true;
        }
        if !rest.is_empty() {
            return Err(format!(
                "`{rest}` says nothing about a resource; terms are `(role)`, `(+role@principal)`, `[volume=path]`, `{{revocable}}`"
            ));
        }
        terms.judge()?;
        Ok(terms)
    }
}

impl PersistentVolume {
    fn judge(&self) -> Result<(), String> {
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if self.path.len() > crate::limits::PATH_BYTES_MAX
            || self.path.contains('\0')
            || !self.path.split('/').all(plain)
        {
            return Err(format!(
                "volume `{}` is to be seen at `{}`, which is not a plain path below a task's working directory, such as `data`",
                self.id,
                crate::text::cut(self.path.clone(), 64)
            ));
        }
        Ok(())
    }
}

fn parse_reservation(text: &str) -> Result<Reservation, String> {
    let text = text.trim();
    let role = |text: &str| Role::new(unescaped(text)?).map_err(|error| error.to_string());
    let Some(dynamic) = text.strip_prefix('+') else {
        return Ok(Reservation { role: role(text)?, dynamic: None });
    };
    let (dynamic, labels) = dynamic.split_once('?').unwrap_or((dynamic, ""));
    let (name, principal) = dynamic.split_once('@').unwrap_or((dynamic, ""));
    let mut made = Dynamic { principal: unescaped(principal)?, labels: BTreeMap::new() };
    for label in labels.split('&').filter(|label| !label.is_empty()) {
        let (key, value) =
            label.split_once('=').ok_or_else(|| format!("label `{label}` is not `key=value`"))?;
        made.labels.insert(unescaped(key)?, unescaped(value)?);
    }
    Ok(Reservation { role: role(name)?, dynamic: Some(made) })
}

fn parse_volume(text: &str) -> Result<PersistentVolume, String> {
    let (text, shared) = match text.strip_suffix(" shared") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (id, path) = text.split_once('=').ok_or("a volume is `[id=path]` or `[id=path shared]`")?;
    let id = VolumeId::new(unescaped(id)?).map_err(|error| error.to_string())?;
    Ok(PersistentVolume { id, path: unescaped(path)?, shared })
}

/// The text that is read back within [`Resources`](super::Resources).
impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Reservation { role, dynamic }) in self.reservations.iter().enumerate() {
            f.write_str(if index == 0 { "(" } else { "," })?;
            let Some(Dynamic { principal, labels }) = dynamic else {
                f.write_str(&escaped(role.as_str()))?;
                continue;
            };
            write!(f, "+{}", escaped(role.as_str()))?;
            if !principal.is_empty() {
                write!(f, "@{}", escaped(principal))?;
            }
            for (index, (key, value)) in labels.iter().enumerate() {
                let separator = if index == 0 { '?' } else { '&' };
                write!(f, "{separator}{}={}", escaped(key), escaped(value))?;
            }
        }
        if !self.reservations.is_empty() {
            f.write_str(")")?;
        }
        if let Some(PersistentVolume { id, path, shared }) = &self.volume {
            let shared = if *shared { " shared" } else { "" };
            write!(f, "[{}={}{shared}]", escaped(id.as_str()), escaped(path))?;
        }
        if self.revocable {
            f.write_str("{revocable}")?;
        }
        Ok(())
    }
}
