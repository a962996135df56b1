//! The table `units` of `normalize.sql`: from a unit as it was sent to a concept's own.
//!
//! Promises that a factor is only given where it is right for that concept: amounts of
//! substance become masses by the concept's molar mass and equivalents become moles by its
//! valence, never by the accident that both are numbers to UCUM. The table learns a
//! spelling when it is first met; what it keeps is bounded.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use foldhash::quality::RandomState;
use octofhir_ucum::{EvalResult, UnitExpr, convert_with_context, evaluate, parse_expression};

use super::concepts::Concepts;
use super::spellings::Spellings;

/// Longest spelling that is read, in bytes; longer ones are no unit.
pub(super) const LONGEST: usize = 64;

/// Spellings that are kept; more are learnt anew.
const KEPT: usize = 4096;

/// Place of the gram among the base units of a UCUM dimension.
const GRAM: usize = 2;

/// A UCUM expression, understood.
#[derive(Clone, Debug)]
struct Unit {
    text: String,
    value: EvalResult,
    amount: Amount,
}

/// Whether a unit counts particles.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Amount {
    /// No.
    Other,
    /// By the mole or osmole.
    Moles,
    /// By the mole of charges.
    Equivalents,
}

/// A concept whose values have a unit.
struct Wanted {
    concept: String,
    unit: Unit,
    molar_mass: Option<f64>,
    valence: Option<f64>,
}

/// From a value as sent to one in the concept's unit: `value × factor + shift`.
#[derive(Copy, Clone, PartialEq, Debug)]
struct Linear {
    factor: f64,
    shift: f64,
}

/// All conversions that are known so far.
pub(super) struct Units {
    spellings: Spellings,
    wanted: Vec<Wanted>,
    /// Particles in a mole, which UCUM has as a plain number.
    mole: f64,
    /// Every spelling met, convertible or not.
    met: HashSet<Box<str>, RandomState>,
    /// Spelling, index into `wanted`, conversion.
    rows: Vec<(Box<str>, usize, Linear)>,
    changed: bool,
}

impl fmt::Debug for Units {
    /// Never the spellings, which came with records.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Units").field("met", &self.met.len()).field("conversions", &self.rows.len()).finish()
    }
}

impl Units {
    /// The units of the site's concepts, each of which converts to itself.
    pub(super) fn new(concepts: &Concepts, spellings: &Spellings) -> Self {
        let with_unit = concepts.concepts().iter().filter_map(|concept| {
            Some(Wanted {
                concept: concept.name.clone(),
                unit: read(&concept.unit)?,
                molar_mass: concept.molar_mass,
                valence: concept.valence,
            })
        });
        let mole = read("mol").map_or(f64::NAN, |mole| mole.value.factor.to_f64());
        let mut units = Units {
            spellings: spellings.clone(),
            wanted: with_unit.collect(),
            mole,
            met: HashSet::default(),
            rows: Vec::new(),
            changed: true,
        };
        units.forget();
        units
    }

    /// Learns how to convert `spelling`, unless it was met before.
    pub(super) fn meet(&mut self, spelling: &str) {
        if self.met.contains(spelling) || spelling.len() > LONGEST {
            return;
        }
        let spelling: Box<str> = spelling.into();
        let readings: Vec<Unit> = self.spellings.readings(&spelling).iter().filter_map(|ucum| read(ucum)).collect();
        for (i, wanted) in self.wanted.iter().enumerate() {
            if let Some(linear) = readings.iter().find_map(|unit| linear(unit, wanted, self.mole)) {
                self.rows.push((spelling.clone(), i, linear));
                self.changed = true;
            }
        }
        self.met.insert(spelling);
    }

