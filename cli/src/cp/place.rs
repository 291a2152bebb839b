//! What the arguments of `apportion cp` name.

use std::path::PathBuf;

use apportion_types::TaskId;

/// A path of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) task: TaskId,
    pub(super) path: PathBuf,
}

/// What is copied where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Direction {
    /// From a sandbox to this machine.
    Here { from: Remote, to: PathBuf },
    /// From this machine to a sandbox.
    There { from: PathBuf, to: Remote },
}

/// Tells them apart, or says what is wrong with them.
pub(super) fn direction(from: &str, to: &str) -> Result<Direction, String> {
    match (remote(from)?, remote(to)?) {
        (Some(from), None) => Ok(Direction::Here { from, to: to.into() }),
        (None, Some(to)) => Ok(Direction::There { from: from.into(), to }),
        (None, None) => {
            Err("neither is `TASK:PATH`; one of both is a task's, such as `web-0:stdout`".to_owned())
        }
        (Some(_), Some(_)) => Err(
            "both are `TASK:PATH`; copy here first, and write a path of this machine that holds a colon as `./a:b`"
                .to_owned(),
        ),
    }
}

/// A colon before any slash makes it a task's, as `scp` has it.
fn remote(text: &str) -> Result<Option<Remote>, String> {
    let Some((task, path)) = text.split_once(':').filter(|(task, _)| !task.contains('/')) else {
        return Ok(None);
    };
    let task = TaskId::new(task).map_err(|error| format!("`{text}`: {error}"))?;
    Ok(Some(Remote { task, path: path.trim_end_matches('/').into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_both_is_a_tasks() {
        let remote = |path: &str| Remote { task: TaskId::new("t").unwrap(), path: path.into() };
        assert_eq!(direction("t:a/b", "."), Ok(Direction::Here { from: remote("a/b"), to: ".".into() }));
        assert_eq!(direction("./a:b", "t:"), Ok(Direction::There { from: "./a:b".into(), to: remote("") }));
        assert_eq!(direction("a", "t:b/"), Ok(Direction::There { from: "a".into(), to: remote("b") }));
        assert!(direction("a", "b").unwrap_err().contains("neither"));
        assert!(direction("t:a", "u:b").unwrap_err().contains("both"));
        assert!(direction(":a", "b").is_err());
    }
}
