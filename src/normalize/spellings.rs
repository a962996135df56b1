//! `units.csv`: how hospitals write units. From a spelling to the UCUM expressions it may mean.
//!
//! Promises that UCUM is taken at its word before any row of the table is looked at, so that no
//! row changes what UCUM says, and that all problems of the file are found at once, each with its
//! row. Which of several readings is right shows in what the value is to be converted to: `F` is
//! farad in UCUM, but no farad is a temperature.
//!
//! Blanks do not count; a spelling in lower case stands for every mixture of capitals, one with a
//! capital for itself alone.

use std::borrow::Cow;
use std::collections::HashMap;

use csv::StringRecord;

use super::units::{self, LONGEST};
use crate::settings::{Problem, SiteFiles};

/// The spellings of a site.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Spellings {
    /// Whole units; several meanings are of different kinds.
    units: HashMap<String, Vec<String>>,
    /// Parts of a unit between slashes.
    parts: HashMap<String, String>,
}

/// Columns of `units.csv`; the last may be left out.
const COLUMNS: [&str; 3] = ["spelling", "ucum", "scope"];

impl Spellings {
    /// Reads the text of `units.csv`.
    ///
    /// Columns: `spelling`, `ucum` (the unit it means), `scope` (`unit`, which is also what empty
    /// means, or `part`: of a unit between slashes). A line that begins with `#` is a comment.
    ///
    /// # Errors
    /// Every problem of the file at once, each with its row (the header is a row too).
    pub fn parse(file: &str, csv: &str) -> Result<Self, Vec<Problem>> {
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .comment(Some(b'#'))
            .trim(csv::Trim::All)
            .from_reader(csv.as_bytes());
        let header = reader.headers().cloned().unwrap_or_default();
        if header.iter().ne(COLUMNS) && header.iter().ne(COLUMNS[..2].iter().copied()) {
            let remedy = format!("write: {}", COLUMNS.join(","));
            return Err(vec![Problem::new(file, "header", "does not name the columns of this file", remedy)]);
        }
        let mut read = Reading { file, problems: Vec::new(), spellings: Spellings::default() };
        for record in reader.records() {
            match record {
                Ok(record) => read.row(&record),
                Err(_) => {
                    let remedy = "save it as CSV in UTF-8";
                    read.problem("file", "is not a table of comma separated values", remedy);
                    break;
                }
            }
        }
        if read.problems.is_empty() { Ok(read.spellings) } else { Err(read.problems) }
    }

    /// The table that is compiled in, for a site without one.
    pub fn built_in() -> Self {
        let file = SiteFiles::built_in().units;
        Self::parse(&file.name, &file.text).unwrap_or_default()
    }

    /// UCUM expressions that `spelling` may mean, the most literal first. Whether they are
    /// expressions at all is for the reader to find out.
    pub(super) fn readings<'a>(&'a self, spelling: &'a str) -> Vec<Cow<'a, str>> {
        let literal = spelling.trim();
        // A long number is no unit, though UCUM lets numbers stand, but a code.
        if literal.len() > 3 && literal.bytes().all(|byte| byte.is_ascii_digit()) {
            return Vec::new();
        }
        let is_unlikely = is_unlikely(literal);
        let mut readings = Vec::new();
        if !is_unlikely {
            readings.push(Cow::Borrowed(literal));
        }
        let tidy = tidy(literal);
        let lower = tidy.to_ascii_lowercase();
        let keys = if tidy == lower { &[&tidy][..] } else { &[&tidy, &lower] };
        for key in keys {
            readings.extend(self.units.get(*key).into_iter().flatten().map(|ucum| Cow::Borrowed(ucum.as_str())));
        }
        let joined = |lower: bool| tidy.split('/').map(|part| self.part(part, lower)).collect::<Vec<_>>().join("/");
        if !is_unlikely {
            readings.push(Cow::Owned(joined(false)));
        }
        readings.push(Cow::Owned(joined(true)));
        readings
    }