    /// Forgets what was learnt if it has become much. Only between batches: within one, what
    /// was met must stay.
    pub(super) fn bound(&mut self) {
        if self.met.len() > KEPT {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.met.clear();
        self.rows.clear();
        let canonical: Vec<String> = self.wanted.iter().map(|wanted| wanted.unit.text.clone()).collect();
        for unit in canonical {
            self.meet(&unit);
        }
        self.changed = true;
    }

    /// Schema of the table.
    pub(super) fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("unit", DataType::Utf8, false),
            Field::new("concept", DataType::Utf8, false),
            Field::new("factor", DataType::Float64, false),
            Field::new("shift", DataType::Float64, false),
        ]))
    }

    /// The table, if it has changed since it was last asked for.
    ///
    /// # Errors
    /// If Arrow refuses the columns.
    pub(super) fn table(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        if !std::mem::take(&mut self.changed) {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(self.rows.iter().map(|(spelling, _, _)| spelling))),
            Arc::new(StringArray::from_iter_values(self.rows.iter().map(|(_, i, _)| &self.wanted[*i].concept))),
            Arc::new(Float64Array::from_iter_values(self.rows.iter().map(|(_, _, linear)| linear.factor))),
            Arc::new(Float64Array::from_iter_values(self.rows.iter().map(|(_, _, linear)| linear.shift))),
        ];
        RecordBatch::try_new(Self::schema(), columns).map(Some)
    }
}

/// Whether two expressions are of one kind, so that a value may be converted from one to the other,
/// and yet not the same unit.
pub(super) fn contradict(one: &str, other: &str) -> bool {
    let (Some(one), Some(other)) = (read(one), read(other)) else { return false };
    let (a, b) = (&one.value, &other.value);
    let is_one_kind = a.dim == b.dim && a.arbitrary == b.arbitrary && one.amount == other.amount;
    let (a_factor, b_factor) = (a.factor.to_f64(), b.factor.to_f64());
    let is_same = (a_factor - b_factor).abs() <= 1e-9 * a_factor.abs() && a.special.is_some() == b.special.is_some();
    is_one_kind && !is_same
}

/// Why a unit of a site's file is none, as a remedy; `None` if it is one, or empty.
pub(super) fn unfit(unit: &str) -> Option<String> {
    if unit.is_empty() || read(unit).is_some() {
        return None;
    }
    let spellings = Spellings::built_in();
    let meant = spellings.readings(unit).into_iter().find(|ucum| read(ucum).is_some());
    Some(match meant {
        Some(ucum) => format!("write {ucum}"),
        None => "write a unit of ucum.org, such as mm[Hg] or mmol/L, or leave it empty".to_owned(),
    })
}

fn read(ucum: &str) -> Option<Unit> {
    if ucum.len() > LONGEST {
        return None;
    }
    let expression = parse_expression(ucum).ok()?;
    let value = evaluate(&expression).ok()?;
    Some(Unit { text: ucum.to_owned(), value, amount: amount(&expression) })
}

/// What the symbols of an expression count. The parser bounds its depth.
fn amount(expression: &UnitExpr) -> Amount {
    let strongest = |a: Amount, b: Amount| match (a, b) {
        (Amount::Equivalents, _) | (_, Amount::Equivalents) => Amount::Equivalents,
        (Amount::Moles, _) | (_, Amount::Moles) => Amount::Moles,
        _ => Amount::Other,
    };
    match expression {
        UnitExpr::Symbol(symbol) if symbol.ends_with("eq") => Amount::Equivalents,
        UnitExpr::Symbol(symbol) if symbol.ends_with("mol") || symbol.ends_with("osm") => Amount::Moles,
        UnitExpr::Symbol(_) | UnitExpr::Numeric(_) | UnitExpr::Annotation(_) => Amount::Other,
        UnitExpr::Power(inner, _) | UnitExpr::Annotated(inner, _) | UnitExpr::Reciprocal(inner) => amount(inner),
        UnitExpr::Product(terms) => terms.iter().map(amount).fold(Amount::Other, strongest),
        UnitExpr::Quotient(above, below) => strongest(amount(above), amount(below)),
    }
}

