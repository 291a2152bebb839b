//! Where etcd is, and which of its keys are a cluster's, as texts.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tonic::transport::Uri;

/// Bytes of the name of a cluster: it stands in every key, and in messages to people.
const CLUSTER_BYTES_MAX: usize = 100;

/// The members of one etcd cluster, as `host:port` with commas between them; each is tried in turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoints(Vec<String>);

/// Why a text names no members of etcd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` does not say where etcd is: {what}; give `host:port`, several with commas between them")]
pub struct EndpointsError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Endpoints {
    /// Each `host:port`; at least one.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl FromStr for Endpoints {
    type Err = EndpointsError;

    fn from_str(text: &str) -> Result<Self, EndpointsError> {
        let wrong = |what| EndpointsError { text: text.to_owned(), what };
        let mut members: Vec<String> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let address = match part.split_once("://") {
                None => part,
                Some(("http", address)) => address.trim_end_matches('/'),
                Some(("https", _)) => return Err(wrong("TLS to etcd is not spoken yet")),
                Some(_) => return Err(wrong("only `http` is spoken")),
            };
            if address.is_empty() {
                return Err(wrong("one of them is empty"));
            }
            let uri: Uri =
                format!("http://{address}").parse().map_err(|_| wrong("one of them is no address"))?;
            if uri.host().is_none_or(str::is_empty) || address.contains(['/', '?', '@']) {
                return Err(wrong("one of them is no address"));
            }
            if uri.port_u16().is_none_or(|port| port == 0) {
                return Err(wrong("one of them names no port, which for etcd is mostly 2379"));
            }
            if !members.iter().any(|member| member == address) {
                members.push(address.to_owned());
            }
        }
        Ok(Self(members))
    }
}

impl TryFrom<String> for Endpoints {
    type Error = EndpointsError;

    fn try_from(text: String) -> Result<Self, EndpointsError> {
        text.parse()
    }
}

impl From<Endpoints> for String {
    fn from(endpoints: Endpoints) -> String {
        endpoints.to_string()
    }
}

/// The name of a cluster of Apportion, which several may have in one etcd: a part of each of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cluster(String);

/// Why a text is no name of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name of a cluster; use 1 to {CLUSTER_BYTES_MAX} letters, digits, `-`, `_` and `.`")]
pub struct ClusterError(pub String);

impl Cluster {
    /// What its keys begin with, without a `/` at the end.
    pub(crate) fn prefix(&self) -> String {
        format!("/apportion/{}", self.0)
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Cluster {
    type Err = ClusterError;

    fn from_str(text: &str) -> Result<Self, ClusterError> {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.is_empty() || text.len() > CLUSTER_BYTES_MAX || !text.chars().all(known) {
            return Err(ClusterError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Cluster {
    type Error = ClusterError;

    fn try_from(text: String) -> Result<Self, ClusterError> {
        text.parse()
    }
}

impl From<Cluster> for String {
    fn from(cluster: Cluster) -> String {
        cluster.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_hosts_and_ports() {
        for (text, shown) in
            [("a:2379", "a:2379"), ("a:1, http://b:2/,[::1]:3", "a:1,b:2,[::1]:3"), ("a:1,a:1", "a:1")]
        {
            let endpoints: Endpoints = text.parse().unwrap();
            assert_eq!(endpoints.to_string(), shown);
            assert_eq!(endpoints.to_string().parse::<Endpoints>().unwrap(), endpoints);
        }
        for (text, what) in [
            ("", "is empty"),
            ("a:1,", "is empty"),
            ("a", "names no port"),
            ("a:0", "names no port"),
            ("a:x", "names no port"),
            (":1", "no address"),
            ("a:1/x", "no address"),
            ("b@a:1", "no address"),
            ("https://a:1", "TLS"),
            ("ftp://a:1", "only `http`"),
        ] {
            let error = text.parse::<Endpoints>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` does not say")) && error.contains(what), "{error}");
        }
    }

    #[test]
    fn clusters_have_plain_names() {
        assert_eq!("eu-1.prod_a".parse::<Cluster>().unwrap().prefix(), "/apportion/eu-1.prod_a");
        let long = "a".repeat(CLUSTER_BYTES_MAX + 1);
        for text in ["", "a/b", "a b", "ä", &long] {
            assert!(text.parse::<Cluster>().unwrap_err().to_string().contains("is no name"), "{text}");
        }
    }
}
