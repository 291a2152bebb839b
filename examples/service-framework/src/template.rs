//! `${replica}` and `${port0}` in the strings of a description.

/// A name that nothing has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown variable `${{{name}}}`; known: {known}; write `$${{` for a `${{` that the shell is to see")]
pub struct Unknown {
    /// The name, shortened.
    pub name: String,
    /// What is known.
    pub known: String,
}

/// The text with its variables filled in. What is filled in is never read as a variable again; `$${` gives `${`.
pub fn render(text: &str, replica: u32, ports: &[u16]) -> Result<String, Unknown> {
    let mut rendered = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        rendered.push_str(before);
        if before.ends_with('$') {
            rendered.push('{');
            rest = after;
            continue;
        }
        // A brace that is never closed names nothing either.
        let end = after.find('}');
        let name = &after[..end.unwrap_or(after.len())];
        let port = name.strip_prefix("port").and_then(|number| ports.get(number.parse::<usize>().ok()?));
        match (name, port, end) {
            ("replica", _, Some(_)) => rendered.push_str(&replica.to_string()),
            (_, Some(port), Some(_)) => rendered.push_str(&port.to_string()),
            _ => {
                let known: Vec<_> = (0..ports.len()).map(|number| format!("port{number}")).collect();
                let known = [&["replica".to_owned()], known.as_slice()].concat().join(", ");
                return Err(Unknown { name: name.chars().take(40).collect(), known });
            }
        }
        rest = end.map_or("", |end| &after[end + 1..]);
    }
    rendered.push_str(rest);
    Ok(rendered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_and_the_shell_keeps_its_own() {
        assert_eq!(render("-p ${port0} -q ${port1} ${replica}.", 7, &[80, 81]).unwrap(), "-p 80 -q 81 7.");
        assert_eq!(render("$HOME $$ $(x) $${y%z}", 0, &[]).unwrap(), "$HOME $$ $(x) ${y%z}");
    }

    #[test]
    fn unknown_names_are_told_with_those_that_are_known() {
        let message = render("${port1}", 0, &[80]).unwrap_err().to_string();
        assert!(
            message.starts_with("unknown variable `${port1}`; known: replica, port0; write"),
            "{message}"
        );
        assert!(
            render("${port-1}", 0, &[80]).is_err()
                && render("${", 0, &[]).is_err()
                && render("${replica", 0, &[]).is_err()
        );
    }
}
