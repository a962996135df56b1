//! A bag of words: ridge logistic regression on how often terms stand in texts, rare ones weighed up.
//!
//! Of a row it reads the columns of `[[text]]` in features.toml, `note:chest pain.count.24h`, by their names. A count
//! `tf` becomes `(1 + ln tf) * idf`, with `idf = ln((1 + n) / (1 + df)) + 1` of the `n` training rows, `df` of which
//! have the term: what scikit-learn calls `TfidfVectorizer(sublinear_tf=True, norm=None)`. Where a term does not occur,
//! or no text is known, it is 0. Rows are not brought to one length, so that what a term adds depends on no other, and
//! an explanation is exact. Everything is fitted on the training rows alone and travels in `model.json`.

use serde::{Deserialize, Serialize};

use super::files::MODEL;
use super::linear::Linear;
use super::{Attribution, Family, Link, LogisticHyper, Matrix, Model, ModelError, TextHyper};

/// Largest weight of rarity that makes sense: that of a term none of e^99 rows has.
const LARGEST: f64 = 100.0;

/// A fitted bag of words.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    /// Columns of a row.
    columns: usize,
    /// Those that it reads, ascending.
    terms: Vec<Term>,
    /// Over the weighed counts.
    linear: Linear,
}

/// A column that counts a term.
#[derive(Copy, Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Term {
    column: usize,
    idf: f64,
}

/// Whether a column counts a term in texts. No other feature has a colon behind the name that it begins with.
fn is_term(name: &str) -> bool {
    let part = |sign: u8| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == b'_';
    let is_of = |of: &str| !of.is_empty() && of.bytes().all(part);
    name.split_once(':').is_some_and(|(of, term)| is_of(of) && term.contains(".count."))
}

impl Term {
    /// The weighed count of a row; finite whatever the row holds.
    fn weigh(self, row: &[f32]) -> f32 {
        let count = row[self.column];
        // Also of what is missing. A count is a whole number, and of less than 1 there is none.
        if count > 0.0 { ((1.0 + f64::from(count.clamp(1.0, f32::MAX)).ln()) * self.idf) as f32 } else { 0.0 }
    }
}

impl Text {
    /// Fits on raw rows, whose columns are the first of `names`.
    ///
    /// # Errors
    /// [`ModelError::Features`] if none counts a term; [`ModelError::Fit`] if the optimiser does not end at finite
    /// weights.
    pub(super) fn fit(hyper: &TextHyper, names: &[String], x: &Matrix, labels: &[bool]) -> Result<Text, ModelError> {
        let columns = (0..x.columns()).zip(names).filter(|(_, name)| is_term(name)).map(|(column, _)| column);
        let mut terms: Vec<Term> = columns.map(|column| Term { column, idf: 0.0 }).collect();
        if terms.is_empty() {
            let reason = "a text model reads how often terms stand in texts; add [[text]] to features.toml, with terms \
                          such as `auscult terms` finds";
            return Err(ModelError::Features { reason: reason.to_owned() });
        }
        let mut with = vec![0.0; terms.len()];
        for row in 0..x.rows() {
            for (with, term) in with.iter_mut().zip(&terms) {
                *with += f64::from(u8::from(x.row(row)[term.column] > 0.0));
            }
        }
        for (term, with) in terms.iter_mut().zip(with) {
            term.idf = ((1.0 + x.rows() as f64) / (1.0 + with)).ln() + 1.0;
        }
        let mut weighed = Matrix::with_capacity(terms.len(), x.rows());
        for row in 0..x.rows() {
            weighed.push_row(&terms.iter().map(|term| term.weigh(x.row(row))).collect::<Vec<f32>>())?;
        }
        let ridge = LogisticHyper { alpha: hyper.alpha, l1_ratio: 0.0 };
        let linear = Linear::fit(Family::Text, &ridge, &weighed, labels)?;
        Ok(Text { columns: x.columns(), terms, linear })
    }

    /// Reads what [`Model::encode`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is no usable model.
    pub(super) fn decode(bytes: &[u8]) -> Result<Text, ModelError> {
        let text: Text = serde_json::from_slice(bytes).map_err(|e| ModelError::corrupt(MODEL, e))?;
        text.check().map_err(|reason| ModelError::corrupt(MODEL, reason))?;
        Ok(text)
    }

    fn check(&self) -> Result<(), String> {
        self.linear.check()?;
        let ascend = self.terms.windows(2).all(|pair| pair[0].column < pair[1].column);
        let inside = self.terms.last().is_some_and(|last| last.column < self.columns);
        if !ascend || !inside || self.linear.columns() != self.terms.len() {
            return Err("the terms are not columns of a row, each with a weight".to_owned());
        }
        if !self.terms.iter().all(|term| (0.0..=LARGEST).contains(&term.idf)) {
            return Err("the rarity of a term is negative or too large".to_owned());
        }
        Ok(())
    }

