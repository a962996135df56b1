//! A segment cut into its fields, borrowed from the record (HL7 v2.8, chapter 2, section 2.5).
//!
//! A cutter of our own, because the records of real feeds bend the syntax (LF for CR, lines
//! broken inside a text, two messages in one record) and because it allocates nothing.

use std::borrow::Cow;

use super::escape::unescape;

/// Fields of a segment that are kept; no segment that is read has one beyond.
const FIELDS: usize = 64;

/// The signs that divide a message, from MSH-1 and MSH-2.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Marks {
    /// Between fields.
    pub(super) field: char,
    /// Between components.
    pub(super) component: char,
    /// Between repeats of a field.
    pub(super) repeat: char,
    /// Around an escape; `None`: the message has none.
    pub(super) escape: Option<char>,
    /// Between subcomponents.
    pub(super) sub: char,
}

impl Marks {
    /// The signs that HL7 recommends.
    pub(super) const USUAL: Marks = Marks { field: '|', component: '^', repeat: '~', escape: Some('\\'), sub: '&' };

    /// Reads the signs of a line that begins a message or a batch (`MSH|^~\&|`); signs that MSH-2 leaves
    /// out are the usual ones. `None` if what stands there cannot divide anything.
    pub(super) fn read(line: &str) -> Option<Self> {
        let mut signs = line.get(3..)?.chars();
        let field = signs.next()?;
        let usual = Marks::USUAL;
        let mut given = signs.take_while(|sign| *sign != field);
        let marks = Marks {
            field,
            component: given.next().unwrap_or(usual.component),
            repeat: given.next().unwrap_or(usual.repeat),
            escape: given.next().or(usual.escape),
            sub: given.next().unwrap_or(usual.sub),
        };
        let all = [field, marks.component, marks.repeat, marks.escape?, marks.sub];
        let divide = all.iter().all(|sign| sign.is_ascii_punctuation());
        let differ = all.iter().enumerate().all(|(at, sign)| !all[..at].contains(sign));
        (divide && differ).then_some(marks)
    }

    /// The component `number` of a field's repeat, counted from 1; empty where it is not there.
    pub(super) fn component(self, text: &str, number: usize) -> &str {
        text.split(self.component).nth(number - 1).unwrap_or_default().trim()
    }

    /// The subcomponent `number` of a component, counted from 1; empty where it is not there.
    pub(super) fn sub(self, text: &str, number: usize) -> &str {
        text.split(self.sub).nth(number - 1).unwrap_or_default().trim()
    }

    /// A text without its escapes; `None` if it is empty.
    pub(super) fn text(self, raw: &str) -> Option<Cow<'_, str>> {
        (!raw.is_empty()).then(|| unescape(raw, self))
    }
}

/// A segment.
pub(super) struct Segment<'a> {
    /// Its name: three letters or digits.
    pub(super) name: &'a str,
    /// The signs of its message.
    pub(super) marks: Marks,
    fields: [&'a str; FIELDS],
}

impl<'a> Segment<'a> {
    /// Cuts a line into fields.
    pub(super) fn cut(line: &'a str, marks: Marks) -> Self {
        let mut fields = [""; FIELDS];
        let mut parts = line.split(marks.field);
        let name = parts.next().unwrap_or_default();
        // MSH-1 is the field separator itself.
        let first = if matches!(name, "MSH" | "FHS" | "BHS") { 2 } else { 1 };
        for (field, part) in fields[first..].iter_mut().zip(parts) {
            *field = part;
        }
        Segment { name, marks, fields }
    }

    /// Whether a line begins a segment: a name and then the separator or nothing.
    pub(super) fn begins(line: &str, field: char) -> bool {
        let &[a, b, c, ref rest @ ..] = line.as_bytes() else { return false };
        let name = a.is_ascii_uppercase() && [b, c].iter().all(|s| s.is_ascii_uppercase() || s.is_ascii_digit());
        name && rest.first().is_none_or(|sign| char::from(*sign) == field)
    }