/// How a value in `unit` becomes one in the unit that is wanted; `None` if it cannot.
fn linear(unit: &Unit, wanted: &Wanted, mole: f64) -> Option<Linear> {
    let to = &wanted.unit;
    if unit.text == to.text {
        return Some(Linear { factor: 1.0, shift: 0.0 });
    }
    if unit.amount == to.amount && (unit.value.special.is_some() || to.value.special.is_some()) {
        let scale = convert_with_context(0.0, &unit.text, &to.text, &Default::default()).ok()?;
        return finite(scale.factor?.to_f64(), scale.offset?.to_f64());
    }
    if unit.value.special.is_some() || to.value.special.is_some() || unit.value.arbitrary != to.value.arbitrary {
        return None;
    }
    let ratio = unit.value.factor.checked_div(to.value.factor)?.to_f64();
    let (from_dim, to_dim) = (unit.value.dim.0, to.value.dim.0);
    let grams = i32::from(to_dim[GRAM]) - i32::from(from_dim[GRAM]);
    let otherwise_equal = (0..from_dim.len()).all(|i| i == GRAM || from_dim[i] == to_dim[i]);
    if !otherwise_equal {
        return None;
    }
    // Moles of what the source counted: one ion of valence two is two equivalents.
    let from_moles = match unit.amount {
        Amount::Equivalents if to.amount != Amount::Equivalents => 1.0 / wanted.valence?,
        _ => 1.0,
    };
    let to_moles = match to.amount {
        Amount::Equivalents if unit.amount != Amount::Equivalents => wanted.valence?,
        _ => 1.0,
    };
    let counted = |amount| amount != Amount::Other;
    let substance = match (counted(unit.amount), counted(to.amount), grams) {
        (true, true, 0) | (false, false, 0) => 1.0,
        (true, false, 1) => wanted.molar_mass? / mole,
        (false, true, -1) => mole / wanted.molar_mass?,
        _ => return None,
    };
    finite(ratio * from_moles * to_moles * substance, 0.0)
}

fn finite(factor: f64, shift: f64) -> Option<Linear> {
    (factor.is_finite() && shift.is_finite()).then_some(Linear { factor, shift })
}

#[cfg(test)]
mod corpus;

#[cfg(test)]
mod tests {
    use super::*;

    fn concepts() -> Concepts {
        let csv = "system,code,concept,unit,molar_mass,valence\n\
                   ,1,heart_rate,/min,,\n,2,temperature,Cel,,\n,3,systolic_bp,mm[Hg],,\n,4,glucose,mg/dL,180.156,\n\
                   ,5,sodium,mmol/L,22.99,1\n,6,magnesium,mmol/L,24.305,2\n,7,wbc,10*3/uL,,\n,8,alt,U/L,,\n\
                   ,9,fio2,1,,\n,10,weight,kg,,\n,11,ph,[pH],,\n,12,hba1c,%,,\n,13,tsh,m[IU]/L,,\n\
                   ,14,egfr,mL/min/{1.73_m2},,\n,15,troponin,ug/L,,\n,16,height,cm,,\n,17,urine,mL,,\n\
                   ,18,dose,ug/kg/min,,\n,19,calcium,mg/dL,40.078,2\n,20,osmolality,mosm/kg,,\n\
                   ,21,protein,g/dL,,\n,22,pt,s,,\n,23,esr,mm/h,,\n,24,peep,cm[H2O],,\n,25,urine_wbc,/[HPF],,\n\
                   ,26,smoking,{PackYears},,\n,27,bun,mg/dL,28.014,\n,28,cholesterol,mg/dL,386.65,\n";
        Concepts::parse("concepts.csv", csv).unwrap()
    }

    fn convert(concept: &str, spelling: &str) -> Option<(f64, f64)> {
        let units = Units::new(&concepts(), &Spellings::built_in());
        let wanted = units.wanted.iter().find(|wanted| wanted.concept == concept).unwrap();
        let found = units
            .spellings
            .readings(spelling)
            .iter()
            .filter_map(|ucum| read(ucum))
            .find_map(|u| linear(&u, wanted, units.mole));
        found.map(|linear| (linear.factor, linear.shift))
    }