    /// Puts the weighed counts of a row into `out`.
    fn weigh(&self, row: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.extend(self.terms.iter().map(|term| term.weigh(row)));
    }
}

impl Model for Text {
    fn columns(&self) -> usize {
        self.columns
    }

    fn link(&self) -> Link {
        Link::LogOdds
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        let mut weighed = Vec::with_capacity(self.terms.len());
        for row in rows.chunks_exact(self.columns) {
            self.weigh(row, &mut weighed);
            self.linear.margins(&weighed, out);
        }
    }

    fn attribute(&self, row: &[f32]) -> Attribution {
        let mut weighed = Vec::with_capacity(self.terms.len());
        self.weigh(row, &mut weighed);
        let Attribution { base, contributions: of_terms, .. } = self.linear.attribute(&weighed);
        let mut contributions = vec![0.0; self.columns];
        for (term, contribution) in self.terms.iter().zip(of_terms) {
            contributions[term.column] = contribution;
        }
        Attribution::exact(base, contributions)
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        serde_json::to_vec(self).map_err(|e| ModelError::corrupt(MODEL, e))
    }
}

#[cfg(test)]
mod tests {
    use super::super::calibration::sigmoid;
    use super::super::random::Random;
    use super::super::tests::{auroc, bits, score};
    use super::super::{Bundle, FitSpec};
    use super::*;

    const NAMES: [&str; 6] = [
        "age",
        "note:chest pain.count.24h",
        "note:fever.count.24h",
        "rhythm=a:b.count.24h",
        "note:well.count.ever",
        "grid.heart_rate.-00h",
    ];

    fn names() -> Vec<String> {
        NAMES.map(str::to_owned).to_vec()
    }

    /// Rows of which a fifth has no text; pain raises the odds, being well lowers them, age and fever say nothing.
    fn problem(seed: u64, rows: usize) -> (Matrix, Vec<bool>) {
        let mut random = Random::new(seed);
        let (mut x, mut labels) = (Matrix::new(NAMES.len()), Vec::new());
        for _ in 0..rows {
            let mut count = |share: f64| if random.unit() < share { (random.unit() * 4.0).ceil() as f32 } else { 0.0 };
            let (pain, fever, well) = (count(0.3), count(0.5), count(0.6));
            let some = |count: f32| f64::from(u8::from(count > 0.0));
            let odds = 2.0 * some(pain) - 2.0 * some(well) + 0.3;
            let mut row = vec![random.unit() as f32 * 90.0, pain, fever, 1.0, well, 80.0];
            let unknown = random.unit() < 0.2;
            if unknown {
                [1, 2, 4].iter().for_each(|&column| row[column] = f32::NAN);
            }
            labels.push(random.unit() < if unknown { 0.5 } else { sigmoid(odds) });
            x.push_row(&row).unwrap();
        }
        (x, labels)
    }

    #[test]
    fn terms_are_told_by_their_names() {
        let told: Vec<&str> = NAMES.into_iter().filter(|name| is_term(name)).collect();
        assert_eq!(told, [NAMES[1], NAMES[2], NAMES[4]]);
        for name in ["", ":x.count.24h", "note:x", "a.b:x.count.24h", "note=x.count.24h"] {
            assert!(!is_term(name), "{name}");
        }
    }

    #[test]
    fn counts_are_weighed_as_by_hand() {
        // Of 3 rows one has the first term, two the second: idf = ln 2 + 1 and ln 4/3 + 1.
        let names = ["note:a.count.ever", "note:b.count.ever"].map(str::to_owned);
        let x = Matrix::from_values(2, vec![3.0, 0.0, f32::NAN, 1.0, 0.0, 2.0]).unwrap();
        let text = Text::fit(&TextHyper::default(), &names, &x, &[true, false, false]).unwrap();
        let idf = [2f64.ln() + 1.0, (4f64 / 3.0).ln() + 1.0];
        for (term, idf) in text.terms.iter().zip(idf) {
            assert!((term.idf - idf).abs() < 1e-12, "{term:?}");
        }
        let weighed = |row: &[f32]| {
            let mut out = Vec::new();
            text.weigh(row, &mut out);
            out
        };
        assert_eq!(weighed(&[3.0, 2.0]), [((1.0 + 3f64.ln()) * idf[0]) as f32, ((1.0 + 2f64.ln()) * idf[1]) as f32]);
        assert_eq!(weighed(&[f32::NAN, -1.0]), [0.0, 0.0]);
        assert_eq!(weighed(&[0.5, 1.0]), [idf[0] as f32, idf[1] as f32]);
        assert!(weighed(&[f32::INFINITY, f32::NEG_INFINITY]).iter().all(|value| value.is_finite()));
    }

