//! A list of plugins, one after the other: each is told the result of the one before.

use apportion_types::network::PortMapping;
use serde_json::{Value, json};

use crate::{
    list::{List, Plugin},
    plugin::{PluginError, Plugins, Problem, Subject, Verb},
    result::Given,
};

/// What a plugin must be able to do for the ports of a task.
pub(crate) const PORT_MAPPINGS: &str = "portMappings";

/// Attaches an owner; the result is the last plugin's. After an error some have attached it.
pub(crate) async fn add(
    plugins: &Plugins,
    list: &List,
    ports: &[PortMapping],
    subject: Subject<'_>,
) -> Result<(Value, Given), PluginError> {
    let mut result = Value::Null;
    let mut given = Given::default();
    for plugin in &list.plugins {
        let request = request(list, plugin, ports, &result);
        result = plugins.call(Verb::Add, &plugin.kind, subject, &request).await?;
        let garbled = |what| PluginError { plugin: plugin.kind.clone(), problem: Problem::Garbled { what } };
        given = Given::of(&result).map_err(garbled)?;
    }
    Ok((result, given))
}

/// Detaches an owner, also one that is not attached, or only in part. Each plugin is asked, whatever the others say; the first error is
/// returned.
pub(crate) async fn del(
    plugins: &Plugins,
    list: &List,
    ports: &[PortMapping],
    subject: Subject<'_>,
    result: &Value,
) -> Result<(), PluginError> {
    let mut failed = None;
    for plugin in list.plugins.iter().rev() {
        // The interface has known of it since 0.4.0.
        let told = if list.version.starts_with("0.3.") { &Value::Null } else { result };
        let request = request(list, plugin, ports, told);
        if let Err(error) = plugins.call(Verb::Del, &plugin.kind, subject, &request).await {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

fn request(list: &List, plugin: &Plugin, ports: &[PortMapping], result: &Value) -> Value {
    let mut request = plugin.settings.clone();
    request.insert("type".to_owned(), json!(plugin.kind));
    request.insert("name".to_owned(), json!(list.name));
    request.insert("cniVersion".to_owned(), json!(list.version));
    if !ports.is_empty() && plugin.has_capability(PORT_MAPPINGS) {
        let mapping = |mapping: &PortMapping| {
            json!({
                "hostPort": mapping.host_port,
                "containerPort": mapping.container_port,
                "protocol": mapping.protocol.name(),
            })
        };
        let mappings: Vec<Value> = ports.iter().map(mapping).collect();
        request.insert("runtimeConfig".to_owned(), json!({ PORT_MAPPINGS: mappings }));
    }
    if !result.is_null() {
        request.insert("prevResult".to_owned(), result.clone());
    }
    Value::Object(request)
}
