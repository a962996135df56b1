//! A JSON record as the places of its values: read in one pass, borrowed, never recursive.
//!
//! Promises to take what RFC 8259 calls JSON and nothing else, to keep no more than one small
//! [`Node`] a value, and that no nesting can exhaust the stack. Whether an escape in a string
//! names a character is judged when that string is asked for.

use super::super::{Reason, Reject};

/// A value of the record, its name included where it is a member of an object.
#[derive(Copy, Clone)]
pub(super) struct Node {
    /// Where the member's name stands, without its quotes; of an array's item, nowhere.
    name: (u32, u32),
    /// Where the value stands.
    start: u32,
    end: u32,
    /// The node after this value and all that it holds.
    pub(super) next: u32,
    /// Whether the name holds an escape.
    pub(super) escaped: bool,
}

/// A record and its values, each followed by what it holds.
pub(super) struct Document<'a> {
    text: &'a str,
    /// The first is the record itself.
    pub(super) nodes: Vec<Node>,
}

impl<'a> Document<'a> {
    /// Reads a whole record.
    ///
    /// # Errors
    /// `shape` if it is no object, `syntax` if it is no JSON, `too_large` from 4 GiB on.
    pub(super) fn parse(text: &'a str) -> Result<Self, Reject> {
        if u32::try_from(text.len()).is_err() {
            return Err(Reject::new(Reason::TooLarge, "the record is longer than 4 GiB"));
        }
        let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
        scanner.space();
        let is_object = scanner.peek() == Some(b'{');
        if scanner.peek() == Some(b'[') {
            return Err(Reject::new(Reason::Shape, "the record is not a JSON object"));
        }
        let nodes = scanner.record().map_err(|what| {
            let at = scanner.at;
            Reject::new(Reason::Syntax, format!("the record is not JSON: {what} expected at byte {at}"))
        })?;
        match is_object {
            true => Ok(Document { text, nodes }),
            false => Err(Reject::new(Reason::Shape, "the record is not a JSON object")),
        }
    }

