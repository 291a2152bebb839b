//! Texts to values, and back to the texts that `--print-config` shows.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use apportion_containerizer::{Runtime, RuntimeError};
use apportion_master::{
    RateLimit, RateLimitError,
    etcd::{Cluster, ClusterError, Endpoints, EndpointsError},
};
use apportion_types::{FaultDomain, Resources, Role};

/// A value that may come from a flag, the environment or a file, always in the same text form.
pub(crate) trait Value: Sized {
    /// Reads it, or says what is wrong in a sentence without its end.
    fn parse(text: &str) -> Result<Self, String>;

    /// The text that [`Value::parse`] reads back.
    fn text(&self) -> String;
}

/// Reads a value of a flag; for clap's `value_parser`.
pub(crate) fn flag<T: Value>(text: &str) -> Result<T, String> {
    T::parse(text)
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn text(&self) -> String {
        self.clone()
    }
}

impl Value for Runtime {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: RuntimeError| e.to_string())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for Endpoints {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: EndpointsError| e.to_string())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for Cluster {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: ClusterError| e.to_string())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("`{text}` is neither `true` nor `false`")),
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is not a whole number, or too large a one"))
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is not a whole number, or too large a one"))
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("the path is empty".to_owned()) } else { Ok(Path::new(text).to_owned()) }
    }

    fn text(&self) -> String {
        self.display().to_string()
    }
}

impl Value for SocketAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("`{text}` is not ADDRESS:PORT, such as `127.0.0.1:5050` or `[::]:5050`"))
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for Duration {
    fn parse(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map_err(|e| format!("`{text}` is not a duration such as `30s` or `1h 30m`: {e}"))
    }

    fn text(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl Value for Resources {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: apportion_types::resources::ParseError| e.to_string())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

/// Where a machine stands: `eu/eu-1a`.
impl Value for FaultDomain {
    fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').map(|(region, zone)| (region.trim(), zone.trim()));
        match parts.filter(|(region, zone)| !region.is_empty() && !zone.is_empty() && !zone.contains('/')) {
            Some((region, zone)) => Ok(FaultDomain { region: region.to_owned(), zone: zone.to_owned() }),
            None => Err(format!("`{text}` is not REGION/ZONE, such as `eu/eu-1a`")),
        }
    }

    fn text(&self) -> String {
        format!("{}/{}", self.region, self.zone)
    }
}

/// What frameworks may place by: `rack=a,zone=b`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Attributes(pub(crate) BTreeMap<String, String>);

impl Value for Attributes {
    fn parse(text: &str) -> Result<Self, String> {
        let mut attributes = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let pair = part.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
            let Some((name, value)) = pair.filter(|(name, _)| !name.is_empty()) else {
                return Err(format!("`{part}` is not NAME=VALUE, such as `rack=a`"));
            };
            if attributes.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(format!("the attribute `{name}` is given twice"));
            }
        }
        Ok(Attributes(attributes))
    }

    fn text(&self) -> String {
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join(",")
    }
}

/// One value for each of some roles: `eng=2,ops=0.5`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ByRole<T>(pub(crate) BTreeMap<Role, T>);

impl<T> Default for ByRole<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> ByRole<T> {
    /// What flags that may be repeated say together; none when none is given.
    pub(crate) fn joined(parts: Vec<Self>) -> Result<Option<Self>, String> {
        let mut all: Option<Self> = None;
        for part in parts {
            let all = all.get_or_insert_default();
            part.0.into_iter().try_for_each(|(role, value)| all.add(role, value))?;
        }
        Ok(all)
    }

    fn add(&mut self, role: Role, value: T) -> Result<(), String> {
        match self.0.entry(role) {
            Entry::Occupied(known) => Err(format!("the role `{}` is given twice; name it once", known.key())),
            Entry::Vacant(new) => {
                new.insert(value);
                Ok(())
            }
        }
    }
}

impl<T: FromStr<Err: fmt::Display> + fmt::Display> Value for ByRole<T> {
    fn parse(text: &str) -> Result<Self, String> {
        let mut values = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((role, value)) = part.rsplit_once('=') else {
                return Err(format!("`{part}` is not ROLE=VALUE, such as `eng=2` or `eng=cpus:4`"));
            };
            let role = role.trim().parse::<Role>().map_err(|e| e.to_string())?;
            let value = value.trim().parse().map_err(|e| format!("role `{role}`: {e}"))?;
            values.add(role, value)?;
        }
        Ok(values)
    }

    fn text(&self) -> String {
        let pairs: Vec<String> = self.0.iter().map(|(role, value)| format!("{role}={value}")).collect();
        pairs.join(",")
    }
}

