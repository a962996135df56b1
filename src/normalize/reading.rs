//! Which number a text means.
//!
//! Pure. Promises that a text is only read where its number is beyond doubt: what may mean
//! several things (`1,200`, `7,35`, a date, a time, a ratio that is no titre) is none. Nothing is
//! lost: except for a plain number the event keeps the text as it was sent.
//!
//! | text | number |
//! |---|---|
//! | `7.35`, `-2`, `1.2e3` | itself, without the text |
//! | `<5`, `<= 5`, `≥200`, `>200` | the bound |
//! | `1:40`, `<1:40` | the titre, 40 |
//! | `5-10`, `5 – 10`, `5 to 10` | the midpoint |
//! | `NEG`, `trace`, `POS`, `+`, `++`, `2+` ... | the grade, for a concept whose unit is `{ordinal}` |

/// Longest text that is read, in bytes.
const LONGEST: usize = 40;

/// The number that a text means.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) struct Reading {
    /// Finite, also as a float32.
    pub(super) number: f64,
    /// Whether the text is the number and nothing else.
    pub(super) is_plain: bool,
}

/// Words of grades, without blanks and signs, in lower case. Positive says no more than that it is
/// there: 1. A trace lies between nothing and 1+. Codes are those of SNOMED CT and LOINC's answers.
/// `ND` and `NR` are no words: not detected or not done, non-reactive or not reported.
const GRADES: [(&str, f64); 50] = [
    ("-", 0.0),
    ("neg", 0.0),
    ("negative", 0.0),
    ("none", 0.0),
    ("noneseen", 0.0),
    ("nil", 0.0),
    ("absent", 0.0),
    ("notdetected", 0.0),
    ("undetected", 0.0),
    ("notpresent", 0.0),
    ("nonreactive", 0.0),
    ("nogrowth", 0.0),
    ("trace", 0.5),
    ("tr", 0.5),
    ("+/-", 0.5),
    ("+-", 0.5),
    ("±", 0.5),
    ("pos", 1.0),
    ("positive", 1.0),
    ("present", 1.0),
    ("detected", 1.0),
    ("det", 1.0),
    ("reactive", 1.0),
    ("weakpositive", 1.0),
    ("weaklypositive", 1.0),
    ("weaklyreactive", 1.0),
    ("small", 1.0),
    ("few", 1.0),
    ("rare", 1.0),
    ("slight", 1.0),
    ("mild", 1.0),
    ("moderate", 2.0),
    ("large", 3.0),
    ("many", 3.0),
    ("marked", 3.0),
    ("260385009", 0.0),
    ("260415000", 0.0),
    ("2667000", 0.0),
    ("10828004", 1.0),
    ("260373001", 1.0),
    ("52101004", 1.0),
    ("260347006", 1.0),
    ("260348001", 2.0),
    ("260349009", 3.0),
    ("260350009", 4.0),
    ("la6576-8", 1.0),
    ("la6577-6", 0.0),
    ("la9633-4", 1.0),
    ("la9634-2", 0.0),
    ("la11882-0", 1.0),
];

/// Reads a text as a number, a bound, a titre or a range.
pub(super) fn number(text: &str) -> Option<Reading> {
    let text = text.trim();
    if text.len() > LONGEST || !text.starts_with(|first: char| first.is_ascii_digit() || "+-.<>≤≥=".contains(first))
    {
        return None;
    }
    if let Some(number) = plain(text) {
        return Some(Reading { number, is_plain: true });
    }
    let number = match without_comparator(text) {
        Some(bound) => plain(bound).or_else(|| titre(bound)),
        None => titre(text).or_else(|| range(text)),
    };
    number.map(|number| Reading { number, is_plain: false })
}

/// Reads a text as a grade from 0 to 4.
pub(super) fn grade(text: &str) -> Option<Reading> {
    let text = text.trim();
    if text.is_empty() || text.len() > LONGEST {
        return None;
    }
    let grade = pluses(text).or_else(|| {
        let is_left_out = |c: char| c.is_whitespace() || c == '_' || c == '(' || c == ')';
        let word: String = text.to_lowercase().chars().filter(|c| !is_left_out(*c)).collect();
        // "non-reactive", but "-" and "+/-" are words themselves.
        let joined = word.replace('-', "");
        let known = |word: &str| GRADES.iter().find(|(known, _)| *known == word).map(|(_, grade)| *grade);
        known(&word).or_else(|| known(&joined).filter(|_| joined.starts_with(char::is_alphabetic)))
    });
    grade.map(|number| Reading { number, is_plain: false })
}

/// A number in digits with a decimal point: no thousands, no words such as `inf`.
fn plain(text: &str) -> Option<f64> {
    let text = text.trim();
    let is_numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    let number: f64 = is_numeric.then(|| text.parse().ok())??;
    (number as f32).is_finite().then_some(number)
}

/// What follows `<`, `<=`, `=<`, `≤` and their opposites.
fn without_comparator(text: &str) -> Option<&str> {
    ["<=", "=<", "≤", "<", ">=", "=>", "≥", ">"].iter().find_map(|sign| text.strip_prefix(sign))
}

