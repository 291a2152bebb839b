//! Typed names: of frameworks, agents, offers, tasks, roles.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::limits;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// It has no character at all.
    #[error("{kind} is empty")]
    Empty {
        /// What it should have named.
        kind: &'static str,
    },
    /// It has more bytes than allowed.
    #[error("{kind} of {bytes} bytes is longer than {bytes_max}: `{start}…`")]
    TooLong {
        /// What it should have named.
        kind: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
        /// Its first characters.
        start: String,
    },
    /// A character in it is not allowed; ids become folder names and labels.
    #[error(
        "{kind} `{text}` holds {found:?}, which is not allowed (no `/`, no control character, no white space)"
    )]
    Character {
        /// What it should have named.
        kind: &'static str,
        /// The text, control characters escaped.
        text: String,
        /// The character.
        found: char,
    },
    /// It is a name that a file system keeps for itself, or starts like a flag.
    #[error("{kind} `{text}` is not allowed (not `.` or `..`, not starting with `-`)")]
    Reserved {
        /// What it should have named.
        kind: &'static str,
        /// The text.
        text: String,
    },
}

/// Checks the rule that every id follows: 1 to `bytes_max` bytes, one path component, printable, not a flag.
fn check(kind: &'static str, text: &str, bytes_max: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { kind });
    }
    if text.len() > bytes_max {
        let start = text.chars().take(32).flat_map(char::escape_default).collect();
        return Err(IdError::TooLong { kind, bytes: text.len(), bytes_max, start });
    }
    if let Some(found) = text.chars().find(|c| *c == '/' || c.is_control() || c.is_whitespace()) {
        return Err(IdError::Character { kind, text: text.escape_default().to_string(), found });
    }
    if text == "." || text == ".." || text.starts_with('-') {
        return Err(IdError::Reserved { kind, text: text.to_owned() });
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }

        /// By text. Ids are mostly compared with copies of themselves, which is seen without reading them.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                match Arc::ptr_eq(&self.0, &other.0) {
                    true => Ordering::Equal,
                    false => self.0.cmp(&other.0),
                }
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            #[doc = concat!("Takes a text as ", $kind, "; refuses one that is empty, too long, or not one path component.")]
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                check($kind, text, limits::ID_BYTES_MAX)?;
                Ok(Self(text.into()))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
    };
}

id!(
    /// Names a framework for its whole life, over every connection; given by the master, never reused.
    FrameworkId,
    "framework id"
);
id!(
    /// Names an agent; given by the master at its first registration, never reused.
    AgentId,
    "agent id"
);
id!(
    /// Names a machine for its maintenance: the host name as which its agents register.
    MachineId,
    "machine name"
);
id!(
    /// Names an offer; given by the master, never reused.
    OfferId,
    "offer id"
);
id!(
    /// Names a task within its framework; chosen by the framework, free again after its terminal acknowledgement.
    TaskId,
    "task id"
);
id!(
    /// Names a task group within its framework; chosen by the framework, free again after the terminal acknowledgements of its tasks.
    GroupId,
    "task group id"
);
id!(
    /// Names one run of a task to the executor that runs it; given by its agent, never reused, whatever becomes of the task's own name.
    RunId,
    "run id"
);
id!(
    /// Names a persistent volume for its role on its agent; chosen by whoever creates it.
    VolumeId,
    "volume id"
);
id!(
    /// Names an operation within its framework; chosen by the framework, which is told what became of it.
    OperationId,
    "operation id"
);

/// A role: what resources are offered *for*. `*` is the default role; others are paths such as `eng/ads`.
///
/// Each component is non-empty, is not `.`, `..` or `*`, does not start with `-`, and holds no white space
/// (Mesos: docs/roles.md).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Role(Arc<str>);

/// Why a text is not a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoleError {
    /// A component of the path breaks the rule of ids.
    #[error("role `{role}`: {source}")]
    Component {
        /// The role's start.
        role: String,
        /// What is wrong with the component.
        source: IdError,
    },
    /// It has more components than the tree may be deep.
    #[error("role `{role}…` is {depth} components deep; at most {depth_max} are allowed")]
    TooDeep {
        /// The role's start.
        role: String,
        /// Its depth.
        depth: usize,
        /// The bound.
        depth_max: usize,
    },
    /// `*` is a whole role, never a component.
    #[error("role `{role}`: `*` stands only alone, for the default role")]
    Star {
        /// The role.
        role: String,
    },
}

impl Role {
    /// Takes a text as a role, or says what is wrong with it.
    pub fn new(text: impl AsRef<str>) -> Result<Self, RoleError> {
        let text = text.as_ref();
        if text == "*" {
            return Ok(Self(text.into()));
        }
        let start = || text.chars().take(64).flat_map(char::escape_default).collect::<String>();
        let depth = text.split('/').count();
        if depth > limits::ROLE_DEPTH_MAX {
            return Err(RoleError::TooDeep { role: start(), depth, depth_max: limits::ROLE_DEPTH_MAX });
        }
        for component in text.split('/') {
            check("role component", component, limits::ID_BYTES_MAX)
                .map_err(|source| RoleError::Component { role: start(), source })?;
            if component == "*" {
                return Err(RoleError::Star { role: start() });
            }
        }
        Ok(Self(text.into()))
    }

    /// The role as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for `*`.
    pub fn is_default(&self) -> bool {
        &*self.0 == "*"
    }

    /// True when `above` is on the path to this role: `eng/ads` is below `eng`, and no role is below itself.
    pub fn is_below(&self, above: &Role) -> bool {
        self.0.strip_prefix(&*above.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The role one step up; none for one that stands at the top.
    pub fn parent(&self) -> Option<Role> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    /// The role at the top of its path; itself, when it stands there.
    pub fn top(&self) -> Role {
        match self.0.split_once('/') {
            Some((top, _)) => Self(top.into()),
            None => self.clone(),
        }
    }
}

impl Default for Role {
    fn default() -> Self {
        Self("*".into())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Role {
    type Error = RoleError;

    fn try_from(text: String) -> Result<Self, RoleError> {
        Self::new(text)
    }
}

impl std::str::FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::new(text)
    }
}

/// Names one status update; unique, so that duplicates are seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UpdateId(pub [u8; 16]);

impl UpdateId {
    /// The `sequence`th update of the agent process known by `incarnation`.
    pub fn new(incarnation: u64, sequence: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&incarnation.to_be_bytes());
        bytes[8..].copy_from_slice(&sequence.to_be_bytes());
        Self(bytes)
    }
}

impl fmt::Debug for UpdateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_one_printable_path_component() {
        for good in ["a", "web.1", "job-7_x", "ä"] {
            assert_eq!(TaskId::new(good).unwrap().as_str(), good);
        }
        assert_eq!(TaskId::new(""), Err(IdError::Empty { kind: "task id" }));
        for bad in ["a/b", "a\0b", "a b", "a\n", ".", "..", "-rf"] {
            assert!(TaskId::new(bad).is_err(), "{bad:?}");
        }
        let long = "x".repeat(1 << 20);
        let message = TaskId::new(&long).unwrap_err().to_string();
        assert!(message.contains("1048576 bytes") && message.len() < 200, "{message}");
    }

    #[test]
    fn roles_are_paths_or_the_star() {
        for good in ["*", "eng", "eng/ads", "a/b/c"] {
            assert_eq!(Role::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "/", "a/", "/a", "a//b", "a/*", "a/..", "-a", "a b"] {
            assert!(Role::new(bad).is_err(), "{bad:?}");
        }
        assert!(Role::new("a/".repeat(10_000) + "a").unwrap_err().to_string().len() < 200);
    }
}
