//! Texts as people wrote them: XHTML without its markup, attachments out of base64.

use std::fmt::Write as _;

use encoding_rs::{Encoding, UTF_8};

use super::super::Reject;
use super::element::Element;

/// Elements whose end is a line's end.
const BLOCKS: [&str; 13] = ["br", "dd", "div", "dt", "h1", "h2", "h3", "h4", "li", "p", "table", "tr", "ul"];

/// The text of an attachment that holds one: `text/plain`, Markdown, HTML. `None` for anything
/// else, for one that only says where it is, and for bytes that are not what they are said to be.
///
/// # Errors
/// `field` if a field is of the wrong type.
pub(super) fn attachment(attachment: &Element<'_, '_>) -> Result<Option<String>, Reject> {
    let Some(data) = attachment.text("data")? else { return Ok(None) };
    let Some(kind) = attachment.text("contentType")? else { return Ok(None) };
    let (kind, rest) = kind.split_once(';').unwrap_or((&kind, ""));
    let is_marked_up = match kind.trim().to_ascii_lowercase().as_str() {
        "text/plain" | "text/markdown" => false,
        "text/html" | "application/xhtml+xml" => true,
        _ => return Ok(None),
    };
    let charset = rest.split(';').find_map(|word| word.trim().strip_prefix("charset="));
    let encoding = match charset.map(|name| Encoding::for_label(name.trim_matches('"').as_bytes())) {
        Some(Some(encoding)) => encoding,
        Some(None) => return Ok(None),
        None => UTF_8,
    };
    let Some(bytes) = base64(&data) else { return Ok(None) };
    let text = encoding.decode_without_bom_handling_and_without_replacement(&bytes);
    Ok(text.map(|text| if is_marked_up { plain(&text) } else { text.into_owned() }).filter(|text| !text.is_empty()))
}

/// XHTML as plain text: its words, a line a block, entities as the characters they name.
pub(super) fn plain(html: &str) -> String {
    let mut text = String::with_capacity(html.len() / 2);
    let mut rest = html;
    while let Some(next) = rest.find(['<', '&']) {
        words(&rest[..next], &mut text);
        let after = &rest[next..];
        let end = if after.starts_with('<') { '>' } else { ';' };
        // A comment ends at its own sign, and may hold tags.
        let length = match after.starts_with("<!--") {
            true => after.find("-->").map(|at| at + 3),
            false => after.find(end).map(|at| at + 1),
        };
        let Some(length) = length else {
            words(after, &mut text);
            return finished(text);
        };
        let (sign, tail) = after.split_at(length);
        match end {
            '>' => {
                let name = sign.trim_start_matches(['<', '/']).split(|c: char| !c.is_ascii_alphanumeric()).next();
                if name.is_some_and(|name| BLOCKS.binary_search(&name).is_ok()) {
                    line(&mut text);
                } else if matches!(name, Some("td" | "th")) {
                    words(" ", &mut text);
                }
            }
            _ => match character(&sign[1..length - 1]) {
                Some('\u{a0}') => words(" ", &mut text),
                Some(c) => text.push(c),
                None => {
                    // No entity: an ampersand that stands for itself.
                    text.push('&');
                    rest = &after[1..];
                    continue;
                }
            },
        }
        rest = tail;
    }
    words(rest, &mut text);
    finished(text)
}

fn finished(mut text: String) -> String {
    text.truncate(text.trim_end().len());
    text
}

/// Adds the text with every run of white space as one blank.
fn words(part: &str, text: &mut String) {
    let blank = |text: &mut String| {
        if !text.is_empty() && !text.ends_with([' ', '\n']) {
            text.push(' ');
        }
    };
    if part.starts_with(char::is_whitespace) {
        blank(text);
    }
    for (at, word) in part.split_whitespace().enumerate() {
        if at > 0 {
            blank(text);
        }
        text.push_str(word);
    }
    if part.ends_with(char::is_whitespace) {
        blank(text);
    }
}

fn line(text: &mut String) {
    if text.ends_with(' ') {
        text.pop();
    }
    if !text.is_empty() && !text.ends_with('\n') {
        let _ = text.write_char('\n');
    }
}

fn character(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some('\u{a0}'),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

/// The bytes of base64 (RFC 4648, section 4), white space in it passed over; `None` if it is none.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count, mut padding) = (0_u32, 0, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        bits = bits << 6 | u32::from(six);
        count += 1;
        if count == 4 {
            bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, count) = (0, 0);
        }
    }
    match (count, padding) {
        (0, 0) => {}
        (2, 0 | 2) => bytes.push((bits >> 4) as u8),
        (3, 0 | 1) => bytes.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => return None,
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_is_taken_away() {
        for (html, expected) in [
            (
                "<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>One  <b>two</b></p>\n <p>three</p></div>",
                "One two\nthree",
            ),
            ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
            ("a &lt; b &amp;&amp; c&#228;&#x20AC;&nbsp;d", "a < b && c\u{e4}\u{20ac} d"),
            ("fish & chips; a<br/>b", "fish & chips; a\nb"),
            ("1 < 2", "1 < 2"),
            ("<!-- a <b> -->x", "x"),
            ("&#xD800; &bogus;", "&#xD800; &bogus;"),
            ("  <div> </div> ", ""),
            ("<ul><li>a</li><li>b</li></ul>", "a\nb"),
        ] {
            assert_eq!(plain(html), expected, "{html}");
        }
        assert!(BLOCKS.is_sorted());
    }

    #[test]
    fn base64_of_rfc_4648() {
        for (text, expected) in [
            ("", Some(&b""[..])),
            ("Zg==", Some(b"f")),
            ("Zm8=", Some(b"fo")),
            ("Zm9v", Some(b"foo")),
            ("Zm9v\nYg", Some(b"foob")),
            ("Zm9vYmE=", Some(b"fooba")),
            ("/+8=", Some(b"\xff\xef")),
            ("Z", None),
            ("Zg=", None),
            ("Zg==Zg==", None),
            ("Z-8=", None),
            ("=", None),
        ] {
            assert_eq!(base64(text).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_ends(text in ".{0,80}", marked in "[<>&;/a-z#! -]{0,60}") {
            prop_assert!(plain(&marked).len() <= marked.len() * 2 + 2);
            let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words(&plain(&escaped)), words(&text));
        }
    }
}
