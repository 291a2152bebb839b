//! Free text within the text form of resources: what has a meaning there is written as `%` and two hexadecimal digits.

/// True for bytes that stand for themselves; all others of a role, a principal or a path are escaped.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./*".contains(&byte)
}

pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match is_plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

pub(super) fn unescaped(text: &str) -> Result<String, String> {
    let bad = || {
        format!(
            "`{}` holds a `%` without two hexadecimal digits behind it",
            crate::text::cut(text.to_owned(), 64)
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|two| std::str::from_utf8(two).ok()).ok_or_else(bad)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(bad());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| format!("`{}` is not UTF-8", crate::text::cut(text.to_owned(), 64)))
}