    #[track_caller]
    fn becomes(concept: &str, value: f64, spelling: &str, expected: f64) {
        let (factor, shift) = convert(concept, spelling).unwrap_or_else(|| panic!("{spelling} to {concept}"));
        let got = value * factor + shift;
        assert!((got - expected).abs() <= 1e-4 * expected.abs(), "{value} {spelling} is {got}, not {expected}");
    }

    #[test]
    fn spellings_of_hospitals_are_converted() {
        for spelling in ["/min", "bpm", "BPM", "beats/min", "{beats}/min", "1/min", "beats / minute"] {
            becomes("heart_rate", 72.0, spelling, 72.0);
        }
        becomes("heart_rate", 1.2, "Hz", 72.0);
        becomes("temperature", 98.6, "[degF]", 37.0);
        for spelling in ["degF", "F", "°F", "deg F", "Fahrenheit"] {
            becomes("temperature", 104.0, spelling, 40.0);
        }
        for spelling in ["Cel", "C", "degC", "°C", "DegC"] {
            becomes("temperature", 38.5, spelling, 38.5);
        }
        becomes("temperature", 310.15, "K", 37.0);
        for spelling in ["mm[Hg]", "mmHg", "mm Hg", "MMHG", "torr"] {
            becomes("systolic_bp", 120.0, spelling, 120.0);
        }
        becomes("systolic_bp", 16.0, "kPa", 120.0098);
        for spelling in
            ["10*3/uL", "K/uL", "K/ul", "x10E3/uL", "x10^3/uL", "10*9/L", "10^9/L", "G/L", "x10⁹/L", "thou/mcL"]
        {
            becomes("wbc", 7.5, spelling, 7.5);
        }
        becomes("wbc", 7500.0, "/uL", 7.5);
        becomes("wbc", 7500.0, "cells/mm3", 7.5);
        for spelling in ["U/L", "IU/L", "u/l", "units/L"] {
            becomes("alt", 40.0, spelling, 40.0);
        }
        becomes("alt", 1.0, "ukat/L", 60.0);
        for spelling in ["mIU/L", "m[IU]/L", "uIU/mL", "mU/L"] {
            becomes("tsh", 2.5, spelling, 2.5);
        }
        becomes("fio2", 40.0, "%", 0.4);
        becomes("weight", 150.0, "lbs", 68.0389);
        becomes("weight", 150.0, "[lb_av]", 68.0389);
        becomes("weight", 3500.0, "g", 3.5);
        becomes("height", 70.0, "in", 177.8);
        becomes("urine", 250.0, "ML", 250.0);
        becomes("urine", 250.0, "cc", 250.0);
        becomes("egfr", 90.0, "mL/min/1.73m2", 90.0);
        becomes("egfr", 90.0, "mL/min", 90.0);
        becomes("egfr", 90.0, "mL/min/1.73", 90.0);
        becomes("egfr", 90.0, "ml/min/1.73 m^2", 90.0);
        becomes("troponin", 0.04, "ng/mL", 0.04);
        becomes("troponin", 40.0, "ng/L", 0.04);
        becomes("dose", 0.1, "mcg/kg/min", 0.1);
        becomes("dose", 6.0, "µg/kg/hr", 0.1);
        becomes("osmolality", 290.0, "mOsm/kg", 290.0);
        for spelling in ["thou/uL", "x10^9/L", "10*3/uL", "10E3/uL", "E3/uL", "lakh/cumm", "giga.l-1", "K/cumm"] {
            assert_eq!(convert("wbc", spelling).is_some(), spelling != "E3/uL", "{spelling}");
        }
        becomes("wbc", 0.075, "lakh/cumm", 7.5);
        becomes("wbc", 7.5, "giga.l-1", 7.5);
        for spelling in ["10*6/uL", "M/uL", "m/uL", "Mil/uL", "million/mm3", "x10^12/L", "T/L", "tera.l-1"] {
            becomes("wbc", 0.0075, spelling, 7.5);
        }
        for spelling in ["gm/dl", "g/dL", "GM/DL", "g%", "10 g/L"] {
            assert_eq!(convert("protein", spelling).is_some(), spelling != "10 g/L", "{spelling}");
        }
        becomes("protein", 7.0, "gm/dl", 7.0);
        becomes("protein", 70.0, "g/L", 7.0);
        for spelling in ["s", "sec", "SEC", "seconds"] {
            becomes("pt", 12.0, spelling, 12.0);
        }
        becomes("pt", 12_000.0, "msec", 12.0);
        for spelling in ["mm/h", "mm/hr", "MM/HR", "mm/1hr", "mm/hour"] {
            becomes("esr", 20.0, spelling, 20.0);
        }
        for spelling in ["cmH2O", "cm H2O", "cm[H2O]", "CMH2O"] {
            becomes("peep", 5.0, spelling, 5.0);
        }
        becomes("peep", 10.0, "mbar", 10.1972);
        for spelling in ["/HPF", "#/hpf", "cells/HPF", "/[HPF]", "per hpf"] {
            assert_eq!(convert("urine_wbc", spelling).is_some(), spelling != "per hpf", "{spelling}");
        }
        for spelling in ["pack-years", "Pack Years", "{PackYears}"] {
            becomes("smoking", 20.0, spelling, 20.0);
        }
        becomes("systolic_bp", 120.0, "Torr", 120.0);
        becomes("height", 70.0, "in_i", 177.8);
        becomes("height", 70.0, "[in_i]", 177.8);
        becomes("weight", 150.0, "lb", 68.0389);
        becomes("tsh", 2.5, "MIU/L", 2.5);
        for spelling in ["[pH]", "pH", "1", "pH units"] {
            becomes("ph", 7.4, spelling, 7.4);
        }
    }

