//! What an owner sees in its `/etc`: its names, and who answers the names of others.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::result::{Dns, Given};

/// Where a machine whose own file names nobody but itself says whom it asks in turn (systemd-resolved).
const BEHIND_THE_STUB: &str = "/run/systemd/resolve/resolv.conf";

/// Writes the files into this folder; by their names in `/etc`.
pub(crate) fn write(folder: &Path, hostname: &str, given: &Given) -> io::Result<BTreeMap<String, PathBuf>> {
    let host = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let resolver = match given.dns.nameservers.is_empty() {
        false => resolver(&given.dns),
        true => reachable(&host("/etc/resolv.conf"))
            .or_else(|| reachable(&host(BEHIND_THE_STUB)))
            .unwrap_or_default(),
    };
    let files = [
        ("hosts", hosts(hostname, &given.addresses)),
        ("resolv.conf", resolver),
        ("hostname", format!("{hostname}\n")),
    ];
    let mut written = BTreeMap::new();
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text)?;
        written.insert(name.to_owned(), path);
    }
    Ok(written)
}

/// The files that [`write`] has written.
pub(crate) fn written(folder: &Path) -> BTreeMap<String, PathBuf> {
    ["hosts", "resolv.conf", "hostname"].map(|name| (name.to_owned(), folder.join(name))).into()
}

fn hosts(hostname: &str, addresses: &[IpAddr]) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    addresses.iter().for_each(|address| text += &format!("{address} {hostname}\n"));
    text
}

fn resolver(dns: &Dns) -> String {
    let mut text = String::new();
    let word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    let words = |words: &[String]| words.iter().filter(|text| word(text)).cloned().collect::<Vec<_>>();
    if let Some(domain) = dns.domain.as_deref().filter(|domain| word(domain)) {
        text += &format!("domain {domain}\n");
    }
    if !words(&dns.search).is_empty() {
        text += &format!("search {}\n", words(&dns.search).join(" "));
    }
    words(&dns.nameservers).iter().for_each(|server| text += &format!("nameserver {server}\n"));
    if !words(&dns.options).is_empty() {
        text += &format!("options {}\n", words(&dns.options).join(" "));
    }
    text
}

/// The host's file without servers on its loopback, where a network of its own has its own; none when no server is left.
fn reachable(text: &str) -> Option<String> {
    let server = |line: &str| {
        let rest = line.trim_start().strip_prefix("nameserver")?;
        Some(rest.split_whitespace().next().and_then(|address| address.parse::<IpAddr>().ok()))
    };
    let kept = |line: &&str| server(line).is_none_or(|address| address.is_some_and(|of| !of.is_loopback()));
    let lines: Vec<&str> = text.lines().filter(kept).collect();
    let some = lines.iter().any(|line| server(line).is_some());
    some.then(|| lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_the_hosts_loopback_are_left_out() {
        let text = "# x\nnameserver 127.0.0.53\nsearch a\nnameserver 10.0.0.1\nnameserver ::1\n";
        assert_eq!(reachable(text).unwrap(), "# x\nsearch a\nnameserver 10.0.0.1\n");
        assert_eq!(reachable("nameserver 127.0.0.1\nsearch a\n"), None);
        assert_eq!(reachable(""), None);
    }

    #[test]
    fn files_name_what_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let dns = Dns {
            nameservers: vec!["10.0.0.1".into(), "bad one".into()],
            domain: Some("d".into()),
            search: vec!["a".into(), "b".into()],
            options: vec!["ndots:1".into()],
        };
        let given = Given { addresses: vec!["10.0.0.2".parse().unwrap()], dns };
        let files = write(folder.path(), "c-1", &given).unwrap();
        assert_eq!(files, written(folder.path()));
        let read = |name: &str| fs::read_to_string(&files[name]).unwrap();
        assert_eq!(read("resolv.conf"), "domain d\nsearch a b\nnameserver 10.0.0.1\noptions ndots:1\n");
        assert!(
            read("hosts").ends_with("10.0.0.2 c-1\n") && read("hosts").starts_with("127.0.0.1 localhost\n")
        );
        assert_eq!(read("hostname"), "c-1\n");
    }
}