/// The denominator of `1:40`.
fn titre(text: &str) -> Option<f64> {
    let (one, titre) = text.split_once(':')?;
    let digits = titre.trim();
    let is_titre = one.trim() == "1" && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_titre.then(|| plain(digits)).flatten()
}

/// The midpoint of `5-10`.
fn range(text: &str) -> Option<f64> {
    let (low, high) = [" to ", "–", "-"].iter().find_map(|sign| {
        // The first sign of a negative number is not what divides.
        let from = text.find(|c: char| c.is_ascii_digit())?;
        let at = from + text[from..].find(sign)?;
        Some((&text[..at], &text[at + sign.len()..]))
    })?;
    // A zero in front is that of a date or a code: 2012-07.
    let high = high.trim();
    if high.len() > 1 && high.starts_with('0') && !high.starts_with("0.") {
        return None;
    }
    let (low, high) = (plain(low)?, plain(high)?);
    (low <= high).then_some((low + high) / 2.0)
}

/// `+` to `++++`, `1+` to `4+`, `+1` to `+4`.
fn pluses(text: &str) -> Option<f64> {
    let signs = text.bytes().filter(|byte| *byte == b'+').count();
    if signs == text.len() && signs <= 4 {
        return Some(signs as f64);
    }
    let digit = text.strip_suffix('+').or_else(|| text.strip_prefix('+'))?.trim();
    let grade = digit.parse::<u8>().ok().filter(|grade| digit.len() == 1 && *grade <= 4)?;
    Some(f64::from(grade))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<(f64, bool)> {
        number(text).map(|reading| (reading.number, reading.is_plain))
    }

    #[test]
    fn numbers_bounds_titres_and_ranges() {
        for (text, expected) in
            [("7.35", 7.35), (" 12 ", 12.0), ("-2", -2.0), ("+3", 3.0), (".5", 0.5), ("1.2e3", 1200.0)]
        {
            assert_eq!(read(text), Some((expected, true)), "{text}");
        }
        for (text, expected) in [
            ("<5", 5.0),
            ("<= 5", 5.0),
            ("≤0.01", 0.01),
            (">=200", 200.0),
            ("> 200", 200.0),
            ("≥200", 200.0),
            ("< -3", -3.0),
            ("1:40", 40.0),
            ("1 : 1280", 1280.0),
            (">=1:640", 640.0),
            ("5-10", 7.5),
            ("5 - 10", 7.5),
            ("5–10", 7.5),
            ("0 to 2", 1.0),
            ("-5 - -1", -3.0),
            ("0.5-1.5", 1.0),
            ("2-2", 2.0),
        ] {
            assert_eq!(read(text), Some((expected, false)), "{text}");
        }
    }

    #[test]
    fn what_may_mean_several_things_is_no_number() {
        for text in [
            "",
            "1,200",
            "7,35",
            "2012-07-02",
            "2012-07",
            "07/02",
            "10:30",
            "2:1",
            "1:",
            "1:4:0",
            "10-5",
            "5-",
            "-",
            "--",
            "<",
            "<>5",
            "< five",
            "NaN",
            "inf",
            "1e300",
            "<1e300",
            "1:1e9",
            "0x10",
            "5 mg",
            "120/80",
            "++",
            "2+",
            "1 2",
            "5-10-15",
            "٣",
            "hemolyzed",
            "e5",
            "1e",
            "60~120",
            "5 -> 6",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(number(&"1".repeat(LONGEST + 1)), None);
    }

    #[test]
    fn grades_have_their_words_and_signs() {
        for (expected, texts) in [
            (
                0.0,
                &["NEG", "Negative", "negative (-)", "Non-Reactive", "NOT DETECTED", "none seen", "-", "260385009"][..],
            ),
            (0.5, &["trace", "Tr", "+/-", "±"]),
            (1.0, &["POS", "Positive", "+", "1+", "+1", "Reactive", "Detected", "LA6576-8", "small"]),
            (2.0, &["++", "2+", "+2", "Moderate", "260348001"]),
            (3.0, &["+++", "3+", "LARGE"]),
            (4.0, &["++++", "4+"]),
        ] {
            for text in texts {
                let read = grade(text);
                assert_eq!(read, Some(Reading { number: expected, is_plain: false }), "{text}");
            }
        }
        for text in ["", "+++++", "5+", "maybe", "positive?", "hemolyzed", "see note", "++-", "12+", "not positive"] {
            assert_eq!(grade(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not(text in ".{0,60}") {
            for reading in [number(&text), grade(&text)].into_iter().flatten() {
                prop_assert!((reading.number as f32).is_finite());
            }
        }

        #[test]
        fn a_bound_and_a_range_are_what_they_are_made_of(a in -1000i32..1000, b in 0i32..1000, sign in 0..4usize) {
            let sign = ["<", "<=", ">", ">="][sign];
            prop_assert_eq!(read(&format!("{sign}{a}")), Some((f64::from(a), false)));
            prop_assert_eq!(read(&format!("{b}-{}", b + a.abs())), Some((f64::from(b) + f64::from(a.abs()) / 2.0, false)));
        }
    }
}
