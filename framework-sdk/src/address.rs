//! Addresses of masters and agents, and channels to them.

use std::{error::Error as _, time::Duration};

use apportion_types::{protocol::LEADER, text::chain};
use tonic::{
    Status,
    transport::{Endpoint, Uri},
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Between signs of life of an idle connection, and how long each may take: a peer that vanished is noticed within both.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Takes `host:port` or `http://host:port`, or says what is wrong with it.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, String> {
    let text = match address.split_once("://") {
        None => format!("http://{address}"),
        Some(("http", _)) => address.to_owned(),
        Some((scheme, _)) => return Err(format!("`{scheme}` is not spoken here")),
    };
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err("it names no host".to_owned());
    }
    if uri.port_u16().is_none() {
        return Err("it names no port".to_owned());
    }
    if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
        return Err("it has a path".to_owned());
    }
    Ok(lasting(Endpoint::from(uri).tcp_nodelay(true)))
}

/// Takes one address or several with commas between them, or says which is none, and why.
pub(crate) fn endpoints(addresses: &str) -> Result<Vec<(String, Endpoint)>, (String, String)> {
    let one = |address: &str| match endpoint(address) {
        Ok(endpoint) => Ok((address.to_owned(), endpoint)),
        Err(why) => Err((address.to_owned(), why)),
    };
    addresses.split(',').map(str::trim).map(one).collect()
}

/// The leader that a master names which stands by.
pub(crate) fn leader(status: &Status) -> Option<(String, Endpoint)> {
    let address = status.metadata().get(LEADER)?.to_str().ok()?;
    Some((address.to_owned(), endpoint(address).ok()?))
}

/// For connections that are made soon or not at all, and notice that a peer has vanished while nothing is said.
pub(crate) fn lasting(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
}

/// A gRPC status in one line.
pub(crate) fn describe(status: &Status) -> String {
    match (status.message(), status.source()) {
        ("", None) => format!("{:?}", status.code()),
        (message, None) => message.to_owned(),
        ("", Some(source)) => chain(source),
        (message, Some(source)) => {
            let causes = chain(source);
            if causes.starts_with(message) { causes } else { format!("{message}: {causes}") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in ["127.0.0.1:5050", "http://master:5050", "http://master:5050/", "[::1]:5050"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("master", "it names no port"),
            ("https://master:5050", "`https` is not spoken here"),
            ("http://master:5050/path", "it has a path"),
            (":5050", ""),
            ("", ""),
            ("a b:1", ""),
        ] {
            let found = endpoint(bad).map(|_| ()).unwrap_err();
            assert!(found.contains(why), "{bad}: {found}");
        }
    }

    #[test]
    fn several_addresses_have_commas_between_them() {
        let names =
            |text| endpoints(text).map(|all| all.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
        assert_eq!(names("a:1").unwrap(), ["a:1"]);
        assert_eq!(names("a:1, http://b:2").unwrap(), ["a:1", "http://b:2"]);
        for (bad, name) in [("a:1,", ""), ("", ""), ("a:1,b", "b")] {
            assert_eq!(names(bad).unwrap_err().0, name);
        }
    }

    #[test]
    fn a_leader_is_followed_only_to_an_address() {
        let mut status = Status::unavailable("stands by");
        assert!(leader(&status).is_none());
        for (text, followed) in [("10.0.0.1:5050", true), ("nowhere", false), ("https://a:1", false)] {
            status.metadata_mut().insert(LEADER, text.parse().unwrap());
            assert_eq!(leader(&status).map(|(address, _)| address), followed.then(|| text.to_owned()));
        }
    }
}
