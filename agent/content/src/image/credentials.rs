//! Who the agent is to a registry: a file as `docker login` writes it.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::ImageError;

/// A user of a registry.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
}

/// Names under which Docker's own registry stands in such files.
const DOCKER: &[&str] = &["docker.io", "index.docker.io", "registry-1.docker.io"];

/// What the file says for a registry; none when it says nothing. It is read for each pull: who changes it need not restart the agent.
pub(super) fn read(path: &Path, host: &str) -> Result<Option<Credentials>, ImageError> {
    let refuse = |why: String| ImageError::Credentials { path: path.to_owned(), why };
    let bytes = fs::read(path).map_err(|error| refuse(format!("cannot be read ({error})")))?;
    find(&bytes, host).map_err(refuse)
}

fn find(bytes: &[u8], host: &str) -> Result<Option<Credentials>, String> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| format!("is not understood ({error})"))?;
    let same = |name: &str| name == host || (DOCKER.contains(&name) && DOCKER.contains(&host));
    let Some((name, auth)) = document.auths.iter().find(|(name, _)| same(host_of(name))) else {
        return match document.creds_store.is_some()
            || document.cred_helpers.keys().any(|name| same(host_of(name)))
        {
            true => Err(format!(
                "names a program that knows the password for {host}, which the agent does not run; write the password to the file itself, under `auths`"
            )),
            false => Ok(None),
        };
    };
    let plain = match (&auth.auth, &auth.username, &auth.password) {
        (_, Some(user), Some(password)) => Some((user.clone(), password.clone())),
        (Some(auth), ..) => {
            let decoded = STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            decoded
                .as_deref()
                .and_then(|text| text.split_once(':'))
                .map(|(user, password)| (user.to_owned(), password.trim_end_matches('\0').to_owned()))
        }
        _ => None,
    };
    match plain {
        Some((user, password)) => Ok(Some(Credentials { user, password })),
        None => {
            Err(format!("has no user and password for `{name}`: give `auth`, the base64 of `USER:PASSWORD`"))
        }
    }
}

/// The host of a name such as `https://index.docker.io/v1/`.
fn host_of(name: &str) -> &str {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    name.split('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_found_however_it_is_written() {
        let text = br#"{"auths":{"https://index.docker.io/v1/":{"auth":"dXNlcjpwYTpzcw=="},
            "r.example:5000":{"username":"u","password":"p"},"bad":{"auth":"!"}},"credHelpers":{"gcr.example":"gcloud"}}"#;
        let found = |host: &str| find(text, host).map(|found| found.map(|of| (of.user, of.password)));
        let some = |user: &str, password: &str| Ok(Some((user.to_owned(), password.to_owned())));
        assert_eq!(found("docker.io"), some("user", "pa:ss"));
        assert_eq!(found("registry-1.docker.io"), some("user", "pa:ss"));
        assert_eq!(found("r.example:5000"), some("u", "p"));
        assert_eq!(found("r.example"), Ok(None));
        assert!(found("bad").unwrap_err().contains("base64"));
        assert!(found("gcr.example").unwrap_err().contains("does not run"));
        assert!(find(b"{", "x").is_err());
    }
}