    /// A part of a tidy spelling in UCUM; one that is not known in lower case or as written.
    fn part(&self, part: &str, lower: bool) -> String {
        let small = part.to_ascii_lowercase();
        if let Some(power) = power(&small) {
            return power;
        }
        let plain = |text: &str| text.replace('^', "");
        let known = self.parts.get(&plain(part)).or_else(|| self.parts.get(&plain(&small)));
        known.cloned().unwrap_or_else(|| plain(if lower { &small } else { part }))
    }
}

/// What has been read of the file so far.
struct Reading<'a> {
    file: &'a str,
    problems: Vec<Problem>,
    spellings: Spellings,
}

impl Reading<'_> {
    fn problem(&mut self, key: &str, what: &str, remedy: &str) {
        self.problems.push(Problem::new(self.file, key, what, remedy));
    }

    fn row(&mut self, record: &StringRecord) {
        let row = record.position().map_or(0, csv::Position::line);
        let key = |name: &str| format!("row {row}, {name}");
        let field = |i: usize| record.get(i).unwrap_or_default();
        let (spelling, ucum, scope) = (tidy(field(0)), field(1), field(2));
        let is_part = scope == "part";
        if record.len() > COLUMNS.len() {
            self.problem(&format!("row {row}"), "has more than 3 fields", "quote commas");
        } else if !is_part && !matches!(scope, "" | "unit") {
            self.problem(&key("scope"), "is neither unit nor part", "write one of the two");
        } else if spelling.is_empty() || spelling.len() > LONGEST {
            let what = format!("is empty or longer than {LONGEST} bytes");
            self.problem(&key("spelling"), &what, "write the unit as it is sent, or remove the row");
        } else if is_part && spelling.contains('/') {
            self.problem(&key("spelling"), "has a slash, so it is no part", "let its scope be unit");
        } else if let Some(remedy) = units::unfit(ucum).or_else(|| ucum.is_empty().then(|| "write a unit".to_owned())) {
            self.problem(&key("ucum"), "is no UCUM unit", &remedy);
        } else if !is_unlikely(&spelling) && units::contradict(&spelling, ucum) {
            let what = "is UCUM itself, for another unit of that kind, and would never be read so";
            self.problem(&key("spelling"), what, "remove the row");
        } else {
            self.add(&key("spelling"), spelling, ucum, is_part);
        }
    }

    fn add(&mut self, key: &str, spelling: String, ucum: &str, is_part: bool) {
        let units = &mut self.spellings.units;
        let is_new = if is_part {
            self.spellings.parts.insert(spelling, ucum.to_owned()).is_none()
        } else {
            let known = units.entry(spelling).or_default();
            let is_new = known.iter().all(|known| known != ucum && !units::contradict(known, ucum));
            known.push(ucum.to_owned());
            is_new
        };
        if !is_new {
            self.problem(key, "stands twice, for the same or for units of one kind", "keep one of the rows");
        }
    }
}

/// What UCUM has a meaning for that nobody intends. Capitals for milli: `ML` and `MG` are megalitres
/// and megagrams, of which no patient is given any; `MU/L` is no million units. And decimals: the
/// point is UCUM's sign for times, so that `mL/min/1.73` would have 1 times 73 below.
fn is_unlikely(spelling: &str) -> bool {
    let mega = |part: &str| matches!(part, "ML" | "Ml" | "MG" | "Mg" | "Mm" | "Mmol" | "Meq" | "Mosm" | "MU");
    let is_decimal = |part: &str| part.contains('.') && part.starts_with(|first: char| first.is_ascii_digit());
    spelling.split(['/', '.']).any(mega) || spelling.split('/').any(is_decimal)
}

/// Without blanks and with ASCII signs only, as far as they are known.
fn tidy(spelling: &str) -> String {
    let mut tidy = String::with_capacity(spelling.len() + 4);
    for c in spelling.chars() {
        match c {
            ' ' | '\t' | '\u{a0}' => {}
            // Micro sign and Greek mu.
            '\u{b5}' | '\u{3bc}' => tidy.push('u'),
            '°' | 'º' => tidy.push_str("deg"),
            '×' => tidy.push('x'),
            '¹' => tidy.push_str("^1"),
            '²' => tidy.push_str("^2"),
            '³' => tidy.push_str("^3"),
            '⁶' => tidy.push_str("^6"),
            '⁹' => tidy.push_str("^9"),
            other => tidy.push(other),
        }
    }
    tidy
}

