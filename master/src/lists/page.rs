//! One page of a list: a bounded part of it in the order of keys, and where the rest begins.

use apportion_types::{AgentId, FrameworkId, OfferId, Role, TaskId, limits};

/// A place in a list. Lists go on behind it, whether or not what stood there is still there.
pub(crate) trait Key: Ord + Sized {
    /// The list, for tokens: one of another list is refused.
    const LIST: &'static str;

    /// It as a text; what [`Key::read`] reads back.
    fn text(&self) -> String;

    /// None when no key has this text.
    fn read(text: &str) -> Option<Self>;
}

/// A page token that no list has given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "page_token: it is not one of this list; give the `next_page_token` of the page before, or none for the first"
)]
pub(crate) struct BadToken;

/// Which page is asked for.
#[derive(Debug)]
pub(crate) struct Wanted<K> {
    /// It begins behind this; at the start of the list when none.
    pub(crate) after: Option<K>,
    size: usize,
}

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) rows: Vec<T>,
    /// The token of the next page; empty when there is none.
    pub(crate) next: String,
}

impl<K: Key> Wanted<K> {
    /// A page of so many rows, the default number when zero, behind where a token points.
    pub(crate) fn new(size: u32, token: &str) -> Result<Self, BadToken> {
        let size = match size {
            0 => limits::PAGE_SIZE_DEFAULT,
            some => limits::PAGE_SIZE_MAX.min(some as usize),
        };
        let after = match token {
            "" => None,
            token => Some(read(token).ok_or(BadToken)?),
        };
        Ok(Self { after, size })
    }

    /// The page out of the rows behind [`Wanted::after`], in order. It ends early when what is made of them is large.
    pub(crate) fn take<R, T>(
        &self,
        rows: impl Iterator<Item = (K, R)>,
        mut make: impl FnMut(R) -> T,
        bytes: impl Fn(&T) -> usize,
    ) -> Page<T> {
        let mut page = Page { rows: Vec::new(), next: String::new() };
        let (mut last, mut held) = (None, 0);
        for (key, row) in rows {
            if page.rows.len() == self.size || held >= limits::PAGE_BYTES_MAX {
                page.next = last.map(|last| token(&last)).expect("a page has a row before its end");
                break;
            }
            let made = make(row);
            held += bytes(&made);
            page.rows.push(made);
            last = Some(key);
        }
        page
    }
}

/// Hexadecimal, so that it stands in a URL as it is, and that nobody takes it for more than a token.
fn token<K: Key>(key: &K) -> String {
    let text = format!("{}\n{}", K::LIST, key.text());
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn read<K: Key>(token: &str) -> Option<K> {
    if !token.len().is_multiple_of(2) || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&token[at..at + 2], 16).ok();
    let bytes: Vec<u8> = (0..token.len()).step_by(2).map(byte).collect::<Option<_>>()?;
    let text = String::from_utf8(bytes).ok()?;
    let (list, key) = text.split_once('\n')?;
    (list == K::LIST).then(|| K::read(key)).flatten()
}

macro_rules! ids {
    ($($key:ident: $list:literal),*) => {$(
        impl Key for $key {
            const LIST: &'static str = $list;

            fn text(&self) -> String {
                self.to_string()
            }

            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}
ids!(AgentId: "agents", FrameworkId: "frameworks", OfferId: "offers", Role: "roles");

/// A place in the list of tasks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TaskPlace {
    /// Among those that are not yet acknowledged as ended.
    Live(FrameworkId, TaskId),
    /// Among the others, by the order in which they ended.
    Ended(u64),
}

impl Key for TaskPlace {
    const LIST: &'static str = "tasks";

    fn text(&self) -> String {
        match self {
            TaskPlace::Live(framework, task) => format!("{framework}\n{task}"),
            TaskPlace::Ended(number) => number.to_string(),
        }
    }

    fn read(text: &str) -> Option<Self> {
        Some(match text.split_once('\n') {
            Some((framework, task)) => TaskPlace::Live(framework.parse().ok()?, task.parse().ok()?),
            None => TaskPlace::Ended(text.parse().ok()?),
        })
    }
}

/// A place in a list of what agents have on terms: the agent, and a text that orders what it has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HeldPlace {
    pub(crate) agent: AgentId,
    pub(crate) text: String,
}

impl Key for HeldPlace {
    const LIST: &'static str = "held";

    fn text(&self) -> String {
        format!("{}\n{}", self.agent, self.text)
    }

    fn read(text: &str) -> Option<Self> {
        let (agent, text) = text.split_once('\n')?;
        Some(HeldPlace { agent: agent.parse().ok()?, text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(after: &str, size: u32, rows: &[&str], bytes: usize) -> Page<String> {
        let wanted = Wanted::<AgentId>::new(size, after).unwrap();
        let keys = rows.iter().map(|row| AgentId::new(row).unwrap());
        let rest = keys.filter(|key| wanted.after.as_ref().is_none_or(|after| key > after));
        wanted.take(rest.map(|key| (key.clone(), key)), |key| key.to_string(), |_| bytes)
    }

    #[test]
    fn pages_go_on_behind_the_last_key_whatever_became_of_it() {
        let first = page("", 2, &["a", "b", "c", "d"], 1);
        assert_eq!(first.rows, ["a", "b"]);
        let second = page(&first.next, 2, &["a", "aa", "c", "d"], 1);
        assert_eq!((second.rows, second.next.as_str()), (vec!["c".to_owned(), "d".to_owned()], ""));
        assert_eq!(page(&first.next, 2, &[], 1).rows, [""; 0]);
    }

    #[test]
    fn a_page_ends_when_it_is_large_and_holds_a_row_all_the_same() {
        let large = page("", 0, &["a", "b"], limits::PAGE_BYTES_MAX);
        assert_eq!(large.rows, ["a"]);
        assert_eq!(page(&large.next, u32::MAX, &["a", "b"], 1).rows, ["b"]);
        assert_eq!(Wanted::<AgentId>::new(u32::MAX, "").unwrap().size, limits::PAGE_SIZE_MAX);
    }

    #[test]
    fn places_come_back_and_other_tokens_are_refused() {
        let live = TaskPlace::Live("f".parse().unwrap(), "t".parse().unwrap());
        for place in [live.clone(), TaskPlace::Ended(u64::MAX)] {
            assert_eq!(Wanted::<TaskPlace>::new(0, &token(&place)).unwrap().after, Some(place));
        }
        let held = HeldPlace { agent: "a".parse().unwrap(), text: "(+eng@x)".to_owned() };
        assert_eq!(Wanted::<HeldPlace>::new(0, &token(&held)).unwrap().after, Some(held));
        let (other, cut) = (token(&live), &token(&live)[..5]);
        for bad in ["a", "zz", "é1", "00", "6167656e74730a", other.as_str(), cut] {
            assert_eq!(Wanted::<AgentId>::new(0, bad).unwrap_err(), BadToken, "{bad}");
        }
    }
}