    #[test]
    fn substances_are_converted_by_what_they_weigh_and_carry() {
        becomes("glucose", 5.5, "mmol/L", 99.0858);
        becomes("glucose", 100.0, "mg/dl", 100.0);
        becomes("sodium", 140.0, "mEq/L", 140.0);
        becomes("magnesium", 2.0, "mEq/L", 1.0);
        becomes("magnesium", 2.4305, "mg/dL", 1.0);
        becomes("calcium", 5.0, "meq/L", 10.0195);
        becomes("bun", 5.0, "mmol/L", 14.007);
        becomes("cholesterol", 5.0, "mmol/L", 193.325);
        becomes("glucose", 5500.0, "µmol/L", 99.0858);
    }

    #[test]
    fn what_is_no_unit_of_the_concept_is_not_converted() {
        for (concept, spelling) in [
            ("heart_rate", "furlong"),
            ("heart_rate", "mm[Hg]"),
            ("heart_rate", ""),
            ("heart_rate", "385055001"),
            // Milli, mega or million; a slip of g/L or of g/dL.
            ("tsh", "MIU"),
            ("alt", "MU/L"),
            ("protein", "g/l-1"),
            ("dose", "M/kg/min"),
            ("urine", "mL/min"),
            // To UCUM both are plain numbers; to a laboratory they are not.
            ("hba1c", "mmol/mol"),
            ("wbc", "mmol/L"),
            ("glucose", "mEq/L"),
            ("troponin", "mmol/L"),
            ("tsh", "U/L"),
            ("temperature", "Cel/h"),
            ("systolic_bp", "K"),
        ] {
            assert_eq!(convert(concept, spelling), None, "{spelling} to {concept}");
        }
    }

    #[test]
    fn the_table_learns_and_stays_bounded() {
        let mut units = Units::new(&concepts(), &Spellings::built_in());
        let first = units.table().unwrap().unwrap().num_rows();
        assert!(units.table().unwrap().is_none(), "unchanged");
        units.meet("degF");
        assert_eq!(units.table().unwrap().unwrap().num_rows(), first + 1);
        units.meet("furlong");
        units.meet(&"m".repeat(LONGEST + 1));
        assert!(units.table().unwrap().is_none());
        for i in 0..KEPT {
            units.meet(&format!("{{x{i}}}"));
        }
        units.bound();
        assert_eq!(units.table().unwrap().unwrap().num_rows(), first);
    }
}
