//! Escapes within a text (HL7 v2.8, chapter 2, section 2.7).
//!
//! What is no escape stays as it was sent: a lone backslash is a backslash.

use std::borrow::Cow;

use super::segment::Marks;

/// Blank lines or spaces that one formatting command may make.
const LONGEST: usize = 100;

/// The text without its escapes; borrowed where it has none.
pub(super) fn unescape(text: &str, marks: Marks) -> Cow<'_, str> {
    let Some(sign) = marks.escape.filter(|sign| text.contains(*sign)) else { return Cow::Borrowed(text) };
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(sign) {
        plain.push_str(before);
        match after.split_once(sign) {
            Some((command, tail)) if write(command, marks, &mut plain) => rest = tail,
            // The second sign may begin an escape of its own.
            Some(_) | None => {
                plain.push(sign);
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// Writes what `command` stands for; `false` if it is none.
fn write(command: &str, marks: Marks, plain: &mut String) -> bool {
    match command {
        "F" => plain.push(marks.field),
        "S" => plain.push(marks.component),
        "T" => plain.push(marks.sub),
        "R" => plain.push(marks.repeat),
        "E" => plain.extend(marks.escape),
        "P" => plain.push('#'),
        // Highlighting has no meaning without a screen.
        "H" | "N" => {}
        _ => {
            return match command.split_at_checked(1) {
                Some((".", format)) => formatting(format, plain),
                Some(("X", hex)) => bytes(hex, plain),
                _ => false,
            };
        }
    }
    true
}

/// The commands of formatted text (section 2.7.6): line breaks and spaces are kept, indents are not.
fn formatting(format: &str, plain: &mut String) -> bool {
    let (name, amount) = format.split_at_checked(2).unwrap_or((format, ""));
    let amount = amount.trim_start_matches('+');
    let count = || amount.parse().unwrap_or(1_usize).min(LONGEST);
    match name {
        "br" | "ce" => plain.push('\n'),
        "sp" => plain.extend(std::iter::repeat_n('\n', count())),
        "sk" => plain.extend(std::iter::repeat_n(' ', count())),
        "in" | "ti" | "fi" | "nf" => {}
        _ => return false,
    }
    true
}

/// `Xdd..`: bytes, as UTF-8 if they are, else each a character of ISO 8859-1.
fn bytes(hex: &str, plain: &mut String) -> bool {
    let digits: Option<Vec<u8>> = hex.bytes().map(|b| char::from(b).to_digit(16).map(|d| d as u8)).collect();
    let Some(digits) = digits.filter(|digits| !digits.is_empty() && digits.len() % 2 == 0) else { return false };
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    match std::str::from_utf8(&bytes) {
        Ok(text) => plain.push_str(text),
        Err(_) => plain.extend(bytes.iter().map(|byte| char::from(*byte))),
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_escape() {
        for (text, plain) in [
            ("plain", "plain"),
            (r"a\F\b\S\c\T\d\R\e\E\f", r"a|b^c&d~e\f"),
            (r"one\.br\two\.sp2\three\.sk3\four\.sp\five", "one\ntwo\n\nthree   four\nfive"),
            (r"\H\loud\N\ \.in+4\in\.ti-2\", "loud in"),
            (r"\X48\\X656C\\X6C6f\", "Hello"),
            (r"\XC3A9\ \XE9\", "\u{e9} \u{e9}"),
            (r"C:\temp\new", r"C:\temp\new"),
            (r"a\b", r"a\b"),
            (r"\", r"\"),
            (r"\\", r"\\"),
            (r"\X4\ \Xzz\ \X\", r"\X4\ \Xzz\ \X\"),
            (r"\unknown\F\", r"\unknown|"),
            (r"\.sp999999999\", "\n".repeat(LONGEST).as_str()),
        ] {
            assert_eq!(unescape(text, Marks::USUAL), plain, "{text}");
        }
        assert!(matches!(unescape("plain", Marks::USUAL), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn what_was_escaped_comes_back(text in any::<String>()) {
            let mut escaped = String::new();
            for sign in text.chars() {
                match sign {
                    '|' => escaped.push_str(r"\F\"),
                    '^' => escaped.push_str(r"\S\"),
                    '&' => escaped.push_str(r"\T\"),
                    '~' => escaped.push_str(r"\R\"),
                    '\\' => escaped.push_str(r"\E\"),
                    _ => escaped.push(sign),
                }
            }
            prop_assert_eq!(unescape(&escaped, Marks::USUAL), text);
        }

        #[test]
        fn no_text_grows_without_bound(text in r"(\\|\.sp9|\.sk99|X4|F|[a-z]){0,40}") {
            prop_assert!(unescape(&text, Marks::USUAL).len() <= text.len() * LONGEST);
        }
    }
}
