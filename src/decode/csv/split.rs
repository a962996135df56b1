//! Where a row ends and how it divides into cells (RFC 4180).
//!
//! A quote means something only where a cell begins, and within a quoted cell, where two
//! stand for one. The reader of files and the splitter follow the same rule, so that a line
//! break in a quoted cell divides neither.

use std::borrow::Cow;

use super::super::{Reason, Reject};

/// The signs of a table.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Dialect {
    /// Between two cells.
    pub delimiter: u8,
    /// Around a cell that holds a delimiter, a quote or a line break; `None`: nothing is quoted.
    pub quote: Option<u8>,
}

/// Finds the end of a row, byte by byte.
#[derive(Copy, Clone, Debug)]
pub struct RowEnd {
    dialect: Dialect,
    at: At,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum At {
    Start,
    Plain,
    Quoted,
    /// Behind a quote within a quoted cell: its end, or the first of two.
    Quote,
}

impl RowEnd {
    /// At the beginning of a row.
    pub fn new(dialect: Dialect) -> Self {
        RowEnd { dialect, at: At::Start }
    }

    /// Whether this byte ends the row: a line feed or a carriage return outside quotes.
    pub fn is_end(&mut self, byte: u8) -> bool {
        let quote = Some(byte) == self.dialect.quote;
        self.at = match self.at {
            At::Quoted => {
                if quote {
                    At::Quote
                } else {
                    At::Quoted
                }
            }
            At::Start | At::Quote if quote => At::Quoted,
            _ if byte == b'\n' || byte == b'\r' => return true,
            _ if byte == self.dialect.delimiter => At::Start,
            _ => At::Plain,
        };
        false
    }
}

impl Dialect {
    /// The cells of a row, without their quotes.
    pub(super) fn split<'t>(&self, row: &'t str) -> Result<Vec<Cow<'t, str>>, Reject> {
        let delimiter = char::from(self.delimiter);
        let mut cells = Vec::new();
        let mut rest = row;
        loop {
            let quoted = self.quote.map(char::from).filter(|quote| rest.starts_with(*quote));
            let (cell, behind) = match quoted {
                Some(quote) => quoted_cell(rest, quote).ok_or_else(|| {
                    let detail = format!("field {} begins with a quote that nothing closes", cells.len() + 1);
                    Reject::new(Reason::Syntax, detail)
                })?,
                None => {
                    let end = rest.find(delimiter).unwrap_or(rest.len());
                    (Cow::Borrowed(&rest[..end]), &rest[end..])
                }
            };
            cells.push(cell);
            match behind.strip_prefix(delimiter) {
                Some(next) => rest = next,
                None if behind.is_empty() => return Ok(cells),
                None => {
                    let detail = format!("in field {} something stands behind the closing quote", cells.len());
                    return Err(Reject::new(Reason::Syntax, detail));
                }
            }
        }
    }
}

/// The cell that begins with a quote, and what stands behind its closing one.
fn quoted_cell(text: &str, quote: char) -> Option<(Cow<'_, str>, &str)> {
    let body = &text[quote.len_utf8()..];
    let mut cell = Cow::Borrowed("");
    let mut rest = body;
    loop {
        let end = rest.find(quote)?;
        let behind = &rest[end + quote.len_utf8()..];
        if cell.is_empty() && rest.len() == body.len() {
            cell = Cow::Borrowed(&rest[..end]);
        } else {
            cell.to_mut().push_str(&rest[..end]);
        }
        let Some(next) = behind.strip_prefix(quote) else { return Some((cell, behind)) };
        cell.to_mut().push(quote);
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMMA: Dialect = Dialect { delimiter: b',', quote: Some(b'"') };

    fn split(row: &str) -> Vec<String> {
        COMMA.split(row).unwrap().into_iter().map(Cow::into_owned).collect()
    }

    #[test]
    fn cells_divide_at_delimiters_outside_quotes() {
        assert_eq!(split("a,b,,"), ["a", "b", "", ""]);
        assert_eq!(split(""), [""]);
        assert_eq!(split(r#""a,b","say ""hi""",5'6"#), ["a,b", r#"say "hi""#, "5'6"]);
        assert_eq!(split("\"two\nlines\",\"\""), ["two\nlines", ""]);
        assert_eq!(split("5\" nail,x"), ["5\" nail", "x"], "a quote within a cell is one");
        let none = Dialect { delimiter: b'\t', quote: None };
        assert_eq!(none.split("\"a\tb\"").unwrap(), ["\"a", "b\""]);
    }

    #[test]
    fn quotes_that_do_not_pair_are_refused() {
        for row in ["\"open", "a,\"open", "\"a\"b,c", "\"\"\""] {
            assert_eq!(COMMA.split(row).unwrap_err().reason, Reason::Syntax, "{row}");
        }
    }

    proptest! {
        /// What another writer of CSV writes, both the reader's end of row and the splitter read back.
        #[test]
        fn what_is_written_is_read(rows in prop::collection::vec(prop::collection::vec("[ab,\"\n\r ]{0,6}", 2..5), 1..5)) {
            let mut text = String::new();
            for row in &rows {
                let cells: Vec<String> = row.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
                text.push_str(&cells.join(","));
                text.push('\n');
            }
            let (mut found, mut start, mut end) = (Vec::new(), 0, RowEnd::new(COMMA));
            for (at, byte) in text.bytes().enumerate() {
                if end.is_end(byte) {
                    found.push(split(&text[start..at]));
                    start = at + 1;
                    end = RowEnd::new(COMMA);
                }
            }
            prop_assert_eq!(found, rows);
        }

        #[test]
        fn any_row_splits_or_is_refused(row in "[a,\"\\t;é]{0,20}") {
            if let Ok(cells) = COMMA.split(&row) {
                prop_assert!(!cells.is_empty());
            }
        }
    }
}
