//! How hospitals write units: from a spelling to the UCUM expressions it may mean.
//!
//! A source that keeps to UCUM is taken at its word; the other readings are for `mmHg`,
//! `K/uL`, `mcg/kg/min` and their like. Which reading is right shows in what the value is to
//! be converted to: `F` is farad in UCUM, but no farad is a temperature.

use std::borrow::Cow;

/// Whole spellings that no rule on their parts explains. The key is looked up as written, then
/// in lower case; a spelling may have several readings.
const WHOLE: [(&str, &str); 35] = [
    ("bpm", "/min"),
    ("lpm", "L/min"),
    ("c", "Cel"),
    ("degc", "Cel"),
    ("degreesc", "Cel"),
    ("celsius", "Cel"),
    ("f", "[degF]"),
    ("degf", "[degF]"),
    ("degreesf", "[degF]"),
    ("fahrenheit", "[degF]"),
    ("percent", "%"),
    ("pct", "%"),
    ("vol%", "%"),
    ("ratio", "1"),
    ("fraction", "1"),
    ("inr", "1"),
    ("score", "1"),
    ("(score)", "1"),
    ("points", "1"),
    ("unitless", "1"),
    ("ph", "[pH]"),
    ("{ph}", "[pH]"),
    ("phunits", "[pH]"),
    ("1", "[pH]"),
    ("G/L", "10*9/L"),
    ("T/L", "10*12/L"),
    ("M/uL", "10*6/uL"),
    ("M/mm3", "10*6/mm3"),
    ("u/l", "U/L"),
    ("iu/l", "U/L"),
    ("unit/l", "U/L"),
    ("units/l", "U/L"),
    ("u/ml", "[iU]/mL"),
    ("mu/l", "m[iU]/L"),
    ("uu/ml", "u[iU]/mL"),
];

/// Parts of a spelling between slashes, in lower case, that UCUM writes otherwise.
const WORDS: [(&str, &str); 86] = [
    ("#", "1"),
    ("beat", "1"),
    ("beats", "1"),
    ("breath", "1"),
    ("breaths", "1"),
    ("br", "1"),
    ("resp", "1"),
    ("cell", "1"),
    ("cells", "1"),
    ("count", "1"),
    ("thou", "10*3"),
    ("thousand", "10*3"),
    ("thousands", "10*3"),
    ("k", "10*3"),
    ("mil", "10*6"),
    ("mill", "10*6"),
    ("million", "10*6"),
    ("millions", "10*6"),
    ("mio", "10*6"),
    ("mmhg", "mm[Hg]"),
    ("torr", "mm[Hg]"),
    ("cmh2o", "cm[H2O]"),
    ("kpa", "kPa"),
    ("hpa", "hPa"),
    ("pa", "Pa"),
    ("mcg", "ug"),
    ("mcl", "uL"),
    ("mcmol", "umol"),
    ("mosmol", "mosm"),
    ("gm", "g"),
    ("gms", "g"),
    ("gram", "g"),
    ("grams", "g"),
    ("kgs", "kg"),
    ("kilogram", "kg"),
    ("kilograms", "kg"),
    ("lb", "[lb_av]"),
    ("lbs", "[lb_av]"),
    ("pound", "[lb_av]"),
    ("pounds", "[lb_av]"),
    ("oz", "[oz_av]"),
    ("ounce", "[oz_av]"),
    ("ounces", "[oz_av]"),
    ("in", "[in_i]"),
    ("inch", "[in_i]"),
    ("inches", "[in_i]"),
    ("ft", "[ft_i]"),
    ("feet", "[ft_i]"),
    ("cms", "cm"),
    ("centimeter", "cm"),
    ("centimeters", "cm"),
    ("meter", "m"),
    ("meters", "m"),
    ("cc", "mL"),
    ("cumm", "mm3"),
    ("liter", "L"),
    ("liters", "L"),
    ("litre", "L"),
    ("litres", "L"),
    ("milliliter", "mL"),
    ("milliliters", "mL"),
    ("lfeu", "L"),
    ("mlfeu", "mL"),
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("mins", "min"),
    ("minute", "min"),
    ("minutes", "min"),
    ("hr", "h"),
    ("hrs", "h"),
    ("hour", "h"),
    ("hours", "h"),
    ("day", "d"),
    ("days", "d"),
    ("week", "wk"),
    ("weeks", "wk"),
    ("iu", "[iU]"),
    ("miu", "m[iU]"),
    ("uiu", "u[iU]"),
    ("unit", "U"),
    ("units", "U"),
    ("1.73m2", "{1.73_m2}"),
    ("1.73sqm", "{1.73_m2}"),
    ("1.73", "{1.73_m2}"),
];