/// Powers of ten: `x10^3`, `10e3`, `x10(3)`, `10exp3` are `10*3`.
fn power(part: &str) -> Option<String> {
    let rest = part.strip_prefix('x').or(part.strip_prefix('*')).unwrap_or(part).strip_prefix("10")?;
    let signs = ["^", "**", "*", "exp", "e", "("];
    let digits = signs.iter().find_map(|sign| rest.strip_prefix(sign))?;
    let digits = digits.strip_suffix(')').unwrap_or(digits);
    let short = (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    short.then(|| format!("10*{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Spellings {
        let file = SiteFiles::built_in().units;
        Spellings::parse(&file.name, &file.text).unwrap()
    }

    #[test]
    fn the_table_that_is_compiled_in_is_in_order() {
        assert!(table().units.len() > 80 && table().parts.len() > 150);
        assert_eq!(Spellings::built_in(), table());
    }

    #[test]
    fn the_literal_reading_comes_first() {
        assert_eq!(table().readings(" mg/dL ")[0], "mg/dL");
        assert_eq!(table().readings("F")[..2], ["F", "[degF]"]);
    }

    #[test]
    fn a_site_writes_its_own() {
        let csv = "spelling,ucum,scope\n# ours\nGl ucose Units, mg/dL,\nklick,/min,unit\nklick,Cel\nspoon,mL,part\n";
        let table = Spellings::parse("units.csv", csv).unwrap();
        assert_eq!(table.readings("GlucoseUnits")[1], "mg/dL");
        assert!(!table.readings("glucoseunits").contains(&"mg/dL".into()), "capitals count where the table has them");
        assert_eq!(table.readings("KLICK")[1..3], ["/min", "Cel"]);
        assert_eq!(table.readings("spoon/kg").last().unwrap(), "mL/kg");
        assert_eq!(table.readings("spoon").last().unwrap(), "mL");
        let short = Spellings::parse("units.csv", "spelling,ucum\nklick,/min\n").unwrap();
        assert_eq!(short.readings("klick")[1], "/min");
    }

    #[test]
    fn every_problem_is_found_at_once_with_its_row() {
        let csv = "spelling,ucum,scope\nmcg,ug,prat\n,ug,part\na/b,ug,part\nx,mcg,part\nx,,\nh,min,unit\nmin,h,part\n\
                   beat,1,part\nbeat,{x},part\nK,mm[Hg]\nK,cm[H2O]\nk,mm[Hg]\nx,g,part,z\nMG,mg\nF,[degF]\n";
        let problems = Spellings::parse("units.csv", csv).unwrap_err();
        let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        let expected = [
            "row 2, scope",
            "row 3, spelling",
            "row 4, spelling",
            "row 5, ucum",
            "row 6, ucum",
            "row 7, spelling",
            "row 8, spelling",
            "row 10, spelling",
            "row 12, spelling",
            "row 14",
        ];
        assert_eq!(keys, expected);
        assert_eq!(problems[3].remedy, "write ug");
        for header in ["", "unit,ucum\n", "ucum,spelling\n", "spelling\n"] {
            assert_eq!(Spellings::parse("units.csv", header).unwrap_err()[0].key, "header");
        }
    }

    #[test]
    fn capitals_are_no_mega() {
        for (spelling, first) in [("ML", "ml"), ("MG/dL", "mg/dl"), ("Mmol/L", "mmol/l")] {
            assert!(table().readings(spelling).iter().all(|reading| reading != spelling));
            assert_eq!(table().readings(spelling).last().unwrap(), first);
        }
    }

    #[test]
    fn powers_of_ten_have_many_spellings() {
        for spelling in ["x10^3/uL", "X10E3/uL", "10e3/ul", "x10(3)/uL", "10 exp 3/uL", "10*3/uL", "×10³/µL", "K/uL"]
        {
            assert_eq!(table().readings(spelling).last().unwrap(), "10*3/ul", "{spelling}");
        }
        assert_eq!(power("10e999"), None);
        assert_eq!(power("10"), None);
    }
}
