//! What plugins answer: addresses, and who answers names.

use std::net::IpAddr;

use apportion_types::limits;
use serde::Deserialize;
use serde_json::Value;

use crate::list::shown;

/// A result, of as much of it as is used here; the versions that are known differ in nothing of that.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wire {
    ips: Vec<Ip>,
    dns: Option<Dns>,
}

#[derive(Debug, Deserialize)]
struct Ip {
    address: String,
}

/// Who answers names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Dns {
    pub(crate) nameservers: Vec<String>,
    pub(crate) domain: Option<String>,
    pub(crate) search: Vec<String>,
    pub(crate) options: Vec<String>,
}

/// What a network has given its owner.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Given {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) dns: Dns,
}

impl Given {
    /// Reads the last result of a list of plugins; says what is wrong with it.
    pub(crate) fn of(result: &Value) -> Result<Given, String> {
        if result.is_null() {
            return Ok(Given::default());
        }
        if !result.is_object() {
            return Err("it is no JSON object".to_owned());
        }
        let wire = Wire::deserialize(result).map_err(|error| error.to_string())?;
        if wire.ips.len() > limits::TASK_ADDRESSES_MAX {
            return Err(format!(
                "{} addresses are more than the {} of a task",
                wire.ips.len(),
                limits::TASK_ADDRESSES_MAX
            ));
        }
        let address = |ip: Ip| {
            let (address, _) = ip.address.split_once('/').unwrap_or((&ip.address, ""));
            address.parse().map_err(|_| format!("`{}` is no address", shown(&ip.address)))
        };
        Ok(Given {
            addresses: wire.ips.into_iter().map(address).collect::<Result<_, _>>()?,
            dns: wire.dns.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_of_every_version() {
        let old = json!({"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1"}, {"version": "6", "address": "fd00::5/64"}]});
        let new = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "x"}], "ips": [{"address": "10.1.0.5/16", "interface": 0}, {"address": "fd00::5/64"}],
            "dns": {"nameservers": ["10.1.0.1"], "search": ["a"]}});
        let addresses: Vec<IpAddr> = vec!["10.1.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        assert_eq!(Given::of(&old).unwrap().addresses, addresses);
        let given = Given::of(&new).unwrap();
        assert_eq!((given.addresses, given.dns.nameservers), (addresses, vec!["10.1.0.1".to_owned()]));
        assert_eq!(Given::of(&json!({"cniVersion": "1.0.0", "dns": {}})), Ok(Given::default()));
        assert_eq!(Given::of(&Value::Null), Ok(Given::default()));
        for bad in [json!([]), json!({"ips": 3}), json!({"ips": [{}]}), json!({"ips": [{"address": "x/8"}]})]
        {
            assert!(Given::of(&bad).is_err(), "{bad}");
        }
    }
}