    /// The name of a member as it is written.
    pub(super) fn name(&self, node: &Node) -> &'a str {
        self.text.get(node.name.0 as usize..node.name.1 as usize).unwrap_or_default()
    }

    /// A value as it is written.
    pub(super) fn raw(&self, node: &Node) -> &'a str {
        self.text.get(node.start as usize..node.end as usize).unwrap_or_default()
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// What was expected where something else stands.
type Expected = &'static str;

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// The one value that the text is.
    fn record(&mut self) -> Result<Vec<Node>, Expected> {
        let mut nodes: Vec<Node> = Vec::with_capacity(self.bytes.len() / 24 + 1);
        let mut open: Vec<u32> = Vec::new();
        let (mut name, mut escaped) = ((0, 0), false);
        loop {
            let this = nodes.len() as u32;
            let start = self.at as u32;
            let first = self.peek();
            match first {
                Some(b'{' | b'[') => self.at += 1,
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                Some(_) | None => return Err("a value"),
            }
            nodes.push(Node { name, start, end: self.at as u32, next: this + 1, escaped });
            self.space();
            match (first, self.peek()) {
                (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')) => open.push(this),
                (Some(b'{'), _) => {
                    open.push(this);
                    (name, escaped) = self.name()?;
                    continue;
                }
                (Some(b'['), _) => {
                    open.push(this);
                    (name, escaped) = ((0, 0), false);
                    continue;
                }
                (_, _) => {}
            }
            // A value has ended, and maybe what it stands in.
            loop {
                let Some(&around) = open.last() else {
                    return if self.at == self.bytes.len() { Ok(nodes) } else { Err("the end of the record") };
                };
                let count = nodes.len() as u32;
                let Some(container) = nodes.get_mut(around as usize) else { return Err("a value") };
                let is_object = self.bytes.get(container.start as usize) == Some(&b'{');
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        (name, escaped) = if is_object { self.name()? } else { ((0, 0), false) };
                        break;
                    }
                    Some(end @ (b'}' | b']')) if (end == b'}') == is_object => {
                        self.at += 1;
                        container.end = self.at as u32;
                        container.next = count;
                        open.pop();
                        self.space();
                    }
                    Some(_) | None => return Err("a comma or the end of a list"),
                }
            }
        }
    }

    /// A member's name and the colon after it.
    fn name(&mut self) -> Result<((u32, u32), bool), Expected> {
        if self.peek() != Some(b'"') {
            return Err("a member's name");
        }
        let start = self.at as u32 + 1;
        let escaped = self.string()?;
        let end = self.at as u32 - 1;
        self.space();
        if self.peek() != Some(b':') {
            return Err("a colon");
        }
        self.at += 1;
        self.space();
        Ok(((start, end), escaped))
    }

    /// A string; whether it holds an escape.
    fn string(&mut self) -> Result<bool, Expected> {
        self.at += 1;
        let mut escaped = false;
        loop {
            self.plain();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                        Some(b'u') => {
                            let digits = self.bytes.get(self.at + 1..self.at + 5).ok_or("four hexadecimal digits")?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return Err("four hexadecimal digits");
                            }
                            self.at += 5;
                        }
                        Some(_) | None => return Err("an escape"),
                    }
                }
                Some(_) | None => return Err("a character or the end of a string"),
            }
        }
    }

    /// Passes over characters that mean themselves, eight bytes at a time.
    fn plain(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const TOPS: u64 = 0x8080_8080_8080_8080;
        // The top bit of each byte that is zero, and maybe of bytes above the first such.
        let zero = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
        while let Some(&bytes) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_le_bytes(bytes);
            let control = word.wrapping_sub(ONES * 0x20) & !word & TOPS;
            let found = control | zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\')));
            if found != 0 {
                self.at += found.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    fn digits(&mut self) -> Result<(), Expected> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err("a digit") } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), Expected> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(_) | None => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Expected> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err("a value");
        }
        self.at += word.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use serde_json::Value as Json;

    use super::*;

    /// The value that the node stands for, read piece by piece.
    fn rebuilt(document: &Document<'_>, at: usize) -> Json {
        let node = document.nodes[at];
        let raw = document.raw(&node);
        let mut children = Vec::new();
        let mut child = at as u32 + 1;
        while child < node.next {
            children.push(child as usize);
            child = document.nodes[child as usize].next;
        }
        let name = |child: usize| -> String {
            serde_json::from_str(&format!("\"{}\"", document.name(&document.nodes[child]))).unwrap()
        };
        match raw.as_bytes()[0] {
            b'{' => Json::Object(children.into_iter().map(|child| (name(child), rebuilt(document, child))).collect()),
            b'[' => Json::Array(children.into_iter().map(|child| rebuilt(document, child)).collect()),
            _ => serde_json::from_str(raw).unwrap(),
        }
    }

    fn agrees(text: &str) -> Result<(), TestCaseError> {
        let ours = Document::parse(text);
        let theirs = serde_json::from_str::<IgnoredAny>(text);
        let is_object = text.trim_start_matches([' ', '\n', '\r', '\t']).starts_with('{');
        prop_assert_eq!(ours.is_ok(), theirs.is_ok() && is_object, "{}", text);
        if let (Ok(ours), Ok(json)) = (ours, serde_json::from_str::<Json>(text)) {
            prop_assert_eq!(rebuilt(&ours, 0), json);
            prop_assert_eq!(ours.nodes[0].next as usize, ours.nodes.len());
        }
        Ok(())
    }

    #[test]
    fn the_grammar_is_that_of_serde_json() {
        for value in [
            "0",
            "-0",
            "00",
            "01",
            "-",
            "1.",
            ".5",
            "1.5",
            "1e",
            "1e+",
            "1e-7",
            "1E+07",
            "+1",
            "0x1",
            "1 2",
            "nul",
            "null",
            "nulll",
            "true",
            "tru",
            "\"\"",
            "\"",
            "\"\\",
            "\"\\\"",
            "\"\\u12\"",
            "\"\\u12G4\"",
            "\"\\u1234\"",
            "\"\\x\"",
            "\"\t\"",
            "\"\u{7f}é\u{1F600}\"",
            "\"123456789\\\"\"",
            "[",
            "[]",
            "[1",
            "[1,",
            "[1,]",
            "[1 2]",
            "[1}",
            "{}",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" : 1 }",
            "{\"a\":{\"b\":[{},[],{\"c\":[1,\"x\",null]}]},\"d\":2}",
            "",
        ] {
            for text in [
                value.to_owned(),
                format!("{{\"k\":{value}}}"),
                format!(" {{\"k\": [ {value} , 1]}}\n"),
                format!("{{\"k\":{value}}} 1"),
            ] {
                agrees(&text).unwrap();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn any_text_of_json_signs(text in r#"\{"k":([\[\]{}:,"\\]|\\u[0-9a-f]{3,4}|\\[a-z"]|null|true|-?[0-9]|e|\.|"a":|[ \n]){0,30}\}"#) {
            agrees(&text)?;
        }

        #[test]
        fn strings_of_any_length(text in ".{0,40}", tail in "[ -~\\x00-\\x1f]{0,24}") {
            agrees(&serde_json::json!({ (text.clone()): [text, tail.clone()] }).to_string())?;
            agrees(&format!("{{\"{tail}\":\"{tail}\"}}"))?;
        }
    }
}