/// Alternatives, one of which must be there whole: `cpus:0.01|mem:32`; none at all as `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnyOf(pub(crate) Vec<Resources>);

impl Value for AnyOf {
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "none" => Ok(AnyOf(Vec::new())),
            text => text.split('|').map(Resources::parse).collect::<Result<_, _>>().map(AnyOf),
        }
    }

    fn text(&self) -> String {
        let texts: Vec<String> = self.0.iter().map(Resources::to_string).collect();
        if texts.is_empty() { "none".to_owned() } else { texts.join("|") }
    }
}

/// Names with commas between them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Names(pub(crate) Vec<String>);

impl Value for Names {
    fn parse(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(Names(names.map(str::to_owned).collect()))
    }

    fn text(&self) -> String {
        self.0.join(",")
    }
}

impl Value for RateLimit {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|e: RateLimitError| e.to_string())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

/// How many calls principals may make: `ann=100:500,bob=5`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RateLimits(pub(crate) BTreeMap<String, RateLimit>);

impl RateLimits {
    /// What flags that may be repeated say together; none when none is given.
    pub(crate) fn joined(parts: Vec<Self>) -> Result<Option<Self>, String> {
        let mut all: Option<Self> = None;
        for (principal, limit) in parts.into_iter().flat_map(|part| part.0) {
            if all.get_or_insert_default().0.insert(principal.clone(), limit).is_some() {
                return Err(format!("the principal `{principal}` is given twice; name it once"));
            }
        }
        Ok(all)
    }
}

impl Value for RateLimits {
    fn parse(text: &str) -> Result<Self, String> {
        let mut limits = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((principal, limit)) = part.rsplit_once('=') else {
                return Err(format!("`{part}` is not PRINCIPAL=QPS, such as `ann=100`"));
            };
            let limit =
                RateLimit::parse(limit.trim()).map_err(|e| format!("principal `{principal}`: {e}"))?;
            if limits.insert(principal.trim().to_owned(), limit).is_some() {
                return Err(format!("the principal `{principal}` is given twice; name it once"));
            }
        }
        Ok(RateLimits(limits))
    }

    fn text(&self) -> String {
        let pairs: Vec<String> = self.0.iter().map(|(name, limit)| format!("{name}={limit}")).collect();
        pairs.join(",")
    }
}

/// Where a master is, as `http://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url(pub(crate) String);

impl Url {
    /// It as `HOST:PORT`.
    pub(crate) fn place(&self) -> &str {
        self.0.strip_prefix("http://").unwrap_or(&self.0)
    }
}

impl Value for Url {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not HOST:PORT or http://HOST:PORT, such as `http://127.0.0.1:5050`");
        let place = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let (host, port) = place.rsplit_once(':').ok_or_else(wrong)?;
        let strange = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        if host.is_empty() || host.contains(strange) || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        Ok(Url(format!("http://{place}")))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// Several of them, of which one leads: `http://a:5050,http://b:5050`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Urls(pub(crate) Vec<Url>);

impl Urls {
    /// They as `HOST:PORT`, with commas between them.
    pub(crate) fn places(&self) -> String {
        self.0.iter().map(Url::place).collect::<Vec<_>>().join(",")
    }
}

impl Value for Urls {
    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).map(Url::parse).collect::<Result<Vec<Url>, String>>().map(Urls)
    }

    fn text(&self) -> String {
        let texts: Vec<&str> = self.0.iter().map(|url| url.0.as_str()).collect();
        texts.join(",")
    }
}

/// Several folders, from the root: `/srv/a,/srv/b`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Folders(pub(crate) Vec<PathBuf>);

impl Value for Folders {
    fn parse(text: &str) -> Result<Self, String> {
        let folder = |text: &str| match Path::new(text) {
            path if path.is_absolute() => Ok(path.to_owned()),
            _ => Err(format!("`{text}` is no path from the root")),
        };
        let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
        texts.map(folder).collect::<Result<_, _>>().map(Folders)
    }

    fn text(&self) -> String {
        let texts: Vec<String> = self.0.iter().map(Value::text).collect();
        texts.join(",")
    }
}