/// UCUM expressions that `spelling` may mean, the most literal first. Whether they are
/// expressions at all is for the reader to find out.
pub(super) fn readings(spelling: &str) -> Vec<Cow<'_, str>> {
    let literal = spelling.trim();
    let mut readings = Vec::new();
    if !is_mega(literal) {
        readings.push(Cow::Borrowed(literal));
    }
    let tidy = tidy(literal);
    let lower = tidy.to_ascii_lowercase();
    for key in [&tidy, &lower] {
        readings.extend(WHOLE.iter().filter(|(known, _)| known == key).map(|(_, ucum)| Cow::Borrowed(*ucum)));
    }
    let words: Vec<Cow<'_, str>> = lower.split('/').map(word).collect();
    readings.push(Cow::Owned(words.join("/")));
    readings
}

/// Capitals for milli: `ML` and `MG` are megalitres and megagrams in UCUM, of which no
/// patient is given any.
fn is_mega(spelling: &str) -> bool {
    let mega = |part: &str| matches!(part, "ML" | "Ml" | "MG" | "Mg" | "Mm" | "Mmol" | "Meq" | "Mosm");
    spelling.split(['/', '.']).any(mega)
}

/// Without spaces and with ASCII signs only, as far as they are known.
fn tidy(spelling: &str) -> String {
    let mut tidy = String::with_capacity(spelling.len() + 4);
    for c in spelling.chars() {
        match c {
            ' ' | '\t' | '\u{a0}' => {}
            // Micro sign and Greek mu.
            '\u{b5}' | '\u{3bc}' => tidy.push('u'),
            '°' => tidy.push_str("deg"),
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

fn word(part: &str) -> Cow<'_, str> {
    if let Some(power) = power(part) {
        return Cow::Owned(power);
    }
    let plain: Cow<'_, str> = if part.contains('^') { Cow::Owned(part.replace('^', "")) } else { Cow::Borrowed(part) };
    match WORDS.iter().find(|(known, _)| *known == plain) {
        Some((_, ucum)) => Cow::Borrowed(*ucum),
        None => plain,
    }
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

    #[test]
    fn the_literal_reading_comes_first() {
        assert_eq!(readings(" mg/dL ")[0], "mg/dL");
        assert_eq!(readings("F")[..2], ["F", "[degF]"]);
    }

    #[test]
    fn capitals_are_no_mega() {
        for (spelling, first) in [("ML", "ml"), ("MG/dL", "mg/dl"), ("Mmol/L", "mmol/l")] {
            assert_eq!(readings(spelling)[0], first);
        }
    }

    #[test]
    fn powers_of_ten_have_many_spellings() {
        for spelling in ["x10^3/uL", "X10E3/uL", "10e3/ul", "x10(3)/uL", "10 exp 3/uL", "10*3/uL", "×10³/µL", "K/uL"]
        {
            assert_eq!(readings(spelling).last().unwrap(), "10*3/ul", "{spelling}");
        }
        assert_eq!(power("10e999"), None);
        assert_eq!(power("10"), None);
    }
}