    #[test]
    fn it_learns_from_terms_alone_and_says_what_each_adds() {
        let ((x, y), (tuning, tuning_y), (held, held_y)) = (problem(1, 1_500), problem(2, 600), problem(3, 1_500));
        let bundle = Bundle::fit(FitSpec::new(Family::Text, "t", names(), "spec"), &x, &y, &tuning, &tuning_y).unwrap();
        let risks = score(&bundle, held.values());
        let area = auroc(&risks, &held_y);
        println!("auroc {area:.3}");
        assert!(area > 0.7, "{area}");
        let mut other = Matrix::new(NAMES.len());
        for row in 0..held.rows() {
            let mut values = held.row(row).to_vec();
            (values[0], values[3], values[5]) = (f32::NAN, 1e9, -1.0);
            other.push_row(&values).unwrap();
        }
        assert_eq!(bits(&score(&bundle, other.values())), bits(&risks), "it reads the terms and nothing else");
        let explanation = bundle.explain(&[50.0, 2.0, 0.0, 1.0, 0.0, 80.0]).unwrap();
        let parts = &explanation.contributions;
        assert!(parts[1] > 0.1 && parts[4] > 0.0 && explanation.error.is_none(), "{explanation:?}");
        assert_eq!((parts[0], parts[3], parts[5]), (0.0, 0.0, 0.0));
        // Where no text is known, every term is as if it did not occur.
        let unknown = score(&bundle, &[50.0, f32::NAN, f32::NAN, 1.0, f32::NAN, 80.0]);
        assert_eq!(bits(&unknown), bits(&score(&bundle, &[50.0, 0.0, 0.0, 1.0, 0.0, 80.0])));
    }

    #[test]
    fn it_is_a_member_of_a_stack() {
        let ((x, y), (tuning, tuning_y)) = (problem(4, 900), problem(5, 400));
        let mut spec = FitSpec::new(Family::Stack, "t", names(), "spec");
        spec.params.stack.members = vec![Family::Text, Family::Bayes];
        spec.params.stack.folds = 3;
        let bundle = Bundle::fit(spec, &x, &y, &tuning, &tuning_y).unwrap();
        assert!(bundle.card.found["weight_text"] > 0.0, "{:?}", bundle.card.found);
        let loaded = Bundle::from_files(&bundle.to_files().unwrap().0).unwrap();
        assert_eq!(bits(&score(&loaded, tuning.values())), bits(&score(&bundle, tuning.values())));
    }

    #[test]
    fn without_terms_it_is_refused_with_what_to_do() {
        let x = Matrix::from_values(2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        let names = ["age", "note.count.24h"].map(str::to_owned);
        let error = Text::fit(&TextHyper::default(), &names, &x, &[true, false]).unwrap_err().to_string();
        assert!(error.contains("add [[text]] to features.toml"), "{error}");
    }

    #[test]
    fn a_damaged_model_is_refused() {
        let linear = r#"{"weights":[1.0],"intercept":0.0,"means":[0.0]}"#;
        let sound = format!(r#"{{"columns":2,"terms":[{{"column":1,"idf":1.5}}],"linear":{linear}}}"#);
        assert!(Text::decode(sound.as_bytes()).is_ok());
        for (from, to) in [
            (r#""column":1"#, r#""column":2"#),
            (r#""idf":1.5"#, r#""idf":-1.5"#),
            (r#""idf":1.5"#, r#""idf":1e9"#),
            (r#""weights":[1.0]"#, r#""weights":[1.0,2.0]"#),
            (
                r#""weights":[1.0],"intercept":0.0,"means":[0.0]"#,
                r#""weights":[1.0,1.0],"intercept":0.0,"means":[0.0,0.0]"#,
            ),
            (r#"[{"column":1,"idf":1.5}]"#, "[]"),
            (r#"[{"column":1,"idf":1.5}]"#, r#"[{"column":1,"idf":1.5},{"column":0,"idf":1.5}]"#),
            (r#""columns":2"#, r#""columns":0"#),
            ("linear", "lines"),
        ] {
            assert!(sound.contains(from), "{from}");
            let damaged = sound.replacen(from, to, 1);
            assert!(matches!(Text::decode(damaged.as_bytes()), Err(ModelError::Corrupt { .. })), "{damaged}");
        }
    }
}