    /// The field with all its repeats; empty where nothing stands, or `""` (section 2.5.3.2).
    pub(super) fn field(&self, number: usize) -> &'a str {
        let field = self.fields.get(number).copied().unwrap_or_default();
        if field == "\"\"" { "" } else { field }
    }

    /// Whether the field says that there is no value any more: `""`.
    pub(super) fn is_null(&self, number: usize) -> bool {
        self.fields.get(number) == Some(&"\"\"")
    }

    /// The repeats of a field that hold something.
    pub(super) fn repeats(&self, number: usize) -> impl Iterator<Item = &'a str> + use<'a> {
        self.field(number).split(self.marks.repeat).filter(|repeat| !repeat.is_empty() && *repeat != "\"\"")
    }

    /// The first repeat of a field.
    pub(super) fn first(&self, number: usize) -> &'a str {
        self.field(number).split(self.marks.repeat).next().unwrap_or_default()
    }

    /// A component of the first repeat of a field, as it was sent.
    pub(super) fn component(&self, number: usize, component: usize) -> &'a str {
        let first = self.first(number);
        let text = first.split(self.marks.component).nth(component - 1).unwrap_or_default().trim();
        if text == "\"\"" { "" } else { text }
    }

    /// The same without escapes.
    pub(super) fn text(&self, number: usize, component: usize) -> Option<Cow<'a, str>> {
        let raw = self.component(number, component);
        (!raw.is_empty()).then(|| unescape(raw, self.marks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_repeats_components_and_subcomponents() {
        let segment = Segment::cut("PID|1||7^^^A&1.2&ISO^MR~8^^^B|\"\"||X", Marks::USUAL);
        assert_eq!((segment.name, segment.field(1), segment.field(4), segment.field(6)), ("PID", "1", "", "X"));
        assert!(segment.is_null(4) && !segment.is_null(5) && segment.field(99).is_empty());
        assert_eq!(segment.repeats(3).collect::<Vec<_>>(), ["7^^^A&1.2&ISO^MR", "8^^^B"]);
        assert_eq!((segment.component(3, 1), segment.component(3, 5)), ("7", "MR"));
        assert_eq!(segment.marks.sub(segment.component(3, 4), 2), "1.2");
    }

    #[test]
    fn signs_of_a_message() {
        assert_eq!(Marks::read("MSH|^~\\&|A"), Some(Marks::USUAL));
        assert_eq!(Marks::read("MSH|^~\\&#|A"), Some(Marks::USUAL), "the truncation sign of version 2.7");
        let other = Marks { field: '#', component: '*', repeat: '!', escape: Some('%'), sub: '?' };
        assert_eq!(Marks::read("MSH#*!%?#A"), Some(other));
        assert_eq!(Marks::read("MSH|^|A"), Some(Marks::USUAL), "what is left out is usual");
        for bad in ["MSH", "MSH|||", "MSHA^~\\&A", "MSH|^^\\&|", "MSH|\u{e9}~\\&|", "MSH|^~\\^|"] {
            let read = Marks::read(bad);
            assert!(read.is_none() || read == Some(Marks::USUAL), "{bad} {read:?}");
        }
        assert_eq!(Marks::read("MSHA^~\\&A"), None);
        assert_eq!(Marks::read("MSH|^^\\&|"), None);
    }

    #[test]
    fn msh_is_counted_from_its_separator() {
        let segment = Segment::cut("MSH|^~\\&|APP|FAC", Marks::USUAL);
        assert_eq!((segment.field(2), segment.field(3), segment.field(4)), ("^~\\&", "APP", "FAC"));
    }

    #[test]
    fn what_begins_a_segment() {
        for line in ["OBX|1", "PV1", "ZX1|"] {
            assert!(Segment::begins(line, '|'), "{line}");
        }
        for line in ["", "OB", "obx|1", "OBXX|1", "No fever|", "OBX^1", "1BX|"] {
            assert!(!Segment::begins(line, '|'), "{line}");
        }
    }
}