#[cfg(test)]
mod tests {
    use apportion_master::{QuotaLimit, Weight};

    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        fn round<T: Value + PartialEq + std::fmt::Debug>(text: &str, shown: &str) {
            let value = T::parse(text).unwrap();
            assert_eq!(value.text(), shown);
            assert_eq!(T::parse(shown).unwrap(), value);
        }
        round::<Duration>("90s", "1m 30s");
        round::<Folders>("/srv/a, /srv/b", "/srv/a,/srv/b");
        round::<Folders>("", "");
        assert!(Folders::parse("/srv,b").unwrap_err().contains("`b`"));
        round::<Resources>("cpus:4;mem:8GiB", "cpus:4;mem:8192");
        round::<Attributes>(" zone=b, rack=a ,", "rack=a,zone=b");
        round::<Attributes>("", "");
        round::<FaultDomain>(" eu / eu-1a ", "eu/eu-1a");
        round::<ByRole<Weight>>("ops=2.50, eng/ads=1", "eng/ads=1,ops=2.5");
        round::<ByRole<QuotaLimit>>("*=mem:1GiB;cpus:4,ops=gpus:0", "*=cpus:4;mem:1024,ops=gpus:0");
        round::<ByRole<Resources>>("eng=cpus:4;mem:1GiB", "eng=cpus:4;mem:1024");
        round::<AnyOf>("cpus:0.01 | mem:32", "cpus:0.01|mem:32");
        round::<AnyOf>("none", "none");
        round::<Names>("gpus, fpga", "gpus,fpga");
        round::<RateLimits>("ann=100:500, bob=2", "ann=100:500,bob=2:2");
        round::<SocketAddr>("127.0.0.1:5050", "127.0.0.1:5050");
        round::<Url>("localhost:5050", "http://localhost:5050");
        round::<Url>("http://[::1]:5050/", "http://[::1]:5050");
        round::<Urls>("a:1, http://b:2", "http://a:1,http://b:2");
        round::<u32>("5", "5");
        round::<u64>("5", "5");
        round::<PathBuf>("/a/b", "/a/b");
        round::<bool>("true", "true");
    }

    #[test]
    fn what_is_wrong_is_named() {
        fn refusal<T: Value + std::fmt::Debug>(text: &str) -> String {
            T::parse(text).unwrap_err()
        }
        assert!(refusal::<Duration>("30").contains("`30` is not a duration"));
        assert!(refusal::<Resources>("cpus:x").contains("column 6"));
        assert!(refusal::<Attributes>("rack").contains("`rack` is not NAME=VALUE"));
        assert!(refusal::<Attributes>("a=1,a=2").contains("`a` is given twice"));
        for bad in ["eu", "eu/", "/a", " / ", "eu/a/b"] {
            assert_eq!(
                refusal::<FaultDomain>(bad),
                format!("`{bad}` is not REGION/ZONE, such as `eu/eu-1a`")
            );
        }
        assert!(refusal::<ByRole<Weight>>("eng").contains("`eng` is not ROLE=VALUE"));
        assert!(refusal::<ByRole<Weight>>("eng=1,eng=2").contains("`eng` is given twice"));
        assert!(refusal::<ByRole<Weight>>("a=0").contains("role `a`: `0` is not a weight: it is zero; give"));
        assert!(refusal::<ByRole<QuotaLimit>>("a//b=cpus:1").contains("role `a//b`"));
        assert!(refusal::<ByRole<QuotaLimit>>("a=ports:[1-2]").contains("is not a quota limit"));
        let parts = |texts: &[&str]| texts.iter().map(|text| Value::parse(text).unwrap()).collect();
        let joined = ByRole::<Weight>::joined(parts(&["a=1", "b=2,c=3"])).unwrap().unwrap();
        assert_eq!(joined.text(), "a=1,b=2,c=3");
        assert!(ByRole::<Weight>::joined(parts(&["a=1", "a=1"])).unwrap_err().contains("`a` is given twice"));
        assert_eq!(ByRole::<Weight>::joined(Vec::new()), Ok(None));
        assert!(refusal::<RateLimits>("ann").contains("`ann` is not PRINCIPAL=QPS"));
        assert!(refusal::<RateLimits>("ann=0").contains("principal `ann`: `0` is not a rate limit"));
        assert!(refusal::<RateLimits>("a=1,a=2").contains("`a` is given twice"));
        assert!(refusal::<AnyOf>("cpus:x").contains("column 6"));
        assert!(refusal::<SocketAddr>("5050").contains("ADDRESS:PORT"));
        for bad in ["localhost", "https://a:1", "http://a:1/x", ":1", "a b:1", "a:99999"] {
            assert!(refusal::<Url>(bad).contains("HOST:PORT"), "{bad}");
        }
        assert!(
            refusal::<u32>("-1").contains("whole number") && refusal::<u64>("1.5").contains("whole number")
        );
        assert!(refusal::<Urls>("a:1,").contains("HOST:PORT") && refusal::<PathBuf>("").contains("empty"));
        assert!(refusal::<bool>("yes").contains("`true`"));
    }
}
