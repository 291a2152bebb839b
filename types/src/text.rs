//! Texts for people.

use std::error::Error;

/// The text's start, of at most so many bytes, ending in `…` when something is left out. There must be room for that.
pub fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let mut end = bytes_max - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// An error and what caused it, in one line, each once: many name only their layer, some end with their cause.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        let most = 100;
        assert_eq!(cut("x".repeat(most), most), "x".repeat(most));
        for shift in 0..4 {
            let long = "y".repeat(shift) + &"ä".repeat(most);
            let short = cut(long.clone(), most);
            assert!(short.len() <= most && short.len() > most - 8 && short.ends_with('…'), "{}", short.len());
            assert!(long.starts_with(short.trim_end_matches('…')));
        }
    }

    #[test]
    fn each_cause_is_named_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("{text}")]
        struct Layer {
            text: &'static str,
            source: Option<Box<Layer>>,
        }
        let layer = |text, source| Some(Box::new(Layer { text, source }));
        let error = layer("a: b", layer("b", layer("c", None)));
        assert_eq!(chain(&*error.unwrap()), "a: b: c");
    }
}
